package dr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	backuptypes "github.com/aws/aws-sdk-go-v2/service/backup/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/landing/double"
	"dhow/internal/region"
)

const mainRegion, drRegion = "eu-central-1", "eu-west-1"

const estateText = `name: bank
landing:
  accounts: {management: "111111111111", security: "222222222222", nonproduction: "333333333333", production: "444444444444"}
  regions: {main: eu-central-1, dr: eu-west-1}
  environments:
    - {name: main, network: 10.18.0.0/16}
    - {name: dr, network: 10.19.0.0/16}
  services:
    - {name: teller, template: frontend}
  role: {name: dhow-deploy}
`

// templates are as little of dhow's own as shows each part.
var templates = map[string]string{
	"postgresql": `Metadata: {Dhow: {Scope: active}}
Parameters:
  Application: {Type: String}
  Environment: {Type: String}
  PostgresqlInstanceClass: {Type: String, Default: db.m6g.xlarge}
  MultiAz: {Type: String, Default: 'true'}
Resources:
  Server:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: {DBInstanceIdentifier: !Sub '${Application}-${Environment}-postgresql', DBInstanceClass: !Ref PostgresqlInstanceClass, Engine: postgres, AllocatedStorage: '100', MasterUsername: captain, ManageMasterUserPassword: true}
Outputs:
  PostgresqlArn: {Value: !GetAtt Server.DBInstanceArn}
`,
	"replica": `Metadata: {Dhow: {Scope: dr}}
Parameters:
  Application: {Type: String}
  Environment: {Type: String}
  MainPostgresqlArn: {Type: String}
Resources:
  Replica:
    Type: AWS::RDS::DBInstance
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties: {DBInstanceIdentifier: !Sub '${Application}-${Environment}-postgresql', DBInstanceClass: db.m6g.large, SourceDBInstanceIdentifier: !Ref MainPostgresqlArn}
`,
	"frontend": `Metadata: {Dhow: {Scope: service}}
Parameters:
  Environment: {Type: String}
  LeastTasks: {Type: Number, Default: 0}
Resources:
  Floor:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Value: !Ref LeastTasks}
`,
	"dr": `Metadata: {Dhow: {Scope: dr}}
Parameters:
  Application: {Type: String}
  Environment: {Type: String}
  Evacuated: {Type: String, Default: 'false', AllowedValues: ['true', 'false']}
Conditions:
  TurnedOver: !Equals [!Ref Evacuated, 'true']
Resources:
  Vault:
    Type: AWS::Backup::BackupVault
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties: {BackupVaultName: !Sub '${Application}-${Environment}-copies'}
  SwitchCheck:
    Type: AWS::Route53::HealthCheck
    Properties:
      HealthCheckConfig: {Type: HTTPS, FullyQualifiedDomainName: bank.example, Inverted: !If [TurnedOver, true, false]}
`,
}

