package landing

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestSet: some parameters of a stack that stands are tried, set and set back, and
// nothing else of it; who asks does so from any region.
func TestSet(t *testing.T) {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	g := graphOf(t)
	stack := g.Stack("main/postgresql")
	d := s.deployer(t, g, func(o *DeployerOptions) { o.From = "eu-west-1" })
	larger := map[string]string{"InstanceClass": "db.m7g.xlarge"}

	if standing, err := d.Standing(t.Context(), stack); standing != nil || err != nil {
		t.Errorf("before it stands: %+v, %v", standing, err)
	}
	for what, do := range map[string]func() error{
		"set":   func() error { _, err := d.Set(t.Context(), stack, larger); return err },
		"tried": func() error { _, err := d.Try(t.Context(), stack, larger); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "the stack bank-main-postgresql is not deployed: run `dhow deploy --environment main` first") {
			t.Errorf("%s before it stands: %v", what, err)
		}
	}
	s.deploy(t, g)

	resources := func() string {
		var all []string
		for _, r := range s.double.Resources() {
			all = append(all, fmt.Sprint(r.Account, r.Region, r.Stack, r.Logical, r.Physical, r.Created, r.Properties))
		}
		return strings.Join(all, "\n")
	}
	before := resources()
	changes, err := d.Try(t.Context(), stack, larger)
	if err != nil || len(changes) != 1 || changes[0].Resource != "Instance" || changes[0].Action != "modify" || changes[0].Refused() {
		t.Errorf("it would change %+v, %v", changes, err)
	}
	if after := resources(); after != before {
		t.Error("what was tried changed something")
	}
	if _, err := d.Try(t.Context(), stack, map[string]string{"Size": "large"}); err == nil || !strings.Contains(err.Error(), "has no parameter Size") {
		t.Errorf("a parameter that is none: %v", err)
	}
	for i, want := range []string{OutcomeUpdated, OutcomeUnchanged} {
		if r, err := d.Set(t.Context(), stack, larger); err != nil || r.Outcome != want {
			t.Errorf("set %d times: %+v, %v", i+1, r, err)
		}
	}
	standing, err := d.Standing(t.Context(), stack)
	if err != nil || !standing.Settled || standing.Parameters["InstanceClass"] != "db.m7g.xlarge" || standing.Parameters["DataKeyArn"] == "" || standing.Outputs["PostgresqlEndpoint"] == "" ||
		!slices.ContainsFunc(standing.Resources, func(r StandingResource) bool {
			return r.ID == "Instance" && r.Type == "AWS::RDS::DBInstance" && r.Physical != ""
		}) {
		t.Errorf("it stands as %+v, %v", standing, err)
	}
	// It is still ours, with its tags, and the graph's word holds again when it is deployed.
	if by := outcomesOf(s.deploy(t, g)); fmt.Sprint(by[OutcomeUpdated]) != "[main/postgresql]" {
		t.Errorf("deployed again: %v", by)
	}
	if after := resources(); after != before {
		t.Errorf("something else was changed:\n%s\n%s", before, after)
	}
}

// TestHolding: what holds data is told, and the values that the graph knows.
func TestHolding(t *testing.T) {
	stack := graphOf(t).Stack("main/postgresql")
	if held := stack.Holding(); len(held) != 1 || held[0].ID != "Instance" {
		t.Errorf("it holds %+v", held)
	}
	for parameter, want := range map[string]string{"InstanceClass": "db.m7g.large", "Environment": "main"} {
		if v, known := stack.Value(parameter); v != want || !known {
			t.Errorf("%s is %q, %v", parameter, v, known)
		}
	}
	for _, parameter := range []string{"DataKeyArn", "Nothing"} {
		if v, known := stack.Value(parameter); known {
			t.Errorf("%s is known: %q", parameter, v)
		}
	}
}
