package double

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// propose makes a change set of a stack and describes it.
func (s *stand) propose(stack, name, body string, kind types.ChangeSetType, p ...string) *cloudformation.DescribeChangeSetOutput {
	s.t.Helper()
	if _, err := s.cfn.CreateChangeSet(s.t.Context(), &cloudformation.CreateChangeSetInput{StackName: &stack, ChangeSetName: &name, ChangeSetType: kind, TemplateBody: &body, Parameters: params(p...), Capabilities: capabilities}); err != nil {
		s.t.Fatal(err)
	}
	s.settle()
	out, err := s.cfn.DescribeChangeSet(s.t.Context(), &cloudformation.DescribeChangeSetInput{StackName: &stack, ChangeSetName: &name, IncludePropertyValues: aws.Bool(true)})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *stand) execute(stack, name string) *types.Stack {
	s.t.Helper()
	if _, err := s.cfn.ExecuteChangeSet(s.t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: &stack, ChangeSetName: &name}); err != nil {
		s.t.Fatal(err)
	}
	s.settle()
	return s.stack(stack)
}

// physical is what a resource of the first account's region is.
func (s *stand) physical(stack, logical string) string {
	for _, r := range s.Resources() {
		if r.Stack == stack && r.Logical == logical && r.Region == testRegion && r.Account == testAccount {
			return r.Physical
		}
	}
	return ""
}

func wants(t *testing.T, story string, lines ...string) {
	t.Helper()
	rest := story
	for _, line := range lines {
		at := strings.Index("\n"+rest, "\n"+line)
		if at < 0 {
			t.Errorf("%q is not told, or not there:\n%s", line, story)
			return
		}
		rest = rest[at+len(line)-1:]
	}
}

// TestChangeSet: a change is shown property by property, and done as it was shown.
func TestChangeSet(t *testing.T) {
	s := newStand(t)
	first := s.propose("network", "first", network, types.ChangeSetTypeCreate)
	if first.Status != types.ChangeSetStatusCreateComplete || len(first.Changes) != 4 || s.stack("network").StackStatus != types.StackStatusReviewInProgress || len(s.Resources()) > 0 {
		t.Fatalf("the first is %+v", first)
	}
	if made := s.execute("network", "first"); made.StackStatus != types.StackStatusCreateComplete {
		t.Fatal(s.story("network"))
	}
	again := s.propose("network", "again", network, types.ChangeSetTypeUpdate)
	if again.Status != types.ChangeSetStatusFailed || *again.StatusReason != noChanges || again.ExecutionStatus != types.ExecutionStatusUnavailable {
		t.Errorf("the same again is %+v", again)
	}
	if _, err := s.cfn.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: aws.String("network"), ChangeSetName: aws.String("again")}); err == nil || !strings.Contains(err.Error(), "InvalidChangeSetStatus") {
		t.Errorf("to execute it gives %v", err)
	}
	vpcID, subnetID := s.physical("network", "Vpc"), s.physical("network", "Subnet")
	changed := s.propose("network", "subnet", strings.Replace(network, "[0, !Cidr", "[1, !Cidr", 1), types.ChangeSetTypeUpdate)
	if len(changed.Changes) != 1 {
		t.Fatalf("it changes %+v", changed.Changes)
	}
	c := changed.Changes[0].ResourceChange
	target := c.Details[0].Target
	if *c.LogicalResourceId != "Subnet" || c.Action != types.ChangeActionModify || c.Replacement != types.ReplacementTrue || *target.Path != "/Properties/CidrBlock" || *target.Name != "CidrBlock" ||
		target.RequiresRecreation != types.RequiresRecreationAlways || *target.BeforeValue != "10.0.0.0/24" || *target.AfterValue != "10.0.1.0/24" || *c.PhysicalResourceId != subnetID || c.PolicyAction != types.PolicyActionReplaceAndDelete {
		t.Errorf("the change is %+v, %+v", c, target)
	}
	if after := s.execute("network", "subnet"); after.StackStatus != types.StackStatusUpdateComplete {
		t.Fatal(s.story("network"))
	}
	if now := s.physical("network", "Subnet"); now == subnetID || s.physical("network", "Vpc") != vpcID {
		t.Errorf("the subnet is %s as before, or the VPC is not", now)
	}
	wants(t, s.story("network"), "network UPDATE_IN_PROGRESS", "Subnet UPDATE_IN_PROGRESS: Requested update requires the creation of a new physical resource; hence creating one.",
		"Subnet UPDATE_COMPLETE", "network UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "Subnet DELETE_IN_PROGRESS", "Subnet DELETE_COMPLETE", "network UPDATE_COMPLETE")
	// A replaced VPC replaces what is in it; what they become is not known yet.
	deep := s.propose("network", "vpc", network, types.ChangeSetTypeUpdate, "Cidr", "10.9.0.0/16")
	kinds := map[string]types.Replacement{}
	for _, c := range deep.Changes {
		kinds[*c.ResourceChange.LogicalResourceId] = c.ResourceChange.Replacement
		for _, detail := range c.ResourceChange.Details {
			switch *c.ResourceChange.LogicalResourceId + " " + *detail.Target.Name {
			case "Vpc CidrBlock":
				if detail.ChangeSource != types.ChangeSourceParameterReference || *detail.CausingEntity != "Cidr" || detail.Evaluation != types.EvaluationTypeStatic {
					t.Errorf("the VPC changes by %+v", detail)
				}
			case "Subnet VpcId":
				if detail.ChangeSource != types.ChangeSourceResourceReference || *detail.CausingEntity != "Vpc" || detail.Evaluation != types.EvaluationTypeDynamic || *detail.Target.AfterValue != afterApply {
					t.Errorf("the subnet changes by %+v, %+v", detail, detail.Target)
				}
			}
		}
	}
	if kinds["Vpc"] != types.ReplacementTrue || kinds["Subnet"] != types.ReplacementConditional || kinds["Attachment"] != types.ReplacementConditional || len(kinds) != 3 {
		t.Errorf("a new VPC changes %v", kinds)
	}
	if s.execute("network", "vpc").StackStatus != types.StackStatusUpdateComplete || s.physical("network", "Vpc") == vpcID || outputs(s.stack("network"))["VpcId"] != s.physical("network", "Vpc") {
		t.Error(s.story("network"))
	}
	list, err := s.cfn.ListChangeSets(t.Context(), &cloudformation.ListChangeSetsInput{StackName: aws.String("network")})
	if err != nil || len(list.Summaries) != 1 || list.Summaries[0].ExecutionStatus != types.ExecutionStatusExecuteComplete {
		t.Errorf("change sets are %v, %v", list, err)
	}
}

