package dr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"

	"dhow/internal/estate"
	"dhow/internal/landing"
)

// ErrHealthy says that main works, and that nobody has said why it is to be left.
var ErrHealthy = errors.New("main is healthy")

// ErrLoss says that writes which main has acknowledged could be lost, and that nobody has
// said why they may.
var ErrLoss = errors.New("acknowledged writes of main could be lost")

// FailoverOptions are how a failover begins.
type FailoverOptions struct {
	// Reason is why main is left although it is healthy; empty refuses that.
	Reason string
	// Loss is why what main has and dr lacks may be lost: where main does not answer or can
	// not be locked, a replica does not catch up, or dr's database follows nothing. Empty
	// refuses that, and what was begun is undone.
	Loss string
	// Confirm is asked before anything is changed, and its error ends it. Its yes accepts
	// what it was told could be lost. Nil is yes, and accepts nothing.
	Confirm func(ctx context.Context, q Question) error
}

// Question is what is confirmed before a failover.
type Question struct {
	Status *Status
	// Main is how main stands.
	Main string
	// Loss is why what main has and dr lacks is lost, as far as that is known by now; empty
	// where main is locked before anything is raised.
	Loss string
}

// confirmedLoss is why something may be lost that was confirmed when it was asked for.
const confirmedLoss = "confirmed when it was asked for"

