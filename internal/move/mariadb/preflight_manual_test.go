package mariadb

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dhow/internal/move"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight-mariadb.md")

const manual = "../../../docs/preflight-mariadb.md"

// headings of the rules' groups in the manual, in the order of groups.
var headings = []string{"The two ends", "The servers", "What else goes on", "Rights and accounts", "Tables", "Other objects"}

var (
	// placeholders are written as <name> in the manual.
	placeholders    = regexp.MustCompile(`\{([a-z]+)\}`)
	placeholdersOut = regexp.MustCompile(`<[a-z]+>`)
	// statement is how a fix begins that is one.
	statement = regexp.MustCompile(`^[A-Z]{3,} `)
)

// rulesText is the part of the manual that is made of the rules.
func rulesText() string {
	var b strings.Builder
	for i, g := range groups() {
		fmt.Fprintf(&b, "### %s\n\n", headings[i])
		for _, r := range g {
			where := map[place]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			fmt.Fprintf(&b, "**%s** (%s, %s). %s\nConsequence: %s.\nFix: %s\n\n", r.id, r.severity, where, r.title, bare(placeholders.ReplaceAllString(r.consequence, "<$1>")), fixText(r))
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
		return "`" + sql + "`; " + bare(remark) + "."
	}
	if statement.MatchString(fix) {
		return "`" + fix + "`."
	}
	return bare(fix) + "."
}

// bare marks placeholders that stand outside of code.
func bare(text string) string {
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = placeholdersOut.ReplaceAllString(parts[i], "`$0`")
	}
	return strings.Join(parts, "`")
}

// TestManualHoldsTheRules holds docs/preflight-mariadb.md and the rules together.
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
		t.Errorf("%s does not hold the rules as they are: run go test ./internal/move/mariadb -run TestManualHoldsTheRules -update", manual)
	}
}

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	if len(headings) != len(groups()) {
		t.Fatalf("%d headings for %d groups", len(headings), len(groups()))
	}
	planted, err := os.ReadFile("preflight_integration_test.go")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	var seen []string
	for _, g := range groups() {
		for _, r := range g {
			switch {
			case !id.MatchString(r.id) || slices.Contains(seen, r.id):
				t.Errorf("rule id %q is not well formed or not the only one", r.id)
			case r.title == "" || r.consequence == "" || r.fix == "" || r.find == nil || r.severity != move.Loses && r.severity != move.Warns:
				t.Errorf("rule %s is not whole", r.id)
			case strings.HasSuffix(r.fix, ".") || strings.HasSuffix(r.consequence, "."):
				t.Errorf("rule %s ends in a full stop", r.id)
			}
			seen = append(seen, r.id)
			if !strings.Contains(string(planted), `"`+r.id+`"`) {
				t.Errorf("no test plants %s", r.id)
			}
		}
	}
}

// TestRights reads what SHOW GRANTS prints.
func TestRights(t *testing.T) {
	r := rights{global: map[string]bool{}, on: map[string]map[string]bool{}}
	for _, line := range []string{
		"GRANT PROCESS, REPLICATION CLIENT, REPLICA MONITOR ON *.* TO `m`@`%` IDENTIFIED BY PASSWORD '*X' WITH GRANT OPTION",
		"GRANT SELECT, LOCK TABLES ON `a\\_b`.* TO `m`@`%`",
		"GRANT ALL PRIVILEGES ON `we``ird`.* TO `m`@`%`",
		"GRANT INSERT ON `a_b`.`t` TO `m`@`%`",
		"GRANT `role` TO `m`@`%`",
		"SET DEFAULT ROLE `role` FOR `m`@`%`",
	} {
		r.add(line)
	}
	for _, c := range []struct {
		name, database string
		want           bool
	}{{"PROCESS", "", true}, {"BINLOG MONITOR", "", true}, {"SLAVE MONITOR", "", true}, {"SUPER", "", false}, {"SELECT", "a_b", true}, {"SELECT", "axb", false}, {"INSERT", "a_b", false}, {"DROP", "we`ird", true}, {"DROP", "other", false}} {
		if got := c.database == "" && r.has(c.name) || c.database != "" && r.hasOn(c.name, c.database); got != c.want {
			t.Errorf("%s on %q: %v", c.name, c.database, got)
		}
	}
	r.global["SUPER"] = true
	if !r.admin("BINLOG ADMIN", serverVersion{10, 6}, beforeEleven) || r.admin("BINLOG ADMIN", serverVersion{11, 4}, beforeEleven) {
		t.Error("SUPER stands for what it was split into before 11.0, and not from then on")
	}
}

func TestKnownCollation(t *testing.T) {
	known := map[string]bool{"utf8mb4_bin": true, "utf8_general_ci": true, "uca1400_ai_ci": true}
	for name, want := range map[string]bool{"utf8mb4_bin": true, "utf8mb3_general_ci": true, "utf8_general_ci": true, "utf8mb4_uca1400_ai_ci": true, "utf8mb4_0900_ai_ci": false, "latin1_swedish_ci": false} {
		if knownCollation(known, name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}

func TestGTIDDomains(t *testing.T) {
	got := gtidDomains("0-1-27,7-3-18446744073709551615, 12-3-x,,1-2")
	if len(got) != 2 || got["0"] != 27 || got["7"] != 18446744073709551615 {
		t.Errorf("%v", got)
	}
}
