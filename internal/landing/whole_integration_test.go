package landing

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/estate"
)

// superapp is the estate that `dhow plan` writes of the super-app, with sit beside dev,
// in the accounts of the tests.
func superapp(t testing.TB) *estate.Estate {
	t.Helper()
	e, err := estate.Load(filepath.Join("..", "plan", "testdata", "golden", "superapp", estate.FileName))
	if err != nil {
		t.Fatal(err)
	}
	l := e.Landing
	l.Accounts = estate.Accounts{Management: "111111111111", Security: "222222222222", NonProduction: "333333333333", Production: "444444444444"}
	l.Environments = append(l.Environments, estate.Environment{Name: estate.EnvironmentSIT, Account: string(estate.NonProduction), Region: estate.RegionMain, Network: "10.67.0.0/16",
		Parameters: estate.Parameters{"network": {"NatGateways": "one"}}}) // an account may have five addresses
	return e
}

// wholeGraph is the graph of an estate with the program's own templates.
func wholeGraph(t testing.TB, e *estate.Estate, l Library) *Graph {
	t.Helper()
	g, err := New(Options{Estate: e, Library: l, Regions: catalog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// rewritten is a template with a text of it replaced, which must be there.
func rewritten(t testing.TB, l Library, name, old, new string) *Template {
	t.Helper()
	if !bytes.Contains(l[name].Body, []byte(old)) {
		t.Fatalf("the template %s has no %q to replace", name, old)
	}
	template, err := Parse(name, bytes.Replace(l[name].Body, []byte(old), []byte(new), 1))
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// touched are the resources and properties that change, and what they become.
func touched(changes []Change) []string {
	var list []string
	for _, c := range changes {
		for _, d := range c.Details {
			list = append(list, c.Resource+" "+d.Property+" "+d.After)
		}
	}
	return list
}

// TestSuperApp: the super-app's whole estate with the program's own templates, from
// nothing, again, changed, drifted, moved to another region and destroyed.
func TestSuperApp(t *testing.T) {
	e := superapp(t)
	s := newStage(t, math.Inf(1), accountsOf(e.Landing.Regions.Main, e.Landing.Regions.DR, e.Landing.Regions.Home, "eu-west-1"))
	library, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	g := wholeGraph(t, e, library)
	found, err := s.deployer(t, g).Preflight(t.Context(), g.Stacks, catalog(t))
	if err != nil || Failed(found) {
		t.Fatalf("the preflight finds %+v, %v", found, err)
	}
	if by := outcomesOf(s.deploy(t, g)); len(by[OutcomeCreated]) != len(g.Stacks) || len(g.Stacks) < 100 {
		t.Errorf("from nothing: %d of %d: %v", len(by[OutcomeCreated]), len(g.Stacks), by)
	}
	s.stands(t, g)
	resources := len(s.double.Resources())
	t.Logf("%d stacks, %d resources", len(g.Stacks), resources)

	for _, r := range s.deploy(t, g) {
		if r.Outcome != OutcomeUnchanged || r.Executed {
			t.Errorf("again, %s is %s", r.Stack, r.Outcome)
		}
	}

	// One subnet and one instance class.
	changed := superapp(t)
	main := changed.Landing.Environment(estate.EnvironmentMain)
	main.Parameters["postgresql"] = map[string]string{"PostgresqlInstanceClass": "db.m6g.4xlarge"}
	wider := map[string]*Template{}
	for name, template := range library {
		wider[name] = template
	}
	wider["network"] = rewritten(t, library, "network", "  PublicSubnet1:\n    Type: AWS::EC2::Subnet\n    Properties:\n", "  PublicSubnet1:\n    Type: AWS::EC2::Subnet\n    Properties:\n      EnableDns64: true\n")
	larger := wholeGraph(t, changed, wider)
	meant := []string{"dev/network", "dr/network", "main/network", "main/postgresql", "sit/network"}
	preview, err := s.deployer(t, larger).Preview(t.Context(), larger.Stacks)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range preview {
		want := ""
		switch {
		case p.Stack == "main/postgresql":
			want = "Server DBInstanceClass db.m6g.4xlarge"
		case slices.Contains(meant, p.Stack):
			want = "PublicSubnet1 EnableDns64 true"
		}
		if got := strings.Join(touched(p.Changes), ", "); got != want || (p.Action == PreviewUpdate) != (want != "") || p.Refused() {
			t.Errorf("a subnet and a class: %s is %s with %q, want %q", p.Stack, p.Action, got, want)
		}
	}
	if by := outcomesOf(s.deploy(t, larger)); !slices.Equal(by[OutcomeUpdated], meant) || len(by) != 2 {
		t.Errorf("a subnet and a class: %v", by)
	}
	s.stands(t, larger)

	// Somebody makes a bucket public by hand, and lets a database be deleted.
	damage := []struct{ environment, template, logical, path string }{{"main", "postgresql", "Server", "/DeletionProtection"}}
	for _, one := range damage {
		stack := larger.Stack(one.environment + "/" + one.template)
		if err := s.double.Edit(stack.Number, stack.Region, stack.Name, one.logical, one.path, false); err != nil {
			t.Fatal(err)
		}
	}
	drifts, absent, err := s.deployer(t, larger).Drifted(t.Context(), larger.Stacks)
	if err != nil || len(drifts) != len(damage) || len(absent) != 0 {
		t.Fatalf("the drift is %+v, %v, %v", drifts, absent, err)
	}
	for i, one := range damage {
		if drifts[i].Stack != one.environment+"/"+one.template || drifts[i].Resource != one.logical {
			t.Errorf("the drift is %+v, want %+v", drifts[i], one)
		}
	}

	// Another region for disaster recovery, by one line of the estate. The old one is left
	// by the old estate.
	left := changed.Landing.Regions.DR
	old, err := larger.Select(Selection{Regions: []string{left}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.deployer(t, larger).Doom(t.Context(), old, dataOf(old)); err == nil || !strings.Contains(err.Error(), "is needed by main/") {
		t.Errorf("what main uses is doomed: %v", err)
	}
	changed.Landing.Regions.DR = "eu-west-1"
	changed.Landing.Parameters["organization"] = map[string]string{"LeftRegions": left}
	moved := wholeGraph(t, changed, wider)
	s.deploy(t, moved)
	s.destroy(t, larger, old, dataOf(old)...)
	s.stands(t, moved)

	// All goes, the data by its names, but what is kept for good.
	s.destroy(t, moved, moved.Stacks, dataOf(moved.Stacks)...)
	for _, r := range s.double.Resources() {
		t.Errorf("left is %s %s in %s", r.Stack, r.Logical, r.Region)
	}
}

// dataOf are the ids of the stacks that hold data.
func dataOf(stacks []*Stack) []string {
	var ids []string
	for _, s := range stacks {
		if s.Data {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
