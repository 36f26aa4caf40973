package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

const (
	// maxDocument bounds a plan that is read, in bytes: that of a thousand workloads is a few MiB.
	maxDocument = 64 << 20
	// maxDepth bounds how deep a document's parts lie in each other.
	maxDepth = 32
	// maxShown is how much of a value a difference shows, in characters.
	maxShown = 300
)

// Document is a plan as it was written, to compare with.
type Document struct{ tree map[string]any }

// Diff is what differs between two plans, by their parts and items.
type Diff struct {
	Differences []Difference `json:"differences"`
}

// Difference is one item that is new, gone, or another.
type Difference struct {
	// Part is the document's, as workloads; Item which of them, "" where it has none.
	Part string `json:"part"`
	Item string `json:"item,omitempty"`
	// Field is what of it changed, "" where the item is new or gone.
	Field string `json:"field,omitempty"`
	// Kind is added, removed or changed.
	Kind   string `json:"kind"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// The kinds of differences.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// ReadDocument reads a plan that WriteYAML or WriteJSON wrote.
func ReadDocument(file string) (*Document, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the plan to compare with: %w", err)
	}
	if info.Size() > maxDocument {
		return nil, &InvalidError{[]string{fmt.Sprintf("%s is larger than %d bytes, which no plan is: name another", file, maxDocument)}}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the plan to compare with: %w", err)
	}
	return ParseDocument(file, text)
}

// ParseDocument reads what ReadDocument does from a text; file is for the errors.
func ParseDocument(file string, text []byte) (*Document, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			return nil, &InvalidError{[]string{fmt.Sprintf("%s:%d: %s", file, at.GetToken().Position.Line, at.GetMessage())}}
		}
		return nil, &InvalidError{[]string{file + " is no plan: want the plan.yaml that `dhow plan --out` wrote"}}
	}
	if got := fmt.Sprint(tree["format"]); got != strconv.Itoa(Format) {
		if tree["format"] == nil {
			return nil, &InvalidError{[]string{file + " is no plan: want the plan.yaml that `dhow plan --out` wrote"}}
		}
		return nil, &InvalidError{[]string{fmt.Sprintf("%s is of format %.20s, and this dhow writes %d: make it anew from the same source", file, got, Format)}}
	}
	return &Document{tree: tree}, nil
}

// Compare says what is other in a plan than in a document.
func (p *Plan) Compare(old *Document) (*Diff, error) {
	// Through the same form as the old one, so that what is written alike is alike.
	var text bytes.Buffer
	if err := p.WriteYAML(&text); err != nil {
		return nil, err
	}
	fresh, err := ParseDocument("the plan", text.Bytes())
	if err != nil {
		return nil, err
	}
	d := &Diff{Differences: []Difference{}}
	for _, part := range both(old.tree, fresh.tree) {
		d.compare(part, "", "", old.tree[part], fresh.tree[part], 0)
	}
	slices.SortStableFunc(d.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(partOrder(a.Part), partOrder(b.Part)), strings.Compare(a.Part, b.Part), strings.Compare(a.Item, b.Item), strings.Compare(a.Field, b.Field), strings.Compare(a.Kind, b.Kind))
	})
	return d, nil
}

// partOrder is where a part stands in the document.
func partOrder(part string) int {
	order := []string{"format", "name", "source", "decide", "regions", "accounts", "networks", "load_balancers", "workloads", "databases", "secrets", "images", "waves", "cutover", "cost", "problems", "partial"}
	if i := slices.Index(order, part); i >= 0 {
		return i
	}
	return len(order)
}

// both are the keys of two maps, sorted.
func both(a, b map[string]any) []string {
	keys := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (d *Diff) note(part, item, field, kind string, before, after any) {
	d.Differences = append(d.Differences, Difference{part, item, field, kind, shown(before), shown(after)})
}

// compare notes what differs between two values at a field of an item.
func (d *Diff) compare(part, item, field string, before, after any, depth int) {
	if equal(before, after) {
		return
	}
	if depth < maxDepth {
		switch x := before.(type) {
		case map[string]any:
			if y, ok := after.(map[string]any); ok {
				for _, key := range both(x, y) {
					d.compare(part, item, dotted(field, key), x[key], y[key], depth+1)
				}
				return
			}
		case []any:
			if y, ok := after.([]any); ok && d.lists(part, item, field, x, y, depth) {
				return
			}
		case nil:
			if y, ok := after.([]any); ok && d.lists(part, item, field, nil, y, depth) {
				return
			}
		}
		if x, ok := before.([]any); ok && after == nil && d.lists(part, item, field, x, nil, depth) {
			return
		}
	}
	switch {
	case before == nil:
		d.note(part, item, field, Added, nil, after)
	case after == nil:
		d.note(part, item, field, Removed, before, nil)
	default:
		d.note(part, item, field, Changed, before, after)
	}
}

// lists compares lists whose entries have names; false where they have none.
func (d *Diff) lists(part, item, field string, before, after []any, depth int) bool {
	a, okA := byName(before)
	b, okB := byName(after)
	if !okA || !okB {
		return false
	}
	if allTexts(before) && allTexts(after) {
		for _, name := range both(a, b) {
			switch {
			case a[name] == nil:
				d.note(part, item, field, Added, nil, b[name])
			case b[name] == nil:
				d.note(part, item, field, Removed, a[name], nil)
			}
		}
		return true
	}
	for _, name := range both(a, b) {
		in, at := name, field
		if item != "" {
			in, at = item, dotted(field, "["+name+"]")
		}
		switch {
		case a[name] == nil:
			d.note(part, in, at, Added, nil, b[name])
		case b[name] == nil:
			d.note(part, in, at, Removed, a[name], nil)
		default:
			d.compare(part, in, at, a[name], b[name], depth+1)
		}
	}
	return true
}

func allTexts(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok })
}

// identities are the fields by which entries of lists are told apart, together.
//
//nolint:gochecknoglobals // a constant list
var identities = []string{"source", "environment", "region", "host", "path", "object", "number", "name", "zone", "from", "what", "before", "key", "port"}

// byName are a list's entries by what tells them apart; false if they are no objects. An
// entry that is like another gets a number.
func byName(list []any) (map[string]any, bool) {
	all := map[string]any{}
	for _, one := range list {
		var name string
		switch x := one.(type) {
		case map[string]any:
			name = nameOf(x)
		case string:
			name = x
		default:
			return nil, false
		}
		key := name
		for n := 2; all[key] != nil; n++ {
			key = fmt.Sprintf("%s #%d", name, n)
		}
		all[key] = one
	}
	return all, true
}

// nameOf is what an entry is called: its name, with where it stands, or what it says.
func nameOf(x map[string]any) string {
	if s, ok := x["source"].(string); ok && x["place"] != nil { // a workload is what it was
		return s
	}
	var parts []string
	for _, key := range identities {
		switch v := x[key].(type) {
		case string:
			parts = append(parts, v)
		case uint64, int64, int:
			parts = append(parts, fmt.Sprint(v))
		}
		// A name is enough, but for lines of a bill and routes, which share names.
		if key == "name" && x["name"] != nil && x["environment"] == nil {
			if s, ok := x["name"].(string); ok {
				return s
			}
		}
	}
	return strings.Join(parts, " ")
}

func dotted(field, key string) string {
	if field == "" || strings.HasPrefix(key, "[") {
		return field + key
	}
	return field + "." + key
}

func equal(a, b any) bool { return shownWhole(a) == shownWhole(b) }

// shown is a value as a person reads it, not too long.
func shown(v any) string {
	text := shownWhole(v)
	if x, ok := v.(map[string]any); ok { // of a whole entry its own fields tell enough
		var fields []string
		for _, key := range slices.Sorted(maps.Keys(x)) {
			switch x[key].(type) {
			case map[string]any, []any, nil:
			default:
				fields = append(fields, key+": "+shownWhole(x[key]))
			}
		}
		text = strings.Join(fields, ", ")
	}
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown-1]) + "…"
	}
	return text
}

func shownWhole(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(plainValue(v, 0)); err != nil { // values of YAML that JSON has not, such as infinity
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

// plainValue is a value of YAML with texts for keys alone.
func plainValue(v any, depth int) any {
	if depth > maxDepth {
		return fmt.Sprint(v)
	}
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range x {
			out[k] = plainValue(e, depth+1)
		}
		return out
	case map[any]any:
		out := map[string]any{}
		for k, e := range x {
			out[fmt.Sprint(k)] = plainValue(e, depth+1)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = plainValue(e, depth+1)
		}
		return out
	}
	return v
}
