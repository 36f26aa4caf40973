package plan

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	o, err := ParseOptions("o.yaml", []byte("regions: {primary: eu-central-1}\nplacement: {web: ecs}\nnetwork: {taken: [10.0.0.0/12]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if o.Regions.Primary != "eu-central-1" || o.Regions.DR != "" || o.Placement["web"] != ECS || o.Network.Taken[0].String() != "10.0.0.0/12" {
		t.Errorf("it is read as %+v", o)
	}
	if len(o.Users) == 0 || o.Goals.Replicas == 0 || len(o.Network.Pools) == 0 {
		t.Error("the defaults are not filled in")
	}
	if d := standard(t); d.Regions.Primary == "" || d.Regions.DR == "" {
		t.Error("the defaults name no regions")
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "region:\n  primary: eu-central-1\n", "o.yaml:1: unknown field \"region\""},
		{"unknown region", "name: a\nregions:\n  primary: eu-cental-1\n", "o.yaml:3: regions.primary: "},
		{"same region twice", "regions:\n  primary: eu-central-1\n  dr: eu-central-1\n", "o.yaml:3: regions.dr: eu-central-1 is the primary region too"},
		{"place", "placement:\n  web: lambda\n", `o.yaml:2: placement.web: "lambda" is no place`},
		{"account", "accounts:\n  production: \"12\"\n", `o.yaml:2: accounts.production: "12" is no account's number`},
		{"account's name", "accounts:\n  prod: \"123456789012\"\n", `there is no account "prod"`},
		{"probe", "probes:\n  default: {readiness: readyz}\n", `"readyz" is no path`},
		{"image", "images:\n  web: nginx:1.2\n", "does not say which image"},
		{"host", "hosts:\n  web: [https://www.example.com]\n", "is no host"},
		{"domain", "domain: Example\n", "is no domain"},
		{"pool", "network:\n  pools: [10.0.0.1/8]\n", "is no network of IPv4"},
		{"small pool", "network:\n  pools: [10.0.0.0/24]\n", "is smaller than one network"},
		{"no prefix", "network:\n  pools: [ten]\n", "o.yaml:2: "},
		{"users", "users: {XX: 1}\n", "o.yaml:1: users: "},
		{"most below least", "goals:\n  replicas: 4\n  most_replicas: 3\n", "o.yaml:3: goals.most_replicas: 3 is out of range"},
		{"port", "databases:\n  a-postgres: {port: 70000}\n", "o.yaml:2: databases.a-postgres.port: 70000 is no port"},
		{"size", "databases:\n  a-postgres: {size_gib: -1}\n", "o.yaml:2: databases.a-postgres: a number is out of range"},
		{"not a number", "databases:\n  a-postgres: {size_gib: .nan}\n", "a number is out of range"},
		{"traffic", "traffic:\n  default: {p50_ms: 10, p99_ms: 5}\n", "p50_ms is longer than p99_ms"},
		{"replicas", "goals: {replicas: 1000}\n", "goals.replicas: 1000 is out of range"},
		{"commitment", "goals: {commit_years: 2}\n", "2 is no term"},
		{"name", "name: My Plan\n", "is no name here"},
		{"no YAML", "a: [\n", "o.yaml:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseOptions("o.yaml", []byte(c.text))
			var invalid *InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, and should have %q", err, c.want)
			}
		})
	}
}

// TestOptionsThatDoNotFit are right by themselves, and name what the source has not.
func TestOptionsThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*Options)
		want string
	}{
		"placement": {func(o *Options) { o.Placement = map[string]Place{"wbe": ECS} }, `there is no workload "wbe"`},
		"hosts":     {func(o *Options) { o.Hosts = map[string][]string{"wbe": {"a.example.com"}} }, `there is no workload "wbe"`},
		"region":    {func(o *Options) { o.Instead = []Instead{{"eu-west-1", "eu-central-1"}} }, "the plan has nothing in eu-west-1"},
		"unknown":   {func(o *Options) { o.Instead = []Instead{{"me-south-1", "eu-cental-1"}} }, "eu-cental-1"},
		"both":      {func(o *Options) { o.Instead = []Instead{{"me-south-1", "me-central-1"}} }, "would be the primary region and the one for disaster recovery"},
	} {
		t.Run(name, func(t *testing.T) {
			o := standard(t)
			c.set(o)
			_, err := tryPlan(t.Context(), o, "../../superapp/deploy/source")
			var invalid *InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, and should have %q", err, c.want)
			}
		})
	}
}

func TestReadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "o.yaml")
	if _, err := ReadOptions(file); err == nil {
		t.Error("a file that is not there is read")
	}
	if err := os.WriteFile(file, make([]byte, maxOptions+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOptions(file); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("a large file is read: %v", err)
	}
}

func FuzzOptions(f *testing.F) {
	for _, text := range []string{"", "name: a", "regions: {primary: eu-central-1, dr: eu-south-1}", "network: {pools: [10.0.0.0/8], edge: 10.0.0.0/20}", "databases: {a: {size_gib: 1e9}}", "users: {AE: -1}", "a: &a [*a]", "probes: {x: 1}"} {
		f.Add([]byte(text))
	}
	away, err := os.ReadFile("testdata/evacuation.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(away)
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := ParseOptions("o.yaml", text)
		var invalid *InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Errorf("another error: %v", err)
		}
		if err == nil && (o.Regions.Primary == "" || o.Goals.Replicas < 1) {
			t.Error("the defaults are not filled in")
		}
	})
}

func FuzzDocument(f *testing.F) {
	kept, err := os.ReadFile("testdata/golden/evacuation/plan.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", "format: 1", "format: 2", "format: 1\nworkloads: [{source: a}, {source: a}, 1]", "format: 1\nregions: []\ncost: {lines: {a: 1}}", string(kept)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDocument("plan.yaml", text)
		if err != nil {
			return
		}
		p := &Plan{Format: Format, Name: "a"}
		if _, err := p.Compare(d); err != nil {
			t.Errorf("it is not compared: %v", err)
		}
	})
}
