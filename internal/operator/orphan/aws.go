package orphan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

const (
	// attempts is how often a call is made before a look is given up, and longestPause bounds
	// the pauses between, which grow and have jitter: another look follows anyway.
	attempts, longestPause = 5, 20 * time.Second
	// pageSize is the most that AWS lists at once, tagPage of how many it tells the tags at once.
	pageSize, tagPage = 400, 20
	// mostResources of a region are looked at: AWS's own quotas are far below.
	mostResources = 20_000
	// protection is the attribute of a load balancer that protects it from deletion.
	protection = "deletion_protection.enabled"
)

// Cloud are the load balancers of an account in a region.
type Cloud struct{ client *elbv2.Client }

// NewCloud reaches them.
func NewCloud(config aws.Config) *Cloud {
	return &Cloud{elbv2.NewFromConfig(config, func(o *elbv2.Options) {
		o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) { s.MaxAttempts, s.MaxBackoff = attempts, longestPause })
	})}
}

// Look are the load balancers and target groups with the tag of a cluster, and the target
// groups that those load balancers lead to, without Facts.
func (c *Cloud) Look(ctx context.Context, cluster string) ([]Resource, error) {
	var all []Resource
	balancers := elbv2.NewDescribeLoadBalancersPaginator(c.client, &elbv2.DescribeLoadBalancersInput{PageSize: aws.Int32(pageSize)})
	for balancers.HasMorePages() {
		page, err := balancers.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the load balancers: %w", err)
		}
		for _, x := range page.LoadBalancers {
			all = append(all, Resource{Kind: LoadBalancer, Name: aws.ToString(x.LoadBalancerName), ARN: aws.ToString(x.LoadBalancerArn)})
		}
		if len(all) > mostResources {
			break
		}
	}
	groups := elbv2.NewDescribeTargetGroupsPaginator(c.client, &elbv2.DescribeTargetGroupsInput{PageSize: aws.Int32(pageSize)})
	for groups.HasMorePages() && len(all) <= mostResources {
		page, err := groups.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the target groups: %w", err)
		}
		for _, x := range page.TargetGroups {
			all = append(all, Resource{Kind: TargetGroup, Name: aws.ToString(x.TargetGroupName), ARN: aws.ToString(x.TargetGroupArn), LoadBalancers: x.LoadBalancerArns})
		}
	}
	if len(all) > mostResources {
		return nil, fmt.Errorf("look for orphans: the region has more than %d load balancers and target groups", mostResources)
	}
	at := map[string]*Resource{}
	var names []string
	for i := range all {
		at[all[i].ARN] = &all[i]
		names = append(names, all[i].ARN)
	}
	for some := range slices.Chunk(names, tagPage) {
		out, err := c.client.DescribeTags(ctx, &elbv2.DescribeTagsInput{ResourceArns: some})
		if err != nil {
			return nil, fmt.Errorf("read the tags of load balancers and target groups: %w", err)
		}
		for _, x := range out.TagDescriptions {
			r := at[aws.ToString(x.ResourceArn)]
			if r == nil {
				continue
			}
			r.Tags = map[string]string{}
			for _, t := range x.Tags {
				r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
		}
	}
	ours := func(r *Resource) bool { return r != nil && r.Tags[ClusterTag] == cluster }
	return slices.DeleteFunc(all, func(r Resource) bool {
		return !ours(&r) && !slices.ContainsFunc(r.LoadBalancers, func(lb string) bool { return ours(at[lb]) })
	}), nil
}

// Facts are a resource's.
func (c *Cloud) Facts(ctx context.Context, r Resource) (Facts, error) {
	var f Facts
	if r.Kind == LoadBalancer {
		out, err := c.client.DescribeLoadBalancerAttributes(ctx, &elbv2.DescribeLoadBalancerAttributesInput{LoadBalancerArn: &r.ARN})
		if err != nil {
			return f, fmt.Errorf("read the attributes of load balancer %s: %w", r.Name, err)
		}
		// What AWS does not say is taken to be protected.
		f.Protected = !slices.ContainsFunc(out.Attributes, func(a types.LoadBalancerAttribute) bool {
			return aws.ToString(a.Key) == protection && aws.ToString(a.Value) == "false"
		})
		return f, nil
	}
	out, err := c.client.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &r.ARN})
	if err != nil {
		return f, fmt.Errorf("read the targets of target group %s: %w", r.Name, err)
	}
	for _, t := range out.TargetHealthDescriptions {
		f.Targets++
		if t.TargetHealth == nil || t.TargetHealth.State == types.TargetHealthStateEnumHealthy {
			f.Healthy++
		}
	}
	return f, nil
}

// Delete deletes a resource, a load balancer with its listeners. One that is gone already is
// deleted.
func (c *Cloud) Delete(ctx context.Context, r Resource) error {
	var err error
	if r.Kind == LoadBalancer {
		_, err = c.client.DeleteLoadBalancer(ctx, &elbv2.DeleteLoadBalancerInput{LoadBalancerArn: &r.ARN})
	} else {
		_, err = c.client.DeleteTargetGroup(ctx, &elbv2.DeleteTargetGroupInput{TargetGroupArn: &r.ARN})
	}
	var noBalancer *types.LoadBalancerNotFoundException
	var noGroup *types.TargetGroupNotFoundException
	if err == nil || errors.As(err, &noBalancer) || errors.As(err, &noGroup) {
		return nil
	}
	return fmt.Errorf("delete the %s %s: %w", r.Kind, r.Name, err)
}