// graphOf is the graph of the tests' estate and of templates.
func graphOf(t testing.TB, templates map[string]string) *landing.Graph {
	t.Helper()
	library := landing.Library{}
	for name, text := range templates {
		one, err := landing.Parse(name, []byte("AWSTemplateFormatVersion: '2010-09-09'\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		library[name] = one
	}
	file := filepath.Join(t.TempDir(), estate.FileName)
	if err := os.WriteFile(file, []byte(estateText), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := estate.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	regions, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	g, err := landing.New(landing.Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// world is AWS: CloudFormation's double, and the other services as far as they are called.
type world struct {
	double *double.Double
	graph  *landing.Graph
	aws    aws.Config
	state  string

	mu sync.Mutex
	// servers are the databases of each region, by name.
	servers map[string]map[string]*rdstypes.DBInstance
	// gone says that main's region is silent.
	gone bool
	lag  float64
	// asked are when the lag was asked for, restarted when a database was last rebooted.
	asked     []time.Time
	restarted map[string]time.Time
	copied    time.Time
	// calls are those that change something; asksOfMain all that main's region got, changes or not.
	calls, asksOfMain []string
}

// listener notes what is asked of main's region over the wire.
type listener struct {
	*world
	to http.RoundTripper
}

func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	// A request is signed for its region and service: Credential=KEY/DAY/REGION/SERVICE/aws4_request.
	scope := strings.Split(r.Header.Get("Authorization"), "/")
	if len(scope) < 5 {
		return nil, fmt.Errorf("a request that is not signed: %s", r.URL)
	}
	if scope[2] == mainRegion {
		text, err := io.ReadAll(r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(text))
		form, err := url.ParseQuery(string(text))
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.asksOfMain = append(l.asksOfMain, scope[3]+" "+form.Get("Action"))
		l.mu.Unlock()
	}
	return l.to.RoundTrip(r)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("AWS's resource schemas are read and stacks deployed: left out under testing.Short")
	}
	schemas, err := double.OpenSchemas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{graph: graphOf(t, templates), state: t.TempDir(), lag: 2, copied: time.Now().Add(-5 * time.Hour), restarted: map[string]time.Time{}, servers: map[string]map[string]*rdstypes.DBInstance{mainRegion: {}, drRegion: {}}}
	accounts := []double.Account{{ID: "111111111111", Regions: []string{mainRegion, drRegion}, Keys: []double.Key{{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "nobodys", User: "operator"}}},
		{ID: "444444444444", Regions: []string{mainRegion, drRegion}, Roles: []double.Role{{Name: "dhow-deploy"}}}}
	if w.double, err = double.New(double.Options{Accounts: accounts, Schemas: schemas, Speed: math.Inf(1)}); err != nil {
		t.Fatal(err)
	}
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.double.Serve(ctx, local) }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := errors.Join(<-served, w.double.Close()); err != nil {
			t.Error(err)
		}
	})
	w.aws = aws.Config{Region: mainRegion, BaseEndpoint: aws.String("http://" + local.Addr().String()), HTTPClient: &http.Client{Transport: &listener{w, transport}},
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "nobodys", "")}
	deployer := landing.NewDeployer(landing.DeployerOptions{Graph: w.graph, AWS: w.aws, Poll: time.Millisecond})
	if _, err := deployer.Apply(t.Context(), w.graph.Stacks); err != nil {
		t.Fatal(err)
	}
	arn := ""
	for id, s := range map[string]string{"main/postgresql": mainRegion, "dr/replica": drRegion} {
		standing, err := deployer.Standing(t.Context(), w.graph.Stack(id))
		if err != nil || standing == nil {
			t.Fatalf("%s: %v, %v", id, standing, err)
		}
		if id == "main/postgresql" {
			arn = standing.Outputs["PostgresqlArn"]
		}
		name, class := "bank-main-postgresql", "db.m6g.xlarge"
		if s == drRegion {
			name, class = "bank-dr-postgresql", "db.m6g.large"
		}
		w.servers[s][name] = &rdstypes.DBInstance{DBInstanceIdentifier: aws.String(name), DBInstanceStatus: aws.String(available), DBInstanceClass: aws.String(class), MultiAZ: aws.Bool(s == mainRegion), BackupRetentionPeriod: aws.Int32(7),
			DBSubnetGroup: &rdstypes.DBSubnetGroup{VpcId: aws.String("vpc-0123456789abcdef0")}, VpcSecurityGroups: []rdstypes.VpcSecurityGroupMembership{{VpcSecurityGroupId: aws.String("sg-own"), Status: aws.String("active")}}}
	}
	w.servers[drRegion]["bank-dr-postgresql"].ReadReplicaSourceDBInstanceIdentifier = aws.String(arn)
	return w
}

