package landing

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"dhow/internal/landing/double"
)

// stage is a double of AWS and what it takes to deploy to it.
type stage struct {
	double *double.Double
	aws    aws.Config
	// url is where the double answers.
	url string
}

// The credentials and the external id of the tests.
const (
	testKey, testSecret = "AKIAIOSFODNN7EXAMPLE", "not-a-secret-of-anybody"
	testID              = "an-external-id"
	testPoll            = 5 * time.Millisecond
)

// schemas are AWS's, opened once for all tests: they are only read.
var schemas = sync.OnceValues(func() (*double.Schemas, error) { return double.OpenSchemas(context.Background()) })

// accountsOf are the tests' accounts, with a role that asks for the external id.
func accountsOf(regions ...string) []double.Account {
	var list []double.Account
	for i, number := range []string{"111111111111", "222222222222", "333333333333", "444444444444"} {
		a := double.Account{ID: number, Regions: regions, Roles: []double.Role{{Name: "dhow-deploy", ExternalID: testID}}}
		if i == 0 {
			a.Keys = []double.Key{{ID: testKey, Secret: testSecret, User: "operator"}}
		}
		list = append(list, a)
	}
	return list
}

// newStage starts a double whose time runs so many times faster than the wall's.
func newStage(t testing.TB, speed float64, accounts []double.Account) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("AWS's resource schemas are read and many stacks deployed: left out under testing.Short")
	}
	s, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	d, err := double.New(double.Options{Accounts: accounts, Schemas: s, Speed: speed})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, listener) }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(func() {
		transport.CloseIdleConnections() // a server waits a while for those that were never used
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	url := "http://" + listener.Addr().String()
	return &stage{double: d, url: url, aws: aws.Config{Region: "me-central-1", BaseEndpoint: aws.String(url), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, "")}}
}

// deployer deploys a graph to the stage; change changes how.
func (s *stage) deployer(t testing.TB, g *Graph, change ...func(*DeployerOptions)) *Deployer {
	o := DeployerOptions{Graph: g, AWS: s.aws, ExternalID: testID, Poll: testPoll}
	for _, c := range change {
		c(&o)
	}
	return NewDeployer(o)
}

