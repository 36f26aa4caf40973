package assess

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"dhow/internal/inventory"
)

// findingWriter writes findings as the encoder writes findingJSON, a tenth as long: what
// a rule says is the same for thousands of them, and is encoded once.
type findingWriter struct {
	text []byte
	// rule is the one whose words stand in head and words.
	rule        *Rule
	head, words []byte
	err         error
}

// The white space before a field of a finding, and before what is in such a field.
const (
	fieldIndent  = "\n      "
	insideIndent = "\n        "
)

// write writes findings as items of a list, into text from its begin.
func (w *findingWriter) write(all []Finding, first bool) error {
	w.text = w.text[:0]
	for i := range all {
		if !first || i > 0 {
			w.text = append(w.text, ',')
		}
		w.finding(&all[i])
	}
	return w.err
}

func (w *findingWriter) finding(f *Finding) {
	form, err := f.form()
	if err != nil {
		w.failed(err)
		return
	}
	if w.rule != f.Rule {
		w.learn(f.Rule)
	}
	w.text = append(w.text, w.head...)
	if o := form.Object; o != nil {
		w.text = append(w.text, ","+fieldIndent+`"object": {`...)
		w.ref(o)
		w.text = append(w.text, fieldIndent+"}"...)
	}
	w.optional(`"path": `, form.Path)
	w.optional(`"file": `, form.File)
	if form.Line != 0 {
		w.text = append(w.text, ","+fieldIndent+`"line": `...)
		w.text = strconv.AppendInt(w.text, int64(form.Line), 10)
	}
	w.optional(`"context": `, form.Context)
	w.text = append(w.text, ","+fieldIndent+`"evidence": [`...)
	for i, e := range form.Evidence {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		w.text = append(w.text, insideIndent...)
		w.string(e)
	}
	if len(form.Evidence) > 0 {
		w.text = append(w.text, fieldIndent...)
	}
	w.text = append(w.text, ']')
	if f.Fix == "" {
		w.text = append(w.text, w.words...)
	} else {
		w.optional(`"why": `, form.Why)
		w.optional(`"fix": `, form.Fix)
	}
	if form.Patch != nil {
		w.text = append(w.text, ","+fieldIndent+`"patch": `...)
		w.value(form.Patch, fieldIndent)
	}
	w.optional(`"patchType": `, form.PatchType)
	w.text = append(w.text, ","+fieldIndent+`"fingerprint": `...)
	w.string(form.Fingerprint)
	w.text = append(w.text, "\n    }"...)
}

// learn encodes what a rule says.
func (w *findingWriter) learn(r *Rule) {
	text := w.text
	w.text = w.head[:0]
	w.text = append(w.text, "\n    {"+fieldIndent+`"rule": `...)
	w.string(r.ID)
	w.optional(`"severity": `, r.Severity.String())
	w.optional(`"group": `, string(r.Group))
	w.optional(`"title": `, r.Title)
	w.head, w.text = w.text, w.words[:0]
	w.optional(`"why": `, r.Why)
	w.optional(`"fix": `, r.Fix)
	w.words, w.text = w.text, text
	w.rule = r
}

// optional writes a field and its value, if it has one.
func (w *findingWriter) optional(field, value string) {
	if value != "" {
		w.text = append(w.text, ","+fieldIndent...)
		w.text = append(w.text, field...)
		w.string(value)
	}
}

// ref writes the fields of a reference.
func (w *findingWriter) ref(r *inventory.Ref) {
	comma := ""
	for _, f := range [...]struct{ name, value string }{{`"group": `, r.Group}, {`"kind": `, r.Kind}, {`"namespace": `, r.Namespace}, {`"name": `, r.Name}} {
		if f.value == "" && f.name != `"kind": ` && f.name != `"name": ` {
			continue
		}
		w.text = append(w.text, comma...)
		w.text = append(w.text, insideIndent...)
		w.text = append(w.text, f.name...)
		w.string(f.value)
		comma = ","
	}
}

// value writes a part of a patch; indent is the white space before the line it begins on.
func (w *findingWriter) value(v any, indent string) {
	inside := deeper(indent)
	switch v := v.(type) {
	case string:
		w.string(v)
	case bool:
		w.text = strconv.AppendBool(w.text, v)
	case int:
		w.text = strconv.AppendInt(w.text, int64(v), 10)
	case int32:
		w.text = strconv.AppendInt(w.text, int64(v), 10)
	case int64:
		w.text = strconv.AppendInt(w.text, v, 10)
	case map[string]any:
		comma := "{"
		var room [8]string // for a patch's few keys
		keys := room[:0]
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			w.text = append(append(w.text, comma...), inside...)
			w.string(k)
			w.text = append(w.text, ": "...)
			w.value(v[k], inside)
			comma = ","
		}
		if len(v) == 0 {
			w.text = append(w.text, "{}"...)
			return
		}
		w.text = append(append(w.text, indent...), '}')
	case []any:
		comma := "["
		for _, one := range v {
			w.text = append(append(w.text, comma...), inside...)
			w.value(one, inside)
			comma = ","
		}
		if len(v) == 0 {
			w.text = append(w.text, "[]"...)
			return
		}
		w.text = append(append(w.text, indent...), ']')
	default:
		begin := len(w.text)
		w.encode(v)
		raw := bytes.Clone(w.text[begin:])
		out := bytes.NewBuffer(w.text[:begin])
		w.failed(json.Indent(out, raw, indent[1:], "  "))
		w.text = out.Bytes()
	}
}

// deeper is an indentation of two more.
func deeper(indent string) string {
	const deep = "\n                                                                "
	if n := len(indent) + 2; n <= len(deep) {
		return deep[:n]
	}
	return indent + "  "
}

// string writes a text; few have letters that the encoder is needed for.
func (w *findingWriter) string(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			w.encode(s)
			return
		}
	}
	w.text = append(w.text, '"')
	w.text = append(w.text, s...)
	w.text = append(w.text, '"')
}

// encode writes a value on one line.
func (w *findingWriter) encode(v any) {
	out := bytes.NewBuffer(w.text)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	w.failed(encoder.Encode(v))
	w.text = bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// failed keeps the first error.
func (w *findingWriter) failed(err error) {
	if w.err == nil {
		w.err = err
	}
}
