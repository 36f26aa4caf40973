// Package landing turns an estate's landing zone into stacks of CloudFormation and
// brings them to AWS: which template is deployed how often and where, which output
// feeds which parameter, what would change, and then the change itself, in parallel
// along that graph. The templates say what is built; nothing here knows a resource
// but by its type. There is no state beside CloudFormation's own, so a run that was
// cut off is simply begun again.
package landing

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/estate"
	"dhow/internal/region"
)

// Shared is the environment of stacks that no environment has to itself.
const Shared = "shared"

// Options are what a graph is made of, beside the estate.
type Options struct {
	Estate  *estate.Estate
	Library Library
	Regions *region.Catalog
}

// Graph is an estate's stacks, and what leads from one to another. It is not changed
// after New, and the same input gives the same graph.
type Graph struct {
	Application string `json:"application"`
	// Stacks are in an order in which each comes after those that it needs.
	Stacks []*Stack `json:"stacks"`
	// Findings are what is worth knowing before anything is created.
	Findings []Finding `json:"findings"`

	landing *estate.Landing
	catalog *region.Catalog
	byID    map[string]*Stack
}

// Stack is one template in one place.
type Stack struct {
	// ID names it here, as dev/network.
	ID string `json:"id"`
	// Name is CloudFormation's name of it, unique in its account and region.
	Name     string         `json:"name"`
	Template string         `json:"template"`
	Account  estate.Account `json:"account"`
	// Number is the account's; empty while the account is still to be made.
	Number      string `json:"number,omitempty"`
	Region      string `json:"region"`
	Environment string `json:"environment"`
	Service     string `json:"service,omitempty"`
	// Resources is how many it has, as far as its conditions are known.
	Resources int     `json:"resources"`
	Inputs    []Input `json:"inputs,omitempty"`
	// After are the ids of the stacks that it needs, sorted.
	After []string `json:"after,omitempty"`
	// Data says that it holds data: it is not destroyed, nor are those that it needs,
	// but by its own name.
	Data bool `json:"data,omitempty"`

	template *Template
	tags     map[string]string
}

// The kinds of inputs, by where their value is from.
const (
	FromEstate  = "estate"  // the estate's parameters
	FromPlace   = "place"   // where the stack stands: names, regions, accounts, networks
	FromOutput  = "output"  // another stack
	FromDefault = "default" // the template
)

// Input is a parameter of a stack and its value.
type Input struct {
	Parameter string `json:"parameter"`
	Kind      string `json:"kind"`
	// Value is empty for an output that nobody knows yet, and for what is not to be shown.
	Value string `json:"value,omitempty"`
	// Stack and Output are where the value of an output is from.
	Stack  string `json:"stack,omitempty"`
	Output string `json:"output,omitempty"`
	// Hidden says that the template does not want it shown.
	Hidden bool `json:"hidden,omitempty"`
}

// MarshalJSON leaves out a value that is not to be shown.
func (i Input) MarshalJSON() ([]byte, error) {
	type shown Input
	if i.Hidden {
		i.Value = ""
	}
	return json.Marshal(shown(i))
}

// New makes the graph of an estate. An error tells all that is wrong at once: cycles,
// inputs that nothing gives, templates and regions that do not exist.
func New(o Options) (*Graph, error) {
	if o.Estate.Landing == nil {
		return nil, &estate.Invalid{File: o.Estate.File, Problems: []estate.Problem{{Line: 1, Column: 1, Path: "landing", Text: "is missing: add the accounts, the regions and the environments of the landing zone; see docs/estate.md"}}}
	}
	g := &Graph{Application: o.Estate.Landing.Application, landing: o.Estate.Landing, catalog: o.Regions, byID: map[string]*Stack{}}
	if err := g.checkEstate(o); err != nil {
		return nil, err
	}
	if err := g.place(o); err != nil {
		return nil, err
	}
	if err := errors.Join(g.wire()...); err != nil {
		return nil, err
	}
	if err := g.order(); err != nil {
		return nil, err
	}
	g.check(o)
	return g, nil
}

// Stack is the stack of an id; nil where there is none.
func (g *Graph) Stack(id string) *Stack { return g.byID[id] }

// Critical is the longest way through the graph by a weight, from a stack that needs
// none on, and how long it is.
func Critical[W int | int64 | float64](g *Graph, weight func(*Stack) W) (path []*Stack, length W) {
	longest := make(map[string]W, len(g.Stacks))
	before := make(map[string]string, len(g.Stacks))
	last := ""
	for _, s := range g.Stacks {
		var above W
		for _, id := range s.After {
			if n := longest[id]; n > above {
				above, before[s.ID] = n, id
			}
		}
		longest[s.ID] = above + weight(s)
		if longest[s.ID] > length {
			length, last = longest[s.ID], s.ID
		}
	}
	for id := last; id != ""; id = before[id] {
		path = append(path, g.byID[id])
	}
	slices.Reverse(path)
	return path, length
}

// order sorts the stacks so that each comes after those that it needs, and else by
// id. A cycle is an error that names its stacks and what leads from one to the next.
func (g *Graph) order() error {
	slices.SortFunc(g.Stacks, func(a, b *Stack) int { return strings.Compare(a.ID, b.ID) })
	done := make(map[string]bool, len(g.Stacks))
	sorted := make([]*Stack, 0, len(g.Stacks))
	for len(sorted) < len(g.Stacks) {
		n := len(sorted)
		for _, s := range g.Stacks {
			if !done[s.ID] && !slices.ContainsFunc(s.After, func(id string) bool { return !done[id] }) {
				done[s.ID] = true
				sorted = append(sorted, s)
			}
		}
		if len(sorted) == n {
			return g.cycle(done)
		}
	}
	g.Stacks = sorted
	return nil
}

// cycle tells one of the cycles among the stacks that are not done.
func (g *Graph) cycle(done map[string]bool) error {
	var at *Stack
	for _, s := range g.Stacks {
		if !done[s.ID] {
			at = s
			break
		}
	}
	var way []string
	seen := map[string]int{}
	for {
		if first, again := seen[at.ID]; again {
			return fmt.Errorf("stacks wait for each other: %s: set one of these parameters in the estate, under landing.parameters, or leave a template out", strings.Join(way[first:], ", "))
		}
		seen[at.ID] = len(way)
		for _, in := range at.Inputs {
			if in.Stack != "" && !done[in.Stack] {
				way = append(way, fmt.Sprintf("%s takes %s of %s", at.ID, in.Parameter, in.Stack))
				at = g.byID[in.Stack]
				break
			}
		}
		if len(way) == seen[at.ID] { // it waits for an account, which no input tells
			way = append(way, at.ID+" stands in an account that the template organization makes")
			at = g.byID[organizationID]
		}
	}
}
