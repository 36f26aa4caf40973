package double

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	noEchoMask    = "****"
	maxParamValue = 4096 // bytes
)

var parameterMembers = []string{"Type", "Default", "Description", "AllowedValues", "AllowedPattern", "ConstraintDescription", "MinLength", "MaxLength", "MinValue", "MaxValue", "NoEcho"}

// awsKinds are the types of parameters that stand for things of an account, each with
// how a value of it looks.
var awsKinds = map[string]*regexp.Regexp{
	"AWS::EC2::AvailabilityZone::Name": regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d[a-z]$`),
	"AWS::EC2::Image::Id":              regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`),
	"AWS::EC2::Instance::Id":           regexp.MustCompile(`^i-[0-9a-f]{8,17}$`),
	"AWS::EC2::KeyPair::KeyName":       regexp.MustCompile(`^.{1,255}$`),
	"AWS::EC2::SecurityGroup::GroupName": regexp.MustCompile(
		`^.{1,255}$`),
	"AWS::EC2::SecurityGroup::Id": regexp.MustCompile(`^sg-[0-9a-f]{8,17}$`),
	"AWS::EC2::Subnet::Id":        regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`),
	"AWS::EC2::Volume::Id":        regexp.MustCompile(`^vol-[0-9a-f]{8,17}$`),
	"AWS::EC2::VPC::Id":           regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`),
	"AWS::Route53::HostedZone::Id": regexp.MustCompile(
		`^Z[A-Z0-9]{8,32}$`),
}

// existing are those of awsKinds whose values must be resources that there are.
var existing = []string{"AWS::EC2::Instance::Id", "AWS::EC2::SecurityGroup::Id", "AWS::EC2::Subnet::Id", "AWS::EC2::Volume::Id", "AWS::EC2::VPC::Id", "AWS::Route53::HostedZone::Id"}

// listOf is the kind of a list's items; "" where a kind is no list.
func listOf(kind string) string {
	switch {
	case kind == "CommaDelimitedList":
		return "String"
	case strings.HasPrefix(kind, "List<") && strings.HasSuffix(kind, ">"):
		return kind[len("List<") : len(kind)-1]
	}
	return ""
}

// ssmOf is the kind of the value that a parameter of Systems Manager holds.
func ssmOf(kind string) string {
	if rest, ok := strings.CutPrefix(kind, "AWS::SSM::Parameter::Value<"); ok {
		return strings.TrimSuffix(rest, ">")
	}
	return ""
}

func knownKind(kind string) bool {
	if inner := ssmOf(kind); inner != "" {
		return inner != "Number" && knownKind(inner)
	}
	if item := listOf(kind); item != "" {
		return kind == "CommaDelimitedList" || item == "Number" || item == "String" || awsKinds[item] != nil && item != "AWS::EC2::KeyPair::KeyName"
	}
	return kind == "String" || kind == "Number" || kind == "AWS::SSM::Parameter::Name" || awsKinds[kind] != nil
}

func (t *template) readParameter(name string, body map[string]any) error {
	if !alphanumeric.MatchString(name) || len(name) > 255 {
		return invalid("Template format error: Parameter name %s is non alphanumeric.", name)
	}
	p := &parameter{name: name, description: text(body["Description"]), constraint: text(body["ConstraintDescription"])}
	for _, member := range slices.Sorted(maps.Keys(body)) {
		if !slices.Contains(parameterMembers, member) {
			return invalid("Invalid template parameter property '%s'", member)
		}
		if _, _, calls := functionOf(body[member]); calls {
			return invalid("Template format error: Every %s member must be a string.", member)
		}
	}
	p.kind = text(body["Type"])
	switch {
	case p.kind == "":
		return invalid("Template format error: Every Parameters object must contain a Type member.")
	case !knownKind(p.kind):
		return invalid("Template format error: Unrecognized parameter type: %s", p.kind)
	case len(p.description) > 4000:
		return invalid("Template format error: Parameter %s description is longer than 4000 characters.", name)
	}
	if raw, ok := body["Default"]; ok {
		switch raw.(type) {
		case string, bool, json.Number:
		default:
			return invalid("Template format error: Every Default member must be a string.")
		}
		d := text(raw)
		p.fallback = &d
	}
	if raw, ok := body["AllowedValues"]; ok {
		list, isList := raw.([]any)
		if !isList || len(list) == 0 {
			return invalid("Template format error: Every AllowedValues member must be a list.")
		}
		for _, v := range list {
			p.allowed = append(p.allowed, text(v))
		}
	}
	if raw, ok := body["AllowedPattern"]; ok {
		p.pattern = compilePattern(text(raw))
		if p.pattern.fast == nil && p.pattern.slow == nil {
			return invalid("Template format error: Parameter %s AllowedPattern is not a valid regular expression.", name)
		}
	}
	for member, to := range map[string]**float64{"MinLength": &p.minLength, "MaxLength": &p.maxLength, "MinValue": &p.minValue, "MaxValue": &p.maxValue} {
		raw, ok := body[member]
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(text(raw), 64)
		if err != nil {
			return invalid("Template format error: Parameter '%s' %s must be a number.", name, member)
		}
		*to = &n
	}
	p.noEcho = text(body["NoEcho"]) == "true"
	t.parameters[name] = p
	if p.fallback != nil && ssmOf(p.kind) == "" {
		return p.check(*p.fallback)
	}
	return nil
}

