package double

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// resourceType is what a schema says of a resource.
type resourceType struct {
	name, key string
	root      *schema
	// Each is a list of paths of properties; a * stands for every item of a list.
	readOnly, createOnly, maybeCreateOnly, writeOnly, primary [][]string
	// tags is the property that holds tags; empty where it has none.
	tags string
	// handled says that AWS makes the type by handlers of its registry.
	handled bool
}

// schema is one compiled schema.
type schema struct {
	types      []string // none: any
	properties map[string]*schema
	patterns   []patternProperty
	required   []string
	closed     bool // no other property is allowed
	additional *schema
	items      *schema
	enum       []any
	foldEnum   bool
	constant   any
	pattern    *pattern
	minLength, maxLength, minItems, maxItems,
	minProperties, maxProperties *int
	minimum, maximum                *float64
	exclusiveMin, exclusiveMax      bool
	unique                          bool
	allOf, anyOf, oneOf             []*schema
	not, ifs, then, otherwise       *schema
	requiredXor, requiredOr         []string
	dependentRequired, dependentNot map[string][]string
	format                          string
}

type patternProperty struct {
	key   *pattern
	value *schema
}

// pattern is a regular expression as AWS writes them: Go's where it can be, which is
// bounded, or else one that knows what Java's know, with a bound of its own.
type pattern struct {
	text string
	fast *regexp.Regexp
	slow *regexp2.Regexp
}

// matchTime bounds a match of an expression that is not Go's own.
const matchTime = 100 * time.Millisecond

func compilePattern(text string) *pattern {
	p := &pattern{text: text}
	var err error
	if p.fast, err = regexp.Compile(text); err == nil {
		return p
	}
	if p.slow, err = regexp2.Compile(text, regexp2.None); err != nil {
		return p // an expression that nobody can read matches everything
	}
	p.slow.MatchTimeout = matchTime
	return p
}

func (p *pattern) matches(s string) bool {
	if p.fast != nil {
		return p.fast.MatchString(s)
	}
	if p.slow != nil {
		ok, err := p.slow.MatchString(s)
		return ok || err != nil
	}
	return true
}

// rawSchema is a schema as it is written. Of some keywords AWS's schemas have two forms.
type rawSchema struct {
	Ref                  string                `json:"$ref"`
	Type                 words                 `json:"type"`
	Properties           map[string]*rawSchema `json:"properties"`
	PatternProperties    map[string]*rawSchema `json:"patternProperties"`
	AdditionalProperties json.RawMessage       `json:"additionalProperties"`
	Required             []string              `json:"required"`
	Items                json.RawMessage       `json:"items"`
	Enum                 []any                 `json:"enum"`
	EnumFold             []any                 `json:"enumCaseInsensitive"`
	Const                any                   `json:"const"`
	Pattern              string                `json:"pattern"`
	MinLength            *json.Number          `json:"minLength"`
	MaxLength            *json.Number          `json:"maxLength"`
	MinItems             *json.Number          `json:"minItems"`
	MaxItems             *json.Number          `json:"maxItems"`
	MinProperties        *json.Number          `json:"minProperties"`
	MaxProperties        *json.Number          `json:"maxProperties"`
	Minimum              *json.Number          `json:"minimum"`
	Maximum              *json.Number          `json:"maximum"`
	ExclusiveMinimum     *json.Number          `json:"exclusiveMinimum"`
	ExclusiveMaximum     *json.Number          `json:"exclusiveMaximum"`
	UniqueItems          bool                  `json:"uniqueItems"`
	AllOf                []*rawSchema          `json:"allOf"`
	AnyOf                []*rawSchema          `json:"anyOf"`
	OneOf                []*rawSchema          `json:"oneOf"`
	Not                  *rawSchema            `json:"not"`
	If                   *rawSchema            `json:"if"`
	Then                 *rawSchema            `json:"then"`
	Else                 *rawSchema            `json:"else"`
	RequiredXor          []string              `json:"requiredXor"`
	RequiredOr           []string              `json:"requiredOr"`
	DependentRequired    map[string][]string   `json:"dependentRequired"`
	DependentExcluded    map[string][]string   `json:"dependentExcluded"`
	Format               string                `json:"format"`
}

