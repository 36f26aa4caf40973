package landing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// What a preview says of a stack.
const (
	PreviewCreate    = "create"
	PreviewRecreate  = "recreate" // what is there was never whole
	PreviewUpdate    = "update"
	PreviewUnchanged = "unchanged"
	PreviewLater     = "later" // it is known when another stack is there
	PreviewWait      = "wait"  // CloudFormation is at work on it
	PreviewStuck     = "stuck" // only a person can lead it on
)

// Previewed is what would become of a stack.
type Previewed struct {
	Stack  string `json:"stack"`
	Action string `json:"action"`
	// Reason says why it is known later, or how it is stuck.
	Reason  string   `json:"reason,omitempty"`
	Changes []Change `json:"changes,omitempty"`

	set string // the name of the change set that tells
}

// Refused says whether it would be refused unless replacement is allowed.
func (p Previewed) Refused() bool { return slices.ContainsFunc(p.Changes, Change.Refused) }

// Preview says what Apply would do to stacks, in their order. For those that stand it
// makes change sets, which Apply executes if they still hold then; Discard removes them.
func (d *Deployer) Preview(ctx context.Context, meant []*Stack) ([]Previewed, error) {
	standing, err := d.survey(ctx, meant)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	found := map[string]Previewed{}
	err = d.walkQuietly(ctx, meant, func(ctx context.Context, s *Stack) error {
		one, err := d.preview(ctx, s, standing[s.ID])
		if err != nil {
			return fmt.Errorf("%s: %w", s.ID, err)
		}
		mu.Lock()
		defer mu.Unlock()
		found[s.ID] = one
		return nil
	})
	all := make([]Previewed, 0, len(meant))
	for _, s := range meant {
		if one, ok := found[s.ID]; ok {
			all = append(all, one)
		}
	}
	return all, err
}

func (d *Deployer) preview(ctx context.Context, s *Stack, st *types.Stack) (Previewed, error) {
	one := Previewed{Stack: s.ID, Action: PreviewCreate}
	switch {
	case st == nil || st.StackStatus == types.StackStatusReviewInProgress:
		one.Changes = s.additions()
		return one, nil
	case stillborn(st.StackStatus):
		one.Action, one.Changes = PreviewRecreate, s.additions()
		return one, nil
	case inProgress(st.StackStatus):
		one.Action, one.Reason = PreviewWait, "CloudFormation is at work on it: "+string(st.StackStatus)
		return one, nil
	case !settled(st.StackStatus):
		one.Action, one.Reason = PreviewStuck, stuck(s, st).Error()
		return one, nil
	}
	if _, lacking := d.parameters(s); len(lacking) > 0 {
		var from []string
		for _, in := range lacking {
			from = append(from, in.Parameter+" of "+in.Stack)
		}
		one.Action, one.Reason = PreviewLater, "it takes "+strings.Join(from, ", ")
		return one, nil
	}
	p, err := d.place(ctx, s)
	if err != nil {
		return one, err
	}
	set, err := d.changeSet(ctx, p, s, st, types.ChangeSetTypeUpdate)
	if err != nil {
		return one, err
	}
	if set == nil {
		one.Action = PreviewUnchanged
		return one, nil
	}
	one.Action, one.Changes, one.set = PreviewUpdate, changesOf(set), aws.ToString(set.ChangeSetName)
	return one, nil
}

// additions are the resources of a stack that does not stand yet.
func (s *Stack) additions() []Change {
	changes := []Change{}
	for _, r := range s.resources() {
		changes = append(changes, Change{Action: "add", Resource: r.ID, Type: r.Type})
	}
	sortChanges(changes)
	return changes
}

// Discard removes the change sets of a preview that nobody wants.
func (d *Deployer) Discard(ctx context.Context, previewed []Previewed) {
	for _, one := range previewed {
		s := d.graph.Stack(one.Stack)
		if one.set == "" || s == nil {
			continue
		}
		if p, err := d.place(ctx, s); err == nil {
			d.discard(ctx, p, s, one.set)
		}
	}
}
