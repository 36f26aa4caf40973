package double

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// allReadable are types of which GetAtt gives properties that are set too, as their
// documentation says.
var allReadable = []string{"AWS::AutoScaling::AutoScalingGroup", "AWS::EC2::Instance", "AWS::EC2::SecurityGroup", "AWS::EC2::Subnet", "AWS::EC2::VPC", "AWS::EFS::MountTarget",
	"AWS::EKS::Nodegroup", "AWS::ElastiCache::ReplicationGroup", "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::Events::EventBus", "AWS::RDS::DBInstance",
	"AWS::RDS::DBParameterGroup", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::SSM::Parameter", "AWS::S3::AccessPoint", "AWS::Backup::BackupVault"}

// hasAttribute says whether GetAtt knows an attribute, such as Endpoint.Address.
func (t *resourceType) hasAttribute(attribute string) bool {
	if isCustom(t.name) {
		return true
	}
	path := strings.Split(attribute, ".")
	if t.name == "AWS::CloudFormation::Stack" {
		return len(path) == 2 && path[0] == "Outputs"
	}
	if t.at(path) == nil {
		return false
	}
	return covers(t.readOnly, path) || slices.Contains(allReadable, t.name)
}

// refer is what Ref gives of a resource. Those whose identifier has several parts give
// one of them, or all with a bar between.
var refer = map[string]string{"AWS::EC2::EIP": "PublicIp", "AWS::ECS::Service": "ServiceArn", "AWS::EC2::SecurityGroup": "GroupId", "AWS::Route53::RecordSet": "Name",
	"AWS::SecretsManager::Secret": "Id", "AWS::SecretsManager::SecretTargetAttachment": "SecretId", "AWS::IAM::Policy": "PolicyName"}

// unnamed are types whose Ref is a name that CloudFormation makes, whatever their
// identifier is.
var unnamed = map[string]bool{"AWS::EC2::Route": true, "AWS::EC2::VPCGatewayAttachment": true, "AWS::Lambda::Permission": true, "AWS::SNS::TopicPolicy": true,
	"AWS::SQS::QueuePolicy": true, "AWS::EC2::TransitGatewayRoute": true, "AWS::CloudFormation::CustomResource": true, "AWS::EC2::VPCDHCPOptionsAssociation": true}

// seed tells a resource from all others, and from those that it replaces.
func (r *resource) seed(what string) []string {
	return []string{r.at.account, r.at.region, r.stackID, r.logical, strconv.Itoa(r.generation), what}
}

// name is a name that CloudFormation makes for a resource.
func (r *resource) name() string {
	return r.stackName + "-" + r.logical + "-" + letters(12, r.seed("name")...)
}

// identify gives a resource its physical id, which is what Ref gives.
func (t *resourceType) identify(r *resource) string {
	if t.name == "AWS::Lambda::Version" || t.name == "AWS::ECS::TaskDefinition" {
		return t.attribute(r, t.primary[0])
	}
	if isCustom(t.name) || unnamed[t.name] || len(t.primary) == 0 {
		return r.name()
	}
	if name, ok := refer[t.name]; ok {
		return t.attribute(r, []string{name})
	}
	parts := make([]string, len(t.primary))
	for i, path := range t.primary {
		parts[i] = t.attribute(r, path)
	}
	return strings.Join(parts, "|")
}

// customName says whether a template gives a resource its name: such a one can not be
// replaced, for two of one name can not be.
func (t *resourceType) customName(properties map[string]any) bool {
	if len(t.primary) != 1 || len(t.primary[0]) != 1 || unnamed[t.name] {
		return false
	}
	_, given := properties[t.primary[0][0]]
	return given && covers(t.createOnly, t.primary[0])
}

// attribute is the value of an attribute, always as text: what is set if it is set, or
// else one that looks right and follows from the resource.
func (t *resourceType) attribute(r *resource, path []string) string {
	if r.deep++; r.deep > maxNesting {
		r.deep--
		return hashed(r.seed(strings.Join(path, "."))...)[:17]
	}
	defer func() { r.deep-- }()
	if v := lookup(r.properties, path); v != nil {
		if list, ok := v.([]any); ok {
			return strings.Join(texts(list), ",")
		}
		if isScalar(v) {
			return text(v)
		}
	}
	last := path[len(path)-1]
	if len(t.primary) == 1 && slices.Equal(t.primary[0], path) {
		return t.primaryValue(r, last)
	}
	return t.make(r, path, last)
}

// maxNesting is how often a value may be made of another: an ARN has a name in it, and a
// name may be an ARN.
const maxNesting = 6

// value is the value of an attribute as GetAtt gives it: text, or a list.
func (t *resourceType) value(r *resource, path []string) any {
	if v, ok := r.told[strings.Join(path, ".")]; ok {
		return v
	}
	if r.physical != "" && (len(t.primary) == 1 && slices.Equal(t.primary[0], path) || refer[t.name] == strings.Join(path, ".")) {
		return r.physical
	}
	if v := lookup(r.properties, path); v != nil && !isScalar(v) {
		return v
	}
	s := t.at(path)
	if s != nil && slices.Contains(s.types, "array") {
		v := lookup(r.properties, path)
		if v != nil {
			return v
		}
		var list []any
		for _, one := range strings.Split(t.make(r, path, path[len(path)-1]), ",") {
			list = append(list, one)
		}
		return list
	}
	return t.attribute(r, path)
}

func lookup(v any, path []string) any {
	for _, part := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// lowerNames are types whose names have small letters only.
var lowerNames = []string{"AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::RDS::", "AWS::ElastiCache::", "AWS::DocDB::", "AWS::Neptune::", "AWS::Redshift::"}

// primaryValue is the part of an identifier that is not given.
func (t *resourceType) primaryValue(r *resource, last string) string {
	if prefix, ok := prefixes[t.name]; ok {
		return prefix + hashed(r.seed(last)...)[:17]
	}
	switch t.name {
	case "AWS::KMS::Key", "AWS::KMS::ReplicaKey":
		return uuidOf(r.seed(last)...)
	case "AWS::Route53::HostedZone":
		return "Z" + letters(20, r.seed(last)...)
	case "AWS::CloudFront::Distribution", "AWS::CloudFront::OriginAccessControl":
		return "E" + letters(13, r.seed(last)...)
	case "AWS::Organizations::Account":
		return accountNumber(r)
	case "AWS::SecretsManager::Secret":
		return t.arn(r)
	}
	s := t.root.properties[last]
	if t.isARN([]string{last}) {
		return t.arn(r)
	}
	if covers(t.readOnly, []string{last}) && (strings.HasSuffix(last, "Id") || last == "Id") {
		if s != nil && s.maxLength != nil && *s.maxLength < 20 {
			return hashed(r.seed(last)...)[:max(*s.maxLength, 1)]
		}
		return uuidOf(r.seed(last)...)
	}
	if covers(t.readOnly, []string{last}) {
		return t.make(r, []string{last}, last)
	}
	return t.named(r, last)
}

func accountNumber(r *resource) string {
	n := hashed(r.seed("account")...)
	digits := strings.Map(func(c rune) rune { return '0' + c%10 }, n[:12])
	return "1" + digits[1:]
}

// named is a name that is made for a property, within the bounds that it has.
func (t *resourceType) named(r *resource, property string) string {
	name := r.name()
	if slices.ContainsFunc(lowerNames, func(p string) bool { return strings.HasPrefix(t.name, p) }) {
		name = strings.ToLower(name)
	}
	longest := 128
	switch t.name {
	case "AWS::S3::Bucket", "AWS::RDS::DBInstance", "AWS::RDS::DBCluster":
		longest = 63
	case "AWS::IAM::Role", "AWS::Lambda::Function":
		longest = 64
	case "AWS::ElastiCache::ReplicationGroup":
		longest = 40
	case "AWS::ElasticLoadBalancingV2::TargetGroup", "AWS::ElasticLoadBalancingV2::LoadBalancer":
		longest = 32
	}
	if s := t.root.properties[property]; s != nil && s.maxLength != nil {
		longest = min(longest, max(*s.maxLength, 13))
	}
	if len(name) > longest { // the end, which tells it from others, is kept
		name = strings.TrimRight(name[:longest-13], "-") + name[len(name)-13:]
	}
	return name
}

// isARN says whether a property is an ARN, by its name or by the form that is wanted of it.
func (t *resourceType) isARN(path []string) bool {
	s := t.at(path)
	return isARN(path[len(path)-1]) || covers(t.readOnly, path) && s != nil && s.pattern != nil && strings.Contains(s.pattern.text, "arn:")
}

func isARN(name string) bool { return strings.HasSuffix(name, "Arn") || strings.HasSuffix(name, "ARN") }

// called is a resource's own name, as its ARN has it.
func (t *resourceType) called(r *resource) string {
	switch t.name {
	case "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ElasticLoadBalancingV2::TargetGroup":
		name := text(r.properties["Name"])
		if name == "" {
			name = t.named(r, "Name")
		}
		return name + "/" + hashed(r.seed("arn")...)[:16]
	case "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::ListenerRule":
		h := hashed(r.seed("arn")...)
		return strings.ToLower(r.logical) + "/" + h[:16] + "/" + h[16:32]
	case "AWS::SecretsManager::Secret":
		name := text(r.properties["Name"])
		if name == "" {
			name = r.logical + "-" + letters(12, r.seed("secret")...)
		}
		return name + "-" + letters(6, r.seed("arn")...)
	case "AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::InstanceProfile", "AWS::IAM::User", "AWS::IAM::Group":
		kind := strings.TrimPrefix(t.name, "AWS::IAM::")
		property := map[string]string{"Role": "RoleName", "ManagedPolicy": "ManagedPolicyName", "InstanceProfile": "InstanceProfileName", "User": "UserName", "Group": "GroupName"}[kind]
		name := text(r.properties[property])
		if name == "" {
			name = t.named(r, property)
		}
		return strings.Trim(text(r.properties["Path"]), "/") + "/" + name
	case "AWS::EKS::Nodegroup":
		return text(r.properties["ClusterName"]) + "/" + r.logical + "/" + uuidOf(r.seed("arn")...)
	case "AWS::EKS::PodIdentityAssociation", "AWS::EKS::Addon", "AWS::EKS::AccessEntry":
		return text(r.properties["ClusterName"]) + "/" + hashed(r.seed("arn")...)[:17]
	case "AWS::ECS::TaskDefinition":
		family := text(r.properties["Family"])
		if family == "" {
			family = r.stackName + "-" + r.logical
		}
		return family + ":" + strconv.Itoa(r.generation+1)
	case "AWS::ECS::Service":
		cluster := text(r.properties["Cluster"])
		name := text(r.properties["ServiceName"])
		if name == "" {
			name = t.named(r, "ServiceName")
		}
		return cluster[strings.LastIndexByte(cluster, '/')+1:] + "/" + name
	case "AWS::SQS::Queue":
		return t.attribute(r, []string{"QueueName"})
	case "AWS::Lambda::Version":
		return text(r.properties["FunctionName"]) + ":" + strconv.Itoa(r.generation+1)
	case "AWS::WAFv2::WebACL", "AWS::WAFv2::IPSet":
		name := text(r.properties["Name"])
		if name == "" {
			name = t.named(r, "Name")
		}
		return name + "/" + uuidOf(r.seed("arn")...)
	case "AWS::SSM::Parameter":
		return strings.TrimPrefix(t.attribute(r, []string{"Name"}), "/")
	case "AWS::Organizations::Account":
		return "o-" + hashed(r.at.account)[:10] + "/" + accountNumber(r)
	}
	for _, path := range t.primary {
		if !t.isARN(path) {
			return t.attribute(r, path)
		}
	}
	for _, name := range []string{"Name", t.name[strings.LastIndexByte(t.name, ':')+1:] + "Name"} {
		if v := text(r.properties[name]); v != "" {
			return v
		}
		if s := t.root.properties[name]; s != nil && !covers(t.readOnly, []string{name}) {
			return t.named(r, name)
		}
	}
	return uuidOf(r.seed("arn")...)
}

func (t *resourceType) arn(r *resource) string {
	arn := arnOf(r.at, t.name, t.called(r))
	switch {
	case t.name == "AWS::Logs::LogGroup":
		arn += ":*"
	case t.name == "AWS::ElasticLoadBalancingV2::LoadBalancer" && text(r.properties["Type"]) == "network":
		arn = strings.Replace(arn, "loadbalancer/app/", "loadbalancer/net/", 1)
	}
	return arn
}

// ports are the ports at which engines listen, by the beginnings of their names.
var ports = []struct{ engine, port string }{{"aurora-postgresql", "5432"}, {"postgres", "5432"}, {"aurora", "3306"}, {"mariadb", "3306"}, {"mysql", "3306"}, {"oracle", "1521"}, {"sqlserver", "1433"},
	{"redis", "6379"}, {"valkey", "6379"}, {"memcached", "11211"}, {"docdb", "27017"}, {"neptune", "8182"}}

func portOf(r *resource) string {
	engine := strings.ToLower(text(r.properties["Engine"]))
	for _, p := range ports {
		if strings.HasPrefix(engine, p.engine) {
			return p.port
		}
	}
	if strings.Contains(r.kind, "ElastiCache") {
		return "6379"
	}
	return "443"
}

// kinds are what the ids of things are called that resources tell of.
var kinds = []struct{ part, prefix string }{{"VpcId", "vpc-"}, {"SecurityGroup", "sg-"}, {"SubnetId", "subnet-"}, {"NetworkInterface", "eni-"}, {"EniId", "eni-"}, {"AllocationId", "eipalloc-"},
	{"NetworkAcl", "acl-"}, {"RouteTableId", "rtb-"}, {"AssociationId", "assoc-"}, {"GroupId", "sg-"}, {"RootId", "r-"}, {"OrganizationId", "o-"}}

// make is the value of an attribute that nothing in the template tells, in the form
// that the schema says it has.
func (t *resourceType) make(r *resource, path []string, last string) string {
	value := t.guess(r, path, last)
	if s := t.at(path); s != nil && s.pattern != nil && !s.pattern.matches(value) {
		if fits, ok := fitted(s.pattern.text, strings.Join(r.seed(strings.Join(path, ".")), "/")); ok && s.pattern.matches(fits) {
			return fits
		}
	}
	return value
}

// guess is such a value as the attribute's name lets one expect.
func (t *resourceType) guess(r *resource, path []string, last string) string {
	hash := hashed(r.seed(strings.Join(path, "."))...)
	region := r.at.region
	suffix := "amazonaws.com"
	if partitionOf(region) == "aws-cn" {
		suffix += ".cn"
	}
	name := strings.ToLower(r.logical)
	switch t.name + " " + strings.Join(path, ".") {
	case "AWS::EC2::EIP PublicIp", "AWS::EC2::Instance PublicIp":
		return fmt.Sprintf("198.%d.%d.%d", 18+hashByte(hash)%2, hashByte(hash[2:]), hashByte(hash[4:]))
	case "AWS::ECR::Repository RepositoryUri":
		return r.at.account + ".dkr.ecr." + region + "." + suffix + "/" + t.attribute(r, []string{"RepositoryName"})
	case "AWS::EKS::Cluster Endpoint":
		return "https://" + strings.ToUpper(hash[:32]) + ".gr7." + region + ".eks." + suffix
	case "AWS::EKS::Cluster OpenIdConnectIssuerUrl":
		return "https://oidc.eks." + region + "." + suffix + "/id/" + strings.ToUpper(hashed(r.seed("Endpoint")...)[:32])
	case "AWS::EKS::Cluster CertificateAuthorityData":
		return "LS0tLS1CRUdJTi" + hash
	case "AWS::S3::Bucket DomainName":
		return t.attribute(r, []string{"BucketName"}) + ".s3." + suffix
	case "AWS::S3::Bucket RegionalDomainName":
		return t.attribute(r, []string{"BucketName"}) + ".s3." + region + "." + suffix
	case "AWS::S3::Bucket WebsiteURL":
		return "http://" + t.attribute(r, []string{"BucketName"}) + ".s3-website." + region + "." + suffix
	case "AWS::SQS::Queue QueueName", "AWS::SNS::Topic TopicName":
		return t.named(r, last)
	case "AWS::EC2::LaunchTemplate LatestVersionNumber":
		return strconv.Itoa(r.version + 1)
	case "AWS::EC2::LaunchTemplate DefaultVersionNumber":
		return "1"
	case "AWS::EC2::VPCGatewayAttachment AttachmentType":
		return "IGW"
	case "AWS::ElasticLoadBalancingV2::LoadBalancer DNSName":
		kind := "elb"
		if text(r.properties["Type"]) != "network" {
			kind = ""
		}
		host := strings.TrimSuffix(strings.ToLower(strings.SplitN(t.called(r), "/", 2)[0]), "-") + "-" + digits(hash, 10) + "."
		if kind != "" {
			return host + "elb." + region + "." + suffix
		}
		if text(r.properties["Scheme"]) == "internal" {
			host = "internal-" + host
		}
		return host + region + ".elb." + suffix
	case "AWS::ElasticLoadBalancingV2::LoadBalancer LoadBalancerFullName":
		if text(r.properties["Type"]) == "network" {
			return "net/" + t.called(r)
		}
		return "app/" + t.called(r)
	case "AWS::ElasticLoadBalancingV2::TargetGroup TargetGroupFullName":
		return "targetgroup/" + t.called(r)
	case "AWS::ElasticLoadBalancingV2::LoadBalancer LoadBalancerName":
		return strings.SplitN(t.called(r), "/", 2)[0]
	case "AWS::CloudFront::Distribution DomainName":
		return "d" + hash[:13] + ".cloudfront.net"
	case "AWS::SQS::Queue QueueUrl":
		return "https://sqs." + region + "." + suffix + "/" + r.at.account + "/" + t.attribute(r, []string{"QueueName"})
	case "AWS::Route53::HostedZone NameServers":
		var servers []string
		for i, top := range []string{"com", "net", "org", "co.uk"} {
			servers = append(servers, fmt.Sprintf("ns-%d.awsdns-%02d.%s", 100+int(hashByte(hash[2*i:]))*4, hashByte(hash[8+2*i:])%64, top))
		}
		return strings.Join(servers, ",")
	case "AWS::EC2::VPC CidrBlockAssociations":
		return "vpc-cidr-assoc-" + hash[:17]
	}
	s := t.at(path)
	switch {
	case strings.HasSuffix(last, "Port") || strings.HasSuffix(last, "Ports"):
		if p := text(r.properties["Port"]); p != "" {
			return p
		}
		return portOf(r)
	case isARN(last):
		if len(path) == 1 && (last == "Arn" || last == "ARN" || strings.TrimSuffix(strings.TrimSuffix(last, "Arn"), "ARN") == t.name[strings.LastIndexByte(t.name, ':')+1:]) {
			return t.arn(r)
		}
		if strings.Contains(last, "Secret") {
			return arnOf(r.at, "AWS::SecretsManager::Secret", strings.ToLower(strings.Split(t.name, "::")[1])+"!db-"+uuidOf(hash)+"-"+letters(6, hash))
		}
		if len(path) == 1 && covers(t.readOnly, path) && !slices.ContainsFunc(t.readOnly, func(p []string) bool { return len(p) == 1 && (p[0] == "Arn" || p[0] == "ARN") }) {
			return t.arn(r)
		}
		return arnOf(r.at, t.name, t.called(r)) + "/" + hash[:8]
	case s != nil && slices.Contains(s.types, "boolean"):
		return "false"
	case s != nil && (slices.Contains(s.types, "integer") || slices.Contains(s.types, "number")):
		return "1"
	case strings.Contains(last, "HostedZoneI") || strings.Contains(last, "HostedZoneNameID"):
		return "Z" + letters(13, region, t.name, "zone")
	case strings.HasSuffix(last, "Address") || strings.HasSuffix(last, "Addresses") || last == "AddressesList" || strings.Contains(last, "DNSName") || strings.Contains(last, "DnsName") || strings.Contains(last, "DomainName"):
		role := ""
		if len(path) > 1 && strings.HasPrefix(path[0], "Read") {
			role = "-ro"
		}
		return t.host(r, name+role, hash, region, suffix)
	case strings.HasSuffix(last, "Url") || strings.HasSuffix(last, "URL") || strings.HasSuffix(last, "Endpoint"):
		return "https://" + t.host(r, name, hash, region, suffix)
	case strings.HasSuffix(last, "Ip") || strings.HasSuffix(last, "IpAddress"):
		return fmt.Sprintf("10.%d.%d.%d", hashByte(hash), hashByte(hash[2:]), hashByte(hash[4:])%254+1)
	}
	for _, k := range kinds {
		if strings.Contains(last, k.part) {
			return k.prefix + hash[:17]
		}
	}
	switch {
	case s != nil && len(s.enum) > 0:
		return plain(s.enum[0])
	case strings.HasSuffix(last, "Status") || strings.HasSuffix(last, "State"):
		return "ACTIVE"
	case strings.HasSuffix(last, "Name"):
		return t.named(r, last)
	case strings.Contains(last, "Cidr"):
		return "10.0.0.0/16"
	case strings.HasSuffix(last, "Time") || strings.HasSuffix(last, "Date") || strings.HasSuffix(last, "At"):
		return r.created.UTC().Format("2006-01-02T15:04:05Z")
	case strings.HasSuffix(last, "Id"):
		return hash[:17]
	}
	return name + "-" + hash[:8]
}

// host is the name of an endpoint.
func (t *resourceType) host(r *resource, name, hash, region, suffix string) string {
	service := strings.ToLower(strings.Split(t.name, "::")[1])
	switch service {
	case "rds", "docdb", "neptune":
		id := t.primaryName(r)
		return id + "." + hashed(r.at.account, region)[:12] + "." + region + ".rds." + suffix
	case "elasticache":
		return "master." + t.primaryName(r) + "." + hashed(r.at.account, region)[:6] + "." + regionCode(region) + ".cache." + suffix
	}
	return name + "-" + hash[:12] + "." + service + "." + region + "." + suffix
}

func (t *resourceType) primaryName(r *resource) string {
	if len(t.primary) == 1 && !covers(t.readOnly, t.primary[0]) {
		return strings.ToLower(t.attribute(r, t.primary[0]))
	}
	return strings.ToLower(r.logical)
}

// regionCode is a region's short name, such as euc1.
func regionCode(region string) string {
	parts := strings.Split(region, "-")
	if len(parts) < 3 {
		return region
	}
	return parts[0] + parts[1][:1] + parts[2]
}

func hashByte(hash string) byte {
	n, _ := strconv.ParseUint(hash[:2], 16, 8) // it is hexadecimal
	return byte(n)
}

func digits(hash string, n int) string {
	return strings.Map(func(c rune) rune { return '0' + c%10 }, hash[:n])
}
