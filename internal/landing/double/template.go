package double

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// CloudFormation's limits of a template.
const (
	maxBody       = 51_200 // bytes of a template that a request carries
	maxResources  = 500
	maxParameters = 200
	maxOutputs    = 200
	maxMappings   = 200
	maxDepth      = 100 // of a value; CloudFormation's own bound is not told
)

// template is a parsed template. Its values are nil, bool, json.Number, string, []any
// and map[string]any; the short forms of functions are written as the long ones.
type template struct {
	body        string
	description string
	parameters  map[string]*parameter
	mappings    map[string]any
	conditions  map[string]any
	rules       map[string]any
	resources   map[string]*resourceDecl
	outputs     map[string]*outputDecl
	metadata    any
	transforms  []string
	lines       map[string]int
}

type parameter struct {
	name, kind, description, constraint string
	fallback                            *string
	allowed                             []string
	pattern                             *pattern
	minLength, maxLength                *float64
	minValue, maxValue                  *float64
	noEcho                              bool
}

type resourceDecl struct {
	name, kind, condition    string
	properties               map[string]any
	dependsOn                []string
	deletion, replacePolicy  string
	creationPolicy, updating any
	metadata                 any
}

type outputDecl struct {
	name, description, condition string
	value, export                any
}

// Locate is the line at which a template has what a path names, such as
// /Resources/Vpc/Properties/CidrBlock, or its nearest parent; 0 where nothing is there.
func Locate(body, path string) int {
	_, lines, err := parseBody(body)
	if err != nil {
		return 0
	}
	for path != "" {
		if line := lines[path]; line > 0 {
			return line
		}
		path = path[:strings.LastIndexByte(path, '/')]
	}
	return 0
}

// parseBody reads a template's values and the line of each, by its path.
func parseBody(body string) (any, map[string]int, error) {
	lines := map[string]int{}
	if strings.HasPrefix(strings.TrimSpace(body), "{") {
		r := &jsonReader{dec: json.NewDecoder(strings.NewReader(body)), body: body, lines: lines}
		r.dec.UseNumber()
		v, err := r.value("", 0)
		if err == nil {
			if _, tail := r.dec.Token(); !errors.Is(tail, io.EOF) {
				err = errors.New("something follows it")
			}
		}
		if err != nil {
			if f := new(fault); errors.As(err, &f) {
				return nil, nil, f
			}
			line, column := position(body, int(r.dec.InputOffset()))
			return nil, nil, invalid("Template format error: JSON not well-formed. (line %d, column %d)", line, column)
		}
		return v, lines, nil
	}
	dec := yaml.NewDecoder(strings.NewReader(body))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, invalid("Template format error: Unsupported structure.")
		}
		return nil, nil, notWellFormed(err)
	}
	v, err := (&yamlReader{lines}).value(&doc, "", 0)
	return v, lines, err
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func notWellFormed(err error) error {
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	return invalid("Template format error: YAML not well-formed. (line %d, column 1)", line)
}

func position(body string, offset int) (line, column int) {
	before := body[:min(offset, len(body))]
	return 1 + strings.Count(before, "\n"), 1 + offset - (strings.LastIndexByte(before, '\n') + 1)
}

var errDeep = errors.New("too deep")

type jsonReader struct {
	dec   *json.Decoder
	body  string
	lines map[string]int
	line  int // of offset at
	at    int
}

