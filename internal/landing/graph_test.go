package landing

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/estate"
	"dhow/internal/region"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata, which -update writes anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; -update takes it over. Now it is:\n%s", path, got)
	}
}

func catalog(t testing.TB) *region.Catalog {
	t.Helper()
	c, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// small are the templates of the tests: few, and each as little as shows its part.
func small(t testing.TB) Library {
	t.Helper()
	l, err := Read("testdata/stacks", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range l {
		template.Edited = false
	}
	return l
}

// estateOf loads the estate of the tests with texts replaced, old and new by turns.
func estateOf(t testing.TB, replace ...string) *estate.Estate {
	t.Helper()
	text, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(text), replace[i]) {
			t.Fatalf("the estate has no %q to replace", replace[i])
		}
	}
	file := filepath.Join(t.TempDir(), estate.FileName)
	if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := estate.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// graphOf is the graph of the tests' estate and templates, with texts of the estate replaced.
func graphOf(t testing.TB, replace ...string) *Graph {
	t.Helper()
	g, err := New(Options{Estate: estateOf(t, replace...), Library: small(t), Regions: catalog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGraph(t *testing.T) {
	g := graphOf(t)
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "graph.json", string(text)+"\n")
	golden(t, "graph.mermaid", g.Mermaid())
	for range 5 {
		again, err := json.MarshalIndent(graphOf(t), "", "  ")
		if err != nil || string(again) != string(text) {
			t.Fatalf("the same estate gives another graph: %v", err)
		}
	}
	done := map[string]bool{}
	for _, s := range g.Stacks {
		for _, id := range s.After {
			if !done[id] {
				t.Errorf("%s comes before %s, which it needs", s.ID, id)
			}
		}
		done[s.ID] = true
	}
}

// TestOwnTemplates: dhow's own templates fit together, in three pairs of regions.
func TestOwnTemplates(t *testing.T) {
	library, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, regions := range []string{"{main: me-central-1, dr: me-south-1, home: us-east-1}", "{main: eu-central-1, dr: eu-west-1}", "{main: us-east-1, dr: us-west-2}"} {
		e := estateOf(t, "{main: me-central-1, dr: eu-west-1}", regions, "network: {NatGateways: none}", "network: {NatGateways: one}", "  tags:", "  domain: bank.example\n  tags:")
		g, err := New(Options{Estate: e, Library: library, Regions: catalog(t)})
		if err != nil {
			t.Fatalf("%s: %v", regions, err)
		}
		for _, f := range g.Findings {
			if f.Severity == SeverityError {
				t.Errorf("%s: %s: %s", regions, f.Where, f.Text)
			}
		}
	}
}

// TestRefused: what does not fit together is refused, with where and what to do.
func TestRefused(t *testing.T) {
	change := func(name, old, new string) func(Library) {
		return func(l Library) {
			body := string(l[name].Body)
			if !strings.Contains(body, old) {
				panic("the template " + name + " has no " + old)
			}
			changed, err := Parse(name, []byte(strings.Replace(body, old, new, 1)))
			if err != nil {
				panic(err)
			}
			l[name] = changed
		}
	}
	for name, c := range map[string]struct {
		estate []string
		change func(Library)
		want   string
	}{
		"region":             {estate: []string{"dr: eu-west-1", "dr: eu-wset-1"}, want: `dhow.yaml:5: landing.regions.dr: no AWS region is called "eu-wset-1": did you mean eu-west-1?`},
		"template":           {estate: []string{"  tags:", "  without: [networks]\n  tags:"}, want: `landing.without[0]: there is no template "networks"`},
		"parameter":          {estate: []string{"NatGateways: none", "NatGateway: none"}, want: `dhow.yaml:7: landing.environments[0].parameters.network.NatGateway: the template network has no parameter NatGateway`},
		"parameters of none": {estate: []string{"  tags:", "  parameters: {networks: {X: y}}\n  tags:"}, want: `landing.parameters.networks: there is no template "networks"`},
		"value":              {estate: []string{"NatGateways: none", "NatGateways: three"}, want: `dev/network: its parameter NatGateways is "three", from the estate: want one of one, none`},
		"service's template": {estate: []string{"- name: cards", "- {name: cards, template: frontend}"}, want: `dhow.yaml:13: landing.services[1].template: there is no template "frontend"`},
		"account": {estate: []string{`, production: "444444444444"`, "", "  tags:", "  without: [organization]\n  tags:"},
			want: `landing.accounts.production: is missing, and the template organization, which would make the account, is left out`},
		"missing":   {change: change("network", "VpcId: {Value: !Ref Vpc}", "Vpc: {Value: !Ref Vpc}"), want: "dev/cluster lacks a value for its parameter VpcId (String): no stack that it may take it from has such an output"},
		"cycle":     {change: change("network", "  VpcCidr: {Type: String}", "  VpcCidr: {Type: String}\n  ClusterName: {Type: String}"), want: "stacks wait for each other: dev/cluster takes VpcId of dev/network, dev/network takes ClusterName of dev/cluster"},
		"ambiguous": {change: change("cluster", "ClusterName: {Value", "DataKeyArn: {Value: x}\n  ClusterName: {Value"), want: "dev/postgresql could take its parameter DataKeyArn from any of dev/cluster, dev/keys"},
		"scope":     {change: change("keys", "Scope: environment", "Scope: everywhere"), want: `the template keys has the scope "everywhere", which is none`},
	} {
		t.Run(name, func(t *testing.T) {
			l := small(t)
			if c.change != nil {
				c.change(l)
			}
			_, err := New(Options{Estate: estateOf(t, c.estate...), Library: l, Regions: catalog(t)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestLanding: an estate without a landing zone says so.
func TestLanding(t *testing.T) {
	_, err := New(Options{Estate: &estate.Estate{File: "dhow.yaml"}})
	var invalid *estate.Invalid
	if !errors.As(err, &invalid) {
		t.Errorf("it ends with %v", err)
	}
}

// TestSandbox: accounts that are one get one stack of what each account gets.
func TestSandbox(t *testing.T) {
	l := small(t)
	each, err := Parse("each", []byte("Metadata: {Dhow: {Scope: region}}\nResources: {A: {Type: AWS::SSM::Parameter}}"))
	if err != nil {
		t.Fatal(err)
	}
	l["each"] = each
	for _, c := range []struct {
		replace []string
		want    int
	}{{nil, 6}, {[]string{"222222222222", "111111111111", "333333333333", "111111111111", "444444444444", "111111111111"}, 2}} {
		g, err := New(Options{Estate: estateOf(t, c.replace...), Library: l, Regions: catalog(t)})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range g.Stacks {
			if s.Template == "each" {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%d stacks of a template of each account and region, want %d", n, c.want)
		}
	}
}

// TestMadeAccounts: where an account is still to be made, its stacks wait for it.
func TestMadeAccounts(t *testing.T) {
	g := graphOf(t, `, production: "444444444444"`, "")
	if s := g.Stack("main/keys"); !slices.Contains(s.After, organizationID) || s.Number != "" {
		t.Errorf("main/keys is after %v", s.After)
	}
	if s := g.Stack("dev/keys"); slices.Contains(s.After, organizationID) {
		t.Errorf("dev/keys is after %v", s.After)
	}
}

func TestSelect(t *testing.T) {
	g := graphOf(t)
	for _, c := range []struct {
		sel  Selection
		want string
	}{
		{Selection{}, fmt.Sprint(g.ids())},
		{Selection{Only: []string{"dev/keys", "postgresql"}}, "[dev/keys dev/postgresql main/postgresql sit/postgresql]"},
		{Selection{Only: []string{"keys"}, Environments: []string{"dr"}}, "[dr/keys]"},
		{Selection{Environments: []string{Shared}}, "[management/organization]"},
		{Selection{Only: []string{"prod/keys"}}, `there is no stack and no template "prod/keys" here`},
		{Selection{Environments: []string{"prod"}}, `there is no environment "prod" in the estate: want dev, sit, main, dr or shared`},
		{Selection{Only: []string{"dev/keys"}, Environments: []string{"dr"}}, "no stack is of dev/keys and of dr at once"},
		{Selection{Only: []string{"keys"}, Regions: []string{"eu-west-1"}}, "[dr/keys]"},
		{Selection{Regions: []string{"eu-west-2"}}, `there is no region "eu-west-2" in the estate: want me-central-1, eu-west-1`},
	} {
		stacks, err := g.Select(c.sel)
		var ids []string
		for _, s := range stacks {
			ids = append(ids, s.ID)
		}
		got := fmt.Sprint(ids)
		if err != nil {
			got = err.Error()
		}
		slices.Sort(ids)
		if err == nil && len(c.sel.Only) > 0 {
			got = fmt.Sprint(ids)
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v gives %s, want %s", c.sel, got, c.want)
		}
	}
}

// TestConditions counts resources by what their conditions say.
func TestConditions(t *testing.T) {
	for condition, want := range map[string]truth{
		"!Equals [!Ref Here, a]": yes, "!Equals [!Ref Here, b]": no, "!Equals [!Ref There, a]": unknown, "!Equals [!Ref There, '']": no, "!Equals ['', !Ref There]": no,
		"!Not [!Equals [!Ref Here, a]]": no, "!And [!Equals [!Ref Here, a], !Equals [!Ref There, a]]": unknown, "!And [!Equals [!Ref Here, b], !Equals [!Ref There, a]]": no,
		"!Or [!Equals [!Ref Here, a], !Equals [!Ref There, a]]": yes, "!Or [!Equals [!Ref Here, b], !Equals [!Ref There, a]]": unknown,
		"{'Fn::Equals': [{Ref: Here}, a]}": yes, "!Equals [!FindInMap [Map, !Ref Here, k], v]": yes, "!Equals [!FindInMap [Map, !Ref There, k], v]": unknown, "!Equals [!Join ['', [!Ref Here, b]], ab]": yes,
		"!Equals [!Join ['', !Ref Here], a]": yes, "!Equals [!Ref 'AWS::Region', eu-west-1]": yes, "!Condition Itself": unknown, "!Equals [a]": unknown, "!Equals": unknown, "!Sub a": unknown, "text": unknown, "{Condition: Other}": yes,
	} {
		template, err := Parse("t", []byte("Parameters: {Here: {Type: String}, There: {Type: String}}\nMappings: {Map: {a: {k: v}}}\nConditions:\n  Other: !Equals [a, a]\n  Itself: "+condition+"\nResources: {A: {Type: AWS::S3::Bucket, Condition: Itself}}"))
		if err != nil {
			t.Fatal(err)
		}
		e := &evaluation{template: template, values: map[string]string{"Here": "a", "AWS::Region": "eu-west-1"}}
		if got := e.has(template.Resources[0]); got != want {
			t.Errorf("%s is %d, want %d", condition, got, want)
		}
	}
}

// TestRefers: what stands in a branch that is not taken needs no value.
func TestRefers(t *testing.T) {
	for value, want := range map[string]bool{
		"!Ref Given": true, "!Ref Other": false, "!Sub 'a-${Given}'": true, "!Sub ['${x}', {x: !Ref Given}]": true, "!Sub 'a-${Other}'": false, "text": false,
		"!If [Yes, !Ref Given, a]": true, "!If [Yes, a, !Ref Given]": false, "!If [No, !Ref Given, a]": false, "!If [No, a, [{b: !Ref Given}]]": true, "!If [Open, !Ref Given, a]": true, "!If [Open, a, !Ref Given]": true,
		"{'Fn::If': [No, {Ref: Given}, a]}": false, "{'Fn::Join': ['', [a, {Ref: Given}]]}": true, "[{a: {b: !Ref Given}}]": true, "{Given: a}": false, "{Ref: Given}": true,
	} {
		template, err := Parse("t", []byte("Parameters: {Given: {Type: String}, Other: {Type: String}}\nConditions:\n  Yes: !Equals [a, a]\n  No: !Equals [a, b]\n  Open: !Equals [!Ref Other, a]\nResources:\n  A:\n    Type: AWS::S3::Bucket\n    Properties:\n      BucketName: "+value+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		e := &evaluation{template: template, values: map[string]string{}}
		if got := e.refers(template.Resources[0].body, "Given"); got != want {
			t.Errorf("%s refers: %t, want %t", value, got, want)
		}
	}
}

// TestRules: what a region lacks is left out of it, and what holds everywhere is lacking
// nowhere.
func TestRules(t *testing.T) {
	library, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	g := wholeGraph(t, superapp(t), library)
	for id, want := range map[string]string{"production/baseline@me-central-1": "true false", "production/baseline@me-south-1": "true true"} {
		values := g.Stack(id).values()
		if got := values["MoreRules"] + " " + values["RareRules"]; got != want {
			t.Errorf("%s has %s, want %s", id, got, want)
		}
	}
	for _, r := range catalog(t).Regions() {
		s := &Stack{Region: r.Name, template: library["baseline"]}
		if lacking := g.lacksRules(s, "Pack"); len(lacking) > 0 {
			t.Errorf("%s lacks %v", r.Name, lacking)
		}
	}
	if rules := g.lacksRules(&Stack{Region: "me-central-1", template: library["baseline"]}, "IdentityPack"); len(rules) == 0 {
		t.Error("no rule is lacking anywhere")
	}
	e := superapp(t)
	e.Landing.Regions.Home = e.Landing.Regions.Main
	if g, err = New(Options{Estate: e, Library: library, Regions: catalog(t)}); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(g.Findings, func(f Finding) bool {
		return f.Rule == "rule-in-region" && f.Severity == SeverityError && strings.Contains(f.Text, "me-central-1 does not have the managed rules ACCESS_KEYS_ROTATED, ")
	}) {
		t.Errorf("a home without the rules is taken: %+v", g.Findings)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "t.yaml:1: is no template", "a: [": "t.yaml: is not valid YAML", "- a": "t.yaml:1: is no template", "Resources: {}": "it has no Resources", "Resources: [a]": "t.yaml:1: Resources is no mapping",
		"Resources:\n  A: {Type: Bucket}": "t.yaml:2: the resource A has no type", "Resources:\n  A: {Type: AWS::S3::Bucket, Condition: C}": `t.yaml:2: the resource A has the condition "C"`,
		"Resources: {A: {Type: AWS::S3::Bucket}}\n#" + strings.Repeat("x", maxBody): "is larger than 51200 bytes",
	} {
		if _, err := Parse("t", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q gives %v, want %s", text, err, want)
		}
	}
}

// TestMarker: a template that was edited behind its own hash is known.
func TestMarker(t *testing.T) {
	for _, l := range small(t) {
		body := l.deployed()
		if !untouched(body) {
			t.Errorf("%s counts as edited", l.Name)
		}
		if untouched(strings.Replace(body, "Type", "Tpye", 1)) || untouched(string(l.Body)) || untouched(body+"x") {
			t.Errorf("an edit of %s goes unseen", l.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, l := range small(f) {
		f.Add(l.Body)
	}
	f.Add([]byte("Conditions: {A: {Condition: A}}\nResources: {A: {Type: a::b, Condition: A}}"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		template, err := Parse("t", text)
		if err != nil {
			return
		}
		e := &evaluation{template: template, values: map[string]string{}}
		for _, r := range template.Resources {
			e.has(r)
		}
	})
}