// TestRollback: what fails is taken back, and nothing is left.
func TestRollback(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	s.Fail(Fault{Stack: "network", Logical: "Subnet", On: "create", Reason: "no address is left", Times: 1})
	if made := s.create("network", network); made.StackStatus != types.StackStatusRollbackComplete {
		t.Fatal(made.StackStatus)
	}
	wants(t, s.story("network"), "Subnet CREATE_FAILED: no address is left", "Attachment CREATE_FAILED: Resource creation cancelled",
		"network ROLLBACK_IN_PROGRESS: The following resource(s) failed to create: [Subnet]. Rollback requested by user.", "Vpc DELETE_COMPLETE", "network ROLLBACK_COMPLETE")
	if left := s.Resources(); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
	_, err := s.cfn.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: aws.String("network"), ChangeSetName: aws.String("a"), TemplateBody: aws.String(network)})
	if err == nil || !strings.Contains(err.Error(), "is in ROLLBACK_COMPLETE state and can not be updated.") {
		t.Errorf("to update it gives %v", err)
	}
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: aws.String("network")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	s.create("network", network)
	before := s.Resources()

	// An update that fails half way, with a replacement done and a new resource made.
	next := strings.Replace(network, "Outputs:", "  Second: {Type: AWS::EC2::InternetGateway, DependsOn: Subnet}\n  Third: {Type: AWS::SNS::Topic, DependsOn: Second}\nOutputs:", 1)
	s.Fail(Fault{Logical: "Third", On: "create", Reason: "topics are out"})
	s.propose("network", "b", next, types.ChangeSetTypeUpdate, "Cidr", "10.9.0.0/16")
	if got := s.execute("network", "b"); got.StackStatus != types.StackStatusUpdateRollbackComplete {
		t.Fatal(s.story("network"))
	}
	wants(t, s.story("network"), "Third CREATE_FAILED: topics are out", "network UPDATE_ROLLBACK_IN_PROGRESS: The following resource(s) failed to update: [Third].",
		"Vpc UPDATE_COMPLETE", "network UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "Second DELETE_COMPLETE", "network UPDATE_ROLLBACK_COMPLETE")
	sameResources(t, before, s.Resources())
	if p := s.stack("network").Parameters[0]; *p.ParameterValue != "10.0.0.0/16" {
		t.Errorf("the parameter is %s", *p.ParameterValue)
	}
	s.Heal()

	// A rollback that fails can be continued, past what still fails.
	edited := strings.Replace(network, `-vpc"}]`, `-vpc2"}]`, 1)
	edited = strings.Replace(edited, "Outputs:", "  Third: {Type: AWS::SNS::Topic, DependsOn: Vpc}\nOutputs:", 1)
	s.Fail(Fault{Logical: "Third", On: "create"})
	s.Fail(Fault{Logical: "Vpc", On: "rollback", Reason: "not now", Times: 2})
	s.propose("network", "c", edited, types.ChangeSetTypeUpdate)
	if got := s.execute("network", "c"); got.StackStatus != types.StackStatusUpdateRollbackFailed {
		t.Fatal(s.story("network"))
	}
	if _, err := s.cfn.ContinueUpdateRollback(ctx, &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("network")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackFailed {
		t.Fatal(s.story("network"))
	}
	if _, err := s.cfn.ContinueUpdateRollback(ctx, &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("network"), ResourcesToSkip: []string{"Vpc"}}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackComplete {
		t.Fatal(s.story("network"))
	}
	sameResources(t, before, s.Resources())
	s.Heal()

	// Rollback can be left out, and asked for later.
	s.Fail(Fault{Logical: "Third", On: "create"})
	if _, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("network"), TemplateBody: &edited, DisableRollback: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateFailed {
		t.Fatal(s.story("network"))
	}
	if _, err := s.cfn.RollbackStack(ctx, &cloudformation.RollbackStackInput{StackName: aws.String("network")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackComplete {
		t.Fatal(s.story("network"))
	}
	sameResources(t, before, s.Resources())
	s.Heal()

	// An update can be called off.
	if _, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("network"), TemplateBody: &edited}); err != nil {
		t.Fatal(err)
	}
	s.Advance(3 * time.Second)
	if _, err := s.cfn.CancelUpdateStack(ctx, &cloudformation.CancelUpdateStackInput{StackName: aws.String("network")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackComplete || !strings.Contains(s.story("network"), "Resource update cancelled") {
		t.Fatal(s.story("network"))
	}
	sameResources(t, before, s.Resources())
}

func sameResources(t *testing.T, before, after []Resource) {
	t.Helper()
	if len(before) != len(after) {
		t.Fatalf("there were %d resources, there are %d: %v", len(before), len(after), after)
	}
	for i := range before {
		if before[i].Logical != after[i].Logical || before[i].Physical != after[i].Physical || !same(before[i].Properties, after[i].Properties) {
			t.Errorf("was %v, is %v", before[i], after[i])
		}
	}
}

const stores = `
Resources:
  Kept: {Type: AWS::S3::Bucket, DeletionPolicy: Retain, Properties: {BucketName: kept}}
  Saved: {Type: AWS::RDS::DBInstance, DeletionPolicy: Snapshot, UpdateReplacePolicy: Snapshot, Properties: {Engine: postgres, DBInstanceClass: db.t4g.micro, AllocatedStorage: "20", MasterUsername: a, MasterUserPassword: abcdefgh}}
  Gone: {Type: AWS::SNS::Topic}
Outputs:
  Endpoint: {Value: !Sub "${Saved.Endpoint.Address}:${Saved.Endpoint.Port}"}
`

// TestDelete: a deletion keeps what is to be kept, and stops where something fails.
func TestDelete(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	name := aws.String("stores")
	made := s.create("stores", stores)
	if e := outputs(made)["Endpoint"]; !strings.HasPrefix(e, "stores-saved-") || !strings.HasSuffix(e, ".me-central-1.rds.amazonaws.com:5432") {
		t.Errorf("the endpoint is %s", e)
	}
	if d := s.Now().Sub(*made.CreationTime); d < 12*time.Minute || d > 15*time.Minute {
		t.Errorf("it took %s", d)
	}
	if _, err := s.cfn.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: name}); err == nil || !strings.Contains(err.Error(), "Stack [stores] cannot be deleted while TerminationProtection is enabled") {
		t.Fatal(err)
	}
	if _, err := s.cfn.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	s.Fail(Fault{Logical: "Gone", On: "delete", Reason: "somebody listens"})
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: name}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	wants(t, s.story("stores"), "Kept DELETE_SKIPPED", "Gone DELETE_FAILED: somebody listens", "Saved DELETE_COMPLETE", "stores DELETE_FAILED: The following resource(s) failed to delete: [Gone].")
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: name, RetainResources: []string{"Gone"}}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got, err := s.cfn.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: name}); err == nil {
		t.Errorf("it is still %v", got.Stacks[0].StackStatus)
	}
	if got := s.stack(*made.StackId); got.StackStatus != types.StackStatusDeleteComplete || got.DeletionTime == nil {
		t.Errorf("by its id it is %v", got)
	}
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: name}); err != nil {
		t.Errorf("once more gives %v", err)
	}
	list, err := s.cfn.ListStacks(ctx, &cloudformation.ListStacksInput{StackStatusFilter: []types.StackStatus{types.StackStatusDeleteComplete}})
	if err != nil || len(list.StackSummaries) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestPolicy: what a stack's policy denies is not done, unless one for the time of the
