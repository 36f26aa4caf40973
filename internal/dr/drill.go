package dr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Drill is one try of what a failover would do. It changes nothing in main, promotes
// nothing and turns nobody over.
type Drill struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	Steps []Timing  `json:"steps"`
	// Passed says that all that was tried works.
	Passed bool `json:"passed"`
	// Scaled is how long it took until dr had main's size.
	Scaled time.Duration `json:"scaled_ns"`
	// RPO is what a failover would have lost; nil where nobody knows.
	RPO *time.Duration `json:"rpo_ns,omitempty"`
	// RTO is what a failover would take, by this drill.
	RTO *Estimate `json:"rto,omitempty"`
}

func now() time.Time { return time.Now().UTC() }

// Drill tries what can be tried, puts back what it changed, and what an earlier one that
// was killed has left. The drill is nil where none was begun.
func (d *DR) Drill(ctx context.Context) (*Drill, error) {
	if u := d.state.unfinished(); u != nil {
		return nil, fmt.Errorf("a %s was cut off: end it first with `%s`", u.Kind, u.again())
	}
	s, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	if s.turned {
		return nil, errors.New("users go to dr: a drill would change what serves them; `dhow dr failback` leads back")
	}
	if len(d.state.Raised) > 0 {
		if _, err := d.lowerFloors(ctx); err != nil {
			return nil, fmt.Errorf("put back what an earlier drill has left: %w", err)
		}
		if s, err = d.look(ctx); err != nil {
			return nil, err
		}
	}
	d.state.Drills = append(d.state.Drills, Drill{Began: now(), Steps: []Timing{}})
	drill := &d.state.Drills[len(d.state.Drills)-1]
	tried := d.try(ctx, drill, s)
	// What was raised is put back, whatever became of it, also after an interrupt.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	lowered := d.measure(back, &drill.Steps, StepLower, d.state.save, d.lowerFloors)
	if lowered != nil {
		lowered = fmt.Errorf("put dr back to its floor: %w: run `dhow dr drill` again, which does that first", lowered)
	}
	drill.Passed, drill.Ended = tried == nil && lowered == nil, now()
	if drill.Passed {
		drill.RPO = d.status(s).RPO
		drill.RTO = d.estimate(drill, s)
	}
	return drill, errors.Join(tried, lowered, d.state.save())
}

// try does what a drill does before it puts things back.
func (d *DR) try(ctx context.Context, drill *Drill, s *side) error {
	if err := d.measure(ctx, &drill.Steps, StepLook, d.state.save, func(context.Context) (string, error) { return s.answer() }); err != nil {
		return err
	}
	if err := d.measure(ctx, &drill.Steps, StepTry, d.state.save, d.tryTurn); err != nil {
		return err
	}
	all, err := d.smaller(s)
	if err != nil {
		return err
	}
	err = d.measure(ctx, &drill.Steps, StepScale, d.state.save, func(ctx context.Context) (string, error) {
		var told []string
		for _, r := range all {
			told = append(told, r.text)
		}
		if len(told) == 0 {
			return "dr has main's size already", nil
		}
		return list(told), d.raiseFloors(ctx, all)
	})
	drill.Scaled = drill.Steps[len(drill.Steps)-1].Took
	return err
}

// answer says whether every replica works and follows.
func (s *side) answer() (string, error) {
	if err := s.ready(); err != nil {
		return "", err
	}
	var told []string
	for _, b := range s.databases {
		if !b.follows() {
			return "", fmt.Errorf("%s, which is dr's of %s, follows nothing: make it a replica again", aws.ToString(b.replica.DBInstanceIdentifier), b.stack.ID)
		}
		if !works(b.replica) {
			return "", fmt.Errorf("the replica %s is %s: wait until it is available", aws.ToString(b.replica.DBInstanceIdentifier), aws.ToString(b.replica.DBInstanceStatus))
		}
		lag, known := b.behind()
		if !known {
			return "", fmt.Errorf("nobody knows how far the replica %s is behind: it tells no lag of the last %s, or does not follow", aws.ToString(b.replica.DBInstanceIdentifier), lagWindow)
		}
		told = append(told, fmt.Sprintf("%s is behind by %s", aws.ToString(b.replica.DBInstanceIdentifier), lag.Round(time.Second)))
	}
	if len(told) == 0 {
		return "there is no database", nil
	}
	return list(told), nil
}

// tryTurn lets CloudFormation say what the switch would change.
func (d *DR) tryTurn(ctx context.Context) (string, error) {
	changes, err := d.stacks.Try(ctx, d.turn, map[string]string{evacuated: "true"})
	if err != nil {
		return "", err
	}
	if len(changes) == 0 {
		return "", fmt.Errorf("the switch of %s would change nothing: deploy it anew", d.turn.ID)
	}
	var told []string
	for _, c := range changes {
		if c.Refused() || c.Action == "remove" {
			return "", fmt.Errorf("the switch would %s %s (%s): deploy %s anew", c.Action, c.Resource, c.Type, d.turn.ID)
		}
		told = append(told, c.Action+" "+c.Resource)
	}
	return "the switch would " + list(told), nil
}
