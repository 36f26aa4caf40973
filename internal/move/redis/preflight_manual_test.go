package redis

import (
	"flag"
	"regexp"
	"strings"
	"testing"

	"dhow/internal/move/movetest"
)

var updateManual = flag.Bool("update", false, "write the rules into docs/preflight-redis.md")

// manual is the page that lists the rules.
func manual() movetest.Manual {
	m := movetest.Manual{Page: "preflight-redis.md", Headings: []string{"The two ends", "The servers", "The stream of changes", "Rights and the fence"}}
	for _, g := range groups() {
		var rules []movetest.Rule
		for _, r := range g {
			on := map[where]string{onSource: "source", onTarget: "target", onEither: "both"}[r.on]
			rules = append(rules, movetest.Rule{ID: r.id, Severity: r.severity, On: on, Title: r.title, Consequence: r.consequence, Fix: r.fix, Shown: fixText(r), Whole: r.find != nil})
		}
		m.Groups = append(m.Groups, rules)
	}
	return m
}

// ownFixes are the fixes that a finding brings along.
var ownFixes = map[string]string{
	"missing-command": "`ACL SETUSER <user> +<command>`; or take `rename-command` for it out of the server's configuration, and restart it",
	"cluster":         "move it with tools of its own (`valkey-cli --cluster import`, or the provider's migration), and leave it out of the estate",
}

// settings are how a fix begins that is a command.
var settings = regexp.MustCompile(`^[A-Z]{3,} [A-Za-z-]+`)

// fixText is a rule's fix as the manual shows it: commands as code.
func fixText(r rule) string {
	if own, is := ownFixes[r.id]; is {
		return own
	}
	command, remark, more := strings.Cut(r.fix, "; ")
	if !settings.MatchString(command) || strings.ContainsAny(command, ",") || strings.Contains(command, " at ") || strings.Contains(command, " on ") {
		return movetest.Prose(r.fix)
	}
	text := "`" + movetest.Code(command) + "`"
	if more {
		text += "; " + movetest.Prose(remark)
	}
	return text
}

// TestManualHoldsTheRules holds docs/preflight-redis.md and the rules together.
func TestManualHoldsTheRules(t *testing.T) { manual().Hold(t, *updateManual) }

// TestRulesAreWhole holds every rule to its form, and to a test that plants it.
func TestRulesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	manual().Whole(t, func(id string) bool { seen[id] = true; return planted[id] })
	for id := range planted {
		if !seen[id] {
			t.Errorf("a test plants %s, and there is no such rule", id)
		}
	}
}
