package dr

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"dhow/internal/estate"
)

const (
	// promotionAllowance is how long RDS is given for a promotion while none was measured:
	// it backs the server up first, and reboots it.
	promotionAllowance = 15 * time.Minute
	// resizeAllowance is how long RDS is given for another class while none was measured: it
	// takes a database of one zone down for it.
	resizeAllowance = 15 * time.Minute
	// switchAllowance is how long a change of a health check takes while none was measured,
	// with the stack's own update.
	switchAllowance = 3 * time.Minute
	// resolveAllowance is how long resolvers keep the old answer: a record's minute, and the check's.
	resolveAllowance = 2 * time.Minute
	// drillAge is how old the last drill may be before it is worth no more.
	drillAge = 90 * 24 * time.Hour
	// copyAge is how old the newest copy may be: they are made each day.
	copyAge = 26 * time.Hour
	// leastLag is a lag that is worth telling.
	leastLag = time.Minute
)

// The ways in which a store of main is in dr.
const (
	WayReplica = "replica" // it follows
	WayRaised  = "raised"  // it is a server of its own
	WayCopy    = "copy"    // it has to be restored
	WayNone    = "none"
)

// The sides.
const (
	SideMain = estate.EnvironmentMain
	SideDR   = estate.EnvironmentDR
)

// Status is where disaster recovery stands.
type Status struct {
	Application string    `json:"application"`
	At          time.Time `json:"at"`
	MainRegion  string    `json:"main_region"`
	DRRegion    string    `json:"dr_region"`
	// Side is where users go: main or dr.
	Side   string  `json:"side"`
	Stores []Store `json:"stores"`
	// RPO is what would be lost now of the store that would lose most; nil where nobody knows.
	RPO *time.Duration `json:"rpo_ns,omitempty"`
	// RTO is how long it would take, by the last drill that passed; nil where there is none.
	RTO *Estimate `json:"rto,omitempty"`
	// Lacks are what would make a failover fail, or lose more, the gravest first.
	Lacks []Lack `json:"lacks"`
	Drill *Drill `json:"drill,omitempty"`
	// Run is the last failover or failback.
	Run *Run `json:"run,omitempty"`
}

// Store is a data store of main.
type Store struct {
	Store string `json:"store"`
	// Way is how it is in dr.
	Way string `json:"way"`
	// Name, State and Class are of dr's database.
	Name  string `json:"name,omitempty"`
	State string `json:"state,omitempty"`
	Class string `json:"class,omitempty"`
	// Lag is how far it is behind; nil where nobody knows.
	Lag *time.Duration `json:"lag_ns,omitempty"`
	// Copied is when the newest copy in the vault was made.
	Copied time.Time `json:"copied,omitzero"`
	// Lost is how much of main's last time would be lost now: the lag; or what main got since
	// what the replica had when it told its lag last; or the copy's age; nil where it is all,
	// or nobody knows.
	Lost *time.Duration `json:"lost_ns,omitempty"`
}

// Estimate is how long a failover would take.
type Estimate struct {
	Took time.Duration `json:"took_ns"`
	// Measured is when the drill was.
	Measured  time.Time     `json:"measured"`
	Promotion time.Duration `json:"promotion_ns"`
	Scaling   time.Duration `json:"scaling_ns"`
	Switching time.Duration `json:"switching_ns"`
	// Assumed are the parts that no failover has measured yet.
	Assumed []string `json:"assumed,omitempty"`
}

// Lack is something that dr lacks.
type Lack struct {
	// Severity is error where a failover would fail, else warning.
	Severity string `json:"severity"`
	Where    string `json:"where"`
	Text     string `json:"text"`
	Fix      string `json:"fix"`
}

// The severities of what dr lacks.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Status reads dr's side. It needs main's region for nothing, and changes nothing.
func (d *DR) Status(ctx context.Context) (*Status, error) {
	s, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	return d.status(s), nil
}

