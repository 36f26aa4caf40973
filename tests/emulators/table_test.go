package emulators

// comparisons are small templates: what is made, what is changed in place, replaced,
// added and taken away, and what is wrong.
var comparisons = []comparison{
	{
		name: "a network",
		body: `{"Resources": {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}}, "Outputs": {"Id": {"Value": {"Ref": "Vpc"}}}}`,
		next: `{"Resources": {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16", "EnableDnsSupport": false}}}, "Outputs": {"Id": {"Value": {"Ref": "Vpc"}}}}`,
	},
	{
		name: "a subnet that is replaced",
		body: `{"Resources": {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}, "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.1.0/24"}}}, "Outputs": {"Id": {"Value": {"Ref": "Subnet"}}}}`,
		next: `{"Resources": {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}, "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.9.0/24"}}}, "Outputs": {"Id": {"Value": {"Ref": "Subnet"}}}}`,
	},
	{
		name: "a queue instead of another",
		body: `{"Resources": {"A": {"Type": "AWS::SQS::Queue"}}, "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["A", "Arn"]}}}}`,
		next: `{"Resources": {"B": {"Type": "AWS::SQS::Queue"}}, "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["B", "Arn"]}}}}`,
	},
	{
		name: "a topic",
		body: `{"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "one"}}}, "Outputs": {"Ref": {"Value": {"Ref": "Topic"}}, "Name": {"Value": {"Fn::GetAtt": ["Topic", "TopicName"]}}}}`,
		next: `{"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "two"}}}, "Outputs": {"Ref": {"Value": {"Ref": "Topic"}}}}`,
	},
	{
		name: "a role",
		body: `{"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "reader", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}}}}, "Outputs": {"Ref": {"Value": {"Ref": "Role"}}, "Arn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}}}}`,
		next: `{"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "writer", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}}}}, "Outputs": {"Ref": {"Value": {"Ref": "Role"}}}}`,
	},
	{
		name: "a log group",
		body: `{"Resources": {"Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": 30}}}, "Outputs": {"Ref": {"Value": {"Ref": "Logs"}}, "Arn": {"Value": {"Fn::GetAtt": ["Logs", "Arn"]}}}}`,
		next: `{"Resources": {"Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": 60}}}}`,
	},
	{
		name: "a key",
		body: `{"Resources": {"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}}}, "Name": {"Type": "AWS::KMS::Alias", "Properties": {"AliasName": "alias/compared", "TargetKeyId": {"Ref": "Key"}}}}, "Outputs": {"Ref": {"Value": {"Ref": "Key"}}, "Arn": {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}, "Name": {"Value": {"Ref": "Name"}}}}`,
		next: `{"Resources": {"Key": {"Type": "AWS::KMS::Key", "Properties": {"EnableKeyRotation": true, "KeyPolicy": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}}}, "Name": {"Type": "AWS::KMS::Alias", "Properties": {"AliasName": "alias/compared", "TargetKeyId": {"Ref": "Key"}}}}}`,
	},
	{
		name: "a bucket",
		body: `{"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}, "Outputs": {"Ref": {"Value": {"Ref": "Bucket"}}, "Arn": {"Value": {"Fn::GetAtt": ["Bucket", "Arn"]}}}}`,
		next: `{"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"VersioningConfiguration": {"Status": "Enabled"}}}}}`,
	},
	{
		name: "a repository",
		body: `{"Resources": {"Images": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "images"}}}, "Outputs": {"Ref": {"Value": {"Ref": "Images"}}, "Arn": {"Value": {"Fn::GetAtt": ["Images", "Arn"]}}, "Uri": {"Value": {"Fn::GetAtt": ["Images", "RepositoryUri"]}}}}`,
		next: `{"Resources": {"Images": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "images", "ImageTagMutability": "IMMUTABLE"}}}}`,
	},
	{
		name: "a condition and functions",
		body: `{"Parameters": {"More": {"Type": "String", "Default": "no"}}, "Mappings": {"Sizes": {"small": {"gib": "20"}}}, "Conditions": {"Two": {"Fn::Equals": [{"Ref": "More"}, "yes"]}}, "Resources": {"One": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": "/one", "Value": {"Fn::Join": ["-", ["a", {"Fn::FindInMap": ["Sizes", "small", "gib"]}]]}}}, "Two": {"Type": "AWS::SSM::Parameter", "Condition": "Two", "Properties": {"Type": "String", "Name": "/two", "Value": "b"}}}, "Outputs": {"Ref": {"Value": {"Ref": "One"}}, "Sub": {"Value": {"Fn::Sub": "${AWS::Region}.${More}.${AWS::StackName}"}}, "Part": {"Value": {"Fn::Select": [1, {"Fn::Split": [",", "x,y"]}]}}}}`,
		next: `{"Parameters": {"More": {"Type": "String", "Default": "yes"}, "Other": {"Type": "String", "Default": "yes"}}, "Conditions": {"Two": {"Fn::Equals": [{"Ref": "Other"}, "yes"]}}, "Resources": {"One": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": "/one", "Value": "c"}}, "Two": {"Type": "AWS::SSM::Parameter", "Condition": "Two", "Properties": {"Type": "String", "Name": "/two", "Value": "b"}}}}`,
	},
	{name: "an attribute of a network", body: `{"Resources": {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}}, "Outputs": {"Range": {"Value": {"Fn::GetAtt": ["Vpc", "CidrBlock"]}}}}`},
	{name: "an attribute of a parameter", body: `{"Resources": {"One": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": "/value", "Value": "a"}}}, "Outputs": {"Value": {"Value": {"Fn::GetAtt": ["One", "Value"]}}}}`},
	{name: "ranges", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"Range": {"Value": {"Fn::Select": [1, {"Fn::Cidr": ["10.0.0.0/16", 4, 8]}]}}}}`},
	{name: "an export", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"Name": {"Value": "a", "Export": {"Name": "exported"}}}}`},
	{
		name: "no change",
		body: `{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}`,
		next: `{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}`,
	},
	{name: "no resources", body: `{"Description": "nothing"}`},
	{name: "a reference to nothing", body: `{"Resources": {"Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpcc"}, "CidrBlock": "10.0.0.0/24"}}}}`},
	{name: "a circle", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Ref": "B"}}}, "B": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Ref": "A"}}}}}`},
	{name: "a type that is none", body: `{"Resources": {"A": {"Type": "AWS::S3::Buckett"}}}`},
	{name: "an attribute of nothing", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"B": {"Value": {"Fn::GetAtt": ["C", "Arn"]}}}}`},
	{name: "a map that is not there", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"B": {"Value": {"Fn::FindInMap": ["C", "d", "e"]}}}}`},
	{name: "a key that a map lacks", body: `{"Mappings": {"C": {"d": {"x": "y"}}}, "Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"B": {"Value": {"Fn::FindInMap": ["C", "d", "e"]}}}}`},
	{name: "an attribute that is none", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"B": {"Value": {"Fn::GetAtt": ["A", "Arnn"]}}}}`},
	{name: "a value that is missing", body: `{"Parameters": {"P": {"Type": "String"}}, "Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Ref": "P"}}}}}`},
	{name: "a value that is not allowed", body: `{"Parameters": {"P": {"Type": "String", "Default": "z", "AllowedValues": ["x", "y"]}}, "Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Ref": "P"}}}}}`},
	{name: "an import of nothing", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Fn::ImportValue": "nothing"}}}}}`},
	{name: "a condition that is not there", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic", "Condition": "C"}}}`},
	{name: "a misspelt section", body: `{"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Output": {}}`},
}
