package inventory

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// whole is a text that the fuzz tests begin with.
func whole(f *testing.F) {
	paths, err := filepath.Glob("../../superapp/deploy/*/*.yaml")
	if err != nil || len(paths) == 0 {
		f.Fatal("no manifests", err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("a: &a [*a]\n")
	f.Add("- |\n  x\n  y\n-  - z\n")
	f.Add("a:\n- b: c\n  d: |-\n    e\n\n    f\n  g: 'h'' i'\n")
	f.Add("kind: List\napiVersion: v1\nitems: [1, {}]\n")
	f.Add("a: [b, \"c\", 'd'] # e\nf: {}\n")
	for _, odd := range []string{
		"a: |\n  x\n# y\nb: 1\n", "a: |\n\n  x\n\n\nb: |-\n  y\n\n", "a: |\n  x\n   y\n  z", "a: |\n\n\nb: 1\n", "a:\n- |\n  x\n- y\n", "a: |2\n   x\n", "a: |+\n  x\n\n", "a: >\n  x\n  y\n",
		"a: b\n  c\n", "a:\n  b\n", "a: b: c\n", "a: - b\n", "a: 'b'c\n", "a: \"b\" # c\n", "a: b #c\n", "a: b#c\n", "a : b\n", "\"a\" : b\n", "'a': b\n", "? a\n: b\n", "- - a\n", "- a: b\n   c: d\n", "- a:\n  - b\n  c: d\n",
		"-   a: b\n    c: d\n", "a:\n- b: c\n- d\ne: f\n", "a:\n  - b\n - c\n", "a: &x b\nc: *x\n", "a: !!str 1\n", "a: \"b\n  c\"\n", "a: [b,\n  c]\n", "a: {b: c}\n", "a: [b, {c: d}]\n", "a: [ b , c ]\n", "a: [b,]\n", "a: []  # c\n", "a: [b c, 1]\n",
		"a:   \n  b: c  \n", "a: ''\nb: \"\"\n", "a: '#'\nb: 'c: d'\n", "a: c:\n", "a: :b\n", "a: -b\n", "a: ?b\n", "a: %b\n", "a: @b\n", "a: `b\n", "a: ~\nb: Null\nc: True\nd: On\ne: n\n", "a: 01\nb: 08\nc: 0o7\nd: +1\ne: -1\nf: 1.\ng: .1\nh: 1e5\ni: 0b11\nj: 1_0\nk: .inf\nl: 12:30\nm: 2024-01-01\n",
		"a: 99999999999999999999\n", "---\n---\na: b\n", "--- a: b\n", "---\na: b\n...\nc: d\n", "%YAML 1.1\n---\na: b\n", "a: b\n\t\n", "a:\tb\n", "# a\n\n#b\n", "a\n", "'a'\n", "- \n- a\n", "-\n  a: b\n", "-\n", "a:\n\n  # b\n  c: d\n", "<<: {a: b}\n", "a: b\na: c\n",
		"1: a\ntrue: b\nnull: c\n", "a: 'b''c'\n", "a: \"b\\n\"\n", "a: b ' c\n", "a: b \" c: d\n", "a:\n    - b\n    -   c: d\n        e: f\n", "a: $(B)\nb: ${C}\nc: {{ .D }}\n", "a: =\n", "a: <<\n", "{}\n", "[]\n", "a: [-1, - b]\n", "a: [b#c, d #e]\n",
	} {
		f.Add(odd)
	}
	f.Add("a: 0x10\nb: 1_000\nc: 010\nd: 1e3\ne: .5\nf: yes\ng: ~\n")
}

// Whatever the text, reading it ends, and what was read can be written.
func FuzzManifest(f *testing.F) {
	whole(f)
	f.Fuzz(func(t *testing.T, text string) {
		r := newReading("")
		inv := &Inventory{}
		for _, d := range split([]byte(text)) {
			p := r.document(d, place{file: "f.yaml", asked: true})
			inv.Objects, inv.Problems, inv.Plain = append(inv.Objects, p.objects...), append(inv.Problems, p.problems...), append(inv.Plain, p.plain...)
		}
		inv.duplicates()
		if err := inv.relate(t.Context()); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(raw) {
			t.Fatal("it is no JSON")
		}
	})
}

// What the quick reader takes it reads as the library does.
func FuzzQuick(f *testing.F) {
	whole(f)
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range split([]byte(text)) {
			n, ok := quick(d.text, d.line)
			if !ok {
				continue
			}
			var root yaml.Node
			if err := yaml.Unmarshal(d.text, &root); err != nil {
				t.Fatalf("it is not YAML: %v\n%q", err, d.text)
			}
			c := &converter{offset: d.line - 1, left: maxNodes}
			want, err := c.convert(&root, 0)
			if err != nil {
				t.Fatalf("the library refuses it: %v\n%q", err, d.text)
			}
			if got, want := string(n.appendJSON(nil)), string(want.appendJSON(nil)); got != want || len(c.faults) > 0 {
				t.Fatalf("%q is read as %s, and should be %s (%v)", d.text, got, want, c.faults)
			}
			sameLines(t, n, want)
		}
	})
}

func sameLines(t *testing.T, a, b *node) {
	t.Helper()
	if a.form == mapping {
		for i := range a.keys {
			if a.keyLines[i] != b.keyLines[i] {
				t.Fatalf("the key %q is in line %d, and should be in %d", a.keys[i], a.keyLines[i], b.keyLines[i])
			}
		}
	}
	for i := range a.kids {
		sameLines(t, a.kids[i], b.kids[i])
	}
}

// The quick reader takes the manifests that people write.
func TestQuickTakesMost(t *testing.T) {
	paths, err := filepath.Glob("../../superapp/deploy/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, taken := 0, 0
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range split(text) {
			all++
			if _, ok := quick(d.text, d.line); ok {
				taken++
			} else {
				t.Logf("%s:%d is left to the library", p, d.line)
			}
		}
	}
	if taken*10 < all*9 {
		t.Errorf("of %d documents it took %d", all, taken)
	}
}

// The places of passwords are within the text, and masking leaves none of them.
func FuzzConnections(f *testing.F) {
	for _, s := range []string{"postgres://u:p@h:5432/d?sslmode=disable", "jdbc:sqlserver://h:1433;databaseName=d;user=u;password=p", "u:p@tcp(h:3306)/d", "jdbc:oracle:thin:u/p@h:1521:x",
		"Server=tcp:h,1433;Initial Catalog=d;Password=p", "host=h user=u password=p dbname=d", "redis://:a/b@h:1", "://", "a://@", "mongodb+srv://u:p@a,b/c?x=://y:z@w"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range connections(s) {
			for _, at := range c.secrets {
				if at[0] < 0 || at[0] > at[1] || at[1] > len(s) {
					t.Fatalf("%q: a password at %v", s, at)
				}
			}
			if c.port < 0 || c.port >= 1<<16 {
				t.Fatalf("%q: port %d", s, c.port)
			}
		}
		m := masker{key: newMaskKey()}
		once := m.text("", "", s)
		if n := len(m.found); m.text("", "", once) != once && strings.Count(once, Masked) == n {
			t.Logf("%q is masked in two steps", s)
		}
		_ = m.file("", s)
		_ = m.setting("", "password", s)
	})
}
