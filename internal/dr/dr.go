// Package dr is for the day that main's region is gone: what would be lost and how long
// it would take, the drill that measures it, the way over to the region for disaster
// recovery and the way back. The landing zone's stacks are its only inventory; it reads
// them in dr's region, and needs main's for nothing but to lock it, where it answers.
// It moves no data: what dr's databases got while they served is brought back by movers.
package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"dhow/internal/estate"
	"dhow/internal/landing"
)

const (
	// DefaultPoll is the pause between two looks at a database that is being changed: RDS
	// works in minutes, and a metric has a point each minute.
	DefaultPoll = 10 * time.Second
	// DefaultWait bounds the wait for replicas to have all of a main that is locked. A
	// replica of PostgreSQL that gets nothing to do shows so after five minutes.
	DefaultWait = 15 * time.Minute
	// callTime bounds one call, with the tries that the SDK makes.
	callTime = 2 * time.Minute
	// mainTime bounds how long main is asked whether it is there: a region that is gone
	// does not refuse, it is silent.
	mainTime = 45 * time.Second
	// mainTries is how often each of those calls is tried: a main that says to slow down
	// answers, and must not seem silent for it.
	mainTries = 3
	// mainFresh is how long what main said of itself, or did not say, holds.
	mainFresh = 10 * time.Second
	// changeTime bounds the wait for a database that is rebooted, promoted or resized.
	changeTime = time.Hour
	// undoTime bounds how long what was begun is put back after an interrupt.
	undoTime = 30 * time.Minute
)

// The clients of AWS, by what is called of each.
type (
	// Databases is RDS in one region. None of its changes may be lost to a crash: each is
	// looked for before it is asked for again.
	Databases interface {
		DescribeEvents(context.Context, *rds.DescribeEventsInput, ...func(*rds.Options)) (*rds.DescribeEventsOutput, error)
		DescribeDBInstances(context.Context, *rds.DescribeDBInstancesInput, ...func(*rds.Options)) (*rds.DescribeDBInstancesOutput, error)
		ModifyDBInstance(context.Context, *rds.ModifyDBInstanceInput, ...func(*rds.Options)) (*rds.ModifyDBInstanceOutput, error)
		RebootDBInstance(context.Context, *rds.RebootDBInstanceInput, ...func(*rds.Options)) (*rds.RebootDBInstanceOutput, error)
		PromoteReadReplica(context.Context, *rds.PromoteReadReplicaInput, ...func(*rds.Options)) (*rds.PromoteReadReplicaOutput, error)
	}
	// Metrics is CloudWatch.
	Metrics interface {
		GetMetricData(context.Context, *cloudwatch.GetMetricDataInput, ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error)
	}
	// Vaults is AWS Backup.
	Vaults interface {
		ListRecoveryPointsByBackupVault(context.Context, *backup.ListRecoveryPointsByBackupVaultInput, ...func(*backup.Options)) (*backup.ListRecoveryPointsByBackupVaultOutput, error)
	}
	// Groups is CloudFormation, which makes the security groups that lock databases.
	Groups interface {
		DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
		CreateStack(context.Context, *cloudformation.CreateStackInput, ...func(*cloudformation.Options)) (*cloudformation.CreateStackOutput, error)
	}
)

// Clients are those of one account and region.
type Clients struct {
	Databases Databases
	Metrics   Metrics
	Vaults    Vaults
	Groups    Groups
}

// NewClients are AWS's own.
func NewClients(c aws.Config) Clients {
	return Clients{Databases: rds.NewFromConfig(c), Metrics: cloudwatch.NewFromConfig(c), Vaults: backup.NewFromConfig(c), Groups: cloudformation.NewFromConfig(c)}
}

// Options are what a DR works with.
type Options struct {
	Graph *landing.Graph
	// State is the estate's folder of state, in which drills and runs are kept.
	State string
	// AWS has the caller's credentials and, where they are others than AWS's own, the endpoints.
	AWS aws.Config
	// ExternalID is sent when a role is assumed; empty sends none.
	ExternalID string
	// Poll is the pause between two looks; 0 is DefaultPoll.
	Poll time.Duration
	// Wait bounds the wait for replicas to catch up; 0 is DefaultWait.
	Wait time.Duration
	// Clients makes the clients of a place; nil is NewClients.
	Clients func(aws.Config) Clients
	// Report is told of each step as it ends; nil tells nobody.
	Report func(Timing)
	// Stacks is told what happens to stacks, one call at a time; nil tells nobody.
	Stacks func(landing.Event)
}

