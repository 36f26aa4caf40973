// Package region knows what each commercial AWS region offers and where it stands:
// its resource types and instance classes, zones, notices, residency, and how far
// it is from its users. All of it is data with a source and a date, embedded in
// the binary; nothing is asked over the network, and nothing here knows an account.
// Regions of AWS's other partitions (China, GovCloud, the sovereign and the isolated
// ones) are none of it: an account reaches those of its own partition only.
//
// What a region offers is made from the schemas that cfn-lint ships. What people
// must know beside that is written by hand in data/regions.yaml.
package region

//go:generate go run ./generate

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed data
var data embed.FS

// Severity is how much a notice weighs.
type Severity string

// The severities of notices, the lightest first.
const (
	// Note is worth knowing.
	Note Severity = "note"
	// Struck tells of damage in the past.
	Struck Severity = "struck"
	// Leave says that nothing can be built there now, and that what runs there should go.
	Leave Severity = "leave"
)

// Notice is what has happened to a region.
type Notice struct {
	// Date is the day it is of, as 2006-01-02.
	Date     string   `json:"date" yaml:"date"`
	Severity Severity `json:"severity" yaml:"severity"`
	// Zones are the ids of the zones that it is about; none means the whole region.
	Zones  []string `json:"zones,omitempty" yaml:"zones"`
	Text   string   `json:"text" yaml:"text"`
	Source string   `json:"source" yaml:"source"`
}

// Source says where facts are from.
type Source struct {
	Title string `json:"title" yaml:"title"`
	URL   string `json:"url" yaml:"url"`
	// Date is the day the facts are of, or were read, as 2006-01-02.
	Date string `json:"date" yaml:"date"`
}

// Region is one region. Its methods do not change it, and may be called side by side.
type Region struct {
	Name    string `json:"name" yaml:"name"`
	Display string `json:"display" yaml:"display"`
	// City is where its coordinates are: the city it is named after, not its sites.
	City string `json:"city" yaml:"city"`
	// Country is where its data lies, as two letters of ISO 3166; State the part of it
	// that has laws of its own, where AWS names one.
	Country string `json:"country" yaml:"country"`
	State   string `json:"state,omitempty" yaml:"state"`
	// Blocs are the unions of states that the country is a member of, sorted.
	Blocs []string `json:"blocs,omitempty" yaml:"-"`
	// OptIn says that an account must enable it before it can be used.
	OptIn bool `json:"opt_in" yaml:"optIn"`
	// Zones are the ids of its availability zones, which are the same in every account.
	Zones []string `json:"zones" yaml:"zones"`
	// Latitude and Longitude are in degrees, north and east.
	Latitude  float64  `json:"latitude" yaml:"latitude"`
	Longitude float64  `json:"longitude" yaml:"longitude"`
	Notices   []Notice `json:"notices,omitempty" yaml:"notices"`
	// Offer is where the list of its types is from.
	Offer Offer `json:"offer" yaml:"-"`

	catalog *Catalog
	bit     set
}

// Offer says where the list of a region's types is from.
type Offer struct {
	Source Source `json:"source"`
	// Since is set where the list has not changed since an older release: what the
	// region offers was last known on that day, as 2006-01-02.
	Since string `json:"since,omitempty"`
}

// Known is the day that the list of types is of, as 2006-01-02.
func (o Offer) Known() string { return cmp.Or(o.Since, o.Source.Date) }

// bloc is a union of states.
type bloc struct {
	Name    string   `yaml:"name"`
	Members []string `yaml:"members"`
}

// facts is what regions.yaml holds.
type facts struct {
	Sources map[string]Source `yaml:"sources"`
	Blocs   map[string]bloc   `yaml:"blocs"`
	Instead map[string]string `yaml:"instead"`
	// Rules are the regions that lack a managed rule of AWS Config.
	Rules   map[string][]string `yaml:"rules"`
	Regions []*Region           `yaml:"regions"`
}

// Catalog is all regions. It is not changed after Load.
type Catalog struct {
	regions []*Region
	sources map[string]Source
	blocs   map[string]bloc
	// instead is what stands in for a type, by its name or its beginning.
	instead map[string]string
	// rules are the regions that lack a managed rule, by the rule.
	rules     map[string][]string
	offers    *offers
	countries map[string]country
}

// Load reads the embedded data; it takes some milliseconds. An error is a fault of
// the binary.
func Load() (*Catalog, error) {
	texts := map[string][]byte{}
	for _, name := range []string{"regions.yaml", "offers.txt", "countries.txt"} {
		text, err := data.ReadFile("data/" + name)
		if err != nil {
			return nil, fmt.Errorf("read the regions: %w", err)
		}
		texts[name] = text
	}
	c, err := newCatalog(texts["regions.yaml"], texts["offers.txt"], texts["countries.txt"])
	if err != nil {
		return nil, fmt.Errorf("read the regions: %w", err)
	}
	return c, nil
}

