package plan

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the document for people, as a page of Markdown.
func (p *Plan) WriteMarkdown(w io.Writer) error {
	m := &markdown{}
	m.line("# The plan of %s", p.Name)
	m.line("")
	for _, s := range p.Summary() {
		m.line("- %s", cell(s))
	}
	m.line("")
	m.line("The source has %s of the assessment, in %d objects and %d workloads.", p.findings(), p.Source.Objects, p.Source.Workloads)
	m.picture(p.drawing())
	for _, s := range p.sections() {
		m.line("")
		m.line("## %s", s.Title)
		for _, text := range s.Text {
			m.line("")
			m.line("%s", cell(text))
		}
		for _, b := range s.Blocks {
			m.part(b, 3)
		}
	}
	if _, err := io.WriteString(w, m.b.String()); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

type markdown struct{ b strings.Builder }

func (m *markdown) line(format string, args ...any) { fmt.Fprintf(&m.b, format+"\n", args...) }

// mostHeading is how deep headings go.
const mostHeading = 6

func (m *markdown) part(b part, depth int) {
	if b.Title != "" {
		m.line("")
		m.line("%s %s", strings.Repeat("#", min(depth, mostHeading)), b.Title)
	}
	for _, text := range b.Text {
		m.line("")
		m.line("%s", cell(text))
	}
	if len(b.List) > 0 {
		m.line("")
	}
	for _, text := range b.List {
		m.line("- %s", cell(text))
	}
	if len(b.Rows) > 0 {
		m.line("")
		m.row(b.Head)
		m.line("|%s", strings.Repeat("---|", len(b.Head)))
		for _, r := range b.Rows {
			m.row(r)
		}
	}
	for _, f := range b.Fold {
		m.part(f, depth+1)
	}
}

func (m *markdown) row(cells []string) {
	m.b.WriteByte('|')
	for _, c := range cells {
		m.b.WriteString(" " + cell(c) + " |")
	}
	m.b.WriteByte('\n')
}

// cell is a text in a cell or a line: nothing in it is Markdown's own, for names and
// settings come from the source.
func cell(text string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "[", `\[`, "`", "`").Replace(text)
}

// picture draws the map as a picture that GitHub and others draw from text.
func (m *markdown) picture(d *drawing) {
	m.line("")
	m.line("```mermaid")
	m.line("flowchart LR")
	ids := map[string]string{}
	for i, b := range d.Boxes {
		id := fmt.Sprintf("n%d", i)
		ids[b.Key] = id
		m.line("  %s[\"%s\"]", id, strings.NewReplacer(`"`, "'", "\n", " ", "<", "(", ">", ")").Replace(b.Text))
	}
	for _, l := range d.Lines {
		arrow := "-->"
		if l.Kind == lineReplica {
			arrow = "-.->"
		}
		m.line("  %s %s %s", ids[l.From], arrow, ids[l.To])
	}
	m.line("```")
}
