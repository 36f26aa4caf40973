package stacks

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The drawing's measures, in the SVG's units.
const (
	boxWidth   = 220
	lineHeight = 15
	boxHead    = 24
	boxFoot    = 8
	gapAcross  = 56
	gapDown    = 20
	margin     = 20
	// columns are those of a template's own boxes, between what is taken and what is given.
	columns = 3
	// mostLetters is the longest name that a box takes.
	mostLetters = 32
)

// box is a service of the template with its resources, or another stack with what it
// gives or takes.
type box struct {
	title, class string
	lines        []string
	column       int
	x, y, height int
}

// drawing is a template as an SVG: the stacks it takes from at the left, its resources
// by service in the order in which they are made, and the stacks that take from it at
// the right.
func drawing(of *template, all map[string]*template) string {
	p := draw(of, all)
	width, height := 0, 0
	for _, b := range p.boxes {
		width, height = max(width, b.x+boxWidth+margin), max(height, b.y+b.height+margin)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="t">
  <title id="t">The stack %s: its resources by service, what it takes from other stacks and what it gives</title>
  <style>
    .stack { fill: #f4efe6; stroke: #8a7a5c; } .ours { fill: #dcebf0; stroke: #12607a; } .box { stroke-width: 1.5; }
    .inner { fill: none; stroke: #12607a; stroke-width: 1.2; opacity: .55; } .wire { fill: none; stroke: #d97a1d; stroke-width: 1.4; opacity: .75; }
    text { fill: #1d2b33; } .h { font-weight: 600; font-size: 13px; }
  </style>
  <defs>
    <marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" fill="#12607a"/></marker>
    <marker id="b" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" fill="#d97a1d"/></marker>
  </defs>
  <rect width="%d" height="%d" rx="10" fill="#fffdf9"/>
`, width, height, of.name, width, height)
	for _, e := range p.edges {
		s.WriteString("  " + curve(p.boxes[e[0]], p.boxes[e[1]]) + "\n")
	}
	for _, b := range p.boxes {
		fmt.Fprintf(&s, "  <rect class=\"box %s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/><text class=\"h\" x=\"%d\" y=\"%d\">%s</text>\n", b.class, b.x, b.y, boxWidth, b.height, b.x+10, b.y+17, b.title)
		for i, line := range b.lines {
			fmt.Fprintf(&s, "  <text x=\"%d\" y=\"%d\">%s</text>\n", b.x+10, b.y+boxHead+lineHeight*i+11, shortened(line))
		}
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func shortened(name string) string {
	if len(name) > mostLetters {
		return name[:mostLetters-1] + "…"
	}
	return name
}

// curve is the line between two boxes, from side to side.
func curve(from, to *box) string {
	class, end := "inner", "a"
	if from.class == "stack" || to.class == "stack" {
		class, end = "wire", "b"
	}
	x1, y1, x2, y2, bend := from.x+boxWidth, from.y+from.height/2, to.x, to.y+to.height/2, gapAcross/2
	switch {
	case from.column == to.column: // out and in at the same side
		x2 = to.x + boxWidth
		return fmt.Sprintf(`<path class="%s" marker-end="url(#%s)" d="M%d %dC%d %d %d %d %d %d"/>`, class, end, x1, y1, x1+bend, y1, x2+bend, y2, x2, y2)
	case from.column > to.column:
		x1, x2, bend = from.x, to.x+boxWidth, -bend
	}
	return fmt.Sprintf(`<path class="%s" marker-end="url(#%s)" d="M%d %dC%d %d %d %d %d %d"/>`, class, end, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
}

type plan struct {
	boxes []*box
	edges [][2]int
}

// draw decides which boxes there are, where they stand, and what leads to what.
func draw(of *template, all map[string]*template) *plan {
	p := &plan{}
	index := map[string]int{}
	add := func(key string, b *box) int {
		i, there := index[key]
		if !there {
			i = len(p.boxes)
			index[key] = i
			p.boxes = append(p.boxes, b)
		}
		return i
	}
	seen := map[[2]int]bool{}
	link := func(from, to int) {
		if e := [2]int{from, to}; from != to && !seen[e] {
			seen[e] = true
			p.edges = append(p.edges, e)
		}
	}
	resources := of.resources()
	depth := depths(resources)
	service := map[string]int{}
	for _, name := range services(resources, depth) {
		i := add("service "+name, &box{title: name, class: "ours"})
		for _, id := range sortedKeys(resources) {
			if serviceOf(resources[id]) == name {
				service[id] = i
				p.boxes[i].lines = append(p.boxes[i].lines, id)
			}
		}
	}
	for i, b := range p.boxes {
		b.column = 1 + i*min(columns, len(p.boxes))/len(p.boxes)
	}
	for _, name := range sortedKeys(of.section("Parameters")) {
		for _, giver := range givers(of.name, name, all) {
			i := add("from "+giver, &box{title: giver, class: "stack"})
			if !slices.Contains(p.boxes[i].lines, name) {
				p.boxes[i].lines = append(p.boxes[i].lines, name)
			}
			for _, id := range sortedKeys(resources) {
				if slices.Contains(references(resources[id]), name) {
					link(i, service[id])
				}
			}
		}
	}
	for _, id := range sortedKeys(resources) {
		for _, other := range needs(resources, id) {
			link(service[other], service[id])
		}
	}
	for _, name := range sortedKeys(of.section("Outputs")) {
		for _, taker := range takers(of.name, name, all) {
			i := add("to "+taker, &box{title: taker, class: "stack", column: columns + 1})
			p.boxes[i].lines = append(p.boxes[i].lines, name)
			for _, ref := range references(of.section("Outputs")[name]) {
				if from, ok := service[ref]; ok {
					link(from, i)
				}
			}
		}
	}
	p.stand()
	return p
}

// stand gives each box its place: columns from the left, each as tall as what is in
// it, and none where there is nothing.
func (p *plan) stand() {
	x := margin
	for column := range columns + 2 {
		y, used := margin, false
		for _, b := range p.boxes {
			if b.column != column {
				continue
			}
			b.height = boxHead + lineHeight*len(b.lines) + boxFoot
			b.x, b.y, used = x, y, true
			y += b.height + gapDown
		}
		if used {
			x += boxWidth + gapAcross
		}
	}
}

// needs are the resources that one refers to or waits for.
func needs(resources map[string]map[string]any, id string) []string {
	found := references(resources[id])
	for _, d := range asList(resources[id]["DependsOn"]) {
		found = append(found, asString(d))
	}
	found = slices.DeleteFunc(found, func(other string) bool { return resources[other] == nil || other == id })
	slices.Sort(found)
	return slices.Compact(found)
}

// depths are how many resources must be there before each, one after the other.
func depths(resources map[string]map[string]any) map[string]int {
	depth := map[string]int{}
	var of func(id string) int
	of = func(id string) int {
		if d, known := depth[id]; known {
			return d
		}
		depth[id] = 0 // a circle, which cfn-lint refuses, ends here
		d := 0
		for _, other := range needs(resources, id) {
			d = max(d, of(other)+1)
		}
		depth[id] = d
		return d
	}
	for id := range resources {
		of(id)
	}
	return depth
}

func serviceOf(r map[string]any) string {
	_, rest, _ := strings.Cut(asString(r["Type"]), "::")
	name, _, _ := strings.Cut(rest, "::")
	return cmp.Or(name, "Custom")
}

// services are those of the resources, first those that are made first.
func services(resources map[string]map[string]any, depth map[string]int) []string {
	sum, count := map[string]int{}, map[string]int{}
	for id, r := range resources {
		s := serviceOf(r)
		sum[s] += depth[id]
		count[s]++
	}
	names := sortedKeys(sum)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(sum[a]*count[b], sum[b]*count[a]) })
	return names
}

// TestDrawing: every drawing is sound, shows every resource, and its boxes do not lie
// upon each other.
func TestDrawing(t *testing.T) {
	all := map[string]*template{}
	for _, name := range Names() {
		all[name] = parsed(t, name)
	}
	every(t, func(t *testing.T, of *template) {
		svg := drawing(of, all)
		if svg != drawing(of, all) {
			t.Error("it is drawn differently each time")
		}
		if err := xml.Unmarshal([]byte(svg), &struct{ XMLName xml.Name }{}); err != nil {
			t.Errorf("it is no XML: %v", err)
		}
		for id := range of.resources() {
			if !strings.Contains(svg, ">"+shortened(id)+"<") {
				t.Errorf("%s is not drawn", id)
			}
		}
		boxes := draw(of, all).boxes
		for i, a := range boxes {
			for _, b := range boxes[:i] {
				if a.x < b.x+boxWidth && b.x < a.x+boxWidth && a.y < b.y+b.height && b.y < a.y+a.height {
					t.Errorf("%s lies upon %s", a.title, b.title)
				}
			}
		}
	})
}