// deploy brings a whole graph to the stage.
func (s *stage) deploy(t testing.TB, g *Graph, change ...func(*DeployerOptions)) []Result {
	t.Helper()
	results, err := s.deployer(t, g, change...).Apply(t.Context(), g.Stacks)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// outcomesOf are the ids of results by their outcome.
func outcomesOf(results []Result) map[string][]string {
	by := map[string][]string{}
	for _, r := range results {
		by[r.Outcome] = append(by[r.Outcome], r.Stack)
	}
	for _, ids := range by {
		slices.Sort(ids)
	}
	return by
}

// stands asserts that the double has what the graph says, and where it says.
func (s *stage) stands(t testing.TB, g *Graph) {
	t.Helper()
	have := map[string]int{}
	for _, r := range s.double.Resources() {
		have[r.Account+" "+r.Region+" "+r.Stack+" "+r.Logical+" "+r.Type]++
	}
	want := 0
	for _, stack := range g.Stacks {
		for _, r := range stack.resources() {
			want++
			if key := stack.Number + " " + stack.Region + " " + stack.Name + " " + r.ID + " " + r.Type; have[key] != 1 {
				t.Errorf("%d of %s, want 1", have[key], key)
			}
		}
	}
	if len(have) != want {
		t.Errorf("there are %d resources, want %d", len(have), want)
	}
}

// TestLife: a landing zone from nothing, again, changed, drifted, moved and destroyed.
func TestLife(t *testing.T) {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	g := graphOf(t)
	found, err := s.deployer(t, g).Preflight(t.Context(), g.Stacks, catalog(t))
	if err != nil || Failed(found) {
		t.Fatalf("the preflight finds %+v, %v", found, err)
	}
	if by := outcomesOf(s.deploy(t, g)); len(by[OutcomeCreated]) != len(g.Stacks) {
		t.Errorf("from nothing: %v", by)
	}
	s.stands(t, g)

	for _, r := range s.deploy(t, g) {
		if r.Outcome != OutcomeUnchanged || r.Executed {
			t.Errorf("again, %s is %s", r.Stack, r.Outcome)
		}
	}

	// An instance class is changed in place, and nothing else with it.
	larger := graphOf(t, "  tags:", "  parameters: {postgresql: {InstanceClass: db.m7g.xlarge}}\n  tags:")
	preview, err := s.deployer(t, larger).Preview(t.Context(), larger.Stacks)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range preview {
		change := strings.HasSuffix(p.Stack, "/postgresql")
		if (p.Action == PreviewUpdate) != change || p.Refused() {
			t.Errorf("a larger class: %+v", p)
		}
		if change && (len(p.Changes) != 1 || len(p.Changes[0].Details) != 1 || p.Changes[0].Details[0] != (Detail{Property: "DBInstanceClass", Before: "db.m7g.large", After: "db.m7g.xlarge", Recreation: p.Changes[0].Details[0].Recreation})) {
			t.Errorf("a larger class: %+v", p.Changes)
		}
	}
	if by := outcomesOf(s.deploy(t, larger)); fmt.Sprint(by[OutcomeUpdated]) != "[dev/postgresql main/postgresql sit/postgresql]" || len(by) != 2 {
		t.Errorf("a larger class: %v", by)
	}

	// A subnet's range is a replacement: refused, with nothing changed, then allowed.
	resized := graphOf(t, "network: {NatGateways: none}", "network: {NatGateways: none, DataSubnetBits: '10'}", "  tags:", "  parameters: {postgresql: {InstanceClass: db.m7g.xlarge}}\n  tags:")
	before := fmt.Sprint(s.double.Resources())
	results, err := s.deployer(t, resized).Apply(t.Context(), resized.Stacks)
	if err == nil || !strings.Contains(err.Error(), "DataSubnet1 (AWS::EC2::Subnet) would be replaced for its CidrBlock") {
		t.Errorf("a replacement is not refused: %v", err)
	}
	if by := outcomesOf(results); fmt.Sprint(by[OutcomeFailed]) != "[dev/network]" || len(by[OutcomeSkipped]) != 4 {
		t.Errorf("a replacement: %v", by)
	}
	if after := fmt.Sprint(s.double.Resources()); after != before {
		t.Error("what was refused changed something")
	}
	allow := func(o *DeployerOptions) { o.AllowReplacement = true }
	if by := outcomesOf(s.deploy(t, resized, allow)); fmt.Sprint(by[OutcomeUpdated]) != "[dev/network dev/postgresql]" {
		t.Errorf("an allowed replacement: %v", by)
	}
	s.stands(t, resized)

	// Somebody edits a resource.
	if err := s.double.Edit("444444444444", "me-central-1", "bank-main-keys", "Key", "/EnableKeyRotation", false); err != nil {
		t.Fatal(err)
	}
	drifts, absent, err := s.deployer(t, resized).Drifted(t.Context(), resized.Stacks)
	if err != nil || len(drifts) != 1 || len(absent) != 0 || drifts[0].Stack != "main/keys" || drifts[0].Resource != "Key" || drifts[0].Status != "modified" || len(drifts[0].Details) != 1 ||
		drifts[0].Details[0] != (Detail{Property: "EnableKeyRotation", Before: "true", After: "false"}) {
		t.Errorf("the drift is %+v, %v, %v", drifts, absent, err)
	}

	// Another region for disaster recovery, by one line of the estate.
	moved := graphOf(t, "dr: eu-west-1", "dr: eu-central-1", "network: {NatGateways: none}", "network: {NatGateways: none, DataSubnetBits: '10'}", "  tags:", "  parameters: {postgresql: {InstanceClass: db.m7g.xlarge}}\n  tags:")
	by := outcomesOf(s.deploy(t, moved))
	if len(by[OutcomeCreated]) != 6 || fmt.Sprint(by[OutcomeUpdated]) != "[management/organization]" {
		t.Errorf("another region: %v", by)
	}
	count := map[string]int{}
	for _, r := range s.double.Resources() {
		if strings.HasPrefix(r.Stack, "bank-dr-") {
			count[r.Region]++
		}
	}
	if count["eu-west-1"] == 0 || count["eu-west-1"] != count["eu-central-1"] {
		t.Errorf("dr stands in %v", count)
	}
	old, err := resized.Select(Selection{Environments: []string{"dr"}})
	if err != nil {
		t.Fatal(err)
	}
	s.destroy(t, resized, old, "dr/keys")
	s.stands(t, moved)

	// All goes but the data and what it needs; then that too, by its names.
	by = outcomesOf(s.destroy(t, moved, moved.Stacks))
	if fmt.Sprint(by[OutcomeKept]) != "[dev/keys dev/network dev/postgresql dr/keys main/keys main/network main/postgresql sit/keys sit/network sit/postgresql]" {
		t.Errorf("what is kept is %v", by[OutcomeKept])
	}
	var force []string
	for _, stack := range moved.Stacks {
		if stack.Data {
			force = append(force, stack.ID)
		}
	}
	s.destroy(t, moved, moved.Stacks, force...)
	if left := s.double.Resources(); len(left) != 0 {
		t.Errorf("left is %+v", left)
	}
	if by := outcomesOf(s.destroy(t, moved, moved.Stacks, force...)); len(by) != 0 {
		t.Errorf("destroyed again: %v", by)
	}
}

// destroy destroys stacks of a graph, with the data of those that are forced.
func (s *stage) destroy(t testing.TB, g *Graph, meant []*Stack, force ...string) []Result {
	t.Helper()
	d := s.deployer(t, g)
	doomed, err := d.Doom(t.Context(), meant, force)
	if err != nil {
		t.Fatal(err)
	}
	results, err := d.Destroy(t.Context(), doomed)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// TestFailures: whatever stack fails, its first failing resource is told, those that
// need it are not begun, the others are brought there, and the next run does the rest.
func TestFailures(t *testing.T) {
	g := graphOf(t)
	for _, broken := range g.Stacks {
		t.Run(strings.ReplaceAll(broken.ID, "/", "-"), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
			last := broken.resources()[len(broken.resources())-1]
			s.double.Fail(double.Fault{Account: broken.Number, Region: broken.Region, Stack: broken.Name, Logical: last.ID, On: "create", Reason: "There is no room on this boat.", Times: 1})
			results, err := s.deployer(t, g).Apply(t.Context(), g.Stacks)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s: the stack %s ended in ROLLBACK_COMPLETE: %s (%s) failed first: There is no room on this boat.", broken.ID, broken.Name, last.ID, last.Type)) {
				t.Errorf("it ends with %v", err)
			}
			needing := needingOf(g, broken.ID)
			for _, r := range results {
				want := OutcomeCreated
				switch {
				case r.Stack == broken.ID:
					want = OutcomeFailed
				case needing[r.Stack]:
					want = OutcomeSkipped
				}
				if r.Outcome != want {
					t.Errorf("%s is %s, want %s: %s", r.Stack, r.Outcome, want, r.Reason)
				}
			}
			for _, r := range s.deploy(t, g) {
				want := OutcomeUnchanged
				if r.Stack == broken.ID || needing[r.Stack] {
					want = OutcomeCreated
				}
				if r.Outcome != want {
					t.Errorf("the next time %s is %s, want %s", r.Stack, r.Outcome, want)
				}
			}
			s.stands(t, g)
		})
	}
}

