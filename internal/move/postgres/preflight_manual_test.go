package postgres

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight.md")

const manual = "../../../docs/preflight.md"

// headings of the rules' groups in the manual, in the order of groups.
var headings = []string{"The two ends", "The servers", "What else goes on", "Rights", "Tables", "Columns", "Other objects", "Functions", "What must be there first"}

// placeholders are written as <name> in the manual.
var placeholders = regexp.MustCompile(`\{([a-z]+)\}`)

// rulesText is the part of the manual that is made of the rules.
func rulesText() string {
	var b strings.Builder
	for i, g := range groups() {
		fmt.Fprintf(&b, "### %s\n\n", headings[i])
		for _, r := range g {
			where := map[side]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			fmt.Fprintf(&b, "**%s** (%s, %s). %s\nConsequence: %s.\nFix: %s.\n\n", r.id, r.severity, where, r.title, bare(placeholders.ReplaceAllString(r.consequence, "<$1>")), fixText(r))
		}
	}
	return b.String()
}

// fixText is a rule's fix as the manual shows it: statements as code.
func fixText(r rule) string {
	if r.example != "" {
		return r.example
	}
	fix := placeholders.ReplaceAllString(r.fix, "<$1>")
	if sql, remark, is := strings.Cut(fix, "; -- "); is {
		return "`" + sql + "`; " + bare(remark)
	}
	if statement.MatchString(fix) && !strings.Contains(fix, " on the target") {
		return "`" + fix + "`"
	}
	return bare(fix)
}

// bare marks placeholders that stand outside of code.
func bare(text string) string {
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = placeholdersOut.ReplaceAllString(parts[i], "`$0`")
	}
	return strings.Join(parts, "`")
}

// statement is how a fix begins that is one.
var statement = regexp.MustCompile(`^[A-Z]{3,} `)

var placeholdersOut = regexp.MustCompile(`<[a-z]+>`)

// TestManualHoldsTheRules holds docs/preflight.md and the rules together.
func TestManualHoldsTheRules(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- rules: written by go test -run TestManualHoldsTheRules -update -->\n\n", "<!-- end of the rules -->"
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the rules", manual)
	}
	want := head + begin + rulesText() + end + tail
	if *updateManual {
		if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(page) {
		t.Errorf("%s does not hold the rules as they are: run go test ./internal/move/postgres -run TestManualHoldsTheRules -update", manual)
	}
}

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	if len(headings) != len(groups()) {
		t.Fatalf("%d headings for %d groups", len(headings), len(groups()))
	}
	var planted strings.Builder
	for _, name := range []string{"preflight_integration_test.go", "preflight_traps_integration_test.go", "preflight_servers_integration_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		planted.Write(text)
	}
	id := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	var seen []string
	for _, g := range groups() {
		for _, r := range g {
			switch {
			case !id.MatchString(r.id) || slices.Contains(seen, r.id):
				t.Errorf("rule id %q is not well formed or not the only one", r.id)
			case r.title == "" || r.consequence == "" || r.fix == "" || (r.sql == "") == (r.find == nil):
				t.Errorf("rule %s is not whole", r.id)
			case strings.HasSuffix(r.fix, ".") || strings.HasSuffix(r.consequence, "."):
				t.Errorf("rule %s ends in a full stop", r.id)
			}
			seen = append(seen, r.id)
			if !strings.Contains(planted.String(), `"`+r.id) && r.id != "clock-skew" { // TestClocks
				t.Errorf("no test plants %s", r.id)
			}
		}
	}
}