// update allows it.
func TestPolicy(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	s.create("network", network)
	policy := `{"Statement": [{"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
		{"Effect": "Deny", "Action": ["Update:Replace", "Update:Delete"], "Principal": "*", "Resource": "*", "Condition": {"StringEquals": {"ResourceType": ["AWS::EC2::Subnet"]}}}]}`
	if _, err := s.cfn.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: aws.String("network"), StackPolicyBody: &policy}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.cfn.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: aws.String("network")}); err != nil || *got.StackPolicyBody != policy {
		t.Fatal(got, err)
	}
	before := s.Resources()
	other := strings.Replace(network, "[0, !Cidr", "[1, !Cidr", 1)
	in := &cloudformation.UpdateStackInput{StackName: aws.String("network"), TemplateBody: &other}
	if _, err := s.cfn.UpdateStack(ctx, in); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackComplete || !strings.Contains(s.story("network"), "Subnet UPDATE_FAILED: Action denied by stack policy: Statement [#1] does not allow [Update:Replace] for resource [Subnet];") {
		t.Error(s.story("network"))
	}
	sameResources(t, before, s.Resources())
	head, rest, _ := strings.Cut(network, "  Subnet:")
	_, rest, _ = strings.Cut(rest, "  Gateway:")
	rest, _, _ = strings.Cut(rest, "  SubnetIds:")
	gone := head + "  Gateway:" + rest
	if _, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("network"), TemplateBody: &gone}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateRollbackComplete || !strings.Contains(s.story("network"), "does not allow [Update:Delete]") {
		t.Error(s.story("network"))
	}
	sameResources(t, before, s.Resources())
	in.StackPolicyDuringUpdateBody = aws.String(`{"Statement": [{"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"}]}`)
	if _, err := s.cfn.UpdateStack(ctx, in); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusUpdateComplete {
		t.Error(s.story("network"))
	}
}