// needingOf are the stacks that need one, directly or not.
func needingOf(g *Graph, id string) map[string]bool {
	needing := map[string]bool{}
	for _, s := range g.Stacks {
		if slices.ContainsFunc(s.After, func(a string) bool { return a == id || needing[a] }) {
			needing[s.ID] = true
		}
	}
	return needing
}

// TestPreflight: what would make a deployment fail is found before anything is created.
func TestPreflight(t *testing.T) {
	for name, c := range map[string]struct {
		accounts func([]double.Account)
		aws      func(*aws.Config)
		options  func(*DeployerOptions)
		rule     string
		where    string
		text     string
	}{
		"credentials": {aws: func(c *aws.Config) {
			c.Credentials = credentials.NewStaticCredentialsProvider("AKIANOBODY", "wrong", "")
		}, rule: "credentials", where: "the environment", text: "InvalidClientTokenId"},
		"role":           {accounts: func(a []double.Account) { a[2].Roles = nil }, rule: "assume-role", where: "nonproduction (333333333333) in me-central-1", text: "the role dhow-deploy can not be assumed"},
		"external id":    {options: func(o *DeployerOptions) { o.ExternalID = "wrong" }, rule: "assume-role", where: "management (111111111111) in me-central-1", text: "AccessDenied"},
		"region":         {accounts: func(a []double.Account) { a[3].Regions = nil }, rule: "region-opt-in", where: "production (444444444444) in me-central-1", text: "has not opted in"},
		"quota":          {accounts: func(a []double.Account) { a[2].Quotas = map[string]float64{"vpc/L-F678F1CE": 1} }, rule: "quota", where: "nonproduction (333333333333) in me-central-1", text: "it may have 1 VPCs, and this landing zone has 2 there"},
		"missing rights": {accounts: func(a []double.Account) { a[3].Roles[0].Denies = []string{"rds:CreateDBInstance"} }, rule: "rights", where: "production (444444444444) in me-central-1", text: "may not rds:CreateDBInstance"},
	} {
		t.Run(name, func(t *testing.T) {
			list := accountsOf("me-central-1")
			if c.accounts != nil {
				c.accounts(list)
			}
			s := newStage(t, math.Inf(1), list)
			if c.aws != nil {
				c.aws(&s.aws)
			}
			g := graphOf(t)
			var change []func(*DeployerOptions)
			if c.options != nil {
				change = append(change, c.options)
			}
			found, err := s.deployer(t, g, change...).Preflight(t.Context(), g.Stacks, catalog(t))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Severity == SeverityError && f.Rule == c.rule && f.Where == c.where && strings.Contains(f.Text, c.text)
			}) {
				t.Errorf("there is no such error among %+v", found)
			}
			if left := s.double.Resources(); len(left) != 0 {
				t.Errorf("the preflight made %+v", left)
			}
		})
	}
}

