package landing

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Template is what a graph needs to know of a template.
type Template struct {
	Name string
	Body []byte
	// Hash is the SHA-256 of Body, in hexadecimal digits.
	Hash string
	// File is where it was read from; empty for one of the binary.
	File string
	// Edited says that it is none of the binary's.
	Edited      bool
	Description string
	// Scope is where it is deployed, as its metadata says; empty where they say nothing.
	Scope Scope
	// Parameters and Resources are in the order of the file.
	Parameters []Parameter
	Resources  []Resource
	// Outputs are their names, in the order of the file.
	Outputs []string
	// Transform says that CloudFormation rewrites it first.
	Transform bool

	conditions map[string]*yaml.Node
	mappings   map[string]*yaml.Node
}

// Parameter is a parameter of a template.
type Parameter struct {
	Name, Type, Description string
	// Default is nil where a value is needed.
	Default *string
	NoEcho  bool
	Allowed []string
	Pattern string
}

// Resource is a resource of a template.
type Resource struct {
	ID, Type, Condition string
	// Deletion is its DeletionPolicy; empty where it has none.
	Deletion string
	Line     int

	body *yaml.Node
}

// Bounds of a template that CloudFormation has, too.
const (
	maxResources  = 500
	maxParameters = 200
	maxOutputs    = 200
	// maxDepth bounds how deep a template's values are looked into.
	maxDepth = 64
)

// Parse reads a template. What CloudFormation checks is left to it; an error names
// the line of what can not be read at all.
func Parse(name string, body []byte) (*Template, error) {
	wrong := func(line int, format string, args ...any) error {
		return fmt.Errorf("%s.yaml:%d: %s", name, max(1, line), fmt.Sprintf(format, args...))
	}
	if len(body) > maxBody {
		return nil, wrong(1, "is larger than %d bytes, which CloudFormation takes in a request: split it", maxBody)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("%s.yaml: is not valid YAML: %w", name, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, wrong(1, "is no template: want a mapping with Resources")
	}
	root := doc.Content[0]
	t := &Template{Name: name, Body: body, Hash: hashOf(body), conditions: map[string]*yaml.Node{}, mappings: map[string]*yaml.Node{}}
	var err error
	section := func(key string, each func(name string, n *yaml.Node)) {
		n := field(root, key)
		if n == nil || err != nil {
			return
		}
		if n.Kind != yaml.MappingNode {
			err = wrong(n.Line, "%s is no mapping", key)
			return
		}
		known := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if name := n.Content[i].Value; known[name] {
				err = wrong(n.Content[i].Line, "%s has %s twice", key, name)
				return
			}
			known[n.Content[i].Value] = true
			each(n.Content[i].Value, n.Content[i+1])
		}
	}
	t.Description = text(field(root, "Description"))
	t.Transform = field(root, "Transform") != nil
	t.Scope = Scope(text(field(field(field(root, "Metadata"), "Dhow"), "Scope")))
	section("Parameters", func(name string, n *yaml.Node) { t.Parameters = append(t.Parameters, parameterOf(name, n)) })
	section("Conditions", func(name string, n *yaml.Node) { t.conditions[name] = n })
	section("Mappings", func(name string, n *yaml.Node) { t.mappings[name] = n })
	section("Outputs", func(name string, _ *yaml.Node) { t.Outputs = append(t.Outputs, name) })
	section("Resources", func(name string, n *yaml.Node) {
		t.Resources = append(t.Resources, Resource{ID: name, Type: text(field(n, "Type")), Condition: text(field(n, "Condition")), Deletion: text(field(n, "DeletionPolicy")), Line: n.Line, body: n})
	})
	switch {
	case err != nil:
		return nil, err
	case len(t.Resources) == 0:
		return nil, wrong(1, "is no template: it has no Resources")
	case len(t.Resources) > maxResources || len(t.Parameters) > maxParameters || len(t.Outputs) > maxOutputs:
		return nil, wrong(1, "has %d resources, %d parameters and %d outputs; CloudFormation takes %d, %d and %d: split it",
			len(t.Resources), len(t.Parameters), len(t.Outputs), maxResources, maxParameters, maxOutputs)
	}
	var faults []error
	for _, r := range t.Resources {
		if strings.Count(r.Type, "::") < 1 {
			faults = append(faults, wrong(r.Line, "the resource %s has no type: want one like AWS::Service::Name", r.ID))
		}
		if _, known := t.conditions[r.Condition]; r.Condition != "" && !known {
			faults = append(faults, wrong(r.Line, "the resource %s has the condition %q, which the template does not define", r.ID, r.Condition))
		}
	}
	return t, errors.Join(faults...)
}

func parameterOf(name string, n *yaml.Node) Parameter {
	p := Parameter{Name: name, Type: text(field(n, "Type")), Description: strings.TrimSpace(text(field(n, "Description"))), NoEcho: text(field(n, "NoEcho")) == "true", Pattern: text(field(n, "AllowedPattern"))}
	if d := field(n, "Default"); d != nil {
		p.Default = new(text(d))
	}
	if a := field(n, "AllowedValues"); a != nil && a.Kind == yaml.SequenceNode {
		for _, v := range a.Content {
			p.Allowed = append(p.Allowed, v.Value)
		}
	}
	return p
}

// field is a mapping's value of a key; nil where there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// text is a scalar's text; empty for anything else.
func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// parameter is the template's parameter of a name; nil where there is none.
func (t *Template) parameter(name string) *Parameter {
	for i := range t.Parameters {
		if t.Parameters[i].Name == name {
			return &t.Parameters[i]
		}
	}
	return nil
}

func (t *Template) gives(output string) bool { return slices.Contains(t.Outputs, output) }

// types are the types of its resources, sorted, each once.
func (t *Template) types() []string {
	var types []string
	for _, r := range t.Resources {
		types = append(types, r.Type)
	}
	slices.Sort(types)
	return slices.Compact(types)
}
