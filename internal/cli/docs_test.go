package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dhow/internal/assess"
	"dhow/internal/cutover"
	"dhow/internal/demo"
	"dhow/internal/dr"
	"dhow/internal/expose"
	"dhow/internal/gate"
	"dhow/internal/inventory"
	"dhow/internal/landing"
	"dhow/internal/move"
	"dhow/internal/plan"
	"dhow/internal/pods"
	"dhow/internal/region"
	"dhow/internal/voyage"
	"dhow/internal/window"
)

// commandPages is the folder of the manual's pages.
const commandPages = "../../docs/commands"

// pageOf is the name of a command's page: dhow gate status has gate-status.md.
func pageOf(cmd *cobra.Command) string {
	return strings.ReplaceAll(strings.TrimPrefix(cmd.CommandPath(), "dhow "), " ", "-") + ".md"
}

// flagRow is a row of a page's table of flags.
var flagRow = regexp.MustCompile("(?m)^\\| (?:`-([a-z])`, )?`--([a-z-]+)` \\|([^|]*)\\|")

// TestManual holds the pages and the commands together: every command has a page
// with its flags, their short forms and their defaults, and every page a command.
func TestManual(t *testing.T) {
	root := (&app{}).root()
	pages := map[string]bool{"README.md": true}
	index := read(t, "README.md")
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			walk(c)
		}
		if cmd == root {
			return
		}
		page := pageOf(cmd)
		pages[page] = true
		t.Run(page, func(t *testing.T) { matches(t, cmd, page) })
		if !strings.Contains(index, "["+cmd.CommandPath()+"]("+page+")") {
			t.Errorf("README.md does not lead to %s", page)
		}
	}
	walk(root)
	compareFlags(t, "README.md", index, root.PersistentFlags(), "help")

	files, err := filepath.Glob(filepath.Join(commandPages, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !pages[filepath.Base(f)] {
			t.Errorf("%s is the page of no command", filepath.Base(f))
		}
	}
}

// matches compares a page with its command.
func matches(t *testing.T, cmd *cobra.Command, page string) {
	text := read(t, page)
	for _, part := range []string{"# " + cmd.CommandPath() + "\n", "\n## Flags\n", "\n## Exit codes\n"} {
		if !strings.Contains("\n"+text, part) {
			t.Errorf("there is no %q", strings.TrimSpace(part))
		}
	}
	if !strings.Contains(text, "(README.md#flags-of-every-command)") {
		t.Error("the flags of every command are not named")
	}
	if cmd.Name() != "completion" && !strings.Contains(text, "\n## JSON\n") {
		t.Error("its JSON is not told")
	}
	if !strings.Contains(text, "$ "+cmd.CommandPath()) && !strings.Contains(text, "<("+cmd.CommandPath()) {
		t.Error("there is no example")
	}
	compareFlags(t, page, text, cmd.LocalNonPersistentFlags())
}

// compareFlags compares the rows of a page's flags with those that there are;
// beside are flags that every command has without any doing.
func compareFlags(t *testing.T, page, text string, flags *pflag.FlagSet, beside ...string) {
	t.Helper()
	told := map[string]bool{}
	for _, row := range flagRow.FindAllStringSubmatch(text, -1) {
		short, name, value := row[1], row[2], strings.Trim(strings.TrimSpace(row[3]), "`")
		told[name] = true
		if slices.Contains(beside, name) {
			continue
		}
		f := flags.Lookup(name)
		if f == nil {
			t.Errorf("%s tells of --%s, which is no flag of it", page, name)
			continue
		}
		if f.Shorthand != short {
			t.Errorf("%s says that --%s is -%s for short, but that is -%s", page, name, short, f.Shorthand)
		}
		if f.Value.Type() == "stringArray" || f.Value.Type() == "bool" || f.Value.Type() == "count" {
			continue // its default is a word, or nothing
		}
		if f.DefValue != value {
			t.Errorf("%s says that --%s is %q by default, but that is %q", page, name, value, f.DefValue)
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && !told[f.Name] {
			t.Errorf("%s does not tell of --%s", page, f.Name)
		}
	})
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(commandPages, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManualFields: each field of a command's JSON is named on its page.
func TestManualFields(t *testing.T) {
	for page, values := range map[string][]any{
		"demo.md":        {demo.Report{}},
		"preflight.md":   {inspected{}, move.Issue{}},
		"replicate.md":   {move.Progress{}, move.TableProgress{}, voyage.Standing{}, pods.Standing{}},
		"verify.md":      {compared{}},
		"cutover.md":     {cutover.Result{}, cutover.Timing{}, schedule{}, window.Plan{}, window.Sure{}},
		"finish.md":      {voyage.Leftover{}},
		"gate-status.md": {gate.Status{}, gate.RouteStatus{}},
		"status.md":      {estateStatus{}, databaseStatus{}, replicateStatus{}, cutover.Run{}, move.State{}},
		"version.md":     {version{}},
		"assess.md":      {assess.Report{}, assess.Suppressed{}, assess.Exposure{}, assess.Hop{}, inventory.Problem{}, inventory.Cluster{}, ruleRow{}},
		"deploy.md":      {deployed{}, landing.Graph{}, landing.Input{}, landing.Change{}, landing.Detail{}, landing.Timeline{}, landing.Need{}},
		"dr-status.md":   {dr.Status{}, dr.Estimate{}},
		"dr-drill.md":    {dr.Drill{}},
		"dr-failover.md": {dr.Run{}},
		"dr-failback.md": {dr.Run{}},
		"expose.md":      {exposeResult{}, appliedExposure{}, labelledSpace{}, expose.Proposal{}, expose.Made{}, expose.Progress{}, expose.Item{}, expose.Told{}},
		"plan.md":        {plan.Plan{}, plan.Diff{}, written{}},
		"regions.md": {region.Region{}, region.Notice{}, region.Source{}, region.Offer{}, region.Ranking{}, region.Candidate{}, region.Lack{},
			region.Change{}},
	} {
		text := read(t, page)
		for _, v := range values {
			for _, name := range fields(reflect.TypeOf(v)) {
				if !regexp.MustCompile("[`.]" + name + "(\\[\\])?[`.]").MatchString(text) {
					t.Errorf("%s does not tell of the field %s", page, name)
				}
			}
		}
	}
}

// fields are the names of a type's JSON, of what is embedded and listed in it too,
// but not of what another page tells.
func fields(of reflect.Type) []string {
	var names []string
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fields(f.Type)...)
			continue
		case name == "" || name == "-":
			continue
		}
		names = append(names, name)
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			names = append(names, fields(f.Type.Elem())...)
		}
	}
	return names
}
