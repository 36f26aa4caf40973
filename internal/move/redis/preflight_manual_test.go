package redis

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"dhow/internal/move"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight-redis.md")

const manual = "../../../docs/preflight-redis.md"

// headings of the rules' groups in the manual, in the order of groups.
var headings = []string{"The two ends", "The servers", "The stream of changes", "Rights and the fence"}

// placeholders are written as <name> in the manual.
var placeholders = regexp.MustCompile(`\{([a-z]+)\}`)

// settings are how a fix begins that is a command.
var settings = regexp.MustCompile(`^[A-Z]{3,} [A-Za-z-]+`)

// rulesText is the part of the manual that is made of the rules.
func rulesText() string {
	var b strings.Builder
	for i, g := range groups() {
		fmt.Fprintf(&b, "### %s\n\n", headings[i])
		for _, r := range g {
			on := map[where]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			fmt.Fprintf(&b, "**%s** (%s, %s). %s\nConsequence: %s.\nFix: %s.\n\n", r.id, r.severity, on, r.title, bare(r.consequence), fixText(r))
		}
	}
	return b.String()
}

// ownFixes are the fixes that a finding brings along.
var ownFixes = map[string]string{
	"missing-command": "`ACL SETUSER <user> +<command>`; or take `rename-command` for it out of the server's configuration, and restart it",
	"cluster":         "move it with tools of its own (`valkey-cli --cluster import`, or the provider's migration), and leave it out of the estate",
}

// fixText is a rule's fix as the manual shows it: commands as code.
func fixText(r rule) string {
	if own, is := ownFixes[r.id]; is {
		return own
	}
	command, remark, more := strings.Cut(r.fix, "; ")
	if !settings.MatchString(command) || strings.ContainsAny(command, ",") || strings.Contains(command, " at ") || strings.Contains(command, " on ") {
		return bare(r.fix)
	}
	text := "`" + placeholders.ReplaceAllString(command, "<$1>") + "`"
	if more {
		text += "; " + bare(remark)
	}
	return text
}

// bare marks what stands for something in plain text.
func bare(text string) string {
	return regexp.MustCompile(`<[a-z]+>`).ReplaceAllString(placeholders.ReplaceAllString(text, "<$1>"), "`$0`")
}

// TestManualHoldsTheRules holds docs/preflight-redis.md and the rules together.
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
		t.Errorf("%s does not hold the rules as they are: run go test ./internal/move/redis -run TestManualHoldsTheRules -update", manual)
	}
}

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range groups() {
		for _, r := range g {
			if seen[r.id] {
				t.Errorf("rule %s is there twice", r.id)
			}
			seen[r.id] = true
			if r.consequence == "" || r.fix == "" || r.find == nil || !strings.HasSuffix(r.title, ".") || strings.HasSuffix(r.consequence, ".") || strings.HasSuffix(r.fix, ".") {
				t.Errorf("rule %s is not whole", r.id)
			}
			if r.severity != move.Loses && r.severity != move.Warns {
				t.Errorf("rule %s has severity %q", r.id, r.severity)
			}
			if !planted[r.id] {
				t.Errorf("no test plants the trap of rule %s", r.id)
			}
		}
	}
	for id := range planted {
		if !seen[id] {
			t.Errorf("a test plants %s, and there is no such rule", id)
		}
	}
}
