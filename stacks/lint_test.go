package stacks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/venv"
)

// pairs are main regions and those for disaster recovery: the estate's by default,
// and others that any estate may name instead.
var pairs = [][2]string{{"me-central-1", "me-south-1"}, {"eu-central-1", "eu-west-1"}, {"us-east-1", "us-west-2"}}

// homes are regions for what an organization has once. Where a template's types are
// not in every region, its page says so, and it goes to one of these.
var homes = []string{"us-east-1", "eu-central-1", "eu-west-1"}

// linter is cfn-lint in an environment of its own, as a lock file tells.
type linter struct{ venv.Env }

// The newest, and the last that knows what the regions offer that tell it no more.
var locks = []string{"requirements-cfn-lint.txt", "requirements-cfn-lint-1.46.txt"}

// linting is how long all templates may take on a busy machine.
const linting = 8 * time.Minute

// installed is the linter of a lock file.
func installed(t *testing.T, lock string) linter {
	t.Helper()
	env, err := venv.Install(t.Context(), lock, "cfn-lint")
	if err != nil {
		t.Fatal(err)
	}
	return linter{env}
}

// data is the folder of AWS's resource schemas that the linter brings.
func (l linter) data(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(l.Dir, "lib", "python3.*", "site-packages", "cfnlint", "data", "schemas"))
	if err != nil || len(found) != 1 {
		t.Fatalf("cfn-lint %s has no schemas in %s (%v)", l.Version, l.Dir, err)
	}
	return found[0]
}

// knows says whether the linter has a list of what the region offers. Without one it
// finds no fault with any type there.
func (l linter) knows(t *testing.T, region string) bool {
	t.Helper()
	providers := filepath.Join(l.data(t), "providers")
	for _, name := range []string{region + ".json", strings.ReplaceAll(region, "-", "_") + ".py"} {
		if _, err := os.Stat(filepath.Join(providers, name)); err == nil {
			return true
		}
	}
	return false
}

var (
	// allRules are also those that only inform.
	allRules = []string{"--include-checks", "I"}
	// typesOnly asks whether the region offers the types. An older linter's word counts
	// for nothing else: properties have come since.
	typesOnly = []string{"--ignore-checks", "E", "W", "I", "--mandatory-checks", "E3006"}
)

// lint runs the linter over templates, for regions, and tells what it says.
func (l linter) lint(t *testing.T, rules, names, regions []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), linting)
	defer cancel()
	args := slices.Concat(rules, []string{"--non-zero-exit-code", "informational", "--format", "parseable", "--regions"}, regions, []string{"--template"})
	for _, n := range names {
		args = append(args, n+suffix)
	}
	cmd := exec.CommandContext(ctx, l.Bin("cfn-lint"), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		t.Errorf("cfn-lint %s for %v: %s", l.Version, regions, strings.TrimSpace(line))
	}
	if err != nil && len(out) == 0 {
		t.Errorf("cfn-lint %s for %v: %v: %s", l.Version, regions, err, errs.String())
	}
	t.Logf("cfn-lint %s looked at %d templates for %v", l.Version, len(names), regions)
}

// TestLint runs cfn-lint with every rule, informational ones too, over all templates
// for every pair of regions; for a region that the newest one has no list of, an older
// one which has.
func TestLint(t *testing.T) {
	if testing.Short() {
		t.Skip("cfn-lint is installed and run: skipped under testing.Short")
	}
	var linters []linter
	for _, lock := range locks {
		linters = append(linters, installed(t, lock))
	}
	byLinter := make([][]string, len(linters))
	for _, pair := range pairs {
		for _, region := range pair {
			i := slices.IndexFunc(linters, func(l linter) bool { return l.knows(t, region) })
			if i < 0 {
				t.Errorf("no cfn-lint knows what %s offers", region)
				continue
			}
			byLinter[i] = append(byLinter[i], region)
		}
	}
	var everywhere, home []string
	for _, name := range Names() {
		if parsed(t, name).metadata()["Regions"] == "home" {
			home = append(home, name)
		} else {
			everywhere = append(everywhere, name)
		}
	}
	for i, regions := range byLinter {
		rules := allRules
		if i > 0 {
			rules = typesOnly
		}
		if len(regions) > 0 && len(everywhere) > 0 {
			linters[i].lint(t, rules, everywhere, regions)
		}
	}
	if len(home) > 0 {
		linters[0].lint(t, allRules, home, homes)
	}
}

// untagged are types whose schema has tags that do not take ours, with the reason.
var untagged = map[string]string{
	"AWS::SecurityHub::AutomationRule": "its keys are letters and digits alone",
}

// TestTags: what can carry tags has those by which people find it and pay for it.
func TestTags(t *testing.T) {
	if testing.Short() {
		t.Skip("cfn-lint's schemas are fetched: skipped under testing.Short")
	}
	schemas := installed(t, locks[0]).data(t)
	files := map[string]string{}
	readJSON(t, filepath.Join(schemas, "providers", "us-east-1.json"), &files)
	every(t, func(t *testing.T, of *template) {
		all := of.resources()
		for _, id := range sortedKeys(all) {
			typ := asString(all[id]["Type"])
			if strings.HasPrefix(typ, "Custom::") || untagged[typ] != "" {
				continue
			}
			property := tagProperty(t, filepath.Join(schemas, "resources", files[typ]+".json"))
			if property == "" {
				continue
			}
			tags := tagsOf(asMap(all[id]["Properties"])[property])
			for key, want := range map[string]string{
				"Application": "map[Ref:Application]", "Environment": "map[Ref:Environment]", "dhow:stack": of.name,
			} {
				if got := fmt.Sprint(tags[key]); got != want {
					t.Errorf("%s, %s: its tag %s in %s is %s, and should be %s", id, typ, key, property, got, want)
				}
			}
		}
	})
}

// tagProperty is the property that takes a type's tags; "" where it can have none.
func tagProperty(t *testing.T, file string) string {
	t.Helper()
	var schema struct {
		Properties map[string]json.RawMessage
		Tagging    struct {
			TagProperty string
			Taggable    *bool
		}
	}
	readJSON(t, file, &schema)
	property := strings.TrimPrefix(schema.Tagging.TagProperty, "/properties/")
	if schema.Tagging.Taggable != nil && !*schema.Tagging.Taggable {
		return ""
	}
	if property == "" {
		property = "Tags"
	}
	if schema.Properties[property] == nil {
		return ""
	}
	return property
}

// tagsOf are the tags of a resource by key, however its type writes them.
func tagsOf(v any) map[string]any {
	tags := map[string]any{}
	for key, value := range asMap(v) {
		tags[key] = value
	}
	for _, tag := range choices(v) {
		if m := asMap(tag); m["Key"] != nil {
			tags[asString(m["Key"])] = m["Value"]
		}
	}
	return tags
}

func readJSON(t *testing.T, file string, to any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
