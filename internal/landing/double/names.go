package double

import (
	"strings"
)

// prefixes are what the ids of EC2's and some others' resources begin with.
var prefixes = map[string]string{
	"AWS::EC2::CustomerGateway": "cgw-", "AWS::EC2::DHCPOptions": "dopt-", "AWS::EC2::EgressOnlyInternetGateway": "eigw-", "AWS::EC2::FlowLog": "fl-",
	"AWS::EC2::Instance": "i-", "AWS::EC2::InternetGateway": "igw-", "AWS::EC2::LaunchTemplate": "lt-", "AWS::EC2::NatGateway": "nat-", "AWS::EC2::NetworkAcl": "acl-",
	"AWS::EC2::NetworkInterface": "eni-", "AWS::EC2::PrefixList": "pl-", "AWS::EC2::RouteTable": "rtb-", "AWS::EC2::SecurityGroup": "sg-",
	"AWS::EC2::SecurityGroupIngress": "sgr-", "AWS::EC2::SecurityGroupEgress": "sgr-", "AWS::EC2::Subnet": "subnet-", "AWS::EC2::SubnetCidrBlock": "subnet-cidr-assoc-",
	"AWS::EC2::SubnetNetworkAclAssociation": "aclassoc-", "AWS::EC2::SubnetRouteTableAssociation": "rtbassoc-", "AWS::EC2::TransitGateway": "tgw-",
	"AWS::EC2::TransitGatewayAttachment": "tgw-attach-", "AWS::EC2::TransitGatewayVpcAttachment": "tgw-attach-", "AWS::EC2::TransitGatewayPeeringAttachment": "tgw-attach-",
	"AWS::EC2::TransitGatewayRouteTable": "tgw-rtb-", "AWS::EC2::VPC": "vpc-", "AWS::EC2::VPCCidrBlock": "vpc-cidr-assoc-", "AWS::EC2::VPCEndpoint": "vpce-",
	"AWS::EC2::VPCEndpointService": "vpce-svc-", "AWS::EC2::VPCPeeringConnection": "pcx-", "AWS::EC2::VPNConnection": "vpn-", "AWS::EC2::VPNGateway": "vgw-",
	"AWS::EC2::Volume": "vol-", "AWS::EFS::FileSystem": "fs-", "AWS::EFS::MountTarget": "fsmt-", "AWS::EFS::AccessPoint": "fsap-", "AWS::EC2::EIPAssociation": "eipassoc-",
	"AWS::EC2::IPAM": "ipam-", "AWS::EC2::IPAMPool": "ipam-pool-", "AWS::EC2::IPAMScope": "ipam-scope-", "AWS::EC2::KeyPair": "key-", "AWS::EC2::SnapshotBlockPublicAccess": "",
	"AWS::Organizations::OrganizationalUnit": "ou-root-", "AWS::Organizations::Policy": "p-", "AWS::Organizations::Organization": "o-",
}

