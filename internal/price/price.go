// Package price reckons what a plan costs in a month. It holds a list of AWS's public
// prices, each entry with its source and date, counts items by it in whole numbers, and
// finds the cheapest change that still meets the goals.
//
// It asks nobody: the list is embedded in the binary, and a file of the same form
// overrides any part of it (Load), also one that is made from AWS's own bulk price files
// (FromOffers). Where a region has no price, the base region's times a stated factor
// stands in, and is marked as an estimate. Discounts of a contract, taxes, support and
// free tiers are none of it.
package price

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

//go:embed data/prices.yaml
var shipped []byte

// maxFile bounds a file of prices, in bytes; all regions of all services that are
// counted here need an eighth of it.
const maxFile = 8 << 20

// Source says where prices are from.
type Source struct {
	Title string `json:"title" yaml:"title"`
	URL   string `json:"url,omitempty" yaml:"url,omitempty"`
	// Date is the day the prices are of, or were read, as 2006-01-02.
	Date string `json:"date" yaml:"date"`
	// Estimate says that the prices are reckoned from others, as Title tells.
	Estimate bool `json:"estimate,omitempty" yaml:"estimate,omitempty"`
}

// List is a list of prices. It is not changed once it is made.
type List struct {
	// Date is the day of the newest part, as 2006-01-02; Currency three letters of ISO 4217.
	Date, Currency string
	// Hours is how many hours a month is reckoned with.
	Hours int
	// Base is the region whose prices stand in for those that others lack.
	Base string

	sources map[string]Source
	factors map[string]factor
	// other is the factor of a region that has none of its own, in thousandths.
	other  Amount
	prices map[Code]*entry
	// commitments are what is paid of the price of hours, by years.
	commitments map[int]commitment
}

// commitment is in percent of the price on demand, with nothing paid in advance: of
// machines and tasks, and of databases and caches.
type commitment struct {
	compute, data int
	source        string
}

// Code names what is paid for: "nat/hour", "ec2/m7g.large", "rds/postgres/db.m7g.large".
type Code string

type factor struct {
	of     Amount // thousandths
	source string
}

// entry is the prices of one thing.
type entry struct {
	per        string
	everywhere *rated
	regions    map[string]rated
}

type rated struct {
	rate   Rate
	source string
}

// Quote is the price of one unit of a thing in a region, and why it is that.
type Quote struct {
	Code   Code   `json:"code"`
	Region string `json:"region"`
	Rate   Rate   `json:"rate"`
	// Per is the unit: hour, month, GB, GB-month, item, million.
	Per    string `json:"per"`
	Source Source `json:"source"`
	// How tells how it was reckoned where it is not the list's own entry.
	How string `json:"how,omitempty"`
	// Estimate says that nobody published this price for this region.
	Estimate bool `json:"estimate,omitempty"`
}

// Shipped is the list in the binary. An error is a fault of the binary.
func Shipped() (*List, error) {
	l, err := parse("prices.yaml", shipped, true)
	if err != nil {
		return nil, fmt.Errorf("read the prices: %w", err)
	}
	return l, nil
}

// Load is the shipped list with a file of the same form laid over it: what the file
// gives for a thing and a region wins. An *Invalid names all that is wrong with the
// file's content; any other error says why it could not be read.
func Load(path string) (*List, error) {
	l, err := Shipped()
	if err != nil {
		return nil, err
	}
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	over, err := parse(path, text, false)
	if err != nil {
		return nil, err
	}
	return l.With(over)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file of prices; leave --prices out to take the prices that dhow has: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open the prices: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the prices: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no list of prices needs: is it the right file?", path, maxFile>>20)
	}
	return text, nil
}

// With is the list with another laid over it. Both must be in the same currency.
func (l *List) With(over *List) (*List, error) {
	if over.Currency != "" && over.Currency != l.Currency {
		return nil, fmt.Errorf("the prices are in %s, those below them in %s: give both in one currency", over.Currency, l.Currency)
	}
	out := &List{Date: max(l.Date, over.Date), Currency: l.Currency, Hours: l.Hours, Base: cmp.Or(over.Base, l.Base), other: l.other,
		sources: maps.Clone(l.sources), factors: maps.Clone(l.factors), commitments: maps.Clone(l.commitments), prices: make(map[Code]*entry, len(l.prices))}
	if over.Hours != 0 {
		out.Hours = over.Hours
	}
	if over.other != 0 {
		out.other = over.other
	}
	// Names of sources are each file's own.
	renamed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(over.sources)) {
		as := name
		for n := 2; ; n++ {
			if _, taken := out.sources[as]; !taken {
				break
			}
			as = name + "-" + strconv.Itoa(n)
		}
		renamed[name], out.sources[as] = as, over.sources[name]
	}
	for region, f := range over.factors {
		out.factors[region] = factor{f.of, renamed[f.source]}
	}
	for years, c := range over.commitments {
		c.source = renamed[c.source]
		out.commitments[years] = c
	}
	for code, e := range l.prices {
		c := *e
		c.regions = maps.Clone(e.regions)
		out.prices[code] = &c
	}
	for code, e := range over.prices {
		into := out.prices[code]
		if into == nil {
			into = &entry{per: e.per, regions: map[string]rated{}}
			out.prices[code] = into
		}
		if into.per != e.per {
			return nil, fmt.Errorf("the price of %s is per %s, the one below it per %s: give both in one unit", code, e.per, into.per)
		}
		if e.everywhere != nil {
			// A price that holds everywhere takes the place of those of single regions too.
			into.everywhere, into.regions = &rated{e.everywhere.rate, renamed[e.everywhere.source]}, map[string]rated{}
		}
		for region, r := range e.regions {
			into.regions[region] = rated{r.rate, renamed[r.source]}
		}
	}
	return out, nil
}

