package landing

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// truth is what is known of a condition before anything is deployed.
type truth int

const (
	unknown truth = iota
	yes
	no
)

func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return unknown
}

// evaluation reads a template's conditions with a stack's parameters.
type evaluation struct {
	template *Template
	// values are what is known; one that is missing is an output of another stack, of
	// which no more is known than that it is something.
	values map[string]string
	depth  int
}

// has says whether a resource is there: one whose condition is not known may be.
func (e *evaluation) has(r Resource) truth {
	if r.Condition == "" {
		return yes
	}
	return e.named(r.Condition)
}

func (e *evaluation) named(condition string) truth {
	if e.depth++; e.depth > maxDepth { // a condition of itself, which CloudFormation refuses
		return unknown
	}
	defer func() { e.depth-- }()
	return e.condition(e.template.conditions[condition])
}

// refers says whether a value of a resource has a parameter in it, in a branch that may
// be taken.
func (e *evaluation) refers(n *yaml.Node, parameter string) bool {
	if e.depth++; e.depth > maxDepth {
		return true
	}
	defer func() { e.depth-- }()
	function, args := call(n)
	if args == nil {
		return false
	}
	switch function {
	case "Ref":
		return args.Value == parameter
	case "Sub":
		template := args
		if args.Kind == yaml.SequenceNode && len(args.Content) > 0 {
			template = args.Content[0]
		}
		if strings.Contains(template.Value, "${"+parameter+"}") {
			return true
		}
	case "If":
		if len(args.Content) == 3 { //nolint:mnd // the condition, and a value each way
			switch e.named(args.Content[0].Value) {
			case yes:
				return e.refers(args.Content[1], parameter)
			case no:
				return e.refers(args.Content[2], parameter)
			}
		}
	}
	if args != n { // what looks like a function's long form may be any mapping of one key
		return e.refers(args, parameter)
	}
	return slices.ContainsFunc(args.Content, func(c *yaml.Node) bool { return e.refers(c, parameter) })
}

// call takes a function's node apart, in its short and in its long form.
func call(n *yaml.Node) (function string, args *yaml.Node) {
	if n == nil {
		return "", nil
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		return strings.TrimPrefix(n.Tag, "!"), n
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		return strings.TrimPrefix(n.Content[0].Value, "Fn::"), n.Content[1]
	}
	return "", n
}

func (e *evaluation) condition(n *yaml.Node) truth {
	if e.depth++; e.depth > maxDepth {
		return unknown
	}
	defer func() { e.depth-- }()
	function, args := call(n)
	if args == nil {
		return unknown
	}
	switch function {
	case "Condition":
		return e.named(args.Value)
	case "Not":
		if len(args.Content) == 1 {
			return e.condition(args.Content[0]).not()
		}
	case "And", "Or":
		decided, otherwise := no, yes
		if function == "Or" {
			decided, otherwise = yes, no
		}
		all := otherwise
		for _, c := range args.Content {
			switch e.condition(c) {
			case decided:
				return decided
			case unknown:
				all = unknown
			}
		}
		return all
	case "Equals":
		if len(args.Content) == 2 {
			return e.equal(args.Content[0], args.Content[1])
		}
	}
	return unknown
}

func (e *evaluation) equal(a, b *yaml.Node) truth {
	left, knownLeft := e.value(a)
	right, knownRight := e.value(b)
	switch {
	case knownLeft && knownRight && left == right:
		return yes
	case knownLeft && knownRight, knownLeft && left == "" && e.isOutput(b), knownRight && right == "" && e.isOutput(a):
		return no // an output is never empty
	}
	return unknown
}

// isOutput says that a value is another stack's output alone.
func (e *evaluation) isOutput(n *yaml.Node) bool {
	function, args := call(n)
	return function == "Ref" && args != nil && e.template.parameter(args.Value) != nil
}

// value is a text of a condition, as far as it is known.
func (e *evaluation) value(n *yaml.Node) (string, bool) {
	if e.depth++; e.depth > maxDepth {
		return "", false
	}
	defer func() { e.depth-- }()
	function, args := call(n)
	if args == nil {
		return "", false
	}
	switch function {
	case "":
		return args.Value, args.Kind == yaml.ScalarNode
	case "Ref":
		v, ok := e.values[args.Value]
		return v, ok
	case "FindInMap":
		if len(args.Content) < 3 {
			return "", false
		}
		at := e.template.mappings[args.Content[0].Value]
		for _, key := range args.Content[1:3] {
			k, ok := e.value(key)
			if !ok {
				return "", false
			}
			at = field(at, k)
		}
		return text(at), at != nil && at.Kind == yaml.ScalarNode
	case "Join":
		if len(args.Content) != 2 {
			return "", false
		}
		_, list := call(args.Content[1])
		if function, of := call(args.Content[1]); function == "Ref" { // of a list parameter, whose items are joined by commas
			v, ok := e.values[of.Value]
			return strings.ReplaceAll(v, ",", args.Content[0].Value), ok
		}
		parts := make([]string, 0, len(list.Content))
		for _, c := range list.Content {
			v, ok := e.value(c)
			if !ok {
				return "", false
			}
			parts = append(parts, v)
		}
		return strings.Join(parts, args.Content[0].Value), true
	}
	return "", false
}