// TestEdited: a template that somebody edited where it is deployed is not overwritten
// unless that is said.
func TestEdited(t *testing.T) {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	g := graphOf(t)
	s.deploy(t, g)
	stack := g.Stack("dev/cluster")
	d := s.deployer(t, g)
	p, err := d.place(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(stack.template.deployed(), "Description: A cluster.", "Description: Mine.", 1)
	standing, err := describe(t.Context(), p, stack.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.cfn.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: &stack.Name, TemplateBody: aws.String(strings.Replace(edited, "Tags: [", "Tags: [{Key: mine, Value: yes}, ", 1)), Parameters: standing.Parameters, Tags: standing.Tags,
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}); err != nil {
		t.Fatal(err)
	}
	if err := s.double.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := d.Preflight(t.Context(), g.Stacks, catalog(t))
	if err != nil || len(found) == 0 || found[0].Rule != "edited-template" || found[0].Where != "dev/cluster" {
		t.Errorf("the preflight finds %+v, %v", found, err)
	}
	overwrite := func(o *DeployerOptions) { o.Overwrite = []string{"dev/cluster"} }
	found, err = s.deployer(t, g, overwrite).Preflight(t.Context(), g.Stacks, catalog(t))
	if err != nil || Failed(found) {
		t.Errorf("the preflight finds %+v, %v", found, err)
	}
	if by := outcomesOf(s.deploy(t, g, overwrite)); fmt.Sprint(by[OutcomeUpdated]) != "[dev/cluster]" {
		t.Errorf("overwritten: %v", by)
	}
}

// TestForeign: a stack of the same name that is somebody else's is left alone.
func TestForeign(t *testing.T) {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	g := graphOf(t)
	stack := g.Stack("main/keys")
	d := s.deployer(t, g)
	p, err := d.place(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.cfn.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: &stack.Name, TemplateBody: aws.String("Resources: {Q: {Type: AWS::SQS::Queue}}")}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Apply(t.Context(), g.Stacks); err == nil || !strings.Contains(err.Error(), "there is a stack bank-main-keys in me-central-1 already, and it is none of this landing zone") {
		t.Errorf("it ends with %v", err)
	}
}

// TestThrottled: AWS may be busy, and nothing fails.
func TestThrottled(t *testing.T) {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	s.double.Throttle(40, 10)
	g := graphOf(t)
	dev, err := g.Select(Selection{Environments: []string{"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	results, err := s.deployer(t, g).Apply(t.Context(), dev)
	if err != nil || len(outcomesOf(results)[OutcomeCreated]) != len(dev) {
		t.Errorf("%v, %v", outcomesOf(results), err)
	}
}
