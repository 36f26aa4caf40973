package stacks

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// template is a parsed one. Values are those of YAML, with CloudFormation's short
// forms written out: !Ref X is {"Ref": "X"}, !Sub X is {"Fn::Sub": "X"}.
type template struct {
	name, text string
	root       map[string]any
}

func parsed(t *testing.T, name string) *template {
	t.Helper()
	text, err := Template(name)
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(doc.Content) != 1 {
		t.Fatalf("%s holds no document", name)
	}
	v, err := value(doc.Content[0])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	root, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is no map", name)
	}
	return &template{name: name, text: string(text), root: root}
}

// every runs a test of each template.
func every(t *testing.T, test func(*testing.T, *template)) {
	t.Helper()
	names := Names()
	if len(names) == 0 {
		t.Fatal("there are no templates")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { test(t, parsed(t, name)) })
	}
}

func value(n *yaml.Node) (any, error) {
	var v any
	switch n.Kind {
	case yaml.AliasNode:
		return nil, fmt.Errorf("line %d: CloudFormation knows no aliases", n.Line)
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("line %d: %s is there twice", n.Content[i].Line, key)
			}
			of, err := value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key] = of
		}
		v = m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			of, err := value(c)
			if err != nil {
				return nil, err
			}
			list = append(list, of)
		}
		v = list
	default:
		if strings.HasPrefix(n.Tag, "!!") {
			if err := n.Decode(&v); err != nil {
				return nil, fmt.Errorf("line %d: %w", n.Line, err)
			}
		} else {
			v = n.Value
		}
	}
	short, isShort := strings.CutPrefix(n.Tag, "!")
	if !isShort || strings.HasPrefix(short, "!") {
		return v, nil
	}
	switch short {
	case "Ref", "Condition":
		return map[string]any{short: v}, nil
	case "GetAtt":
		if s, ok := v.(string); ok {
			of, attribute, _ := strings.Cut(s, ".")
			v = []any{of, attribute}
		}
	}
	return map[string]any{"Fn::" + short: v}, nil
}

// section is one of the template's, as Parameters.
func (t *template) section(name string) map[string]any { return asMap(t.root[name]) }

// resources are by logical id.
func (t *template) resources() map[string]map[string]any {
	of := map[string]map[string]any{}
	for id, r := range t.section("Resources") {
		of[id] = asMap(r)
	}
	return of
}

// metadata is what the template tells of itself beside AWS's own words.
func (t *template) metadata() map[string]any { return asMap(t.section("Metadata")["Dhow"]) }

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

// asList is a list, or one thing as a list of it.
func asList(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// walk visits each map within a value, outer ones first.
func walk(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(v)
		for _, k := range sortedKeys(v) {
			walk(v[k], visit)
		}
	case []any:
		for _, of := range v {
			walk(of, visit)
		}
	}
}

// references are the names that a value refers to, by Ref, GetAtt and Sub, each once.
func references(v any) []string {
	found := map[string]bool{}
	walk(v, func(m map[string]any) {
		if s, ok := m["Ref"].(string); ok {
			found[s] = true
		}
		if list := asList(m["Fn::GetAtt"]); len(list) > 0 {
			found[asString(list[0])] = true
		}
		sub, own := m["Fn::Sub"], map[string]any(nil)
		if list, ok := sub.([]any); ok && len(list) == 2 {
			sub, own = list[0], asMap(list[1])
		}
		for _, name := range substituted(asString(sub)) {
			if _, mine := own[name]; !mine {
				found[name] = true
			}
		}
	})
	return sortedKeys(found)
}

// substituted are the names between ${ and } in the text of a Sub; ${!Name} is no name.
func substituted(text string) []string {
	var names []string
	for {
		_, rest, ok := strings.Cut(text, "${")
		if !ok {
			return names
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return names
		}
		if !strings.HasPrefix(name, "!") {
			name, _, _ = strings.Cut(name, ".")
			names = append(names, name)
		}
		text = after
	}
}
