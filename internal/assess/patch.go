package assess

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/value"
	"sigs.k8s.io/yaml"
)

// The types of patches, as `kubectl patch --type` calls them.
const (
	PatchStrategic = "strategic"
	PatchJSON      = "json"
)

// change is a field's new value; nil takes the field away.
type change struct {
	path  string
	value any
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// mergeKeys are the fields by which a strategic merge finds an item of a list.
var mergeKeys = map[string]string{"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "ports": "containerPort"}

// Patch is the YAML of what mends the finding and its type, both "" where no patch can be
// written because it takes a decision.
func (f *Finding) Patch() (text, kind string, err error) {
	patch, kind, err := f.patch()
	if patch == nil || err != nil {
		return "", "", err
	}
	out, err := yaml.Marshal(patch)
	if err != nil {
		return "", "", fmt.Errorf("write the patch of %s: %w", f.Name(), err)
	}
	return string(out), kind, nil
}

// patch is the document of what mends the finding and its type, nil and "" where there is none.
func (f *Finding) patch() (document any, kind string, err error) {
	switch {
	case len(f.json) > 0:
		return f.json, PatchJSON, nil
	case len(f.changes) == 0 || f.object == nil:
		return nil, "", nil
	}
	// Few fields are asked for, so the object is looked into as it is rather than converted.
	var content value.Value
	if u, ok := f.object.Content.(*unstructured.Unstructured); ok {
		content = value.NewValueInterface(u.Object)
	} else if content, err = value.NewValueReflect(f.object.Content); err != nil {
		return nil, "", fmt.Errorf("write the patch of %s: %w", f.Name(), err)
	}
	meta := map[string]any{"name": f.Object.Name}
	if f.Object.Namespace != "" {
		meta["namespace"] = f.Object.Namespace
	}
	patch := map[string]any{"apiVersion": f.object.APIVersion, "kind": f.Object.Kind, "metadata": meta}
	for _, c := range f.changes {
		if !put(patch, content, splitSteps(c.path), c.value) {
			return nil, "", nil // a list without names: it would be replaced whole
		}
	}
	return patch, PatchStrategic, nil
}

// put writes a value below a patch at the steps of a path; content is the object there,
// nil where there is nothing.
func put(patch map[string]any, content value.Value, steps []string, to any) bool {
	key := steps[0]
	below := field(content, key)
	switch {
	case len(steps) == 1:
		patch[key] = to
		return true
	case !strings.HasPrefix(steps[1], "["):
		next, ok := patch[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			patch[key] = next
		}
		return put(next, below, steps[1:], to)
	}
	n, err := strconv.Atoi(strings.Trim(steps[1], "[]"))
	merge := mergeKeys[key]
	if err != nil || merge == "" || below == nil || !below.IsList() || n < 0 || n >= below.AsList().Length() {
		return false
	}
	item := below.AsList().At(n)
	name := field(item, merge)
	if name == nil {
		merge = "port" // a Service's
		name = field(item, merge)
	}
	if name == nil {
		return false
	}
	id := name.Unstructured()
	list, _ := patch[key].([]any)
	var into map[string]any
	for _, one := range list {
		if m, ok := one.(map[string]any); ok && m[merge] == id {
			into = m
		}
	}
	if into == nil {
		into = map[string]any{merge: id}
		list = append(list, into)
		patch[key] = list
	}
	if len(steps) == 2 {
		if to == nil {
			into["$patch"] = "delete"
		}
		return true
	}
	return put(into, item, steps[2:], to)
}

// field is what stands at a key of an object, nil if nothing does.
func field(of value.Value, key string) value.Value {
	if of == nil || !of.IsMap() {
		return nil
	}
	if v, ok := of.AsMap().Get(key); ok && !v.IsNull() {
		return v
	}
	return nil
}

// splitSteps takes a path such as spec.containers[0].image apart: positions stay in brackets.
func splitSteps(path string) []string {
	var steps []string
	for path != "" {
		switch {
		case path[0] == '.':
			path = path[1:]
		case strings.HasPrefix(path, `["`):
			end := strings.Index(path, `"]`)
			if end < 0 {
				return append(steps, path)
			}
			steps, path = append(steps, path[2:end]), path[end+2:]
		case path[0] == '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(steps, path)
			}
			steps, path = append(steps, path[:end+1]), path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			steps, path = append(steps, path[:end]), path[end:]
		}
	}
	return steps
}

// pointer is a path as a JSON patch writes it.
func pointer(path string) string {
	var b strings.Builder
	for _, s := range splitSteps(path) {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(strings.Trim(s, "[]")))
	}
	return b.String()
}
