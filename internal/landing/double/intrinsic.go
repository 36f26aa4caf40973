package double

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// unknown stands for a value that only comes to be when its resource does.
type unknown struct{}

// noValue is what AWS::NoValue gives: the member is as if it were not written.
type noValue struct{}

// scope is what a template's functions see.
type scope struct {
	t          *template
	at         place
	params     map[string]any
	stackName  string
	stackID    string
	conditions map[string]bool
	zones      []string
	// resource gives Ref of a resource, attribute GetAtt, imported ImportValue.
	resource  func(name string) (any, error)
	attribute func(name, attribute string) (any, error)
	imported  func(name string) (any, error)
	deep      int
}

// settle decides the conditions.
func (s *scope) settle() error {
	s.conditions = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.t.conditions)) {
		if _, err := s.condition(name, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) condition(name string, asked []string) (bool, error) {
	if b, ok := s.conditions[name]; ok {
		return b, nil
	}
	raw, ok := s.t.conditions[name]
	if !ok {
		return false, invalid("Template format error: Unresolved condition dependency %s in the Conditions block of the template", name)
	}
	if slices.Contains(asked, name) {
		return false, invalid("Template format error: Circular dependency between conditions: [%s]", strings.Join(append(asked, name), ", "))
	}
	b, err := s.decide(raw, append(asked, name))
	if err != nil {
		return false, err
	}
	s.conditions[name] = b
	return b, nil
}

// decide is the value of what gives a boolean.
func (s *scope) decide(v any, asked []string) (bool, error) {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return false, invalid("Template format error: Conditions can only be boolean operations on parameters and other conditions")
	}
	for name, arg := range m {
		list, _ := arg.([]any)
		switch name {
		case "Condition":
			return s.condition(text(arg), asked)
		case "Fn::And", "Fn::Or":
			if len(list) < 2 || len(list) > 10 {
				return false, invalid("Template error: every %s object requires a list of at least 2 and at most 10 boolean parameters.", name)
			}
			result := name == "Fn::And"
			for _, one := range list {
				b, err := s.decide(one, asked)
				if err != nil {
					return false, err
				}
				if name == "Fn::And" {
					result = result && b
				} else {
					result = result || b
				}
			}
			return result, nil
		case "Fn::Not":
			if len(list) != 1 {
				return false, invalid("Template error: every Fn::Not object requires one boolean parameter.")
			}
			b, err := s.decide(list[0], asked)
			return !b, err
		case "Fn::Equals":
			if len(list) != 2 {
				return false, invalid("Template error: every Fn::Equals object requires a list of 2 string parameters.")
			}
			a, err := s.eval(list[0])
			if err != nil {
				return false, err
			}
			b, err := s.eval(list[1])
			return same(a, b), err
		case "Fn::EachMemberEquals", "Fn::EachMemberIn":
			return s.every(list)
		case "Fn::Contains":
			if len(list) == 2 {
				in, err := s.eval(list[0])
				if err != nil {
					return false, err
				}
				what, err := s.eval(list[1])
				items, _ := in.([]any)
				return slices.ContainsFunc(items, func(v any) bool { return same(v, what) }), err
			}
		}
	}
	return false, invalid("Template format error: Conditions can only be boolean operations on parameters and other conditions")
}

// same compares values as CloudFormation does: scalars by what they are written as.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case unknown:
		return false
	case nil:
		return b == nil
	}
	switch b.(type) {
	case map[string]any, []any, unknown, nil:
		return false
	}
	return text(a) == text(b)
}

// eval is a value with all functions replaced by what they give.
func (s *scope) eval(v any) (any, error) {
	if s.deep++; s.deep > 4*maxDepth {
		return nil, invalid("Template format error: Unsupported structure.")
	}
	defer func() { s.deep-- }()
	switch v := v.(type) {
	case map[string]any:
		if name, arg, ok := functionOf(v); ok {
			return s.call(name, arg)
		}
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if strings.HasPrefix(key, "Fn::") {
				return nil, invalid("Template error: Encountered unsupported function: %s Supported functions are: [Fn::Base64, Fn::GetAtt, Fn::GetAZs, Fn::ImportValue, Fn::Join, Fn::Split, Fn::FindInMap, Fn::Select, Ref, Fn::Equals, Fn::If, Fn::Not, Condition, Fn::And, Fn::Or, Fn::Contains, Fn::EachMemberEquals, Fn::EachMemberIn, Fn::ValueOf, Fn::ValueOfAll, Fn::RefAll, Fn::Sub, Fn::Cidr]", key)
			}
			got, err := s.eval(v[key])
			if err != nil {
				return nil, err
			}
			if got != (noValue{}) {
				out[key] = got
			}
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			got, err := s.eval(item)
			if err != nil {
				return nil, err
			}
			if got != any(noValue{}) {
				out = append(out, got)
			}
		}
		return out, nil
	}
	return v, nil
}

