package assess

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"dhow/internal/inventory"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestSARIF: the log has what the format asks for, and says the same as the report.
func TestSARIF(t *testing.T) {
	r := assessFiles(t, Options{Suppressions: &Suppressions{File: "assess.yaml", All: []Suppression{{Rule: "privileged", Object: "*/*/*", Reason: "known", Until: time.Now().AddDate(1, 0, 0)}}}}, "../../superapp/deploy/source")
	var out bytes.Buffer
	if err := r.WriteSARIF(&out, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name, Version string
					Rules         []struct {
						ID                   string
						ShortDescription     struct{ Text string }
						DefaultConfiguration struct{ Level string }
					}
				}
			}
			Invocations []struct{ ExecutionSuccessful bool }
			Results     []struct {
				RuleID       string
				RuleIndex    int
				Level        string
				Message      struct{ Text string }
				Suppressions []struct{ Kind, Justification string }
				Prints       map[string]string `json:"partialFingerprints"`
				Locations    []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
					LogicalLocations []struct{ FullyQualifiedName, Kind string }
				}
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.HasSuffix(log.Schema, "sarif-2.1.0.json") || len(log.Runs) != 1 {
		t.Fatalf("version %q, schema %q, %d runs", log.Version, log.Schema, len(log.Runs))
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name != "dhow" || run.Tool.Driver.Version != "v1.2.3" || len(run.Invocations) != 1 || !run.Invocations[0].ExecutionSuccessful {
		t.Errorf("the tool is %+v, the run %+v", run.Tool.Driver.Name, run.Invocations)
	}
	if len(run.Results) != len(r.Findings)+len(r.Suppressed) || len(r.Suppressed) == 0 {
		t.Errorf("%d results of %d findings and %d that are suppressed", len(run.Results), len(r.Findings), len(r.Suppressed))
	}
	suppressed := 0
	prints := map[string]bool{}
	for _, one := range run.Results {
		if run.Tool.Driver.Rules[one.RuleIndex].ID != one.RuleID {
			t.Errorf("rule %d is not %s", one.RuleIndex, one.RuleID)
		}
		if one.Level != "error" && one.Level != "warning" && one.Level != "note" || one.Message.Text == "" || len(one.Locations) != 1 || len(one.Prints) != 1 {
			t.Errorf("a result is %+v", one)
			continue
		}
		at := one.Locations[0].PhysicalLocation
		if at.ArtifactLocation.URI == "" || at.Region.StartLine < 1 || strings.Contains(at.ArtifactLocation.URI, "\\") {
			t.Errorf("the place of %s is %+v", one.RuleID, at)
		}
		for _, p := range one.Prints {
			prints[p] = true
		}
		suppressed += len(one.Suppressions)
	}
	if suppressed != len(r.Suppressed) || len(prints) != len(run.Results) {
		t.Errorf("%d are suppressed, and %d fingerprints are of %d results", suppressed, len(prints), len(run.Results))
	}
}

func TestFileURI(t *testing.T) {
	for path, want := range map[string]string{"a b/c.yaml": "a%20b/c.yaml", "/tmp/x#1.yaml": "file:///tmp/x%231.yaml", "../x.yaml": "../x.yaml"} {
		if got := fileURI(path); got != want {
			t.Errorf("%s is %s, not %s", path, got, want)
		}
	}
}

// TestJSON: each finding has its place, its words and, where it can, its patch.
func TestJSON(t *testing.T) {
	r := assessFiles(t, Options{}, "../../superapp/deploy/source")
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Findings []struct {
			Rule, Severity, Group, Title, Path, File, Why, Fix, PatchType, Fingerprint string
			Patch                                                                      json.RawMessage
			Line                                                                       int
			Object                                                                     *struct{ Kind, Namespace, Name string }
			Evidence                                                                   []string
		}
		Exposures []Exposure
		Partial   bool
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Findings) != len(r.Findings) || len(got.Exposures) == 0 {
		t.Fatalf("%d findings, %d exposures", len(got.Findings), len(got.Exposures))
	}
	patches := map[string]int{}
	for _, f := range got.Findings {
		if f.Rule == "" || f.Severity == "" || f.Group == "" || f.Why == "" || f.Fix == "" || f.File == "" || f.Line == 0 || f.Object == nil || len(f.Evidence) == 0 || len(f.Fingerprint) != 24 {
			t.Errorf("a finding is %+v", f)
		}
		if begin, ok := map[string]string{PatchStrategic: "{", PatchJSON: "["}[f.PatchType]; ok != (f.Patch != nil) || !bytes.HasPrefix(f.Patch, []byte(begin)) {
			t.Errorf("%s: the patch of type %q is %s", f.Rule, f.PatchType, f.Patch)
		}
		patches[f.PatchType]++
	}
	if patches[PatchStrategic] == 0 || patches[PatchJSON] == 0 {
		t.Errorf("the patches are %v", patches)
	}
	if bytes.Contains(out.Bytes(), []byte("Sup3rApp")) || bytes.Contains(out.Bytes(), []byte("R00t-2018")) {
		t.Error("a password is in it")
	}
}

