package assess

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/inventory"
)

// Severity is how bad a finding is.
type Severity int

// The severities.
const (
	// Low costs money or order, or is a defence that lacks behind others.
	Low Severity = iota + 1
	// Medium will hurt on a bad day: a drain, a lost node, a second fault.
	Medium
	// High hurts today, or on the next rollout, or opens what must be closed.
	High
	// Critical lets a stranger in, or loses data.
	Critical
)

// Severities are all, the lowest first.
func Severities() []Severity { return []Severity{Low, Medium, High, Critical} }

// String is low, medium, high or critical.
func (s Severity) String() string {
	switch s {
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return "severity " + strconv.Itoa(int(s))
}

// ParseSeverity reads what String writes.
func ParseSeverity(text string) (Severity, error) {
	for _, s := range Severities() {
		if s.String() == text {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is no severity: want low, medium, high or critical", text)
}

// MarshalText writes it as String does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that is wrong in one place.
type Finding struct {
	Rule *Rule
	// Object is its zero value for a file that is not of Kubernetes.
	Object inventory.Ref
	// Path is the field that is wrong, or where it should stand if it lacks.
	Path string
	// File and Line are where that is, "" and 0 if it was read from a cluster alone;
	// Context is then the kubeconfig's.
	File    string
	Line    int
	Context string
	// Evidence are the facts, sorted unless they are the steps of a path.
	Evidence []string
	// Fix is what mends this one, such as a statement; "" where the rule's own words do.
	Fix string
	// Fingerprint stays the same while the thing is wrong, also when lines move and
	// containers change places: 24 hexadecimal digits.
	Fingerprint string

	object  *inventory.Object
	subject string // tells apart several at one place
	changes []change
	json    []operation
}

// set says which value mends it; nil takes the field away.
func (f *Finding) set(path string, value any) *Finding {
	f.changes = append(f.changes, change{path, value})
	return f
}

// operate says which operation of a JSON patch mends it.
func (f *Finding) operate(op, path string, value any) {
	f.json = append(f.json, operation{op, pointer(path), value})
}

// about tells findings at one place apart.
func (f *Finding) about(subject string) { f.subject = subject }

// settle finds out the place and the fingerprint.
func (f *Finding) settle(l *lookup) {
	if f.object != nil {
		s := &f.object.Source
		f.File, f.Context = s.File, s.Context
		if s.File != "" {
			f.Line = s.LineOf(f.Path)
		}
	}
	if len(f.Evidence) > 1 && !f.Rule.ordered {
		slices.Sort(f.Evidence)
		f.Evidence = slices.Compact(f.Evidence)
	}
	f.Fingerprint = fingerprint(f.Rule.ID, f, l)
}

func fingerprint(rule string, f *Finding, l *lookup) string {
	var key strings.Builder
	key.WriteString(rule)
	key.WriteByte(0)
	if f.object == nil && f.Object == (inventory.Ref{}) {
		key.WriteString(f.File) // lines move
	} else {
		key.WriteString(f.Object.Group)
		key.WriteByte(0)
		key.WriteString(f.Object.String())
		key.WriteByte(0)
		key.WriteString(l.stable(f.Object, f.Path))
	}
	key.WriteByte(0)
	key.WriteString(f.subject)
	sum := sha256.Sum256([]byte(key.String()))
	return hex.EncodeToString(sum[:12])
}

// number tells findings apart that have the same fingerprint, by their order.
func (r *Report) number() {
	seen := make(map[string]int, len(r.Findings))
	for i := range r.Findings {
		f := &r.Findings[i]
		seen[f.Fingerprint]++
		if n := seen[f.Fingerprint]; n > 1 {
			sum := sha256.Sum256([]byte(f.Fingerprint + strconv.Itoa(n)))
			f.Fingerprint = hex.EncodeToString(sum[:12])
		}
	}
}

// Where is FILE:LINE, the cluster's context, or the file alone.
func (f *Finding) Where() string {
	switch {
	case f.File != "" && f.Line > 0:
		return f.File + ":" + strconv.Itoa(f.Line)
	case f.File != "":
		return f.File
	case f.Context != "":
		return "cluster " + f.Context
	}
	return ""
}

// Name is the object's, KIND/NAMESPACE/NAME, or the file's.
func (f *Finding) Name() string {
	if f.Object == (inventory.Ref{}) {
		return f.File
	}
	return f.Object.String()
}

// findingJSON is a finding as it is written.
type findingJSON struct {
	Rule        string         `json:"rule"`
	Severity    Severity       `json:"severity"`
	Group       Group          `json:"group"`
	Title       string         `json:"title"`
	Object      *inventory.Ref `json:"object,omitempty"`
	Path        string         `json:"path,omitempty"`
	File        string         `json:"file,omitempty"`
	Line        int            `json:"line,omitempty"`
	Context     string         `json:"context,omitempty"`
	Evidence    []string       `json:"evidence"`
	Why         string         `json:"why"`
	Fix         string         `json:"fix"`
	Patch       any            `json:"patch,omitempty"`
	PatchType   string         `json:"patchType,omitempty"`
	Fingerprint string         `json:"fingerprint"`
}

// MarshalJSON writes the finding with its rule's words and its patch.
func (f Finding) MarshalJSON() ([]byte, error) {
	form, err := f.form()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false) // whoever writes the whole decides that
	err = out.Encode(form)
	return text.Bytes(), err
}

// form is the finding as it is written.
func (f *Finding) form() (out findingJSON, err error) {
	out = findingJSON{Rule: f.Rule.ID, Severity: f.Rule.Severity, Group: f.Rule.Group, Title: f.Rule.Title, Path: f.Path, File: f.File, Line: f.Line, Context: f.Context,
		Evidence: f.Evidence, Why: f.Rule.Why, Fix: cmp.Or(f.Fix, f.Rule.Fix), Fingerprint: f.Fingerprint}
	if f.Object != (inventory.Ref{}) {
		out.Object = &f.Object
	}
	if out.Evidence == nil {
		out.Evidence = []string{}
	}
	out.Patch, out.PatchType, err = f.patch()
	return out, err
}
