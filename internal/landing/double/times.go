package double

import (
	"strings"
	"time"
)

// timing is how long a resource takes.
type timing struct {
	create, update, remove time.Duration
	why                    string
}

// usual is how long a resource takes that has no entry: a call or two of an API, and
// CloudFormation's own reading back.
var usual = timing{8 * time.Second, 8 * time.Second, 6 * time.Second, "one call of an API, read back"}

// timings are those of types that take longer or shorter. They are what AWS's
// documentation tells, or what is commonly seen in stacks' events; within a type they vary
// by half, so they tell the order of things rather than a promise.
var timings = map[string]timing{
	"AWS::ApplicationAutoScaling::ScalableTarget": {5 * time.Second, 5 * time.Second, 5 * time.Second, "one call"},
	"AWS::AutoScaling::AutoScalingGroup":          {3 * time.Minute, 4 * time.Minute, 2 * time.Minute, "instances start and tell that they are healthy"},
	"AWS::CloudFormation::CustomResource":         {15 * time.Second, 15 * time.Second, 15 * time.Second, "a function runs"},
	"AWS::CloudFormation::WaitConditionHandle":    {1 * time.Second, 1 * time.Second, 1 * time.Second, "a signed address"},
	"AWS::CloudFront::Distribution":               {5 * time.Minute, 4 * time.Minute, 5 * time.Minute, "spread to the edges"},
	"AWS::Config::ConformancePack":                {2 * time.Minute, 2 * time.Minute, time.Minute, "a stack of rules behind it"},
	"AWS::DocDB::DBCluster":                       {60 * time.Second, 60 * time.Second, 2 * time.Minute, "storage of a cluster"},
	"AWS::DocDB::DBInstance":                      {8 * time.Minute, 5 * time.Minute, 6 * time.Minute, "an instance starts"},
	"AWS::DynamoDB::Table":                        {20 * time.Second, 20 * time.Second, 15 * time.Second, "becomes active"},
	"AWS::EC2::EIP":                               {15 * time.Second, 10 * time.Second, 10 * time.Second, "read back until it is there"},
	"AWS::EC2::Instance":                          {40 * time.Second, 60 * time.Second, 60 * time.Second, "starts; ends after draining"},
	"AWS::EC2::InternetGateway":                   {17 * time.Second, 5 * time.Second, 10 * time.Second, "a pause of fifteen seconds that its handler makes"},
	"AWS::EC2::NatGateway":                        {100 * time.Second, 10 * time.Second, 60 * time.Second, "becomes available after one to two minutes"},
	"AWS::EC2::TransitGateway":                    {90 * time.Second, 60 * time.Second, 2 * time.Minute, "becomes available"},
	"AWS::EC2::TransitGatewayAttachment":          {90 * time.Second, 60 * time.Second, 2 * time.Minute, "becomes available"},
	"AWS::EC2::TransitGatewayVpcAttachment":       {90 * time.Second, 60 * time.Second, 2 * time.Minute, "becomes available"},
	"AWS::EC2::VPCEndpoint":                       {90 * time.Second, 30 * time.Second, 60 * time.Second, "network interfaces in each subnet; a gateway's is quicker"},
	"AWS::EC2::VPNConnection":                     {4 * time.Minute, 2 * time.Minute, 2 * time.Minute, "two tunnels are set up"},
	"AWS::EC2::VPNGateway":                        {20 * time.Second, 10 * time.Second, 30 * time.Second, "becomes available"},
	"AWS::ECS::Service":                           {2 * time.Minute, 3 * time.Minute, 2 * time.Minute, "tasks start and are healthy"},
	"AWS::EKS::AccessEntry":                       {5 * time.Second, 5 * time.Second, 5 * time.Second, "one call"},
	"AWS::EKS::Addon":                             {60 * time.Second, 60 * time.Second, 30 * time.Second, "pods roll out"},
	"AWS::EKS::Cluster":                           {9*time.Minute + 30*time.Second, 5 * time.Minute, 3 * time.Minute, "control plane over three zones; AWS tells ten minutes"},
	"AWS::EKS::Nodegroup":                         {2*time.Minute + 30*time.Second, 4 * time.Minute, 5 * time.Minute, "nodes start and join"},
	"AWS::EKS::FargateProfile":                    {2 * time.Minute, 2 * time.Minute, 2 * time.Minute, "becomes active"},
	"AWS::ElastiCache::CacheCluster":              {6 * time.Minute, 5 * time.Minute, 4 * time.Minute, "nodes start"},
	"AWS::ElastiCache::ReplicationGroup":          {11 * time.Minute, 10 * time.Minute, 6 * time.Minute, "primary and replicas start and are joined"},
	"AWS::ElastiCache::ServerlessCache":           {2 * time.Minute, 2 * time.Minute, 3 * time.Minute, "becomes available"},
	"AWS::ElasticLoadBalancingV2::LoadBalancer":   {2*time.Minute + 30*time.Second, 10 * time.Second, 20 * time.Second, "provisioned in each zone"},
	"AWS::GuardDuty::Detector":                    {10 * time.Second, 10 * time.Second, 10 * time.Second, "one call"},
	"AWS::IAM::InstanceProfile":                   {2 * time.Minute, 2 * time.Minute, 5 * time.Second, "its handler waits two minutes for IAM to spread"},
	"AWS::IAM::ManagedPolicy":                     {17 * time.Second, 10 * time.Second, 5 * time.Second, "IAM spreads"},
	"AWS::IAM::Policy":                            {16 * time.Second, 10 * time.Second, 5 * time.Second, "IAM spreads"},
	"AWS::IAM::Role":                              {18 * time.Second, 16 * time.Second, 5 * time.Second, "IAM spreads"},
	"AWS::KMS::Key":                               {2 * time.Minute, 2 * time.Minute, 10 * time.Second, "its handler waits until a policy has spread"},
	"AWS::Lambda::Function":                       {10 * time.Second, 12 * time.Second, 6 * time.Second, "becomes active"},
	"AWS::OpenSearchService::Domain":              {17 * time.Minute, 20 * time.Minute, 10 * time.Minute, "nodes start"},
	"AWS::Organizations::Account":                 {2 * time.Minute, 20 * time.Second, 30 * time.Second, "an account is made within minutes"},
	"AWS::Organizations::Organization":            {30 * time.Second, 10 * time.Second, 10 * time.Second, "service-linked roles"},
	"AWS::RDS::DBCluster":                         {90 * time.Second, 90 * time.Second, 3 * time.Minute, "storage of a cluster"},
	"AWS::RDS::DBInstance":                        {13 * time.Minute, 10 * time.Minute, 8 * time.Minute, "an instance starts, is backed up, and gets its standby; AWS tells up to twenty minutes"},
	"AWS::RDS::DBProxy":                           {6 * time.Minute, 3 * time.Minute, 3 * time.Minute, "becomes available"},
	"AWS::Route53::HostedZone":                    {40 * time.Second, 35 * time.Second, 35 * time.Second, "in sync at all name servers"},
	"AWS::Route53::RecordSet":                     {35 * time.Second, 35 * time.Second, 35 * time.Second, "in sync at all name servers"},
	"AWS::Route53::RecordSetGroup":                {35 * time.Second, 35 * time.Second, 35 * time.Second, "in sync at all name servers"},
	"AWS::S3::Bucket":                             {22 * time.Second, 20 * time.Second, 5 * time.Second, "its handler waits for consistency"},
	"AWS::SecretsManager::RotationSchedule":       {60 * time.Second, 60 * time.Second, 10 * time.Second, "a function is made from a template"},
	"AWS::SecretsManager::SecretTargetAttachment": {10 * time.Second, 10 * time.Second, 10 * time.Second, "one call"},
	"AWS::SSM::Parameter":                         {3 * time.Second, 3 * time.Second, 3 * time.Second, "one call"},
	"AWS::WAFv2::WebACL":                          {12 * time.Second, 12 * time.Second, 10 * time.Second, "one call"},
	"AWS::WAFv2::WebACLAssociation":               {30 * time.Second, 30 * time.Second, 15 * time.Second, "tried again until the load balancer is known"},
	"AWS::EC2::VPC":                               {13 * time.Second, 5 * time.Second, 3 * time.Second, "read back until it is there"},
	"AWS::EC2::VPCGatewayAttachment":              {12 * time.Second, 5 * time.Second, 12 * time.Second, "read back until it is attached"},
	"AWS::CloudFormation::WaitCondition":          {30 * time.Second, 30 * time.Second, time.Second, "waits for its signal"},
	"AWS::SSO::PermissionSet":                     {5 * time.Second, 10 * time.Second, 5 * time.Second, "one call, and provisioning again on a change"},
	"AWS::SSO::Assignment":                        {15 * time.Second, 15 * time.Second, 15 * time.Second, "provisioned in the account"},
	"AWS::MSK::Cluster":                           {25 * time.Minute, 20 * time.Minute, 8 * time.Minute, "brokers start"},
	"AWS::EFS::FileSystem":                        {12 * time.Second, 10 * time.Second, 10 * time.Second, "becomes available"},
	"AWS::EFS::MountTarget":                       {90 * time.Second, 30 * time.Second, 60 * time.Second, "a network interface"},
	"AWS::ElasticLoadBalancing::LoadBalancer":     {30 * time.Second, 20 * time.Second, 10 * time.Second, "one call"},
	"AWS::Backup::BackupVault":                    {5 * time.Second, 5 * time.Second, 5 * time.Second, "one call"},
	"AWS::ApiGateway::RestApi":                    {5 * time.Second, 5 * time.Second, 5 * time.Second, "one call"},
	"AWS::RDS::DBParameterGroup":                  {15 * time.Second, 30 * time.Second, 5 * time.Second, "read back until it is there"},
	"AWS::RDS::DBSubnetGroup":                     {5 * time.Second, 5 * time.Second, 3 * time.Second, "one call"},
	"AWS::ElastiCache::SubnetGroup":               {5 * time.Second, 5 * time.Second, 3 * time.Second, "one call"},
	"AWS::ElasticLoadBalancingV2::TargetGroup":    {16 * time.Second, 10 * time.Second, 5 * time.Second, "read back until it is there"},
	"AWS::CertificateManager::Certificate":        {90 * time.Second, 5 * time.Second, 5 * time.Second, "validated by DNS, which answers after about a minute"},
	"AWS::GlobalAccelerator::Accelerator":         {90 * time.Second, 60 * time.Second, 3 * time.Minute, "spread to the edges"},
	"AWS::DMS::ReplicationInstance":               {8 * time.Minute, 8 * time.Minute, 4 * time.Minute, "an instance starts"},
	"AWS::DirectConnect::Connection":              {60 * time.Second, 30 * time.Second, 30 * time.Second, "becomes available"},
	"AWS::ElastiCache::User":                      {30 * time.Second, 30 * time.Second, 30 * time.Second, "becomes active"},
	"AWS::ElastiCache::UserGroup":                 {40 * time.Second, 40 * time.Second, 30 * time.Second, "becomes active"},
	"AWS::EKS::PodIdentityAssociation":            {5 * time.Second, 5 * time.Second, 5 * time.Second, "one call"},
	"AWS::NetworkFirewall::Firewall":              {6 * time.Minute, 2 * time.Minute, 6 * time.Minute, "endpoints in each zone"},
	"AWS::Route53Resolver::ResolverEndpoint":      {2 * time.Minute, 60 * time.Second, 2 * time.Minute, "network interfaces"},
	"AWS::CloudTrail::Trail":                      {6 * time.Second, 6 * time.Second, 5 * time.Second, "one call"},
	"AWS::SecurityHub::Hub":                       {10 * time.Second, 6 * time.Second, 10 * time.Second, "standards are enabled"},
	"AWS::ElasticLoadBalancingV2::Listener":       {4 * time.Second, 4 * time.Second, 4 * time.Second, "one call"},
	"AWS::ElasticLoadBalancingV2::ListenerRule":   {3 * time.Second, 3 * time.Second, 3 * time.Second, "one call"},
	"AWS::EC2::SecurityGroup":                     {8 * time.Second, 6 * time.Second, 5 * time.Second, "one call for each direction"},
	"AWS::ECS::Cluster":                           {8 * time.Second, 8 * time.Second, 5 * time.Second, "becomes active"},
	"AWS::EC2::SubnetRouteTableAssociation":       {4 * time.Second, 4 * time.Second, 4 * time.Second, "one call"},
	"AWS::EC2::Route":                             {5 * time.Second, 5 * time.Second, 5 * time.Second, "read back until it is there"},
	"AWS::EC2::Subnet":                            {6 * time.Second, 5 * time.Second, 4 * time.Second, "read back until it is there"},
	"AWS::EC2::RouteTable":                        {12 * time.Second, 5 * time.Second, 4 * time.Second, "read back until it is there"},
	"AWS::ElasticBeanstalk::Environment":          {5 * time.Minute, 4 * time.Minute, 4 * time.Minute, "an environment starts"},
	"AWS::Redshift::Cluster":                      {6 * time.Minute, 6 * time.Minute, 4 * time.Minute, "nodes start"},
	"AWS::Neptune::DBInstance":                    {9 * time.Minute, 6 * time.Minute, 6 * time.Minute, "an instance starts"},
	"AWS::ServiceDiscovery::PrivateDnsNamespace":  {60 * time.Second, 30 * time.Second, 45 * time.Second, "a hosted zone behind it"},
	"AWS::SecretsManager::Secret":                 {6 * time.Second, 6 * time.Second, 5 * time.Second, "one call"},
	"AWS::CloudFormation::Stack":                  {10 * time.Second, 10 * time.Second, 10 * time.Second, "beside what is in it"},
}

// timingOf is how long a resource of a type takes, as it is configured.
func timingOf(kind string, properties map[string]any) timing {
	if strings.HasPrefix(kind, "Custom::") {
		kind = "AWS::CloudFormation::CustomResource"
	}
	t, ok := timings[kind]
	if !ok {
		return usual
	}
	switch kind {
	case "AWS::EC2::VPCEndpoint":
		if text(properties["VpcEndpointType"]) != "Interface" {
			t.create, t.update, t.remove = 15*time.Second, 15*time.Second, 15*time.Second
		}
	case "AWS::RDS::DBInstance":
		if text(properties["MultiAZ"]) == "true" {
			t.create += 4 * time.Minute // the standby
		}
		if text(properties["SourceDBInstanceIdentifier"]) != "" {
			t.create += 8 * time.Minute // a snapshot of the source is copied
		}
	}
	return t
}

// What CloudFormation itself takes.
const (
	changeSetTime = 3 * time.Second // to compare a template
	initiatedTime = time.Second     // until a resource has its id
	betweenTime   = time.Second     // from one resource to those that wait for it
	detectTime    = 2 * time.Second // to read a resource back for drift
)
