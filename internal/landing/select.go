package landing

import (
	"fmt"
	"slices"
	"strings"
)

// Selection is which stacks are meant; empty means all.
type Selection struct {
	// Only are ids of stacks or names of templates.
	Only []string
	// Environments are names of environments, shared among them.
	Environments []string
	// Regions are names of regions.
	Regions []string
}

// Select are the stacks that are meant, in the graph's order. A name that nothing has
// is an error.
func (g *Graph) Select(sel Selection) ([]*Stack, error) {
	for _, name := range sel.Only {
		if !slices.ContainsFunc(g.Stacks, func(s *Stack) bool { return s.is(name) }) {
			return nil, fmt.Errorf("there is no stack and no template %q here: want one of %s", name, strings.Join(g.ids(), ", "))
		}
	}
	for _, name := range sel.Environments {
		if name != Shared && g.landing.Environment(name) == nil {
			var known []string
			for _, e := range g.landing.Environments {
				known = append(known, e.Name)
			}
			return nil, fmt.Errorf("there is no environment %q in the estate: want %s or %s", name, strings.Join(known, ", "), Shared)
		}
	}
	for _, name := range sel.Regions {
		if known := g.regions(); !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no region %q in the estate: want %s", name, strings.Join(known, ", "))
		}
	}
	among := func(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	var meant []*Stack
	for _, s := range g.Stacks {
		if (len(sel.Only) == 0 || slices.ContainsFunc(sel.Only, s.is)) && among(sel.Environments, s.Environment) && among(sel.Regions, s.Region) {
			meant = append(meant, s)
		}
	}
	if len(meant) == 0 {
		var of []string
		for _, names := range [][]string{sel.Only, sel.Environments, sel.Regions} {
			if len(names) > 0 {
				of = append(of, strings.Join(names, " or "))
			}
		}
		return nil, fmt.Errorf("no stack is of %s at once", strings.Join(of, " and of "))
	}
	return meant, nil
}

// is says whether a name means the stack: its id, or its template's name.
func (s *Stack) is(name string) bool { return s.ID == name || s.Template == name }

func (g *Graph) ids() []string {
	ids := make([]string, len(g.Stacks))
	for i, s := range g.Stacks {
		ids[i] = s.ID
	}
	return ids
}

// Needed are stacks and all that they need, in the graph's order.
func (g *Graph) Needed(meant []*Stack) []*Stack {
	needed := map[string]bool{}
	for _, s := range meant {
		needed[s.ID] = true
	}
	for _, s := range slices.Backward(g.Stacks) {
		if needed[s.ID] {
			for _, id := range s.After {
				needed[id] = true
			}
		}
	}
	var all []*Stack
	for _, s := range g.Stacks {
		if needed[s.ID] {
			all = append(all, s)
		}
	}
	return all
}
