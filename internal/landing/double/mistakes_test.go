package double

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
)

// vpc is a resource that a template must have some of.
const vpc = "  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}\n"

func resources(more string) string { return "Resources:\n" + vpc + more }

// TestRefused: what is wrong with a template is told at once, in AWS's words.
func TestRefused(t *testing.T) {
	s := newStand(t)
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, body, want string
		params           []string
	}{
		{"nothing", " ", "Template format error: Unsupported structure.", nil},
		{"a word", "hello", "Template format error: Unsupported structure.", nil},
		{"no YAML", "Resources:\n  A: [", "Template format error: YAML not well-formed. (line ", nil},
		{"no JSON", "{\n\"Resources\": {\n", "Template format error: JSON not well-formed. (line 2, column ", nil},
		{"the same key twice", resources("  Vpc: {Type: AWS::EC2::VPC}\n"), "Template format error: YAML not well-formed. (line 3, column 3)", nil},
		{"an alias", "Resources:\n  A: &a {Type: AWS::EC2::VPC}\n  B: *a\n", "Template error: YAML aliases are not allowed in CloudFormation templates", nil},
		{"a null", "Resources:\n  A:\n    Type: AWS::EC2::VPC\n    Properties:\n", "Template format error: [/Resources/A/Properties] 'null' values are not allowed in templates", nil},
		{"no resources", "Description: nothing\n", "Template format error: At least one Resources member must be defined.", nil},
		{"a misspelt section", resources("Output: {}\n"), "Invalid template property or properties [Output]", nil},
		{"a wrong version", resources("AWSTemplateFormatVersion: '2010-09-10'\n"), "Template format error: unsupported value for AWSTemplateFormatVersion.", nil},
		{"a misspelt member", "Resources:\n  A: {Type: AWS::EC2::VPC, Propertys: {}}\n", "Invalid template resource property 'Propertys'", nil},
		{"no type", "Resources:\n  A: {Properties: {}}\n", "[/Resources/A] Every Resources object must contain a Type member.", nil},
		{"a bad name", "Resources:\n  My-Vpc: {Type: AWS::EC2::VPC}\n", "Template format error: Resource name My-Vpc is non alphanumeric.", nil},
		{"a misspelt type", resources("  B: {Type: AWS::S3::Buckett}\n"), "Template format error: Unrecognized resource types: [AWS::S3::Buckett]", nil},
		{"a type that the region lacks", resources("  B: {Type: AWS::DMS::ReplicationInstance}\n"), "Template format error: Unrecognized resource types: [AWS::DMS::ReplicationInstance]", nil},
		{"a reference to nothing", resources("  S: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpcc}}\n"), "Template format error: Unresolved resource dependencies [Vpcc] in the Resources block of the template", nil},
		{"a reference to nothing in an output", resources("Outputs:\n  A: {Value: !Ref Vpcc}\n"), "Template format error: Unresolved resource dependencies [Vpcc] in the Outputs block of the template", nil},
		{"a dependency on nothing", "Resources:\n  A: {Type: AWS::EC2::VPC, DependsOn: B}\n", "Template format error: Unresolved resource dependencies [B] in the Resources block of the template", nil},
		{"an attribute of nothing", resources("Outputs:\n  A: {Value: !GetAtt Vpcc.CidrBlock}\n"), "Template error: instance of Fn::GetAtt references undefined resource Vpcc", nil},
		{"an attribute that is none, of a type without handlers", resources("  B: {Type: AWS::EMR::Cluster}\nOutputs:\n  A: {Value: !GetAtt B.Arn}\n"), "Template error: resource B does not support attribute type Arn in Fn::GetAtt", nil},
		{"a circle", "Resources:\n  A: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: !Ref B}}\n  B: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: !Sub '${A}'}}\n", "Circular dependency between resources: [A, B]", nil},
		{"a condition that is not there", "Resources:\n  A: {Type: AWS::EC2::VPC, Condition: IsMain}\n", "Template format error: Unresolved condition dependency IsMain in the Resources block of the template", nil},
		{"an If of nothing", resources("Outputs:\n  A: {Value: !If [IsMain, a, b]}\n"), "Template error: unresolved condition dependency IsMain in Fn::If", nil},
		{"a condition on a resource", resources("Conditions:\n  A: !Equals [!Ref Vpc, a]\n"), "Template format error: Unresolved dependencies [Vpc]. Cannot reference resources in the Conditions block of the template", nil},
		{"a circle of conditions", resources("Conditions:\n  A: !Not [Condition: B]\n  B: !Not [Condition: A]\n"), "Circular dependency between conditions", nil},
		{"a map that is not there", resources("Outputs:\n  A: {Value: !FindInMap [Sizes, a, b]}\n"), "Template error: Mapping named 'Sizes' is not present in the 'Mappings' section of template.", nil},
		{"a selection of nothing", resources("Outputs:\n  A: {Value: !Select [3, [a, b]]}\n"), "Template error: Fn::Select cannot select nonexistent value at index 3", nil},
		{"a join of one", resources("Outputs:\n  A: {Value: !Join [a]}\n"), "Template error: every Fn::Join object requires two parameters", nil},
		{"a variable that is no name", resources("Outputs:\n  A: {Value: !Sub '${Vpc Id}'}\n"), "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, underscores, periods, and colons", nil},
		{"a function that is none", resources("Outputs:\n  A: {Value: {'Fn::Joyn': [a, [b]]}}\n"), "Template error: Encountered unsupported function: Fn::Joyn Supported functions are: [", nil},
		{"a function that is none in a resource", "Resources:\n  A: {Type: AWS::EC2::VPC, Properties: {CidrBlock: {'Fn::Concat': [a], b: c}}}\n", "Encountered unsupported function: Fn::Concat", nil},
		{"a list as an output", resources("Outputs:\n  A: {Value: !GetAZs ''}\n"), "must evaluate to a String and not a List", nil},
		{"an output without a value", resources("Outputs:\n  A: {Description: a}\n"), "Output A is malformed.", nil},
		{"a parameter without a type", resources("Parameters:\n  A: {Default: a}\n"), "Template format error: Every Parameters object must contain a Type member.", nil},
		{"a type of parameter that is none", resources("Parameters:\n  A: {Type: Text}\n"), "Template format error: Unrecognized parameter type: Text", nil},
		{"a value that is missing", resources("Parameters:\n  A: {Type: String}\n"), "Parameters: [A] must have values", nil},
		{"a value of nothing", resources(""), "Parameters: [A] do not exist in the template", []string{"A", "1"}},
		{"a value that is not allowed", resources("Parameters:\n  A: {Type: String, AllowedValues: [x, y]}\n"), "Parameter 'A' must be one of AllowedValues", []string{"A", "z"}},
		{"a value of another form", resources("Parameters:\n  A: {Type: String, AllowedPattern: '[a-z]+'}\n"), "Parameter 'A' must match pattern [a-z]+", []string{"A", "Z"}},
		{"a value that says why", resources("Parameters:\n  A: {Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: small letters}\n"), "Parameter 'A' failed to satisfy constraint: small letters", []string{"A", "Z"}},
		{"no number", resources("Parameters:\n  A: {Type: Number}\n"), "Parameter 'A' must be a number.", []string{"A", "many"}},
		{"a number too small", resources("Parameters:\n  A: {Type: Number, MinValue: 3}\n"), "Parameter 'A' must be a number not less than 3", []string{"A", "2"}},
		{"a VPC that is not there", resources("Parameters:\n  A: {Type: 'AWS::EC2::VPC::Id'}\n"), "Parameter validation failed: parameter value vpc-0123456789abcdef0 for parameter name A does not exist", []string{"A", "vpc-0123456789abcdef0"}},
		{"a stored parameter that is not there", resources("Parameters:\n  A: {Type: 'AWS::SSM::Parameter::Value<String>'}\n"), "Unable to fetch parameters [/none] from parameter store for this account.", []string{"A", "/none"}},
		{"too many resources", "Resources:\n" + many(501, "  A%d: {Type: AWS::SNS::Topic}\n"), "Template format error: Number of resources, 501, is greater than maximum allowed, 500", nil},
		{"too many parameters", resources("Parameters:\n" + many(201, "  A%d: {Type: String}\n")), "Template format error: Number of parameters, 201, is greater than maximum allowed, 200", nil},
		{"too many outputs", resources("Outputs:\n" + many(201, "  A%d: {Value: a}\n")), "Template format error: Number of outputs, 201, is greater than maximum allowed, 200", nil},
		{"too large", resources("# " + strings.Repeat("x", maxBody)), "Member must have length less than or equal to 51200", nil},
		{"a policy that is none", "Resources:\n  A: {Type: AWS::EC2::VPC, DeletionPolicy: Keep}\n", "Unrecognized DeletionPolicy Keep for resource A", nil},
		{"a snapshot of what has none", "Resources:\n  A: {Type: AWS::EC2::VPC, DeletionPolicy: Snapshot}\n", "resource type AWS::EC2::VPC does not support deletion policy Snapshot", nil},
		{"a rule", resources("Parameters:\n  A: {Type: CommaDelimitedList}\nRules:\n  Few: {RuleCondition: !Not [!Equals [!Join ['', !Ref A], '']], Assertions: [{Assert: !EachMemberIn [!Ref A, [x, y]], AssertDescription: only x and y}]}\n"), "Rule Few failed: only x and y", []string{"A", "x,z"}},
		{"a transform that is none", resources("Transform: Foo\n"), "No transform named Foo found.", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.cfn.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("wrong"), TemplateBody: &tt.body, Parameters: params(tt.params...)})
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != "ValidationError" || !strings.Contains(api.ErrorMessage(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
			if len(s.Resources()) > 0 || s.find(place{testAccount, testRegion}, "wrong") != nil {
				t.Error("something was made")
			}
		})
	}
}

