package double

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// steered calls the double's own control.
func (s *stand) steered(method, path, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+controlPath+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestControl: the double is steered over HTTP as by its methods.
func TestControl(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "faults", `{"on": "sometimes"}`, "on is \"sometimes\": want create, update, delete or rollback"},
		{"POST", "faults", `{"kind": "a"}`, "unknown field"},
		{"POST", "refusals", `{}`, "code is missing"},
		{"POST", "accounts", `{"id": "7"}`, "want 12 digits"},
		{"PATCH", "resources/1/2/3/4", `{"path": "A", "value": 1}`, "account 1 has no stack 3 in 2"},
	} {
		if code, text := s.steered(tt.method, tt.path, tt.body); code != http.StatusBadRequest || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: want %q, got %d %s", tt.method, tt.path, tt.want, code, text)
		}
	}
	if code, text := s.steered("POST", "faults", `{"type": "AWS::EC2::Subnet", "on": "create", "reason": "none is left", "times": 1}`); code != http.StatusNoContent {
		t.Fatal(code, text)
	}
	if made := s.create("first", network); made.StackStatus != types.StackStatusRollbackComplete {
		t.Error(made.StackStatus)
	}
	s.create("network", network)
	if code, text := s.steered("PATCH", "resources/"+testAccount+"/"+testRegion+"/network/Vpc", `{"path": "Tags/0/Value", "value": "x"}`); code != http.StatusNoContent {
		t.Fatal(code, text)
	}
	if code, _ := s.steered("DELETE", "resources/"+testAccount+"/"+testRegion+"/network/Gateway", ""); code != http.StatusNoContent {
		t.Error(code)
	}
	_, text := s.steered("GET", "resources", "")
	var told struct{ Resources []Resource }
	if err := json.Unmarshal([]byte(text), &told); err != nil || len(told.Resources) != 3 {
		t.Fatalf("%v: %s", err, text)
	}
	for _, r := range told.Resources {
		if r.Logical == "Vpc" && fmt.Sprint(r.Properties["Tags"]) != "[map[Key:Name Value:x]]" {
			t.Errorf("the VPC is %v", r)
		}
	}
	if _, now := s.steered("GET", "time", ""); !strings.Contains(now, "2026-11-01T08:") {
		t.Errorf("it is %s", now)
	}
	if code, text := s.steered("POST", "refusals", `{"action": "ListStacks", "code": "OptInRequired", "message": "The AWS Access Key Id needs a subscription for the service", "status": 403, "times": 1}`); code != http.StatusNoContent {
		t.Fatal(code, text)
	}
	list := func() error {
		_, err := s.cfn.ListStacks(ctx, &cloudformation.ListStacksInput{})
		return err
	}
	refused(t, "a refusal", list(), "OptInRequired", "The AWS Access Key Id needs a subscription for the service")
	if err := list(); err != nil {
		t.Error(err)
	}
	if code, _ := s.steered("POST", "throttle", `{"per_second": 0.001, "burst": 2}`); code != http.StatusNoContent {
		t.Error(code)
	}
	for i := range 3 {
		if err := list(); i < 2 && err != nil {
			t.Error(err)
		} else if i == 2 {
			refused(t, "the third call", err, "Throttling", "Rate exceeded")
		}
	}
	if code, _ := s.steered("DELETE", "faults", ""); code != http.StatusNoContent || list() != nil {
		t.Error("it is not healed")
	}
	if code, text := s.steered("POST", "accounts", `{"id": "777788889999", "keys": [{"id": "AKIASEVEN", "secret": "s"}]}`); code != http.StatusNoContent {
		t.Fatal(code, text)
	}
	if _, err := s.in("eu-central-1", aws.Credentials{AccessKeyID: "AKIASEVEN", SecretAccessKey: "s"}).ListStacks(ctx, &cloudformation.ListStacksInput{}); err != nil {
		t.Error(err)
	}
}

