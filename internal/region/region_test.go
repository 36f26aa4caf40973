package region

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// all is the embedded data.
func all(t testing.TB) *Catalog {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func find(t testing.TB, c *Catalog, name string) *Region {
	t.Helper()
	r, err := c.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEmbedded looks at what the data says of a few regions, as AWS says it.
func TestEmbedded(t *testing.T) {
	c := all(t)
	if n := len(c.Regions()); n != 34 {
		t.Errorf("there are %d regions", n)
	}
	for _, r := range c.Regions() {
		for _, typ := range []string{"AWS::EC2::VPC", "AWS::EKS::Cluster", "AWS::RDS::DBInstance", "AWS::ElastiCache::ReplicationGroup", "AWS::KMS::Key", "Custom::Any"} {
			if !r.Has(typ) {
				t.Errorf("%s does not offer %s", r.Name, typ)
			}
		}
		if ok, err := r.HasInstance("ec2", "m5.large"); err != nil || !ok {
			if ok, _ := r.HasInstance("ec2", "m6g.large"); !ok {
				t.Errorf("%s has neither m5.large nor m6g.large (%v)", r.Name, err)
			}
		}
		for _, service := range c.Services() {
			if list, err := r.Instances(service); err != nil || len(list) == 0 {
				t.Errorf("%s has no classes of %s (%v)", r.Name, service, err)
			}
		}
		if len(r.Zones) < 3 || len(r.Types()) < 700 || r.Offer.Source.URL == "" {
			t.Errorf("%s has %d zones and %d types from %q", r.Name, len(r.Zones), len(r.Types()), r.Offer.Source.URL)
		}
	}
	if n := len(c.Types()); n < 1800 || !slices.IsSorted(c.Types()) {
		t.Errorf("there are %d types", n)
	}
	for name := range c.instead {
		start, open := strings.CutSuffix(name, "*")
		if !slices.ContainsFunc(c.Types(), func(typ string) bool { return typ == name || open && strings.HasPrefix(typ, start) }) {
			t.Errorf("something stands in for %s, which is no type of any region", name)
		}
	}
	for _, s := range c.Sources() {
		if s.Title == "" || !isDate(s.Date) {
			t.Errorf("a source is %+v", s)
		}
	}
}

// TestGulf: both Gulf regions say that they must be left, and how old their lists are.
func TestGulf(t *testing.T) {
	c := all(t)
	uae, bahrain := find(t, c, "me-central-1"), find(t, c, "me-south-1")
	for _, r := range []*Region{uae, bahrain} {
		if n, unfit := r.Unfit(); !unfit || n.Date != "2026-04-30" {
			t.Errorf("%s: its last notice is %+v", r.Name, n)
		}
		if known := r.Offer.Known(); known != "2026-03-02" {
			t.Errorf("%s: its list is of %s", r.Name, known)
		}
		if !r.OptIn || !slices.Equal(r.Blocs, []string{"GCC"}) {
			t.Errorf("%s: opt-in %v, of %v", r.Name, r.OptIn, r.Blocs)
		}
	}
	if lost := uae.Notices[0].Zones; !slices.Equal(lost, []string{"mec1-az2", "mec1-az3"}) {
		t.Errorf("the zones lost are %v", lost)
	}
	if bahrain.Offer.Source.Date >= uae.Offer.Source.Date {
		t.Error("Bahrain's list is not of an older release")
	}
	got := uae.Lacks("AWS::EC2::VPC", "AWS::DMS::ReplicationInstance", "AWS::Budgets::Budget", "AWS::DMS::ReplicationInstance", "AWS::No::Such")
	if want := []string{"AWS::Budgets::Budget", "AWS::DMS::ReplicationInstance", "AWS::No::Such"}; !slices.Equal(got, want) {
		t.Errorf("the UAE lacks %v", got)
	}
	if _, unfit := find(t, c, "eu-central-1").Unfit(); unfit {
		t.Error("Frankfurt must be left")
	}
}

func TestLookup(t *testing.T) {
	c := all(t)
	for name, want := range map[string]string{
		"me-central-2": `no AWS region is called "me-central-2": did you mean me-central-1?`,
		"eu-cental-1":  `no AWS region is called "eu-cental-1": did you mean eu-central-1?`,
		"ME-SOUTH-1":   `no AWS region is called "ME-SOUTH-1": did you mean me-south-1?`,
		"bahrain":      `"bahrain" is no region's name: did you mean me-south-1?`,
		"Dubai":        `"Dubai" is no region's name: did you mean me-central-1?`,
		"":             `no AWS region is called ""`,
		"cn-north-1":   `no AWS region is called "cn-north-1": did you mean eu-north-1?`,
		"mars":         `no AWS region is called "mars"`,
	} {
		if _, err := c.Lookup(name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestInstances(t *testing.T) {
	c := all(t)
	r := find(t, c, "us-east-1")
	for _, tt := range []struct {
		service, class string
		want           bool
	}{
		{"ec2", "m7g.large", true}, {"ec2", "m7g.tiny", false}, {"elasticache", "cache.m7g.large", true},
		{"rds/postgres", "db.m7g.large", true}, {"rds/mariadb", "db.t4g.medium", true}, {"rds/postgres", "m7g.large", false},
	} {
		if got, err := r.HasInstance(tt.service, tt.class); err != nil || got != tt.want {
			t.Errorf("%s %s: %v, %v", tt.service, tt.class, got, err)
		}
	}
	if _, err := r.HasInstance("rds", "db.m7g.large"); err == nil || !strings.Contains(err.Error(), "rds/postgres") {
		t.Errorf("rds without an engine: %v", err)
	}
}

func TestInstead(t *testing.T) {
	c := all(t)
	if got := c.Instead("AWS::DMS::Endpoint"); !strings.Contains(got, "movers") {
		t.Errorf("for DMS stands in %q", got)
	}
	exact, open := c.Instead("AWS::SecurityHub::FindingAggregator"), c.Instead("AWS::SecurityHub::Hub")
	if exact == "" || open != "" {
		t.Errorf("for an aggregator stands in %q, for a hub %q", exact, open)
	}
}

// TestLatency compares what is reckoned with what is known to an order.
func TestLatency(t *testing.T) {
	c := all(t)
	for _, tt := range []struct {
		region, country string
		least, most     time.Duration
	}{
		{"me-central-1", "AE", 5 * time.Millisecond, 8 * time.Millisecond},
		{"eu-central-1", "AE", 60 * time.Millisecond, 130 * time.Millisecond},
		{"ap-south-1", "AE", 25 * time.Millisecond, 60 * time.Millisecond},
		{"us-east-1", "GB", 70 * time.Millisecond, 110 * time.Millisecond},
		{"ap-southeast-2", "GB", 200 * time.Millisecond, 300 * time.Millisecond},
	} {
		got, err := find(t, c, tt.region).Latency(tt.country)
		if err != nil || got < tt.least || got > tt.most {
			t.Errorf("from %s to %s: %v, %v", tt.country, tt.region, got, err)
		}
	}
	for code, want := range map[string]string{
		"UK": "did you mean GB?", "ae": "did you mean AE?", "Bahrain": "did you mean BH?", "XX": "want two capital letters",
	} {
		if _, err := find(t, c, "me-central-1").Latency(code); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if km := find(t, c, "me-central-1").DistanceKm(find(t, c, "me-south-1")); km < 450 || km > 520 {
		t.Errorf("the Gulf's regions are %.0f km apart", km)
	}
}

// TestBadData: each fault of the data is told with its place.
func TestBadData(t *testing.T) {
	const (
		offers    = "source s 2026-01-02 https://example.com a title\nregion eux1 eu-x-1 s\nregion usx1 us-x-1 s\ntypes\nAWS::A::B\nAWS::A::C -usx1\ninstances ec2\nm7g large,xlarge +eux1\n"
		countries = "source 2026-01-02 https://example.com cities\nDE\tGermany\tBerlin 52.5 13.4 3400000\nUS\tUnited States\tNew York City 40.7 -74 8800000\n"
		regions   = "regions:\n  - {name: us-x-1, display: X, city: X, country: US, optIn: false, latitude: 1, longitude: 2, zones: [usx1-az1]}\n" +
			"  - {name: eu-x-1, display: E, city: E, country: DE, optIn: false, latitude: 1, longitude: 2, zones: [eux1-az1]}\n"
	)
	c, err := newCatalog([]byte(regions), []byte(offers), []byte(countries))
	if err != nil {
		t.Fatal(err)
	}
	if r := find(t, c, "us-x-1"); r.Has("AWS::A::C") || !r.Has("AWS::A::B") {
		t.Error("what us-x-1 offers was misread")
	}
	for _, tt := range []struct{ file, from, to, want string }{
		{"offers", "region eux1 eu-x-1 s", "region eux1 eu-x-1 t", `line 2: the source "t"`},
		{"offers", "usx1 us-x-1", "eux1 us-x-1", "line 3: us-x-1 or its code eux1 stands here twice"},
		{"offers", "-usx1", "-usx9", `line 6: "-usx9" is no region`},
		{"offers", "-usx1", "-usx1 -usx1", "line 6: a region stands twice"},
		{"offers", "-usx1", "-usx1 +eux1", `line 6: "+eux1" is no region`},
		{"offers", "AWS::A::C -usx1", "AWS::A::B", "line 6: AWS::A::B stands here twice"},
		{"offers", "AWS::A::C", "AWS::A::A", "not sorted"},
		{"offers", "AWS::A::C", "AWS-A-C", "line 6: \"AWS-A-C\" is no type"},
		{"offers", "m7g large,xlarge +eux1", "m7g", "line 8: the family m7g has no sizes"},
		{"offers", "large,xlarge", "large,large", "line 8: m7g.large stands here twice"},
		{"offers", "2026-01-02", "yesterday", `line 1: "yesterday" is no date`},
		{"offers", "region usx1 us-x-1 s\n", "", `"-usx1" is no region`},
		{"offers", "types\n", "", "line 4"},
		{"countries", "52.5", "152.5", "line 2"},
		{"countries", "52.5", "NaN", "line 2"},
		{"countries", "US\tUnited States", "DE\tUnited States", "line 3: DE stands here twice"},
		{"countries", "\tBerlin 52.5 13.4 3400000", "", "line 2"},
		{"countries", "source 2026-01-02", "# source 2026-01-02", "source is not told"},
		{"regions", "country: US", "country: XX", `"XX" is no country`},
		{"regions", "latitude: 1", "latitude: 91", "no place on earth"},
		{"regions", "zones: [usx1-az1]", "zones: []", "no zones"},
		{"regions", "name: us-x-1", "name: eu-x-1", "eu-x-1 stands there twice"},
		{"regions", "name: us-x-1", "name: us-y-1", "offers.txt does not tell of it"},
		{"regions", "display: X", "displey: X", "displey"},
		{"regions", "regions:\n", "regions:\n  -\n", "is empty"},
		{"regions", "regions:\n", "blocs: {EU: {name: Europe, members: [DE, XX]}}\nregions:\n", `the member "XX" of EU`},
		{"regions", "zones: [usx1-az1]", "zones: [usx1-az1], notices: [{date: 2026-01-02, severity: bad, text: t, source: s}]", `severity is "bad"`},
		{"regions", "zones: [usx1-az1]", "zones: [usx1-az1], notices: [{date: soon, severity: note, text: t, source: s}]", "lacks its date"},
		{"regions", "zones: [usx1-az1]", "zones: [usx1-az1], notices: [{date: 2026-01-02, severity: note, text: t, source: s, zones: [usx1-az9]}]", `the zone "usx1-az9"`},
	} {
		texts := map[string]string{"offers": offers, "countries": countries, "regions": regions}
		texts[tt.file] = strings.Replace(texts[tt.file], tt.from, tt.to, 1)
		if _, err := newCatalog([]byte(texts["regions"]), []byte(texts["offers"]), []byte(texts["countries"])); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %q: want %q, got %v", tt.file, tt.to, tt.want, err)
		}
	}
}

func FuzzOffers(f *testing.F) {
	f.Add([]byte("source s 2026-01-02 https://example.com t\nregion eux1 eu-x-1 s since 2026-01-01\ntypes\nAWS::A::B -eux1\ninstances ec2\nm7g large,xlarge +eux1\n"))
	f.Add([]byte("types\ninstances ec2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := parseOffers(text)
		if err != nil {
			return
		}
		for typ, in := range o.types {
			if in&^o.all != 0 {
				t.Errorf("%s is offered where there is no region", typ)
			}
		}
		if len(o.names) != len(o.types) || len(o.regions) > maxRegions {
			t.Errorf("%d names of %d types in %d regions", len(o.names), len(o.types), len(o.regions))
		}
	})
}

func FuzzCountries(f *testing.F) {
	f.Add([]byte("source 2026-01-02 https://example.com cities\nDE\tGermany\tBerlin 52.5 13.4 3400000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		countries, from, err := parseCountries(text)
		if err != nil {
			return
		}
		if from.Title == "" {
			t.Error("there is no source, and no error")
		}
		r := Region{catalog: &Catalog{countries: countries}}
		for code := range countries {
			if d, err := r.Latency(code); err != nil || d < lastMile || d > time.Second {
				t.Errorf("%s: %v, %v", code, d, err)
			}
		}
	})
}
