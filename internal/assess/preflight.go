package assess

import (
	"slices"
	"strings"

	"dhow/internal/estate"
	"dhow/internal/move"
)

// Preflight is what the mover of one database found before the move.
type Preflight struct {
	// Database is its name in the estate, File the estate's.
	Database string
	Engine   estate.Engine
	File     string
	Issues   []move.Issue
}

// preflightPrefix begins the ids of rules that are movers'.
const preflightPrefix = "preflight-"

// preflightRule is the rule of an issue: preflight-ENGINE-RULE. What it says of the object is
// the finding's own.
func preflightRule(engine estate.Engine, issue *move.Issue) *Rule {
	r := &Rule{ID: preflightPrefix + string(engine) + "-" + issue.Rule, Group: GroupData, Severity: Medium,
		Title: "The preflight of " + engineTitle(engine) + " finds " + issue.Rule + ".",
		Why:   "It costs time during the move, or somebody must look after it.", Fix: "See the statement of each place, and the rule in the manual's page of the preflight.", ordered: true}
	if issue.Severity == move.Loses {
		r.Severity, r.Why = High, "The move would stop, or data would be lost."
	}
	return r
}

func engineTitle(e estate.Engine) string {
	switch e {
	case estate.PostgreSQL:
		return "PostgreSQL"
	case estate.MariaDB:
		return "MariaDB"
	case estate.Redis:
		return "Redis"
	}
	return string(e)
}

// preflightFindings are the issues as findings, those of each rule together.
func preflightFindings(all []Preflight) [][]Finding {
	rules := map[string]*pass{}
	for i := range all {
		p := &all[i]
		for n := range p.Issues {
			issue := &p.Issues[n]
			r := preflightRule(p.Engine, issue)
			// One rule may be graver for one object than for another.
			key := r.ID + r.Severity.String()
			if rules[key] == nil {
				rules[key] = &pass{rule: r}
			}
			f := rules[key].in(p.File, 0, "database "+p.Database+", "+issue.Side+": "+issue.Object, issue.Consequence)
			f.Fix = strings.TrimSpace(issue.Fix)
			f.about(p.Database + "\x00" + issue.Side + "\x00" + issue.Object)
		}
	}
	var found [][]Finding
	for _, p := range rules {
		found = append(found, p.found)
	}
	// In a fixed order, for they are numbered by it.
	slices.SortFunc(found, func(a, b []Finding) int { return compareRules(a[0].Rule, b[0].Rule) })
	return found
}
