package double

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// detection is one look for drift.
type detection struct {
	at      place
	id      string
	stackID string
	status  types.StackDriftDetectionStatus
	drift   types.StackDriftStatus
	count   int32
	time    time.Time
}

func (d *Double) detectStackDrift(c *call, in *cloudformation.DetectStackDriftInput) (*cloudformation.DetectStackDriftOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	if s.operation != nil || !slices.Contains([]types.StackStatus{types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete, types.StackStatusUpdateRollbackFailed}, s.status) {
		return nil, invalid("Drift detection cannot be performed on stack in %s state", s.status)
	}
	for _, other := range d.drifts {
		if other.stackID == s.id && other.status == types.StackDriftDetectionStatusDetectionInProgress {
			return nil, invalid("Drift detection is already in progress for stack [%s]", s.id)
		}
	}
	d.serial++
	now := d.clock.tell()
	one := &detection{at: c.at, id: uuidOf(s.id, "drift", strconv.Itoa(d.serial)), stackID: s.id, status: types.StackDriftDetectionStatusDetectionInProgress, drift: types.StackDriftStatusNotChecked, time: now}
	d.drifts[one.id] = one
	look := s.sorted()
	if len(in.LogicalResourceIds) > 0 {
		look = slices.DeleteFunc(look, func(r *resource) bool { return !slices.Contains(in.LogicalResourceIds, r.logical) })
	}
	d.clock.after(now, detectTime, func() {
		at := now.Add(detectTime)
		one.status, one.drift = types.StackDriftDetectionStatusDetectionComplete, types.StackDriftStatusInSync
		for _, r := range look {
			r.drift, r.driftChecked = types.StackResourceDriftStatusInSync, at
			switch {
			case r.gone:
				r.drift = types.StackResourceDriftStatusDeleted
			case len(r.drifted()) > 0:
				r.drift = types.StackResourceDriftStatusModified
			}
			if r.drift != types.StackResourceDriftStatusInSync {
				one.drift = types.StackDriftStatusDrifted
				one.count++
			}
		}
		s.drift, s.driftChecked = one.drift, at
	})
	return &cloudformation.DetectStackDriftOutput{StackDriftDetectionId: &one.id}, nil
}

// drifted is what differs from what the template says. What it does not say may be
// anything.
func (r *resource) drifted() []difference {
	if r.actual == nil {
		return nil
	}
	return slices.DeleteFunc(differences(r.properties, r.actual, nil), func(d difference) bool { return d.before == nil && len(d.path) == 1 })
}

func (d *Double) describeStackDriftDetectionStatus(c *call, in *cloudformation.DescribeStackDriftDetectionStatusInput) (*cloudformation.DescribeStackDriftDetectionStatusOutput, error) {
	one := d.drifts[aws.ToString(in.StackDriftDetectionId)]
	if one == nil || one.at != c.at {
		return nil, invalid("Drift detection [%s] does not exist", aws.ToString(in.StackDriftDetectionId))
	}
	out := &cloudformation.DescribeStackDriftDetectionStatusOutput{StackDriftDetectionId: &one.id, StackId: &one.stackID, DetectionStatus: one.status, Timestamp: &one.time}
	if one.status == types.StackDriftDetectionStatusDetectionComplete {
		out.StackDriftStatus, out.DriftedStackResourceCount = one.drift, &one.count
	}
	return out, nil
}

func (d *Double) describeStackResourceDrifts(c *call, in *cloudformation.DescribeStackResourceDriftsInput) (*cloudformation.DescribeStackResourceDriftsOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil {
		return nil, invalid("Stack with id %s does not exist", aws.ToString(in.StackName))
	}
	var all []types.StackResourceDrift
	for _, r := range s.sorted() {
		if r.driftChecked.IsZero() || len(in.StackResourceDriftStatusFilters) > 0 && !slices.Contains(in.StackResourceDriftStatusFilters, r.drift) {
			continue
		}
		secrets := s.secrets()
		one := types.StackResourceDrift{LogicalResourceId: &r.logical, PhysicalResourceId: &r.physical, ResourceType: &r.kind, StackId: &s.id, StackResourceDriftStatus: r.drift, Timestamp: &r.driftChecked,
			ExpectedProperties: aws.String(compact(hide(r.properties, secrets)))}
		if !r.gone {
			actual := r.properties
			if r.actual != nil {
				actual = r.actual
			}
			one.ActualProperties = aws.String(compact(hide(actual, secrets)))
			for _, diff := range r.drifted() {
				p := types.PropertyDifference{PropertyPath: aws.String("/" + strings.Join(diff.path, "/")), ExpectedValue: aws.String(s.shown(&s.shape, diff.before)), ActualValue: aws.String(s.shown(&s.shape, diff.after)),
					DifferenceType: types.DifferenceTypeNotEqual}
				switch {
				case diff.before == nil:
					p.DifferenceType, p.ExpectedValue = types.DifferenceTypeAdd, aws.String("null")
				case diff.after == nil:
					p.DifferenceType, p.ActualValue = types.DifferenceTypeRemove, aws.String("null")
				}
				one.PropertyDifferences = append(one.PropertyDifferences, p)
			}
		}
		all = append(all, one)
	}
	page, next, err := paged(all, in.NextToken, pageSize)
	return &cloudformation.DescribeStackResourceDriftsOutput{StackResourceDrifts: page, NextToken: next}, err
}
