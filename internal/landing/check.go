package landing

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dhow/internal/region"
)

// Severity is how much a finding weighs.
type Severity string

// The severities. Nothing is created while there is an error.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNote    Severity = "note"
)

// Finding is something worth knowing before anything is created.
type Finding struct {
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	// Where is a stack, an account, a region or a template.
	Where string `json:"where"`
	Text  string `json:"text"`
	// Fix is what to do; empty where there is nothing to be done.
	Fix string `json:"fix,omitempty"`
}

// Failed says whether there is an error among findings.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == SeverityError })
}

func (g *Graph) find(severity Severity, rule, where, fix, format string, args ...any) {
	g.Findings = append(g.Findings, Finding{Severity: severity, Rule: rule, Where: where, Text: fmt.Sprintf(format, args...), Fix: fix})
}

// checkEstate refuses regions that do not exist, with the line that names them.
func (g *Graph) checkEstate(o Options) error {
	r := g.landing.Regions
	for _, k := range []struct{ key, name string }{{"main", r.Main}, {"dr", r.DR}, {"home", r.Home}} {
		if _, err := o.Regions.Lookup(k.name); err != nil {
			return g.landing.Wrong("regions."+k.key, "%v", err)
		}
	}
	return nil
}

// check looks for what would fail, of what is known without asking AWS.
func (g *Graph) check(o Options) {
	for _, name := range g.regions() {
		r, err := o.Regions.Lookup(name)
		if err != nil {
			continue // refused already
		}
		g.checkRegion(r)
	}
	edited := map[string]bool{}
	for _, s := range g.Stacks {
		here := s.resources()
		s.Resources = len(here)
		if r, err := o.Regions.Lookup(s.Region); err == nil {
			g.checkTypes(s, r, here)
			g.checkRules(s, here)
		}
		if s.template.Edited && !edited[s.Template] {
			edited[s.Template] = true
			g.find(SeverityNote, "own-template", s.Template, "", "is not dhow's own but %s", s.template.File)
		}
	}
	slices.SortStableFunc(g.Findings, func(a, b Finding) int { return rank(a.Severity) - rank(b.Severity) })
}

func rank(s Severity) int {
	return slices.Index([]Severity{SeverityError, SeverityWarning, SeverityNote}, s)
}

func (g *Graph) checkRegion(r *region.Region) {
	for _, n := range r.Notices {
		severity, fix := SeverityNote, ""
		if n.Severity == region.Leave {
			severity, fix = SeverityWarning, "choose another with `dhow regions --rank`, and change landing.regions"
		}
		g.find(severity, "region-notice", r.Name, fix, "notice of %s: %s", n.Date, n.Text)
	}
	if r.OptIn {
		g.find(SeverityNote, "region-opt-in", r.Name, "", "an account must opt in to it; `dhow deploy` looks whether each has")
	}
}

// checkTypes finds resources of types that the region does not offer.
func (g *Graph) checkTypes(s *Stack, r *region.Region, here []Resource) {
	types := make([]string, len(here))
	for i, h := range here {
		types[i] = h.Type
	}
	e := &evaluation{template: s.template, values: s.values()}
	for _, lacking := range r.Lacks(types...) {
		certain := slices.ContainsFunc(here, func(h Resource) bool { return h.Type == lacking && e.has(h) == yes })
		severity := SeverityWarning
		if certain {
			severity = SeverityError
		}
		var ids []string
		for _, h := range here {
			if h.Type == lacking {
				ids = append(ids, h.ID)
			}
		}
		fix := "choose another region, set the parameter that leaves it out, or leave the template out under landing.without"
		if s.Environment == Shared && s.Region == g.landing.Regions.Home {
			fix = "name a home region that has it, under landing.regions.home: `dhow regions --rank --type " + lacking + "` says which"
		}
		g.find(severity, "type-in-region", s.ID, fix,
			"%s does not offer %s, of which it has %s (known of %s)", r.Name, lacking, strings.Join(ids, ", "), r.Offer.Known())
	}
}

// managedRule is a managed rule of AWS Config in the template of a conformance pack.
var managedRule = regexp.MustCompile(`SourceIdentifier: ([A-Z][A-Z0-9_]*)`)

// lacksRules are the managed rules of one of a stack's conformance packs that its region
// does not have, which refuses the whole pack for one of them.
func (g *Graph) lacksRules(s *Stack, pack string) []string {
	r, err := g.catalog.Lookup(s.Region)
	at := slices.IndexFunc(s.template.Resources, func(r Resource) bool { return r.ID == pack })
	if err != nil || at < 0 {
		return nil
	}
	var rules []string
	for _, m := range managedRule.FindAllStringSubmatch(text(field(field(s.template.Resources[at].body, "Properties"), "TemplateBody")), -1) {
		rules = append(rules, m[1])
	}
	return r.LacksRules(rules...)
}

// checkRules finds conformance packs that the region refuses.
func (g *Graph) checkRules(s *Stack, here []Resource) {
	for _, h := range here {
		if h.Type != "AWS::Config::ConformancePack" {
			continue
		}
		if lacking := g.lacksRules(s, h.ID); len(lacking) > 0 {
			g.find(SeverityError, "rule-in-region", s.ID, "name another region, for home under landing.regions.home, or set the parameter that leaves the pack out",
				"%s does not have the managed rules %s of %s", s.Region, strings.Join(lacking, ", "), h.ID)
		}
	}
}
