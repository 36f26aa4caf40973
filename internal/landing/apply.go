package landing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// mostTurns bounds how often a stack is looked at anew before it is given up: after
// what an earlier run had begun, after a deletion, and then for the change itself.
const mostTurns = 8

// Apply brings stacks to where the graph wants them, in parallel along it, and returns
// what became of each, in their order. Those that were there already and need no change
// are left as they are: no change set is executed.
func (d *Deployer) Apply(ctx context.Context, meant []*Stack) ([]Result, error) {
	if _, err := d.survey(ctx, meant); err != nil {
		return nil, err
	}
	results := d.walk(ctx, meant, func(s *Stack) []string { return s.After }, d.apply)
	return results, Err(results)
}

// apply brings one stack to where it should be.
func (d *Deployer) apply(ctx context.Context, s *Stack) Result {
	p, err := d.place(ctx, s)
	if err != nil {
		return failed(s, err)
	}
	r := Result{Stack: s.ID, Outcome: OutcomeUnchanged}
	for range mostTurns {
		done, err := d.turn(ctx, p, s, &r)
		if err != nil {
			r.Outcome, r.Reason = OutcomeFailed, err.Error()
			return r
		}
		if done {
			return r
		}
	}
	return failed(s, fmt.Errorf("somebody else works on the stack %s too: it changed its state %d times; run it again when they are done", s.Name, mostTurns))
}

// turn takes a stack one step on, by the state that it is in, and says whether it is done.
func (d *Deployer) turn(ctx context.Context, p *place, s *Stack, r *Result) (bool, error) {
	st, err := describe(ctx, p, s.Name)
	if err != nil {
		return false, err
	}
	kind := types.ChangeSetTypeCreate
	switch {
	case st == nil:
	case !s.owned(st):
		return false, fmt.Errorf("there is a stack %s already, and it is none of this landing zone: delete or rename it, or choose another landing.application", s.Name)
	case inProgress(st.StackStatus):
		d.tell(Event{Stack: s.ID, Status: string(st.StackStatus), Reason: "begun by an earlier run; it is waited for"})
		return false, d.await(ctx, p, s, st, r)
	case st.StackStatus == types.StackStatusReviewInProgress:
	case stillborn(st.StackStatus):
		d.tell(Event{Stack: s.ID, Status: string(st.StackStatus), Reason: "it was never whole; it is deleted and made anew"})
		if err := d.delete(ctx, p, s, st, &Result{}); err != nil {
			return false, err
		}
		return false, nil
	case settled(st.StackStatus):
		kind = types.ChangeSetTypeUpdate
	default:
		return false, stuck(s, st)
	}
	set, err := d.changeSet(ctx, p, s, st, kind)
	if errors.Is(err, errBegun) {
		return false, sleep(ctx, d.o.Poll)
	}
	if err != nil {
		return false, err
	}
	if set == nil { // nothing is to be changed
		r.Outputs = d.remember(s, st)
		return true, d.protect(ctx, p, s, st)
	}
	if err := d.execute(ctx, p, s, set, r); err != nil {
		return false, err
	}
	if st, err = describe(ctx, p, s.Name); err != nil {
		return false, err
	}
	if st == nil {
		return false, fmt.Errorf("the stack %s is gone: somebody deleted it", s.Name)
	}
	r.Outcome = OutcomeUpdated
	if kind == types.ChangeSetTypeCreate {
		r.Outcome = OutcomeCreated
	}
	r.Outputs = d.remember(s, st)
	return true, d.protect(ctx, p, s, st)
}

// stuck is the error of a stack in a state that only a person can lead out of.
func stuck(s *Stack, st *types.Stack) error {
	why := aws.ToString(st.StackStatusReason)
	switch st.StackStatus {
	case types.StackStatusUpdateRollbackFailed:
		return fmt.Errorf("the stack %s is in UPDATE_ROLLBACK_FAILED (%s): an update failed, and so did the way back: mend what the reason names, "+
			"then run `aws cloudformation continue-update-rollback --stack-name %[1]s --region %[3]s` and deploy again", s.Name, why, s.Region)
	case types.StackStatusDeleteFailed:
		return fmt.Errorf("the stack %s is in DELETE_FAILED (%s): mend what the reason names, and destroy it again with `dhow deploy --destroy --only %s`", s.Name, why, s.ID)
	}
	return fmt.Errorf("the stack %s is in %s (%s), from which it can not be updated", s.Name, st.StackStatus, why)
}

