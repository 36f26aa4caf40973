package stacks

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// reasons are why a statement may reach further than the checks of TestPolicies let
// it: by template, resource and statement. AWS must allow no other.
var reasons = map[string]string{
	"identity/Boundary/WhatWorkloadsUse": "a boundary grants nothing: it is the most that the policies of a role can grant, and each of those is held to its own resources",
}

// statement is one of a policy document's, with where it stands.
type statement struct {
	where string // template/resource/Sid, or the property and a number where there is no Sid
	in    string // the property that holds the document, as KeyPolicy
	typ   string // the resource's type
	of    map[string]any
}

// statements are those of every policy document in a template, of whatever kind.
func statements(t *testing.T, of *template) []statement {
	t.Helper()
	var found []statement
	all := of.resources()
	for _, id := range sortedKeys(all) {
		typ := asString(all[id]["Type"])
		if strings.HasPrefix(typ, "AWS::WAFv2::") {
			continue // its statements are a firewall's
		}
		unnamed := map[string]int{}
		var in func(key string, v any)
		in = func(key string, v any) {
			switch v := v.(type) {
			case string:
				// A document may be written as JSON.
				if !strings.Contains(v, `"Statement"`) {
					return
				}
				var doc any
				if err := json.Unmarshal([]byte(v), &doc); err != nil {
					t.Errorf("%s: %s is a policy and no JSON: %v", id, key, err)
					return
				}
				in(key, doc)
			case []any:
				for _, e := range v {
					in(key, e)
				}
			case map[string]any:
				for i, s := range choices(v["Statement"]) {
					st := asMap(s)
					if st == nil || st["Effect"] == nil {
						t.Errorf("%s: statement %d of %s has no Effect", id, i, key)
						continue
					}
					sid := asString(st["Sid"])
					if sid == "" {
						unnamed[key]++
						sid = fmt.Sprintf("%s.%d", key, unnamed[key])
					}
					where := of.name + "/" + id + "/" + sid
					found = append(found, statement{where: where, in: key, typ: typ, of: st})
				}
				for _, k := range sortedKeys(v) {
					if k != "Statement" {
						in(k, v[k])
					}
				}
			}
		}
		in("Properties", all[id]["Properties"])
	}
	return found
}

// choices are a list's elements, with both sides of each Fn::If and without what
// stands for nothing.
func choices(v any) []any {
	var out []any
	for _, e := range asList(v) {
		m := asMap(e)
		switch {
		case m["Fn::If"] != nil:
			if list := asList(m["Fn::If"]); len(list) == 3 {
				out = append(out, choices(list[1])...)
				out = append(out, choices(list[2])...)
			}
		case m["Ref"] == "AWS::NoValue":
		default:
			out = append(out, e)
		}
	}
	return out
}

var (
	action = regexp.MustCompile(`^(\*|[a-z0-9-]+:[A-Za-z0-9*]+)$`)
	// looks are actions that change nothing; AWS knows no resource for many of them.
	looks = regexp.MustCompile(`^[a-z0-9-]+:(Describe|Get|List|Lookup|Search|View|BatchGet|BatchCheck|Simulate|Verify|Validate|Check)[A-Za-z0-9*]*$`)
)

// onBehalf are the services that act for whoever asks them and tell for whom: a
// statement that trusts one of them says whose resources it means, so that no other
// account's reach ours through it.
var onBehalf = []string{
	"access-analyzer", "backup", "budgets", "cloudtrail", "cloudwatch", "config", "costalerts", "delivery.logs", "ecs-tasks", "events",
	"logging.s3", "monitoring.rds", "s3", "scheduler", "sns", "ssm", "vpc-flow-logs",
}

// origins are the condition keys that say so.
var origins = []string{
	"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths", "kms:encryptioncontext", "kms:calleraccount", "kms:viaservice", "aws:principalorgid",
}

func TestPolicies(t *testing.T) {
	used := map[string]bool{}
	every(t, func(t *testing.T, of *template) {
		for _, s := range statements(t, of) {
			for _, found := range s.faults() {
				if found.reasonable && reasons[s.where] != "" {
					used[s.where] = true
					continue
				}
				t.Errorf("%s (%s): %s", s.where, s.in, found.what)
			}
		}
	})
	for _, where := range sortedKeys(reasons) {
		if !used[where] && !t.Failed() {
			t.Errorf("nothing needs the reason given for %s", where)
		}
	}
}

type fault struct {
	what string
	// reasonable: a reason may excuse it.
	reasonable bool
}