func (s *scope) call(name string, arg any) (any, error) {
	switch name {
	case "Ref":
		to, ok := arg.(string)
		if !ok {
			return nil, invalid("Template error: every Ref object must have a single String value.")
		}
		return s.ref(to)
	case "Fn::GetAtt":
		return s.getAtt(arg)
	case "Fn::Sub":
		return s.sub(arg)
	case "Fn::If":
		list, ok := arg.([]any)
		if !ok || len(list) != 3 {
			return nil, invalid("Template error: Fn::If requires a list argument with three elements")
		}
		if _, ok := s.t.conditions[text(list[0])]; !ok {
			return nil, invalid("Template error: unresolved condition dependency %s in Fn::If", text(list[0]))
		}
		if s.conditions[text(list[0])] {
			return s.eval(list[1])
		}
		return s.eval(list[2])
	case "Fn::Join":
		return s.join(arg)
	case "Fn::Split":
		return s.split(arg)
	case "Fn::Select":
		return s.pick(arg)
	case "Fn::FindInMap":
		return s.findInMap(arg)
	case "Fn::GetAZs":
		v, err := s.eval(arg)
		if err != nil {
			return nil, err
		}
		if region, ok := v.(string); !ok || region != "" && region != s.at.region {
			return nil, invalid("Template error: Fn::GetAZs requires the region of the stack, or an empty string")
		}
		zones := make([]any, len(s.zones))
		for i, z := range s.zones {
			zones[i] = z
		}
		return zones, nil
	case "Fn::Cidr":
		return s.cidr(arg)
	case "Fn::Base64":
		v, err := s.eval(arg)
		if err != nil || v == any(unknown{}) {
			return v, err
		}
		if !isScalar(v) {
			return nil, invalid("Template error: every Fn::Base64 object must have a String-typed value.")
		}
		return base64.StdEncoding.EncodeToString([]byte(text(v))), nil
	case "Fn::ImportValue":
		v, err := s.eval(arg)
		if err != nil || v == any(unknown{}) {
			return v, err
		}
		if !isScalar(v) {
			return nil, invalid("Template error: the attribute in Fn::ImportValue must not depend on any resources, imported values, or Fn::GetAZs")
		}
		return s.imported(text(v))
	case "Fn::Length":
		v, err := s.eval(arg)
		if err != nil || v == any(unknown{}) {
			return v, err
		}
		list, ok := v.([]any)
		if !ok || !s.extended() {
			return nil, invalid("Template error: Fn::Length needs the transform AWS::LanguageExtensions and a list")
		}
		return json.Number(strconv.Itoa(len(list))), nil
	case "Fn::ToJsonString":
		v, err := s.eval(arg)
		if err != nil {
			return nil, err
		}
		if !s.extended() {
			return nil, invalid("Template error: Fn::ToJsonString needs the transform AWS::LanguageExtensions")
		}
		if hasUnknown(v) {
			return unknown{}, nil
		}
		return compact(v), nil
	}
	return nil, invalid("Template error: Encountered unsupported function: %s", name)
}

func (s *scope) extended() bool { return slices.Contains(s.t.transforms, "AWS::LanguageExtensions") }

func isScalar(v any) bool {
	switch v.(type) {
	case string, bool, json.Number:
		return true
	}
	return false
}

// hasUnknown says whether a value has a part that only comes to be.
func hasUnknown(v any) bool {
	switch v := v.(type) {
	case unknown:
		return true
	case []any:
		return slices.ContainsFunc(v, hasUnknown)
	case map[string]any:
		for _, one := range v {
			if hasUnknown(one) {
				return true
			}
		}
	}
	return false
}