func (d *DR) status(s *side) *Status {
	st := &Status{Application: d.o.Graph.Application, At: now(), MainRegion: d.mainStack().Region, DRRegion: d.turn.Region, Side: SideMain, Stores: []Store{}, Lacks: []Lack{}}
	if s.turned {
		st.Side = SideDR
	}
	unknown := false
	most := time.Duration(0)
	for _, b := range s.databases {
		one := storeOf(b, st.At)
		st.Stores = append(st.Stores, one)
		switch {
		case one.Way == WayRaised && s.turned:
		case one.Lost == nil:
			unknown = true
		default:
			most = max(most, *one.Lost)
		}
	}
	if !unknown && !s.turned && len(s.databases) > 0 {
		st.RPO = &most
	}
	for _, c := range s.caches {
		st.Stores = append(st.Stores, Store{Store: c.ID, Way: WayNone})
	}
	if drill := d.state.passed(); drill != nil {
		st.RTO = d.estimate(drill, s)
	}
	if n := len(d.state.Drills); n > 0 {
		st.Drill = &d.state.Drills[n-1]
	}
	if n := len(d.state.Runs); n > 0 {
		st.Run = &d.state.Runs[n-1]
	}
	d.lacks(s, st)
	slices.SortStableFunc(st.Lacks, func(a, b Lack) int { return strings.Compare(a.Severity, b.Severity) })
	return st
}

func storeOf(b *database, at time.Time) Store {
	one := Store{Store: b.stack.ID, Way: WayNone, Copied: b.copied}
	if !b.copied.IsZero() {
		one.Way = WayCopy
		one.Lost = aws.Duration(at.Sub(b.copied))
	}
	if b.replica == nil {
		return one
	}
	one.Name, one.State, one.Class = aws.ToString(b.replica.DBInstanceIdentifier), aws.ToString(b.replica.DBInstanceStatus), aws.ToString(b.replica.DBInstanceClass)
	if b.raised() {
		one.Way, one.Lost = WayRaised, nil
		return one
	}
	one.Way = WayReplica
	if lag, known := b.behind(); known {
		one.Lag, one.Lost = &lag, &lag
	} else if lost, known := b.lost(); known {
		one.Lost = &lost
	}
	return one
}

// estimate is how long a failover would take, by what a drill and failovers have measured.
// A drill resizes no database, for its replica would lag meanwhile.
func (d *DR) estimate(drill *Drill, s *side) *Estimate {
	e := &Estimate{Measured: drill.Ended, Scaling: drill.Scaled}
	if len(s.databases) > 0 {
		var known bool
		if e.Promotion, known = d.state.measured(StepPromote); !known {
			e.Promotion = promotionAllowance
			e.Assumed = append(e.Assumed, "promotion")
		}
	}
	if slices.ContainsFunc(s.databases, (*database).small) {
		scaling, known := d.state.measured(StepScale)
		if !known {
			scaling = resizeAllowance
			e.Assumed = append(e.Assumed, "scaling of databases")
		}
		e.Scaling = max(e.Scaling, scaling)
	}
	switching, known := d.state.measured(StepSwitch)
	if !known {
		switching = switchAllowance
		e.Assumed = append(e.Assumed, "switching")
	}
	e.Switching = switching + resolveAllowance
	e.Took = e.Promotion + e.Scaling + e.Switching
	return e
}

