package dr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"dhow/internal/landing"
)

// unsent is the error of a call that nobody answers.
var unsent = &smithyhttp.RequestSendError{Err: errors.New("no route to host")}

// errKilled is what calls of a process come to that is no more.
var errKilled = errors.New("this process was killed")

// fate is what becomes of a call.
type fate int

const (
	granted     fate = iota
	lost             // it does not arrive
	unheard          // it arrives, and its answer is lost
	killed           // the process is killed before it
	killedAfter      // the process is killed after it
	silence          // main falls silent before it
	mostFates
)

// sky is AWS as far as disaster recovery calls it, with the application that writes to
// main: two databases and what follows them. Its time passes with each call. It notes
// what must never be.
type sky struct {
	graph *landing.Graph
	dir   string

	mu    sync.Mutex
	clock time.Time
	// calls are how many were made by this command; at the one of that number a fate strikes.
	calls, strikes int
	// tired ends a wait for replicas, when so many calls were made.
	tired   context.CancelFunc
	tiredAt int
	fate    fate
	struck  bool

	stacks map[string]*landing.Standing
	main   map[string]*server
	dr     map[string]*server // by main's name
	groups map[string]bool    // regions that have the group which lets nobody in

	// gone says that main is silent.
	gone bool
	// mute says that RDS tells no event.
	mute bool
	// drill says that nothing may be asked of main.
	drill bool
	// accepts says that this command accepts loss; excused are databases that were raised,
	// or opened, under such a one, until main is locked.
	accepts bool
	excused map[string]bool

	dead   bool
	frozen []byte // the state's file when the process was killed; nil where there was none
	wrong  []string
}

// server is a database: what has been asked of it comes about after a while.
type server struct {
	name, class string
	standby     bool
	source      string
	groups      []string
	// before are the groups that it had before those, until they hold.
	before   []string
	groupsAt time.Time
	// connected says that there are connections from before.
	connected         bool
	busy              string
	busyUntil         time.Time
	restartAt, downAt time.Time
	promoteAt         time.Time
	restarts, written []time.Time
	// upto is the moment up to which a replica has all.
	upto   time.Time
	points []point
	// stalled is for how many points more it does not follow, of which the last tells so.
	stalled int
}

const (
	ownGroup    = "sg-own"
	lockedGroup = "sg-locked"
	// tick is what passes with a call; a change takes some of them, a replica follows after some.
	tick = time.Millisecond
	slow = 4 * tick
	// patience is for how many calls replicas are waited for: more than they need.
	patience = 60
)

// twoTemplates are the templates with a second database.
func twoTemplates() map[string]string {
	all := maps.Clone(templates)
	all["mariadb"] = `Metadata: {Dhow: {Scope: active}}
Parameters:
  Application: {Type: String}
  Environment: {Type: String}
  MariadbInstanceClass: {Type: String, Default: db.m6g.xlarge}
  MultiAz: {Type: String, Default: 'true'}
Resources:
  Server:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: {DBInstanceIdentifier: !Sub '${Application}-${Environment}-mariadb', DBInstanceClass: !Ref MariadbInstanceClass, Engine: mariadb, AllocatedStorage: '100', MasterUsername: captain, ManageMasterUserPassword: true}
Outputs:
  MariadbArn: {Value: !GetAtt Server.DBInstanceArn}
`
	all["replica"] = `Metadata: {Dhow: {Scope: dr}}
Parameters:
  Application: {Type: String}
  Environment: {Type: String}
  MainPostgresqlArn: {Type: String}
  MainMariadbArn: {Type: String}
Resources:
  Postgresql:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: {DBInstanceIdentifier: !Sub '${Application}-${Environment}-postgresql', DBInstanceClass: db.m6g.large, SourceDBInstanceIdentifier: !Ref MainPostgresqlArn}
  Mariadb:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: {DBInstanceIdentifier: !Sub '${Application}-${Environment}-mariadb', DBInstanceClass: db.m6g.large, SourceDBInstanceIdentifier: !Ref MainMariadbArn}
`
	return all
}

