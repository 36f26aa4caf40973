// Package assess says what is wrong with what an inventory holds: findings, each with the
// rule that made it, the place where it stands, the facts that prove it, why it hurts and
// what mends it. It also says which pods can be reached from outside, and by which path.
//
// A rule is one entry of a table and looks at the whole inventory, never at a pair of
// objects for each pair there is: a hundred thousand objects are read in seconds.
// The same inventory gives the same findings in the same order.
package assess

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/inventory"
)

// Options say how to assess; the zero value will do.
type Options struct {
	// Suppressions are findings that somebody has taken responsibility for, until a day.
	Suppressions *Suppressions
	// Preflights are what movers found, where an estate names databases: each issue is a finding.
	Preflights []Preflight
	// Now is the day by which suppressions end; its zero value is today.
	Now time.Time
}

// Report is all that was found.
type Report struct {
	// Findings are sorted by severity, the worst first, then by rule and place.
	Findings []Finding `json:"findings"`
	// Suppressed are those that somebody has taken responsibility for.
	Suppressed []Suppressed `json:"suppressed,omitempty"`
	// Exposures are the paths from outside to pods.
	Exposures []Exposure `json:"exposures,omitempty"`
	// Problems are what the inventory could not read or found strange, Partial that
	// something was lost by it.
	Problems []inventory.Problem `json:"problems,omitempty"`
	Partial  bool                `json:"partial"`
	// Objects and Workloads are how many there are; Rules how many rules looked at them.
	Objects   int `json:"objects"`
	Workloads int `json:"workloads"`
	Rules     int `json:"rules"`
	// Databases are those that the inventory found, with what they answered if they were asked.
	Databases []inventory.Database `json:"databases,omitempty"`
	// Cluster is the cluster's, nil unless one was read.
	Cluster *inventory.Cluster `json:"cluster,omitempty"`
}

// Assess runs all rules over an inventory, which it does not change. The error is ctx's.
func Assess(ctx context.Context, inv *inventory.Inventory, o Options) (*Report, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	shared := newLookup(inv)
	all := table()
	found := make([][]Finding, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for n := range all {
		r := &all[n]
		if r.check == nil || r.Live && inv.Cluster == nil {
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := &pass{lookup: shared, rule: r}
			r.check(p)
			for i := range p.found {
				p.found[i].settle(shared)
			}
			sortFindings(p.found)
			found[n] = p.found
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("assess the inventory: %w", err)
	}
	for _, all := range preflightFindings(o.Preflights) {
		for i := range all {
			all[i].settle(shared)
		}
		sortFindings(all)
		found = append(found, all)
	}
	// Each rule's are sorted, and the rule comes first in the order of all.
	slices.SortFunc(found, func(a, b []Finding) int {
		if len(a) == 0 || len(b) == 0 {
			return cmp.Compare(len(a), len(b))
		}
		return compareRules(a[0].Rule, b[0].Rule)
	})
	report := &Report{Findings: slices.Concat(found...), Exposures: shared.graph.Exposures, Problems: inv.Problems, Partial: inv.Partial,
		Objects: len(inv.Objects), Workloads: len(inv.Workloads), Rules: len(all), Databases: inv.Databases, Cluster: inv.Cluster}
	report.number()
	if o.Suppressions != nil {
		o.Suppressions.apply(report, o.Now)
		sortFindings(report.Findings) // with what is wrong with suppressions
	}
	return report, nil
}

func sortFindings(all []Finding) { slices.SortFunc(all, compareFindings) }

func compareFindings(a, b Finding) int {
	return cmp.Or(compareRules(a.Rule, b.Rule), compareRefs(a.Object, b.Object),
		strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Path, b.Path), slices.Compare(a.Evidence, b.Evidence))
}

func compareRules(a, b *Rule) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID))
}

func compareRefs(a, b inventory.Ref) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Group, b.Group))
}

// Count is how many findings have at least a severity.
func (r *Report) Count(least Severity) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Rule.Severity >= least {
			n++
		}
	}
	return n
}

// pass is one rule at its work.
type pass struct {
	*lookup
	rule  *Rule
	found []Finding
}

// at notes a finding at a field of an object. The answer may be changed until the next one.
func (p *pass) at(o *inventory.Object, path string, evidence ...string) *Finding {
	p.found = append(p.found, Finding{Rule: p.rule, Object: o.Ref, Path: path, Evidence: evidence, object: o})
	return &p.found[len(p.found)-1]
}

// on notes a finding at a field of an object by its name, if it is in the inventory.
func (p *pass) on(r inventory.Ref, path string, evidence ...string) *Finding {
	if o := p.inv.Get(r); o != nil {
		return p.at(o, path, evidence...)
	}
	p.found = append(p.found, Finding{Rule: p.rule, Object: r, Path: path, Evidence: evidence})
	return &p.found[len(p.found)-1]
}

// in notes a finding in a file that is not of Kubernetes.
func (p *pass) in(file string, line int, evidence ...string) *Finding {
	p.found = append(p.found, Finding{Rule: p.rule, File: file, Line: line, Evidence: evidence})
	return &p.found[len(p.found)-1]
}