// open is a new process with the state that others have left.
func (w *world) open(t testing.TB) *DR {
	t.Helper()
	d, err := New(Options{Graph: w.graph, State: w.state, AWS: w.aws, Poll: time.Millisecond, Wait: time.Minute, Clients: func(c aws.Config) Clients {
		at := &place{w, c.Region}
		return Clients{Databases: at, Metrics: at, Vaults: at, Groups: cloudformation.NewFromConfig(c)}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// place is a region of the world.
type place struct {
	*world
	region string
}

// call notes a call, by its name where it changes something.
func (p *place) call(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.region == mainRegion {
		p.asksOfMain = append(p.asksOfMain, "rds "+name)
	}
	if p.gone && p.region == mainRegion {
		return unsent
	}
	if name == "" {
		return nil
	}
	p.calls = append(p.calls, p.region+" "+name)
	return nil
}

func (p *place) DescribeDBInstances(ctx context.Context, in *rds.DescribeDBInstancesInput, _ ...func(*rds.Options)) (*rds.DescribeDBInstancesOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, ""); err != nil {
		return nil, err
	}
	one := p.servers[p.region][*in.DBInstanceIdentifier]
	if one == nil {
		return nil, &rdstypes.DBInstanceNotFoundFault{}
	}
	shown := *one
	if aws.ToString(one.DBInstanceStatus) != available { // what was begun is done at the next look
		one.DBInstanceStatus = aws.String(available)
		for i := range one.VpcSecurityGroups {
			one.VpcSecurityGroups[i].Status = aws.String("active")
		}
	}
	shown.VpcSecurityGroups = slices.Clone(one.VpcSecurityGroups)
	return &rds.DescribeDBInstancesOutput{DBInstances: []rdstypes.DBInstance{shown}}, nil
}

func (p *place) ModifyDBInstance(ctx context.Context, in *rds.ModifyDBInstanceInput, _ ...func(*rds.Options)) (*rds.ModifyDBInstanceOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := "resize"
	if len(in.VpcSecurityGroupIds) > 0 {
		what = "lock"
		if in.VpcSecurityGroupIds[0] == "sg-own" {
			what = "open"
		}
	}
	if err := p.call(ctx, what); err != nil {
		return nil, err
	}
	one := p.servers[p.region][*in.DBInstanceIdentifier]
	if aws.ToString(one.DBInstanceStatus) != available {
		return nil, &rdstypes.InvalidDBInstanceStateFault{}
	}
	one.DBInstanceStatus = aws.String("modifying")
	if len(in.VpcSecurityGroupIds) > 0 {
		one.VpcSecurityGroups = nil
		for _, id := range in.VpcSecurityGroupIds {
			one.VpcSecurityGroups = append(one.VpcSecurityGroups, rdstypes.VpcSecurityGroupMembership{VpcSecurityGroupId: aws.String(id), Status: aws.String("adding")})
		}
	}
	if in.DBInstanceClass != nil {
		one.DBInstanceClass = in.DBInstanceClass
	}
	if in.MultiAZ != nil {
		one.MultiAZ = in.MultiAZ
	}
	return &rds.ModifyDBInstanceOutput{}, nil
}

func (p *place) RebootDBInstance(ctx context.Context, in *rds.RebootDBInstanceInput, _ ...func(*rds.Options)) (*rds.RebootDBInstanceOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, "reboot"); err != nil {
		return nil, err
	}
	p.servers[p.region][*in.DBInstanceIdentifier].DBInstanceStatus = aws.String("rebooting")
	p.restarted[*in.DBInstanceIdentifier] = time.Now()
	return &rds.RebootDBInstanceOutput{}, nil
}

func (p *place) DescribeEvents(ctx context.Context, in *rds.DescribeEventsInput, _ ...func(*rds.Options)) (*rds.DescribeEventsOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, ""); err != nil {
		return nil, err
	}
	out := &rds.DescribeEventsOutput{}
	if at, ok := p.restarted[*in.SourceIdentifier]; ok {
		out.Events = append(out.Events, rdstypes.Event{Date: &at, Message: aws.String("DB instance restarted")})
	}
	return out, nil
}

func (p *place) PromoteReadReplica(ctx context.Context, in *rds.PromoteReadReplicaInput, _ ...func(*rds.Options)) (*rds.PromoteReadReplicaOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, "promote"); err != nil {
		return nil, err
	}
	one := p.servers[p.region][*in.DBInstanceIdentifier]
	if one.ReadReplicaSourceDBInstanceIdentifier == nil {
		return nil, &rdstypes.InvalidDBInstanceStateFault{}
	}
	one.ReadReplicaSourceDBInstanceIdentifier, one.DBInstanceStatus = nil, aws.String("modifying")
	return &rds.PromoteReadReplicaOutput{}, nil
}