// check says what is wrong with a value, as CloudFormation does.
func (p *parameter) check(value string) error {
	if len(value) > maxParamValue {
		return p.broken("Parameter '%s' must contain at most %d characters", p.name, maxParamValue)
	}
	kind, items := p.kind, []string{value}
	if inner := ssmOf(kind); inner != "" {
		kind = "String" // what is given is the name of one
	}
	if item := listOf(kind); item != "" {
		kind, items = item, splitList(value)
	}
	for _, v := range items {
		if kind == "Number" {
			n, err := strconv.ParseFloat(v, 64)
			switch {
			case err != nil:
				return p.broken("Parameter '%s' must be a number.", p.name)
			case p.minValue != nil && n < *p.minValue:
				return p.broken("Parameter '%s' must be a number not less than %v", p.name, *p.minValue)
			case p.maxValue != nil && n > *p.maxValue:
				return p.broken("Parameter '%s' must be a number not greater than %v", p.name, *p.maxValue)
			}
		}
		if len(p.allowed) > 0 && !slices.Contains(p.allowed, v) {
			return p.broken("Parameter '%s' must be one of AllowedValues", p.name)
		}
		if p.pattern != nil && !compilePattern("^(?:"+p.pattern.text+")$").matches(v) {
			return p.broken("Parameter '%s' must match pattern %s", p.name, p.pattern.text)
		}
		if p.minLength != nil && float64(len(v)) < *p.minLength {
			return p.broken("Parameter '%s' must contain at least %v characters", p.name, *p.minLength)
		}
		if p.maxLength != nil && float64(len(v)) > *p.maxLength {
			return p.broken("Parameter '%s' must contain at most %v characters", p.name, *p.maxLength)
		}
	}
	return nil
}

func (p *parameter) broken(format string, args ...any) error {
	if p.constraint != "" {
		return invalid("Parameter '%s' failed to satisfy constraint: %s", p.name, p.constraint)
	}
	return invalid(format, args...)
}

func splitList(value string) []string {
	if value == "" {
		return nil
	}
	items := strings.Split(value, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// given are the values of a request's parameters, before and after what Systems Manager
// holds is put in.
type given struct {
	// values are as they are told back: of a parameter of Systems Manager, its name.
	values map[string]string
	// resolved are what Ref gives.
	resolved map[string]any
	// ssm are what was found for those of Systems Manager.
	ssm map[string]string
}

// place is where a stack is.
type place struct{ account, region string }

// parametersOf joins a request's values, those that a stack has and the defaults.
func (d *Double) parametersOf(at place, t *template, values map[string]string, keep map[string]bool, before map[string]string) (*given, error) {
	var strange, missing []string
	for name := range values {
		if t.parameters[name] == nil {
			strange = append(strange, name)
		}
	}
	for name := range keep {
		if t.parameters[name] == nil {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		slices.Sort(strange)
		return nil, invalid("Parameters: [%s] do not exist in the template", strings.Join(strange, ", "))
	}
	g := &given{values: map[string]string{}, resolved: map[string]any{}, ssm: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		p := t.parameters[name]
		v, ok := values[name]
		if keep[name] {
			if v, ok = before[name]; !ok {
				return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true for a parameter key not in the previous template", name)
			}
		}
		if !ok && p.fallback != nil {
			v, ok = *p.fallback, true
		}
		if !ok {
			missing = append(missing, name)
			continue
		}
		if err := p.check(v); err != nil {
			return nil, err
		}
		g.values[name] = v
		kind := p.kind
		if inner := ssmOf(kind); inner != "" {
			found, ok := d.accounts.parameter(at, v)
			if !ok {
				return nil, invalid("Unable to fetch parameters [%s] from parameter store for this account.", v)
			}
			g.ssm[name], v, kind = found, found, inner
		}
		item, items := listOf(kind), []string{v}
		if item != "" {
			items = splitList(v)
			list := make([]any, len(items))
			for i, one := range items {
				list[i] = one
			}
			g.resolved[name] = list
		} else {
			item, g.resolved[name] = kind, v
		}
		for _, one := range items {
			if looks := awsKinds[item]; looks != nil && (!looks.MatchString(one) || slices.Contains(existing, item) && !d.exists(at, one)) {
				return nil, invalid("Parameter validation failed: parameter value %s for parameter name %s does not exist", one, name)
			}
		}
	}
	if len(missing) > 0 {
		return nil, invalid("Parameters: [%s] must have values", strings.Join(missing, ", "))
	}
	return g, nil
}
