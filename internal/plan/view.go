package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A section is a part of the document for people; Markdown and HTML both write it.
type section struct {
	ID, Title string
	Text      []string
	Blocks    []part
}

// part is a table, a list, or more that is folded away.
type part struct {
	Title string
	Text  []string
	List  []string
	Head  []string
	Rows  [][]string
	// Fold has what is below a title that a reader may open.
	Fold []part
}

func table(head []string, rows [][]string) part { return part{Head: head, Rows: rows} }

// sections are the document for people, in its order.
func (p *Plan) sections() []section {
	return slices.DeleteFunc([]section{p.decideSection(), p.regionSection(), p.networkSection(), p.workloadSection(), p.balancerSection(), p.databaseSection(), p.secretSection(), p.imageSection(), p.waveSection(), p.costSection(), p.problemSection()},
		func(s section) bool { return len(s.Text) == 0 && len(s.Blocks) == 0 })
}

// Summary is the plan in a few sentences.
func (p *Plan) Summary() []string {
	places := map[Place]int{}
	for i := range p.Workloads {
		places[p.Workloads[i].Place]++
	}
	var parts []string
	for _, place := range []Place{EKS, ECS, EC2, Managed, Left} {
		if n := places[place]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, placeWord(place)))
		}
	}
	lines := []string{fmt.Sprintf("%s: %s and %s move to %s, with %s for disaster recovery.", p.Name, counted(len(p.Workloads)-places[Left], "workload"), counted(len(p.Databases), "database server"), p.Regions.Primary.Region, p.drName())}
	if len(parts) > 0 {
		lines = append(lines, "Workloads: "+strings.Join(parts, ", ")+".")
	}
	if n := p.blocks(); n > 0 {
		lines = append(lines, fmt.Sprintf("%s to be decided, of which %d before anything can begin.", counted(len(p.Decide), "thing"), n))
	}
	if p.Cost != nil {
		lines = append(lines, fmt.Sprintf("About %s %s a month, of which %s are by estimated prices.", p.Cost.Total, p.Cost.Currency, p.Cost.Estimated))
	}
	if p.Partial {
		lines = append(lines, "Not everything of the source could be read: what is missing here may be there.")
	}
	return lines
}

func (p *Plan) blocks() int {
	n := 0
	for _, d := range p.Decide {
		if d.Blocks {
			n++
		}
	}
	return n
}

func (p *Plan) drName() string {
	if p.Regions.DR == nil {
		return "no region"
	}
	return p.Regions.DR.Region
}

func placeWord(p Place) string {
	return map[Place]string{EKS: "in EKS", ECS: "in ECS on Fargate", EC2: "on EC2", Managed: "replaced by a managed service", Left: "left behind"}[p]
}

func (p *Plan) decideSection() section {
	s := section{ID: "decide", Title: "What is to be decided"}
	var rows [][]string
	for _, d := range p.Decide {
		before := ""
		if d.Blocks {
			before = "before anything"
		}
		rows = append(rows, []string{before, cmp.Or(d.Object, "the whole"), d.What, d.Do})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, table([]string{"When", "About", "What", "What to do"}, rows))
	}
	return s
}