// skyOf is a sky of its own.
func skyOf(t *testing.T) *sky {
	t.Helper()
	dir := quickDir(t)
	return newSky(graphOf(t, twoTemplates()), dir)
}

// quickDir is a folder that writes to no disk where there is such a one: each step is kept,
// and these tests take tens of thousands. It has to be the test's first.
func quickDir(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/shm"); err == nil {
		t.Setenv("TMPDIR", "/dev/shm")
	}
	return t.TempDir()
}

func newSky(graph *landing.Graph, dir string) *sky {
	s := &sky{graph: graph, dir: dir, clock: time.Now(), strikes: -1, stacks: map[string]*landing.Standing{}, main: map[string]*server{}, dr: map[string]*server{}, groups: map[string]bool{}, excused: map[string]bool{}}
	for _, one := range graph.Stacks {
		standing := &landing.Standing{Status: "CREATE_COMPLETE", Settled: true, Parameters: map[string]string{}, Outputs: map[string]string{}}
		for _, in := range one.Inputs {
			standing.Parameters[in.Parameter] = in.Value
		}
		s.stacks[one.ID] = standing
	}
	s.stacks["dr/dr"].Resources = []landing.StandingResource{{ID: "Vault", Type: typeVault, Physical: "bank-dr-copies"}}
	for parameter, engine := range map[string]string{"MainPostgresqlArn": "postgresql", "MainMariadbArn": "mariadb"} {
		name := "bank-main-" + engine
		s.stacks["dr/replica"].Parameters[parameter] = arnOf(name)
		s.stacks["dr/replica"].Resources = append(s.stacks["dr/replica"].Resources, landing.StandingResource{ID: engine, Type: typeDatabase, Physical: "bank-dr-" + engine})
		s.main[name] = &server{name: name, class: "db.m6g.xlarge", standby: true, groups: []string{ownGroup}, connected: true}
		s.dr[name] = &server{name: "bank-dr-" + engine, class: "db.m6g.large"}
	}
	s.remake()
	return s
}

func arnOf(name string) string { return "arn:aws:rds:" + mainRegion + ":444444444444:db:" + name }

// remake makes dr's databases replicas again, as people do after a way back.
func (s *sky) remake() {
	for name, r := range s.dr {
		s.dr[name] = &server{name: r.name, class: "db.m6g.large", source: arnOf(name), groups: []string{ownGroup}, connected: true, upto: s.clock}
	}
}

// open is a new process with the state that others have left.
func (s *sky) open() (*DR, error) {
	d, err := New(Options{Graph: s.graph, State: s.dir, AWS: aws.Config{Region: drRegion}, Poll: time.Microsecond, Clients: func(c aws.Config) Clients {
		at := &spot{s, c.Region}
		return Clients{Databases: at, Metrics: at, Vaults: at, Groups: at}
	}})
	if err == nil {
		d.stacks = s
		d.answered = func(middleware.Metadata) time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.clock
		}
		d.waiting = func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tired, s.tiredAt = cancel, s.calls+patience
			return ctx, cancel
		}
	}
	return d, err
}

// run is a command of a process of its own, which a fate strikes at a call; -1 strikes none.
func (s *sky) run(ctx context.Context, at int, what fate, command func(context.Context, *DR) error) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.calls, s.strikes, s.fate, s.struck, s.tired = 0, at, what, false, nil
	u := d.state.unfinished()
	s.accepts = s.accepts || u != nil && u.Kind == KindFailover && u.Loss != "" // for the whole run
	s.mu.Unlock()
	err = command(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strikes, s.accepts = -1, false
	if !s.dead {
		return err
	}
	// What the process did after its death, it did not do.
	s.dead = false
	file := filepath.Join(s.dir, stateFile)
	if s.frozen == nil {
		return errors.Join(errKilled, os.RemoveAll(file))
	}
	return errors.Join(errKilled, os.WriteFile(file, s.frozen, 0o600))
}

