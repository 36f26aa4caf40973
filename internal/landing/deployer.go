package landing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"dhow/internal/estate"
)

const (
	// DefaultParallel is how many stacks are worked on at once: as many as a landing zone
	// has side by side, and few enough that an account's rate of calls is not the limit.
	DefaultParallel = 24
	// DefaultPoll is the pause between two looks at a stack that is being changed.
	DefaultPoll = 2 * time.Second
	// pollsOfChangeSet is how many looks at a change set fall on one at a stack: it is made in seconds.
	pollsOfChangeSet = 5
	// eventBacklog bounds how far back a stack's events are read, in pages of AWS's.
	eventBacklog = 50
)

// DeployerOptions are what a Deployer works with.
type DeployerOptions struct {
	Graph *Graph
	// AWS has the caller's credentials and, where they are others than AWS's own, the endpoints.
	AWS aws.Config
	// ExternalID is sent when a role is assumed; empty sends none.
	ExternalID string
	// From is the region whose STS is asked who we are and lends the roles; empty is the
	// landing zone's home.
	From string
	// Parallel is how many stacks are worked on at once; 0 is DefaultParallel.
	Parallel int
	// Poll is the pause between two looks at a stack; 0 is DefaultPoll.
	Poll time.Duration
	// AllowReplacement lets changes be made that replace resources or lose data.
	AllowReplacement bool
	// Overwrite are ids of stacks whose template was edited by others and shall be replaced.
	Overwrite []string
	// Report is told what happens, one call at a time; nil tells nobody.
	Report func(Event)
}

// Deployer brings a graph's stacks to AWS. Its methods may be called again, also after
// a process was killed in the middle of one: what CloudFormation is at is waited for,
// and what is done already is not done again.
type Deployer struct {
	graph *Graph
	cloud *cloud
	o     DeployerOptions

	mu sync.Mutex
	// outputs are those of the stacks that stand, by id.
	outputs map[string]map[string]string
	report  sync.Mutex
}

