package assess

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// perPiece is how many findings one goroutine writes at a time: about a megabyte.
const perPiece = 1000

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	if err := r.writeJSON(w); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// writeJSON writes what an encoder would, but the findings, of which there may be
// hundreds of thousands, piece by piece on all processors.
func (r *Report) writeJSON(w io.Writer) error {
	rest := *r
	rest.Findings = []Finding{}
	text, err := indented(rest, "")
	if err != nil {
		return err
	}
	const empty = `"findings": []`
	head, tail, _ := bytes.Cut(text, []byte(empty)) // it is the first field
	if len(r.Findings) == 0 {
		_, err := w.Write(append(text, '\n'))
		return err
	}
	if _, err := fmt.Fprintf(w, "%s\"findings\": [", head); err != nil {
		return err
	}
	workers := runtime.GOMAXPROCS(0)
	for begin := 0; begin < len(r.Findings); begin += workers * perPiece {
		pieces := make([]bytes.Buffer, workers)
		var g errgroup.Group
		for n := range pieces {
			from := min(begin+n*perPiece, len(r.Findings))
			to := min(from+perPiece, len(r.Findings))
			g.Go(func() error { return writeFindings(&pieces[n], r.Findings[from:to], from == 0) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for n := range pieces {
			if _, err := pieces[n].WriteTo(w); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(w, "\n  ]%s\n", tail)
	return err
}

// writeFindings writes findings as items of a list.
func writeFindings(to *bytes.Buffer, all []Finding, first bool) error {
	const inList = "    "
	for i := range all {
		if !first || i > 0 {
			to.WriteByte(',')
		}
		to.WriteString("\n" + inList)
		form, err := all[i].form()
		if err != nil {
			return err
		}
		text, err := indented(form, inList)
		if err != nil {
			return err
		}
		to.Write(text)
	}
	return nil
}

// indented is a value's JSON, on lines that begin with a prefix but the first, for people
// to read: with < and > as they are.
func indented(v any, prefix string) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent(prefix, "  ")
	err := out.Encode(v)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