// faults are what is wrong with a statement. Denials may be as wide as they like.
func (s statement) faults() []fault {
	var out []fault
	wrong := func(format string, args ...any) { out = append(out, fault{what: fmt.Sprintf(format, args...)}) }
	wide := func(format string, args ...any) {
		out = append(out, fault{what: fmt.Sprintf(format, args...) + ": narrow it, or give the reason in the table of policy_test.go", reasonable: true})
	}
	effect := asString(s.of["Effect"])
	if effect != "Allow" && effect != "Deny" {
		wrong("its Effect is %v", s.of["Effect"])
	}
	actions, but := texts(s.of["Action"]), texts(s.of["NotAction"])
	if (len(actions) == 0) == (len(but) == 0) {
		wrong("it needs either Action or NotAction")
	}
	for _, a := range slices.Concat(actions, but) {
		if !action.MatchString(a) {
			wrong("%q is no action", a)
		}
	}
	trust := s.in == "AssumeRolePolicyDocument"
	// ECR's repositories know but themselves.
	itself := strings.HasPrefix(s.typ, "AWS::ECR::Repository")
	resources := choices(s.of["Resource"])
	switch {
	case trust && (len(resources) > 0 || s.of["NotResource"] != nil):
		wrong("a role's trust names no resource")
	case !trust && !itself && len(resources) == 0 && s.of["NotResource"] == nil:
		wrong("it names no resource")
	}
	if effect != "Allow" {
		return out
	}
	conditions := s.conditionKeys()
	if slices.Contains(resources, any("*")) || s.of["NotResource"] != nil {
		for _, a := range actions {
			if strings.HasSuffix(a, "*") && (a == "*" || strings.HasSuffix(a, ":*")) {
				wide("it allows %s on every resource", a)
			} else if !looks.MatchString(a) && len(conditions) == 0 && s.of["Principal"] == nil {
				wide("it allows %s, which changes something, on every resource without a condition", a)
			}
		}
	}
	if len(but) > 0 {
		wide("it allows all actions but some")
	}
	out = append(out, s.principalFaults(conditions)...)
	return out
}

func (s statement) principalFaults(conditions []string) []fault {
	var out []fault
	if s.of["NotPrincipal"] != nil {
		out = append(out, fault{what: "it allows all principals but some"})
	}
	principal := s.of["Principal"]
	if principal == "*" || slices.Contains(choices(asMap(principal)["AWS"]), any("*")) {
		if len(conditions) == 0 {
			out = append(out, fault{what: "it lets anybody in without a condition"})
		}
	}
	for _, p := range choices(asMap(principal)["Service"]) {
		name := strings.TrimSuffix(fmt.Sprint(p), ".amazonaws.com")
		if slices.Contains(onBehalf, name) && !slices.ContainsFunc(conditions, func(c string) bool {
			return slices.ContainsFunc(origins, func(o string) bool { return strings.HasPrefix(c, o) })
		}) {
			out = append(out, fault{reasonable: true, what: fmt.Sprintf("it trusts %v for whomever it acts: give aws:SourceAccount, aws:SourceArn or aws:SourceOrgID", p)})
		}
	}
	return out
}