// Event is something that happened to a stack or to a resource of it.
type Event struct {
	At    time.Time `json:"at"`
	Stack string    `json:"stack"`
	// Resource and Type are empty for the stack itself.
	Resource string `json:"resource,omitempty"`
	Type     string `json:"type,omitempty"`
	// Status is CloudFormation's, or one of those below.
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// What becomes of a stack in a run.
const (
	OutcomeCreated   = "created"
	OutcomeUpdated   = "updated"
	OutcomeUnchanged = "unchanged"
	OutcomeDeleted   = "deleted"
	OutcomeKept      = "kept" // not destroyed, for its data's sake
	OutcomeAbsent    = "absent"
	OutcomeFailed    = "failed"
	OutcomeSkipped   = "skipped" // not begun, for one that it needs failed
)

// Result is what became of a stack.
type Result struct {
	Stack   string `json:"stack"`
	Outcome string `json:"outcome"`
	// Reason is why it failed, was kept or not begun.
	Reason string `json:"reason,omitempty"`
	// Began and Ended are CloudFormation's own times of its work; zero where it had none.
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Executed says that a change set was executed.
	Executed bool `json:"executed"`
	// Outputs are what the stack gives; absent where it does not stand.
	Outputs map[string]string `json:"outputs,omitempty"`
}

// Took is how long CloudFormation worked on it.
func (r Result) Took() time.Duration { return r.Ended.Sub(r.Began) }

// NewDeployer makes a Deployer; it calls nothing.
func NewDeployer(o DeployerOptions) *Deployer {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	l := o.Graph.landing
	return &Deployer{graph: o.Graph, o: o, cloud: newCloud(o.AWS, cmp.Or(o.From, l.Regions.Home), l.Role.Name, o.ExternalID), outputs: map[string]map[string]string{}}
}

func (d *Deployer) tell(e Event) {
	if d.o.Report == nil {
		return
	}
	d.report.Lock()
	defer d.report.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	d.o.Report(e)
}

// place are the clients of a stack's account and region.
func (d *Deployer) place(ctx context.Context, s *Stack) (*place, error) {
	number := d.number(s.Account)
	if number == "" {
		return nil, fmt.Errorf("%s: the number of the account %s is not known: deploy %s first, or name it under landing.accounts", s.ID, s.Account, organizationID)
	}
	return d.cloud.at(ctx, number, s.Region)
}

// accountOutputs are the outputs of the template organization that tell an account's number.
var accountOutputs = map[estate.Account]string{estate.Security: "SecurityAccountId", estate.NonProduction: "NonProductionAccountId", estate.Production: "ProductionAccountId"}

// number is an account's, as the estate or the organization's stack tells it.
func (d *Deployer) number(a estate.Account) string {
	if n := d.graph.landing.Accounts.Number(a); n != "" {
		return n
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outputs[organizationID][accountOutputs[a]]
}

// describe asks for a stack by its name or its id; nil where there is none.
func describe(ctx context.Context, p *place, name string) (*types.Stack, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := p.cfn.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the stack %s in %s: %w", name, p.region, err)
	}
	if len(out.Stacks) == 0 || out.Stacks[0].StackStatus == types.StackStatusDeleteComplete {
		return nil, nil
	}
	return &out.Stacks[0], nil
}

// remember keeps a stack's outputs for those that need them.
func (d *Deployer) remember(s *Stack, st *types.Stack) map[string]string {
	outputs := make(map[string]string, len(st.Outputs))
	for _, o := range st.Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outputs[s.ID] = outputs
	return outputs
}

// parameters are a stack's, with what is known of outputs; lacking are those of which
// the stack that gives them does not stand, or gives nothing.
func (d *Deployer) parameters(s *Stack) (given []types.Parameter, lacking []Input) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, in := range s.Inputs {
		value := in.Value
		if in.Kind == FromOutput {
			v, ok := d.outputs[in.Stack][in.Output]
			if !ok { // an output may have a condition; the template's default holds then
				p := s.template.parameter(in.Parameter)
				if d.outputs[in.Stack] == nil || p.Default == nil {
					lacking = append(lacking, in)
					continue
				}
				v = *p.Default
			}
			value = v
		}
		given = append(given, types.Parameter{ParameterKey: aws.String(in.Parameter), ParameterValue: aws.String(value)})
	}
	return given, lacking
}

func (s *Stack) cfnTags() []types.Tag {
	var tags []types.Tag
	for _, k := range slices.Sorted(maps.Keys(s.tags)) {
		tags = append(tags, types.Tag{Key: aws.String(k), Value: aws.String(s.tags[k])})
	}
	return tags
}

// owned says whether a stack is this one, and not somebody else's of its name.
func (s *Stack) owned(st *types.Stack) bool {
	return slices.ContainsFunc(st.Tags, func(t types.Tag) bool {
		return aws.ToString(t.Key) == tagStack && aws.ToString(t.Value) == s.Template
	}) || st.StackStatus == types.StackStatusReviewInProgress // it has no tags yet
}

// sleep waits for about a time, or until ctx ends. Stacks that were begun together are
// not asked for together for ever.
func sleep(ctx context.Context, about time.Duration) error {
	const jitter = 0.2
	t := time.NewTimer(time.Duration(float64(about) * (1 - jitter + 2*jitter*rand.Float64())))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// walk works on stacks, each when those of before are done, as many at once as is
// allowed. One that fails ends those that need it, and no others. The results are in
// the stacks' order.
func (d *Deployer) walk(ctx context.Context, stacks []*Stack, before func(*Stack) []string, do func(context.Context, *Stack) Result) []Result {
	room := make(chan struct{}, d.o.Parallel)
	done := make(map[string]chan struct{}, len(stacks))
	results := make([]Result, len(stacks))
	at := make(map[string]int, len(stacks))
	for i, s := range stacks {
		done[s.ID], at[s.ID] = make(chan struct{}), i
	}
	work := func(s *Stack) Result {
		for _, id := range before(s) {
			if done[id] == nil {
				continue
			}
			<-done[id] // it ends when ctx does
			if o := results[at[id]].Outcome; o == OutcomeFailed || o == OutcomeSkipped {
				return Result{Stack: s.ID, Outcome: OutcomeSkipped, Reason: "it waits for " + id + ", which " + map[string]string{OutcomeFailed: "failed", OutcomeSkipped: "was not begun"}[o]}
			}
		}
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return Result{Stack: s.ID, Outcome: OutcomeSkipped, Reason: "interrupted before it was begun"}
		}
		return do(ctx, s)
	}
	var all sync.WaitGroup
	for i, s := range stacks {
		all.Go(func() {
			defer close(done[s.ID])
			r := work(s)
			results[i] = r
			d.tell(Event{Stack: s.ID, Status: r.Outcome, Reason: r.Reason})
		})
	}
	all.Wait()
	return results
}

