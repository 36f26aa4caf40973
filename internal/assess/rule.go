package assess

import "slices"

// Group is what a rule is about.
type Group string

// The groups.
const (
	GroupExposure      Group = "exposure"
	GroupLoadBalancing Group = "load-balancing"
	GroupConfiguration Group = "configuration"
	GroupRollout       Group = "rollout"
	GroupSecurity      Group = "security"
	GroupEfficiency    Group = "efficiency"
	GroupPortability   Group = "portability"
	GroupData          Group = "data"
)

// Groups are all, in the order in which they are told.
func Groups() []Group {
	return []Group{GroupExposure, GroupLoadBalancing, GroupConfiguration, GroupRollout, GroupSecurity, GroupEfficiency, GroupPortability, GroupData}
}

// Rule is one thing that may be wrong.
type Rule struct {
	// ID is lower case with hyphens, and never changes.
	ID       string
	Group    Group
	Severity Severity
	// Title is what is wrong, Why what it costs, Fix what mends it: sentences.
	Title string
	Why   string
	Fix   string
	// Live says that only a running cluster shows it.
	Live bool

	// ordered says that the evidence is a path and keeps its order.
	ordered bool
	check   func(*pass)
}

// table are all rules, by group and then as they stand.
func table() []Rule {
	return slices.Concat(exposureRules(), balancingRules(), configurationRules(), rolloutRules(), securityRules(), efficiencyRules(), portabilityRules(), dataRules())
}

// Rules are all rules, by group and then by importance.
func Rules() []Rule { return table() }

// RuleOf is the rule with an id, nil if there is none.
func RuleOf(id string) *Rule {
	for _, r := range table() {
		if r.ID == id {
			return &r
		}
	}
	return nil
}
