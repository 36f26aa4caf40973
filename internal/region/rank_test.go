package region

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// names are the regions of a ranking in its order.
func names(list []Candidate) []string {
	all := make([]string, len(list))
	for i, k := range list {
		all[i] = k.Region
	}
	return all
}

// TestRankGulf: a super-app of the Gulf looks for where to go.
func TestRankGulf(t *testing.T) {
	c := all(t)
	q := Question{Users: map[string]float64{"AE": 70, "SA": 20, "GB": 10}, Residency: []string{"GCC", "EU"}, Primary: "me-central-1", DR: "me-south-1",
		Types: []string{"AWS::EKS::Cluster", "AWS::RDS::DBInstance", "AWS::DMS::ReplicationInstance"}, Instances: []Instance{{"rds/postgres", "db.m7g.large"}}}
	r, err := c.Rank(q)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Primary) != len(c.Regions()) || len(r.DR) != len(c.Regions())-1 {
		t.Errorf("%d and %d are ranked", len(r.Primary), len(r.DR))
	}
	first := r.Primary[0]
	if first.Region != "eu-central-1" || first.Change == nil || first.Change.From != "me-central-1" || first.Change.LatencyMs <= 0 {
		t.Errorf("the best primary is %+v", first)
	}
	if want := []string{"AWS::DMS::ReplicationInstance"}; !slices.Equal(first.Change.Gains, want) || len(first.Change.Loses) > 0 {
		t.Errorf("it gains %v and loses %v", first.Change.Gains, first.Change.Loses)
	}
	if want := "data moves from United Arab Emirates to Germany"; first.Change.Residency != want {
		t.Errorf("its residency: %s", first.Change.Residency)
	}
	if r.Beside != first.Region || r.DR[0].DistanceKm < apartKm || !r.DR[0].Allowed {
		t.Errorf("beside %s the best is %+v", r.Beside, r.DR[0])
	}
	at := slices.Index(names(r.Primary), "me-central-1")
	today := r.Primary[at]
	if today.Fit || today.Change != nil || !strings.Contains(strings.Join(today.Reasons, "\n"), "notice of 2026-04-30: it can not support") {
		t.Errorf("today's primary is %+v", today)
	}
	if want := []Lack{{"AWS::DMS::ReplicationInstance", "dhow's own movers, which need no replication instance"}}; !cmp.Equal(today.Lacks, want) {
		t.Errorf("it lacks %v", today.Lacks)
	}
	// Nothing in Asia is allowed, so all of it stands behind the Gulf that must be left.
	if asia := slices.Index(names(r.Primary), "ap-south-1"); asia < at || r.Primary[asia].Allowed {
		t.Errorf("Mumbai stands at %d, the UAE at %d", asia, at)
	}

	q.Residency = nil
	free, err := c.Rank(q)
	if err != nil {
		t.Fatal(err)
	}
	if best := free.Primary[0]; best.LatencyMs >= first.LatencyMs || !best.Fit {
		t.Errorf("without a rule the best primary is %+v", best)
	}

	q.Without = []string{free.Primary[0].Region, "eu-central-1"}
	chosen, err := c.Rank(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range q.Without {
		if k := chosen.Primary[slices.Index(names(chosen.Primary), name)]; k.Allowed || k.Reasons[0] != "it was left out by request" {
			t.Errorf("left out by request: %+v", k)
		}
	}
}

