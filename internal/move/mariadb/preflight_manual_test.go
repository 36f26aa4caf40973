package mariadb

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"dhow/internal/move/movetest"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight-mariadb.md")

// manual is the page that lists the rules.
func manual() movetest.Manual {
	m := movetest.Manual{Page: "preflight-mariadb.md", Headings: []string{"The two ends", "The servers", "What else goes on", "Rights and accounts", "Tables", "Other objects"}}
	for _, g := range groups() {
		var rules []movetest.Rule
		for _, r := range g {
			on := map[place]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			rules = append(rules, movetest.Rule{ID: r.id, Severity: r.severity, On: on, Title: r.title, Consequence: r.consequence, Fix: r.fix, Shown: fixText(r), Whole: r.find != nil})
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
	if statement.MatchString(r.fix) {
		return "`" + movetest.Code(r.fix) + "`"
	}
	return movetest.Prose(r.fix)
}

// TestManualHoldsTheRules holds docs/preflight-mariadb.md and the rules together.
func TestManualHoldsTheRules(t *testing.T) { manual().Hold(t, *updateManual) }

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	planted, err := os.ReadFile("preflight_integration_test.go")
	if err != nil {
		t.Fatal(err)
	}
	manual().Whole(t, func(id string) bool { return strings.Contains(string(planted), `"`+id+`"`) })
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
