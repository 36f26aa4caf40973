package stacks

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// manual is where each template has a page and a drawing.
const manual = "../docs/stacks"

// TestManual holds that the pages of docs/stacks are what the templates make of them;
// -update writes them anew.
func TestManual(t *testing.T) {
	all := map[string]*template{}
	for _, name := range Names() {
		all[name] = parsed(t, name)
	}
	want := map[string]string{"README.md": index(all)}
	for name, of := range all {
		want[name+".md"] = page(of, all)
		want[name+".svg"] = drawing(of, all)
	}
	if *update {
		if err := os.MkdirAll(manual, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range sortedKeys(want) {
		path := filepath.Join(manual, file)
		if *update {
			if err := os.WriteFile(path, []byte(want[file]), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v (go test ./stacks -run TestManual -update makes it)", err)
			continue
		}
		if diff := gocmp.Diff(string(got), want[file]); diff != "" {
			t.Errorf("%s is not what the templates make (go test ./stacks -run TestManual -update writes it anew):\n%s", path, diff)
		}
	}
	found, err := os.ReadDir(manual)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if want[f.Name()] != "" {
			continue
		}
		if *update {
			if err := os.Remove(filepath.Join(manual, f.Name())); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s is of no template", filepath.Join(manual, f.Name()))
	}
}

const made = "<!-- made by `go test ./stacks -run TestManual -update` -->\n"

// places are the scopes that a template's metadata names, in words.
var places = map[string]string{
	"management":  "once, in the management account's home region",
	"security":    "once, in the home region of the account for security and logs",
	"shared":      "once, in the main region of the production account",
	"account":     "once in each account, in its home region",
	"region":      "in each account and each region that it is used in",
	"workload":    "in each account and region where an environment stands",
	"environment": "in each environment",
	"active":      "in each environment but dr",
	"dr":          "in dr alone",
	"service":     "for each of its services in each environment",
}

func TestPlaces(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		if scope := asString(of.metadata()["Scope"]); places[scope] == "" {
			t.Errorf("its Metadata.Dhow.Scope is %q: want one of %v", scope, sortedKeys(places))
		}
		switch regions := asString(of.metadata()["Regions"]); regions {
		case "", "all":
		case "home":
			if of.metadata()["Alternative"] == nil {
				t.Error("it goes to some regions only, and its Metadata.Dhow names no Alternative for the others")
			}
		default:
			t.Errorf("its Metadata.Dhow.Regions is %q: want all or home", regions)
		}
	})
}

func index(all map[string]*template) string {
	var b strings.Builder
	b.WriteString(made + `
# The stacks

The landing zone is these CloudFormation templates, in [stacks](../../stacks). Each has a page
with a drawing, its parameters, resources and outputs. An output of one is the value of the
parameter of that name of another; nothing is exported. ` + "`dhow deploy`" + ` deploys them in the order
that follows from this, and each can be linted and deployed by hand.

| template | what it is | deployed | resources |
|---|---|---|---|
`)
	for _, name := range sortedKeys(all) {
		of := all[name]
		first, _, _ := strings.Cut(describe(of), ". ")
		fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s | %d |\n", name, name, cell(strings.TrimSuffix(first, ".")), places[asString(of.metadata()["Scope"])], len(of.resources()))
	}
	return b.String()
}

func describe(of *template) string {
	return strings.Join(strings.Fields(asString(of.root["Description"])), " ")
}

func page(of *template, all map[string]*template) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# %s\n\n%s\n\n", made, of.name, describe(of))
	fmt.Fprintf(&b, "![the resources of %s by service, what they take from other stacks and what they give](%s.svg)\n\n", of.name, of.name)
	fmt.Fprintf(&b, "It is deployed %s.", places[asString(of.metadata()["Scope"])])
	if of.metadata()["Regions"] == "home" {
		b.WriteString(" Its types are not in every region.")
	}
	if other := asString(of.metadata()["Alternative"]); other != "" {
		b.WriteString(" " + strings.TrimSuffix(other, ".") + ".")
	}
	fmt.Fprintf(&b, " The template is [stacks/%s.yaml](../../stacks/%s.yaml).\n", of.name, of.name)

	b.WriteString("\n## Parameters\n")
	parameters := of.section("Parameters")
	for _, g := range asList(asMap(of.section("Metadata")["AWS::CloudFormation::Interface"])["ParameterGroups"]) {
		fmt.Fprintf(&b, "\n**%v**\n\n| parameter | what it is | default | takes | from |\n|---|---|---|---|---|\n", asMap(asMap(g)["Label"])["default"])
		for _, p := range asList(asMap(g)["Parameters"]) {
			name := asString(p)
			def := asMap(parameters[name])
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, cell(asString(def["Description"])), defaultOf(def), takes(def), strings.Join(links(givers(of.name, name, all)), ", "))
		}
	}

	b.WriteString("\n## Resources\n\n| resource | type | only if | kept |\n|---|---|---|---|\n")
	for _, id := range sortedKeys(of.resources()) {
		r := of.resources()[id]
		kept := ""
		switch asString(r["DeletionPolicy"]) {
		case "Retain", "RetainExceptOnCreate":
			kept = "yes"
		case "Snapshot":
			kept = "a snapshot"
		}
		fmt.Fprintf(&b, "| %s | `%v` | %s | %s |\n", id, r["Type"], cell(asString(r["Condition"])), kept)
	}
	if conditions := of.section("Conditions"); len(conditions) > 0 {
		b.WriteString("\nWhere\n\n")
		for _, name := range sortedKeys(conditions) {
			fmt.Fprintf(&b, "- %s: %s\n", name, inWords(conditions[name]))
		}
	}

	b.WriteString("\n## Outputs\n\n")
	if outputs := of.section("Outputs"); len(outputs) > 0 {
		b.WriteString("| output | what it is | taken by |\n|---|---|---|\n")
		for _, name := range sortedKeys(outputs) {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, cell(asString(asMap(outputs[name])["Description"])), strings.Join(links(takers(of.name, name, all)), ", "))
		}
	}
	var because []string
	for _, where := range sortedKeys(reasons) {
		if rest, ok := strings.CutPrefix(where, of.name+"/"); ok {
			because = append(because, fmt.Sprintf("- `%s`: %s", rest, reasons[where]))
		}
	}
	if len(because) > 0 {
		b.WriteString("\n## Wide rights, and why\n\n" + strings.Join(because, "\n") + "\n")
	}
	return b.String()
}

