package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"dhow/internal/estate"
)

// ErrNotMoved says that main lacks what was written in dr, as far as anybody has said.
var ErrNotMoved = errors.New("main has not what was written in dr since the failover")

// FailbackOptions are how the way back begins.
type FailbackOptions struct {
	// Moved is how main got what was written in dr; empty refuses where a database of dr
	// was raised.
	Moved string
	// Confirm is asked before anything is changed; nil is yes. Its error ends it.
	Confirm func(ctx context.Context, main string) error
}

// Failback turns the users back to main. It may be called again: a run that was cut off
// is gone on with, and a failover that was, undone as long as nothing was raised. The
// run is nil where none was begun.
func (d *DR) Failback(ctx context.Context, o FailbackOptions) (*Run, error) {
	s, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	j := &job{DR: d, run: d.state.unfinished(), side: s}
	if j.run != nil && j.run.Kind != KindFailback {
		return j.undo(ctx, o)
	}
	if j.run == nil && !s.turned {
		return nil, errors.New("users go to main already: there is no way back to take")
	}
	if j.main, err = d.lookAtMain(ctx, s); err != nil {
		return nil, err
	}
	if err := j.mainReady(); err != nil {
		if j.run != nil && !j.passed(failback) { // dr, which is locked, is all that there is
			return j.run, j.giveUp(ctx, err, j.unlock)
		}
		return nil, err
	}
	if j.run == nil && s.anyRaised() && !j.fenced() {
		return nil, errors.New("main is not locked, so it may take writes beside dr: lock it with `dhow dr failover` before what was written in dr is brought there")
	}
	if j.run == nil && o.Moved == "" && s.anyRaised() {
		return nil, fmt.Errorf("%w: bring it there, and say how", ErrNotMoved)
	}
	if o.Confirm != nil {
		if err := o.Confirm(ctx, j.main.text); err != nil {
			return nil, err
		}
	}
	if j.run == nil {
		if j.run, err = d.begin(Run{Kind: KindFailback, Reason: o.Moved}); err != nil {
			return nil, err
		}
	}
	err = j.work(ctx, failback, j.unlock)
	if j.run.Outcome == OutcomeDone {
		j.run.Next = j.anew()
		err = errors.Join(err, d.state.save())
	}
	return j.run, err
}

// undo undoes a failover that was cut off before anything was raised.
func (j *job) undo(ctx context.Context, o FailbackOptions) (*Run, error) {
	if j.run.Kind == KindFailover && j.passed(failover) {
		return nil, errors.New("a failover was cut off after replicas began to be promoted: end it first with `dhow dr failover`")
	}
	if o.Confirm != nil {
		if err := o.Confirm(ctx, "a failover was cut off before anything was promoted: it is undone"); err != nil {
			return nil, err
		}
	}
	if j.run.Kind == KindFence { // users are in dr, where main stays locked
		j.run.Outcome, j.run.Ended = OutcomeUndone, now()
		return j.run, j.state.save()
	}
	if err := j.reopen(ctx); err != nil {
		return j.run, err
	}
	j.run.Outcome, j.run.Ended = OutcomeUndone, now()
	return j.run, j.state.save()
}

// mainReady says why main can not take the users back.
func (j *job) mainReady() error {
	if !j.main.answers {
		return fmt.Errorf("main can not take the users back: %s", j.main.text)
	}
	if !j.main.healthy {
		return fmt.Errorf("main can not take the users back: %s: mend that first, with `dhow deploy --environment main` where a database is gone", j.main.text)
	}
	return nil
}

func (s *side) anyRaised() bool {
	for _, b := range s.databases {
		if b.raised() {
			return true
		}
	}
	return false
}

func (j *job) lockDR(ctx context.Context) (string, error) {
	var locked []string
	for _, b := range j.side.databases {
		if !b.raised() {
			continue
		}
		if err := j.fence(ctx, j.side.clients, estate.EnvironmentDR, aws.ToString(b.replica.DBInstanceIdentifier)); err != nil {
			return "", err
		}
		locked = append(locked, aws.ToString(b.replica.DBInstanceIdentifier))
	}
	if len(locked) == 0 {
		return "nothing to lock", nil
	}
	return "locked " + list(locked), nil
}

// unlock undoes what was done before main was opened.
func (j *job) unlock(ctx context.Context) error {
	return j.unfence(ctx, j.side.clients, estate.EnvironmentDR)
}

func (j *job) openMain(ctx context.Context) (string, error) {
	if err := j.unfence(ctx, j.main.clients, estate.EnvironmentMain); err != nil {
		return "", err
	}
	return "main takes connections", nil
}

func (j *job) turnBack(ctx context.Context) (string, error) {
	_, err := j.stacks.Set(ctx, j.turn, map[string]string{evacuated: "false"})
	return "users go to " + j.mainStack().Region, err
}

func (j *job) lower(ctx context.Context) (string, error) { return j.lowerFloors(ctx) }

// anew is what has to be made anew before dr can take over again.
func (j *job) anew() []string {
	next := []string{"take landing.parameters." + turnTemplate + "." + evacuated + " and the larger sizes of dr out of the estate again"}
	seen := map[string]bool{}
	for _, b := range j.side.databases {
		if !b.raised() {
			continue
		}
		name := aws.ToString(b.replica.DBInstanceIdentifier)
		for _, s := range j.dr {
			standing := j.side.stacks[s.ID]
			if standing == nil || seen[s.ID] {
				continue
			}
			for _, r := range standing.Resources {
				if r.Type == typeDatabase && r.Physical == name && !seen[s.ID] {
					seen[s.ID] = true
					next = append(next, fmt.Sprintf("make the replicas of %s anew, for they do not follow main any more: `dhow deploy --destroy --only %[1]s --force %[1]s`, which leaves snapshots, then `dhow deploy --only %[1]s`", s.ID))
				}
			}
		}
	}
	for _, c := range j.side.caches {
		next = append(next, "what was in dr's cache in place of "+c.ID+" is not in main: it is filled anew")
	}
	return append(next, "run `dhow dr drill` when that is done")
}

// Back is how main gets what was written in dr, for people.
func (d *DR) Back() []string {
	var names []string
	for _, s := range d.main {
		for _, r := range s.Holding() {
			if r.Type == typeDatabase {
				names = append(names, s.ID)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{
		"main's " + strings.Join(names, " and ") + " stand where they were when main was left, and are locked; what they have that dr lacks is lost, or has to be read out of them before",
		"RDS makes no replica of a server that there is: move dr's databases to main's by an estate of their own, dr's as source and main's as target, with `dhow replicate`, `dhow verify` and `dhow cutover`",
		"main's are reached for that through their networks alone: give them a security group that lets the movers in, beside the one that locks them",
	}
}