// TestHTML: the page is well formed, needs nothing from elsewhere, draws the paths, and
// shows hostile names as text.
func TestHTML(t *testing.T) {
	r := assessFiles(t, Options{}, "../../superapp/deploy/source")
	r.Findings[0].Evidence = append(r.Findings[0].Evidence, "<script>alert(1)</script>")
	var out bytes.Buffer
	if err := r.WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, "<script") {
		t.Error("a script is in it")
	}
	if m := regexp.MustCompile(`(?i)<(link|script|img|iframe|object|embed|base)\b|@import|url\(|(src|href)="[^#]`).FindString(text); m != "" {
		t.Errorf("it asks for something else: %s", m)
	}
	for _, want := range []string{"lang=\"en\"", "<title>", "<main>", "role=\"img\"", "aria-label=", "prefers-color-scheme", "@media print", "scope=\"col\"", "Deployment accounts", "class=\"clear\""} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	open := map[string]int{}
	z := html.NewTokenizer(strings.NewReader(text))
	for tt := z.Next(); tt != html.ErrorToken; tt = z.Next() {
		name, _ := z.TagName()
		switch tt {
		case html.StartTagToken:
			open[string(name)]++
		case html.EndTagToken:
			open[string(name)]--
		default:
		}
	}
	for name, n := range open {
		if n != 0 && name != "meta" && name != "br" && name != "!doctype" {
			t.Errorf("%d of <%s> stay open", n, name)
		}
	}
	if r.Count(Low) != len(r.Findings) {
		t.Errorf("%d of %d findings are counted", r.Count(Low), len(r.Findings))
	}
}

// TestManual keeps the page of the rules.
func TestManual(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "assess-rules.md")
	var out bytes.Buffer
	if err := WriteManual(&out); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("docs/assess-rules.md is not what the rules say; -update writes it anew")
	}
}

// TestJSONIsTheEncoders: the findings are written by hand, and read as if the encoder had.
func TestJSONIsTheEncoders(t *testing.T) {
	same := func(t *testing.T, r *Report) {
		t.Helper()
		var out bytes.Buffer
		if err := r.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		want, err := indented(r)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want)+"\n", out.String()); d != "" {
			t.Error(d)
		}
	}
	t.Run("nothing", func(t *testing.T) { same(t, &Report{Findings: []Finding{}}) })
	t.Run("superapp", func(t *testing.T) { same(t, assessFiles(t, Options{}, "../../superapp/deploy/source")) })
	t.Run("every rule", func(t *testing.T) {
		var all Report
		for _, r := range Rules() {
			if r.check != nil {
				all.Findings = append(all.Findings, findingsOf(t, caseOf(t, filepath.Join(cases, r.ID), "fires"), r.ID)...)
			}
		}
		for len(all.Findings) < 3*perPiece { // of several pieces
			all.Findings = append(all.Findings, all.Findings...)
		}
		same(t, &all)
	})
	t.Run("any text", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z"\\<>&\n\t\x7f]*`))
			f := Finding{Rule: &Rules()[0], Object: inventory.Ref{Kind: text.Draw(t, "kind"), Name: text.Draw(t, "name"), Group: text.Draw(t, "group")}, Path: text.Draw(t, "path"),
				File: text.Draw(t, "file"), Line: rapid.Int().Draw(t, "line"), Context: text.Draw(t, "context"), Evidence: rapid.SliceOf(text).Draw(t, "evidence"), Fingerprint: text.Draw(t, "fingerprint")}
			f.operate("replace", text.Draw(t, "at"), text.Draw(t, "value"))
			want, err := indented([]Finding{f})
			if err != nil {
				t.Fatal(err)
			}
			var w findingWriter
			if err := w.write([]Finding{f}, true); err != nil {
				t.Fatal(err)
			}
			got := "[" + strings.ReplaceAll(string(w.text), "\n  ", "\n") + "\n]"
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	})
}

// full is a place that takes so many writes and no more.
type full struct{ left int }

var errFull = errors.New("it is full")

func (f *full) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestWriteEndsWhereNothingMoreIsTaken: whatever was encoded ahead is let go.
func TestWriteEndsWhereNothingMoreIsTaken(t *testing.T) {
	all := make([]Finding, 20*perPiece)
	for i := range all {
		all[i] = Finding{Rule: &Rules()[0]}
	}
	before := runtime.NumGoroutine()
	for _, left := range []int{0, 1, 7, 19} {
		if err := writeFindings(&full{left}, all); !errors.Is(err, errFull) {
			t.Errorf("after %d writes: %v", left, err)
		}
	}
	if err := writeFindings(&full{20}, all); err != nil {
		t.Error(err)
	}
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
	}
}