// words is one word or several.
type words []string

func (w *words) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(w))
}

// rawType is a resource's schema as it is written.
type rawType struct {
	rawSchema
	Definitions     map[string]*rawSchema `json:"definitions"`
	ReadOnly        []string              `json:"readOnlyProperties"`
	Handlers        map[string]any        `json:"handlers"`
	CreateOnly      []string              `json:"createOnlyProperties"`
	MaybeCreateOnly []string              `json:"conditionalCreateOnlyProperties"`
	WriteOnly       []string              `json:"writeOnlyProperties"`
	Primary         []string              `json:"primaryIdentifier"`
	Tagging         struct {
		TagProperty string `json:"tagProperty"`
		Taggable    *bool  `json:"taggable"`
	} `json:"tagging"`
}

func compileType(name string, text []byte) (*resourceType, error) {
	var raw rawType
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	c := &compiler{raw: &raw, done: map[string]*schema{}}
	root, err := c.compile(&raw.rawSchema)
	if err != nil {
		return nil, err
	}
	t := &resourceType{name: name, root: root, handled: len(raw.Handlers) > 0, readOnly: paths(raw.ReadOnly), createOnly: paths(raw.CreateOnly), maybeCreateOnly: paths(raw.MaybeCreateOnly),
		writeOnly: paths(raw.WriteOnly), primary: paths(raw.Primary)}
	tags := strings.TrimPrefix(raw.Tagging.TagProperty, "/properties/")
	if tags == "" {
		tags = "Tags"
	}
	if root.properties[tags] != nil && (raw.Tagging.Taggable == nil || *raw.Tagging.Taggable) {
		t.tags = tags
	}
	return t, nil
}

// paths are pointers like /properties/Endpoint/Address as names.
func paths(pointers []string) [][]string {
	var all [][]string
	for _, p := range pointers {
		all = append(all, slices.DeleteFunc(strings.Split(strings.TrimPrefix(p, "/properties/"), "/"), func(s string) bool { return s == "properties" }))
	}
	return all
}

// compiler compiles the definitions of a type once each: they refer to one another.
type compiler struct {
	raw  *rawType
	done map[string]*schema
}

func (c *compiler) refer(ref string) (*schema, error) {
	if s := c.done[ref]; s != nil {
		return s, nil
	}
	var raw *rawSchema
	if name, ok := strings.CutPrefix(ref, "#/definitions/"); ok {
		raw = c.raw.Definitions[name]
	} else if name, ok := strings.CutPrefix(ref, "#/properties/"); ok {
		raw = c.raw.Properties[name]
	}
	if raw == nil {
		return nil, fmt.Errorf("there is no %s", ref)
	}
	s := &schema{}
	c.done[ref] = s
	made, err := c.compile(raw)
	if err != nil {
		return nil, err
	}
	*s = *made
	return s, nil
}

