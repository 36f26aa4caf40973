package dr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	backuptypes "github.com/aws/aws-sdk-go-v2/service/backup/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"dhow/internal/estate"
	"dhow/internal/landing"
)

const (
	typeDatabase = "AWS::RDS::DBInstance"
	typeVault    = "AWS::Backup::BackupVault"

	available = "available" // what RDS says of a database that works

	// lagWindow is how old what a replica told of its lag may be; lookBack is how far back it
	// is looked for what it had when it followed last.
	lagWindow = 10 * time.Minute
	lookBack  = 3 * time.Hour
	// lagPeriod is how often RDS tells it.
	lagPeriod = time.Minute
	// mostLag bounds what is believed of a lag, in seconds: thirty years.
	mostLag = 1e9
	// proofs is how many points in a row have to show that a replica has all: one that lost
	// its connection without a word shows no lag for up to a minute.
	proofs = 3
	// copyPages bounds how many pages of copies are read.
	copyPages = 50
)

// caches are the types of stores whose data no replica and no copy has.
var caches = []string{"AWS::ElastiCache::ReplicationGroup", "AWS::ElastiCache::ServerlessCache"}

// dead are the states of a database that serves nobody and does not come back by itself.
// In all others, such as a backup or a resize, it serves, or is about to.
var dead = []string{
	"deleting", "failed", "inaccessible-encryption-credentials", "inaccessible-encryption-credentials-recoverable",
	"incompatible-network", "incompatible-parameters", "incompatible-restore", "insufficient-capacity", "restore-error", "stopped", "storage-full",
}

// side is dr as it stands.
type side struct {
	clients Clients
	// stacks are those that stand, by id.
	stacks    map[string]*landing.Standing
	vault     string
	turned    bool
	databases []*database
	// caches are main's stacks with a cache.
	caches []*landing.Stack
}

// database is a database of main, and what there is of it in dr.
type database struct {
	// stack is main's.
	stack *landing.Stack
	// arn is main's database; empty where nobody knows it, for no replica is deployed.
	arn string
	// name is its identifier in main.
	name string
	// replica is the one that follows it, or that was raised; nil where there is none.
	replica *rdstypes.DBInstance
	// points are how far that is behind, the newest first, and asked is when they were asked
	// for, by AWS's clock.
	points []point
	asked  time.Time
	// copied is when the newest copy in the vault was made; zero where there is none.
	copied time.Time
}

// point is how far a replica was behind at most in the period that began at a time, by
// AWS's clock; below zero, it did not follow.
type point struct {
	at  time.Time
	lag time.Duration
}

// reached is the moment of main up to which the replica had all.
func (p point) reached() time.Time { return p.at.Add(-p.lag) }

// follows says that dr's database is a replica still.
func (b *database) follows() bool { return b.replica != nil && following(b.replica) }

// raised says that dr's database is a server of its own.
func (b *database) raised() bool { return b.replica != nil && !following(b.replica) }

// behind is how far the replica is behind; false where nobody knows.
func (b *database) behind() (time.Duration, bool) {
	if len(b.points) == 0 || b.points[0].lag < 0 || b.asked.Sub(b.points[0].at) > lagWindow {
		return 0, false
	}
	return b.points[0].lag, true
}

// lost is how much of main's last time the replica lacks at most, by what it told when it
// followed last; false where nobody knows.
func (b *database) lost() (time.Duration, bool) {
	for _, p := range b.points {
		if p.lag >= 0 {
			return max(0, b.asked.Sub(p.reached())), true
		}
	}
	return 0, false
}

// has says that the replica has shown that it has all that main had at a moment.
func (b *database) has(moment time.Time) bool {
	return len(b.points) >= proofs && !slices.ContainsFunc(b.points[:proofs], func(p point) bool { return p.lag < 0 || p.reached().Before(moment) })
}

func following(i *rdstypes.DBInstance) bool {
	return aws.ToString(i.ReadReplicaSourceDBInstanceIdentifier) != ""
}

// works says that a database serves, and can be changed. One that optimises its storage
// does so for hours, beside its work.
func works(i *rdstypes.DBInstance) bool {
	status := aws.ToString(i.DBInstanceStatus)
	return status == available || status == "storage-optimization"
}