func (p *Plan) regionSection() section {
	s := section{ID: "regions", Title: "Accounts and regions"}
	var rows [][]string
	for _, a := range p.Accounts {
		rows = append(rows, []string{a.Name, cmp.Or(a.ID, "not known yet"), a.For})
	}
	s.Blocks = append(s.Blocks, table([]string{"Account", "Number", "For"}, rows))
	rows = nil
	use := func(what string, r *RegionUse) {
		rows = append(rows, []string{what, r.Region, r.Display, strings.Join(r.Zones, ", "), fmt.Sprintf("about %.0f ms", r.LatencyMs), strings.Join(r.Warnings, "; ")})
	}
	use("primary", &p.Regions.Primary)
	if p.Regions.DR != nil {
		use("disaster recovery", p.Regions.DR)
	}
	s.Blocks = append(s.Blocks, table([]string{"For", "Region", "Name", "Zones", "From the users", "Warnings"}, rows))
	rows = nil
	for _, r := range p.Source.Regions {
		rows = append(rows, []string{r.Region, strings.Join(r.Has, "; "), r.Notice})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, part{Title: "Where the source lives", Head: []string{"Region", "What lies there", "Notice"}, Rows: rows})
	}
	rows = nil
	for _, i := range p.Regions.Instead {
		rows = append(rows, []string{i.From, i.To, strings.Join(i.Changes, "; ")})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, part{Title: "Regions that take another's place", Head: []string{"Instead of", "Region", "What that changes"}, Rows: rows})
	}
	for _, list := range []struct {
		title string
		all   []Alternative
	}{{"Alternatives for the primary region", p.Regions.PrimaryAlternatives}, {"Alternatives for disaster recovery", p.Regions.DRAlternatives}} {
		var rows [][]string
		for i, a := range list.all {
			rows = append(rows, []string{strconv.Itoa(i + 1), a.Region, a.Display, yes(a.Allowed), yes(a.Fit), strings.Join(a.Reasons, "; "), strings.Join(a.Changes, "; ")})
		}
		if len(rows) > 0 {
			s.Blocks = append(s.Blocks, part{Title: list.title, Head: []string{"Rank", "Region", "Name", "Allowed", "Fit", "Why there", "What it would change"}, Rows: rows})
		}
	}
	s.Blocks = append(s.Blocks, part{Title: "What the plan needs of a region", Fold: []part{{List: slices.Concat(p.Regions.Types, p.Regions.Classes)}}})
	return s
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func (p *Plan) networkSection() section {
	s := section{ID: "networks", Title: "Networks"}
	if len(p.Source.Taken) > 0 {
		s.Text = append(s.Text, "None overlaps with what the source was seen to use: "+strings.Join(p.Source.Taken, ", ")+".")
	} else {
		s.Text = append(s.Text, "No private network of the source was seen; name those that there are under network.taken in the options.")
	}
	var rows, zones [][]string
	for _, n := range p.Networks {
		rows = append(rows, []string{n.Name, n.Account, n.Region, n.CIDR.String(), n.Edge.String(), n.Inner.String(), n.Stores.String(), n.Services.String()})
		for _, z := range n.Zones {
			zones = append(zones, []string{n.Name, z.Zone, z.Pods.String(), z.Edge.String(), z.Inner.String(), z.Stores.String()})
		}
	}
	s.Blocks = append(s.Blocks, table([]string{"Network", "Account", "Region", "Range", "Public load balancers", "Private load balancers", "Databases", "Services"}, rows),
		part{Title: "By zones", Fold: []part{table([]string{"Network", "Zone", "Nodes and pods", "Public load balancers", "Private load balancers", "Databases"}, zones)}})
	return s
}

func (p *Plan) workloadSection() section {
	s := section{ID: "workloads", Title: "Workloads"}
	var rows [][]string
	var each []part
	for i := range p.Workloads {
		w := &p.Workloads[i]
		exposure, scale, wave := "", "", ""
		if w.Exposure != nil {
			exposure = string(w.Exposure.Scope)
			if len(w.Exposure.Hosts) > 0 {
				exposure += ": " + strings.Join(w.Exposure.Hosts, ", ")
			}
		}
		if w.Scaling != nil {
			scale = strconv.Itoa(int(w.Scaling.Least))
			if w.Scaling.Most > w.Scaling.Least {
				scale += " to " + strconv.Itoa(int(w.Scaling.Most))
			}
		}
		if w.Wave > 0 {
			wave = strconv.Itoa(w.Wave)
		}
		rows = append(rows, []string{w.Namespace + "/" + w.Name, string(w.Place), w.Why, exposure, scale, strings.Join(w.Databases, ", "), wave})
		if b := w.block(); len(b.Fold) > 0 {
			each = append(each, b)
		}
	}
	s.Blocks = append([]part{table([]string{"Workload", "Goes to", "Why", "Reached", "Copies", "Databases", "Wave"}, rows)}, each...)
	return s
}