// TestDrift: what was changed behind a stack's back is found.
func TestDrift(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	s.create("network", network)
	detect := func() (*cloudformation.DescribeStackDriftDetectionStatusOutput, []types.StackResourceDrift) {
		t.Helper()
		began, err := s.cfn.DetectStackDrift(ctx, &cloudformation.DetectStackDriftInput{StackName: aws.String("network")})
		if err != nil {
			t.Fatal(err)
		}
		in := &cloudformation.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: began.StackDriftDetectionId}
		if st, err := s.cfn.DescribeStackDriftDetectionStatus(ctx, in); err != nil || st.DetectionStatus != types.StackDriftDetectionStatusDetectionInProgress {
			t.Error(st, err)
		}
		s.settle()
		st, err := s.cfn.DescribeStackDriftDetectionStatus(ctx, in)
		if err != nil || st.DetectionStatus != types.StackDriftDetectionStatusDetectionComplete {
			t.Fatal(st, err)
		}
		drifts, err := s.cfn.DescribeStackResourceDrifts(ctx, &cloudformation.DescribeStackResourceDriftsInput{StackName: aws.String("network"),
			StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified, types.StackResourceDriftStatusDeleted}})
		if err != nil {
			t.Fatal(err)
		}
		return st, drifts.StackResourceDrifts
	}
	if st, drifts := detect(); st.StackDriftStatus != types.StackDriftStatusInSync || len(drifts) > 0 {
		t.Errorf("at first it is %s: %v", st.StackDriftStatus, drifts)
	}
	for _, err := range []error{s.Edit(testAccount, testRegion, "network", "Vpc", "/Tags/0/Value", "other"), s.Edit(testAccount, testRegion, "network", "Vpc", "EnableDnsSupport", false),
		s.Delete(testAccount, testRegion, "network", "Gateway")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	st, drifts := detect()
	if st.StackDriftStatus != types.StackDriftStatusDrifted || *st.DriftedStackResourceCount != 2 || len(drifts) != 2 || s.stack("network").DriftInformation.StackDriftStatus != types.StackDriftStatusDrifted {
		t.Fatalf("it is %s: %+v", st.StackDriftStatus, drifts)
	}
	if drifts[0].StackResourceDriftStatus != types.StackResourceDriftStatusDeleted || *drifts[0].LogicalResourceId != "Gateway" {
		t.Errorf("the gateway is %+v", drifts[0])
	}
	// What the template does not say may be anything.
	if d := drifts[1].PropertyDifferences; len(d) != 1 || *d[0].PropertyPath != "/Tags/0/Value" || *d[0].ExpectedValue != "network-vpc" || *d[0].ActualValue != "other" || d[0].DifferenceType != types.DifferenceTypeNotEqual {
		t.Errorf("the VPC differs by %+v", d)
	}
	for _, err := range []error{s.Edit(testAccount, testRegion, "none", "Vpc", "A", 1), s.Delete(testAccount, testRegion, "network", "None"), s.Edit(testAccount, testRegion, "network", "Vpc", "Tags/7/Value", 1)} {
		if err == nil {
			t.Error("what is not there was edited")
		}
	}
}

