package double

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dhow/internal/cfnlint"
)

// TestSchemas: types are read as they are asked for, and not all are kept; every schema
// that is tried can be read, and so can its patterns.
func TestSchemas(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches a release of cfn-lint: not with -short (testing.Short)")
	}
	s := testSchemas(t)
	if _, err := s.typeOf("us-east-1", "AWS::EC2::VPC"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range s.releases[0].lists["us-east-1"] {
		names = append(names, name)
	}
	if len(names) < 1000 {
		t.Fatalf("us-east-1 has %d types", len(names))
	}
	slices.Sort(names)
	for i, name := range names {
		if i%25 != 0 {
			continue
		}
		kind, err := s.typeOf("us-east-1", name)
		if err != nil {
			t.Error(err)
			continue
		}
		kind.check(map[string]any{"Strange": []any{map[string]any{"a": "b"}}})
		r := &resource{at: place{testAccount, "us-east-1"}, stackID: "id", stackName: "stack", logical: "Thing", kind: name, properties: map[string]any{}}
		if r.physical = kind.identify(r); r.physical == "" || strings.Contains(r.physical, "||") {
			t.Errorf("%s is called %q", name, r.physical)
		}
		for _, path := range kind.readOnly {
			if v := kind.value(r, path); v == nil || v == "" {
				t.Errorf("%s %s is %v", name, strings.Join(path, "."), v)
			}
		}
	}
	if s.used.Len() > keptTypes || len(s.types) != s.used.Len() {
		t.Errorf("%d types are kept, %d by name", s.used.Len(), len(s.types))
	}
	// Of a region that today's release does not list, the older one says which types it
	// has, and today's what they are.
	if kind, err := s.typeOf("me-south-1", "AWS::EC2::VPC"); err != nil || !strings.HasPrefix(kind.key, s.releases[0].Version+"/") {
		t.Errorf("me-south-1 has a VPC of %q, %v", kind.key, err)
	}
	if _, err := s.typeOf("me-south-1", "AWS::Budgets::Budget"); !errors.Is(err, errNoType) {
		t.Errorf("me-south-1 has budgets: %v", err)
	}
	if _, err := s.typeOf("nowhere-1", "AWS::EC2::VPC"); err == nil {
		t.Error("a region that nobody lists has types")
	}
	if lists, err := cfnlint.Lists(s.releases[0]); err != nil || len(lists) < 30 {
		t.Errorf("the release lists %d regions, %v", len(lists), err)
	}
}

// TestCheckWords: the words of each keyword that a schema may have.
func TestCheckWords(t *testing.T) {
	kind, err := compileType("AWS::Test::Thing", []byte(`{
		"properties": {
			"List": {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": true, "items": {"type": "string"}},
			"Text": {"type": "string", "minLength": 2, "pattern": "^(?!no).*$"},
			"Number": {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
			"Map": {"type": "object", "patternProperties": {"^[a-z]+$": {"type": "integer"}}, "additionalProperties": false, "minProperties": 1, "maxProperties": 2},
			"Either": {"anyOf": [{"required": ["A"]}, {"required": ["B"]}], "type": "object"},
			"One": {"oneOf": [{"required": ["A"]}, {"required": ["B"]}], "type": "object"},
			"Fold": {"type": "string", "enumCaseInsensitive": ["Abc"]},
			"Never": {"not": {"required": ["A"]}},
			"When": {"if": {"required": ["A"]}, "then": {"required": ["B"]}, "else": {"required": ["C"]}},
			"Loop": {"$ref": "#/definitions/Loop"},
			"Both": {"type": ["object", "string"]}
		},
		"definitions": {"Loop": {"type": "object", "properties": {"Loop": {"$ref": "#/definitions/Loop"}}, "additionalProperties": false}},
		"additionalProperties": false, "dependentRequired": {"Fold": ["Text"]}, "dependentExcluded": {"Number": ["Text"]}, "primaryIdentifier": ["/properties/Text"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ body, want string }{
		{`{List: [a]}`, "#/List: expected minimum item count: 2, found: 1"},
		{`{List: [a, b, c, d]}`, "#/List: expected maximum item count: 3, found: 4"},
		{`{List: [a, a]}`, "#/List: array items are not unique"},
		{`{Text: a}`, "#/Text: expected minLength: 2, actual: 1"},
		{`{Text: nothing}`, "#/Text: failed validation constraint for keyword [pattern]"},
		{`{Text: yes it is}`, ""},
		{`{Text: "{{resolve:secretsmanager:no}}"}`, ""},
		{`{Number: 1}`, "#/Number: 1 is not greater or equal to 1"},
		{`{Number: 3}`, "#/Number: 3 is not less or equal to 3"},
		{`{Number: "2.5"}`, ""},
		{`{Map: {}}`, "#/Map: minimum size: [1], found: [0]"},
		{`{Map: {a: 1, b: 2, c: 3}}`, "#/Map: maximum size: [2], found: [3]"},
		{`{Map: {A: 1}}`, "#/Map: extraneous key [A] is not permitted"},
		{`{Map: {a: x}}`, "#/Map/a: expected type: Integer, found: String"},
		{`{Either: {C: 1}}`, "#/Either: no subschema matched out of the total 2 subschemas"},
		{`{One: {A: 1, B: 1}}`, "#/One: 2 subschemas matched instead of one"},
		{`{One: {}}`, "#/One: 0 subschemas matched instead of one"},
		{`{Fold: aBC, Text: xx}`, ""},
		{`{Fold: aBC}`, "#: property [Text] is required"},
		{`{Number: 2, Text: xx}`, "#: extraneous key [Text] is not permitted beside [Number]"},
		{`{Never: {A: 1}}`, "#/Never: subject must not be valid against schema"},
		{`{When: {A: 1}}`, "#/When: required key [B] not found"},
		{`{When: {}}`, "#/When: required key [C] not found"},
		{`{Loop: {Loop: {Loop: {X: 1}}}}`, "#/Loop/Loop/Loop: extraneous key [X] is not permitted"},
		{`{Both: [a]}`, "#/Both: expected type: one of [JSONObject, String], found: JSONArray"},
	} {
		v, _, err := parseBody("Body: " + tt.body + "\n")
		if err != nil {
			t.Fatal(err)
		}
		got := joinProblems(kind.check(v.(map[string]any)["Body"].(map[string]any)))
		if got != tt.want {
			t.Errorf("%s: want %q, got %q", tt.body, tt.want, got)
		}
	}
	if _, err := compileType("x", []byte(`{"properties": {"A": {"$ref": "#/definitions/None"}}}`)); err == nil || !strings.Contains(fmt.Sprint(err), "there is no #/definitions/None") {
		t.Errorf("a reference to nothing: %v", err)
	}
}
