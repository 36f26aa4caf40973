package assess

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"dhow/internal/inventory"
)

const (
	// mostPlaces bounds the places of one rule that the page lists, mostSuppressed and
	// mostProblems likewise: a browser does not show a million rows.
	mostPlaces     = 200
	mostSuppressed = 500
	mostProblems   = 500
	mostAsked      = 500
	// mostMaps and mostDrawn bound the maps, and the paths of one.
	mostMaps  = 20
	mostDrawn = 60
)

//go:embed report.html.tmpl
var page string

// WriteHTML writes the report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	v, err := r.view()
	if err != nil {
		return err
	}
	if err := t.Execute(w, v); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// pageView is what the page shows.
type pageView struct {
	Objects, Workloads, Rules int
	Cluster                   *inventory.Cluster
	Partial                   bool
	Counts                    []countView
	// Asked are the databases that answered.
	Asked      []inventory.Database
	Maps       []mapView
	Found      []ruleView
	Suppressed []Suppressed
	Problems   []inventory.Problem
}

type countView struct {
	Severity Severity
	Count    int
}

type ruleView struct {
	Rule        *Rule
	Count, Left int
	Open        bool
	Places      []placeView
}

type placeView struct {
	Name, Path, Where string
	Evidence          []string
	Patch, Fix        string
}

func (r *Report) view() (*pageView, error) {
	v := &pageView{Objects: r.Objects, Workloads: r.Workloads, Rules: r.Rules, Cluster: r.Cluster, Partial: r.Partial,
		Suppressed: r.Suppressed[:min(len(r.Suppressed), mostSuppressed)], Problems: r.Problems[:min(len(r.Problems), mostProblems)]}
	for _, s := range slices.Backward(Severities()) {
		v.Counts = append(v.Counts, countView{s, r.Count(s) - r.Count(s+1)})
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if n := len(v.Found); n == 0 || v.Found[n-1].Rule.ID != f.Rule.ID {
			v.Found = append(v.Found, ruleView{Rule: f.Rule, Open: f.Rule.Severity >= High})
		}
		of := &v.Found[len(v.Found)-1]
		if of.Count++; len(of.Places) == mostPlaces {
			of.Left++
			continue
		}
		patch, _, err := f.Patch()
		if err != nil {
			return nil, err
		}
		of.Places = append(of.Places, placeView{f.Name(), f.Path, f.Where(), f.Evidence, patch, f.Fix})
	}
	for _, d := range r.Databases {
		if d.Answers != nil && len(v.Asked) < mostAsked {
			v.Asked = append(v.Asked, d)
		}
	}
	v.Maps = drawings(r.Exposures)
	return v, nil
}

// mapView is the drawing of a namespace's paths: who comes, by what, to which pods.
type mapView struct {
	Namespace     string
	Width, Height int
	Count, Left   int
	Boxes         []boxView
	Lines         []lineView
	Steps         []string
}

type boxView struct {
	X, Y, W, H, TX, TY, SY int
	Text, Sub, Title       string
}

type lineView struct {
	Over  Over
	D     string
	Title string
}

// The measures of a map, in pixels of its own.
const (
	mapWidth  = 960
	boxWidth  = 250
	boxHeight = 42
	rowHeight = 56
	boxIndent = 10
	// longestText is how many characters fit into a box.
	longestText = 36
)

func drawings(all []Exposure) []mapView {
	var views []mapView
	for begin := 0; begin < len(all) && len(views) < mostMaps; {
		end := begin
		for end < len(all) && all[end].Workload.Namespace == all[begin].Workload.Namespace {
			end++
		}
		views = append(views, draw(all[begin:end]))
		begin = end
	}
	return views
}

// column is a map's boxes from above to below, each name once.
type column struct {
	x     int
	rows  map[string]int
	boxes []boxView
}

func (c *column) add(name, sub, title string) int {
	if n, ok := c.rows[name]; ok {
		return n
	}
	n := len(c.boxes)
	c.rows[name] = n
	y := n*rowHeight + boxIndent
	c.boxes = append(c.boxes, boxView{X: c.x, Y: y, W: boxWidth, H: boxHeight, TX: c.x + boxIndent, TY: y + 18, SY: y + 34, Text: fitted(name), Sub: fitted(sub), Title: title})
	return n
}

func fitted(text string) string {
	if r := []rune(text); len(r) > longestText {
		return string(r[:longestText-1]) + "…"
	}
	return text
}

func draw(all []Exposure) mapView {
	v := mapView{Namespace: all[0].Workload.Namespace, Width: mapWidth, Count: len(all), Left: max(0, len(all)-mostDrawn)}
	columns := [3]column{}
	for n := range columns {
		columns[n] = column{x: n*(mapWidth-boxWidth)/2 + 1 - n, rows: map[string]int{}}
	}
	seen := map[string]bool{}
	for i := range all[:min(len(all), mostDrawn)] {
		e := &all[i]
		v.Steps = append(v.Steps, e.Steps())
		from := columns[0].add(string(e.From), "", string(e.From))
		entry := columns[1].add(e.Entry.Kind+" "+e.Entry.Name+": "+string(e.Way), fmt.Sprintf("port %d %s", e.Port, e.Hosts), e.Entry.String())
		pods := columns[2].add(e.Workload.Kind+" "+e.Workload.Name, fmt.Sprintf("port %d", e.PodPort), e.Workload.String())
		v.line(seen, &columns[0], from, &columns[1], entry, e)
		v.line(seen, &columns[1], entry, &columns[2], pods, e)
	}
	for _, c := range columns {
		v.Boxes = append(v.Boxes, c.boxes...)
		v.Height = max(v.Height, len(c.boxes)*rowHeight+boxIndent)
	}
	return v
}

func (v *mapView) line(seen map[string]bool, a *column, from int, b *column, to int, e *Exposure) {
	x1, y1 := a.x+boxWidth, from*rowHeight+boxIndent+boxHeight/2
	x2, y2 := b.x, to*rowHeight+boxIndent+boxHeight/2
	middle := (x1 + x2) / 2
	d := fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, middle, y1, middle, y2, x2, y2)
	if key := d + string(e.Over); !seen[key] {
		seen[key] = true
		v.Lines = append(v.Lines, lineView{e.Over, d, strings.TrimSpace(e.Steps() + " over " + string(e.Over))})
	}
}