func (p *place) GetMetricData(ctx context.Context, in *cloudwatch.GetMetricDataInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, ""); err != nil {
		return nil, err
	}
	p.asked = append([]time.Time{time.Now()}, p.asked...)
	values := slices.Repeat([]float64{p.lag}, len(p.asked))
	out := &cloudwatch.GetMetricDataOutput{}
	for _, q := range in.MetricDataQueries {
		out.MetricDataResults = append(out.MetricDataResults, cloudwatchtypes.MetricDataResult{Id: q.Id, Values: values, Timestamps: slices.Clone(p.asked)})
	}
	if len(p.calls) > 0 { // what is locked is caught up with
		p.lag = 0
	}
	return out, nil
}

func (p *place) ListRecoveryPointsByBackupVault(ctx context.Context, in *backup.ListRecoveryPointsByBackupVaultInput, _ ...func(*backup.Options)) (*backup.ListRecoveryPointsByBackupVaultOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(ctx, ""); err != nil {
		return nil, err
	}
	if *in.BackupVaultName != "bank-dr-copies" {
		return nil, fmt.Errorf("there is no vault %s", *in.BackupVaultName)
	}
	of := aws.String("arn:aws:rds:" + mainRegion + ":444444444444:db:bank-main-postgresql")
	return &backup.ListRecoveryPointsByBackupVaultOutput{RecoveryPoints: []backuptypes.RecoveryPointByBackupVault{
		{ResourceArn: of, Status: backuptypes.RecoveryPointStatusCompleted, CreationDate: &p.copied},
		{ResourceArn: of, Status: backuptypes.RecoveryPointStatusPartial, CreationDate: aws.Time(time.Now())}}}, nil
}

// parameter is one of a stack as it stands.
func (w *world) parameter(t testing.TB, id, name string) string {
	t.Helper()
	standing, err := landing.NewDeployer(landing.DeployerOptions{Graph: w.graph, AWS: w.aws}).Standing(t.Context(), w.graph.Stack(id))
	if err != nil || standing == nil {
		t.Fatalf("%s: %v, %v", id, standing, err)
	}
	return standing.Parameters[name]
}

// locked says whether a database has a security group that lets nobody in, and no other.
func (w *world) locked(region, name string) bool {
	groups := groupsOf(w.servers[region][name])
	return len(groups) == 1 && groups[0] != "sg-own"
}

// resourcesIn are the double's resources of a region.
func resourcesIn(d *double.Double, region string) []double.Resource {
	return slices.DeleteFunc(d.Resources(), func(r double.Resource) bool { return r.Region != region })
}