// Failover turns the users over to dr. It may be called again: a run that was cut off is
// gone on with. The run is nil where none was begun.
func (d *DR) Failover(ctx context.Context, o FailoverOptions) (*Run, error) {
	unfinished := d.state.unfinished()
	back := unfinished != nil && unfinished.Kind == KindFailback
	if back && o.Loss == "" {
		return nil, fmt.Errorf("%w: the way back was begun and is not finished: end it with `dhow dr failback`", ErrLoss)
	}
	s, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	main, err := d.lookAtMain(ctx, s)
	if err != nil {
		return nil, err
	}
	j := &job{DR: d, run: unfinished, side: s, main: main}
	if unfinished == nil && s.turned || unfinished != nil && unfinished.Kind == KindFence {
		return j.fenceLate(ctx)
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	if !j.accepted(o.Loss) {
		if err := d.fresh(s); err != nil {
			return nil, err
		}
	}
	if (unfinished == nil || back) && main.healthy && o.Reason == "" {
		return nil, fmt.Errorf("%w: %s", ErrHealthy, main.text)
	}
	if err := j.mayLose(ctx, &o); err != nil {
		return nil, err
	}
	if back { // main was lost on the way there
		unfinished.Outcome, unfinished.Ended = OutcomeLeft, now()
	}
	if unfinished == nil || back {
		if j.run, err = d.begin(Run{Kind: KindFailover, Reason: o.Reason, Loss: o.Loss}); err != nil {
			return nil, err
		}
	}
	j.run.Reason, j.run.Loss = cmp.Or(j.run.Reason, o.Reason), cmp.Or(j.run.Loss, o.Loss)
	err = j.work(ctx, failover, j.reopen)
	if j.run.Outcome == OutcomeDone {
		j.run.Next = j.afterFailover()
		err = errors.Join(err, d.state.save())
	}
	return j.run, err
}

// accepted says that loss is accepted, now or when the failover was begun that is gone on with.
func (j *job) accepted(loss string) bool {
	return loss != "" || j.run != nil && j.run.Kind == KindFailover && j.run.Loss != ""
}

// mayLose has a failover confirmed, and refuses it where something is lost by it that
// nobody has accepted.
func (j *job) mayLose(ctx context.Context, o *FailoverOptions) error {
	loss, doubt := "", ""
	if j.run == nil || !j.passed(failover) {
		loss, doubt = j.open(), j.unshown()
	}
	if o.Confirm != nil {
		told := cmp.Or(loss, doubt)
		if err := o.Confirm(ctx, Question{Status: j.status(j.side), Main: j.main.text, Loss: told}); err != nil {
			return err
		}
		if told != "" {
			o.Loss = cmp.Or(o.Loss, confirmedLoss)
		}
	}
	if loss == "" || j.accepted(o.Loss) {
		return nil
	}
	return fmt.Errorf("%w: %s; %s", ErrLoss, loss, j.side.told())
}

// open is which of main's databases can not be locked now, and why; empty where all can,
// or are.
func (j *job) open() string {
	if j.fenced() || len(j.side.databases) == 0 {
		return ""
	}
	if !j.main.answers {
		return "main can not be locked, and may go on to take writes: " + j.main.text
	}
	var open []string
	for _, b := range j.side.databases {
		if why := j.main.dead(b.name); why != "" {
			open = append(open, why)
		}
	}
	if len(open) == 0 {
		return ""
	}
	return "it can not be locked: " + list(open)
}

// unshown is which of the databases of a main that fell silent when it was locked may have
// what dr lacks; empty where none may. Their replicas may show yet that they have all.
func (j *job) unshown() string {
	if j.main.answers {
		return ""
	}
	var behind []string
	for _, b := range j.side.databases {
		if f := j.state.fence(estate.EnvironmentMain, b.name); f != nil && !f.At.IsZero() && !f.CaughtUp {
			behind = append(behind, b.name)
		}
	}
	if len(behind) == 0 {
		return ""
	}
	return "main has fallen silent since it was locked, and dr has not shown that it has all of " + list(behind)
}

// dead is why a database of main is beyond locking; empty where it is not.
func (m *mainSide) dead(name string) string {
	switch i := m.instances[name]; {
	case i == nil:
		return name + " is not there"
	case isDead(i):
		return name + " is " + aws.ToString(i.DBInstanceStatus)
	}
	return ""
}

// fresh refuses databases of dr that an earlier way back has left behind: they are
// locked, and what main has got since is not in them.
func (d *DR) fresh(s *side) error {
	for _, b := range s.databases {
		if !b.raised() {
			continue
		}
		if f := d.state.fence(estate.EnvironmentDR, aws.ToString(b.replica.DBInstanceIdentifier)); f != nil && f.shuts(b.replica) {
			return fmt.Errorf("%w: %s, which is dr's of %s, has got nothing since the last failback: make it a replica again", ErrLoss, f.Database, b.stack.ID)
		}
	}
	return nil
}

// ready says what of main's databases dr could not raise.
func (s *side) ready() error {
	var lacking []string
	for _, b := range s.databases {
		switch {
		case b.replica == nil && b.copied.IsZero():
			lacking = append(lacking, b.stack.ID+" has neither a replica nor a copy there")
		case b.replica == nil:
			lacking = append(lacking, fmt.Sprintf("%s has no replica there: restore its copy of %s from the vault %s as the database %s first", b.stack.ID, b.copied.UTC().Format(time.RFC3339), s.vault, b.own()))
		case isDead(b.replica):
			lacking = append(lacking, fmt.Sprintf("%s, which is dr's of %s, is %s", aws.ToString(b.replica.DBInstanceIdentifier), b.stack.ID, aws.ToString(b.replica.DBInstanceStatus)))
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("dr can not take over: %s: nothing was changed", strings.Join(lacking, "; "))
	}
	return nil
}

// fenced says that all of main's databases are locked, as far as main can be asked.
func (j *job) fenced() bool {
	for _, b := range j.side.databases {
		if _, locked := j.state.fencedAt(estate.EnvironmentMain, b.name); !locked {
			return false
		}
		if i := j.main.instances[b.name]; i != nil && !j.state.fence(estate.EnvironmentMain, b.name).shuts(i) {
			return false
		}
	}
	return len(j.side.databases) > 0
}

// fenceLate locks a main that answers again, when the users are in dr already.
func (j *job) fenceLate(ctx context.Context) (*Run, error) {
	switch {
	case j.run == nil && (j.fenced() || len(j.side.databases) == 0):
		return nil, errors.New("users go to dr already, and main is locked: there is nothing to do; `dhow dr failback` leads back")
	case !j.main.answers:
		return nil, fmt.Errorf("users go to dr already, and main can not be locked yet: %s; run it again when it answers, before anybody writes there", j.main.text)
	}
	var err error
	if j.run == nil {
		if j.run, err = j.begin(Run{Kind: KindFence}); err != nil {
			return nil, err
		}
	}
	err = j.measure(ctx, &j.run.Steps, StepFence, j.state.save, j.fenceMain)
	j.run.Outcome, j.run.Ended = OutcomeUndone, now()
	if err == nil && j.fenced() {
		j.run.Outcome = OutcomeDone
		if len(j.side.databases) > 0 {
			j.run.Next = []string{"main may have got writes between the failover and now, which dr lacks: read them out of its databases before failback overwrites them"}
		}
	}
	return j.run, errors.Join(err, j.state.save())
}

// fenceMain locks main's databases. It may have come back while people were asked. After
// it fenced tells how it stands.
func (j *job) fenceMain(ctx context.Context) (string, error) {
	var err error
	if time.Since(j.main.at) > mainFresh {
		if j.main, err = j.lookAtMain(ctx, j.side); err != nil {
			return "", err
		}
	}
	if loss := j.open(); loss != "" && j.run.Kind == KindFailover && j.run.Loss == "" && !j.run.begun(StepPromote) {
		return "", fmt.Errorf("%w by now: %s; %s", ErrLoss, loss, j.side.told())
	}
	switch {
	case !j.main.answers && j.fenced():
		return "it was locked before: " + j.main.text, nil
	case !j.main.answers:
		return "left as it is: " + j.main.text + "; run `dhow dr failover` again when it answers, to lock it then", nil
	}
	if j.run.Kind == KindFailover && j.run.Reason == "" && j.main.healthy && !j.run.begun(StepPromote) {
		return "", fmt.Errorf("%w by now: %s", ErrHealthy, j.main.text)
	}
	var locked, left []string
	for _, b := range j.side.databases {
		if why := j.main.dead(b.name); why != "" {
			left = append(left, why)
			continue
		}
		err := j.fence(ctx, j.main.clients, estate.EnvironmentMain, b.name)
		switch {
		case err == nil:
			locked = append(locked, b.name)
		case ctx.Err() != nil || j.run.Loss == "":
			return "", fmt.Errorf("%w, for it answers and is not locked: %w", ErrLoss, err)
		default:
			left = append(left, fmt.Sprintf("%s (%v)", b.name, err))
		}
	}
	for name := range j.main.instances { // as they are now
		if j.main.instances[name], err = describeDatabase(ctx, j.main.clients.Databases, name); err != nil {
			return "", err
		}
	}
	text := "locked " + list(locked)
	if len(locked) == 0 {
		text = "nothing to lock"
	}
	if len(left) > 0 {
		text += "; left as it is: " + list(left)
	}
	return text, nil
}

// reopen undoes what was done before the first promotion.
func (j *job) reopen(ctx context.Context) error {
	if !slices.ContainsFunc(j.state.Fences, func(f Fence) bool { return f.Environment == estate.EnvironmentMain }) {
		return nil
	}
	clients, err := j.at(ctx, j.mainStack())
	if err != nil {
		return err
	}
	return j.unfence(ctx, clients, estate.EnvironmentMain)
}

// catchUp waits until the replicas have all of those of main's databases that are locked.
// Of the others it says what is lost.
func (j *job) catchUp(ctx context.Context) (string, error) {
	waiting, cancel := j.waiting(ctx)
	defer cancel()
	for {
		if err := j.lags(ctx, j.side); err != nil {
			return "", err
		}
		behind, left, err := j.behind()
		if err != nil {
			return "", err
		}
		if len(behind) == 0 {
			return j.lost(left), nil
		}
		if err := j.pause(waiting); err != nil {
			why := fmt.Errorf("the replicas of %s do not show after %s that they have all that main had", list(behind), j.o.Wait)
			switch {
			case ctx.Err() != nil:
				return "", fmt.Errorf("wait for the replicas: %w", err)
			case j.run.Loss == "":
				return "", fmt.Errorf("%w: %w", ErrLoss, why)
			}
			return why.Error() + "; " + j.lost(true), nil // that is accepted
		}
	}
}

// behind are the databases of main that are locked and of which dr has not shown yet that
// it has all, which is kept once it has; left says that there are others, which are not
// locked.
func (j *job) behind() (behind []string, left bool, err error) {
	shown := false
	for _, b := range j.side.databases {
		locked, fenced := j.state.fencedAt(estate.EnvironmentMain, b.name)
		f := j.state.fence(estate.EnvironmentMain, b.name)
		switch {
		case !fenced:
			left = true
		case b.raised() && j.run.Loss == "" && !j.run.begun(StepPromote):
			return nil, false, fmt.Errorf("%w: %s, which is dr's of %s, follows nothing", ErrLoss, aws.ToString(b.replica.DBInstanceIdentifier), b.stack.ID)
		case f.CaughtUp:
		case b.raised():
			left = true
		case b.has(locked):
			f.CaughtUp, shown = true, true
		default:
			behind = append(behind, b.name)
		}
	}
	if shown {
		err = j.state.save()
	}
	return behind, left, err
}

// lost keeps what is lost of main, and says it.
func (j *job) lost(left bool) string {
	if j.run.begun(StepPromote) { // it was told before what was raised since
		return "what still follows main has all that it can get"
	}
	if !left {
		j.run.RPO = aws.Duration(0)
		return "the replicas have all that main had"
	}
	j.run.RPO = j.side.lost()
	return j.side.told()
}

// lost is how much of main's last time dr lacks at most; nil where nobody knows.
func (s *side) lost() *time.Duration {
	most := time.Duration(0)
	for _, b := range s.databases {
		lost, known := b.lost()
		if !known {
			return nil
		}
		most = max(most, lost)
	}
	return &most
}

// told says what is lost, for people.
func (s *side) told() string {
	lost := s.lost()
	if lost == nil {
		return "nobody knows how much of what main got is lost"
	}
	return fmt.Sprintf("what main got in its last %s is lost at most", lost.Round(time.Second))
}

// promote raises the replicas, all at once, and opens what an earlier way back has locked.
func (j *job) promote(ctx context.Context) (string, error) {
	var names []string
	for _, b := range j.side.databases {
		names = append(names, aws.ToString(b.replica.DBInstanceIdentifier))
	}
	if err := j.each(len(names), func(i int) error { return j.lift(ctx, names[i]) }); err != nil {
		return "", err
	}
	if err := j.unfence(ctx, j.side.clients, estate.EnvironmentDR); err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "there is no database", nil
	}
	return list(names), nil
}

// lift promotes a replica, and waits until it is a server of its own. One that is at
// something else, such as a backup, is promoted as soon as it is done.
func (j *job) lift(ctx context.Context, name string) error {
	c := j.side.clients.Databases
	waiting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for asked := false; ; {
		i, err := describeDatabase(waiting, c, name)
		switch {
		case err != nil:
			return err
		case i == nil:
			return fmt.Errorf("the replica %s is gone", name)
		case works(i) && !following(i):
			return nil
		case works(i) && !asked:
			call, done := context.WithTimeout(waiting, callTime)
			_, err := c.PromoteReadReplica(call, &rds.PromoteReadReplicaInput{DBInstanceIdentifier: &name, BackupRetentionPeriod: aws.Int32(max(1, aws.ToInt32(i.BackupRetentionPeriod)))})
			done()
			if err != nil && !isBusy(err) {
				return fmt.Errorf("promote the replica %s: %w", name, err)
			}
			asked = err == nil
		}
		if err := j.pause(waiting); err != nil {
			return tooLong(ctx, err, fmt.Sprintf("the replica %s, which is %s, to be a server of its own", name, aws.ToString(i.DBInstanceStatus)))
		}
	}
}

// scale gives dr main's size: databases, cluster and services at once. Where that has
// failed before in this run, for a region that others flee to may lack the room, users are
// turned over to what there is.
func (j *job) scale(ctx context.Context) (string, error) {
	all, err := j.smaller(j.side)
	if err != nil {
		return "", err
	}
	var told []string
	for _, r := range all {
		told = append(told, r.text)
	}
	grown := make([]string, len(j.side.databases))
	err = j.each(1+len(j.side.databases), func(i int) error {
		if i == 0 {
			return j.raiseFloors(ctx, all)
		}
		var err error
		grown[i-1], err = j.grow(ctx, j.side.databases[i-1])
		return err
	})
	for _, text := range grown {
		if text != "" {
			told = append(told, text)
		}
	}
	switch {
	case err != nil && (ctx.Err() != nil || !j.run.failed(StepScale)):
		return "", err
	case err != nil:
		return fmt.Sprintf("it stays smaller: %v", err), nil
	case len(told) == 0:
		return "dr has main's size already", nil
	}
	return list(told), nil
}

// grow gives a raised database the class that main's has, and a standby where that has one.
// A standby is made while the database serves, and is not waited for.
func (j *job) grow(ctx context.Context, b *database) (string, error) {
	c, name := j.side.clients.Databases, aws.ToString(b.replica.DBInstanceIdentifier)
	is, err := describeDatabase(ctx, c, name)
	if err != nil {
		return "", err
	}
	if is == nil {
		return "", fmt.Errorf("the database %s is gone", name)
	}
	class, standby := sizeOf(b.stack)
	if m := j.main.instances[b.name]; m != nil {
		class, standby = aws.ToString(m.DBInstanceClass), aws.ToBool(m.MultiAZ)
	}
	in := &rds.ModifyDBInstanceInput{DBInstanceIdentifier: &name, ApplyImmediately: aws.Bool(true)}
	var told []string
	if class != "" && class != aws.ToString(is.DBInstanceClass) {
		told = append(told, fmt.Sprintf("%s %s -> %s", name, aws.ToString(is.DBInstanceClass), class))
		in.DBInstanceClass = &class
	}
	if standby && !aws.ToBool(is.MultiAZ) {
		told = append(told, name+" gets a standby")
		in.MultiAZ = aws.Bool(true)
	}
	if in.DBInstanceClass != nil || in.MultiAZ != nil {
		if err := j.insist(ctx, "give the database "+name+" main's size", func(ctx context.Context) error {
			_, err := c.ModifyDBInstance(ctx, in)
			return err
		}); err != nil {
			return "", err
		}
	}
	if class == "" || class == aws.ToString(is.DBInstanceClass) {
		return list(told), nil
	}
	return list(told), j.await(ctx, c, name, "of the class "+class, func(i *rdstypes.DBInstance) bool { return works(i) && aws.ToString(i.DBInstanceClass) == class })
}

// small says that dr's database is of another class than the estate says of main's.
func (b *database) small() bool {
	class, _ := sizeOf(b.stack)
	return b.replica != nil && class != "" && class != aws.ToString(b.replica.DBInstanceClass)
}

// sizeOf is a database's class and whether it has a standby, as the estate says.
func sizeOf(s *landing.Stack) (class string, standby bool) {
	for _, in := range s.Inputs {
		switch {
		case in.Kind == landing.FromOutput:
		case strings.HasSuffix(in.Parameter, "InstanceClass"):
			class = in.Value
		case in.Parameter == "MultiAz":
			standby = in.Value == "true"
		}
	}
	return class, standby
}

func (j *job) turnOver(ctx context.Context) (string, error) {
	_, err := j.stacks.Set(ctx, j.turn, map[string]string{evacuated: "true"})
	return "users go to " + j.turn.Region, err
}

// afterFailover is what is left for people to do.
func (j *job) afterFailover() []string {
	next := []string{"write landing.parameters." + turnTemplate + "." + evacuated + `: "true" into the estate, or the next ` + "`dhow deploy` of dr turns the users back"}
	if len(j.state.Raised) > 0 {
		var stacks []string
		for _, f := range j.state.Raised {
			stacks = append(stacks, f.Stack)
		}
		next = append(next, "give "+list(stacks)+" main's size in the estate too, or the next `dhow deploy` puts them back to their floor")
	}
	if !j.fenced() && len(j.side.databases) > 0 {
		next = append(next, "lock main as soon as it answers again: run `dhow dr failover` once more")
	}
	for _, c := range j.side.caches {
		next = append(next, "what was in the cache of "+c.ID+" is not in dr: it is filled anew")
	}
	return append(next, "watch the databases: they have no replica and no region to fall back to until `dhow dr failback`")
}
