package assess

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
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
	switch {
	case len(f.json) > 0:
		out, err := yaml.Marshal(f.json)
		if err != nil {
			return "", "", fmt.Errorf("write the patch of %s: %w", f.Name(), err)
		}
		return string(out), PatchJSON, nil
	case len(f.changes) == 0 || f.object == nil:
		return "", "", nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(f.object.Content)
	if err != nil {
		return "", "", fmt.Errorf("write the patch of %s: %w", f.Name(), err)
	}
	meta := map[string]any{"name": f.Object.Name}
	if f.Object.Namespace != "" {
		meta["namespace"] = f.Object.Namespace
	}
	patch := map[string]any{"apiVersion": f.object.APIVersion, "kind": f.Object.Kind, "metadata": meta}
	for _, c := range f.changes {
		if !put(patch, content, splitSteps(c.path), c.value) {
			return "", "", nil // a list without names: it would be replaced whole
		}
	}
	out, err := yaml.Marshal(patch)
	if err != nil {
		return "", "", fmt.Errorf("write the patch of %s: %w", f.Name(), err)
	}
	return string(out), PatchStrategic, nil
}

// put writes a value below a patch at the steps of a path; content is the object there.
func put(patch map[string]any, content any, steps []string, value any) bool {
	key := steps[0]
	var below any
	if m, ok := content.(map[string]any); ok {
		below = m[key]
	}
	switch {
	case len(steps) == 1:
		patch[key] = value
		return true
	case !strings.HasPrefix(steps[1], "["):
		next, ok := patch[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			patch[key] = next
		}
		return put(next, below, steps[1:], value)
	}
	n, err := strconv.Atoi(strings.Trim(steps[1], "[]"))
	items, _ := below.([]any)
	merge := mergeKeys[key]
	if err != nil || n >= len(items) || merge == "" {
		return false
	}
	item, _ := items[n].(map[string]any)
	if item[merge] == nil {
		merge = "port" // a Service's
	}
	if item[merge] == nil {
		return false
	}
	list, _ := patch[key].([]any)
	var into map[string]any
	for _, one := range list {
		if m, ok := one.(map[string]any); ok && m[merge] == item[merge] {
			into = m
		}
	}
	if into == nil {
		into = map[string]any{merge: item[merge]}
		list = append(list, into)
		patch[key] = list
	}
	if len(steps) == 2 {
		if value == nil {
			into["$patch"] = "delete"
		}
		return true
	}
	return put(into, item, steps[2:], value)
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