// compact is a value as JSON, its keys sorted.
func compact(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// partitionOf is the partition of a region.
func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// pseudo are the parameters that every template has.
func (s *scope) pseudo(name string) (any, bool) {
	switch name {
	case "AWS::AccountId":
		return s.at.account, true
	case "AWS::Region":
		return s.at.region, true
	case "AWS::Partition":
		return partitionOf(s.at.region), true
	case "AWS::URLSuffix":
		if partitionOf(s.at.region) == "aws-cn" {
			return "amazonaws.com.cn", true
		}
		return "amazonaws.com", true
	case "AWS::StackName":
		return s.stackName, true
	case "AWS::StackId":
		return s.stackID, true
	case "AWS::NotificationARNs":
		return []any{}, true
	case "AWS::NoValue":
		return noValue{}, true
	}
	return nil, false
}

func (s *scope) ref(to string) (any, error) {
	if v, ok := s.pseudo(to); ok {
		return v, nil
	}
	if v, ok := s.params[to]; ok {
		return v, nil
	}
	if s.t.resources[to] == nil || s.resource == nil {
		return nil, unresolved(to)
	}
	return s.resource(to)
}

func unresolved(name string) error {
	return invalid("Template format error: Unresolved resource dependencies [%s] in the Resources block of the template", name)
}

func (s *scope) getAtt(arg any) (any, error) {
	var parts []string
	switch arg := arg.(type) {
	case string:
		parts = strings.SplitN(arg, ".", 2)
	case []any:
		for i, one := range arg {
			v := one
			if i > 0 { // the attribute may be a Ref
				var err error
				if v, err = s.eval(one); err != nil {
					return nil, err
				}
			}
			parts = append(parts, text(v))
		}
	}
	if len(parts) < 2 || parts[0] == "" || slices.Contains(parts, "") {
		return nil, invalid("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute")
	}
	if s.t.resources[parts[0]] == nil || s.attribute == nil {
		return nil, invalid("Template error: instance of Fn::GetAtt references undefined resource %s", parts[0])
	}
	return s.attribute(parts[0], strings.Join(parts[1:], "."))
}

var (
	variable     = regexp.MustCompile(`\$\{([^{}]*)\}`)
	variableName = regexp.MustCompile(`^ *[A-Za-z0-9_.:]+ *$`)
)

func (s *scope) sub(arg any) (any, error) {
	format, ok := arg.(string)
	var vars map[string]any
	if list, isList := arg.([]any); isList && len(list) == 2 {
		format, ok = list[0].(string)
		vars, isList = list[1].(map[string]any)
		ok = ok && isList
	}
	if !ok {
		return nil, invalid("Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as first argument, and an optional second argument to specify a mapping of values to replace in the string")
	}
	var b strings.Builder
	var unknowable bool
	rest := format
	for {
		m := variable.FindStringSubmatchIndex(rest)
		if m == nil {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:m[0]])
		name := rest[m[2]:m[3]]
		whole := rest[m[0]:m[1]]
		rest = rest[m[1]:]
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			b.WriteString("${" + literal + "}")
			continue
		}
		if !variableName.MatchString(name) {
			return nil, invalid("Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, underscores, periods, and colons")
		}
		name = strings.TrimSpace(name)
		var v any
		var err error
		if own, ok := vars[name]; ok {
			v, err = s.eval(own)
		} else if at := strings.IndexByte(name, '.'); at > 0 {
			v, err = s.getAtt([]any{name[:at], name[at+1:]})
		} else {
			v, err = s.ref(name)
		}
		if err != nil {
			return nil, err
		}
		if v == any(unknown{}) {
			unknowable = true
			continue
		}
		if list, ok := v.([]any); ok { // a list is written as a template's is
			v = strings.Join(texts(list), ",")
		}
		if !isScalar(v) {
			return nil, invalid("Template error: Fn::Sub expression does not resolve to a string: %s", whole)
		}
		b.WriteString(text(v))
	}
	if unknowable {
		return unknown{}, nil
	}
	return b.String(), nil
}

func texts(list []any) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

func (s *scope) join(arg any) (any, error) {
	list, ok := arg.([]any)
	wrong := invalid("Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined.")
	if !ok || len(list) != 2 {
		return nil, wrong
	}
	by, ok := list[0].(string)
	if !ok {
		return nil, wrong
	}
	v, err := s.eval(list[1])
	if err != nil {
		return nil, err
	}
	if hasUnknown(v) {
		return unknown{}, nil
	}
	items, ok := v.([]any)
	if !ok {
		return nil, wrong
	}
	for _, one := range items {
		if !isScalar(one) {
			return nil, wrong
		}
	}
	return strings.Join(texts(items), by), nil
}

