package price

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ashore is a small plan: a production and a non-production in one region.
func ashore() []Item {
	var all []Item
	for _, production := range []bool{true, false} {
		environment := map[bool]string{true: "production", false: "non-production"}[production]
		add := func(i Item) {
			i.Region, i.Environment, i.Production = "eu-central-1", environment, production
			all = append(all, i)
		}
		add(Item{Kind: Cluster, Name: "eks"})
		add(Item{Kind: Instance, Name: "nodes", Class: "m6i.xlarge", Count: 3, StorageGB: 50})
		add(Item{Kind: Fargate, Name: "web", MilliCPU: 500, MemoryMiB: 1024, Count: 2})
		add(Item{Kind: Database, Name: "accounts", Class: "db.m6i.large", Engine: "postgres", MultiAZ: true, StorageGB: 100})
		add(Item{Kind: Cache, Name: "sessions", Class: "cache.m7g.large", Engine: "redis", Count: 2})
		add(Item{Kind: NAT, Name: "vpc", Count: 3, DataGB: 50})
		add(Item{Kind: ALB, Name: "public", Units: 1000})
	}
	return all
}

func TestMonthly(t *testing.T) {
	l := list(t)
	b, err := l.Monthly(ashore())
	if err != nil {
		t.Fatal(err)
	}
	var sum Money
	for _, line := range b.Lines {
		if line.Cost%cent != 0 {
			t.Errorf("%s costs %d millionths, which is no whole cent", line.What, line.Cost)
		}
		sum += line.Cost
	}
	if sum != b.Total || b.Estimated > b.Total || b.Estimated == 0 {
		t.Errorf("the lines come to %s, the total is %s, of which %s estimated", sum, b.Total, b.Estimated)
	}
	for name, sums := range map[string][]Sum{"groups": b.Groups, "environments": b.Environments, "regions": b.Regions} {
		var s Money
		for _, x := range sums {
			s += x.Cost
		}
		if s != b.Total {
			t.Errorf("the %s come to %s of %s", name, s, b.Total)
		}
	}
	if !b.Lines[0].Item.Production || b.Lines[0].Group != Compute || b.Groups[0].Of != string(Compute) {
		t.Errorf("the first line is %+v", b.Lines[0])
	}
}

// TestMonthlyOfAnyOrder holds that the bill does not know in which order it was asked.
func TestMonthlyOfAnyOrder(t *testing.T) {
	l := list(t)
	want, err := l.Monthly(ashore())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		got, err := l.Monthly(rapid.Permutation(ashore()).Draw(t, "items"))
		if err != nil || got.Total != want.Total || !slices.Equal(got.Lines, want.Lines) || !slices.Equal(got.Environments, want.Environments) {
			t.Fatalf("%v: %+v", err, got)
		}
	})
}

func TestRefusedItems(t *testing.T) {
	l := list(t)
	good := Item{Kind: Instance, Name: "nodes", Region: "us-east-1", Class: "m7g.large"}
	for _, c := range []struct {
		change func(i *Item)
		want   string
	}{
		{func(i *Item) { i.Kind = "lambda" }, `lambda nodes: nothing is known to cost of the kind "lambda"`},
		{func(i *Item) { i.Class = "" }, "ec2 nodes: it has no class"},
		{func(i *Item) { i.Class = "z9.large" }, "ec2 nodes: no price of ec2/z9.large is known in us-east-1"},
		{func(i *Item) { i.Region = "" }, "ec2 nodes: it is in no region"},
		{func(i *Item) { i.Count = -1 }, "ec2 nodes: count is -1"},
		{func(i *Item) { i.Calls = most + 1 }, "calls is"},
		{func(i *Item) { i.Percent = 101 }, "percent is 101"},
		{func(i *Item) { i.Count = most }, "too much to count"},
		{func(i *Item) { i.Kind, i.MilliCPU = Fargate, 0 }, "its tasks have no CPU"},
		{func(i *Item) { i.Kind = Database }, "it has no class or no engine"},
		{func(i *Item) { i.Kind = Cache }, "it has no class or no engine"},
	} {
		i := good
		c.change(&i)
		if _, err := l.Monthly([]Item{i}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q in it", i, err, c.want)
		}
	}
	if _, err := l.Cheapest(nil, Goals{CommitYears: 2}); err == nil {
		t.Error("a commitment of two years was taken")
	}
	if _, err := l.Cheapest(nil, Goals{NeededHours: 169}); err == nil {
		t.Error("a week of 169 hours was taken")
	}
	if a, err := l.Cheapest(nil, Goals{}); err != nil || a.Today != 0 || len(a.Changes) != 0 {
		t.Errorf("nothing at all: %+v, %v", a, err)
	}
}