// TestTimeline: what does not wait for one another is made at once, and a stack takes as
// long as its longest path.
func TestTimeline(t *testing.T) {
	s := newStand(t)
	var b strings.Builder
	b.WriteString("Resources:\n")
	for i := range 150 {
		fmt.Fprintf(&b, "  T%d: {Type: AWS::SNS::Topic}\n", i)
	}
	b.WriteString("  Db: {Type: AWS::RDS::DBInstance, Properties: {Engine: postgres, DBInstanceClass: a, AllocatedStorage: 20, MasterUsername: a, MasterUserPassword: abcdefgh}}\n" +
		"  Eks: {Type: AWS::EKS::Cluster, Properties: {RoleArn: a, ResourcesVpcConfig: {SubnetIds: [a, b]}}}\n  Add: {Type: AWS::EKS::Addon, Properties: {AddonName: a, ClusterName: !Ref Eks}}\n")
	made := s.create("wide", b.String())
	if made.StackStatus != types.StackStatusCreateComplete {
		t.Fatal(s.story("wide"))
	}
	if took, want := s.Now().Sub(*made.CreationTime), timings["AWS::RDS::DBInstance"].create; took < want || took > want+5*time.Second {
		t.Errorf("it took %s, the database alone %s", took, want)
	}
	// The events are told in pages, the newest first, each once.
	in := &cloudformation.DescribeStackEventsInput{StackName: aws.String("wide")}
	seen := map[string]bool{}
	pages := 1
	last := time.Now().Add(time.Hour * 24 * 365)
	for ; ; pages++ {
		out, err := s.cfn.DescribeStackEvents(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.StackEvents {
			if seen[*e.EventId] || e.Timestamp.After(last) {
				t.Fatalf("event %s is told twice, or late", *e.EventId)
			}
			seen[*e.EventId], last = true, *e.Timestamp
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if want := 153*3 + 2; len(seen) != want || pages != want/pageSize+1 {
		t.Errorf("there are %d events on %d pages, want %d", len(seen), pages, want)
	}
	resources, err := s.cfn.ListStackResources(t.Context(), &cloudformation.ListStackResourcesInput{StackName: aws.String("wide")})
	if err != nil {
		t.Fatal(err)
	}
	if len(resources.StackResourceSummaries) != pageSize || resources.NextToken == nil {
		t.Errorf("the first page has %d", len(resources.StackResourceSummaries))
	}
}

// TestTokens: a request that is sent twice is served once.
func TestTokens(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	in := &cloudformation.CreateStackInput{StackName: aws.String("network"), TemplateBody: aws.String(network), ClientRequestToken: aws.String("once")}
	first, err := s.cfn.CreateStack(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.cfn.CreateStack(ctx, in)
	if err != nil || *second.StackId != *first.StackId {
		t.Errorf("the second gives %v, %v", second, err)
	}
	s.settle()
	_, err = s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("network"), TemplateBody: aws.String(stores), ClientRequestToken: aws.String("once")})
	refused(t, "another request of the same token", err, "TokenAlreadyExistsException", "once")
	s.propose("network", "set", strings.Replace(network, "-vpc\"}]", "-other\"}]", 1), types.ChangeSetTypeUpdate)
	run := &cloudformation.ExecuteChangeSetInput{StackName: aws.String("network"), ChangeSetName: aws.String("set"), ClientRequestToken: aws.String("run")}
	for range 2 {
		if _, err := s.cfn.ExecuteChangeSet(ctx, run); err != nil {
			t.Fatal(err)
		}
	}
	s.settle()
	if n := strings.Count(s.story("network"), "Vpc UPDATE_COMPLETE"); n != 1 {
		t.Errorf("it was updated %d times", n)
	}
}

// TestTemplates: what is asked of a template without a stack, and of a stack's.
func TestTemplates(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	valid, err := s.cfn.ValidateTemplate(ctx, &cloudformation.ValidateTemplateInput{TemplateBody: aws.String(network)})
	if err != nil || *valid.Description != "A small network" || len(valid.Parameters) != 1 || *valid.Parameters[0].DefaultValue != "10.0.0.0/16" {
		t.Errorf("%+v, %v", valid, err)
	}
	s.create("network", network)
	got, err := s.cfn.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String("network")})
	if err != nil || *got.TemplateBody != network {
		t.Errorf("%+v, %v", got, err)
	}
	sum, err := s.cfn.GetTemplateSummary(ctx, &cloudformation.GetTemplateSummaryInput{StackName: aws.String("network")})
	if err != nil || len(sum.ResourceTypes) != 4 || *sum.Parameters[0].ParameterType != "String" {
		t.Errorf("%+v, %v", sum, err)
	}
	one, err := s.cfn.DescribeStackResource(ctx, &cloudformation.DescribeStackResourceInput{StackName: aws.String("network"), LogicalResourceId: aws.String("Vpc")})
	if err != nil || one.StackResourceDetail.ResourceStatus != types.ResourceStatusCreateComplete {
		t.Errorf("%+v, %v", one, err)
	}
	all, err := s.cfn.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{PhysicalResourceId: one.StackResourceDetail.PhysicalResourceId})
	if err != nil || len(all.StackResources) != 4 {
		t.Errorf("%+v, %v", all, err)
	}
	if limits, err := s.cfn.DescribeAccountLimits(ctx, &cloudformation.DescribeAccountLimitsInput{}); err != nil || len(limits.AccountLimits) == 0 {
		t.Error(limits, err)
	}
}

// TestServe: the double serves until it is told to end, and its clock runs as fast as asked.
func TestServe(t *testing.T) {
	const speed = 2000
	s := newStand(t, func(o *Options) { o.Manual, o.Speed = false, speed })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	s.url = "http://" + l.Addr().String()
	s.cfn = s.in(testRegion, aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"})
	// What the wall's clock says is read around the double's, so that nothing between matters.
	before := time.Now()
	from := s.Now()
	began := time.Now()
	if made := s.create("network", network); made.StackStatus != types.StackStatusCreateComplete {
		t.Error(made.StackStatus)
	}
	least := time.Since(began)
	took := s.Now().Sub(from)
	if most := time.Since(before); took < least*speed || took > most*speed {
		t.Errorf("it took %s of its time, and %s to %s of the wall's", took, least, most)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := New(Options{Speed: -1}); err == nil {
		t.Error("a speed of -1 is taken")
	}
}

// TestInstant: nothing takes any time where that is asked.
func TestInstant(t *testing.T) {
	s := newStand(t, func(o *Options) { o.Manual, o.Speed = false, math.Inf(1) })
	if made := s.create("stores", stores); made.StackStatus != types.StackStatusCreateComplete {
		t.Error(made.StackStatus)
	}
}
