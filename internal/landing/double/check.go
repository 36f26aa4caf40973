package double

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// problem is one thing that is wrong with a resource's properties, in the words of the
// validator that CloudFormation uses.
type problem struct {
	// path is a pointer into the properties, such as /Tags/0/Key; empty: all of them.
	path, message string
}

func (p problem) String() string { return "#" + p.path + ": " + p.message }

// check holds properties against their schema. What only comes to be is right, and so is
// what a dynamic reference stands for.
func (t *resourceType) check(properties map[string]any) []problem {
	c := &checker{}
	c.value(t.root, properties, "")
	for _, path := range t.readOnly {
		if !covers(t.createOnly, path) && !slices.ContainsFunc(t.primary, func(p []string) bool { return slices.Equal(p, path) && t.settable(path) }) {
			c.readOnly(properties, path, "")
		}
	}
	slices.SortStableFunc(c.found, func(a, b problem) int { return strings.Compare(a.path, b.path) })
	return c.found
}

// settable says whether a property that is only read is wanted as well, as of some types.
func (t *resourceType) settable(path []string) bool {
	return len(path) == 1 && slices.Contains(t.root.required, path[0])
}

func joinProblems(list []problem) string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

type checker struct{ found []problem }

func (c *checker) say(path, format string, args ...any) {
	c.found = append(c.found, problem{path, fmt.Sprintf(format, args...)})
}

// readOnly finds what is given though it is only read.
func (c *checker) readOnly(v any, path []string, at string) {
	if len(path) == 0 {
		c.say(at, "extraneous key [%s] is not permitted: it is a read-only property", at[strings.LastIndexByte(at, '/')+1:])
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if inner, ok := v[path[0]]; ok {
			c.readOnly(inner, path[1:], at+"/"+path[0])
		}
	case []any:
		if path[0] == "*" {
			for i, item := range v {
				c.readOnly(item, path[1:], at+"/"+strconv.Itoa(i))
			}
		}
	}
}

// fits says whether a value fits a schema.
func (c *checker) fits(s *schema, v any) bool {
	inner := &checker{}
	inner.value(s, v, "")
	return len(inner.found) == 0
}

func (c *checker) value(s *schema, v any, at string) {
	if s == nil || hidden(v) {
		return
	}
	if !c.typed(s, v, at) {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		c.object(s, v, at)
	case []any:
		c.array(s, v, at)
	default:
		c.scalar(s, v, at)
	}
	c.combined(s, v, at)
}

// hidden says whether a value is not known: it comes to be, or is a dynamic reference.
func hidden(v any) bool {
	if v == any(unknown{}) {
		return true
	}
	s, ok := v.(string)
	return ok && strings.Contains(s, "{{resolve:")
}

var javaNames = map[string]string{"string": "String", "object": "JSONObject", "array": "JSONArray", "integer": "Integer", "number": "Number", "boolean": "Boolean"}

// typed says whether a value is of one of the types. CloudFormation takes a scalar for
// another where its text is one.
func (c *checker) typed(s *schema, v any, at string) bool {
	if len(s.types) == 0 {
		return true
	}
	var found string
	ok := false
	switch v := v.(type) {
	case map[string]any:
		found = "JSONObject"
		ok = slices.Contains(s.types, "object")
	case []any:
		found = "JSONArray"
		ok = slices.Contains(s.types, "array")
	default:
		word := text(v)
		found = javaNames[scalarType(v)]
		for _, t := range s.types {
			switch t {
			case "string":
				ok = true
			case "boolean":
				ok = ok || word == "true" || word == "false"
			case "integer":
				_, err := strconv.ParseInt(word, 10, 64)
				ok = ok || err == nil
			case "number":
				_, err := strconv.ParseFloat(word, 64)
				ok = ok || err == nil
			}
		}
		// A document, such as a policy, may be given as JSON in a string.
		if !ok && slices.Contains(s.types, "object") && strings.HasPrefix(strings.TrimSpace(word), "{") {
			ok = json.Valid([]byte(word)) && len(s.properties) == 0
		}
	}
	if ok {
		return true
	}
	var want []string
	for _, t := range s.types {
		want = append(want, javaNames[t])
	}
	if len(want) == 1 {
		c.say(at, "expected type: %s, found: %s", want[0], found)
	} else {
		c.say(at, "expected type: one of [%s], found: %s", strings.Join(want, ", "), found)
	}
	return false
}

func scalarType(v any) string {
	switch v := v.(type) {
	case bool:
		return "boolean"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	}
	return "string"
}