// TestRankBeside: a region for disaster recovery is not one that the same event reaches.
func TestRankBeside(t *testing.T) {
	c := all(t)
	r, err := c.Rank(Question{Residency: []string{"AU", "NZ"}, Primary: "ap-southeast-2"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Beside != "ap-southeast-2" || r.DR[0].Region != "ap-southeast-6" || r.DR[1].Region != "ap-southeast-4" {
		t.Errorf("beside %s stand %s, %s", r.Beside, r.DR[0].Region, r.DR[1].Region)
	}
	r, err = c.Rank(Question{Beside: "me-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names(r.DR), "me-central-1") || r.Beside != "me-central-1" {
		t.Errorf("beside %s stand %v", r.Beside, names(r.DR))
	}
	for _, k := range r.DR {
		if k.DistanceKm <= tooNearKm && k.Fit {
			t.Errorf("%s is fit, %.0f km away", k.Region, k.DistanceKm)
		}
	}
}

// TestOtherClass: for a class that is lacking stands one of its kind and its processor.
func TestOtherClass(t *testing.T) {
	c := all(t)
	r := find(t, c, "eu-south-1")
	for _, tt := range []Instance{{"ec2", "m7g.large"}, {"rds/postgres", "db.m7g.large"}} {
		if ok, err := r.HasInstance(tt.Service, tt.Class); err != nil || ok {
			t.Fatalf("Milan has %s: choose another class (%v)", tt.Class, err)
		}
		got := c.otherClass(r, tt)
		if ok, _ := r.HasInstance(tt.Service, got); !ok || !strings.Contains(got, "m6g") {
			t.Errorf("for %s stands %q", tt.Class, got)
		}
	}
	if got := c.otherClass(r, Instance{"ec2", "hpc8a.96xlarge"}); got != "" {
		t.Errorf("for the largest stands %q", got)
	}
}

func TestRankRefuses(t *testing.T) {
	c := all(t)
	for _, tt := range []struct {
		q    Question
		want string
	}{
		{Question{Users: map[string]float64{"UK": 1}}, "did you mean GB?"},
		{Question{Users: map[string]float64{"AE": 0}}, "want a number above 0"},
		{Question{Users: map[string]float64{"AE": math.NaN()}}, "want a number above 0"},
		{Question{Users: map[string]float64{"AE": math.MaxFloat64, "SA": math.MaxFloat64}}, "too great"},
		{Question{Residency: []string{"EUROPE"}}, "or one of ASEAN, EEA, EU, GCC"},
		{Question{Types: []string{"AWS::EKS::Clustr"}}, "did you mean AWS::EKS::Cluster?"},
		{Question{Instances: []Instance{{"rds", "db.m5.large"}}}, "want one of ec2"},
		{Question{Instances: []Instance{{"ec2", "m5.larg"}}}, "did you mean m5.large?"},
		{Question{Primary: "me-central-9"}, "did you mean me-central-1?"},
		{Question{DR: "nowhere"}, "no AWS region"},
		{Question{Beside: "nowhere"}, "no AWS region"},
		{Question{Without: []string{"nowhere"}}, "no AWS region"},
	} {
		if _, err := c.Rank(tt.q); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: want %q, got %v", tt.q, tt.want, err)
		}
	}
}

// TestRankAlways: whatever is asked, the answer does not hang on the order of lists, is
// the same twice, and puts no region that breaks the residency rule above one that
// keeps it, nor one that must be left above one that may stay where both are equal in that.
func TestRankAlways(t *testing.T) {
	c := all(t)
	var codes, regions, types, classes []string
	for _, r := range c.Regions() {
		codes, regions = append(codes, r.Country), append(regions, r.Name)
	}
	types = c.Types()
	for class := range c.offers.instances["ec2"] {
		classes = append(classes, class)
	}
	slices.Sort(classes)
	rapid.Check(t, func(t *rapid.T) {
		rule := rapid.SliceOfN(rapid.SampledFrom(append([]string{"EU", "EEA", "GCC", "ASEAN"}, codes...)), 0, 4).Draw(t, "rule")
		needed := rapid.SliceOfN(rapid.SampledFrom(types), 0, 8).Draw(t, "types")
		wanted := rapid.SliceOfN(rapid.SampledFrom(classes), 0, 4).Draw(t, "classes")
		users := rapid.MapOfN(rapid.SampledFrom(codes), rapid.Float64Range(0.1, 100), 0, 4).Draw(t, "users")
		today := rapid.SampledFrom(append([]string{""}, regions...))
		without := rapid.SliceOfN(rapid.SampledFrom(regions), 0, 3).Draw(t, "without")
		q := Question{Users: users, Residency: rule, Without: without, Types: needed, Primary: today.Draw(t, "primary"), DR: today.Draw(t, "dr")}
		for _, class := range wanted {
			q.Instances = append(q.Instances, Instance{"ec2", class})
		}
		one, err := c.Rank(q)
		if err != nil {
			t.Fatal(err)
		}
		turned := q
		turned.Without = rapid.Permutation(without).Draw(t, "turned without")
		turned.Residency = rapid.Permutation(rule).Draw(t, "turned rule")
		turned.Types = rapid.Permutation(needed).Draw(t, "turned types")
		turned.Instances = rapid.Permutation(q.Instances).Draw(t, "turned classes")
		two, err := c.Rank(turned)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(marshal(t, one), marshal(t, two)); diff != "" {
			t.Errorf("another order of the lists gives another answer:\n%s", diff)
		}
		for _, list := range [][]Candidate{one.Primary, one.DR} {
			for i := 1; i < len(list); i++ {
				above, below := list[i-1], list[i]
				if below.Allowed && !above.Allowed {
					t.Errorf("%s breaks the rule and stands above %s", above.Region, below.Region)
				}
				if below.Allowed == above.Allowed && below.Fit && !above.Fit {
					t.Errorf("%s is not fit and stands above %s", above.Region, below.Region)
				}
				if below.Allowed == above.Allowed && below.Fit == above.Fit && below.Cost < above.Cost {
					t.Errorf("%s costs more than %s and stands above it", above.Region, below.Region)
				}
			}
			for _, k := range list {
				if r, err := c.Lookup(k.Region); err != nil || k.Allowed != (r.AllowedBy(rule) && !slices.Contains(q.Without, k.Region)) || len(k.Reasons) == 0 && len(users)+len(rule)+len(needed)+len(wanted) > 0 {
					t.Errorf("%+v, %v", k, err)
				}
			}
		}
	})
}

func marshal(t *rapid.T, r *Ranking) string {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
