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
	text, err := indented(rest)
	if err != nil {
		return err
	}
	if len(r.Findings) == 0 {
		_, err := w.Write(append(text, '\n'))
		return err
	}
	head, tail, _ := bytes.Cut(text, []byte("[]")) // the findings are the first field
	if _, err := w.Write(append(head, '[')); err != nil {
		return err
	}
	pieces := make([]findingWriter, runtime.GOMAXPROCS(0))
	for begin := 0; begin < len(r.Findings); begin += len(pieces) * perPiece {
		var g errgroup.Group
		for n := range pieces {
			from := min(begin+n*perPiece, len(r.Findings))
			to := min(from+perPiece, len(r.Findings))
			g.Go(func() error { return pieces[n].write(r.Findings[from:to], from == 0) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for n := range pieces {
			if _, err := w.Write(pieces[n].text); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(w, "\n  ]%s\n", tail)
	return err
}

// indented is a value's JSON for people to read: on many lines, with < and > as they are.
func indented(v any) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	err := out.Encode(v)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