// otherSides are the beginnings of parameters that are another environment's output:
// MainVpcId is the VpcId of main.
var otherSides = []string{"", "Main", "Dr", "Dev", "Sit"}

// givers are the templates whose output is a parameter's value.
func givers(name, parameter string, all map[string]*template) []string {
	var found []string
	for _, other := range sortedKeys(all) {
		for _, side := range otherSides {
			output, ok := strings.CutPrefix(parameter, side)
			if ok && (other != name || side != "") && all[other].section("Outputs")[output] != nil {
				found = append(found, other)
			}
		}
	}
	return slices.Compact(found)
}

// takers are the templates that have a parameter for an output.
func takers(name, output string, all map[string]*template) []string {
	var found []string
	for _, other := range sortedKeys(all) {
		for _, side := range otherSides {
			if (other != name || side != "") && all[other].section("Parameters")[side+output] != nil {
				found = append(found, other)
			}
		}
	}
	return slices.Compact(found)
}

func links(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("[%s](%s.md)", n, n))
	}
	return out
}

func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(text)
}

func defaultOf(def map[string]any) string {
	v, ok := def["Default"]
	switch {
	case !ok:
		return "none"
	case fmt.Sprint(v) == "":
		return "empty"
	case len(fmt.Sprint(v)) > 60:
		return "see the template"
	}
	return "`" + cell(fmt.Sprint(v)) + "`"
}

func takes(def map[string]any) string {
	if values := texts(def["AllowedValues"]); len(values) > 0 {
		return "`" + strings.Join(values, "`, `") + "`"
	}
	if def["MinValue"] != nil {
		return fmt.Sprintf("%v to %v", def["MinValue"], def["MaxValue"])
	}
	return cell(cmp.Or(strings.TrimSuffix(asString(def["ConstraintDescription"]), "."), asString(def["Type"])))
}

// inWords is a condition as people say it.
func inWords(v any) string {
	m := asMap(v)
	if len(m) != 1 {
		return "`" + fmt.Sprint(v) + "`"
	}
	list := func(joined string) string {
		var parts []string
		for _, e := range asList(m[sortedKeys(m)[0]]) {
			parts = append(parts, inWords(e))
		}
		return strings.Join(parts, joined)
	}
	switch sortedKeys(m)[0] {
	case "Ref":
		return "`" + asString(m["Ref"]) + "`"
	case "Condition":
		return asString(m["Condition"])
	case "Fn::Equals":
		if parts := asList(m["Fn::Equals"]); len(parts) == 2 && parts[1] == "" {
			return inWords(parts[0]) + " is empty"
		}
		return list(" is ")
	case "Fn::Not":
		return "not (" + list("") + ")"
	case "Fn::And":
		return list(", and ")
	case "Fn::Or":
		return "(" + list(", or ") + ")"
	case "Fn::Join", "Fn::Sub", "Fn::Select", "Fn::FindInMap", "Fn::Split":
		return "`" + strings.Join(references(v), "`, `") + "` together"
	}
	return "`" + fmt.Sprint(v) + "`"
}
