package landing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Standing is a stack as it stands in AWS.
type Standing struct {
	// Status is CloudFormation's; Settled says that it can be changed.
	Status  string
	Settled bool
	// Parameters are those that it was last given; one that is hidden is asterisks.
	Parameters map[string]string
	Outputs    map[string]string
	Resources  []StandingResource
}

// StandingResource is a resource of a stack that stands.
type StandingResource struct {
	ID, Type, Physical string
}

// Holding are the resources of a stack that hold data, in the template's order.
func (s *Stack) Holding() []Resource {
	return slices.DeleteFunc(slices.Clone(s.resources()), func(r Resource) bool { return !holdsData(r.Type) })
}

// Value is what the graph knows of a parameter's value; false where another stack tells
// it, or the template has no such parameter.
func (s *Stack) Value(parameter string) (string, bool) {
	for _, in := range s.Inputs {
		if in.Parameter == parameter && in.Kind != FromOutput {
			return in.Value, true
		}
	}
	return "", false
}

// Config is how the services of a stack's account and region are called, with the role
// that is assumed there.
func (d *Deployer) Config(ctx context.Context, s *Stack) (aws.Config, error) {
	p, err := d.place(ctx, s)
	if err != nil {
		return aws.Config{}, err
	}
	return p.config, nil
}

// Standing is a stack as it stands; nil where it does not. It asks nothing of any other
// stack.
func (d *Deployer) Standing(ctx context.Context, s *Stack) (*Standing, error) {
	p, st, err := d.find(ctx, s)
	if err != nil || st == nil {
		return nil, err
	}
	standing := &Standing{Status: string(st.StackStatus), Settled: settled(st.StackStatus), Parameters: map[string]string{}, Outputs: d.remember(s, st)}
	for _, one := range st.Parameters {
		standing.Parameters[aws.ToString(one.ParameterKey)] = aws.ToString(one.ParameterValue)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	in := &cloudformation.ListStackResourcesInput{StackName: aws.String(s.Name)}
	for range eventBacklog {
		page, err := p.cfn.ListStackResources(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("%s: list its resources: %w", s.ID, err)
		}
		for _, r := range page.StackResourceSummaries {
			standing.Resources = append(standing.Resources, StandingResource{ID: aws.ToString(r.LogicalResourceId), Type: aws.ToString(r.ResourceType), Physical: aws.ToString(r.PhysicalResourceId)})
		}
		if in.NextToken = page.NextToken; in.NextToken == nil {
			break
		}
	}
	return standing, nil
}

// find asks for a stack that is this one; nil where there is none.
func (d *Deployer) find(ctx context.Context, s *Stack) (*place, *types.Stack, error) {
	p, err := d.place(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	st, err := describe(ctx, p, s.Name)
	if err != nil || st == nil {
		return p, nil, err
	}
	if !s.owned(st) {
		return nil, nil, fmt.Errorf("%s: there is a stack %s in %s, and it is none of this landing zone", s.ID, s.Name, s.Region)
	}
	return p, st, nil
}

// Try says what Set would change, and changes nothing.
func (d *Deployer) Try(ctx context.Context, s *Stack, values map[string]string) ([]Change, error) {
	p, st, err := d.find(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case st == nil:
		return nil, notThere(s)
	case !settled(st.StackStatus):
		return nil, stuck(s, st)
	}
	set, err := d.setting(ctx, p, s, st, values)
	if err != nil || set == nil {
		return nil, err
	}
	d.discard(ctx, p, s, aws.ToString(set.ChangeSetName))
	return changesOf(set), nil
}

// Set gives some parameters of a stack that stands other values. Its template, its tags
// and its other parameters stay what they are in AWS, whatever the graph says of them:
// so it needs no other stack, and no region but the stack's own. It may be called again.
func (d *Deployer) Set(ctx context.Context, s *Stack, values map[string]string) (Result, error) {
	r := Result{Stack: s.ID, Outcome: OutcomeUnchanged}
	for range mostTurns {
		done, err := d.set(ctx, s, values, &r)
		if err != nil {
			return r, fmt.Errorf("%s: %w", s.ID, err)
		}
		if done {
			d.tell(Event{Stack: s.ID, Status: r.Outcome})
			return r, nil
		}
	}
	return r, fmt.Errorf("%s: somebody else works on the stack %s too: it changed its state %d times; run it again when they are done", s.ID, s.Name, mostTurns)
}

// set takes Set one step on, and says whether it is done.
func (d *Deployer) set(ctx context.Context, s *Stack, values map[string]string, r *Result) (bool, error) {
	p, st, err := d.find(ctx, s)
	switch {
	case err != nil:
		return false, err
	case st == nil:
		return false, notThere(s)
	case inProgress(st.StackStatus):
		return false, d.await(ctx, p, s, st, r)
	case !settled(st.StackStatus):
		return false, stuck(s, st)
	}
	set, err := d.setting(ctx, p, s, st, values)
	if errors.Is(err, errBegun) {
		return false, sleep(ctx, d.o.Poll)
	}
	if err != nil {
		return false, err
	}
	if set == nil {
		return true, nil
	}
	if err := d.execute(ctx, p, s, set, r); err != nil {
		return false, err
	}
	r.Outcome = OutcomeUpdated
	return true, nil
}

// setting makes the change set of Set.
func (d *Deployer) setting(ctx context.Context, p *place, s *Stack, st *types.Stack, values map[string]string) (*cloudformation.DescribeChangeSetOutput, error) {
	var parameters []types.Parameter
	known := map[string]bool{}
	for _, one := range st.Parameters {
		name := aws.ToString(one.ParameterKey)
		known[name] = true
		if v, ok := values[name]; ok {
			parameters = append(parameters, types.Parameter{ParameterKey: one.ParameterKey, ParameterValue: aws.String(v)})
		} else {
			parameters = append(parameters, types.Parameter{ParameterKey: one.ParameterKey, UsePreviousValue: aws.Bool(true)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			return nil, fmt.Errorf("the stack %s has no parameter %s: it was made of another template", s.Name, name)
		}
	}
	return d.makeChangeSet(ctx, p, s, &cloudformation.CreateChangeSetInput{
		StackName: aws.String(s.Name), ChangeSetName: aws.String(changeSetName(s, st, types.ChangeSetTypeUpdate, parameters)), ChangeSetType: types.ChangeSetTypeUpdate,
		Description: aws.String("dhow"), UsePreviousTemplate: aws.Bool(true), Parameters: parameters, Tags: st.Tags, Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam},
	})
}

func notThere(s *Stack) error {
	return fmt.Errorf("the stack %s is not deployed: run `dhow deploy --environment %s` first", s.Name, s.Environment)
}