func newCatalog(regions, offered, countries []byte) (*Catalog, error) {
	var f facts
	if err := yaml.UnmarshalWithOptions(regions, &f, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("regions.yaml: %w", err)
	}
	c := &Catalog{regions: f.Regions, sources: f.Sources, blocs: f.Blocs, instead: f.Instead, rules: f.Rules}
	var err error
	if c.offers, err = parseOffers(offered); err != nil {
		return nil, fmt.Errorf("offers.txt: %w", err)
	}
	var from Source
	if c.countries, from, err = parseCountries(countries); err != nil {
		return nil, fmt.Errorf("countries.txt: %w", err)
	}
	if c.sources == nil {
		c.sources = map[string]Source{}
	}
	c.sources["countries"] = from
	if slices.Contains(c.regions, nil) {
		return nil, errors.New("regions.yaml: one of its regions is empty")
	}
	for name, b := range c.blocs {
		for _, m := range b.Members {
			if _, known := c.countries[m]; !known {
				return nil, fmt.Errorf("regions.yaml: the member %q of %s is no country that is known", m, name)
			}
		}
	}
	slices.SortFunc(c.regions, func(a, b *Region) int { return strings.Compare(a.Name, b.Name) })
	for i, r := range c.regions {
		if i > 0 && c.regions[i-1].Name == r.Name {
			return nil, fmt.Errorf("regions.yaml: %s stands there twice", r.Name)
		}
		if err := c.adopt(r); err != nil {
			return nil, fmt.Errorf("regions.yaml: region %q: %w", r.Name, err)
		}
	}
	for rule, lacking := range c.rules {
		for _, name := range lacking {
			if _, err := c.Lookup(name); err != nil {
				return nil, fmt.Errorf("regions.yaml: rule %s: %w", rule, err)
			}
		}
	}
	if len(c.regions) != len(c.offers.regions) {
		return nil, fmt.Errorf("regions.yaml tells of %d regions, offers.txt of %d", len(c.regions), len(c.offers.regions))
	}
	return c, nil
}

// adopt checks a region's facts and adds what the other files tell of it.
func (c *Catalog) adopt(r *Region) error {
	offered, ok := c.offers.regions[r.Name]
	switch {
	case !ok:
		return errors.New("offers.txt does not tell of it: run `go generate ./internal/region`")
	case r.Display == "" || r.City == "":
		return errors.New("it has no name to show, or no city")
	case len(r.Zones) == 0:
		return errors.New("it has no zones")
	case !(r.Latitude >= -90 && r.Latitude <= 90 && r.Longitude >= -180 && r.Longitude <= 180):
		return fmt.Errorf("%v, %v is no place on earth", r.Latitude, r.Longitude)
	}
	if _, known := c.countries[r.Country]; !known {
		return fmt.Errorf("%q is no country that is known", r.Country)
	}
	for _, n := range r.Notices {
		if n.Severity != Note && n.Severity != Struck && n.Severity != Leave {
			return fmt.Errorf("a notice's severity is %q: want note, struck or leave", n.Severity)
		}
		if !isDate(n.Date) || n.Text == "" || n.Source == "" {
			return errors.New("a notice lacks its date, its text or its source")
		}
		for _, z := range n.Zones {
			if !slices.Contains(r.Zones, z) {
				return fmt.Errorf("a notice tells of the zone %q, which it does not have", z)
			}
		}
	}
	for name, b := range c.blocs {
		if slices.Contains(b.Members, r.Country) {
			r.Blocs = append(r.Blocs, name)
		}
	}
	slices.Sort(r.Blocs)
	slices.SortStableFunc(r.Notices, func(a, b Notice) int { return strings.Compare(a.Date, b.Date) })
	r.catalog, r.bit, r.Offer = c, offered.bit, offered.offer
	return nil
}

// Regions are all regions by name. The caller does not change them.
func (c *Catalog) Regions() []*Region { return slices.Clone(c.regions) }

// Sources are where the facts are from that every region has, by what they are of.
func (c *Catalog) Sources() map[string]Source {
	return maps.Clone(c.sources)
}

// Lookup finds a region by its name. An error names those that were probably meant.
func (c *Catalog) Lookup(name string) (*Region, error) {
	at, found := slices.BinarySearchFunc(c.regions, name, func(r *Region, name string) int { return strings.Compare(r.Name, name) })
	if found {
		return c.regions[at], nil
	}
	known := make([]string, len(c.regions))
	var called []string
	for i, r := range c.regions {
		known[i] = r.Name
		if r.calledLike(name) {
			called = append(called, r.Name)
		}
	}
	if n := len(called); n > 0 && n <= offeredNames {
		return nil, fmt.Errorf("%q is no region's name: did you mean %s?", name, strings.Join(called, " or "))
	}
	return nil, unknown("AWS region", name, known)
}

