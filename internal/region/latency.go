package region

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A round trip is reckoned, not measured: light in fibre goes 200 km in a
// millisecond, so 100 km there and back; cables are half as long again as the great
// circle; and the users' own lines and the devices on the way take a little more.
// Where cables go a long way round, as between the Gulf and Europe, the truth is up
// to half as much again.
const (
	// kmPerRoundTripMs is how far away a place is whose answer takes a millisecond.
	kmPerRoundTripMs = 100
	// detour is how much longer cables are than the great circle.
	detour = 1.5
	// lastMile is what no nearness saves.
	lastMile = 5 * time.Millisecond
	// earthKm is the earth's mean radius.
	earthKm = 6371
)

// country is where the users of a country are.
type country struct {
	name   string
	cities []city
}

// city stands for the people that live around it.
type city struct {
	name                string
	latitude, longitude float64
	people              float64
}

// parseCountries reads the generator's text: a line "source DATE URL TITLE...", then
// one of each country, of fields with tabs between: its code, its name, then for each
// of its great cities the name, the latitude, the longitude and the people.
func parseCountries(text []byte) (map[string]country, Source, error) {
	all, from, at := map[string]country{}, Source{}, 0
	for line := range bytes.Lines(text) {
		at++
		fields := strings.Split(strings.TrimRight(string(line), "\r\n"), "\t")
		words := strings.Fields(fields[0])
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
			continue
		case words[0] == "source" && len(words) >= 4 && isDate(words[1]):
			from = Source{Title: strings.Join(words[3:], " "), URL: words[2], Date: words[1]}
			continue
		case !isCode(fields[0]) || len(fields) < 3:
			return nil, from, fmt.Errorf("line %d: want a country's two letters, its name and its cities", at)
		}
		if _, twice := all[fields[0]]; twice {
			return nil, from, fmt.Errorf("line %d: %s stands here twice", at, fields[0])
		}
		c := country{name: fields[1]}
		for _, f := range fields[2:] {
			place, err := parseCity(f)
			if err != nil {
				return nil, from, fmt.Errorf("line %d: %w", at, err)
			}
			c.cities = append(c.cities, place)
		}
		all[fields[0]] = c
	}
	if from.Title == "" || len(all) == 0 {
		return nil, from, errors.New("its source is not told, or there are no countries in it")
	}
	return all, from, nil
}

func parseCity(text string) (city, error) {
	words := strings.Fields(text)
	if len(words) < 4 {
		return city{}, fmt.Errorf("%q is no city: want a name, a latitude, a longitude and the people", text)
	}
	numbers := [3]float64{}
	for i, w := range words[len(words)-3:] {
		n, err := strconv.ParseFloat(w, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return city{}, fmt.Errorf("%q of %q is no number", w, text)
		}
		numbers[i] = n
	}
	c := city{name: strings.Join(words[:len(words)-3], " "), latitude: numbers[0], longitude: numbers[1], people: numbers[2]}
	if math.Abs(c.latitude) > 90 || math.Abs(c.longitude) > 180 || c.people <= 0 {
		return city{}, fmt.Errorf("%q is no place on earth where people live", text)
	}
	return c, nil
}

// isCode says whether a text looks like a country's two letters.
func isCode(text string) bool {
	return len(text) == 2 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z'
}

// Country is the name of a country by its two letters of ISO 3166; an error names
// those that were probably meant.
func (c *Catalog) Country(code string) (string, error) {
	found, err := c.country(code)
	return found.name, err
}

func (c *Catalog) country(code string) (country, error) {
	if found, ok := c.countries[code]; ok {
		return found, nil
	}
	for k, found := range c.countries {
		if strings.EqualFold(k, code) || strings.EqualFold(found.name, code) {
			return country{}, fmt.Errorf("no country has the code %q: did you mean %s?", code, k)
		}
	}
	if code == "UK" {
		return country{}, errors.New(`no country has the code "UK": did you mean GB?`)
	}
	return country{}, fmt.Errorf("no country has the code %q: want two capital letters of ISO 3166, as AE", code)
}

// Latency is about how long the users of a country (two letters of ISO 3166) wait for
// an answer that takes the region no time: the round trip from the country's great
// cities, weighted by their people, reckoned from the distance. It is an estimate, good
// for comparing regions and not for promising anything.
func (r *Region) Latency(country string) (time.Duration, error) {
	of, err := r.catalog.country(country)
	if err != nil {
		return 0, err
	}
	sum, people := 0.0, 0.0
	for _, c := range of.cities {
		sum += c.people * distanceKm(r.Latitude, r.Longitude, c.latitude, c.longitude)
		people += c.people
	}
	return roundTrip(sum / people), nil
}

// DistanceKm is how far two regions are apart on the great circle, in km.
func (r *Region) DistanceKm(other *Region) float64 {
	return distanceKm(r.Latitude, r.Longitude, other.Latitude, other.Longitude)
}

// RoundTrip is about how long an answer takes from one region to another, as Latency reckons.
func (r *Region) RoundTrip(other *Region) time.Duration { return roundTrip(r.DistanceKm(other)) }

func roundTrip(km float64) time.Duration {
	ms := km * detour / kmPerRoundTripMs
	return lastMile + time.Duration(math.Round(ms*1000))*time.Microsecond
}

// distanceKm is the great circle's length between two places given in degrees.
func distanceKm(lat1, lon1, lat2, lon2 float64) float64 {
	const degree = math.Pi / 180
	sinLat, sinLon := math.Sin((lat2-lat1)*degree/2), math.Sin((lon2-lon1)*degree/2)
	h := sinLat*sinLat + math.Cos(lat1*degree)*math.Cos(lat2*degree)*sinLon*sinLon
	return 2 * earthKm * math.Asin(math.Sqrt(min(1, h)))
}
