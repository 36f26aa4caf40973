package price

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dhow/internal/region"
	"dhow/internal/sizing"
)

func list(t *testing.T) *List {
	t.Helper()
	l, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestShipped holds that the list has a price of everything that can be in a plan, in
// every region, and that its own are told from estimates.
func TestShipped(t *testing.T) {
	l := list(t)
	catalog, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Sources() {
		if s.Title == "" || !isDate(s.Date) {
			t.Errorf("the source %+v lacks its title or its date", s)
		}
	}
	var codes []Code
	for prefix, as := range map[string][]string{"": {"ec2/"}, "db.": {"rds/postgres/", "rds/mariadb/", "rds/mysql/"}, "cache.": {"elasticache/redis/", "elasticache/valkey/"}} {
		classes, _, err := sizing.Classes(prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range classes {
			for _, a := range as {
				codes = append(codes, Code(a+c.Name))
			}
		}
	}
	codes = append(codes, l.Codes()...)
	for _, r := range catalog.Regions() {
		for _, c := range codes {
			q, err := l.Quote(c, r.Name)
			if err != nil {
				t.Error(err)
			} else if q.Rate <= 0 || q.Per == "" || q.Source.Title == "" || q.Estimate && q.How == "" {
				t.Errorf("%s in %s: %+v", c, r.Name, q)
			}
		}
	}
}

// TestEveryItem counts one item of each kind.
func TestEveryItem(t *testing.T) {
	l := list(t)
	in := func(i Item) Item { i.Name, i.Region, i.Environment = "x", "us-east-1", "production"; return i }
	for _, c := range []struct {
		item Item
		want string
	}{
		{Item{Kind: Cluster}, "73.00"},
		{Item{Kind: Instance, Class: "m7g.large", Count: 3}, "178.70"},
		{Item{Kind: Instance, Class: "m7g.large", Count: 3, StorageGB: 50}, "190.70"},
		{Item{Kind: Instance, Class: "t3.micro", Hours: 100}, "1.04"},
		{Item{Kind: Fargate, MilliCPU: 500, MemoryMiB: 1024, Count: 2}, "36.04"},
		{Item{Kind: Fargate, MilliCPU: 500, MemoryMiB: 1024, Count: 2, ARM: true}, "28.84"},
		{Item{Kind: Database, Class: "db.m7g.large", Engine: "postgres", StorageGB: 100}, "134.14"},
		{Item{Kind: Database, Class: "db.m7g.large", Engine: "postgres", StorageGB: 100, MultiAZ: true}, "268.28"},
		{Item{Kind: Database, Class: "db.t4g.micro", Engine: "mariadb", StorageGB: 400, IOPS: 1000, MBps: 100, BackupGB: 10}, "86.72"},
		{Item{Kind: Cache, Class: "cache.m7g.large", Engine: "valkey", Count: 2}, "183.67"},
		{Item{Kind: ALB, Units: 1500}, "25.19"},
		{Item{Kind: NLB, Units: 500}, "18.62"},
		{Item{Kind: NAT, Count: 3, DataGB: 100}, "103.05"},
		{Item{Kind: Endpoint, Count: 24, DataGB: 50}, "175.70"},
		{Item{Kind: Address, Count: 3}, "10.95"},
		{Item{Kind: Registry, StorageGB: 10}, "1.00"},
		{Item{Kind: Bucket, StorageGB: 100}, "2.30"},
		{Item{Kind: Logs, DataGB: 10, StorageGB: 20}, "5.60"},
		{Item{Kind: Internet, DataGB: 200}, "18.00"},
		{Item{Kind: Zones, DataGB: 100}, "2.00"},
		{Item{Kind: Regions, DataGB: 100}, "2.00"},
		{Item{Kind: Secret, Count: 10, Calls: 100_000}, "4.50"},
		{Item{Kind: Key, Count: 4, Calls: 10_000}, "4.03"},
		{Item{Kind: Recorder, Calls: 3000}, "9.00"},
		{Item{Kind: Checks, Calls: 5000}, "5.00"},
		{Item{Kind: Detector, Calls: 1_000_000, DataGB: 50}, "54.00"},
		{Item{Kind: Firewall, Rules: 4, Calls: 1_000_000}, "9.60"},
		{Item{Kind: Zone, Count: 2}, "1.00"},
		{Item{Kind: Trail, Calls: 1_000_000}, "20.00"},
	} {
		got, err := l.Cost(in(c.item))
		if err != nil || got.String() != c.want {
			t.Errorf("%+v costs %s, %v; want %s", c.item, got, err, c.want)
		}
	}
}

func TestQuote(t *testing.T) {
	l := list(t)
	for _, c := range []struct {
		code     Code
		region   string
		rate     string
		estimate bool
		how      string
	}{
		{"nat/hour", "us-east-1", "0.045", false, ""},
		{"eks/cluster", "me-central-1", "0.10", false, ""},
		{"alb/hour", "me-south-1", "0.02772", false, ""},
		{"ec2/m6i.large", "me-south-1", "0.132", false, "reckoned by size from ec2/m6i.2xlarge"},
		{"ec2/m7g.large", "us-east-1", "0.0816", false, "reckoned by size from ec2/m7g.2xlarge"},
		{"ec2/m7g.medium", "us-east-1", "0.0408", false, "reckoned by size"},
		{"nat/hour", "eu-central-1", "0.05391", true, "1.198 times the price of us-east-1, the median over m5"},
		{"nat/hour", "me-central-1", "0.055395", true, "the factor of me-south-1, for want of a list of its own"},
		{"nat/hour", "mars-north-1", "0.05337", true, "1.186 times the price of us-east-1, as for a region that nothing is known of"},
		{"rds/postgres/db.m7g.4xlarge", "eu-west-1", "1.49856", true, "reckoned by size from rds/postgres/db.m7g.large; 1.115 times the price of us-east-1"},
	} {
		q, err := l.Quote(c.code, c.region)
		if err != nil || q.Rate.String() != c.rate || q.Estimate != c.estimate || !strings.HasPrefix(q.How, c.how) && !strings.Contains(q.How, c.how) {
			t.Errorf("%s in %s is %s, estimate %v, %q, %v; want %s, %v, %q", c.code, c.region, q.Rate, q.Estimate, q.How, err, c.rate, c.estimate, c.how)
		}
	}
	if _, err := l.Quote("ec2/z9.large", "us-east-1"); err == nil || !strings.Contains(err.Error(), "no price of ec2/z9.large is known in us-east-1: name it in a file for --prices") {
		t.Errorf("a class that is not known: %v", err)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "prices.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const contract = `date: "2026-12-01"
sources:
  contract: {title: "our contract, appendix B", date: "2026-12-01"}
  vpc: {title: "another source of the same name", date: "2026-12-01"}
commitments:
  3: {compute: 40, data: 45, source: contract}
factors:
  mx-central-1: {times: "1.05", source: contract}
prices:
- {of: nat/hour, per: hour, source: vpc, regions: {us-east-1: "0.030"}}
- {of: eks/cluster, per: hour, source: contract, everywhere: "0.08"}
- {of: ec2/z9.large, per: hour, source: contract, regions: {us-east-1: 1.5}}
`

func TestLoad(t *testing.T) {
	l, err := Load(write(t, contract))
	if err != nil {
		t.Fatal(err)
	}
	if l.Date != "2026-12-01" || l.Hours != 730 || l.Currency != "USD" {
		t.Errorf("it is of %s, %d hours, in %s", l.Date, l.Hours, l.Currency)
	}
	for _, c := range []struct {
		code   Code
		region string
		rate   string
		source string
	}{
		{"nat/hour", "us-east-1", "0.03", "another source of the same name"},
		{"nat/gb", "us-east-1", "0.045", "Amazon VPC pricing, the page's examples"},
		{"nat/hour", "me-south-1", "0.0528", "AWS's bulk price list of me-south-1 of 2026-09-25, as the tests of saudi-cloud-cost-estimator-cli quote it"},
		{"nat/hour", "mx-central-1", "0.0315", "another source of the same name"},
		{"eks/cluster", "eu-west-1", "0.08", "our contract, appendix B"},
		{"ec2/z9.2xlarge", "us-east-1", "6.00", "our contract, appendix B"},
	} {
		q, err := l.Quote(c.code, c.region)
		if err != nil || q.Rate.String() != c.rate || q.Source.Title != c.source {
			t.Errorf("%s in %s: %s by %q, %v", c.code, c.region, q.Rate, q.Source.Title, err)
		}
	}
	// The shipped list is as it was.
	if q, err := list(t).Quote("nat/hour", "us-east-1"); err != nil || q.Rate.String() != "0.045" {
		t.Errorf("the shipped price is %s now, %v", q.Rate, err)
	}
}

func TestText(t *testing.T) {
	for _, l := range []*List{list(t), mustLoad(t)} {
		text := l.Text()
		again, err := parse("again", text, true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(again.Text())); diff != "" {
			t.Errorf("written, read and written again it differs:\n%s", diff)
		}
	}
}

func mustLoad(t *testing.T) *List {
	t.Helper()
	l, err := Load(write(t, contract))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRefusedFiles(t *testing.T) {
	const head = "date: \"2026-12-01\"\nsources: {a: {title: t, date: \"2026-12-01\"}}\n"
	for _, c := range []struct{ text, want string }{
		{"", "prices.yaml:1: is empty"},
		{"# nothing\n", "prices.yaml:1: is empty"},
		{"- a\n", "prices.yaml:1: want a mapping of date, currency"},
		{"date: [\n", "is not valid YAML"},
		{"a\xff", "is not UTF-8"},
		{"date: &d 1\n", "prices.yaml:1: has an anchor, an alias, a merge or a tag"},
		{"date: \"2026-12-01\"\n---\ndate: x\n", "prices.yaml:3: a second document begins here"},
		{strings.Repeat("[", 50), "lists or mappings stand more than 8 deep"},
		{"date: yesterday\n", `prices.yaml:1: date: "yesterday" is no day`},
		{"date: \"2026-12-01\"\n", "prices.yaml:1: prices: is missing"},
		{"dates: x\n", "prices.yaml:1: dates: unknown key: the keys here are date, currency"},
		{"date: \"2026-12-01\"\ndate: \"2026-12-01\"\n", "prices.yaml:2: date: is given twice: the first is in line 1"},
		{"date: \"2026-12-01\"\ncurrency: dollars\n", `prices.yaml:2: currency: "dollars" is no currency`},
		{"date: \"2026-12-01\"\nhours: 0\n", `prices.yaml:2: hours: "0" is not how many hours`},
		{"date: \"2026-12-01\"\nbase: virginia\n", `prices.yaml:2: base: "virginia" is no region`},
		{"date: \"2026-12-01\"\nother: \"0\"\n", `prices.yaml:2: other: "0" is no factor`},
		{"sources:\n  a: {title: t}\n", "prices.yaml:2: sources.a: lacks its title, or its date"},
		{"sources:\n  a: {title: t, date: \"2026-12-01\", estimate: maybe}\n", "sources.a.estimate: \"maybe\" is neither true nor false"},
		{head + "factors: {x: {times: \"1\", source: a}}\n", "prices.yaml:3: factors.x: is no region"},
		{head + "factors: {eu-west-1: {times: \"1.2345\", source: a}}\n", `"1.2345" is no factor`},
		{head + "factors: {eu-west-1: {times: \"1\", source: b}}\n", `factors.eu-west-1.source: "b" is none of the sources: they are a`},
		{head + "commitments: {2: {compute: 70, data: 70, source: a}}\n", `commitments.2: unknown key: the keys here are 1, 3`},
		{head + "commitments: {1: {compute: 0, data: 70, source: a}}\n", `commitments.1.compute: "0" is no share`},
		{head + "commitments: {1: {data: 70, source: a}}\n", "prices.yaml:3: commitments.1: lacks compute, data or source"},
		{head + "prices: {}\n", "prices.yaml:3: prices: want a list"},
		{head + "prices:\n- {of: nat/hour}\n", "prices.yaml:4: prices[0]: lacks of, per, source, or its prices"},
		{head + "prices:\n- {of: NAT, per: hour, source: a, everywhere: \"1\"}\n", `prices[0].of: "NAT" names nothing that has a price`},
		{head + "prices:\n- {of: nat/hour, per: year, source: a, everywhere: \"1\"}\n", `prices[0].per: "year" is no unit: want hour, month`},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, everywhere: \"-1\"}\n", `prices[0].everywhere: "-1" is no price`},
		{head + "prices:\n- of: nat/hour\n  per: hour\n  source: a\n  regions:\n    eu-west-1: dear\n", `prices.yaml:8: prices[0].regions.eu-west-1: "dear" is no price`},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, regions: {nowhere: 1}}\n", "prices[0].regions.nowhere: is no region"},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, regions: {eu-west-1: [1]}}\n", "want a text or a number"},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, everywhere: 1}\n- {of: nat/hour, per: hour, source: a, everywhere: 1}\n", "prices.yaml:5: prices[1]: nat/hour has a price everywhere already"},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, regions: {eu-west-1: 1}}\n- {of: nat/hour, per: hour, source: a, regions: {eu-west-1: 1}}\n", "nat/hour has a price there already"},
		{head + "prices:\n- {of: nat/hour, per: hour, source: a, everywhere: 1}\n- {of: nat/hour, per: GB, source: a, everywhere: 1}\n", "nat/hour is per GB here and per hour above"},
	} {
		name := write(t, c.text)
		_, err := Load(name)
		var invalid *Invalid
		if !errors.As(err, &invalid) || !strings.Contains(strings.ReplaceAll(err.Error(), name, "prices.yaml"), c.want) {
			t.Errorf("%q: %v\nwant %q in it", c.text, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "leave --prices out") {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(write(t, "currency: EUR\n"+contract)); err == nil || !strings.Contains(err.Error(), "the prices are in EUR, those below them in USD") {
		t.Errorf("another currency: %v", err)
	}
	if _, err := Load(write(t, strings.Replace(contract, "of: eks/cluster, per: hour", "of: eks/cluster, per: month", 1))); err == nil || !strings.Contains(err.Error(), "eks/cluster is per month, the one below it per hour") {
		t.Errorf("another unit: %v", err)
	}
	many := "date: \"2026-12-01\"\n" + strings.Repeat("wrong: 1\n", 300)
	var invalid *Invalid
	if _, err := Load(write(t, many)); !errors.As(err, &invalid) || len(invalid.Problems) != maxProblems+1 || !strings.Contains(err.Error(), "200 more problems follow") {
		t.Errorf("many problems: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	f.Add(shipped[:2000])
	f.Add([]byte("date: \"2026-12-01\"\nsources: {a: {title: t, date: \"2026-12-01\"}}\nprices:\n- {of: nat/hour, per: hour, source: a, everywhere: 1}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parse("f", text, false)
		if err != nil {
			var invalid *Invalid
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatal(err)
			}
			for _, p := range invalid.Problems {
				if p.Line < 1 {
					t.Fatalf("%+v", p)
				}
			}
			return
		}
		if _, err := parse("again", l.Text(), false); err != nil {
			t.Fatalf("what was read is not read again: %v\n%s", err, l.Text())
		}
	})
}

func BenchmarkShipped(b *testing.B) {
	for b.Loop() {
		if _, err := Shipped(); err != nil {
			b.Fatal(err)
		}
	}
}
