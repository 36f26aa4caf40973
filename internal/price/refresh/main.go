// Command refresh makes a file of prices for `dhow plan --prices` out of AWS's own bulk
// files of prices, which lie on disk in their CSV form:
//
//	go run ./internal/price/refresh AmazonEC2.csv AmazonRDS.csv ... > prices.yaml
//
// It takes what dhow's own list has items for. docs/prices.md tells where the files are.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"dhow/internal/price"
)

func main() {
	flag.Usage = func() {
		_, _ = fmt.Fprintln(flag.CommandLine.Output(), "usage: refresh FILE.csv... > prices.yaml")
	}
	flag.Parse()
	if err := run(flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "refresh:", err)
		os.Exit(1)
	}
}

func run(files []string, out io.Writer) error {
	if len(files) == 0 {
		return errors.New("no files are named: want AWS's bulk files of prices, in their CSV form")
	}
	known, err := price.Shipped()
	if err != nil {
		return err
	}
	var all *price.List
	for _, name := range files {
		l, err := read(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if all == nil {
			all = l
			continue
		}
		if all, err = all.With(l); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	_, err = out.Write(all.Within(known).Text())
	return err
}

func read(name string) (*price.List, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return price.FromOffers(f)
}
