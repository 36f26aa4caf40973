package estate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with that of a file, or writes it there.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what it was (-update writes it anew):\n%s", file, diff)
	}
}

// fileTypes are all structs that the file is made of, as the types say.
func fileTypes() []reflect.Type {
	var found []reflect.Type
	var look func(reflect.Type)
	look = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			look(t.Elem())
		case reflect.Struct:
			if slices.Contains(found, t) {
				return
			}
			found = append(found, t)
			for i := range t.NumField() {
				if keyOf(t.Field(i)) != "" {
					look(t.Field(i).Type)
				}
			}
		}
	}
	look(reflect.TypeFor[Estate]())
	return found
}

func TestEveryKeyHasItsWords(t *testing.T) {
	described := map[reflect.Type]typeWord{}
	for _, w := range typeWords() {
		described[w.of] = w
	}
	for _, ty := range fileTypes() {
		var got []string
		for _, k := range described[ty].keys {
			got = append(got, k.key)
			if k.text == "" || k.example == "" || (k.standard == nil) == (k.without == "") {
				t.Errorf("%s.%s: it needs a text, an example, and either a default or what holds without it", ty.Name(), k.key)
			}
		}
		if diff := cmp.Diff(keys(ty), got); diff != "" {
			t.Errorf("keys.go and the type %s differ in their keys (-type +words):\n%s", ty.Name(), diff)
		}
	}
	if len(described) != len(fileTypes()) {
		t.Errorf("keys.go describes %d types, the file has %d", len(described), len(fileTypes()))
	}
}

// TestDefaultsAreAsDocumented compares what the words say of defaults with what Load fills in.
func TestDefaultsAreAsDocumented(t *testing.T) {
	e, err := Load("testdata/good/least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e.Gate = &Gate{Routes: []Route{{}}}
	e.Gate.fill(newReading(FileName, "/"), e.State)
	e.Landing = &Landing{Services: []Service{{}}}
	e.Landing.fill(newReading(FileName, "/"), e.Name)
	values := map[reflect.Type]any{
		reflect.TypeFor[Estate](): *e, reflect.TypeFor[Database](): e.Databases[0], reflect.TypeFor[Endpoint](): e.Databases[0].Source,
		reflect.TypeFor[Limits](): e.Limits, reflect.TypeFor[Cutover](): e.Cutover, reflect.TypeFor[Hold](): e.Gate.Hold, reflect.TypeFor[Route](): e.Gate.Routes[0],
		reflect.TypeFor[Service](): e.Landing.Services[0],
	}
	checked := 0
	for _, w := range typeWords() {
		for i, key := range keys(w.of) {
			if w.keys[i].standard == nil {
				continue
			}
			v := reflect.ValueOf(values[w.of])
			for j := range v.NumField() {
				if keyOf(w.of.Field(j)) != key {
					continue
				}
				field := reflect.Indirect(v.Field(j))
				got := fmt.Sprint(field.Interface())
				if key == "state" {
					got = filepath.Base(got)
				}
				if want := fmt.Sprint(w.keys[i].standard); got != want {
					t.Errorf("%s.%s: the default is %s, documented as %s", w.of.Name(), key, got, want)
				}
				checked++
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d defaults were compared", checked)
	}
}

// valueType names the type of a key for the manual.
func valueType(t reflect.Type) string {
	switch t {
	case secretType:
		return "secret"
	case sizeType:
		return "size"
	case durationType:
		return "duration"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueType(t.Elem())
	case reflect.Struct:
		return "mapping"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "list of mappings"
		}
		return "list of texts"
	case reflect.Map:
		return "mapping of texts"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	}
	return "text"
}

// manualTables are the tables of every key, in Markdown.
func manualTables() string {
	var b strings.Builder
	for _, w := range typeWords() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", w.title, w.text)
		b.WriteString("| key | type | default | example | what it does |\n|---|---|---|---|---|\n")
		for _, k := range w.keys {
			var kind string
			for i := range w.of.NumField() {
				if keyOf(w.of.Field(i)) == k.key {
					kind = valueType(w.of.Field(i).Type)
				}
			}
			standard := k.without
			switch {
			case k.without == required:
				standard = "**required**"
			case k.standard != nil:
				standard = fmt.Sprintf("`%v`", k.standard)
			}
			example := "`" + k.example + "`"
			if k.example == "see below" {
				example = k.example
			}
			text := k.text
			if len(k.choices) > 0 {
				text += " One of `" + strings.Join(k.choices, "`, `") + "`."
			}
			if kind == "whole number" && k.least > 0 {
				text += fmt.Sprintf(" At least %d", k.least)
				if k.most > 0 {
					text += fmt.Sprintf(", at most %d", k.most)
				}
				text += "."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.key, kind, standard, example, text)
		}
	}
	return b.String() + "\n"
}

const manual = "../../docs/estate.md"

func TestManual(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	begin, rest, ok := strings.Cut(string(text), "-update` -->\n")
	_, end, okEnd := strings.Cut(rest, "<!-- end of keys -->")
	if !ok || !okEnd {
		t.Fatalf("%s has lost the marks around its tables", manual)
	}
	golden(t, manual, begin+"-update` -->\n"+manualTables()+"<!-- end of keys -->"+end)
}

// TestManualExamples loads what the manual shows.
func TestManualExamples(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(m[1], "name:") {
			continue
		}
		whole++
		if _, err := parse(FileName, "/estate", []byte(m[1])); err != nil {
			t.Errorf("an example of the manual does not load: %v\n%s", err, m[1])
		}
	}
	if whole == 0 {
		t.Error("the manual shows no whole file")
	}
}

// commentedKey is a line of the template that shows what may be set.
var commentedKey = regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z0-9_]+:(?: .*)?)$`)

func TestTemplate(t *testing.T) {
	load := func(text []byte) *Estate {
		t.Helper()
		file := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := load(Template())
	if len(e.Databases) != len(engines) || e.Gate == nil || len(e.Gate.Routes) != 2 {
		t.Errorf("the template shows %d databases, want one of each engine, and a gate with 2 routes", len(e.Databases))
	}
	if first, _, _ := strings.Cut(string(Template()), "\n"); first != "# yaml-language-server: $schema="+DefaultState+"/"+SchemaFile {
		t.Errorf("the first line does not point an editor at the schema: %s", first)
	}
	all := commentedKey.ReplaceAllString(string(Template()), "$1$2")
	load([]byte(all))
	for _, w := range typeWords() {
		if w.of == secretType {
			continue // explained in prose: only one of its keys may be set
		}
		for _, k := range w.keys {
			if !regexp.MustCompile(`(?m)^[ -]*` + k.key + `:`).MatchString(all) {
				t.Errorf("the template does not show %s of %s", k.key, w.title)
			}
		}
	}
	// A commented default is the default: setting them all changes little.
	if full := load([]byte(all)); full.Gate.Hold != e.Gate.Hold || *full.Cutover.Proof != *e.Cutover.Proof || full.Limits.WALStop != e.Limits.WALStop || filepath.Base(full.State) != filepath.Base(e.State) || filepath.Base(full.Gate.Control) != filepath.Base(e.Gate.Control) {
		t.Error("the template's commented keys do not show the defaults")
	}
}