// conditionKeys are those that a statement's conditions look at, in lower case.
func (s statement) conditionKeys() []string {
	var keys []string
	for _, c := range choices(s.of["Condition"]) {
		for _, operator := range asMap(c) {
			for key := range asMap(operator) {
				keys = append(keys, strings.ToLower(key))
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// texts are the strings of one or many; both sides of a choice.
func texts(v any) []string {
	var out []string
	for _, e := range choices(v) {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// TestFaults: the checks find what they are for.
func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, in, json, want string }{
		{"all on all", "PolicyDocument", `{"Effect": "Allow", "Action": "*", "Resource": "*"}`, "allows * on every resource"},
		{"a service on all", "PolicyDocument", `{"Effect": "Allow", "Action": ["s3:GetObject", "s3:*"], "Resource": ["*"]}`, "allows s3:* on every resource"},
		{"behind a choice", "PolicyDocument", `{"Effect": "Allow", "Action": {"Fn::If": ["A", "s3:*", "s3:GetObject"]}, "Resource": {"Fn::If": ["A", "*", "x"]}}`, "allows s3:* on every resource"},
		{"a change on all", "PolicyDocument", `{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"}`, "allows ec2:RunInstances, which changes"},
		{"a look at all", "PolicyDocument", `{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}`, ""},
		{"a change under a condition", "PolicyDocument", `{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": "x"}}}`, ""},
		{"all but some", "PolicyDocument", `{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}`, "all actions but some"},
		{"but some resources", "PolicyDocument", `{"Effect": "Allow", "Action": "*", "NotResource": "x"}`, "allows * on every resource"},
		{"denial of all", "PolicyDocument", `{"Effect": "Deny", "Action": "*", "Resource": "*"}`, ""},
		{"anybody", "PolicyDocument", `{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "x"}`, "lets anybody in"},
		{"anybody by account", "PolicyDocument", `{"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": "s3:GetObject", "Resource": "x"}`, "lets anybody in"},
		{"anybody of the organization", "PolicyDocument", `{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "x", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o"}}}`, ""},
		{"nobody but", "PolicyDocument", `{"Effect": "Allow", "NotPrincipal": {"AWS": "x"}, "Action": "s3:GetObject", "Resource": "x"}`, "all principals but some"},
		{"a deputy", "AssumeRolePolicyDocument", `{"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}`, "trusts scheduler.amazonaws.com for whomever"},
		{"a deputy of our own", "AssumeRolePolicyDocument", `{"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"aws:SourceAccount": "x"}}}`, ""},
		{"no deputy", "AssumeRolePolicyDocument", `{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}`, ""},
		{"trust of a resource", "AssumeRolePolicyDocument", `{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole", "Resource": "*"}`, "trust names no resource"},
		{"no resource", "PolicyDocument", `{"Effect": "Allow", "Action": "s3:GetObject"}`, "names no resource"},
		{"no action", "PolicyDocument", `{"Effect": "Allow", "Action": "GetObject", "Resource": "x"}`, `"GetObject" is no action`},
		{"both", "PolicyDocument", `{"Effect": "Deny", "Action": "s3:GetObject", "NotAction": "s3:PutObject", "Resource": "x"}`, "either Action or NotAction"},
		{"perhaps", "PolicyDocument", `{"Effect": "Perhaps", "Action": "s3:GetObject", "Resource": "x"}`, "Effect is Perhaps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := statement{in: tt.in}
			if err := json.Unmarshal([]byte(tt.json), &s.of); err != nil {
				t.Fatal(err)
			}
			found := s.faults()
			if tt.want == "" {
				if len(found) > 0 {
					t.Errorf("it finds %v", found)
				}
				return
			}
			if !slices.ContainsFunc(found, func(f fault) bool { return strings.Contains(f.what, tt.want) }) {
				t.Errorf("want %q, got %v", tt.want, found)
			}
		})
	}
}

// TestSizes: policies keep within the characters that AWS takes of each.
func TestSizes(t *testing.T) {
	for typ, of := range map[string]struct {
		property string
		most     int
	}{
		"AWS::Organizations::Policy": {"Content", 5120},
		"AWS::IAM::ManagedPolicy":    {"PolicyDocument", 6144},
		"AWS::S3::BucketPolicy":      {"PolicyDocument", 20 << 10},
		"AWS::KMS::Key":              {"KeyPolicy", 32 << 10},
	} {
		every(t, func(t *testing.T, tpl *template) {
			for _, id := range sortedKeys(tpl.resources()) {
				r := tpl.resources()[id]
				if asString(r["Type"]) != typ {
					continue
				}
				text, err := json.Marshal(asMap(r["Properties"])[of.property])
				if err != nil {
					t.Fatal(err)
				}
				// What stands for a list of accounts or regions may be longer once it is filled in.
				if n := len(text); n > of.most*9/10 {
					t.Errorf("%s has %d characters, and AWS takes %d with what its parameters add", id, n, of.most)
				}
			}
		})
	}
}

// TestBoundary: what a role that is bounded may do by its own policies, the boundary
// lets it do.
func TestBoundary(t *testing.T) {
	const boundary = "identity/Boundary/"
	var allowed, denied []string
	for _, s := range statements(t, parsed(t, "identity")) {
		switch {
		case !strings.HasPrefix(s.where, boundary):
		case s.of["Effect"] == "Allow":
			allowed = append(allowed, texts(s.of["Action"])...)
		default:
			denied = append(denied, texts(s.of["Action"])...)
		}
	}
	if len(allowed) == 0 || len(denied) == 0 {
		t.Fatalf("the boundary allows %v and denies %v", allowed, denied)
	}
	every(t, func(t *testing.T, of *template) {
		for _, s := range statements(t, of) {
			id := strings.Split(s.where, "/")[1]
			if s.typ != "AWS::IAM::Role" || s.in != "PolicyDocument" || s.of["Effect"] != "Allow" || asMap(of.resources()[id]["Properties"])["PermissionsBoundary"] == nil {
				continue
			}
			for _, a := range texts(s.of["Action"]) {
				if !slices.ContainsFunc(allowed, func(by string) bool { return covers(by, a) }) {
					t.Errorf("%s: %s is not within the boundary of the template identity", s.where, a)
				}
				if i := slices.IndexFunc(denied, func(by string) bool { return covers(by, a) || covers(a, by) }); i >= 0 {
					t.Errorf("%s: %s is denied by the boundary of the template identity (%s)", s.where, a, denied[i])
				}
			}
		}
	})
}

// covers says whether a pattern of actions, with stars, holds all that another does.
func covers(pattern, actions string) bool {
	re := "(?i)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$"
	return regexp.MustCompile(re).MatchString(actions)
}