// block is all of one workload.
func (w *Workload) block() part {
	b := part{Title: w.Namespace + "/" + w.Name + ", from " + w.Source}
	if e := w.Exposure; e != nil {
		list := []string{"reached: " + string(e.Scope) + ", " + e.Why}
		for _, was := range e.Was {
			list = append(list, "open today: "+was)
		}
		if len(e.Paths) > 0 {
			list = append(list, "paths: "+strings.Join(e.Paths, ", "))
		}
		if len(w.Calls) > 0 {
			list = append(list, "calls "+strings.Join(w.Calls, ", "))
		}
		if len(w.CalledBy) > 0 {
			list = append(list, "called by "+strings.Join(w.CalledBy, ", "))
		}
		if len(w.Outside) > 0 {
			list = append(list, "calls outside of the plan: "+strings.Join(w.Outside, ", "))
		}
		if w.Scaling != nil {
			list = append(list, "copies: "+w.Scaling.Why)
		}
		if w.Rollout != nil {
			list = append(list, fmt.Sprintf("end of a pod: %d s of preStop within %d s: %s", w.Rollout.PreStop, w.Rollout.Grace, w.Rollout.Why))
		}
		b.Fold = append(b.Fold, part{List: list})
	}
	var rows [][]string
	for _, c := range w.Containers {
		probes, sized := "", ""
		if c.Probes != nil {
			probes = strings.Join(nonempty(prefixed("ready: ", c.Probes.Readiness), prefixed("alive: ", c.Probes.Liveness), c.Probes.Why), "; ")
		}
		if z := c.Size; z != nil {
			sized = fmt.Sprintf("%dm of CPU, %d MiB: %s", z.CPURequestMilli, z.MemoryRequestMB, z.Why)
		}
		rows = append(rows, []string{c.Name, c.Image, sized, probes, strings.Join(slices.Concat(c.Environment, c.Secrets), ", ")})
	}
	if len(rows) > 0 {
		b.Fold = append(b.Fold, table([]string{"Container", "Image", "Asks for", "Probes", "Variables and secrets"}, rows))
	}
	if x := w.Balancing; x != nil {
		t := part{Title: "How requests are spread"}
		if x.Before != nil && x.After != nil {
			t.Text = append(t.Text, x.Text+".")
		}
		t.Head = []string{"Setting", "Value", "Why"}
		for _, c := range x.Settings {
			why := c.Why
			if c.Assumed {
				why += " (assumed)"
			}
			t.Rows = append(t.Rows, []string{c.Name, c.Value, why})
		}
		b.Fold = append(b.Fold, t)
		if notes := slices.Concat(x.Assumptions, x.Notes); len(notes) > 0 {
			b.Fold = append(b.Fold, part{List: notes})
		}
	}
	rows = nil
	for _, c := range w.Changes {
		rows = append(rows, []string{c.What, c.Before, c.After, c.Why})
	}
	if len(rows) > 0 {
		b.Fold = append(b.Fold, part{Title: "What is not as it was", Head: []string{"What", "Before", "After", "Why"}, Rows: rows})
	}
	return b
}

func (p *Plan) balancerSection() section {
	s := section{ID: "load-balancers", Title: "Load balancers and certificates"}
	var rows, routes [][]string
	for i := range p.Balancers {
		b := &p.Balancers[i]
		rows = append(rows, []string{b.Name, b.Kind, string(b.Scope), strings.Join(b.Hosts, ", "), b.MadeBy, b.Certificate, b.Why})
		for _, r := range b.Routes {
			path := r.Path
			if r.Exact {
				path += " (that alone)"
			}
			routes = append(routes, []string{b.Name, r.Host, path, r.To})
		}
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, table([]string{"Name", "Kind", "For", "Hosts", "Made by", "Certificate", "Why"}, rows), part{Title: "What leads where", Fold: []part{table([]string{"Load balancer", "Host", "Path or port", "To"}, routes)}})
	}
	return s
}

func (p *Plan) databaseSection() section {
	s := section{ID: "databases", Title: "Databases"}
	var rows [][]string
	for i := range p.Databases {
		d := &p.Databases[i]
		measured := " (assumed)"
		if d.Measured {
			measured = ""
		}
		sized := d.Class
		if d.StorageGiB > 0 {
			sized += fmt.Sprintf(", %d GiB", d.StorageGiB)
		}
		rows = append(rows, []string{d.Name, strings.TrimSpace(string(d.Engine) + " " + d.Version), d.Source, strings.Join(d.Databases, ", "), strings.Join(d.Clients, ", "), d.Target, sized + measured + ": " + d.Why, d.Method, strings.Join(d.Notes, "; ")})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, table([]string{"Server", "Engine", "Today", "Databases", "Used by", "Becomes", "Size", "How it moves", "Notes"}, rows))
	}
	return s
}