func (r *jsonReader) value(path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	tok, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	if to := int(r.dec.InputOffset()); to > r.at {
		r.line += strings.Count(r.body[r.at:to], "\n")
		r.at = to
	}
	r.lines[path] = r.line + 1
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '[' {
			list := []any{}
			for r.dec.More() {
				item, err := r.value(path+"/"+strconv.Itoa(len(list)), depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			_, err := r.dec.Token()
			return list, err
		}
		object := map[string]any{}
		for r.dec.More() {
			key, err := r.dec.Token()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if _, twice := object[name]; !ok || twice {
				return nil, fmt.Errorf("%v is there twice", key)
			}
			if object[name], err = r.value(path+"/"+name, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := r.dec.Token()
		return object, err
	case nil:
		return nil, nullValue(path)
	default:
		return tok, nil
	}
}

func nullValue(path string) error {
	return invalid("Template format error: [%s] 'null' values are not allowed in templates", path)
}

type yamlReader struct{ lines map[string]int }

func (r *yamlReader) value(n *yaml.Node, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, invalid("Template format error: YAML not well-formed. (line %d, column %d)", n.Line, n.Column)
	}
	if n.Kind == yaml.DocumentNode {
		return r.value(n.Content[0], path, depth)
	}
	r.lines[path] = n.Line
	if n.Kind == yaml.AliasNode {
		return nil, invalid("Template error: YAML aliases are not allowed in CloudFormation templates")
	}
	if tag := n.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") {
		return r.function(n, path, depth)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			v, err := r.value(item, path+"/"+strconv.Itoa(i), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		object := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if _, twice := object[key.Value]; twice || key.Kind != yaml.ScalarNode {
				return nil, invalid("Template format error: YAML not well-formed. (line %d, column %d)", key.Line, key.Column)
			}
			v, err := r.value(n.Content[i+1], path+"/"+key.Value, depth+1)
			if err != nil {
				return nil, err
			}
			r.lines[path+"/"+key.Value] = key.Line
			object[key.Value] = v
		}
		return object, nil
	}
	return scalar(n, path)
}

func scalar(n *yaml.Node, path string) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nullValue(path)
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, notWellFormed(err)
		}
		return b, nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		var i int64
		if n.Decode(&i) == nil { // octal and the like
			return json.Number(strconv.FormatInt(i, 10)), nil
		}
		return n.Value, nil
	default:
		return n.Value, nil
	}
}

// function reads a short form, such as !Sub, as its long one.
func (r *yamlReader) function(n *yaml.Node, path string, depth int) (any, error) {
	name := strings.TrimPrefix(n.Tag, "!")
	if name != "Ref" && name != "Condition" {
		name = "Fn::" + name
	}
	if !functions[name] {
		return nil, invalid("Template format error: YAML not well-formed. (line %d, column %d)", n.Line, n.Column)
	}
	plain := *n
	plain.Tag = ""
	if n.Kind == yaml.ScalarNode {
		plain.Tag = "!!str"
		if n.Style == 0 && name != "Ref" && name != "Fn::Sub" && name != "Fn::GetAtt" {
			plain.Tag = ""
		}
	}
	v, err := r.value(&plain, path+"/"+name, depth+1)
	if err != nil {
		return nil, err
	}
	if text, ok := v.(string); ok && name == "Fn::GetAtt" {
		if at := strings.IndexByte(text, '.'); at > 0 {
			v = []any{text[:at], text[at+1:]}
		}
	}
	return map[string]any{name: v}, nil
}

// functions are all intrinsic functions that are known.
var functions = map[string]bool{"Ref": true, "Condition": true, "Fn::GetAtt": true, "Fn::Sub": true, "Fn::Join": true, "Fn::Select": true, "Fn::Split": true,
	"Fn::FindInMap": true, "Fn::GetAZs": true, "Fn::Cidr": true, "Fn::Base64": true, "Fn::ImportValue": true, "Fn::If": true, "Fn::And": true, "Fn::Or": true,
	"Fn::Not": true, "Fn::Equals": true, "Fn::Contains": true, "Fn::EachMemberEquals": true, "Fn::EachMemberIn": true, "Fn::RefAll": true, "Fn::ValueOf": true,
	"Fn::ValueOfAll": true, "Fn::Length": true, "Fn::ToJsonString": true, "Fn::Transform": true}

