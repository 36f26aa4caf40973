package landing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Drift is a resource that is not as its stack made it.
type Drift struct {
	Stack    string `json:"stack"`
	Resource string `json:"resource"`
	Type     string `json:"type"`
	Physical string `json:"physical,omitempty"`
	// Status is modified or deleted.
	Status string `json:"status"`
	// Details are the properties that differ: before is the stack's word, after what is there.
	Details []Detail `json:"details,omitempty"`
}

// Drifted compares stacks that stand with what is there, and returns what differs, by
// stack and resource. Absent are the ids of those that do not stand.
func (d *Deployer) Drifted(ctx context.Context, meant []*Stack) (drifts []Drift, absent []string, err error) {
	standing, err := d.survey(ctx, meant)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	drifts = []Drift{}
	err = d.walkQuietly(ctx, meant, func(ctx context.Context, s *Stack) error {
		if standing[s.ID] == nil {
			mu.Lock()
			defer mu.Unlock()
			absent = append(absent, s.ID)
			return nil
		}
		found, err := d.drift(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.ID, err)
		}
		mu.Lock()
		defer mu.Unlock()
		drifts = append(drifts, found...)
		return nil
	})
	slices.SortFunc(drifts, func(a, b Drift) int {
		return cmp.Or(strings.Compare(a.Stack, b.Stack), strings.Compare(a.Resource, b.Resource))
	})
	slices.Sort(absent)
	return drifts, absent, err
}

func (d *Deployer) drift(ctx context.Context, s *Stack) ([]Drift, error) {
	p, err := d.place(ctx, s)
	if err != nil {
		return nil, err
	}
	begin, cancel := context.WithTimeout(ctx, callTime)
	detection, err := p.cfn.DetectStackDrift(begin, &cloudformation.DetectStackDriftInput{StackName: aws.String(s.Name)})
	cancel()
	if err != nil {
		return nil, fmt.Errorf("begin to look for drift: %w", err)
	}
	for {
		call, cancel := context.WithTimeout(ctx, callTime)
		now, err := p.cfn.DescribeStackDriftDetectionStatus(call, &cloudformation.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: detection.StackDriftDetectionId})
		cancel()
		if err != nil {
			return nil, fmt.Errorf("look for drift: %w", err)
		}
		if now.DetectionStatus == types.StackDriftDetectionStatusDetectionFailed {
			return nil, fmt.Errorf("look for drift: %s", aws.ToString(now.DetectionStatusReason))
		}
		if now.DetectionStatus == types.StackDriftDetectionStatusDetectionComplete {
			break
		}
		if err := sleep(ctx, d.o.Poll); err != nil {
			return nil, err
		}
	}
	var found []Drift
	in := &cloudformation.DescribeStackResourceDriftsInput{StackName: aws.String(s.Name), StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified, types.StackResourceDriftStatusDeleted}}
	for range eventBacklog {
		call, cancel := context.WithTimeout(ctx, callTime)
		out, err := p.cfn.DescribeStackResourceDrifts(call, in)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read what drifted: %w", err)
		}
		for _, r := range out.StackResourceDrifts {
			one := Drift{Stack: s.ID, Resource: aws.ToString(r.LogicalResourceId), Type: aws.ToString(r.ResourceType), Physical: aws.ToString(r.PhysicalResourceId), Status: strings.ToLower(string(r.StackResourceDriftStatus))}
			for _, p := range r.PropertyDifferences {
				one.Details = append(one.Details, Detail{Property: strings.ReplaceAll(strings.TrimPrefix(aws.ToString(p.PropertyPath), "/"), "/", "."), Before: aws.ToString(p.ExpectedValue), After: aws.ToString(p.ActualValue)})
			}
			found = append(found, one)
		}
		if out.NextToken == nil {
			break
		}
		in.NextToken = out.NextToken
	}
	return found, nil
}