// TestLacking: what a function does not find fails a change set, and takes back what is
// done without one.
func TestLacking(t *testing.T) {
	s := newStand(t)
	for i, tt := range []struct{ name, body, want string }{
		{"a key that a map lacks", resources("Mappings: {Sizes: {a: {b: c}}}\nOutputs:\n  A: {Value: !FindInMap [Sizes, a, x]}\n"), "Template error: Unable to get mapping for Sizes::a::x"},
		{"an import of nothing", resources("Outputs:\n  A: {Value: !ImportValue network-vpc}\n"), "No export named network-vpc found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, name, set, own := t.Context(), fmt.Sprintf("set%d", i), "first", fmt.Sprintf("own%d", i)
			if _, err := s.cfn.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: &name, ChangeSetName: &set, ChangeSetType: types.ChangeSetTypeCreate, TemplateBody: &tt.body}); err != nil {
				t.Fatal(err)
			}
			s.settle()
			if got, err := s.cfn.DescribeChangeSet(ctx, &cloudformation.DescribeChangeSetInput{StackName: &name, ChangeSetName: &set}); err != nil || got.Status != types.ChangeSetStatusFailed || *got.StatusReason != tt.want {
				t.Errorf("the change set is %v, %v", got, err)
			}
			if st := s.create(own, tt.body); st.StackStatus != types.StackStatusRollbackComplete {
				t.Errorf("it is %s", st.StackStatus)
			}
			if want := own + " CREATE_IN_PROGRESS: User Initiated\n" + own + " ROLLBACK_IN_PROGRESS: " + tt.want + ". Rollback requested by user.\n" + own + " ROLLBACK_COMPLETE"; s.story(own) != want {
				t.Errorf("want\n%s\ngot\n%s", want, s.story(own))
			}
			kept, gone := "kept"+own, "gone"+own
			for stack, onFailure := range map[string]types.OnFailure{kept: types.OnFailureDoNothing, gone: types.OnFailureDelete} {
				if _, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &stack, TemplateBody: &tt.body, OnFailure: onFailure}); err != nil {
					t.Fatal(err)
				}
			}
			s.settle()
			if st := s.stack(kept); st.StackStatus != types.StackStatusCreateFailed {
				t.Errorf("what is kept is %s", st.StackStatus)
			}
			if s.find(place{testAccount, testRegion}, gone) != nil {
				t.Error("what is to be deleted is there")
			}
			was := "was" + own
			s.create(was, resources(""))
			if _, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: &was, TemplateBody: &tt.body}); err != nil {
				t.Fatal(err)
			}
			s.settle()
			if st := s.stack(was); st.StackStatus != types.StackStatusUpdateRollbackComplete || len(st.Outputs) > 0 || !strings.Contains(s.story(was), was+" UPDATE_ROLLBACK_IN_PROGRESS: "+tt.want) {
				t.Errorf("the update has ended so:\n%s", s.story(was))
			}
			if got, err := s.cfn.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &was}); err != nil || *got.TemplateBody != resources("") {
				t.Errorf("its template is %v, %v", got, err)
			}
			if made := s.Resources(); len(made) != i+1 {
				t.Errorf("there are %v", made)
			}
		})
	}
}