// TestExports: what is exported is imported, and kept as long as it is.
func TestExports(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	s.create("network", network)
	user := "Resources:\n  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: a, VpcId: !ImportValue network-vpc}}\n"
	s.create("user", user)
	if r := s.Resources(); len(r) != 5 || r[4].Properties["VpcId"] != s.physical("network", "Vpc") {
		t.Errorf("resources are %v", r)
	}
	list, err := s.cfn.ListExports(ctx, &cloudformation.ListExportsInput{})
	if err != nil || len(list.Exports) != 1 || *list.Exports[0].Name != "network-vpc" {
		t.Errorf("exports are %v, %v", list, err)
	}
	who, err := s.cfn.ListImports(ctx, &cloudformation.ListImportsInput{ExportName: aws.String("network-vpc")})
	if err != nil || len(who.Imports) != 1 || who.Imports[0] != "user" {
		t.Errorf("imports are %v, %v", who, err)
	}
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: aws.String("network")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if got := s.stack("network"); got.StackStatus != types.StackStatusDeleteFailed || *got.StackStatusReason != "Delete canceled. Cannot delete export network-vpc as it is in use by user." {
		t.Errorf("it is %s: %s", got.StackStatus, aws.ToString(got.StackStatusReason))
	}
	twin := s.create("twin", strings.Replace(network, "${AWS::StackName}-vpc\"}}", "network-vpc\"}}", 1))
	if twin.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(s.story("twin"), "Export with name network-vpc is already exported by stack network") {
		t.Error(s.story("twin"))
	}
}

// TestLate: without the early check, a wrong property fails where its resource is made.
func TestLate(t *testing.T) {
	s := newStand(t, func(o *Options) { o.Late = true })
	body := "Resources:\n  Thing: {Type: AWS::SNS::Topic, Properties: {TopicNam: a}}\n"
	if set := s.propose("late", "first", body, types.ChangeSetTypeCreate); set.Status != types.ChangeSetStatusCreateComplete {
		t.Fatalf("the change set is %s: %s", set.Status, aws.ToString(set.StatusReason))
	}
	if made := s.execute("late", "first"); made.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(s.story("late"), "extraneous key [TopicNam] is not permitted") {
		t.Error(s.story("late"))
	}
}

// TestRetainNew: what is kept by its policy is kept after a failed creation too, unless
// the request says otherwise.
func TestRetainNew(t *testing.T) {
	s := newStand(t)
	body := "Resources:\n  Kept: {Type: AWS::SNS::Topic, DeletionPolicy: Retain}\n  Last: {Type: AWS::SQS::Queue, DependsOn: Kept}\n"
	s.Fail(Fault{Logical: "Last", On: "create"})
	for name, drops := range map[string]bool{"keeps": false, "drops": true} {
		if _, err := s.cfn.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &body, RetainExceptOnCreate: &drops}); err != nil {
			t.Fatal(err)
		}
		s.settle()
		want := "Kept DELETE_SKIPPED"
		if drops {
			want = "Kept DELETE_COMPLETE"
		}
		if got := s.stack(name); got.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(s.story(name), want) {
			t.Errorf("%s: want %s:\n%s", name, want, s.story(name))
		}
	}
}