// leastCalled is how long a part of a name must be to tell a region by.
const leastCalled = 3

// calledLike says whether people call the region so: by its city or a part of its name.
func (r *Region) calledLike(name string) bool {
	name = strings.ToLower(name)
	return len(name) >= leastCalled && (name == strings.ToLower(r.City) || strings.Contains(strings.ToLower(r.Display), name))
}

// Known says whether any region offers a type; the types of one's own are known.
func (c *Catalog) Known(typ string) bool {
	_, ok := c.offers.types[typ]
	return ok || custom(typ)
}

// Types are all types that any region offers, sorted.
func (c *Catalog) Types() []string { return slices.Clone(c.offers.names) }

// Instead is what stands in for a type where a region lacks it; empty means that
// nothing is known to.
func (c *Catalog) Instead(typ string) string {
	best, text := -1, ""
	for name, t := range c.instead {
		start, open := strings.CutSuffix(name, "*")
		if open && strings.HasPrefix(typ, start) && len(start) > best {
			best, text = len(start), t
		}
		if !open && name == typ {
			return t
		}
	}
	return text
}

// Has says whether the region offers a resource type, as AWS::Service::Name. A type
// of one's own (Custom::Name) is had everywhere; one that nobody knows nowhere.
func (r *Region) Has(typ string) bool {
	return custom(typ) || r.catalog.offers.types[typ].has(r.bit)
}

// Lacks are those of the types that the region does not offer, sorted, each once.
func (r *Region) Lacks(types ...string) []string {
	var lacks []string
	for _, t := range types {
		if !r.Has(t) {
			lacks = append(lacks, t)
		}
	}
	slices.Sort(lacks)
	return slices.Compact(lacks)
}

// LacksRules are those of AWS Config's managed rules that the region does not have, by
// their identifiers, sorted. A rule of which nothing is known counts as there.
func (r *Region) LacksRules(identifiers ...string) []string {
	var lacks []string
	for _, id := range identifiers {
		if slices.Contains(r.catalog.rules[id], r.Name) {
			lacks = append(lacks, id)
		}
	}
	slices.Sort(lacks)
	return slices.Compact(lacks)
}

// Types are all types that the region offers, sorted.
func (r *Region) Types() []string {
	var have []string
	for _, t := range r.catalog.offers.names {
		if r.catalog.offers.types[t].has(r.bit) {
			have = append(have, t)
		}
	}
	return have
}

// custom tells the types of a template's own from AWS's: every region takes them.
func custom(typ string) bool { return strings.HasPrefix(typ, "Custom::") }

// HasInstance says whether the region offers a class of instances: "m7g.large" of
// ec2, "cache.m7g.large" of elasticache, "db.m7g.large" of rds/ENGINE, where ENGINE
// is postgres, mariadb, mysql, aurora-postgresql or aurora-mysql. An error says that
// the service is none of these.
func (r *Region) HasInstance(service, class string) (bool, error) {
	classes, err := r.catalog.classes(service)
	if err != nil {
		return false, err
	}
	return classes[class].has(r.bit), nil
}

// Instances are all classes of a service that the region offers, sorted; see HasInstance.
func (r *Region) Instances(service string) ([]string, error) {
	classes, err := r.catalog.classes(service)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, class := range r.catalog.offers.classes[service] {
		if classes[class].has(r.bit) {
			have = append(have, class)
		}
	}
	return have, nil
}

// Services are those whose classes of instances are known, sorted; see HasInstance.
func (c *Catalog) Services() []string { return slices.Sorted(maps.Keys(c.offers.instances)) }

func (c *Catalog) classes(service string) (map[string]set, error) {
	classes, ok := c.offers.instances[service]
	if !ok {
		return nil, fmt.Errorf("%q has no classes of instances that are known: want one of %s", service, strings.Join(c.Services(), ", "))
	}
	return classes, nil
}

// Unfit is the last notice that says to leave the region, false where there is none.
func (r *Region) Unfit() (Notice, bool) {
	for _, n := range slices.Backward(r.Notices) {
		if n.Severity == Leave {
			return n, true
		}
	}
	return Notice{}, false
}

// AllowedBy says whether a residency rule lets data lie in the region: the rule names
// countries and blocs, and one that names none allows all.
func (r *Region) AllowedBy(rule []string) bool {
	if len(rule) == 0 || slices.Contains(rule, r.Country) {
		return true
	}
	return slices.ContainsFunc(r.Blocs, func(b string) bool { return slices.Contains(rule, b) })
}
