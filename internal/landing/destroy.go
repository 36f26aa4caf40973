package landing

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Doomed is what Destroy would do to a stack.
type Doomed struct {
	Stack string `json:"stack"`
	// Kept says why it stays; empty for one that is destroyed.
	Kept string `json:"kept,omitempty"`
}

// Doom says which of the stacks that are meant are destroyed, those first that nothing
// needs: one with data stays unless it is forced by its id, and so do those that it
// needs. A forced id that is none of them is an error, and so is a stack that another
// one needs which is not meant.
func (d *Deployer) Doom(ctx context.Context, meant []*Stack, force []string) ([]Doomed, error) {
	standing, err := d.survey(ctx, d.graph.Stacks)
	if err != nil {
		return nil, err
	}
	for _, id := range force {
		if !slices.ContainsFunc(meant, func(s *Stack) bool { return s.ID == id }) {
			return nil, fmt.Errorf("there is no stack %q among those that are meant: name it by its id, as `dhow deploy --dry-run` lists it", id)
		}
	}
	isMeant := map[string]bool{}
	for _, s := range meant {
		isMeant[s.ID] = true
	}
	kept := map[string]string{}
	for _, s := range slices.Backward(d.graph.Stacks) {
		if standing[s.ID] == nil {
			continue
		}
		switch {
		case kept[s.ID] != "":
		case !isMeant[s.ID]:
			kept[s.ID] = "it is not meant"
		case s.Data && !slices.Contains(force, s.ID):
			kept[s.ID] = "it holds data: name it with --force to destroy it too"
		default:
			continue
		}
		for _, id := range s.After {
			if kept[id] != "" || !isMeant[s.ID] && isMeant[id] && !uses(s, standing[s.ID], id, standing[id]) {
				continue
			}
			if isMeant[s.ID] || !isMeant[id] {
				kept[id] = "it is needed by " + s.ID + ", which stays"
				continue
			}
			return nil, fmt.Errorf("%s is needed by %s, which is not among those that are to be destroyed: destroy that too, or leave %[1]s", id, s.ID)
		}
	}
	var doomed []Doomed
	for _, s := range slices.Backward(d.graph.Stacks) {
		if isMeant[s.ID] && standing[s.ID] != nil {
			doomed = append(doomed, Doomed{Stack: s.ID, Kept: kept[s.ID]})
		}
	}
	return doomed, nil
}

// uses says whether a stack, as it stands, has what another one gives. It may not, though
// the graph says that it does: after another region was chosen for disaster recovery, the
// stacks of main have what the new one gives, and the old graph is of the old one.
func uses(s *Stack, st *types.Stack, id string, giver *types.Stack) bool {
	if giver == nil {
		return false
	}
	e := &evaluation{template: s.template, values: s.values()}
	for _, p := range st.Parameters {
		e.values[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	given := false
	for _, in := range s.Inputs {
		if in.Stack != id {
			continue
		}
		given = true
		gives := slices.IndexFunc(giver.Outputs, func(o types.Output) bool { return aws.ToString(o.OutputKey) == in.Output })
		if has, ok := e.values[in.Parameter]; ok && gives >= 0 && has != aws.ToString(giver.Outputs[gives].OutputValue) {
			continue
		}
		// CloudFormation leaves the old value to a parameter of which nothing is made.
		if slices.ContainsFunc(s.template.Resources, func(r Resource) bool { return e.has(r) != no && e.refers(r.body, in.Parameter) }) {
			return true
		}
	}
	return !given // one that only comes after it was made so for a reason
}

// Destroy deletes stacks that Doom has named and not kept, in parallel against the
// graph. What is deleted already is not missed.
func (d *Deployer) Destroy(ctx context.Context, doomed []Doomed) ([]Result, error) {
	var stacks []*Stack
	kept := map[string]string{}
	for _, one := range doomed {
		stacks = append(stacks, d.graph.Stack(one.Stack))
		kept[one.Stack] = one.Kept
	}
	needing := map[string][]string{}
	for _, s := range d.graph.Stacks {
		for _, id := range s.After {
			needing[id] = append(needing[id], s.ID)
		}
	}
	results := d.walk(ctx, stacks, func(s *Stack) []string { return needing[s.ID] }, func(ctx context.Context, s *Stack) Result {
		if kept[s.ID] != "" {
			return Result{Stack: s.ID, Outcome: OutcomeKept, Reason: kept[s.ID]}
		}
		return d.destroy(ctx, s)
	})
	return results, Err(results)
}

func (d *Deployer) destroy(ctx context.Context, s *Stack) Result {
	r := Result{Stack: s.ID, Outcome: OutcomeAbsent}
	p, err := d.place(ctx, s)
	if err != nil {
		return failed(s, err)
	}
	for range mostTurns {
		st, err := describe(ctx, p, s.Name)
		if err != nil {
			return failed(s, err)
		}
		if st == nil {
			return r
		}
		r.Outcome = OutcomeDeleted
		if inProgress(st.StackStatus) && st.StackStatus != types.StackStatusDeleteInProgress {
			if err := d.await(ctx, p, s, st, &Result{}); err != nil {
				return failed(s, err)
			}
			continue
		}
		if st.StackStatus == types.StackStatusDeleteInProgress {
			err = d.follow(ctx, p, s, *st.StackId, "", &r)
		} else if err = d.unprotect(ctx, p, s, st); err == nil {
			err = d.delete(ctx, p, s, st, &r)
		}
		if err != nil {
			return failed(s, fmt.Errorf("%w%s", err, protectedHint(s, err)))
		}
	}
	return failed(s, fmt.Errorf("somebody else works on the stack %s too: run it again when they are done", s.Name))
}

// protection is the parameter by which a template lets its stores protect themselves.
const protection = "DeletionProtection"

// unprotect turns the protection off that a stack's own stores have, for it would stop
// the deletion half way.
func (d *Deployer) unprotect(ctx context.Context, p *place, s *Stack, st *types.Stack) error {
	in := &cloudformation.UpdateStackInput{StackName: st.StackId, UsePreviousTemplate: aws.Bool(true), Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}
	protects := false
	for _, own := range st.Parameters {
		one := types.Parameter{ParameterKey: own.ParameterKey, UsePreviousValue: aws.Bool(true)}
		if aws.ToString(own.ParameterKey) == protection && aws.ToString(own.ParameterValue) != "false" {
			one = types.Parameter{ParameterKey: own.ParameterKey, ParameterValue: aws.String("false")}
			protects = true
		}
		in.Parameters = append(in.Parameters, one)
	}
	if !protects || !settled(st.StackStatus) {
		return nil
	}
	mark, err := newestEvent(ctx, p, aws.ToString(st.StackId))
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	_, err = p.cfn.UpdateStack(call, in)
	cancel()
	if err != nil {
		return fmt.Errorf("turn the protection of its stores off: %w", err)
	}
	return d.follow(ctx, p, s, aws.ToString(st.StackId), mark, &Result{})
}

// protectedHint says what to do where a data store protects itself.
func protectedHint(s *Stack, err error) string {
	if s.Data && strings.Contains(strings.ToLower(err.Error()), "protection") {
		return ": turn the store's own protection off first, by the template's parameter for it in the estate and a deployment"
	}
	return ""
}
