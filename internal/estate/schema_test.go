package estate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiled is the schema, checked against its own draft and ready to check with.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaFile, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(SchemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if schema.DraftVersion != 2020 {
		t.Errorf("the schema is of draft %d, want 2020-12", schema.DraftVersion)
	}
	return schema
}

// instance is a YAML text as a schema sees it: aliases and merges written out.
func instance(t *testing.T, text []byte) any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemaGolden(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", SchemaFile), string(text))
	for range 5 {
		if again, err := Schema(); err != nil || !bytes.Equal(text, again) {
			t.Fatalf("the schema differs from call to call: %v", err)
		}
	}
}

func TestSchemaAgreesWithLoad(t *testing.T) {
	schema := compiled(t)
	// What only the parser sees is not the schema's to see.
	unseen := map[string]bool{"twice": true, "merges": true, "aliases": true, "keys-that-are-none": true, "keys-of-aliases": true, "keys-that-are-none-again": true, "inline-secret": true, "control-characters": true}
	check := func(name string, text []byte, good bool) {
		t.Run(name, func(t *testing.T) {
			err := schema.Validate(instance(t, text))
			if good && err != nil {
				t.Errorf("the schema refuses what Load takes: %v", err)
			}
			if !good && err == nil {
				t.Error("the schema takes what Load refuses for a key's form")
			}
		})
	}
	check("template", Template(), true)
	check("template, all keys", []byte(commentedKey.ReplaceAllString(string(Template()), "$1$2")), true)
	for _, folder := range []string{"good", "bad", "bad-beyond-schema"} {
		for _, file := range fixtures(t, folder) {
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			if unseen[name] || name == "two-documents" {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			check(folder+"/"+name, text, folder != "bad")
		}
	}
}

// openMappings are those whose keys are names of the writer's own.
var openMappings = map[string]bool{"databases.roles": true, "landing.tags": true, "landing.parameters": true, "landing.environments.parameters": true, "landing.services.parameters": true}

// TestSchemaDescribesEveryKey reads the schema as an editor does.
func TestSchemaDescribesEveryKey(t *testing.T) {
	schema := compiled(t)
	seen := map[*jsonschema.Schema]bool{}
	described := 0
	var look func(path string, s *jsonschema.Schema)
	look = func(path string, s *jsonschema.Schema) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		if s.Types != nil && s.Types.ToStrings()[0] == "object" && !openMappings[path] && s.AdditionalProperties != false {
			t.Errorf("%s takes any key", path)
		}
		for key, p := range s.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", path, key)
			}
			described++
			look(strings.TrimPrefix(path+"."+key, "."), p)
		}
		look(path, s.Ref)
		look(path, s.Items2020)
	}
	look("", schema)
	if described < 45 {
		t.Errorf("the schema describes only %d keys", described)
	}
}