// functionOf is the function that a value calls, if it calls one.
func functionOf(v any) (name string, arg any, ok bool) {
	m, isMap := v.(map[string]any)
	if !isMap || len(m) != 1 {
		return "", nil, false
	}
	for name, arg = range m {
	}
	return name, arg, functions[name] && name != "Condition"
}

var (
	sections        = []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions", "Transform", "Resources", "Outputs", "Hooks"}
	resourceMembers = []string{"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "CreationPolicy", "UpdatePolicy"}
	alphanumeric    = regexp.MustCompile(`^[A-Za-z0-9]+$`)
)

// parseTemplate reads a template, and refuses one that is no template whatever its
// parameters' values are.
func parseTemplate(body string) (*template, error) {
	if body == "" {
		return nil, invalid("Either Template URL or Template Body must be specified.")
	}
	if len(body) > maxBody {
		return nil, invalid("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to %d", maxBody)
	}
	v, lines, err := parseBody(body)
	if err != nil {
		return nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, invalid("Template format error: Unsupported structure.")
	}
	t := &template{body: body, lines: lines, parameters: map[string]*parameter{}, resources: map[string]*resourceDecl{}, outputs: map[string]*outputDecl{}}
	var strange []string
	for name := range root {
		if !slices.Contains(sections, name) {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		slices.Sort(strange)
		return nil, invalid("Invalid template property or properties [%s]", strings.Join(strange, ", "))
	}
	if version, ok := root["AWSTemplateFormatVersion"]; ok && text(version) != "2010-09-09" {
		return nil, invalid("Template format error: unsupported value for AWSTemplateFormatVersion.")
	}
	if d, ok := root["Description"]; ok {
		if t.description, ok = d.(string); !ok {
			return nil, invalid("Template format error: Description must be a string.")
		}
		if len(t.description) > 1024 {
			return nil, invalid("Template format error: 'Description' length is greater than 1024.")
		}
	}
	t.metadata = root["Metadata"]
	for _, section := range []struct {
		name string
		most int
		to   *map[string]any
		read func(name string, body map[string]any) error
	}{
		{"Mappings", maxMappings, &t.mappings, nil},
		{"Conditions", maxDepth * maxDepth, &t.conditions, nil},
		{"Rules", maxMappings, &t.rules, nil},
		{"Parameters", maxParameters, nil, t.readParameter},
		{"Resources", maxResources, nil, t.readResource},
		{"Outputs", maxOutputs, nil, t.readOutput},
	} {
		raw, ok := root[section.name]
		if !ok {
			continue
		}
		object, ok := raw.(map[string]any)
		if !ok {
			return nil, invalid("Template format error: %s must be an object.", section.name)
		}
		if len(object) > section.most {
			return nil, invalid("Template format error: Number of %s, %d, is greater than maximum allowed, %d", strings.ToLower(section.name), len(object), section.most)
		}
		if section.to != nil {
			*section.to = object
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			member, ok := object[name].(map[string]any)
			if !ok {
				return nil, invalid("Template format error: Every %s member must be an object.", section.name)
			}
			if err := section.read(name, member); err != nil {
				return nil, err
			}
		}
	}
	if len(t.resources) == 0 {
		return nil, invalid("Template format error: At least one Resources member must be defined.")
	}
	switch tr := root["Transform"].(type) {
	case nil:
	case string:
		t.transforms = []string{tr}
	case []any:
		for _, one := range tr {
			t.transforms = append(t.transforms, text(one))
		}
	}
	for _, name := range t.transforms {
		if name != "AWS::LanguageExtensions" {
			return nil, invalid("No transform named %s found.", name)
		}
	}
	return t, nil
}

func (t *template) readResource(name string, body map[string]any) error {
	if !alphanumeric.MatchString(name) {
		return invalid("Template format error: Resource name %s is non alphanumeric.", name)
	}
	for _, member := range slices.Sorted(maps.Keys(body)) {
		if !slices.Contains(resourceMembers, member) {
			return invalid("Invalid template resource property '%s'", member)
		}
	}
	r := &resourceDecl{name: name, metadata: body["Metadata"], creationPolicy: body["CreationPolicy"], updating: body["UpdatePolicy"]}
	var ok bool
	if r.kind, ok = body["Type"].(string); !ok || r.kind == "" {
		return invalid("Template format error: [/Resources/%s] Every Resources object must contain a Type member.", name)
	}
	if p, given := body["Properties"]; given {
		if r.properties, ok = p.(map[string]any); !ok {
			return invalid("Template format error: [/Resources/%s/Properties] Every Properties member must be an object.", name)
		}
	}
	if c, given := body["Condition"]; given {
		if r.condition, ok = c.(string); !ok {
			return invalid("Template format error: Every Condition member must be a string.")
		}
	}
	switch d := body["DependsOn"].(type) {
	case nil:
	case string:
		r.dependsOn = []string{d}
	case []any:
		for _, one := range d {
			s, ok := one.(string)
			if !ok {
				return invalid("Template format error: DependsOn must be a string or list of strings.")
			}
			r.dependsOn = append(r.dependsOn, s)
		}
	default:
		return invalid("Template format error: DependsOn must be a string or list of strings.")
	}
	for member, to := range map[string]*string{"DeletionPolicy": &r.deletion, "UpdateReplacePolicy": &r.replacePolicy} {
		p, given := body[member]
		if !given {
			continue
		}
		if *to, ok = p.(string); !ok {
			if _, _, calls := functionOf(p); calls {
				return invalid("Template format error: Intrinsic functions in %s need the transform AWS::LanguageExtensions.", member)
			}
			return invalid("Template format error: Every %s member must be a string.", member)
		}
		if !slices.Contains([]string{"Delete", "Retain", "Snapshot", "RetainExceptOnCreate"}, *to) || member == "UpdateReplacePolicy" && *to == "RetainExceptOnCreate" {
			return invalid("Template format error: Unrecognized %s %s for resource %s", member, *to, name)
		}
		if *to == "Snapshot" && !takesSnapshots[r.kind] {
			return invalid("Template error: resource type %s does not support deletion policy Snapshot", r.kind)
		}
	}
	t.resources[name] = r
	return nil
}

// takesSnapshots are the types that a policy of Snapshot is for.
var takesSnapshots = map[string]bool{"AWS::DocDB::DBCluster": true, "AWS::EC2::Volume": true, "AWS::ElastiCache::CacheCluster": true, "AWS::ElastiCache::ReplicationGroup": true,
	"AWS::Neptune::DBCluster": true, "AWS::RDS::DBCluster": true, "AWS::RDS::DBInstance": true, "AWS::Redshift::Cluster": true}

func (t *template) readOutput(name string, body map[string]any) error {
	if !alphanumeric.MatchString(name) {
		return invalid("Template format error: Output name %s is non alphanumeric.", name)
	}
	o := &outputDecl{name: name}
	for _, member := range slices.Sorted(maps.Keys(body)) {
		v := body[member]
		switch member {
		case "Value":
			o.value = v
		case "Description":
			o.description = text(v)
		case "Condition":
			o.condition = text(v)
		case "Export":
			m, ok := v.(map[string]any)
			if !ok || m["Name"] == nil || len(m) != 1 {
				return invalid("Template format error: Output %s is malformed. The Name field of every Export member must be specified.", name)
			}
			o.export = m["Name"]
		default:
			return invalid("Template format error: Output %s is malformed. Invalid member %s", name, member)
		}
	}
	if o.value == nil {
		return invalid("Template format error: Output %s is malformed. Every Outputs member must contain a Value object", name)
	}
	t.outputs[name] = o
	return nil
}

// text is a scalar as CloudFormation writes it where a string is wanted.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	default:
		return ""
	}
}