// note notes what must never be.
func (s *sky) note(format string, args ...any) {
	if len(s.wrong) < 10 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// takesWrites says whether the application can write: by new connections or by old ones.
func (v *server) takesWrites() bool {
	return v.source == "" && (v.connected || slices.Contains(v.groups, ownGroup) || slices.Contains(v.before, ownGroup))
}

// pass lets a moment pass: what was asked for comes about, main's application writes,
// replicas follow.
func (s *sky) pass() {
	s.clock = s.clock.Add(tick)
	for name, m := range s.main {
		s.settle(m)
		if m.takesWrites() {
			m.written = append(m.written, s.clock)
		} else {
			delete(s.excused, name)
		}
		r := s.dr[name]
		s.settle(r)
		if r.source != "" && !s.gone && r.stalled == 0 {
			r.upto = s.clock.Add(-slow)
		}
		if m.takesWrites() && r.takesWrites() && !s.excused[name] {
			s.note("both sides of %s take writes", name)
		}
	}
}

func (s *sky) settle(v *server) {
	due := func(at *time.Time) bool {
		if at.IsZero() || at.After(s.clock) {
			return false
		}
		*at = time.Time{}
		return true
	}
	if due(&v.busyUntil) {
		v.busy = ""
	}
	if due(&v.groupsAt) {
		v.before = nil
		v.connected = v.connected || slices.Contains(v.groups, ownGroup)
	}
	if due(&v.downAt) {
		s.keep(v, rebooting)
	}
	if due(&v.restartAt) {
		v.connected = slices.Contains(v.groups, ownGroup)
		v.restarts = append(v.restarts, s.clock)
	}
	if due(&v.promoteAt) {
		v.source = ""
	}
}

// keep makes a server busy for a while.
func (s *sky) keep(v *server, with string) {
	v.busy, v.busyUntil = with, s.clock.Add(slow)
}

// call makes a call, as its fate has it.
func (s *sky) call(ctx context.Context, region, name string, changes bool, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.pass()
	what := granted
	if s.calls == s.strikes {
		what, s.struck = s.fate, true
	}
	s.calls++
	if s.tired != nil && s.calls == s.tiredAt {
		s.tired()
	}
	if what == silence {
		s.gone = true
	}
	if region == mainRegion {
		if s.drill {
			s.note("a drill asks main: %s", name)
		}
		if s.gone {
			return unsent
		}
	}
	switch what {
	case lost:
		return unsent
	case killed:
		return s.kill()
	}
	err := do()
	if changes && s.drill && region == mainRegion {
		s.note("a drill changes main: %s", name)
	}
	switch what {
	case unheard:
		return unsent
	case killedAfter:
		return s.kill()
	}
	return err
}

// kill ends the process: nothing that it writes from here on is kept.
func (s *sky) kill() error {
	s.dead = true
	var err error
	if s.frozen, err = os.ReadFile(filepath.Join(s.dir, stateFile)); err != nil {
		s.frozen = nil
	}
	return errKilled
}

// The stacks.

func (s *sky) Config(_ context.Context, one *landing.Stack) (aws.Config, error) {
	return aws.Config{Region: one.Region}, nil
}

func (s *sky) Standing(ctx context.Context, one *landing.Stack) (*landing.Standing, error) {
	var standing landing.Standing
	err := s.call(ctx, one.Region, "standing "+one.ID, false, func() error {
		standing = *s.stacks[one.ID]
		standing.Parameters = maps.Clone(standing.Parameters)
		return nil
	})
	return &standing, err
}

func (s *sky) Try(ctx context.Context, one *landing.Stack, _ map[string]string) ([]landing.Change, error) {
	return []landing.Change{{Action: "modify", Resource: "SwitchCheck", Type: "AWS::Route53::HealthCheck", Replacement: "false"}},
		s.call(ctx, one.Region, "try "+one.ID, true, func() error { return nil })
}

func (s *sky) Set(ctx context.Context, one *landing.Stack, values map[string]string) (landing.Result, error) {
	return landing.Result{Stack: one.ID}, s.call(ctx, one.Region, "set "+one.ID, true, func() error {
		if v, ok := values[evacuated]; ok && s.drill && v == "true" {
			s.note("a drill turns users over")
		}
		maps.Copy(s.stacks[one.ID].Parameters, values)
		return nil
	})
}

// spot is a region of the sky.
type spot struct {
	*sky
	region string
}

// server is a database of the region; nil where there is none.
func (p *spot) server(name *string) *server {
	for main, v := range p.main {
		if p.region == mainRegion && main == aws.ToString(name) {
			return v
		}
		if r := p.dr[main]; p.region == drRegion && r.name == aws.ToString(name) {
			return r
		}
	}
	return nil
}

// change changes a database that is there and not busy.
func (p *spot) change(ctx context.Context, what string, name *string, do func(*server)) error {
	return p.call(ctx, p.region, what, true, func() error {
		switch v := p.server(name); {
		case v == nil:
			return &rdstypes.DBInstanceNotFoundFault{}
		case v.busy != "":
			return &rdstypes.InvalidDBInstanceStateFault{}
		default:
			do(v)
			return nil
		}
	})
}

func (p *spot) DescribeDBInstances(ctx context.Context, in *rds.DescribeDBInstancesInput, _ ...func(*rds.Options)) (*rds.DescribeDBInstancesOutput, error) {
	out := &rds.DescribeDBInstancesOutput{}
	err := p.call(ctx, p.region, "describe "+*in.DBInstanceIdentifier, false, func() error {
		v := p.server(in.DBInstanceIdentifier)
		if v == nil {
			return &rdstypes.DBInstanceNotFoundFault{}
		}
		i := rdstypes.DBInstance{DBInstanceIdentifier: aws.String(v.name), DBInstanceStatus: aws.String(available), DBInstanceClass: aws.String(v.class), MultiAZ: aws.Bool(v.standby), BackupRetentionPeriod: aws.Int32(7),
			DBSubnetGroup: &rdstypes.DBSubnetGroup{VpcId: aws.String("vpc-1")}}
		if v.busy != "" {
			i.DBInstanceStatus = aws.String(v.busy)
		}
		if v.source != "" {
			i.ReadReplicaSourceDBInstanceIdentifier = aws.String(v.source)
		}
		state := "active"
		if v.before != nil {
			state = "adding"
		}
		for _, g := range v.groups {
			i.VpcSecurityGroups = append(i.VpcSecurityGroups, rdstypes.VpcSecurityGroupMembership{VpcSecurityGroupId: aws.String(g), Status: aws.String(state)})
		}
		for _, g := range v.before {
			if !slices.Contains(v.groups, g) {
				i.VpcSecurityGroups = append(i.VpcSecurityGroups, rdstypes.VpcSecurityGroupMembership{VpcSecurityGroupId: aws.String(g), Status: aws.String("removing")})
			}
		}
		out.DBInstances = []rdstypes.DBInstance{i}
		return nil
	})
	return out, err
}

func (p *spot) DescribeEvents(ctx context.Context, in *rds.DescribeEventsInput, _ ...func(*rds.Options)) (*rds.DescribeEventsOutput, error) {
	out := &rds.DescribeEventsOutput{}
	err := p.call(ctx, p.region, "events of "+*in.SourceIdentifier, false, func() error {
		for _, at := range p.server(in.SourceIdentifier).restarts {
			if p.mute {
				break
			}
			out.Events = append(out.Events, rdstypes.Event{Date: aws.Time(at), Message: aws.String("DB instance restarted")})
		}
		return nil
	})
	return out, err
}

func (p *spot) ModifyDBInstance(ctx context.Context, in *rds.ModifyDBInstanceInput, _ ...func(*rds.Options)) (*rds.ModifyDBInstanceOutput, error) {
	return &rds.ModifyDBInstanceOutput{}, p.change(ctx, "modify "+*in.DBInstanceIdentifier, in.DBInstanceIdentifier, func(v *server) {
		if len(in.VpcSecurityGroupIds) > 0 {
			v.before, v.groups, v.groupsAt = v.groups, slices.Clone(in.VpcSecurityGroupIds), p.clock.Add(slow)
			for name, r := range p.dr { // one that an earlier way back has left behind serves again
				if r == v && p.accepts && slices.Contains(v.groups, ownGroup) {
					p.excused[name] = true
				}
			}
			return
		}
		if in.DBInstanceClass != nil {
			v.class = *in.DBInstanceClass
		}
		v.standby = v.standby || aws.ToBool(in.MultiAZ)
		p.keep(v, "modifying")
	})
}

func (p *spot) RebootDBInstance(ctx context.Context, in *rds.RebootDBInstanceInput, _ ...func(*rds.Options)) (*rds.RebootDBInstanceOutput, error) {
	return &rds.RebootDBInstanceOutput{}, p.change(ctx, "reboot "+*in.DBInstanceIdentifier, in.DBInstanceIdentifier, func(v *server) {
		// Until then it serves as before, and for a while looks so too.
		v.restartAt, v.downAt = p.clock.Add(slow), p.clock.Add(2*tick)
		if r := p.dr[v.name]; r != nil {
			r.stalled = proofs
		}
	})
}

func (p *spot) PromoteReadReplica(ctx context.Context, in *rds.PromoteReadReplicaInput, _ ...func(*rds.Options)) (*rds.PromoteReadReplicaOutput, error) {
	return &rds.PromoteReadReplicaOutput{}, p.change(ctx, "promote "+*in.DBInstanceIdentifier, in.DBInstanceIdentifier, func(v *server) {
		if v.source == "" {
			return
		}
		p.keep(v, "modifying")
		v.promoteAt = v.busyUntil
		for name, r := range p.dr {
			if r != v {
				continue
			}
			m := p.main[name]
			if p.drill {
				p.note("a drill promotes")
			}
			if p.accepts {
				p.excused[name] = true
				continue
			}
			if lacks := len(m.written) - r.got(m); lacks > 0 {
				p.note("%d acknowledged writes of %s are lost", lacks, name)
			}
		}
	})
}

// got is how many of main's writes a replica has.
func (v *server) got(m *server) int {
	n, _ := slices.BinarySearchFunc(m.written, v.upto, func(at, upto time.Time) int {
		if at.After(upto) {
			return 1
		}
		return -1
	})
	return n
}

func (p *spot) GetMetricData(ctx context.Context, in *cloudwatch.GetMetricDataInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error) {
	out := &cloudwatch.GetMetricDataOutput{}
	err := p.call(ctx, p.region, "lag", false, func() error {
		for _, q := range in.MetricDataQueries {
			replica := *q.MetricStat.Metric.Dimensions[0].Value
			for name, r := range p.dr {
				if r.name != replica {
					continue
				}
				r.points = append([]point{{p.clock, p.lagOf(p.main[name], r)}}, r.points...)
				result := cloudwatchtypes.MetricDataResult{Id: q.Id}
				for _, one := range r.points[:min(len(r.points), 10)] {
					result.Timestamps, result.Values = append(result.Timestamps, one.at), append(result.Values, one.lag.Seconds())
				}
				out.MetricDataResults = append(out.MetricDataResults, result)
			}
		}
		return nil
	})
	return out, err
}

// lagOf is what a replica tells of how far it is behind: one that has lost its connection
// does not know it for a while.
func (s *sky) lagOf(m, r *server) time.Duration {
	switch {
	case r.stalled > 1:
		r.stalled--
		return 0
	case r.stalled == 1:
		r.stalled--
		return -time.Second
	case s.gone:
		return -time.Second
	case r.got(m) == len(m.written):
		return 0
	}
	return s.clock.Sub(r.upto)
}

func (p *spot) ListRecoveryPointsByBackupVault(ctx context.Context, _ *backup.ListRecoveryPointsByBackupVaultInput, _ ...func(*backup.Options)) (*backup.ListRecoveryPointsByBackupVaultOutput, error) {
	return &backup.ListRecoveryPointsByBackupVaultOutput{}, p.call(ctx, p.region, "copies", false, func() error { return nil })
}

func (p *spot) DescribeStacks(ctx context.Context, in *cloudformation.DescribeStacksInput, _ ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	out := &cloudformation.DescribeStacksOutput{}
	err := p.call(ctx, p.region, "the lock's stack", false, func() error {
		if !p.groups[p.region] {
			return &smithy.GenericAPIError{Code: "ValidationError", Message: "Stack with id " + *in.StackName + " does not exist"}
		}
		out.Stacks = []cfntypes.Stack{{StackStatus: cfntypes.StackStatusCreateComplete, Outputs: []cfntypes.Output{{OutputKey: aws.String("LockedGroupId"), OutputValue: aws.String(lockedGroup)}}}}
		return nil
	})
	return out, err
}

func (p *spot) CreateStack(ctx context.Context, _ *cloudformation.CreateStackInput, _ ...func(*cloudformation.Options)) (*cloudformation.CreateStackOutput, error) {
	return &cloudformation.CreateStackOutput{}, p.call(ctx, p.region, "make the lock's stack", true, func() error {
		p.groups[p.region] = true
		return nil
	})
}

// turned says where users go.
func (s *sky) turned() bool { return s.stacks["dr/dr"].Parameters[evacuated] == "true" }

// serves checks that where users go is open, the other side closed, and dr at its floor
// while they go to main.
func (s *sky) serves(t reporter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 4 * slow / tick { // what is under way
		s.pass()
	}
	for name, m := range s.main {
		here, there := m, s.dr[name]
		if s.turned() {
			here, there = there, here
		}
		if !here.takesWrites() || there.takesWrites() {
			t.Errorf("users go to %s: %+v; on the other side is %+v", here.name, here, there)
		}
	}
	if tasks := s.stacks["dr/frontend-teller"].Parameters["LeastTasks"]; !s.turned() && tasks != "0" {
		t.Errorf("users go to main, and %s tasks are left in dr", tasks)
	}
}

// reporter is a test's, of either kind.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// mend ends what was begun: main answers, and nothing strikes any more.
func (s *sky) mend(ctx context.Context, t reporter) {
	t.Helper()
	s.gone = false
	var last error
	for range 6 {
		d, err := s.open()
		if err != nil {
			t.Errorf("open the state: %v", err)
			return
		}
		u := d.state.unfinished()
		if u == nil {
			last = nil
			break
		}
		if u.Kind == KindFailback {
			last = s.run(ctx, -1, granted, back)
		} else {
			last = s.run(ctx, -1, granted, over)
		}
	}
	d, err := s.open()
	if err != nil {
		t.Errorf("open the state: %v", err)
		return
	}
	for _, r := range d.state.Runs {
		if r.Kind == KindFailover && r.Outcome == OutcomeDone && r.Loss == "" && (r.RPO == nil || *r.RPO != 0) {
			t.Errorf("nobody has accepted that anything is lost by %+v", r)
		}
	}
	if last != nil {
		t.Errorf("what was begun does not end: %v", last)
	}
	if s.turned() {
		_ = s.run(ctx, -1, granted, over) // locks main where it was silent
	} else {
		_ = s.run(ctx, -1, granted, s.drilled) // puts back what one has left
	}
	s.serves(t)
	for _, w := range s.wrong {
		t.Errorf("%s", w)
	}
}

// The commands.

func over(ctx context.Context, d *DR) error {
	_, err := d.Failover(ctx, FailoverOptions{Reason: "a test"})
	return err
}

// accepted is a failover that may lose something.
func (s *sky) accepted(ctx context.Context, d *DR) error {
	s.accepts = true
	_, err := d.Failover(ctx, FailoverOptions{Reason: "a test", Loss: "a test"})
	return err
}

func back(ctx context.Context, d *DR) error {
	_, err := d.Failback(ctx, FailbackOptions{Moved: "by a test"})
	return err
}

func (s *sky) drilled(ctx context.Context, d *DR) error {
	s.drill = true
	defer func() { s.drill = false }()
	_, err := d.Drill(ctx)
	return err
}

func looked(ctx context.Context, d *DR) error {
	_, err := d.Status(ctx)
	return err
}