// look reads dr's stacks, replicas and copies, and asks main nothing.
func (d *DR) look(ctx context.Context) (*side, error) {
	clients, err := d.at(ctx, d.turn)
	if err != nil {
		return nil, err
	}
	s := &side{clients: clients, stacks: map[string]*landing.Standing{}}
	for _, one := range d.dr {
		standing, err := d.stacks.Standing(ctx, one)
		if err != nil {
			return nil, err
		}
		if standing != nil {
			s.stacks[one.ID] = standing
		}
	}
	turn := s.stacks[d.turn.ID]
	if turn == nil {
		return nil, fmt.Errorf("the stack %s is not deployed in %s: run `dhow deploy --environment dr` first", d.turn.Name, d.turn.Region)
	}
	s.turned = turn.Parameters[evacuated] == "true"
	for _, r := range turn.Resources {
		if r.Type == typeVault {
			s.vault = r.Physical
		}
	}
	for _, one := range d.main {
		for _, r := range one.Holding() {
			switch {
			case r.Type == typeDatabase:
				s.databases = append(s.databases, &database{stack: one, arn: d.arnOf(s, one)})
			case slices.Contains(caches, r.Type):
				s.caches = append(s.caches, one)
			}
		}
	}
	if err := d.match(ctx, s); err != nil {
		return nil, err
	}
	if err := d.lags(ctx, s); err != nil {
		return nil, err
	}
	return s, copies(ctx, s)
}

// arnOf is the ARN of main's database, as the stacks of dr were told it.
func (d *DR) arnOf(s *side, main *landing.Stack) string {
	for _, one := range d.dr {
		standing := s.stacks[one.ID]
		if standing == nil {
			continue
		}
		for _, in := range one.Inputs {
			if v := standing.Parameters[in.Parameter]; in.Stack == main.ID && strings.HasPrefix(v, "arn:") && strings.Contains(v, ":rds:") {
				return v
			}
		}
	}
	return ""
}

// match finds what dr has of each database of main: the one that follows it, or else a
// server of its own whose name is the same but for the environment.
func (d *DR) match(ctx context.Context, s *side) error {
	var there []*rdstypes.DBInstance
	for _, one := range d.dr {
		standing := s.stacks[one.ID]
		if standing == nil {
			continue
		}
		for _, r := range standing.Resources {
			if r.Type != typeDatabase || r.Physical == "" {
				continue
			}
			instance, err := describeDatabase(ctx, s.clients.Databases, r.Physical)
			if err != nil {
				return err
			}
			if instance != nil {
				there = append(there, instance)
			}
		}
	}
	for _, b := range s.databases {
		b.name = d.o.Graph.Application + "-" + estate.EnvironmentMain + "-" + b.stack.Template
		if b.arn != "" {
			b.name = b.arn[strings.LastIndex(b.arn, ":")+1:]
		}
		own := slices.ContainsFunc(there, func(i *rdstypes.DBInstance) bool { return aws.ToString(i.DBInstanceIdentifier) == b.own() })
		if !own { // a copy that was restored by hand is of no stack
			instance, err := describeDatabase(ctx, s.clients.Databases, b.own())
			if err != nil {
				return err
			}
			if instance != nil {
				there = append(there, instance)
			}
		}
		for _, i := range there {
			if b.isFor(i) && (b.replica == nil || following(i)) {
				b.replica = i
			}
		}
	}
	return nil
}

// isFor says whether a database of dr is for this one of main.
func (b *database) isFor(i *rdstypes.DBInstance) bool {
	if following(i) && b.arn != "" {
		return aws.ToString(i.ReadReplicaSourceDBInstanceIdentifier) == b.arn
	}
	return aws.ToString(i.DBInstanceIdentifier) == b.own()
}

// own is the name that the database has in dr.
func (b *database) own() string {
	return strings.Replace(b.name, "-"+estate.EnvironmentMain+"-", "-"+estate.EnvironmentDR+"-", 1)
}

// describeDatabase is a database as it stands; nil where there is none.
func describeDatabase(ctx context.Context, c Databases, name string) (*rdstypes.DBInstance, error) {
	instance, _, err := describe(ctx, c, name)
	return instance, err
}

