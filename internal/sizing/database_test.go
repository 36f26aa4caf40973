package sizing

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dhow/internal/region"
)

func TestForDatabase(t *testing.T) {
	steady := func(class string) bool { return !strings.Contains(class, ".t") }
	old := func(class string) bool { return strings.Contains(class, ".m5.") || strings.Contains(class, ".t3.") }
	for _, c := range []struct {
		name    string
		in      Database
		offered Offered
		class   string
		storage int
		iops    int
		extra   int
		conns   int
		assumed bool
		says    string
	}{
		{name: "nothing known, production", in: Database{Engine: "postgres", Production: true}, class: "db.m7g.large", storage: 30, iops: 3000, conns: 901, assumed: true, says: "its load was not measured"},
		{name: "nothing known, a test", in: Database{Engine: "postgres"}, class: "db.t4g.large", storage: 30, iops: 3000, conns: 901, assumed: true},
		{name: "small and idle, production", in: Database{Engine: "postgres", Production: true, Size: 2 * GiB, HotSet: GiB, CPUUsed: 20}, class: "db.t4g.small", storage: 20, iops: 3000, conns: 225, says: "1Gi of data in use"},
		{name: "hot set", in: Database{Engine: "mariadb", Production: true, Size: 200 * GiB, HotSet: 30 * GiB, CPUUsed: 1500}, class: "db.r7g.2xlarge", storage: 300, iops: 3000, conns: 5461, says: "for 1500m used at the 95th percentile to be 60% of them"},
		{name: "as today", in: Database{Engine: "mysql", Production: true, Size: 50 * GiB, Memory: 16 * GiB, CPU: 4000}, class: "db.m7g.xlarge", storage: 80, iops: 3000, conns: 1365, says: "as its server has today"},
		{name: "connections", in: Database{Engine: "postgres", Production: true, Size: GiB, Connections: 1200}, class: "db.r7g.large", storage: 20, iops: 3000, conns: 1802, assumed: true, says: "1800 connections"},
		{name: "old classes alone", in: Database{Engine: "postgres", Production: true, Size: GiB, CPUUsed: 1000, HotSet: GiB}, offered: old, class: "db.m5.large", storage: 20, iops: 3000, conns: 901},
		{name: "no small ones", in: Database{Engine: "postgres", Size: GiB, HotSet: GiB}, offered: steady, class: "db.m7g.large", storage: 20, iops: 3000, conns: 901},
		{name: "large", in: Database{Engine: "postgres", Size: 2000 * GiB, HotSet: 20 * GiB, Growth: 50 * GiB}, class: "db.r7g.2xlarge", storage: 4000, iops: 12000, conns: 5000},
		{name: "fast and small", in: Database{Engine: "postgres", Size: 50 * GiB, HotSet: GiB, IOPS: 15000, MBps: 100}, class: "db.t4g.small", storage: 400, iops: 20000, extra: 8000, conns: 225, says: ""},
		{name: "fast enough", in: Database{Engine: "postgres", Size: 50 * GiB, HotSet: GiB, IOPS: 2000}, class: "db.t4g.small", storage: 80, iops: 3000, conns: 225},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ForDatabase(c.in, c.offered)
			if err != nil {
				t.Fatal(err)
			}
			if s.Class != c.class || s.StorageGB != c.storage || s.IOPS != c.iops || s.ExtraIOPS != c.extra || s.MaxConnections != c.conns || s.Assumed != c.assumed || s.MultiAZ != c.in.Production {
				t.Errorf("%+v", s)
			}
			if !strings.Contains(s.ClassWhy.Reason, c.says) || s.StorageWhy.Reason == "" || s.MultiAZWhy.Reason == "" {
				t.Errorf("the reasons are %q and %q", s.ClassWhy.Reason, s.StorageWhy.Reason)
			}
		})
	}
}

