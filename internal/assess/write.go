package assess

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
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
	if len(r.Findings) == 0 {
		text, err := indented(rest)
		if err == nil {
			_, err = w.Write(append(text, '\n'))
		}
		return err
	}
	type tail struct {
		text []byte
		err  error
	}
	behind := make(chan tail, 1)
	go func() {
		text, err := indented(rest)
		behind <- tail{text, err}
	}()
	// The findings are the first field, so that what is before them is known.
	text, err := indented(Report{Findings: []Finding{}})
	if err != nil {
		return err
	}
	head, _, _ := bytes.Cut(text, []byte("[]"))
	if _, err := w.Write(append(head, '[')); err != nil {
		return err
	}
	if err := writeFindings(w, r.Findings); err != nil {
		return err
	}
	last := <-behind
	if last.err != nil {
		return last.err
	}
	_, text, _ = bytes.Cut(last.text, []byte("[]"))
	_, err = fmt.Fprintf(w, "\n  ]%s\n", text)
	return err
}

// piece is a part of the findings, which is text when done says so.
type piece struct {
	writer *findingWriter
	done   chan error
}

// writeFindings encodes pieces ahead of the writing, two for each processor at most.
func writeFindings(w io.Writer, all []Finding) error {
	ahead := 2 * runtime.GOMAXPROCS(0)
	free, pending, stop := make(chan *findingWriter, ahead), make(chan piece, ahead), make(chan struct{})
	for range ahead {
		free <- &findingWriter{}
	}
	go func() {
		defer close(pending)
		for from := 0; from < len(all); from += perPiece {
			select {
			case <-stop:
				return
			case writer := <-free:
				p := piece{writer, make(chan error, 1)}
				pending <- p // there is room for every writer
				go func() { p.done <- writer.write(all[from:min(from+perPiece, len(all))], from == 0) }()
			}
		}
	}()
	var failed error
	for p := range pending {
		err := <-p.done
		if err == nil && failed == nil {
			_, err = w.Write(p.writer.text)
		}
		if err != nil && failed == nil {
			failed = err
			close(stop)
		}
		free <- p.writer
	}
	return failed
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