// describeAt is a database as it stood, and when that was.
func (d *DR) describeAt(ctx context.Context, c Databases, name string) (*rdstypes.DBInstance, time.Time, error) {
	instance, told, err := describe(ctx, c, name)
	return instance, d.answered(told), err
}

func describe(ctx context.Context, c Databases, name string) (*rdstypes.DBInstance, middleware.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := c.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String(name)})
	if isMissing(err) {
		return nil, middleware.Metadata{}, nil
	}
	if err != nil {
		return nil, middleware.Metadata{}, fmt.Errorf("ask for the database %s: %w", name, err)
	}
	if len(out.DBInstances) == 0 {
		return nil, out.ResultMetadata, nil
	}
	return &out.DBInstances[0], out.ResultMetadata, nil
}

// lags reads how far each replica is behind.
func (d *DR) lags(ctx context.Context, s *side) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	now := time.Now()
	in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-lookBack)), EndTime: aws.Time(now), ScanBy: cloudwatchtypes.ScanByTimestampDescending}
	of := map[string]*database{}
	for i, b := range s.databases {
		b.points = nil
		if !b.follows() {
			continue
		}
		id := fmt.Sprintf("lag%d", i)
		of[id] = b
		in.MetricDataQueries = append(in.MetricDataQueries, cloudwatchtypes.MetricDataQuery{Id: aws.String(id), MetricStat: &cloudwatchtypes.MetricStat{
			Period: aws.Int32(int32(lagPeriod / time.Second)), Stat: aws.String("Maximum"),
			Metric: &cloudwatchtypes.Metric{Namespace: aws.String("AWS/RDS"), MetricName: aws.String("ReplicaLag"),
				Dimensions: []cloudwatchtypes.Dimension{{Name: aws.String("DBInstanceIdentifier"), Value: b.replica.DBInstanceIdentifier}}}}})
	}
	if len(of) == 0 {
		return nil
	}
	out, err := s.clients.Metrics.GetMetricData(ctx, in)
	if err != nil {
		return fmt.Errorf("ask CloudWatch how far the replicas are behind: %w", err)
	}
	for _, r := range out.MetricDataResults {
		b := of[aws.ToString(r.Id)]
		if b == nil {
			continue
		}
		b.asked = d.answered(out.ResultMetadata)
		for i, at := range r.Timestamps {
			if i < len(r.Values) {
				b.points = append(b.points, point{at, time.Duration(min(r.Values[i], mostLag) * float64(time.Second))})
			}
		}
		slices.SortFunc(b.points, func(x, y point) int { return y.at.Compare(x.at) })
	}
	return nil
}

// copies reads when the newest copy of each database was made.
func copies(ctx context.Context, s *side) error {
	if s.vault == "" || len(s.databases) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	in := &backup.ListRecoveryPointsByBackupVaultInput{BackupVaultName: aws.String(s.vault)}
	for range copyPages {
		page, err := s.clients.Vaults.ListRecoveryPointsByBackupVault(ctx, in)
		if err != nil {
			return fmt.Errorf("ask for the copies in the vault %s: %w", s.vault, err)
		}
		for _, p := range page.RecoveryPoints {
			// What is in a copy is older than it is by as long as its backup and the copying took.
			at := aws.ToTime(p.CreationDate)
			if p.Status != backuptypes.RecoveryPointStatusCompleted {
				continue
			}
			for _, b := range s.databases {
				if strings.HasSuffix(aws.ToString(p.ResourceArn), ":db:"+b.name) && at.After(b.copied) {
					b.copied = at
				}
			}
		}
		if in.NextToken = page.NextToken; in.NextToken == nil {
			return nil
		}
	}
	return nil
}

// mainSide is whether main is there.
type mainSide struct {
	clients Clients
	// at is when it was asked last.
	at time.Time
	// answers says that main's region does; healthy that all of its databases work.
	answers, healthy bool
	// text says what is known, for people.
	text string
	// instances are main's databases that are there, by their names.
	instances map[string]*rdstypes.DBInstance
}