func (c *compiler) compile(raw *rawSchema) (*schema, error) {
	if raw == nil {
		return nil, nil
	}
	if raw.Ref != "" {
		return c.refer(raw.Ref)
	}
	s := &schema{types: raw.Type, required: raw.Required, enum: raw.Enum, constant: raw.Const, unique: raw.UniqueItems, requiredXor: raw.RequiredXor,
		requiredOr: raw.RequiredOr, dependentRequired: raw.DependentRequired, dependentNot: raw.DependentExcluded, format: raw.Format}
	if raw.EnumFold != nil {
		s.enum, s.foldEnum = raw.EnumFold, true
	}
	if raw.Pattern != "" {
		s.pattern = compilePattern(raw.Pattern)
	}
	s.minLength, s.maxLength, s.minItems, s.maxItems = whole(raw.MinLength), whole(raw.MaxLength), whole(raw.MinItems), whole(raw.MaxItems)
	s.minProperties, s.maxProperties = whole(raw.MinProperties), whole(raw.MaxProperties)
	s.minimum, s.maximum = number(raw.Minimum), number(raw.Maximum)
	if n := number(raw.ExclusiveMinimum); n != nil {
		s.minimum, s.exclusiveMin = n, true
	}
	if n := number(raw.ExclusiveMaximum); n != nil {
		s.maximum, s.exclusiveMax = n, true
	}
	var failed []error
	one := func(raw *rawSchema) *schema {
		made, err := c.compile(raw)
		failed = append(failed, err)
		return made
	}
	many := func(raw []*rawSchema) (made []*schema) {
		for _, r := range raw {
			made = append(made, one(r))
		}
		return made
	}
	if len(raw.Properties) > 0 {
		s.properties = make(map[string]*schema, len(raw.Properties))
		for name, p := range raw.Properties {
			s.properties[name] = one(p)
		}
	}
	for key, p := range raw.PatternProperties {
		s.patterns = append(s.patterns, patternProperty{compilePattern(key), one(p)})
	}
	slices.SortFunc(s.patterns, func(a, b patternProperty) int { return strings.Compare(a.key.text, b.key.text) })
	s.allOf, s.anyOf, s.oneOf = many(raw.AllOf), many(raw.AnyOf), many(raw.OneOf)
	s.not, s.ifs, s.then, s.otherwise = one(raw.Not), one(raw.If), one(raw.Then), one(raw.Else)
	s.closed = string(raw.AdditionalProperties) == "false"
	for text, to := range map[*json.RawMessage]**schema{&raw.AdditionalProperties: &s.additional, &raw.Items: &s.items} {
		if len(*text) == 0 || (*text)[0] != '{' {
			continue
		}
		var r rawSchema
		if err := json.Unmarshal(*text, &r); err != nil {
			return nil, err
		}
		*to = one(&r)
	}
	return s, errors.Join(failed...)
}

func whole(n *json.Number) *int {
	if n == nil {
		return nil
	}
	f, err := n.Float64()
	if err != nil || f > 1<<30 {
		return nil // larger than anything that fits into a template
	}
	i := int(f)
	return &i
}

func number(n *json.Number) *float64 {
	if n == nil {
		return nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil
	}
	return &f
}

// customResource is a type that takes any property.
func customResource(name string) *resourceType {
	return &resourceType{name: name, root: &schema{types: []string{"object"}, required: []string{"ServiceToken"},
		properties: map[string]*schema{"ServiceToken": {types: []string{"string"}}, "ServiceTimeout": {types: []string{"integer"}}}},
		createOnly: [][]string{{"ServiceToken"}}}
}

// at is the schema of a property, by its path, or nil.
func (t *resourceType) at(path []string) *schema {
	s := t.root
	for _, part := range path {
		if s = s.child(part); s == nil {
			return nil
		}
	}
	return s
}

func (s *schema) child(part string) *schema {
	if p := s.properties[part]; p != nil {
		return p
	}
	if s.items != nil && (part == "*" || isIndex(part)) {
		return s.items
	}
	for _, p := range s.patterns {
		if p.key.matches(part) {
			return p.value
		}
	}
	for _, of := range [][]*schema{s.allOf, s.anyOf, s.oneOf} {
		for _, o := range of {
			if p := o.child(part); p != nil {
				return p
			}
		}
	}
	return s.additional
}

func isIndex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// covers says whether a path of a list is the given one or leads to it; a * is any item.
func covers(list [][]string, path []string) bool {
	return slices.ContainsFunc(list, func(p []string) bool {
		if len(p) > len(path) {
			return false
		}
		for i, part := range p {
			if part != path[i] && (part != "*" || !isIndex(path[i])) {
				return false
			}
		}
		return true
	})
}