// failed is the result of a stack that could not be brought to where it should be.
func failed(s *Stack, err error) Result {
	return Result{Stack: s.ID, Outcome: OutcomeFailed, Reason: err.Error()}
}

// Err is the error of results: one of each stack that failed, nil where none did.
func Err(results []Result) error {
	var all []error
	skipped := 0
	for _, r := range results {
		switch r.Outcome {
		case OutcomeFailed:
			all = append(all, fmt.Errorf("%s: %s", r.Stack, r.Reason))
		case OutcomeSkipped:
			skipped++
		}
	}
	if skipped > 0 {
		all = append(all, fmt.Errorf("%d of %d stacks were not begun; run it again when what failed is mended: what is done is not done again", skipped, len(results)))
	}
	return errors.Join(all...)
}

// survey learns of all stacks of the graph that stand, and their outputs, those that
// are not meant too: others take from them.
func (d *Deployer) survey(ctx context.Context, meant []*Stack) (map[string]*types.Stack, error) {
	needed := map[string]bool{}
	for _, s := range meant {
		needed[s.ID] = true
		for _, id := range s.After {
			needed[id] = true
		}
	}
	var mu sync.Mutex
	found := map[string]*types.Stack{}
	look := func(stacks []*Stack) error {
		results := d.walkQuietly(ctx, stacks, func(ctx context.Context, s *Stack) error {
			if d.number(s.Account) == "" {
				return nil // its account is still to be made
			}
			p, err := d.place(ctx, s)
			if err != nil {
				return err
			}
			st, err := describe(ctx, p, s.Name)
			if err != nil || st == nil {
				return err
			}
			if !s.owned(st) {
				return fmt.Errorf("%s: there is a stack %s in %s already, and it is none of this landing zone: delete or rename it, or choose another landing.application", s.ID, s.Name, s.Region)
			}
			d.remember(s, st)
			mu.Lock()
			defer mu.Unlock()
			found[s.ID] = st
			return nil
		})
		return results
	}
	var first, rest []*Stack
	for _, s := range d.graph.Stacks {
		switch {
		case !needed[s.ID]:
		case s.ID == organizationID: // it tells the others' accounts
			first = append(first, s)
		default:
			rest = append(rest, s)
		}
	}
	if err := look(first); err != nil {
		return nil, err
	}
	if err := look(rest); err != nil {
		return nil, err
	}
	for _, s := range meant {
		for _, in := range s.Inputs {
			if in.Stack != "" && found[in.Stack] == nil && !slices.ContainsFunc(meant, func(m *Stack) bool { return m.ID == in.Stack }) {
				return nil, fmt.Errorf("%s takes its %s of %s, which is not deployed and not among those that are meant: deploy it first, or add it", s.ID, in.Parameter, in.Stack)
			}
		}
	}
	return found, nil
}

// walkQuietly does something for each of some stacks, as many at once as is allowed,
// and returns all errors, in the stacks' order.
func (d *Deployer) walkQuietly(ctx context.Context, stacks []*Stack, do func(context.Context, *Stack) error) error {
	room := make(chan struct{}, d.o.Parallel)
	wrong := make([]error, len(stacks))
	var all sync.WaitGroup
	for i, s := range stacks {
		all.Go(func() {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				wrong[i] = do(ctx, s)
			case <-ctx.Done():
				wrong[i] = ctx.Err()
			}
		})
	}
	all.Wait()
	return errors.Join(distinct(slices.DeleteFunc(wrong, func(err error) bool { return err == nil }))...)
}