// TestNoAttribute: that a resource has no such attribute is told where the attribute is
// wanted, after the resource is made; then all is taken back.
func TestNoAttribute(t *testing.T) {
	s := newStand(t)
	for name, tt := range map[string]struct{ more, failed string }{
		"output":   {"Outputs:\n  A: {Value: !GetAtt Vpc.Arn}\n", "output ROLLBACK_IN_PROGRESS: Requested attribute Arn does not exist in schema for AWS::EC2::VPC. Rollback requested by user."},
		"sub":      {"Outputs:\n  A: {Value: !Sub '${Vpc.Name}'}\n", "sub ROLLBACK_IN_PROGRESS: Requested attribute Name does not exist in schema for AWS::EC2::VPC. Rollback requested by user."},
		"resource": {"  B: {Type: AWS::SNS::Topic, Properties: {DisplayName: !GetAtt Vpc.Arn}}\n", "B CREATE_FAILED: Requested attribute Arn does not exist in schema for AWS::EC2::VPC"},
	} {
		st := s.create(name, resources(tt.more))
		if story := s.story(name); st.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(story, "\nVpc CREATE_COMPLETE\n") || !strings.Contains(story, tt.failed+"\n") {
			t.Errorf("%s is %s:\n%s", name, st.StackStatus, story)
		}
		kept, body := name+"-kept", resources(tt.more)
		s.create(kept, resources(""))
		if _, err := s.cfn.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: &kept, TemplateBody: &body}); err != nil {
			t.Fatal(err)
		}
		s.settle()
		if st := s.stack(kept); st.StackStatus != types.StackStatusUpdateRollbackComplete {
			t.Errorf("%s is %s:\n%s", kept, st.StackStatus, s.story(kept))
		}
	}
	if made := s.Resources(); len(made) != 3 {
		t.Errorf("there are %v", made)
	}
}