func TestForCache(t *testing.T) {
	for _, c := range []struct {
		name    string
		in      Cache
		class   string
		nodes   int
		shards  int
		assumed bool
		says    string
	}{
		{name: "nothing known, production", in: Cache{Production: true}, class: "cache.m7g.large", nodes: 2, shards: 1, assumed: true, says: "not measured"},
		{name: "nothing known, a test", in: Cache{}, class: "cache.t4g.small", nodes: 1, shards: 1, assumed: true},
		{name: "small and idle, production", in: Cache{Production: true, Used: 500 * MiB, Operations: 100}, class: "cache.t4g.small", nodes: 2, shards: 1},
		{name: "middling", in: Cache{Production: true, Used: 10 * GiB}, class: "cache.r7g.xlarge", nodes: 2, shards: 1, says: "holds 10Gi of data and 30%"},
		{name: "busy", in: Cache{Production: true, Used: 10 * GiB, Operations: 200_000}, class: "cache.m7g.large", nodes: 6, shards: 3},
		{name: "huge", in: Cache{Used: 900 * GiB}, class: "cache.r5.24xlarge", nodes: 3, shards: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ForCache(c.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s.Class != c.class || s.Nodes() != c.nodes || s.Shards != c.shards || s.Assumed != c.assumed || !strings.Contains(s.ClassWhy.Reason, c.says) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestForNodes(t *testing.T) {
	for _, c := range []struct {
		name  string
		asked Resources
		pods  int
		zones int
		arm   bool
		want  string
	}{
		{name: "a few services", asked: Resources{CPU: 2000, Memory: 4 * GiB}, pods: 16, zones: 3, want: "3 x c6i.large"},
		{name: "a few services on Graviton", asked: Resources{CPU: 2000, Memory: 4 * GiB}, pods: 16, zones: 3, arm: true, want: "3 x c7g.large"},
		{name: "much memory", asked: Resources{CPU: 4000, Memory: 64 * GiB}, pods: 30, zones: 3, want: "3 x r6i.xlarge"},
		{name: "nothing", zones: 2, pods: 1, want: "2 x c6i.large"},
	} {
		n, err := ForNodes(c.asked, c.pods, c.zones, c.arm, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d x %s", n.Count, n.Class); got != c.want || n.Count%c.zones != 0 || n.Why.Reason == "" {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := ForNodes(Resources{CPU: 1 << 50}, 1, 3, false, nil); err == nil || !strings.Contains(err.Error(), "split the cluster") {
		t.Errorf("far too much: %v", err)
	}
}

func TestRefused(t *testing.T) {
	none := func(string) bool { return false }
	for _, c := range []struct {
		name string
		run  func() error
		want string
	}{
		{"another engine", func() error { _, err := ForDatabase(Database{Name: "x", Engine: "oracle"}, nil); return err }, `size the database x: no rule for the engine "oracle": want postgres, mariadb, mysql`},
		{"below zero", func() error { _, err := ForDatabase(Database{Name: "x", Engine: "mysql", Size: -1}, nil); return err }, "below zero"},
		{"larger than gp3", func() error {
			_, err := ForDatabase(Database{Name: "x", Engine: "mysql", Size: 100 << 40}, nil)
			return err
		}, "split it"},
		{"nothing offered", func() error { _, err := ForDatabase(Database{Name: "x", Engine: "mysql"}, none); return err }, "the region offers none of the classes"},
		{"no class so large", func() error {
			_, err := ForDatabase(Database{Name: "x", Engine: "mysql", HotSet: 20 << 40}, nil)
			return err
		}, "no class has"},
		{"no cache offered", func() error { _, err := ForCache(Cache{Name: "x"}, none); return err }, "size the cache x: the region offers none"},
		{"cache below zero", func() error { _, err := ForCache(Cache{Name: "x", Used: -1}, nil); return err }, "below zero"},
		{"cache of too many shards", func() error { _, err := ForCache(Cache{Name: "x", Operations: 1 << 40}, nil); return err }, "more than 90 shards"},
		{"no machines offered", func() error { _, err := ForNodes(Resources{}, 1, 1, false, none); return err }, "size the nodes: the region offers none"},
	} {
		if err := c.run(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestAnyDatabase holds that a class covers what was asked of it, and that more never
// makes it smaller.
func TestAnyDatabase(t *testing.T) {
	all, _, err := Classes("db.")
	if err != nil {
		t.Fatal(err)
	}
	order := map[string]Class{}
	for _, c := range all {
		order[c.Name] = c
	}
	rapid.Check(t, func(t *rapid.T) {
		bytes := func(name string, most Bytes) Bytes { return Bytes(rapid.Int64Range(0, int64(most)).Draw(t, name)) }
		d := Database{Name: "x", Engine: rapid.SampledFrom(engines).Draw(t, "engine"), Size: bytes("size", 20<<40), Growth: bytes("growth", 1<<40), HotSet: bytes("hot", 300*GiB), CPUUsed: Milli(bytes("cpu", 30_000)),
			Connections: int(bytes("connections", 4000)), IOPS: int(bytes("iops", 80_000)), MBps: int(bytes("mbps", 8000)), Production: rapid.Bool().Draw(t, "production")}
		s, err := ForDatabase(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := order[s.Class]
		if d.HotSet > 0 && c.Memory < d.HotSet || Milli(c.VCPU)*1000 < d.CPUUsed || s.MaxConnections < d.Connections {
			t.Fatalf("%s is too small for %+v", s.Class, d)
		}
		if s.StorageGB < leastStorage || s.StorageGB > mostStorage || Bytes(s.StorageGB)*GiB < d.Size && s.StorageGB < mostStorage || s.MaxStorageGB < s.StorageGB {
			t.Fatalf("%d to %d GB for %s", s.StorageGB, s.MaxStorageGB, d.Size)
		}
		if s.IOPS > mostIOPS || s.MBps > mostMBps || s.ExtraIOPS < 0 || s.ExtraMBps < 0 || (s.ExtraIOPS > 0 || s.ExtraMBps > 0) && s.StorageGB < stripedFrom {
			t.Fatalf("the storage is %+v", s)
		}
		if s.IOPS < min(d.IOPS, mostIOPS) || s.MBps < min(d.MBps, mostMBps) {
			t.Fatalf("%d IOPS and %d MB/s for %d and %d", s.IOPS, s.MBps, d.IOPS, d.MBps)
		}
		d.HotSet, d.Size = d.HotSet*2, d.Size*2
		more, err := ForDatabase(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		if order[more.Class].Memory < c.Memory || more.StorageGB < s.StorageGB {
			t.Fatalf("twice the data made %s, %d GB of %s, %d GB", more.Class, more.StorageGB, s.Class, s.StorageGB)
		}
	})
}

// TestClassesExist holds the table against the classes that AWS's schemas name.
func TestClassesExist(t *testing.T) {
	catalog, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	for prefix, services := range map[string][]string{"db.": {"rds/postgres", "rds/mariadb", "rds/mysql"}, "cache.": {"elasticache"}, "": {"ec2"}} {
		all, sources, err := Classes(prefix)
		if err != nil || len(all) == 0 || len(sources) == 0 {
			t.Fatalf("%q: %v", prefix, err)
		}
		for _, c := range all {
			for _, service := range services {
				somewhere := false
				for _, r := range catalog.Regions() {
					has, err := r.HasInstance(service, c.Name)
					if err != nil {
						t.Fatal(err)
					}
					somewhere = somewhere || has
				}
				if !somewhere {
					t.Errorf("no region has %s of %s", c.Name, service)
				}
			}
		}
	}
	// Every region has a class for each, whatever it lacks.
	for _, r := range catalog.Regions() {
		has := func(service string) Offered {
			return func(class string) bool { ok, err := r.HasInstance(service, class); return ok && err == nil }
		}
		for _, engine := range engines {
			if _, err := ForDatabase(Database{Engine: engine, Production: true}, has("rds/"+engine)); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
		if _, err := ForCache(Cache{Production: true}, has("elasticache")); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		for _, arm := range []bool{false, true} {
			if _, err := ForNodes(Resources{CPU: 4000, Memory: 8 * GiB}, 20, len(r.Zones), arm, has("ec2")); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
	}
}

func TestBrokenClasses(t *testing.T) {
	const source = "source 2026-11-30 https://example.com Somewhere\n"
	for text, want := range map[string]string{
		"":                              "there are no classes in it",
		source:                          "there are no classes in it",
		"db m7g arm steady large:2:8\n": "no source",
		source + "db m7g arm steady\n":  "line 2: want ec2, db or cache",
		source + "db m7g mips steady large:2:8\n":          "line 2: want ec2",
		source + "disk m7g arm steady large:2:8\n":         "line 2: want ec2",
		source + "db m7g arm steady large:2\n":             `line 2: "large:2" is no size`,
		source + "db m7g arm steady large:0:8\n":           `"large:0:8" is no size`,
		source + "db m7g arm steady large:2:NaN\n":         `"large:2:NaN" is no size`,
		source + "db m7g arm steady large:2:8 large:2:8\n": "db.m7g.large stands here twice",
		"source yesterday x y\n":                           `line 1: "yesterday" is no date`,
	} {
		if _, _, err := readClasses([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func FuzzClasses(f *testing.F) {
	f.Add(classData)
	f.Add([]byte("source 2026-11-30 u t\ndb a arm steady x:1:1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, sources, err := readClasses(text)
		if err != nil {
			return
		}
		if len(all) == 0 || len(sources) == 0 || !bytes.Contains(text, []byte("source")) {
			t.Fatal("it took a file without classes or without a source")
		}
		for _, c := range all {
			if c.VCPU < 1 || c.Memory < 0 {
				t.Fatalf("%+v", c)
			}
		}
	})
}