// arns are the services and the beginnings of the names in ARNs of types where they do not
// follow from the type's name. A g says: without a region; an n: without region or account.
var arns = map[string]string{
	"AWS::IAM::Role": "g iam role/", "AWS::IAM::ManagedPolicy": "g iam policy/", "AWS::IAM::User": "g iam user/", "AWS::IAM::Group": "g iam group/",
	"AWS::IAM::InstanceProfile": "g iam instance-profile/", "AWS::IAM::OIDCProvider": "g iam oidc-provider/", "AWS::IAM::SAMLProvider": "g iam saml-provider/",
	"AWS::IAM::ServiceLinkedRole": "g iam role/aws-service-role/", "AWS::S3::Bucket": "n s3 ", "AWS::S3::AccessPoint": "- s3 accesspoint/", "AWS::KMS::Key": "- kms key/",
	"AWS::KMS::ReplicaKey": "- kms key/", "AWS::SecretsManager::Secret": "- secretsmanager secret:", "AWS::SNS::Topic": "- sns ", "AWS::SQS::Queue": "- sqs ",
	"AWS::Lambda::Function": "- lambda function:", "AWS::Logs::LogGroup": "- logs log-group:", "AWS::RDS::DBInstance": "- rds db:", "AWS::RDS::DBCluster": "- rds cluster:",
	"AWS::RDS::DBSubnetGroup": "- rds subgrp:", "AWS::RDS::DBParameterGroup": "- rds pg:", "AWS::RDS::DBClusterParameterGroup": "- rds cluster-pg:", "AWS::RDS::DBProxy": "- rds db-proxy:",
	"AWS::RDS::EventSubscription": "- rds es:", "AWS::ECR::Repository": "- ecr repository/", "AWS::EKS::Cluster": "- eks cluster/", "AWS::EKS::Nodegroup": "- eks nodegroup/",
	"AWS::EKS::Addon": "- eks addon/", "AWS::EKS::AccessEntry": "- eks access-entry/", "AWS::EKS::PodIdentityAssociation": "- eks podidentityassociation/",
	"AWS::ElasticLoadBalancingV2::LoadBalancer": "- elasticloadbalancing loadbalancer/app/", "AWS::ElasticLoadBalancingV2::TargetGroup": "- elasticloadbalancing targetgroup/",
	"AWS::ElasticLoadBalancingV2::Listener": "- elasticloadbalancing listener/app/", "AWS::ElasticLoadBalancingV2::ListenerRule": "- elasticloadbalancing listener-rule/app/",
	"AWS::CertificateManager::Certificate": "- acm certificate/", "AWS::DynamoDB::Table": "- dynamodb table/", "AWS::ElastiCache::ReplicationGroup": "- elasticache replicationgroup:",
	"AWS::ElastiCache::User": "- elasticache user:", "AWS::ElastiCache::UserGroup": "- elasticache usergroup:", "AWS::ElastiCache::ServerlessCache": "- elasticache serverlesscache:",
	"AWS::ElastiCache::CacheCluster": "- elasticache cluster:", "AWS::ElastiCache::SubnetGroup": "- elasticache subnetgroup:", "AWS::ElastiCache::ParameterGroup": "- elasticache parametergroup:",
	"AWS::StepFunctions::StateMachine": "- states stateMachine:", "AWS::Events::Rule": "- events rule/", "AWS::Events::EventBus": "- events event-bus/", "AWS::CloudTrail::Trail": "- cloudtrail trail/",
	"AWS::Config::ConfigRule": "- config config-rule/", "AWS::Config::ConfigurationAggregator": "- config config-aggregator/", "AWS::ECS::Cluster": "- ecs cluster/", "AWS::ECS::Service": "- ecs service/",
	"AWS::ECS::TaskDefinition": "- ecs task-definition/", "AWS::WAFv2::WebACL": "- wafv2 regional/webacl/", "AWS::WAFv2::IPSet": "- wafv2 regional/ipset/", "AWS::GuardDuty::Detector": "- guardduty detector/",
	"AWS::CloudWatch::Alarm": "- cloudwatch alarm:", "AWS::CloudWatch::CompositeAlarm": "- cloudwatch alarm:", "AWS::CloudWatch::Dashboard": "g cloudwatch dashboard/", "AWS::CloudFront::Distribution": "g cloudfront distribution/",
	"AWS::Route53::HostedZone": "n route53 hostedzone/", "AWS::Route53::HealthCheck": "n route53 healthcheck/", "AWS::AutoScaling::AutoScalingGroup": "- autoscaling autoScalingGroup:",
	"AWS::AutoScaling::ScalingPolicy": "- autoscaling scalingPolicy:", "AWS::SSM::Parameter": "- ssm parameter/", "AWS::SSM::Document": "- ssm document/", "AWS::Backup::BackupVault": "- backup backup-vault:",
	"AWS::Backup::BackupPlan": "- backup backup-plan:", "AWS::SecurityHub::Hub": "- securityhub hub/", "AWS::AccessAnalyzer::Analyzer": "- access-analyzer analyzer/", "AWS::Organizations::Account": "g organizations account/",
	"AWS::Organizations::Policy": "g organizations policy/", "AWS::Organizations::OrganizationalUnit": "g organizations ou/", "AWS::Organizations::Organization": "g organizations organization/",
	"AWS::Scheduler::Schedule": "- scheduler schedule/", "AWS::Kinesis::Stream": "- kinesis stream/", "AWS::KinesisFirehose::DeliveryStream": "- firehose deliverystream/", "AWS::SSO::PermissionSet": "n sso permissionSet/",
	"AWS::EFS::FileSystem": "- elasticfilesystem file-system/", "AWS::EC2::VPC": "- ec2 vpc/", "AWS::EC2::VPNConnection": "- ec2 vpn-connection/",
}

// arnOf is the ARN of a resource of a type that is called so.
func arnOf(at place, kind, called string) string {
	spec, ok := arns[kind]
	if !ok {
		parts := strings.Split(kind, "::")
		spec = "- " + strings.ToLower(parts[min(1, len(parts)-1)]) + " " + strings.ToLower(parts[len(parts)-1]) + "/"
	}
	scope, rest, _ := strings.Cut(spec, " ")
	service, prefix, _ := strings.Cut(rest, " ")
	region, account := at.region, at.account
	switch scope {
	case "g":
		region = ""
	case "n":
		region, account = "", ""
	}
	return "arn:" + partitionOf(at.region) + ":" + service + ":" + region + ":" + account + ":" + prefix + strings.TrimPrefix(called, "/")
}