// TestProperties: what is wrong with a resource's properties fails a change set before
// anything is made, and a stack that is made without one where the resource is.
func TestProperties(t *testing.T) {
	s := newStand(t)
	for i, tt := range []struct{ name, resource, want string }{
		{"misspelt", "{Type: AWS::EC2::VPC, Properties: {CidrBlok: 10.0.0.0/16}}", "#: extraneous key [CidrBlok] is not permitted"},
		{"misspelt deep inside", "{Type: AWS::S3::Bucket, Properties: {VersioningConfiguration: {State: Enabled}}}", "#/VersioningConfiguration: extraneous key [State] is not permitted"},
		{"missing", "{Type: AWS::EC2::Subnet, Properties: {CidrBlock: 10.0.0.0/24}}", "#: required key [VpcId] not found"},
		{"missing deep inside", "{Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16, Tags: [{Key: a}]}}", "#/Tags/0: required key [Value] not found"},
		{"no list", "{Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16, Tags: {a: b}}}", "#/Tags: expected type: JSONArray, found: JSONObject"},
		{"no boolean", "{Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16, EnableDnsSupport: maybe}}", "#/EnableDnsSupport: expected type: Boolean, found: String"},
		{"no integer", "{Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: long}}", "#/RetentionInDays: expected type: Integer, found: String"},
		{"no object", "{Type: AWS::S3::Bucket, Properties: {VersioningConfiguration: Enabled}}", "#/VersioningConfiguration: expected type: JSONObject, found: String"},
		{"a scalar too much", "{Type: AWS::EC2::VPC, Properties: {CidrBlock: [10.0.0.0/16]}}", "#/CidrBlock: expected type: String, found: JSONArray"},
		{"not of the list", "{Type: AWS::S3::Bucket, Properties: {VersioningConfiguration: {Status: 'On'}}}", "#/VersioningConfiguration/Status: On is not a valid enum value"},
		{"no such number", "{Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 2}}", "#/RetentionInDays: 2 is not a valid enum value"},
		{"of another form", "{Type: AWS::ECR::Repository, Properties: {RepositoryName: 'A B'}}", "#/RepositoryName: failed validation constraint for keyword [pattern]"},
		{"too long", "{Type: AWS::Logs::LogGroup, Properties: {LogGroupName: " + strings.Repeat("a", 513) + "}}", "#/LogGroupName: expected maxLength: 512, actual: 513"},
		{"too large", "{Type: AWS::KMS::Key, Properties: {KeyPolicy: {}, PendingWindowInDays: 31}}", "#/PendingWindowInDays: 31 is not less or equal to 30"},
		{"too small", "{Type: AWS::KMS::Key, Properties: {KeyPolicy: {}, PendingWindowInDays: 3}}", "#/PendingWindowInDays: 3 is not greater or equal to 7"},
		{"only read", "{Type: AWS::SNS::Topic, Properties: {TopicArn: a}}", "#/TopicArn: extraneous key [TopicArn] is not permitted: it is a read-only property"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, body := fmt.Sprintf("wrong%d", i), "Resources:\n  Thing: "+tt.resource+"\n"
			_, err := s.cfn.CreateChangeSet(t.Context(), &cloudformation.CreateChangeSetInput{StackName: &name, ChangeSetName: aws.String("first"), ChangeSetType: types.ChangeSetTypeCreate, TemplateBody: &body, Capabilities: capabilities})
			if err != nil {
				t.Fatal(err)
			}
			s.settle()
			got, err := s.cfn.DescribeChangeSet(t.Context(), &cloudformation.DescribeChangeSetInput{StackName: &name, ChangeSetName: aws.String("first")})
			if err != nil || got.Status != types.ChangeSetStatusFailed || *got.StatusReason != earlyFailed {
				t.Fatalf("the change set is %v, %v", got, err)
			}
			events, err := s.cfn.DescribeEvents(t.Context(), &cloudformation.DescribeEventsInput{ChangeSetName: got.ChangeSetId, Filters: &types.EventFilter{FailedEvents: aws.Bool(true)}})
			if err != nil || len(events.OperationEvents) == 0 {
				t.Fatal(events, err)
			}
			var reasons []string
			for _, e := range events.OperationEvents {
				reasons = append(reasons, *e.ValidationStatusReason)
				if *e.LogicalResourceId != "Thing" || Locate(body, *e.ValidationPath) != 2 {
					t.Errorf("it is of %s, at %s, line %d", *e.LogicalResourceId, *e.ValidationPath, Locate(body, *e.ValidationPath))
				}
			}
			if !strings.Contains(strings.Join(reasons, "\n"), tt.want) {
				t.Errorf("want %q, got %q", tt.want, reasons)
			}
			direct := name + "d"
			made := s.create(direct, body)
			if made.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(s.story(direct), "Thing CREATE_FAILED: Properties validation failed for resource Thing with message:\n") || !strings.Contains(s.story(direct), tt.want) {
				t.Errorf("without a change set it is %s:\n%s", made.StackStatus, s.story(direct))
			}
		})
	}
	if left := s.Resources(); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
}

