package landing

import (
	"fmt"
	"slices"
	"strings"
)

// Mermaid draws the graph in Mermaid's language: a box for each account and region,
// an arrow from each stack to those that take something of it.
func (g *Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	type box struct{ title string }
	var order []box
	boxes := map[box][]*Stack{}
	for _, s := range g.Stacks {
		k := box{fmt.Sprintf("%s, %s", s.Account, s.Region)}
		if boxes[k] == nil {
			order = append(order, k)
		}
		boxes[k] = append(boxes[k], s)
	}
	slices.SortFunc(order, func(a, b box) int { return strings.Compare(a.title, b.title) })
	for i, k := range order {
		fmt.Fprintf(&b, "  subgraph place%d[\"%s\"]\n", i+1, k.title)
		for _, s := range boxes[k] {
			shape := "[\"%s\"]"
			if s.Data {
				shape = "[(\"%s\")]"
			}
			fmt.Fprintf(&b, "    %s"+shape+"\n", nodeID(s.ID), s.ID)
		}
		b.WriteString("  end\n")
	}
	for _, s := range g.Stacks {
		for _, from := range s.After {
			fmt.Fprintf(&b, "  %s --> %s\n", nodeID(from), nodeID(s.ID))
		}
	}
	return b.String()
}

// nodeID is an id that Mermaid takes.
func nodeID(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, id)
}