// stacks are the landing zone's as they stand: its deployer knows them.
type stacks interface {
	Config(context.Context, *landing.Stack) (aws.Config, error)
	Standing(context.Context, *landing.Stack) (*landing.Standing, error)
	Try(context.Context, *landing.Stack, map[string]string) ([]landing.Change, error)
	Set(context.Context, *landing.Stack, map[string]string) (landing.Result, error)
}

// DR is the two sides of an application. One process works with a State at a time; the
// caller sees to it.
type DR struct {
	o      Options
	stacks stacks
	// turn is the stack with the switch, and with the vault of copies.
	turn *landing.Stack
	// main and dr are the stacks of either side.
	main, dr []*landing.Stack
	state    *state
	// answered is when AWS gave an answer, by AWS's clock.
	answered func(middleware.Metadata) time.Time
	// waiting bounds the wait for replicas to catch up.
	waiting func(context.Context) (context.Context, context.CancelFunc)
}

// turnTemplate is the template with the switch, and evacuated its parameter.
const (
	turnTemplate = "dr"
	evacuated    = "Evacuated"
)

// New reads what earlier runs have kept; it calls nothing.
func New(o Options) (*DR, error) {
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Clients == nil {
		o.Clients = NewClients
	}
	d := &DR{o: o, answered: answered, turn: o.Graph.Stack(estate.EnvironmentDR + "/" + turnTemplate)}
	if d.turn == nil {
		return nil, errors.New("the estate has no region to fall back to: add the environment dr under landing.environments, and leave the template dr in")
	}
	if d.turn.Number == "" {
		return nil, fmt.Errorf("the number of the account %s is not in the estate: what tells it stands in a region that may be gone: add it under landing.accounts", d.turn.Account)
	}
	for _, s := range o.Graph.Stacks {
		switch s.Environment {
		case estate.EnvironmentMain:
			d.main = append(d.main, s)
		case estate.EnvironmentDR:
			d.dr = append(d.dr, s)
		}
	}
	d.waiting = func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, d.o.Wait)
	}
	if len(d.main) == 0 {
		return nil, errors.New("the estate has nothing to fall back from: add the environment main under landing.environments")
	}
	// Who we are is asked in dr's region: main's, which may be the landing zone's home, may be gone.
	d.stacks = landing.NewDeployer(landing.DeployerOptions{Graph: o.Graph, AWS: o.AWS, ExternalID: o.ExternalID, From: d.turn.Region, Poll: min(o.Poll, landing.DefaultPoll), Report: o.Stacks})
	var err error
	if d.state, err = openState(o.State); err != nil {
		return nil, err
	}
	return d, nil
}

// at are the clients of a stack's account and region.
func (d *DR) at(ctx context.Context, s *landing.Stack) (Clients, error) {
	config, err := d.stacks.Config(ctx, s)
	if err != nil {
		return Clients{}, err
	}
	return d.o.Clients(config), nil
}

// mainStack is any stack of main, which stands for its account and region.
func (d *DR) mainStack() *landing.Stack { return d.main[0] }

// pause waits for the next look.
func (d *DR) pause(ctx context.Context) error {
	t := time.NewTimer(d.o.Poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// answered is the time that stands in an answer, in whole seconds; one without has that of
// this machine.
func answered(m middleware.Metadata) time.Time {
	if at, ok := awsmiddleware.GetServerTime(m); ok {
		return at
	}
	return time.Now()
}

// codeOf is the code of AWS's error; empty for another.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// isMissing says that there is no such database, and isBusy that it can not be changed now.
func isMissing(err error) bool { return strings.HasPrefix(codeOf(err), "DBInstanceNotFound") }
func isBusy(err error) bool    { return strings.HasPrefix(codeOf(err), "InvalidDBInstanceState") }