// TestErrors: what is wrong with a request has AWS's code.
func TestErrors(t *testing.T) {
	s := newStand(t)
	role := "Resources:\n  Role: {Type: AWS::IAM::Role, Properties: {RoleName: a, AssumeRolePolicyDocument: {}}}\n"
	s.create("there", network)
	ctx := t.Context()
	name := func(s string) *string { return &s }
	for _, tt := range []struct {
		name, code, want string
		do               func() error
	}{
		{"rights", "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]", func() error {
			_, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: name("role"), TemplateBody: &role, Capabilities: []types.Capability{types.CapabilityCapabilityIam}})
			return err
		}},
		{"a stack that is there", "AlreadyExistsException", "Stack [there] already exists", func() error {
			_, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: name("there"), TemplateBody: name(network)})
			return err
		}},
		{"a name", "ValidationError", "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", func() error {
			_, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: name("my_stack"), TemplateBody: name(network)})
			return err
		}},
		{"a stack that is not there", "ValidationError", "Stack with id none does not exist", func() error {
			_, err := s.cfn.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: name("none")})
			return err
		}},
		{"nothing to update", "ValidationError", "No updates are to be performed.", func() error {
			_, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: name("there"), UsePreviousTemplate: aws.Bool(true)})
			return err
		}},
		{"a change set that is not there", "ChangeSetNotFound", "ChangeSet [none] does not exist", func() error {
			_, err := s.cfn.DescribeChangeSet(ctx, &cloudformation.DescribeChangeSetInput{StackName: name("there"), ChangeSetName: name("none")})
			return err
		}},
		{"to make what is there", "ValidationError", "Stack [there] already exists and cannot be created again with the changeSet [a].", func() error {
			_, err := s.cfn.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: name("there"), ChangeSetName: name("a"), ChangeSetType: types.ChangeSetTypeCreate, TemplateBody: name(network)})
			return err
		}},
		{"to change what is not there", "ValidationError", "Stack [none] does not exist", func() error {
			_, err := s.cfn.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: name("none"), ChangeSetName: name("a"), TemplateBody: name(network)})
			return err
		}},
		{"an import", "ValidationError", "change sets of type IMPORT are not supported", func() error {
			_, err := s.cfn.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: name("there"), ChangeSetName: name("a"), ChangeSetType: types.ChangeSetTypeImport, TemplateBody: name(network)})
			return err
		}},
		{"another type", "ValidationError", "Update of resource type is not permitted. The new template modifies resource type of the following resources: [Gateway]", func() error {
			_, err := s.cfn.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: name("there"), TemplateBody: name(strings.Replace(network, "AWS::EC2::InternetGateway", "AWS::EC2::VPNGateway, Properties: {Type: ipsec.1}", 1))})
			return err
		}},
		{"a bucket", "ValidationError", "TemplateURL must reference a valid S3 object to which you have access.", func() error {
			_, err := s.cfn.ValidateTemplate(ctx, &cloudformation.ValidateTemplateInput{TemplateURL: name("https://s3/a")})
			return err
		}},
		{"a policy", "ValidationError", "Error validating stack policy: Invalid stack policy", func() error {
			_, err := s.cfn.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: name("there"), StackPolicyBody: name("{}")})
			return err
		}},
		{"a token", "ValidationError", "The next token is invalid.", func() error {
			_, err := s.cfn.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: name("there"), NextToken: name("x")})
			return err
		}},
		{"an action", "InvalidAction", "The action ListTypes is not valid", func() error {
			_, err := s.cfn.ListTypes(ctx, &cloudformation.ListTypesInput{})
			return err
		}},
		{"to keep what is not failed", "ValidationError", "only when the stack is in the DELETE_FAILED state", func() error {
			_, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: name("there"), RetainResources: []string{"Vpc"}})
			return err
		}},
	} {
		err := tt.do()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != tt.code || !strings.Contains(api.ErrorMessage(), tt.want) {
			t.Errorf("%s: want %s with %q, got %v", tt.name, tt.code, tt.want, err)
		}
	}
}
