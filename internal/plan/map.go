package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The measures of the map, in pixels of its own.
const (
	mapWidth    = 1240
	boxWidth    = 200
	boxHeight   = 40
	rowHeight   = 52
	boxIndent   = 10
	frameIndent = 16
	frameHead   = 30
	longestText = 30
	// mostBoxes bounds the boxes of one column: a map of more says nothing.
	mostBoxes = 60
)

// The kinds of lines.
const (
	linePublic  = "public"
	linePrivate = "private"
	lineData    = "data"
	lineReplica = "replica"
)

// drawing is the map: users, load balancers, workloads, databases, over accounts and regions.
type drawing struct {
	Width, Height int
	Frames        []frameView
	Boxes         []boxView
	Lines         []lineView
	// Left are workloads that are not drawn.
	Left int
}

type frameView struct {
	X, Y, W, H, TX, TY int
	Text, Kind         string
}

type boxView struct {
	Key                     string
	X, Y, W, H, TX, TY, SY  int
	Text, Sub, Title, Class string
}

type lineView struct {
	From, To, Kind, D, Title string
}

// columnX is where a column of boxes begins.
func columnX(n int) int { return frameIndent + n*(mapWidth-boxWidth-2*frameIndent)/4 }

// drawing draws the plan.
func (p *Plan) drawing() *drawing {
	d := &drawing{Width: mapWidth}
	rows := [5]int{}
	top := 2*frameHead + frameIndent
	add := func(column int, key, text, sub, title, class string) {
		if rows[column] >= mostBoxes {
			d.Left++
			return
		}
		x, y := columnX(column), top+rows[column]*rowHeight
		rows[column]++
		d.Boxes = append(d.Boxes, boxView{Key: key, X: x, Y: y, W: boxWidth, H: boxHeight, TX: x + boxIndent, TY: y + 17, SY: y + 32, Text: fitted(text), Sub: fitted(sub), Title: title, Class: class})
	}
	public := slices.ContainsFunc(p.Balancers, func(b Balancer) bool { return b.Scope == Public })
	if public {
		add(0, "users", "Users", "the internet", "users, from the internet", "users")
	}
	split := map[string]bool{} // load balancers behind a distribution
	for i := range p.Balancers {
		b := &p.Balancers[i]
		if b.Kind == distribution {
			add(0, "lb "+b.Name, strings.Join(b.Hosts, ", "), "CloudFront", b.Name+": "+b.Why, "public")
			d.line("users", "lb "+b.Name, linePublic, "users reach "+b.Name)
			for _, r := range b.Routes {
				split[r.To] = true
				d.line("lb "+b.Name, "lb "+r.To, linePublic, r.Host+r.Path+" leads to "+r.To)
			}
		}
	}
	for i := range p.Balancers {
		b := &p.Balancers[i]
		if b.Kind == distribution {
			continue
		}
		add(1, "lb "+b.Name, b.Name, string(b.Scope)+" load balancer", b.Name+": "+b.Why, string(b.Scope))
		if b.Scope == Public && !split[b.Name] {
			d.line("users", "lb "+b.Name, linePublic, "users reach "+b.Name)
		}
		for _, r := range b.Routes {
			kind := linePublic
			if b.Scope != Public {
				kind = linePrivate
			}
			d.line("lb "+b.Name, "w "+r.To, kind, r.Host+r.Path+" leads to "+r.To)
		}
	}
	order := []Place{EC2, ECS, EKS}
	workloads := slices.Clone(p.Workloads)
	slices.SortStableFunc(workloads, func(a, b Workload) int {
		return cmp.Compare(slices.Index(order, a.Place), slices.Index(order, b.Place))
	})
	for i := range workloads {
		w := &workloads[i]
		if !slices.Contains(order, w.Place) {
			continue
		}
		column := 3
		if len(w.Calls) > 0 && len(w.CalledBy) == 0 { // who calls others stands before them
			column = 2
		}
		id := w.Namespace + "/" + w.Name
		add(column, "w "+id, w.Name, placeWord(w.Place), id+": "+w.Why, string(w.Place))
		for _, c := range w.Calls {
			d.line("w "+id, "w "+c, linePrivate, id+" calls "+c)
		}
		for _, s := range w.Databases {
			d.line("w "+id, "db "+s, lineData, id+" keeps data in "+s)
		}
	}
	for i := range p.Databases {
		x := &p.Databases[i]
		add(4, "db "+x.Name, x.Name, x.Target, x.Name+": "+x.Target+" "+x.Class, "data")
	}
	height := slices.Max(rows[:])*rowHeight + 2*frameHead + 2*frameIndent
	if rows == [5]int{} {
		height = 4 * frameHead
	}
	inner := columnX(1) - frameIndent
	d.frame(inner, 0, mapWidth-inner, height, "account production", "account")
	d.frame(inner+frameIndent/2, frameHead, mapWidth-inner-frameIndent, height-frameHead-frameIndent/2, p.Regions.Primary.Region+", "+p.Regions.Primary.Display, "region")
	if p.Regions.DR != nil {
		y := height + frameIndent
		d.frame(inner, y, mapWidth-inner, 2*frameHead+rowHeight, "account production", "account")
		d.frame(inner+frameIndent/2, y+frameHead, mapWidth-inner-frameIndent, frameHead+rowHeight-frameIndent/2, p.Regions.DR.Region+", "+p.Regions.DR.Display+": disaster recovery", "region")
		x, by := columnX(4), y+frameHead+frameIndent+frameIndent/2
		d.Boxes = append(d.Boxes, boxView{Key: "dr", X: x, Y: by, W: boxWidth, H: boxHeight, TX: x + boxIndent, TY: by + 17, SY: by + 32, Text: fitted(counted(len(p.Databases), "replica")), Sub: "of the databases", Title: "replicas of the databases in " + p.Regions.DR.Region, Class: "data"})
		for i := range p.Databases {
			if p.Databases[i].Replica != "" {
				d.line("db "+p.Databases[i].Name, "dr", lineReplica, p.Databases[i].Name+" is copied to "+p.Regions.DR.Region)
			}
		}
		height = y + 2*frameHead + rowHeight
	}
	y := height + frameIndent
	third := (mapWidth - frameIndent) / 2
	for i, a := range []struct{ name, text string }{{nonproduction, p.Regions.Primary.Region + ": the same, smaller"}, {security, "logs, findings, backups"}} {
		d.frame(i*(third+frameIndent), y, third, frameHead+frameIndent, "account "+a.name+": "+a.text, "account")
	}
	d.Height = y + frameHead + frameIndent + 2
	d.route()
	return d
}