// lacks tells what would make a failover fail, or lose more than it need.
func (d *DR) lacks(s *side, st *Status) {
	add := func(severity, where, fix, format string, args ...any) {
		st.Lacks = append(st.Lacks, Lack{Severity: severity, Where: where, Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	for _, one := range d.dr {
		switch standing := s.stacks[one.ID]; {
		case standing == nil:
			add(SeverityError, one.ID, "run `dhow deploy --environment dr`", "is not deployed")
		case !standing.Settled:
			add(SeverityError, one.ID, "run `dhow deploy --only "+one.ID+"`, which waits for it or says how it is mended", "is in %s", standing.Status)
		}
	}
	for _, b := range s.databases {
		lacksOf(b, s, add)
	}
	for _, c := range s.caches {
		add(SeverityWarning, c.ID, "let the application fill it anew, and let nothing stand in it alone", "has no replica in dr: what is in the cache would be lost")
	}
	switch drill := d.state.passed(); {
	case drill == nil:
		add(SeverityWarning, SideDR, "run `dhow dr drill`", "no drill has passed yet: nobody knows how long a failover takes")
	case st.At.Sub(drill.Ended) > drillAge:
		add(SeverityWarning, SideDR, "run `dhow dr drill`", "the last drill that passed was on %s", drill.Ended.Format(time.DateOnly))
	}
	if len(d.state.Raised) > 0 && !s.turned {
		add(SeverityWarning, SideDR, "run `dhow dr drill` again, which puts it back first", "stands higher than its floor: a drill was cut off")
	}
	if u := d.state.unfinished(); u != nil {
		add(SeverityError, SideDR, "run `"+u.again()+"` again, which goes on", "a %s that began at %s is not finished", u.Kind, u.Began.Format(time.RFC3339))
	}
	// What the estate says holds when dr is deployed the next time.
	if v, known := d.turn.Value(evacuated); known && (v == "true") != s.turned {
		add(SeverityError, d.turn.ID, fmt.Sprintf("set landing.parameters.%s.%s: %q in the estate", turnTemplate, evacuated, fmt.Sprint(s.turned)),
			"users go to %s, and the estate says otherwise: the next `dhow deploy` would turn them over", st.Side)
	}
	for _, b := range s.databases {
		if _, locked := d.state.fencedAt(SideMain, b.name); s.turned && !locked {
			add(SeverityWarning, b.stack.ID, "run `dhow dr failover` again when main answers", "is not locked, and may take writes when it comes back")
		}
	}
}

func lacksOf(b *database, s *side, add func(severity, where, fix, format string, args ...any)) {
	where := b.stack.ID
	lag, known := b.behind()
	old := b.copied.IsZero() || time.Since(b.copied) > copyAge
	switch {
	case b.replica == nil && b.copied.IsZero():
		add(SeverityError, where, "deploy dr's stack of replicas, with Replicas: \"true\"", "has neither a replica nor a copy in dr: all of it would be lost")
		return
	case b.replica == nil:
		add(SeverityError, where, "deploy dr's stack of replicas, with Replicas: \"true\", or restore the copy as "+b.own()+" when main is gone", "has no replica in dr, and a copy of %s", b.copied.UTC().Format(time.RFC3339))
	case b.raised() && !s.turned:
		add(SeverityError, where, "make it a replica again: destroy and deploy its stack", "%s follows nothing", aws.ToString(b.replica.DBInstanceIdentifier))
	case b.raised():
	case !works(b.replica):
		add(SeverityError, where, "look at its events in RDS", "the replica %s is %s", aws.ToString(b.replica.DBInstanceIdentifier), aws.ToString(b.replica.DBInstanceStatus))
	case !known:
		add(SeverityError, where, "look at its replication in RDS", "the replica %s tells no lag of the last %s, or does not follow", aws.ToString(b.replica.DBInstanceIdentifier), lagWindow)
	case lag > leastLag:
		add(SeverityWarning, where, "look at what main writes, and at the replica's class", "the replica %s is behind by %s", aws.ToString(b.replica.DBInstanceIdentifier), lag.Round(time.Second))
	}
	if old {
		when := "none was made"
		if !b.copied.IsZero() {
			when = "the newest is of " + b.copied.UTC().Format(time.RFC3339)
		}
		add(SeverityWarning, where, "look at the jobs of AWS Backup in main: each day one is copied", "has no copy of the last day in dr's vault: %s", when)
	}
}
