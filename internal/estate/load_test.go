package estate

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ignoreOrigins compares what an estate says, not where.
var ignoreOrigins = cmp.Options{cmpopts.IgnoreUnexported(Secret{}, TLS{}, Landing{}), cmpopts.IgnoreFields(Estate{}, "File"), cmpopts.EquateEmpty()}

// fixtures are the estate files of a folder below testdata.
func fixtures(t testing.TB, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures in %s: %v", folder, err)
	}
	return files
}

// hidden stands for a secret in the fixtures; no error may show it.
const hidden = "hunter2"

func TestLoadRefuses(t *testing.T) {
	for _, folder := range []string{"bad", "bad-beyond-schema", "unreadable"} {
		for _, file := range fixtures(t, folder) {
			t.Run(folder+"/"+strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				_, err = parse(FileName, "/estate", text)
				var invalid *Invalid
				if !errors.As(err, &invalid) {
					t.Fatalf("it was taken, or failed otherwise: %v", err)
				}
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("the error shows a secret:\n%v", err)
				}
				lines := strings.Count(string(text), "\n") + 1
				last := 0
				for _, p := range invalid.Problems {
					if p.Line < max(last, 1) || p.Line > lines || p.Column < 1 {
						t.Errorf("a problem stands at %d:%d of %d lines, after line %d: %s", p.Line, p.Column, lines, last, p.Text)
					}
					last = p.Line
				}
				golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
			})
		}
	}
}

func TestLoadTakes(t *testing.T) {
	for _, file := range fixtures(t, "good") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e, err := parse(FileName, "/estate", text)
			if err != nil {
				t.Fatal(err)
			}
			// Secrets are written as where they are kept, by the type's own hand.
			told, err := json.MarshalIndent(e, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".json", string(told)+"\n")
			reload(t, e)
		})
	}
}

// reload writes an estate out and loads it again: it must be the same.
func reload(t *testing.T, e *Estate) {
	t.Helper()
	text, err := yaml.MarshalWithOptions(e, yaml.JSON()) // every text in quotes
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(FileName, "/elsewhere", text)
	if err != nil {
		t.Fatalf("what was loaded does not load again: %v\n%s", err, text)
	}
	if diff := cmp.Diff(e, again, ignoreOrigins); diff != "" {
		t.Fatalf("what was loaded loads as something else (-first +again):\n%s\n%s", diff, text)
	}
}

func TestLoadFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Load("none.yaml"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "dhow init") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load("."); err == nil {
		t.Error("a folder was loaded")
	}
	if err := os.WriteFile("large.yaml", []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("large.yaml"); err == nil || !strings.Contains(err.Error(), "128KiB") {
		t.Errorf("a large file: %v", err)
	}
	if err := os.Mkdir("below", 0o700); err != nil {
		t.Fatal(err)
	}
	text := "\ufeffname: bank\r\ndatabases:\r\n  - name: accounts\r\n    source: {host: a, database: x, user: u, password: {file: pw}}\r\n    target: {host: b, database: x, user: u}\r\n"
	file := filepath.Join("below", FileName)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("below")
	if err != nil {
		t.Fatal(err)
	}
	if e.File != file || e.State != filepath.Join(dir, ".dhow") || e.Databases[0].Source.Password.File != filepath.Join(dir, "pw") {
		t.Errorf("paths do not begin at the file's folder: file %s, state %s, password %s", e.File, e.State, e.Databases[0].Source.Password)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, "port", "prot", 1)+"zebra: 1\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.HasPrefix(err.Error(), file+":6: zebra: unknown key") {
		t.Errorf("the error does not begin with file:line: %v", err)
	}
}

func TestInvalidAsJSON(t *testing.T) {
	_, err := parse(FileName, "/", []byte("nam: x\n"))
	got, jsonErr := json.Marshal(err)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	if want := `{"file":"dhow.yaml","problems":[{"line":1,"column":1,"path":"nam","text":"unknown key: did you mean name?"},`; !strings.HasPrefix(string(got), want) {
		t.Errorf("got  %s\nwant %s...", got, want)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "17": 17, "1B": 1, "64MiB": 64 << 20, "64 MiB": 64 << 20, "3KB": 3000, "8388607TiB": 8388607 << 40} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) is %d, %v; want %d", text, got, err, want)
		}
		if back, err := ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%d is written as %s, which reads as %d, %v", got, got, back, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "64mib", "64 sacks", "8388608TiB", "99999999999999999999"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) is %d, want an error", text, got)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"port", "port", 0}, {"prot", "port", 1}, {"", "abc", 3}, {"stal_budget", "stall_budget", 1}, {"kitten", "sitting", 3}, {"é", "e", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) is %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("distance(%q, %q) is %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

// slowest bounds the reading of any one file: what is larger or deeper than an
// estate is refused before it costs more. It is wide, for machines under load.
const slowest = 20 * time.Second

func TestHostileFilesAreQuick(t *testing.T) {
	for name, text := range map[string]string{
		"flow":              "a: " + strings.Repeat("[", 100_000),
		"mappings":          "a: " + strings.Repeat("{a: ", 50_000),
		"entries":           "a:\n  " + strings.Repeat("- ", 100_000) + "1",
		"questions":         strings.Repeat("? ", 100_000),
		"anchors":           strings.Repeat("a: &a ", 40_000),
		"keys":              strings.Repeat("a: 1\n", maxKeys),
		"more keys":         strings.Repeat("a: 1\n", 50_000),
		"stairs":            stairs(700),
		"entries on stairs": stairs(200) + strings.Repeat(" ", 200) + strings.Repeat("- ", maxNesting) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			if _, err := parse(FileName, "/", []byte(text)[:min(len(text), maxFile)]); err == nil {
				t.Error("it was taken")
			}
			if took := time.Since(began); took > slowest {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// stairs is a mapping in a mapping in a mapping, each on a line of its own.
func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func FuzzLoad(f *testing.F) {
	for _, folder := range []string{"good", "bad", "bad-beyond-schema", "unreadable"} {
		for _, file := range fixtures(f, folder) {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add(Template())
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parse(FileName, "/estate", text)
		if err != nil {
			var invalid *Invalid
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("an error of another kind: %v", err)
			}
			for _, p := range invalid.Problems {
				if p.Line < 1 || p.Column < 1 || p.Text == "" {
					t.Fatalf("a problem without a place or a text: %+v", p)
				}
			}
			return
		}
		reload(t, e)
	})
}
