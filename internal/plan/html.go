package plan

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed plan.html.tmpl
var page string

// pageView is what the page shows.
type pageView struct {
	Plan     *Plan
	Summary  []string
	Findings string
	Map      *drawing
	Sections []section
}

// WriteHTML writes the document for people, as one page that needs nothing else.
func (p *Plan) WriteHTML(w io.Writer) error {
	t, err := template.New("plan").Parse(page)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	if err := t.Execute(w, pageView{p, p.Summary(), p.findings(), p.drawing(), p.sections()}); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