func (s *scope) split(arg any) (any, error) {
	list, ok := arg.([]any)
	wrong := invalid("Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a function that returns a string to be split.")
	if !ok || len(list) != 2 {
		return nil, wrong
	}
	by, ok := list[0].(string)
	if !ok || by == "" {
		return nil, wrong
	}
	v, err := s.eval(list[1])
	if err != nil || v == any(unknown{}) {
		return v, err
	}
	if !isScalar(v) {
		return nil, wrong
	}
	var out []any
	for part := range strings.SplitSeq(text(v), by) {
		out = append(out, part)
	}
	return out, nil
}

func (s *scope) pick(arg any) (any, error) {
	list, ok := arg.([]any)
	if !ok || len(list) != 2 {
		return nil, invalid("Template error: Fn::Select requires a list argument with two elements: an integer index and a list")
	}
	index, err := s.eval(list[0])
	if err != nil {
		return nil, err
	}
	v, err := s.eval(list[1])
	if err != nil || v == any(unknown{}) {
		return v, err
	}
	i, err := strconv.Atoi(text(index))
	if err != nil {
		return nil, invalid("Template error: Fn::Select requires a list argument with a valid index")
	}
	items, ok := v.([]any)
	if !ok {
		return nil, invalid("Template error: Fn::Select requires a list argument with two elements: an integer index and a list")
	}
	if i < 0 || i >= len(items) {
		return nil, invalid("Template error: Fn::Select cannot select nonexistent value at index %d", i)
	}
	return items[i], nil
}

func (s *scope) findInMap(arg any) (any, error) {
	list, ok := arg.([]any)
	if !ok || len(list) != 3 && (len(list) != 4 || !s.extended()) {
		return nil, invalid("Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for return value")
	}
	var keys []string
	for _, one := range list[:3] {
		v, err := s.eval(one)
		if err != nil {
			return nil, err
		}
		keys = append(keys, text(v))
	}
	m, ok := s.t.mappings[keys[0]].(map[string]any)
	if !ok {
		return nil, invalid("Template error: Mapping named '%s' is not present in the 'Mappings' section of template.", keys[0])
	}
	row, _ := m[keys[1]].(map[string]any)
	if v, ok := row[keys[2]]; ok {
		return v, nil
	}
	if len(list) == 4 {
		if o, ok := list[3].(map[string]any); ok && o["DefaultValue"] != nil {
			return s.eval(o["DefaultValue"])
		}
	}
	return nil, lacking("Template error: Unable to get mapping for %s::%s::%s", keys[0], keys[1], keys[2])
}

// maxCidrs is how many ranges Fn::Cidr gives.
const maxCidrs = 256

func (s *scope) cidr(arg any) (any, error) {
	list, ok := arg.([]any)
	if !ok || len(list) < 2 || len(list) > 3 {
		return nil, invalid("Template error: every Fn::Cidr object requires two or three parameters, (1) an ipBlock, (2) a count and (3) optional cidrBits")
	}
	v, err := s.eval(list[0])
	if err != nil {
		return nil, err
	}
	numbers := []int{0, 8}
	for i, one := range list[1:] {
		n, err := s.eval(one)
		if err != nil {
			return nil, err
		}
		if numbers[i], err = strconv.Atoi(text(n)); err != nil {
			return nil, invalid("Template error: Fn::Cidr: %q is no number", text(n))
		}
	}
	count, bits := numbers[0], numbers[1]
	if count < 1 || count > maxCidrs {
		return nil, invalid("Template error: Fn::Cidr: count must be between 1 and %d", maxCidrs)
	}
	if v == any(unknown{}) {
		return v, nil
	}
	block, err := netip.ParsePrefix(text(v))
	if err != nil {
		return nil, invalid("Template error: Fn::Cidr: %s is no valid CIDR block", text(v))
	}
	length := block.Addr().BitLen() - bits
	if bits < 0 || length < block.Bits() || length-block.Bits() < 62 && count > 1<<(length-block.Bits()) {
		return nil, invalid("Template error: Fn::Cidr: %s has no %d ranges of %d bits", text(v), count, bits)
	}
	out := make([]any, count)
	at := block.Masked().Addr()
	for i := range out {
		out[i] = fmt.Sprintf("%s/%d", at, length)
		at = addBit(at, bits)
	}
	return out, nil
}

// addBit adds two to the power of a bit to an address.
func addBit(a netip.Addr, bit int) netip.Addr {
	b := a.AsSlice()
	i := len(b) - 1 - bit/8
	carry := 1 << (bit % 8)
	for ; i >= 0 && carry > 0; i-- {
		sum := int(b[i]) + carry
		b[i], carry = byte(sum), sum>>8
	}
	next, _ := netip.AddrFromSlice(b)
	return next
}