// lookAtMain asks main's region, for a while, whether its databases work. Only a main
// that nobody hears of, or whose service says itself that it is broken, does not answer;
// one that refuses to be asked is an error, and so is a network of our own that is gone.
func (d *DR) lookAtMain(ctx context.Context, s *side) (*mainSide, error) {
	// Who we are there is lent by dr's region: that it is not says nothing of main.
	config, err := d.stacks.Config(ctx, d.mainStack())
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, mainTime)
	defer cancel()
	if config.Credentials != nil {
		if _, err := config.Credentials.Retrieve(asking); err != nil {
			return nil, fmt.Errorf("main can not be asked whether it is there: %w", err)
		}
	}
	m := &mainSide{clients: d.o.Clients(config), instances: map[string]*rdstypes.DBInstance{}}
	config.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = mainTries })
	}
	ill, err := d.ask(asking, d.o.Clients(config), m, s)
	region := d.mainStack().Region
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !silent(err):
		return nil, fmt.Errorf("main can not be asked whether it is there: %w: mend that first, for a main that refuses is not gone", err)
	default:
		if _, elsewhere := d.stacks.Standing(ctx, d.turn); elsewhere != nil {
			return nil, fmt.Errorf("neither %s nor %s answers, so the fault may be here: %w", region, d.turn.Region, elsewhere)
		}
		m.at, m.text = time.Now(), fmt.Sprintf("%s does not answer: %v", region, err)
		return m, nil
	}
	m.at, m.answers, m.healthy = time.Now(), true, len(ill) == 0
	m.text = region + " answers, and all databases work"
	if len(ill) > 0 {
		m.text = region + " answers: " + list(ill)
	}
	return m, nil
}

// ask finds main's databases, and says what is wrong with them.
func (d *DR) ask(ctx context.Context, c Clients, m *mainSide, s *side) (ill []string, err error) {
	for _, b := range s.databases {
		instance, err := describeDatabase(ctx, c.Databases, b.name)
		if err != nil {
			return nil, err
		}
		if instance == nil {
			ill = append(ill, b.name+" is not there")
			continue
		}
		m.instances[b.name] = instance
		if isDead(instance) {
			ill = append(ill, b.name+" is "+aws.ToString(instance.DBInstanceStatus))
		}
	}
	if len(s.databases) > 0 {
		return ill, nil
	}
	standing, err := d.stacks.Standing(ctx, d.mainStack())
	if err == nil && standing == nil {
		ill = append(ill, "the stack "+d.mainStack().Name+" is not there")
	}
	return ill, err
}

func isDead(i *rdstypes.DBInstance) bool {
	return slices.Contains(dead, aws.ToString(i.DBInstanceStatus))
}

// silent says of an error that nobody answered, or only that the service is broken.
func silent(err error) bool {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 { // 0 is that of none
		return answer.HTTPStatusCode() >= http.StatusInternalServerError
	}
	var unsent *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(err, &unsent) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded)
}

// await looks at a database until a condition holds.
func (d *DR) await(ctx context.Context, c Databases, name, what string, holds func(*rdstypes.DBInstance) bool) error {
	waiting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for {
		instance, err := describeDatabase(waiting, c, name)
		if err != nil {
			return err
		}
		if instance == nil {
			return fmt.Errorf("the database %s is gone", name)
		}
		if holds(instance) {
			return nil
		}
		if err := d.pause(waiting); err != nil {
			return tooLong(ctx, err, fmt.Sprintf("the database %s, which is %s, to be %s", name, aws.ToString(instance.DBInstanceStatus), what))
		}
	}
}

// insist asks for a change of a database, again and again as long as it is at something
// else.
func (d *DR) insist(ctx context.Context, what string, change func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for {
		call, done := context.WithTimeout(waiting, callTime)
		err := change(call)
		done()
		if err == nil {
			return nil
		}
		if !isBusy(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if paused := d.pause(waiting); paused != nil {
			return tooLong(ctx, paused, fmt.Sprintf("a moment to %s (%v)", what, err))
		}
	}
}

// tooLong is the error of a wait that was ended, by ctx or by its own bound.
func tooLong(ctx context.Context, err error, what string) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("waited %s for %s: look at its events in RDS, then run it again to go on", changeTime, what)
	}
	return fmt.Errorf("wait for %s: %w", what, err)
}