func (p *Plan) secretSection() section {
	s := section{ID: "secrets", Title: "Secrets"}
	var rows [][]string
	for _, x := range p.Secrets {
		renew := ""
		if x.Renew {
			renew = "yes"
		}
		rows = append(rows, []string{x.Name, strings.Join(x.Keys, ", "), x.Kubernetes, x.From, renew, strings.Join(x.UsedBy, ", ")})
	}
	if len(rows) > 0 {
		s.Text = []string{"Names and keys alone: no value of a secret is in this plan."}
		s.Blocks = append(s.Blocks, table([]string{"In Secrets Manager", "Keys", "In the cluster", "From", "New value", "Used by"}, rows))
	}
	return s
}

func (p *Plan) imageSection() section {
	s := section{ID: "images", Title: "Images"}
	var rows [][]string
	for _, x := range p.Images {
		rows = append(rows, []string{x.Source, x.Repository, cmp.Or(x.Digest, "not known"), strings.Join(x.UsedBy, ", ")})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, table([]string{"Image", "Repository in ECR", "Digest", "Used by"}, rows))
	}
	return s
}

func (p *Plan) waveSection() section {
	s := section{ID: "waves", Title: "Waves and the cutover"}
	var rows [][]string
	for _, w := range p.Waves {
		rows = append(rows, []string{strconv.Itoa(w.Number), w.What, strings.Join(slices.Concat(w.Databases, w.Workloads), ", "), strings.Join(w.Risks, "; "), w.Undo})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, table([]string{"Wave", "What", "In it", "What it risks", "How it is taken back"}, rows))
	}
	s.Blocks = append(s.Blocks, part{Title: "When the traffic moves", Text: []string{p.Cutover.Text}, List: nonempty(p.Cutover.How, others(p.Cutover.Others))})
	return s
}

func others(all []string) string { return prefixed("nearly as good: ", strings.Join(all, ", ")) }

// prefixed is a text behind a word, nothing where there is no text.
func prefixed(word, text string) string {
	if text == "" {
		return ""
	}
	return word + text
}

func (p *Plan) costSection() section {
	s := section{ID: "cost", Title: "What a month costs"}
	c := p.Cost
	if c == nil {
		return s
	}
	s.Text = append(s.Text, fmt.Sprintf("%s %s a month, by prices of %s; %s of it by estimated prices.", c.Total, c.Currency, c.Date, c.Estimated))
	if c.Cheapest != nil {
		s.Text = append(s.Text, fmt.Sprintf("The cheapest change that still meets the goals: %s It saves %s %s a month, and gives up: %s", sentence(c.Cheapest.What), c.Cheapest.Saving, c.Currency, sentence(c.Cheapest.GivenUp)))
	}
	var rows [][]string
	for _, x := range slices.Concat(c.Groups, c.Places) {
		rows = append(rows, []string{x.Name, x.Cost})
	}
	s.Blocks = append(s.Blocks, table([]string{"Part", c.Currency + " a month"}, rows))
	rows = nil
	for _, l := range c.Lines {
		estimate := ""
		if l.Estimate {
			estimate = "estimate"
		}
		rows = append(rows, []string{l.Environment, l.Region, l.Name, l.What, l.Amount, l.Rate, l.Cost, estimate})
	}
	s.Blocks = append(s.Blocks, part{Title: "By item", Fold: []part{table([]string{"Environment", "Region", "Of", "What", "Amount", "Rate", c.Currency, "Note"}, rows)}})
	rows = nil
	for _, x := range c.Others {
		rows = append(rows, []string{x.What, x.Saving, x.GivenUp})
	}
	if len(rows) > 0 {
		s.Blocks = append(s.Blocks, part{Title: "Other ways to pay less", Head: []string{"What", "Saves", "Gives up"}, Rows: rows})
	}
	s.Blocks = append(s.Blocks, part{Title: "What it rests on", List: c.Assumptions})
	return s
}

// sentence is a text with a full stop.
func sentence(text string) string { return strings.TrimSuffix(text, ".") + "." }

func (p *Plan) problemSection() section {
	s := section{ID: "problems", Title: "What could not be read, or looks unlike what was meant"}
	if len(p.Problems) > 0 {
		s.Blocks = append(s.Blocks, part{List: p.Problems})
	}
	return s
}

// findings are how many the assessment of the source has, the gravest first.
func (p *Plan) findings() string {
	var parts []string
	for _, severity := range []string{"critical", "high", "medium", "low"} {
		if n := p.Source.Findings[severity]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, severity))
		}
	}
	known := slices.Sorted(maps.Keys(p.Source.Findings))
	if len(known) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}