// Codes are all things that the list has a price of, sorted.
func (l *List) Codes() []Code { return slices.Sorted(maps.Keys(l.prices)) }

// Regions are those that the list has a price or a factor of, sorted.
func (l *List) Regions() []string {
	seen := map[string]bool{}
	for r := range l.factors {
		seen[r] = true
	}
	for _, e := range l.prices {
		for r := range e.regions {
			seen[r] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Sources are where the list's prices are from, by their names in it.
func (l *List) Sources() map[string]Source { return maps.Clone(l.sources) }

// Quote is the price of a thing in a region. An entry of that region comes first, then
// one that holds everywhere, then another size of the same family in that region, then
// the base region's times the region's factor. An error says that there is none.
func (l *List) Quote(code Code, region string) (Quote, error) {
	if q, ok, err := l.quoted(code, region); err != nil || ok {
		return q, err
	}
	if region != l.Base {
		q, ok, err := l.quoted(code, l.Base)
		if err != nil {
			return Quote{}, err
		}
		if ok {
			f, whose := l.factor(region)
			rate, err := scale(q.Rate, f)
			if err != nil {
				return Quote{}, fmt.Errorf("the price of %s in %s: %w", code, region, err)
			}
			how := fmt.Sprintf("%s times the price of %s, %s", f, l.Base, whose)
			if q.How != "" {
				how = q.How + "; " + how
			}
			q.Region, q.Rate, q.How, q.Estimate = region, rate, how, true
			return q, nil
		}
	}
	return Quote{}, fmt.Errorf("no price of %s is known in %s: name it in a file for --prices", code, region)
}

// factor is what the base region's prices are multiplied with, in thousandths, and why.
func (l *List) factor(region string) (Amount, string) {
	if f, ok := l.factors[region]; ok {
		return f.of, l.sources[f.source].Title
	}
	return l.other, "as for a region that nothing is known of"
}

// quoted is a price that the list has for the region itself.
func (l *List) quoted(code Code, region string) (Quote, bool, error) {
	if e := l.prices[code]; e != nil {
		if r, ok := e.regions[region]; ok {
			return l.make(code, region, e.per, r), true, nil
		}
		if e.everywhere != nil {
			return l.make(code, region, e.per, *e.everywhere), true, nil
		}
	}
	stem, size, ok := family(code)
	if !ok {
		return Quote{}, false, nil
	}
	// The largest size that has a price is the least rounded.
	var best Code
	var bestSize Amount
	for other, e := range l.prices {
		s, n, ok := family(other)
		if !ok || s != stem {
			continue
		}
		if _, has := e.regions[region]; has && (n > bestSize || n == bestSize && other < best) {
			best, bestSize = other, n
		}
	}
	if best == "" {
		return Quote{}, false, nil
	}
	e := l.prices[best]
	q := l.make(code, region, e.per, e.regions[region])
	rate, err := portion(q.Rate, size, bestSize)
	if err != nil {
		return Quote{}, false, fmt.Errorf("the price of %s: %w", code, err)
	}
	q.Rate, q.How = rate, fmt.Sprintf("reckoned by size from %s", best)
	return q, true, nil
}

func (l *List) make(code Code, region, per string, r rated) Quote {
	s := l.sources[r.source]
	return Quote{Code: code, Region: region, Rate: r.rate, Per: per, Source: s, Estimate: s.Estimate}
}

// sizes are how large a size is beside others of its family: AWS's own normalization
// factors, in thousandths. Within a family prices are in these proportions.
var sizes = map[string]Amount{"nano": 250, "micro": 500, "small": 1000, "medium": 2000, "large": 4000, "xlarge": 8000}

// family splits the code of a class into its family and its size: "ec2/m7g.2xlarge" is
// of "ec2/m7g". It is false for what is no class.
func family(code Code) (stem string, size Amount, ok bool) {
	at := strings.LastIndexByte(string(code), '.')
	if at < 0 {
		return "", 0, false
	}
	stem, name := string(code[:at]), string(code[at+1:])
	if n, ok := sizes[name]; ok {
		return stem, n, true
	}
	times, large := strings.CutSuffix(name, "xlarge")
	n, err := strconv.Atoi(times)
	if !large || err != nil || n < 1 || n > 96 {
		return "", 0, false
	}
	return stem, Amount(n) * sizes["xlarge"], true
}