func TestCheapest(t *testing.T) {
	l := list(t)
	everything := Goals{ARM: true, CommitYears: 1, NeededHours: 60, OneZone: true, Valkey: true}
	a, err := l.Cheapest(ashore(), everything)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	var apart Money
	for i, c := range a.Changes {
		ids = append(ids, c.ID)
		apart += c.Saving
		if i > 0 && c.Saving > a.Changes[i-1].Saving {
			t.Errorf("%s saves more than %s before it", c.ID, a.Changes[i-1].ID)
		}
		if c.What == "" || c.GivenUp == "" || len(c.Items) == 0 || c.Saving <= 0 {
			t.Errorf("%+v", c)
		}
	}
	slices.Sort(ids)
	if got := strings.Join(ids, " "); got != "commitment graviton off-at-night one-nat one-zone valkey" {
		t.Errorf("the changes are %s", got)
	}
	if a.Together >= a.Today || a.Today-a.Together > apart {
		t.Errorf("today %s, together %s, apart they save %s", a.Today, a.Together, apart)
	}
	b, err := l.Monthly(a.Items)
	if err != nil || b.Total != a.Together {
		t.Errorf("the changed plan costs %s, %v; %s was said", b.Total, err, a.Together)
	}
	for _, i := range a.Items {
		switch {
		case i.Kind == Instance && i.Class != "m7g.xlarge" && i.Class != "m6g.xlarge":
			t.Errorf("%s is %s still", i, i.Class)
		case i.Kind == Database && i.MultiAZ != i.Production:
			t.Errorf("%s: Multi-AZ is %v", i, i.MultiAZ)
		case i.Kind == NAT && i.Production && i.Count != 3, i.Kind == NAT && !i.Production && i.Count != 1:
			t.Errorf("%s: %d gateways", i, i.Count)
		case i.Production && i.Hours != 0:
			t.Errorf("%s is stopped at night", i)
		case i.Hours != 0 && i.Percent != 0:
			t.Errorf("%s is committed to, and stands still at night", i)
		}
	}
}

// TestGoalsAreKept holds that nothing is changed that a goal speaks against.
func TestGoalsAreKept(t *testing.T) {
	l := list(t)
	for _, c := range []struct {
		name  string
		goals Goals
		want  string
	}{
		{"no goals but those of production", Goals{}, "graviton"},
		{"images for ARM", Goals{ARM: true}, "graviton"},
		{"one zone", Goals{OneZone: true}, "graviton one-nat one-zone"},
		{"no Graviton in the region", Goals{ARM: true, Offered: func(_, _, class string) bool { return !strings.Contains(class, "g.") }}, "graviton"},
		{"office hours", Goals{NeededHours: 50}, "graviton off-at-night"},
		{"always", Goals{NeededHours: 168}, "graviton"},
	} {
		a, err := l.Cheapest(ashore(), c.goals)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, x := range a.Changes {
			ids = append(ids, x.ID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		for n, i := range a.Items {
			before := ashore()[n]
			if before.Kind == Instance && !c.goals.ARM && i.Class != before.Class {
				t.Errorf("%s: %s became %s", c.name, i, i.Class)
			}
		}
	}
	// Where no class of Graviton is offered, databases and machines stay; Fargate has no class.
	a, err := l.Cheapest(ashore(), Goals{ARM: true, Offered: func(string, string, string) bool { return false }})
	if err != nil || len(a.Changes) != 1 || !slices.Equal(a.Changes[0].Items, []string{"fargate non-production web", "fargate production web"}) {
		t.Errorf("%+v, %v", a.Changes, err)
	}
}

// TestAnyGoals holds that a change never makes a plan dearer, and that production keeps
// its zones and its hours.
func TestAnyGoals(t *testing.T) {
	l := list(t)
	rapid.Check(t, func(t *rapid.T) {
		g := Goals{ARM: rapid.Bool().Draw(t, "arm"), CommitYears: rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "years"), NeededHours: rapid.IntRange(0, 168).Draw(t, "hours"), OneZone: rapid.Bool().Draw(t, "one zone"), Valkey: rapid.Bool().Draw(t, "valkey")}
		items := rapid.SliceOfN(rapid.SampledFrom(ashore()), 0, 20).Draw(t, "items")
		a, err := l.Cheapest(items, g)
		if err != nil {
			t.Fatal(err)
		}
		if a.Together > a.Today || len(a.Items) != len(items) {
			t.Fatalf("%+v", a)
		}
		for n, i := range a.Items {
			was := items[n]
			if i.Production && (i.MultiAZ != was.MultiAZ || i.Count != was.Count || i.Hours != was.Hours) || i.StorageGB != was.StorageGB || i.Kind != was.Kind {
				t.Fatalf("%+v became %+v", was, i)
			}
		}
	})
}
