package plan

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
)

// WriteYAML writes the document for machines.
func (p *Plan) WriteYAML(w io.Writer) error {
	text, err := yaml.MarshalWithOptions(p, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(false))
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

// WriteJSON writes the document as one JSON object.
func (p *Plan) WriteJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(p); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}