// TestDrill: it measures, puts back, and changes nothing in main; one that was killed is put back by the next.
func TestDrill(t *testing.T) {
	w := newWorld(t)
	st, err := w.open(t).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Side != SideMain || st.RTO != nil || st.RPO == nil || *st.RPO != 2*time.Second || len(st.Stores) != 1 || st.Stores[0].Way != WayReplica || st.Stores[0].Copied.IsZero() {
		t.Errorf("before a drill: %+v", st)
	}
	main := fmt.Sprint(resourcesIn(w.double, mainRegion))
	if len(w.asksOfMain) == 0 {
		t.Error("main was deployed, and nothing noted that")
	}
	w.asksOfMain = nil
	drill, err := w.open(t).Drill(t.Context())
	if len(w.asksOfMain) > 0 {
		t.Errorf("the drill asked of main: %v", w.asksOfMain)
	}
	if after := fmt.Sprint(resourcesIn(w.double, mainRegion)); after != main {
		t.Errorf("the drill left main's resources as %s, which were %s", after, main)
	}
	if err != nil || !drill.Passed || drill.RTO == nil || drill.RTO.Took <= promotionAllowance || len(drill.Steps) != 4 || len(drill.RTO.Assumed) != 3 || drill.RTO.Scaling != resizeAllowance {
		t.Fatalf("the drill: %+v, %v", drill, err)
	}
	if len(w.calls) != 0 || w.parameter(t, "dr/dr", evacuated) != "false" || w.parameter(t, "dr/frontend-teller", "LeastTasks") != "0" {
		t.Errorf("the drill left %v, %s tasks", w.calls, w.parameter(t, "dr/frontend-teller", "LeastTasks"))
	}
	if !strings.Contains(drill.Steps[2].Text, "dr/frontend-teller LeastTasks 1 -> 3") {
		t.Errorf("it scaled %q", drill.Steps[2].Text)
	}

	// Killed between the raise and the way back.
	d := w.open(t)
	s, err := d.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.smaller(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.raiseFloors(t.Context(), all); err != nil || w.parameter(t, "dr/frontend-teller", "LeastTasks") != "3" {
		t.Fatal(err)
	}
	if drill, err := w.open(t).Drill(t.Context()); err != nil || !drill.Passed || w.parameter(t, "dr/frontend-teller", "LeastTasks") != "0" {
		t.Errorf("after a killed one: %+v, %v", drill, err)
	}

	// A replica that does not follow fails it, and is told by the status.
	w.lag = -1
	if _, err := w.open(t).Drill(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody knows how far the replica bank-dr-postgresql is behind") {
		t.Errorf("a replica that does not follow: %v", err)
	}
	if st, err := w.open(t).Status(t.Context()); err != nil || !slices.ContainsFunc(st.Lacks, func(l Lack) bool { return l.Severity == SeverityError && l.Where == "main/postgresql" }) {
		t.Errorf("a replica that does not follow: %+v, %v", st, err)
	}
}

// TestThereAndBack: a healthy main is left only for a reason, locked, and taken back; nothing is lost.
func TestThereAndBack(t *testing.T) {
	w := newWorld(t)
	if _, err := w.open(t).Failover(t.Context(), FailoverOptions{}); !errors.Is(err, ErrHealthy) || len(w.calls) != 0 {
		t.Fatalf("a healthy main: %v, %v", err, w.calls)
	}
	run, err := w.open(t).Failover(t.Context(), FailoverOptions{Reason: "a rehearsal"})
	if err != nil || run.Outcome != OutcomeDone || run.RPO == nil || *run.RPO != 0 || len(run.Steps) != len(failover) || run.RTO <= 0 {
		t.Fatalf("the failover: %+v, %v", run, err)
	}
	replica := w.servers[drRegion]["bank-dr-postgresql"]
	if w.parameter(t, "dr/dr", evacuated) != "true" || w.parameter(t, "dr/frontend-teller", "LeastTasks") != "3" || !w.locked(mainRegion, "bank-main-postgresql") ||
		replica.ReadReplicaSourceDBInstanceIdentifier != nil || *replica.DBInstanceClass != "db.m6g.xlarge" || !*replica.MultiAZ {
		t.Errorf("the failover left %v, %+v", w.calls, replica)
	}
	st, err := w.open(t).Status(t.Context())
	if err != nil || st.Side != SideDR || !slices.ContainsFunc(st.Lacks, func(l Lack) bool { return l.Where == "dr/dr" }) {
		t.Errorf("the estate would turn users over: %+v, %v", st, err)
	}
	if _, err := w.open(t).Failback(t.Context(), FailbackOptions{}); !errors.Is(err, ErrNotMoved) {
		t.Errorf("without the data: %v", err)
	}
	back, err := w.open(t).Failback(t.Context(), FailbackOptions{Moved: "moved by dhow"})
	if err != nil || back.Outcome != OutcomeDone || len(back.Steps) != len(failback) {
		t.Fatalf("the way back: %+v, %v", back, err)
	}
	if w.parameter(t, "dr/dr", evacuated) != "false" || w.parameter(t, "dr/frontend-teller", "LeastTasks") != "0" || w.locked(mainRegion, "bank-main-postgresql") || !w.locked(drRegion, "bank-dr-postgresql") {
		t.Errorf("the way back left %v", w.calls)
	}
	if !slices.ContainsFunc(back.Next, func(n string) bool { return strings.Contains(n, "--only dr/replica") }) {
		t.Errorf("what has to be made anew: %v", back.Next)
	}
}

// TestGone: a silent main is left as it is, and locked when it answers again.
func TestGone(t *testing.T) {
	w := newWorld(t)
	w.gone = true
	if _, err := w.open(t).Failover(t.Context(), FailoverOptions{}); !errors.Is(err, ErrLoss) || len(w.calls) != 0 {
		t.Fatalf("a silent main, without a word on loss: %v, %v", err, w.calls)
	}
	run, err := w.open(t).Failover(t.Context(), FailoverOptions{Loss: "it is gone"})
	if err != nil || run.Outcome != OutcomeDone || run.RPO == nil || *run.RPO < 2*time.Second || *run.RPO > time.Minute {
		t.Fatalf("a silent main: %+v, %v", run, err)
	}
	if slices.ContainsFunc(w.calls, func(c string) bool { return strings.HasPrefix(c, mainRegion) }) {
		t.Errorf("main was called: %v", w.calls)
	}
	if _, err := w.open(t).Failover(t.Context(), FailoverOptions{}); err == nil || !strings.Contains(err.Error(), "main can not be locked yet") {
		t.Errorf("still silent: %v", err)
	}
	w.gone = false
	run, err = w.open(t).Failover(t.Context(), FailoverOptions{})
	if err != nil || run.Kind != KindFence || run.Outcome != OutcomeDone || len(run.Next) != 1 || !w.locked(mainRegion, "bank-main-postgresql") {
		t.Errorf("back again: %+v, %v", run, err)
	}
}

// TestUndone: replicas that never catch up are not promoted, and main is opened again.
func TestUndone(t *testing.T) {
	w := newWorld(t)
	w.servers[drRegion]["bank-dr-postgresql"].DBInstanceStatus = aws.String(available)
	w.lag = 2
	d := w.open(t)
	d.o.Wait = 50 * time.Millisecond
	clients := d.o.Clients
	d.o.Clients = func(c aws.Config) Clients {
		all := clients(c)
		all.Metrics = stuck{}
		return all
	}
	run, err := d.Failover(t.Context(), FailoverOptions{Reason: "a rehearsal"})
	if err == nil || !strings.Contains(err.Error(), "do not show after 50ms that they have all that main had: all is as before") || run.Outcome != OutcomeUndone {
		t.Fatalf("replicas that are stuck: %+v, %v", run, err)
	}
	if w.locked(mainRegion, "bank-main-postgresql") || slices.Contains(w.calls, drRegion+" promote") || w.parameter(t, "dr/dr", evacuated) != "false" {
		t.Errorf("it left %v", w.calls)
	}
}

// stuck is a replica that is always an hour behind.
type stuck struct{}

func (stuck) GetMetricData(_ context.Context, in *cloudwatch.GetMetricDataInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error) {
	return &cloudwatch.GetMetricDataOutput{MetricDataResults: []cloudwatchtypes.MetricDataResult{{Id: in.MetricDataQueries[0].Id, Values: []float64{3600}, Timestamps: []time.Time{time.Now()}}}}, nil
}
