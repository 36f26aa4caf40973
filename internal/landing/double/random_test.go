package double

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"pgregory.net/rapid"
)

// randomTemplate is a template of some resources, each of which refers to some before it.
func randomTemplate(t *rapid.T) (body string, names []string) {
	kinds := []string{"AWS::SNS::Topic", "AWS::EC2::InternetGateway", "AWS::RDS::DBSubnetGroup", "AWS::SQS::Queue"}
	var b strings.Builder
	b.WriteString("Resources:\n")
	n := rapid.IntRange(1, 9).Draw(t, "resources")
	for i := range n {
		name := fmt.Sprintf("R%d", i)
		kind := kinds[i%len(kinds)]
		var tags, waits []string
		for j := range i {
			switch rapid.IntRange(0, 3).Draw(t, "edge") {
			case 0:
				tags = append(tags, fmt.Sprintf("{Key: k%d, Value: !Ref R%d}", j, j))
			case 1:
				waits = append(waits, fmt.Sprintf("R%d", j))
			}
		}
		fmt.Fprintf(&b, "  %s:\n    Type: %s\n", name, kind)
		if len(waits) > 0 {
			fmt.Fprintf(&b, "    DependsOn: [%s]\n", strings.Join(waits, ", "))
		}
		b.WriteString("    Properties:\n")
		if kind == "AWS::RDS::DBSubnetGroup" {
			fmt.Fprintf(&b, "      DBSubnetGroupDescription: %s\n      SubnetIds: [a, b]\n", rapid.SampledFrom([]string{"x", "y"}).Draw(t, "description"))
		}
		fmt.Fprintf(&b, "      Tags: [{Key: name, Value: %s}%s]\n", rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "tag"), strings.Join(append([]string{""}, tags...), ", "))
		names = append(names, name)
	}
	return b.String(), names
}

// TestRandom: whatever a graph looks like and whatever fails in it, a stack ends complete
// or as it was before, and waits are kept.
func TestRandom(t *testing.T) {
	s := newStand(t)
	stack := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		defer s.Heal()
		stack++
		name := fmt.Sprintf("random%d", stack)
		body, names := randomTemplate(rt)
		if rapid.Bool().Draw(rt, "fails") {
			s.Fail(Fault{Stack: name, Logical: rapid.SampledFrom(names).Draw(rt, "which"), On: "create"})
		}
		if _, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &body}); err != nil {
			rt.Fatalf("%v\n%s", err, body)
		}
		s.settle()
		st := s.stack(name)
		mine := func() (out []Resource) {
			for _, r := range s.Resources() {
				if r.Stack == name {
					out = append(out, r)
				}
			}
			return out
		}
		switch st.StackStatus {
		case types.StackStatusCreateComplete:
			if len(mine()) != len(names) {
				rt.Fatalf("of %d resources there are %v", len(names), mine())
			}
			checkWaits(rt, s, name, body)
		case types.StackStatusRollbackComplete:
			if left := mine(); len(left) > 0 {
				rt.Fatalf("after a rollback there are %v", left)
			}
			return
		default:
			rt.Fatalf("it ends %s", st.StackStatus)
		}
		before := mine()
		next, names := randomTemplate(rt)
		if rapid.Bool().Draw(rt, "fails again") {
			s.Fail(Fault{Stack: name, Logical: rapid.SampledFrom(names).Draw(rt, "which"), On: rapid.SampledFrom([]string{"create", "update"}).Draw(rt, "on")})
		}
		_, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: &name, TemplateBody: &next})
		if err != nil {
			if strings.Contains(err.Error(), "No updates are to be performed.") {
				return
			}
			rt.Fatal(err)
		}
		if cancelled := rapid.Bool().Draw(rt, "cancelled"); cancelled {
			s.Advance(time.Duration(rapid.IntRange(0, 30).Draw(rt, "after")) * time.Second)
			_, _ = s.cfn.CancelUpdateStack(ctx, &cloudformation.CancelUpdateStackInput{StackName: &name}) // it may be too late
		}
		s.settle()
		switch st := s.stack(name); st.StackStatus {
		case types.StackStatusUpdateComplete:
			if len(mine()) != len(names) {
				rt.Fatalf("of %d resources there are %v", len(names), mine())
			}
		case types.StackStatusUpdateRollbackComplete:
			after := mine()
			if len(after) != len(before) {
				rt.Fatalf("was %v, is %v", before, after)
			}
			for i := range before {
				if before[i].Physical != after[i].Physical || !same(before[i].Properties, after[i].Properties) {
					rt.Fatalf("was %v, is %v", before[i], after[i])
				}
			}
		default:
			rt.Fatalf("it ends %s:\n%s", st.StackStatus, s.story(name))
		}
		if st := s.find(place{testAccount, testRegion}, name); len(st.leftover) > 0 {
			rt.Fatalf("%d resources are left over", len(st.leftover))
		}
		if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &name}); err != nil {
			rt.Fatal(err)
		}
		s.settle()
		if left := mine(); len(left) > 0 {
			rt.Fatalf("after its deletion there are %v", left)
		}
	})
}

