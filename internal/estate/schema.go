package estate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// SchemaFile is what the schema's file is called in the state's folder; the
// template's first line points an editor there.
const SchemaFile = "estate.schema.json"

// Schema is the JSON Schema of the estate file (draft 2020-12), for editors and
// for other programs that write estates. It knows the form of each key; what
// takes several keys to see, such as one database named as both ends, only Load
// knows. It is the same bytes for the same program.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case sizeType:
				return sizeSchema()
			case durationType:
				return &jsonschema.Schema{Type: "string", Pattern: durationForm}
			}
			return nil
		},
	}
	root := r.ReflectFromType(reflect.TypeFor[Estate]())
	root.Title = FileName
	for _, t := range typeWords() {
		s := root
		if t.of != reflect.TypeFor[Estate]() {
			s = root.Definitions[t.of.Name()]
		}
		if s == nil {
			return nil, fmt.Errorf("the schema has no type %s", t.of)
		}
		if err := t.describe(s); err != nil {
			return nil, err
		}
	}
	root.AnyOf = []*jsonschema.Schema{{Required: []string{"databases"}}, {Required: []string{"landing"}}}
	root.Definitions[reflect.TypeFor[Database]().Name()].AllOf = engineSchemas()
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// sizeSchema takes a number of bytes, or a text with a unit.
func sizeSchema() *jsonschema.Schema {
	var units []string
	for _, u := range sizeUnits {
		units = append(units, u.name)
	}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "integer", Minimum: "0"},
		{Type: "string", Pattern: `^[0-9]+ ?(` + strings.Join(units, "|") + `)?$`},
	}}
}

// engineSchemas say what a database of each engine needs and has no use for.
func engineSchemas() []*jsonschema.Schema {
	ends := func(required []string, keys ...string) *jsonschema.Schema {
		end := without(keys...)
		end.Required = required
		s := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
		s.Properties.Set(string(Source), end)
		s.Properties.Set(string(Target), end)
		return s
	}
	of := func(e Engine, then ...*jsonschema.Schema) *jsonschema.Schema {
		is := &jsonschema.Schema{Properties: jsonschema.NewProperties(), Required: []string{"engine"}}
		is.Properties.Set("engine", &jsonschema.Schema{Const: string(e)})
		if e == PostgreSQL {
			is.Required = nil // it is the default
		}
		return &jsonschema.Schema{If: is, Then: &jsonschema.Schema{AllOf: then}}
	}
	limits := func(keys ...string) *jsonschema.Schema {
		s := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
		s.Properties.Set("limits", without(keys...))
		return s
	}
	return []*jsonschema.Schema{
		of(PostgreSQL, ends([]string{"database", "user"}, "cluster"), without("replication")),
		of(MariaDB, ends([]string{"user"}, "database", "cluster"), without("roles"), limits("lanes", "wal_warn", "wal_stop")),
		of(Redis, ends(nil, "database"), without("roles", "schemas", "exclude", "replication"), limits("lanes", "wal_warn", "wal_stop", "copies", "chunk")),
	}
}

// without takes none of the keys.
func without(keys ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
	for _, k := range keys {
		s.Properties.Set(k, jsonschema.FalseSchema)
	}
	return s
}

// describe adds to a type's schema what its Go type does not say.
func (t typeWord) describe(s *jsonschema.Schema) error {
	s.Description = t.text
	for _, k := range t.keys {
		p, ok := s.Properties.Get(k.key)
		if !ok {
			return fmt.Errorf("the schema has no key %s of %s", k.key, t.of)
		}
		p.Description = plain(k.text)
		switch {
		case k.standard != nil:
			p.Default = k.standard
		case k.without == required:
			s.Required = append(s.Required, k.key)
		default:
			p.Description += " Default: " + k.without + "."
		}
		k.bound(p)
	}
	if t.of == secretType {
		for _, way := range []string{"env", "file", "arn"} {
			s.OneOf = append(s.OneOf, &jsonschema.Schema{Required: []string{way}})
		}
		s.DependentRequired = map[string][]string{"field": {"arn"}}
	}
	return nil
}

// bound adds to a key's schema what values it takes.
func (k keyWord) bound(p *jsonschema.Schema) {
	form := p
	if p.Type == "array" {
		form = p.Items
		p.MinItems, p.MaxItems = count(k.least), count(k.most)
	}
	for _, c := range k.choices {
		form.Enum = append(form.Enum, c)
	}
	form.Pattern = cmp.Or(k.pattern, form.Pattern)
	switch form.Type {
	case "integer":
		form.Minimum, form.Maximum = number(k.least), number(k.most)
	case "string":
		if p == form {
			form.MaxLength = count(k.most)
		}
		if len(form.Enum) == 0 && form.Pattern == "" {
			form.MinLength = count(1)
		}
	}
}

// count is a bound of a length; nil is none.
func count(n int) *uint64 {
	if n == 0 {
		return nil
	}
	return new(uint64(n))
}

// number is a bound of a number; empty is none.
func number(n int) json.Number {
	if n == 0 {
		return ""
	}
	return json.Number(fmt.Sprint(n))
}

// plain is a text without the marks of code.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }
