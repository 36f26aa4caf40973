package double

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// TestFunctions: what each function gives, in YAML's short form and JSON's long one.
func TestFunctions(t *testing.T) {
	s := newStand(t)
	const head = `
Transform: AWS::LanguageExtensions
Parameters:
  Environment: {Type: String, Default: main}
  Names: {Type: CommaDelimitedList, Default: "a, b,c"}
  Stored: {Type: "AWS::SSM::Parameter::Value<String>", Default: /network/name}
  Password: {Type: String, NoEcho: true, Default: hunter22}
Mappings:
  Sizes: {main: {nodes: 3}, dev: {nodes: 1}}
Conditions:
  Main: !Equals [!Ref Environment, main]
  Dev: !Not [Condition: Main]
  Both: !And [Condition: Main, !Equals [a, a]]
  Either: !Or [Condition: Dev, !Equals [1, "1"]]
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.1.0.0/16}}
  Never: {Type: AWS::SNS::Topic, Condition: Dev}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: !If [Main, !Ref "AWS::NoValue", fixed]}}
  Role: {Type: AWS::IAM::Role, Properties: {Path: /app/, AssumeRolePolicyDocument: {}}}
  Bucket: {Type: AWS::S3::Bucket}
  Key: {Type: AWS::KMS::Key, Properties: {KeyPolicy: {}}}
  Queue: {Type: AWS::SQS::Queue}
  Repository: {Type: AWS::ECR::Repository, Properties: {RepositoryName: pay}}
  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: internal, Subnets: [subnet-1, subnet-2]}}
  Cache: {Type: AWS::ElastiCache::ReplicationGroup, Properties: {ReplicationGroupDescription: a, Engine: valkey, CacheNodeType: cache.t4g.micro}}
  Secret: {Type: AWS::SecretsManager::Secret, Properties: {Name: pay/master}}
  Address: {Type: AWS::EC2::EIP}
  Cluster: {Type: AWS::EKS::Cluster, Properties: {Name: main, RoleArn: !GetAtt Role.Arn, ResourcesVpcConfig: {SubnetIds: [subnet-1, subnet-2]}}}
Outputs:
`
	var b strings.Builder
	b.WriteString(head)
	cases := []struct{ value, want string }{
		{`!Ref AWS::AccountId`, testAccount},
		{`!Ref AWS::Region`, testRegion},
		{`!Ref AWS::Partition`, "aws"},
		{`!Ref AWS::URLSuffix`, "amazonaws.com"},
		{`!Ref AWS::StackName`, "functions"},
		{`!Ref Stored`, "main"},
		{`!Join ["-", !Ref Names]`, "a-b-c"},
		{`!Select [1, !Ref Names]`, "b"},
		{`!Select [1, !Split ["/", a/b/c]]`, "b"},
		{`!Join ["", [!Ref Environment, 1, true]]`, "main1true"},
		{`!FindInMap [Sizes, !Ref Environment, nodes]`, "3"},
		{`!If [Main, yes it is, no]`, "yes it is"},
		{`!If [Dev, a, !If [Both, b, c]]`, "b"},
		{`!If [Either, a, b]`, "a"},
		{`!Sub "${Environment}-${!Literal}-${AWS::Region}"`, "main-${Literal}-me-central-1"},
		{`!Sub ["${A}/${Vpc.CidrBlock}", {A: !Ref Environment}]`, "main/10.1.0.0/16"},
		{`!Join [",", !Cidr [10.0.0.0/16, 3, 12]]`, "10.0.0.0/20,10.0.16.0/20,10.0.32.0/20"},
		{`!Select [2, !Cidr ["2001:db8::/56", 4, 64]]`, "2001:db8:0:2::/64"},
		{`!Join [",", !GetAZs ""]`, "me-central-1a,me-central-1b,me-central-1c"},
		{`!Select [0, !GetAZs {Ref: "AWS::Region"}]`, "me-central-1a"},
		{`{"Fn::Base64": {"Fn::Sub": "hello"}}`, "aGVsbG8="},
		{`!Base64 {"Fn::Join": ["", ["a"]]}`, "YQ=="},
		{`{"Fn::GetAtt": ["Vpc", "CidrBlock"]}`, "10.1.0.0/16"},
		{`!GetAtt [Vpc, CidrBlock]`, "10.1.0.0/16"},
		{`!Join ["", [{"Fn::Length": !Ref Names}]]`, "3"},
		{`{"Fn::ToJsonString": {b: 1, a: [x]}}`, `{"a":["x"],"b":1}`},
		{`!Ref Topic`, "arn:aws:sns:me-central-1:111122223333:functions-Topic-*"},
		{`!GetAtt Topic.TopicName`, "functions-Topic-*"},
		{`!Ref Role`, "functions-Role-*"},
		{`!GetAtt Role.Arn`, "arn:aws:iam::111122223333:role/app/functions-Role-*"},
		{`!Ref Bucket`, "functions-bucket-*"},
		{`!GetAtt Bucket.Arn`, "arn:aws:s3:::functions-bucket-*"},
		{`!GetAtt Key.Arn`, "arn:aws:kms:me-central-1:111122223333:key/*-*-*-*-*"},
		{`!Ref Queue`, "https://sqs.me-central-1.amazonaws.com/111122223333/functions-Queue-*"},
		{`!GetAtt Queue.Arn`, "arn:aws:sqs:me-central-1:111122223333:functions-Queue-*"},
		{`!GetAtt Repository.RepositoryUri`, "111122223333.dkr.ecr.me-central-1.amazonaws.com/pay"},
		{`!Ref Balancer`, "arn:aws:elasticloadbalancing:me-central-1:111122223333:loadbalancer/app/*/*"},
		{`!GetAtt Balancer.DNSName`, "internal-*.me-central-1.elb.amazonaws.com"},
		{`!GetAtt Cache.PrimaryEndPoint.Port`, "6379"},
		{`!GetAtt Cache.PrimaryEndPoint.Address`, "master.functions-cache-*.cache.amazonaws.com"},
		{`!Ref Secret`, "arn:aws:secretsmanager:me-central-1:111122223333:secret:pay/master-*"},
		{`!GetAtt Address.AllocationId`, "eipalloc-*"},
		{`!GetAtt Cluster.Arn`, "arn:aws:eks:me-central-1:111122223333:cluster/main"},
		{`!GetAtt Cluster.Endpoint`, "https://*.gr7.me-central-1.eks.amazonaws.com"},
		{`!GetAtt Cluster.ClusterSecurityGroupId`, "sg-*"},
		{`!Ref Cluster`, "main"},
	}
	for i, c := range cases {
		fmt.Fprintf(&b, "  Out%d: {Value: %s}\n", i, c.value)
	}
	body := b.String()
	in := &cloudformation.CreateStackInput{StackName: aws.String("functions"), TemplateBody: &body, Capabilities: append(capabilities, types.CapabilityCapabilityAutoExpand)}
	if _, err := s.cfn.CreateStack(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.settle()
	made := s.stack("functions")
	if made.StackStatus != types.StackStatusCreateComplete {
		t.Fatal(s.story("functions"))
	}
	got := outputs(made)
	for i, c := range cases {
		if v := got[fmt.Sprintf("Out%d", i)]; !wild(c.want, v) {
			t.Errorf("%s: want %s, got %s", c.value, c.want, v)
		}
	}
	for _, p := range made.Parameters {
		if *p.ParameterKey == "Password" && *p.ParameterValue != noEchoMask || *p.ParameterKey == "Stored" && *p.ResolvedValue != "main" {
			t.Errorf("a parameter is told as %s", *p.ParameterValue)
		}
	}
	// Another double gives the same.
	again := newStand(t)
	if _, err := again.cfn.CreateStack(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	again.settle()
	for key, v := range outputs(again.stack("functions")) {
		if got[key] != v {
			t.Errorf("%s was %s, and is %s", key, got[key], v)
		}
	}
}

// TestNoEcho: a secret is in no answer.
func TestNoEcho(t *testing.T) {
	s := newStand(t)
	body := `{"Parameters": {"Password": {"Type": "String", "NoEcho": true}},
		"Resources": {"Db": {"Type": "AWS::RDS::DBInstance", "Properties": {"Engine": "mariadb", "DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20, "MasterUsername": "a", "MasterUserPassword": {"Ref": "Password"}}}},
		"Outputs": {"Port": {"Value": {"Fn::GetAtt": ["Db", "Endpoint.Port"]}}}}`
	s.propose("db", "first", body, types.ChangeSetTypeCreate, "Password", "correct horse")
	made := s.execute("db", "first")
	if outputs(made)["Port"] != "3306" {
		t.Errorf("outputs are %v", outputs(made))
	}
	changed := s.propose("db", "second", body, types.ChangeSetTypeUpdate, "Password", "battery staple")
	if err := s.Edit(testAccount, testRegion, "db", "Db", "DBInstanceClass", "db.t4g.large"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.cfn.DetectStackDrift(t.Context(), &cloudformation.DetectStackDriftInput{StackName: aws.String("db")}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	drifts, err := s.cfn.DescribeStackResourceDrifts(t.Context(), &cloudformation.DescribeStackResourceDriftsInput{StackName: aws.String("db")})
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.cfn.DescribeStackEvents(t.Context(), &cloudformation.DescribeStackEventsInput{StackName: aws.String("db")})
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	for _, c := range changed.Changes {
		told.WriteString(*c.ResourceChange.BeforeContext + *c.ResourceChange.AfterContext + *c.ResourceChange.Details[0].Target.BeforeValue + *c.ResourceChange.Details[0].Target.AfterValue)
	}
	for _, e := range events.StackEvents {
		told.WriteString(aws.ToString(e.ResourceProperties))
	}
	for _, d := range drifts.StackResourceDrifts {
		told.WriteString(*d.ActualProperties + *d.ExpectedProperties)
	}
	if all := told.String(); strings.Contains(all, "horse") || strings.Contains(all, "staple") || !strings.Contains(all, noEchoMask) {
		t.Errorf("the secret is told: %s", all)
	}
}
