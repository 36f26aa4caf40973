package stacks

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go/middleware"

	"dhow/internal/operator/install"
	"dhow/internal/operator/orphan"
)

// recorder answers for AWS, and notes the actions that it is asked for.
type recorder struct{ actions []string }

func (r *recorder) cloud() *orphan.Cloud {
	answer := middleware.InitializeMiddlewareFunc("answer", func(ctx context.Context, in middleware.InitializeInput, _ middleware.InitializeHandler) (out middleware.InitializeOutput, meta middleware.Metadata, err error) {
		r.actions = append(r.actions, "elasticloadbalancing:"+middleware.GetOperationName(ctx))
		switch in.Parameters.(type) {
		case *elbv2.DescribeLoadBalancersInput:
			out.Result = &elbv2.DescribeLoadBalancersOutput{LoadBalancers: []types.LoadBalancer{{LoadBalancerArn: aws.String("balancer")}}}
		case *elbv2.DescribeTargetGroupsInput:
			out.Result = &elbv2.DescribeTargetGroupsOutput{TargetGroups: []types.TargetGroup{{TargetGroupArn: aws.String("group")}}}
		case *elbv2.DescribeTagsInput:
			out.Result = &elbv2.DescribeTagsOutput{}
		case *elbv2.DescribeLoadBalancerAttributesInput:
			out.Result = &elbv2.DescribeLoadBalancerAttributesOutput{}
		case *elbv2.DescribeTargetHealthInput:
			out.Result = &elbv2.DescribeTargetHealthOutput{}
		case *elbv2.DeleteLoadBalancerInput:
			out.Result = &elbv2.DeleteLoadBalancerOutput{}
		case *elbv2.DeleteTargetGroupInput:
			out.Result = &elbv2.DeleteTargetGroupOutput{}
		default:
			err = fmt.Errorf("nobody has said what AWS answers to %T", in.Parameters)
		}
		return out, meta, err
	})
	return orphan.NewCloud(aws.Config{APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error { return s.Initialize.Add(answer, middleware.After) }}})
}

// called are the actions noted since the last time, sorted.
func (r *recorder) called() []string {
	all := r.actions
	r.actions = nil
	slices.Sort(all)
	return slices.Compact(all)
}

// TestOperator: the role is for the account that the operator is installed with, and lets it
// do what it calls and nothing besides: look always, and delete where somebody wants it what
// has the cluster's tag.
func TestOperator(t *testing.T) {
	r := &recorder{}
	cloud := r.cloud()
	kinds := []orphan.Resource{{Kind: orphan.LoadBalancer, ARN: "balancer"}, {Kind: orphan.TargetGroup, ARN: "group"}}
	if _, err := cloud.Look(t.Context(), "bank"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if _, err := cloud.Facts(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
	look := r.called()
	for _, kind := range kinds {
		if err := cloud.Delete(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
	remove := r.called()

	of := parsed(t, "operator")
	if d := asMap(of.section("Parameters")["DeleteOrphans"])["Default"]; d != "false" {
		t.Errorf("where nothing is said DeleteOrphans is %v", d)
	}
	role := asMap(of.resources()["Role"]["Properties"])
	trust := asMap(asList(asMap(role["AssumeRolePolicyDocument"])["Statement"])[0])
	who := asMap(asMap(trust["Condition"])["StringEquals"])
	identity := asMap(of.resources()["Identity"]["Properties"])
	for _, named := range [][2]any{
		{who["aws:RequestTag/kubernetes-namespace"], install.Namespace}, {identity["Namespace"], install.Namespace},
		{who["aws:RequestTag/kubernetes-service-account"], install.Name}, {identity["ServiceAccount"], install.Name},
	} {
		if named[0] != named[1] {
			t.Errorf("the role is for %v, and installed is %v", named[0], named[1])
		}
	}
	var always, wanted []map[string]any
	for _, policy := range asList(role["Policies"]) {
		for _, s := range asList(asMap(asMap(policy)["PolicyDocument"])["Statement"]) {
			choice := asList(asMap(s)["Fn::If"])
			if choice == nil {
				always = append(always, asMap(s))
			} else if wanted = append(wanted, asMap(choice[1])); choice[0] != "Deletes" {
				t.Errorf("a statement depends on %v", choice[0])
			}
		}
	}
	if len(always) != 1 || len(wanted) != 1 {
		t.Fatalf("it has always\n%v\nand where it is wanted\n%v", always, wanted)
	}
	if got := texts(always[0]["Action"]); !slices.Equal(got, look) {
		t.Errorf("always it may\n%v\nand calls\n%v", got, look)
	}
	if got := texts(wanted[0]["Action"]); !slices.Equal(got, remove) {
		t.Errorf("where it is wanted it may\n%v\nand calls\n%v", got, remove)
	}
	if got, want := fmt.Sprint(wanted[0]["Condition"]), fmt.Sprintf("map[StringEquals:map[aws:ResourceTag/%s:map[Ref:ClusterName]]]", orphan.ClusterTag); got != want {
		t.Errorf("it may delete under %s, want %s", got, want)
	}
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`elasticloadbalancing:[A-Z][a-z][A-Za-z]+`).FindAllString(string(manual), -1)
	if want := slices.Concat(look, remove); !slices.Equal(told, want) {
		t.Errorf("docs/operations.md tells of\n%v\nand it calls\n%v", told, want)
	}
}