// checkWaits: no resource is begun before those that it waits for are complete.
func checkWaits(t *rapid.T, s *stand, name, body string) {
	tpl, err := parseTemplate(body)
	if err != nil {
		t.Fatal(err)
	}
	sc := &scope{t: tpl}
	deps := sc.dependencies()
	done := map[string]bool{}
	for _, e := range s.find(place{testAccount, testRegion}, name).events {
		switch e.ResourceStatus {
		case types.ResourceStatusCreateInProgress:
			for _, on := range deps[*e.LogicalResourceId] {
				if !done[on] {
					t.Fatalf("%s was begun before %s was complete", *e.LogicalResourceId, on)
				}
			}
		case types.ResourceStatusCreateComplete:
			done[*e.LogicalResourceId] = true
		}
	}
}

// FuzzTemplate: no text of a template breaks the reader.
func FuzzTemplate(f *testing.F) {
	f.Add(network)
	f.Add(stores)
	f.Add(`{"Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::Sub": ["${A}", {"A": "b"}]}}}}}`)
	f.Add("Resources: {A: {Type: AWS::SNS::Topic, Properties: {TopicName: !Select [0, !Split [',', !Join [',', [a, b]]]]}}}")
	f.Add("Resources:\n  A: {Type: a::b::c, DependsOn: [A], Properties: {a: !If [b, c, d], 'Fn::GetAtt': A.b}}\nConditions: {b: !Not [!Equals [!Ref AWS::Region, !Ref P]]}\nParameters: {P: {Type: Number, Default: 1}}\n")
	f.Add("Resources:\n  A: {Type: a::b::c, Properties: {a: !Cidr ['10.0.0.0/8', 256, 4], b: !FindInMap [a, b, c], c: !GetAZs '', d: !Base64 x, e: !Ref AWS::NoValue}}\nMappings: {a: {b: {c: [1]}}}\n")
	f.Fuzz(func(t *testing.T, body string) {
		tpl, err := parseTemplate(body)
		if err != nil {
			if f := new(fault); !errors.As(err, &f) || f.message == "" {
				t.Errorf("%v is no error of AWS's", err)
			}
			return
		}
		Locate(body, "/Resources/A/Properties")
		sc := &scope{t: tpl, at: place{testAccount, testRegion}, zones: []string{"a", "b"}, params: map[string]any{},
			resource: func(string) (any, error) { return unknown{}, nil }, attribute: func(string, string) (any, error) { return "value", nil },
			imported: func(string) (any, error) { return "value", nil }}
		for name := range tpl.parameters {
			sc.params[name] = "1"
		}
		if sc.settle() != nil {
			return
		}
		deps := sc.dependencies()
		if len(circle(deps)) == 0 {
			ordered(deps)
		}
		for _, r := range tpl.resources {
			if v, err := sc.eval(r.properties); err == nil {
				differences(v, map[string]any{"a": "b"}, nil)
				compact(hide(v, []string{"x"}))
			}
		}
	})
}

// FuzzQuery: no form breaks the reader of requests.
func FuzzQuery(f *testing.F) {
	f.Add("Parameters.member.1.ParameterKey", "A", "Tags.member.1.Key", "b")
	f.Add("Parameters.member.1", "A", "Parameters", "b")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		in := new(cloudformation.CreateStackInput)
		if err := decodeQuery(map[string][]string{a: {b}, c: {d}}, in); err != nil {
			return
		}
		if len(in.Parameters) > 0 {
			_ = encodeQuery(cloudformationNamespace, "CreateStack", "1", in)
		}
		if aws.ToString(in.StackName) != "" && a != "StackName" && c != "StackName" {
			t.Errorf("%q %q gives a name", a, c)
		}
	})
}
