package double

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/dlclark/regexp2"
	"go.uber.org/goleak"
)

const (
	testAccount  = "111122223333"
	otherAccount = "444455556666"
	testRegion   = "me-central-1"
)

// schemas are shared by all tests: they are opened once.
var shared struct {
	once    sync.Once
	schemas *Schemas
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.schemas != nil {
		_ = shared.schemas.Close()
	}
	regexp2.StopTimeoutClock() // it would end by itself, a moment later
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func testSchemas(t testing.TB) *Schemas {
	t.Helper()
	shared.once.Do(func() { shared.schemas, shared.err = OpenSchemas(context.Background()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.schemas
}

func someAccounts() []Account {
	return []Account{
		{ID: testAccount, Keys: []Key{{ID: "AKIATEST", Secret: "secret", User: "deployer"}}, Regions: []string{"me-central-1", "me-south-1"},
			Parameters: map[string]map[string]string{testRegion: {"/network/name": "main"}}},
		{ID: otherAccount, Roles: []Role{{Name: "deploy", ExternalID: "harbour", Trusts: []string{testAccount}}, {Name: "open"}, {Name: "closed", Trusts: []string{"999999999999"}},
			{Name: "limited", Denies: []string{"cloudformation:Create*"}}}, Regions: []string{"me-central-1"}},
	}
}

// stand is a double at work, and its clients.
type stand struct {
	*Double
	t      testing.TB
	url    string
	cfn    *cloudformation.Client
	client *sts.Client
}

func newStand(t testing.TB, change ...func(*Options)) *stand {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches a release of cfn-lint: not with -short (testing.Short)")
	}
	o := Options{Accounts: someAccounts(), Schemas: testSchemas(t), Manual: true, Start: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)}
	for _, c := range change {
		c(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(d.Handler())
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &stand{Double: d, t: t, url: srv.URL}
	s.cfn = s.in(testRegion, aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"})
	s.client = s.sts(testRegion, aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"})
	return s
}

func (s *stand) in(region string, c aws.Credentials) *cloudformation.Client {
	return cloudformation.New(cloudformation.Options{Region: region, BaseEndpoint: &s.url, Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken), Retryer: onlyConnections()})
}

// onlyConnections tries again only what no answer of a server is: the SDK closes a
// request's body when the answer begins, and Go's client the connection if it was just
// about to find that body at its end.
func onlyConnections() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = []retry.IsErrorRetryable{retry.RetryableConnectionError{}}
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
	})
}

func (s *stand) sts(region string, c aws.Credentials) *sts.Client {
	return sts.New(sts.Options{Region: region, BaseEndpoint: &s.url, Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken), Retryer: onlyConnections()})
}

// settle lets everything happen.
func (s *stand) settle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.Settle(ctx); err != nil {
		s.t.Fatal(err)
	}
}

var capabilities = []types.Capability{types.CapabilityCapabilityNamedIam}

func params(pairs ...string) []types.Parameter {
	var out []types.Parameter
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, types.Parameter{ParameterKey: &pairs[i], ParameterValue: &pairs[i+1]})
	}
	return out
}

// create makes a stack and lets it be made.
func (s *stand) create(name, body string, p ...string) *types.Stack {
	s.t.Helper()
	if _, err := s.cfn.CreateStack(s.t.Context(), &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &body, Parameters: params(p...), Capabilities: capabilities}); err != nil {
		s.t.Fatalf("create %s: %v", name, err)
	}
	s.settle()
	return s.stack(name)
}

func (s *stand) stack(name string) *types.Stack {
	s.t.Helper()
	out, err := s.cfn.DescribeStacks(s.t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		s.t.Fatal(err)
	}
	return &out.Stacks[0]
}

func outputs(s *types.Stack) map[string]string {
	m := map[string]string{}
	for _, o := range s.Outputs {
		m[*o.OutputKey] = *o.OutputValue
	}
	return m
}

// story is what happened, the oldest first: NAME STATUS, and REASON where there is one.
func (s *stand) story(name string) string {
	s.t.Helper()
	var lines []string
	in := &cloudformation.DescribeStackEventsInput{StackName: &name}
	for {
		out, err := s.cfn.DescribeStackEvents(s.t.Context(), in)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range out.StackEvents {
			line := *e.LogicalResourceId + " " + string(e.ResourceStatus)
			if e.ResourceStatusReason != nil {
				line += ": " + *e.ResourceStatusReason
			}
			lines = append([]string{line}, lines...)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return strings.Join(lines, "\n")
		}
	}
}

const network = `
AWSTemplateFormatVersion: "2010-09-09"
Description: A small network
Parameters:
  Cidr: {Type: String, Default: 10.0.0.0/16, AllowedPattern: "[0-9./]+"}
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties:
      CidrBlock: !Ref Cidr
      Tags: [{Key: Name, Value: !Sub "${AWS::StackName}-vpc"}]
  Subnet:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [0, !Cidr [!GetAtt Vpc.CidrBlock, 4, 8]]
      AvailabilityZone: !Select [0, !GetAZs ""]
  Gateway: {Type: AWS::EC2::InternetGateway}
  Attachment:
    Type: AWS::EC2::VPCGatewayAttachment
    Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway}
Outputs:
  VpcId: {Value: !Ref Vpc, Export: {Name: !Sub "${AWS::StackName}-vpc"}}
  SubnetIds: {Value: !Join [",", [!Ref Subnet]]}
`

func TestCreate(t *testing.T) {
	s := newStand(t)
	made := s.create("network", network)
	if made.StackStatus != types.StackStatusCreateComplete {
		t.Fatalf("%s: %s\n%s", made.StackStatus, aws.ToString(made.StackStatusReason), s.story("network"))
	}
	o := outputs(made)
	if !strings.HasPrefix(o["VpcId"], "vpc-") || !strings.HasPrefix(o["SubnetIds"], "subnet-") {
		t.Errorf("outputs are %v", o)
	}
	for _, r := range s.Resources() {
		if r.Logical == "Subnet" && (r.Properties["VpcId"] != o["VpcId"] || r.Properties["CidrBlock"] != "10.0.0.0/24" || r.Properties["AvailabilityZone"] != "me-central-1a") {
			t.Errorf("the subnet is %v", r)
		}
	}
	t.Log(s.story("network"))
}
