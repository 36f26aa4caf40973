package emulators

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"dhow/internal/operator/orphan"
)

// balancers makes load balancers and target groups, and knows their ARNs by their names, "group " before those of groups.
type balancers struct {
	*elbv2.Client
	network []string
	vpc     string
	arns    map[string]string
}

func tags(pairs []string) []types.Tag {
	var all []types.Tag
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return all
}

// ofStack are the tags of the AWS Load Balancer Controller.
func ofStack(cluster, stack string) []string {
	return []string{orphan.ClusterTag, cluster, "service.k8s.aws/stack", stack, "service.k8s.aws/resource", "LoadBalancer"}
}

func (b *balancers) balancer(t *testing.T, name string, pairs []string) {
	t.Helper()
	out, err := b.CreateLoadBalancer(t.Context(), &elbv2.CreateLoadBalancerInput{Name: &name, Subnets: b.network, Tags: tags(pairs)})
	if err != nil {
		t.Fatal(err)
	}
	b.arns[name] = aws.ToString(out.LoadBalancers[0].LoadBalancerArn)
}

// group makes a target group, to which a load balancer leads, "" for none.
func (b *balancers) group(t *testing.T, name, behind string, pairs []string) {
	t.Helper()
	out, err := b.CreateTargetGroup(t.Context(), &elbv2.CreateTargetGroupInput{Name: &name, VpcId: &b.vpc, Port: aws.Int32(80), Protocol: types.ProtocolEnumHttp, TargetType: types.TargetTypeEnumIp, Tags: tags(pairs)})
	if err != nil {
		t.Fatal(err)
	}
	b.arns["group "+name] = aws.ToString(out.TargetGroups[0].TargetGroupArn)
	if behind == "" {
		return
	}
	if _, err := b.CreateListener(t.Context(), &elbv2.CreateListenerInput{LoadBalancerArn: aws.String(b.arns[behind]), Port: aws.Int32(80), Protocol: types.ProtocolEnumHttp,
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: aws.String(b.arns["group "+name])}}}); err != nil {
		t.Fatal(err)
	}
}

// cleaned looks at load balancers as the operator does, and deletes the orphans.
func cleaned(t *testing.T, c aws.Config) {
	n := network{c}
	vpc := n.createVPC(t, "10.90.0.0/16")
	b := &balancers{Client: elbv2.NewFromConfig(c), vpc: vpc, arns: map[string]string{}, network: []string{n.createSubnet(t, vpc, home+"a", "10.90.1.0/24"), n.createSubnet(t, vpc, home+"b", "10.90.2.0/24")}}
	gone := ofStack("bank", "shop/gone")
	b.balancer(t, "old", gone)
	b.group(t, "old", "old", gone)
	b.balancer(t, "held", gone)
	b.group(t, "held", "held", gone)
	b.balancer(t, "used", gone)
	b.group(t, "foreign", "used", nil)
	b.group(t, "full", "", gone)
	b.balancer(t, "cart", ofStack("bank", "shop/cart"))
	b.group(t, "cart", "cart", ofStack("bank", "shop/cart"))
	b.balancer(t, "other", ofStack("bank-2", "shop/gone"))
	for i := range 25 { // tags are told of twenty at once
		b.group(t, fmt.Sprintf("cart-%02d", i), "", ofStack("bank", "shop/cart"))
	}
	if _, err := b.ModifyLoadBalancerAttributes(t.Context(), &elbv2.ModifyLoadBalancerAttributesInput{LoadBalancerArn: aws.String(b.arns["held"]),
		Attributes: []types.LoadBalancerAttribute{{Key: aws.String("deletion_protection.enabled"), Value: aws.String("true")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RegisterTargets(t.Context(), &elbv2.RegisterTargetsInput{TargetGroupArn: aws.String(b.arns["group full"]), Targets: []types.TargetDescription{{Id: aws.String("10.90.1.7"), Port: aws.Int32(80)}}}); err != nil {
		t.Fatal(err)
	}
	cloud := orphan.NewCloud(c)
	cluster := orphan.Cluster{Name: "bank", Services: map[string]bool{"shop/cart": true}, Bound: map[string]bool{b.arns["group cart"]: true}}
	look := func() map[string]orphan.Finding {
		t.Helper()
		all, err := cloud.Look(t.Context(), cluster.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range orphan.Suspects(all, cluster) {
			facts, err := cloud.Facts(t.Context(), all[i])
			if err != nil {
				t.Fatal(err)
			}
			all[i].Facts = &facts
		}
		j := orphan.Judge(all, cluster)
		if j.Refusal != "" {
			t.Fatal(j.Refusal)
		}
		found := map[string]orphan.Finding{}
		for _, f := range j.Findings {
			found[f.Kind+" "+f.Name] = f
		}
		return found
	}
	orphans := func(found map[string]orphan.Finding) []string {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(found)) {
			if found[name].State == orphan.Orphan {
				names = append(names, name)
			}
		}
		return names
	}
	found := look()
	if got := orphans(found); !slices.Equal(got, []string{"LoadBalancer old", "TargetGroup old"}) || len(found) != 33 {
		t.Errorf("of %d the orphans are %v", len(found), got)
	}
	for name, want := range map[string]string{
		"LoadBalancer held": "protected", "TargetGroup held": "that is no orphan", "LoadBalancer used": "foreign, which is not the cluster's", "TargetGroup full": "1 targets"} {
		if f := found[name]; f.State != orphan.Kept || !strings.Contains(f.Why, want) {
			t.Errorf("%s: got %d, %s: want %s", name, f.State, f.Why, want)
		}
	}
	// AWS itself keeps what is in use. What is protected it keeps too, which moto does not.
	if err := cloud.Delete(t.Context(), found["TargetGroup old"].Resource); err == nil {
		t.Error("a target group could be deleted to which a load balancer leads")
	}
	for _, name := range []string{"LoadBalancer old", "TargetGroup old"} {
		for range 2 { // again it is gone already
			if err := cloud.Delete(t.Context(), found[name].Resource); err != nil {
				t.Error(err)
			}
		}
	}
	if now := look(); len(orphans(now)) > 0 || len(now) != 31 {
		t.Errorf("of %d the orphans are %v", len(now), orphans(now))
	}
}
