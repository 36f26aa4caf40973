package postgres

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"dhow/internal/move/movetest"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight.md")

// manual is the page that lists the rules.
func manual() movetest.Manual {
	m := movetest.Manual{Page: "preflight.md", Headings: []string{"The two ends", "The servers", "What else goes on", "Rights", "Tables", "Columns", "Other objects", "Functions", "What must be there first"}}
	for _, g := range groups() {
		var rules []movetest.Rule
		for _, r := range g {
			on := map[side]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			rules = append(rules, movetest.Rule{ID: r.id, Severity: r.severity, On: on, Title: r.title, Consequence: r.consequence, Fix: r.fix, Shown: fixText(r), Whole: (r.sql == "") != (r.find == nil)})
		}
		m.Groups = append(m.Groups, rules)
	}
	return m
}

// statement is how a fix begins that is one.
var statement = regexp.MustCompile(`^[A-Z]{3,} `)

// fixText is a rule's fix as the manual shows it: statements as code.
func fixText(r rule) string {
	if r.example != "" {
		return r.example
	}
	if sql, remark, is := strings.Cut(r.fix, "; -- "); is {
		return "`" + movetest.Code(sql) + "`; " + movetest.Prose(remark)
	}
	if statement.MatchString(r.fix) && !strings.Contains(r.fix, " on the target") {
		return "`" + movetest.Code(r.fix) + "`"
	}
	return movetest.Prose(r.fix)
}

// TestManualHoldsTheRules holds docs/preflight.md and the rules together.
func TestManualHoldsTheRules(t *testing.T) { manual().Hold(t, *updateManual) }

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	var planted strings.Builder
	for _, name := range []string{"preflight_integration_test.go", "preflight_traps_integration_test.go", "preflight_servers_integration_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		planted.Write(text)
	}
	manual().Whole(t, func(id string) bool { return strings.Contains(planted.String(), `"`+id) || id == "clock-skew" }) // TestClocks
}