// changeSet makes the change set that brings a stack to where it should be, or finds
// the one that an earlier run has made; nil where nothing is to be changed. It is not
// executed.
func (d *Deployer) changeSet(ctx context.Context, p *place, s *Stack, st *types.Stack, kind types.ChangeSetType) (*cloudformation.DescribeChangeSetOutput, error) {
	parameters, lacking := d.parameters(s)
	if len(lacking) > 0 {
		return nil, fmt.Errorf("%s gives no %s, which the parameter %s needs", lacking[0].Stack, lacking[0].Output, lacking[0].Parameter)
	}
	in := &cloudformation.CreateChangeSetInput{
		StackName: aws.String(s.Name), ChangeSetName: aws.String(changeSetName(s, st, kind, parameters)), ChangeSetType: kind,
		Description: aws.String("dhow deploy"), TemplateBody: aws.String(s.template.deployed()), Parameters: parameters, Tags: s.cfnTags(),
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam},
	}
	return d.makeChangeSet(ctx, p, s, in)
}

// makeChangeSet makes a change set as it is asked for, or finds the one that an earlier
// run has made; nil where nothing is to be changed.
func (d *Deployer) makeChangeSet(ctx context.Context, p *place, s *Stack, in *cloudformation.CreateChangeSetInput) (*cloudformation.DescribeChangeSetOutput, error) {
	if s.template.Transform {
		in.Capabilities = append(in.Capabilities, types.CapabilityCapabilityAutoExpand)
	}
	for again := false; ; again = true {
		create, cancel := context.WithTimeout(ctx, callTime)
		_, err := p.cfn.CreateChangeSet(create, in)
		cancel()
		if err != nil && code(err) != "AlreadyExistsException" { // an earlier run made it
			return nil, fmt.Errorf("ask CloudFormation what would change: %w", err)
		}
		set, err := d.awaitChangeSet(ctx, p, s, *in.ChangeSetName)
		switch {
		case err != nil:
			return nil, err
		case empty(set):
			d.discard(ctx, p, s, *in.ChangeSetName)
			return nil, nil
		case set.Status == types.ChangeSetStatusCreateComplete && set.ExecutionStatus == types.ExecutionStatusAvailable:
			return set, nil
		case set.ExecutionStatus == types.ExecutionStatusExecuteInProgress:
			return nil, errBegun
		case again:
			why := reasonOf(ctx, p, set)
			d.discard(ctx, p, s, *in.ChangeSetName)
			return nil, fmt.Errorf("CloudFormation refuses the change: %s", why)
		}
		// One that an earlier run left may be of no use any more; a new one tells.
		d.discard(ctx, p, s, *in.ChangeSetName)
	}
}

// mostFailures bounds what is told of a change set that was refused.
const mostFailures = 10

// reasonOf is why a change set failed. Where properties were held against their types
// the reason only points to events, which tell it.
func reasonOf(ctx context.Context, p *place, set *cloudformation.DescribeChangeSetOutput) string {
	reason := aws.ToString(set.StatusReason)
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := p.cfn.DescribeEvents(ctx, &cloudformation.DescribeEventsInput{ChangeSetName: set.ChangeSetId, Filters: &types.EventFilter{FailedEvents: aws.Bool(true)}})
	if err != nil {
		return reason // it stands, and names the call
	}
	var told []string
	for _, e := range out.OperationEvents {
		if e.ValidationStatusReason == nil {
			continue
		}
		if len(told) == mostFailures {
			told = append(told, "and more")
			break
		}
		one := fmt.Sprintf("%s (%s): %s", aws.ToString(e.LogicalResourceId), aws.ToString(e.ResourceType), *e.ValidationStatusReason)
		if path := aws.ToString(e.ValidationPath); path != "" {
			one += " at " + path
		}
		told = append(told, one)
	}
	if len(told) == 0 {
		return reason
	}
	return strings.Join(told, "; ")
}

// errBegun says that an earlier run has executed the change set, though the stack does
// not show it yet.
var errBegun = errors.New("the change is begun already")

// changeSetName is the same for the same change to the same state of a stack, so that
// a run that was cut off finds its own again.
func changeSetName(s *Stack, st *types.Stack, kind types.ChangeSetType, parameters []types.Parameter) string {
	h := sha256.New()
	part := func(text string) { _, _ = fmt.Fprintf(h, "%d %s\n", len(text), text) } // a hash takes all
	// A stack that was made is changed the next time, by another set.
	part(string(kind))
	part(s.template.Hash)
	for _, p := range parameters {
		part(aws.ToString(p.ParameterKey))
		part(aws.ToString(p.ParameterValue))
	}
	for _, t := range s.cfnTags() {
		part(aws.ToString(t.Key))
		part(aws.ToString(t.Value))
	}
	if st != nil {
		part(aws.ToString(st.StackId))
		if st.LastUpdatedTime != nil {
			part(st.LastUpdatedTime.UTC().Format(time.RFC3339Nano))
		}
	}
	return "dhow-" + hex.EncodeToString(h.Sum(nil))[:20]
}