func fitted(text string) string {
	if r := []rune(text); len(r) > longestText {
		return string(r[:longestText-1]) + "…"
	}
	return text
}

func (d *drawing) frame(x, y, w, h int, text, kind string) {
	d.Frames = append(d.Frames, frameView{X: x + 1, Y: y + 1, W: w - 2, H: h - 2, TX: x + boxIndent, TY: y + 20, Text: text, Kind: kind})
}

// line notes a line, each once.
func (d *drawing) line(from, to, kind, title string) {
	if !slices.ContainsFunc(d.Lines, func(l lineView) bool { return l.From == from && l.To == to }) {
		d.Lines = append(d.Lines, lineView{From: from, To: to, Kind: kind, Title: title})
	}
}

// route draws the lines between the boxes that are there.
func (d *drawing) route() {
	at := map[string]*boxView{}
	for i := range d.Boxes {
		at[d.Boxes[i].Key] = &d.Boxes[i]
	}
	d.Lines = slices.DeleteFunc(d.Lines, func(l lineView) bool { return at[l.From] == nil || at[l.To] == nil })
	for i := range d.Lines {
		l := &d.Lines[i]
		a, b := at[l.From], at[l.To]
		x1, y1, x2, y2 := a.X+a.W, a.Y+a.H/2, b.X, b.Y+b.H/2
		switch {
		case a.X == b.X && a.Y < b.Y && b.Y-a.Y <= rowHeight: // just below it
			x1, y1, x2, y2 = a.X+a.W/2, a.Y+a.H, b.X+b.W/2, b.Y
			l.D = fmt.Sprintf("M%d %dL%d %d", x1, y1, x2, y2)
			continue
		case a.X >= b.X: // in its own column, or back: around the right side
			x2 = b.X + b.W
			l.D = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+boxIndent+2, y1, x2+boxIndent+2, y2, x2, y2)
			continue
		}
		middle := (x1 + x2) / 2
		l.D = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, middle, y1, middle, y2, x2, y2)
	}
}