func (c *checker) object(s *schema, v map[string]any, at string) {
	for _, name := range s.required {
		if _, ok := v[name]; !ok {
			c.say(at, "required key [%s] not found", name)
		}
	}
	if s.minProperties != nil && len(v) < *s.minProperties {
		c.say(at, "minimum size: [%d], found: [%d]", *s.minProperties, len(v))
	}
	if s.maxProperties != nil && len(v) > *s.maxProperties {
		c.say(at, "maximum size: [%d], found: [%d]", *s.maxProperties, len(v))
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if p, ok := s.properties[name]; ok {
			c.value(p, v[name], at+"/"+name)
			continue
		}
		matched := false
		for _, p := range s.patterns {
			if p.key.matches(name) {
				matched = true
				c.value(p.value, v[name], at+"/"+name)
			}
		}
		switch {
		case matched:
		case s.additional != nil:
			c.value(s.additional, v[name], at+"/"+name)
		case s.closed:
			c.say(at, "extraneous key [%s] is not permitted", name)
		}
	}
	has := func(names []string) (given []string) {
		for _, n := range names {
			if _, ok := v[n]; ok {
				given = append(given, n)
			}
		}
		return given
	}
	if n := len(has(s.requiredXor)); len(s.requiredXor) > 0 && n != 1 {
		c.say(at, "%d subschemas matched instead of one: exactly one of [%s] is wanted", n, strings.Join(s.requiredXor, ", "))
	}
	if len(s.requiredOr) > 0 && len(has(s.requiredOr)) == 0 {
		c.say(at, "no subschema matched out of the total %d subschemas: one of [%s] is wanted", len(s.requiredOr), strings.Join(s.requiredOr, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(s.dependentRequired)) {
		for _, other := range s.dependentRequired[name] {
			if len(has([]string{name})) == 1 && len(has([]string{other})) == 0 {
				c.say(at, "property [%s] is required", other)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.dependentNot)) {
		for _, other := range s.dependentNot[name] {
			if len(has([]string{name})) == 1 && len(has([]string{other})) == 1 {
				c.say(at, "extraneous key [%s] is not permitted beside [%s]", other, name)
			}
		}
	}
}

func (c *checker) array(s *schema, v []any, at string) {
	if s.minItems != nil && len(v) < *s.minItems {
		c.say(at, "expected minimum item count: %d, found: %d", *s.minItems, len(v))
	}
	if s.maxItems != nil && len(v) > *s.maxItems {
		c.say(at, "expected maximum item count: %d, found: %d", *s.maxItems, len(v))
	}
	if s.unique {
		seen := map[string]bool{}
		for _, item := range v {
			if hasUnknown(item) {
				continue
			}
			key := compact(item)
			if seen[key] {
				c.say(at, "array items are not unique")
				break
			}
			seen[key] = true
		}
	}
	for i, item := range v {
		c.value(s.items, item, at+"/"+strconv.Itoa(i))
	}
}

func (c *checker) scalar(s *schema, v any, at string) {
	word := text(v)
	if s.pattern != nil && isString(s, v) && !s.pattern.matches(word) {
		c.say(at, "failed validation constraint for keyword [pattern]")
	}
	if isString(s, v) {
		n := len([]rune(word))
		if s.minLength != nil && n < *s.minLength {
			c.say(at, "expected minLength: %d, actual: %d", *s.minLength, n)
		}
		if s.maxLength != nil && n > *s.maxLength {
			c.say(at, "expected maxLength: %d, actual: %d", *s.maxLength, n)
		}
	}
	if s.minimum != nil || s.maximum != nil {
		if f, err := strconv.ParseFloat(word, 64); err == nil {
			if s.minimum != nil && (f < *s.minimum || s.exclusiveMin && f == *s.minimum) {
				c.say(at, "%s is not greater or equal to %v", word, *s.minimum)
			}
			if s.maximum != nil && (f > *s.maximum || s.exclusiveMax && f == *s.maximum) {
				c.say(at, "%s is not less or equal to %v", word, *s.maximum)
			}
		}
	}
	if len(s.enum) > 0 && !slices.ContainsFunc(s.enum, func(e any) bool {
		return plain(e) == word || s.foldEnum && strings.EqualFold(plain(e), word)
	}) {
		c.say(at, "%s is not a valid enum value", word)
	}
	if s.constant != nil && plain(s.constant) != word {
		c.say(at, "%s is not the expected value %s", word, plain(s.constant))
	}
}

// plain is a scalar of a schema as it would be written.
func plain(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// isString says whether a value is taken as a string.
func isString(s *schema, v any) bool {
	_, ok := v.(string)
	return ok && (len(s.types) == 0 || slices.Contains(s.types, "string")) || slices.Equal(s.types, []string{"string"})
}

// combined holds a value against what a schema is combined of.
func (c *checker) combined(s *schema, v any, at string) {
	for _, one := range s.allOf {
		c.value(one, v, at)
	}
	if len(s.anyOf) > 0 && !slices.ContainsFunc(s.anyOf, func(o *schema) bool { return c.fits(o, v) }) {
		c.say(at, "no subschema matched out of the total %d subschemas", len(s.anyOf))
	}
	if len(s.oneOf) > 0 {
		n := 0
		for _, one := range s.oneOf {
			if c.fits(one, v) {
				n++
			}
		}
		// Of a value with parts that come to be, more than one may still fit.
		if n == 0 || n > 1 && !hasUnknown(v) {
			c.say(at, "%d subschemas matched instead of one", n)
		}
	}
	if s.not != nil && !hasUnknown(v) && c.fits(s.not, v) {
		c.say(at, "subject must not be valid against schema")
	}
	if s.ifs != nil && !hasUnknown(v) {
		if c.fits(s.ifs, v) {
			c.value(s.then, v, at)
		} else {
			c.value(s.otherwise, v, at)
		}
	}
}