// empty says that a change set failed because there is nothing to change.
func empty(set *cloudformation.DescribeChangeSetOutput) bool {
	reason := aws.ToString(set.StatusReason)
	return set.Status == types.ChangeSetStatusFailed && (strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed"))
}

// awaitChangeSet waits until CloudFormation has worked out what would change, and
// reads all of it.
func (d *Deployer) awaitChangeSet(ctx context.Context, p *place, s *Stack, name string) (*cloudformation.DescribeChangeSetOutput, error) {
	for {
		set, err := readChangeSet(ctx, p, s, name)
		if err != nil {
			return nil, err
		}
		switch set.Status {
		case types.ChangeSetStatusCreatePending, types.ChangeSetStatusCreateInProgress, types.ChangeSetStatusDeletePending, types.ChangeSetStatusDeleteInProgress:
		default:
			return set, nil
		}
		if err := sleep(ctx, d.o.Poll/pollsOfChangeSet); err != nil {
			return nil, err
		}
	}
}

// readChangeSet reads a change set with all its pages.
func readChangeSet(ctx context.Context, p *place, s *Stack, name string) (*cloudformation.DescribeChangeSetOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	in := &cloudformation.DescribeChangeSetInput{StackName: aws.String(s.Name), ChangeSetName: aws.String(name), IncludePropertyValues: aws.Bool(true)}
	whole, err := p.cfn.DescribeChangeSet(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("read what would change: %w", err)
	}
	for next := whole.NextToken; next != nil; {
		in.NextToken = next
		page, err := p.cfn.DescribeChangeSet(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read what would change: %w", err)
		}
		whole.Changes = append(whole.Changes, page.Changes...)
		next = page.NextToken
	}
	return whole, nil
}

// discard removes a change set that is not to be executed. One that stays does no
// harm: the next run finds it.
func (d *Deployer) discard(ctx context.Context, p *place, s *Stack, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	_, _ = p.cfn.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: aws.String(s.Name), ChangeSetName: aws.String(name)})
}

// changesOf are the resources' changes of a change set.
func changesOf(set *cloudformation.DescribeChangeSetOutput) []Change {
	changes := []Change{}
	for _, c := range set.Changes {
		if change, ok := changeOf(c); ok {
			changes = append(changes, change)
		}
	}
	sortChanges(changes)
	return changes
}

// execute makes a change, and waits for its end.
func (d *Deployer) execute(ctx context.Context, p *place, s *Stack, set *cloudformation.DescribeChangeSetOutput, r *Result) error {
	refused := refusal(s.ID, changesOf(set))
	if refused != nil && !d.o.AllowReplacement {
		d.discard(ctx, p, s, aws.ToString(set.ChangeSetName))
		return refused
	}
	if refused != nil { // the policy that protects data would stop it
		if err := setPolicy(ctx, p, s, stackPolicy(s, true)); err != nil {
			return err
		}
	}
	mark, err := newestEvent(ctx, p, aws.ToString(set.StackId))
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	_, err = p.cfn.ExecuteChangeSet(call, &cloudformation.ExecuteChangeSetInput{StackName: set.StackId, ChangeSetName: set.ChangeSetId, ClientRequestToken: set.ChangeSetName})
	cancel()
	if err != nil {
		return fmt.Errorf("begin the change: %w", err)
	}
	r.Executed = true
	return d.follow(ctx, p, s, aws.ToString(set.StackId), mark, r)
}

// await waits for what an earlier run has begun. That it failed is no error: the next
// turn sees how it left the stack.
func (d *Deployer) await(ctx context.Context, p *place, s *Stack, st *types.Stack, r *Result) error {
	if r.Outcome == OutcomeUnchanged {
		r.Outcome = OutcomeUpdated
		if strings.HasPrefix(string(st.StackStatus), "CREATE") {
			r.Outcome = OutcomeCreated
		}
	}
	err := d.follow(ctx, p, s, aws.ToString(st.StackId), "", r)
	var ended *endedError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

// protect keeps a stack from being deleted, and its data from being replaced, where it
// is not so already.
func (d *Deployer) protect(ctx context.Context, p *place, s *Stack, st *types.Stack) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if !aws.ToBool(st.EnableTerminationProtection) {
		if _, err := p.cfn.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: aws.String(s.Name), EnableTerminationProtection: aws.Bool(true)}); err != nil {
			return fmt.Errorf("protect the stack from being deleted: %w", err)
		}
	}
	want := stackPolicy(s, false)
	if want == "" {
		return nil
	}
	have, err := p.cfn.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: aws.String(s.Name)})
	if err != nil {
		return fmt.Errorf("read the policy that protects its data: %w", err)
	}
	if aws.ToString(have.StackPolicyBody) == want {
		return nil
	}
	return setPolicy(ctx, p, s, want)
}

func setPolicy(ctx context.Context, p *place, s *Stack, policy string) error {
	if policy == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := p.cfn.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: aws.String(s.Name), StackPolicyBody: aws.String(policy)}); err != nil {
		return fmt.Errorf("set the policy that protects its data: %w", err)
	}
	return nil
}
