// Package movetest holds the rules of a mover's preflight, the page of the manual
// that lists them and the tests that plant their traps together.
package movetest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dhow/internal/move"
)

// Rule is one rule of a preflight, as far as every engine has it.
type Rule struct {
	ID       string
	Severity move.Severity
	// On is the side that it is about: source, target or both.
	On          string
	Title       string
	Consequence string
	Fix         string
	// Shown is the fix as the manual shows it.
	Shown string
	// Whole says that the engine knows how to find it.
	Whole bool
}

// Manual is a page of the manual and the rules that it lists.
type Manual struct {
	// Page is its file in the folder docs.
	Page string
	// Headings are those of the groups, in their order.
	Headings []string
	Groups   [][]Rule
}

// Placeholders of a fix or a consequence, and how the manual writes them.
var (
	placeholders = regexp.MustCompile(`\{([a-z]+)\}`)
	written      = regexp.MustCompile(`<[a-z]+>`)
)

// Code is a text whose placeholders are written as in the manual: <name>.
func Code(text string) string { return placeholders.ReplaceAllString(text, "<$1>") }

// Prose is Code with the placeholders that stand outside of code marked as code.
func Prose(text string) string {
	parts := strings.Split(Code(text), "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = written.ReplaceAllString(parts[i], "`$0`")
	}
	return strings.Join(parts, "`")
}

// Hold fails the test when the page does not list the rules as they are; with
// update it writes them there.
func (m Manual) Hold(t *testing.T, update bool) {
	t.Helper()
	if len(m.Headings) != len(m.Groups) {
		t.Fatalf("%d headings for %d groups", len(m.Headings), len(m.Groups))
	}
	var rules strings.Builder
	for i, g := range m.Groups {
		fmt.Fprintf(&rules, "### %s\n\n", m.Headings[i])
		for _, r := range g {
			fmt.Fprintf(&rules, "**%s** (%s, %s). %s\nConsequence: %s.\nFix: %s.\n\n", r.ID, r.Severity, r.On, r.Title, Prose(r.Consequence), r.Shown)
		}
	}
	path := filepath.Join("../../../docs", m.Page)
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- rules: written by go test -run TestManualHoldsTheRules -update -->\n\n", "<!-- end of the rules -->"
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the rules", path)
	}
	want := head + begin + rules.String() + end + tail
	switch {
	case update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	case want != string(page):
		t.Errorf("%s does not hold the rules as they are: run this test with -update", path)
	}
}

// ruleID is a rule's name in its right form.
var ruleID = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// Whole holds every rule to its form, and to a test that plants its trap.
func (m Manual) Whole(t *testing.T, planted func(id string) bool) {
	t.Helper()
	var seen []string
	for _, g := range m.Groups {
		for _, r := range g {
			switch {
			case !ruleID.MatchString(r.ID) || slices.Contains(seen, r.ID):
				t.Errorf("rule id %q is not well formed or not the only one", r.ID)
			case r.Consequence == "" || r.Fix == "" || !r.Whole || r.Severity != move.Loses && r.Severity != move.Warns:
				t.Errorf("rule %s is not whole", r.ID)
			case !strings.HasSuffix(r.Title, ".") || strings.HasSuffix(r.Fix, ".") || strings.HasSuffix(r.Consequence, "."):
				t.Errorf("rule %s: its title ends in a full stop, its consequence and its fix do not", r.ID)
			}
			seen = append(seen, r.ID)
			if !planted(r.ID) {
				t.Errorf("no test plants %s", r.ID)
			}
		}
	}
}

// Issues are those of a preflight, each of which must be whole; err is the preflight's.
func Issues(t *testing.T, issues []move.Issue, err error) []move.Issue {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range issues {
		if i.Object == "" || i.Consequence == "" || i.Fix == "" || strings.ContainsAny(i.Object+i.Consequence+i.Fix, "{}") {
			t.Errorf("issue %s is not whole: %+v", i.Rule, i)
		}
	}
	return issues
}

// Find is a rule's issue with an object, or with any where that is empty; nil is none.
func Find(issues []move.Issue, rule, object string) *move.Issue {
	for _, i := range issues {
		if i.Rule == rule && (object == "" || i.Object == object) {
			return &i
		}
	}
	return nil
}
