package emulators

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/region"
)

const domain = "bank.example"

// environments are the estate's, with the account and the range of each.
var environments = []struct{ name, account, network string }{{"dev", "333333333333", "10.16.0.0/16"}, {"main", "444444444444", "10.18.0.0/16"}}

// values are parameters of an environment's templates: by environment, template and name.
type values map[string]map[string]map[string]string

func (v values) set(environment, parameter, value string, templates ...string) {
	for _, template := range templates {
		if v[environment] == nil {
			v[environment] = map[string]map[string]string{}
		}
		if v[environment][template] == nil {
			v[environment][template] = map[string]string{}
		}
		v[environment][template][parameter] = value
	}
}

// graphOf are templates of the library in an estate of two environments.
func graphOf(t *testing.T, v values, names ...string) *landing.Graph {
	t.Helper()
	all, err := landing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	library := landing.Library{}
	for _, n := range names {
		library[n] = all[n]
	}
	var list []map[string]any
	for _, e := range environments {
		of := map[string]any{"name": e.name, "network": e.network}
		if p := v[e.name]; p != nil {
			here := map[string]map[string]string{}
			for template, values := range p {
				if library[template] != nil {
					here[template] = values
				}
			}
			of["parameters"] = here
		}
		list = append(list, of)
	}
	// JSON is YAML too.
	text, err := json.Marshal(map[string]any{"name": "bank", "landing": map[string]any{
		"accounts": map[string]string{"management": management, "security": "222222222222", "nonproduction": environments[0].account, "production": environments[1].account},
		"role":     map[string]string{"name": role}, "domain": domain,
		"regions":      map[string]string{"main": home, "dr": "eu-west-1"},
		"environments": list,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), estate.FileName)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := estate.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	regions, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	g, err := landing.New(landing.Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// deploy brings a graph's stacks to an emulator, by the deployer that deploys to AWS,
// and returns the outputs of each.
func deploy(t *testing.T, c aws.Config, g *landing.Graph, want string) map[string]map[string]string {
	t.Helper()
	results, err := landing.NewDeployer(landing.DeployerOptions{Graph: g, AWS: c, Poll: 50 * time.Millisecond}).Apply(t.Context(), g.Stacks)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]map[string]string{}
	for _, r := range results {
		if r.Outcome != want {
			t.Errorf("%s is %s, want %s", r.Stack, r.Outcome, want)
		}
		outputs[r.Stack] = r.Outputs
	}
	return outputs
}

// wholly are the templates that an emulator knows each type of, as TestTypes holds it.
func wholly(t *testing.T, k *kind) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/types.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if typ, by, ok := strings.Cut(line, ": "); ok && strings.Contains(by, k.name) {
			known[typ] = true
		}
	}
	library, err := landing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, template := range library {
		if !slices.ContainsFunc(template.Resources, func(r landing.Resource) bool { return !known[r.Type] }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// covers asserts that no template is left out that an emulator knows wholly.
func covers(t *testing.T, k *kind, names []string) {
	t.Helper()
	for _, name := range wholly(t, k) {
		if !slices.Contains(names, name) {
			t.Errorf("%s knows every type of the template %s: deploy it to it, too", k.name, name)
		}
	}
	t.Logf("deployed to %s: %s", k.name, strings.Join(names, ", "))
}

// ground is a network as the templates want one, made by EC2's own calls, for
// an emulator that lacks a type of the template network.
func ground(t *testing.T, c *ec2.Client, network string) map[string]string {
	t.Helper()
	vpc, err := c.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: &network})
	if err != nil {
		t.Fatal(err)
	}
	id := aws.ToString(vpc.Vpc.VpcId)
	var subnets []string
	for i, zone := range []string{"a", "b", "c"} {
		s, err := c.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: &id, AvailabilityZone: aws.String(home + zone), CidrBlock: aws.String(strings.Replace(network, "0.0/16", fmt.Sprint(i, ".0/24"), 1))})
		if err != nil {
			t.Fatal(err)
		}
		subnets = append(subnets, aws.ToString(s.Subnet.SubnetId))
	}
	var tables []string
	for range 2 {
		table, err := c.CreateRouteTable(t.Context(), &ec2.CreateRouteTableInput{VpcId: &id})
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, aws.ToString(table.RouteTable.RouteTableId))
	}
	return map[string]string{"VpcId": id, "VpcCidr": network, "InnerSubnetIds": strings.Join(subnets, ","), "DataSubnetIds": strings.Join(subnets, ","), "PrivateRouteTableIds": tables[0], "IsolatedRouteTableId": tables[1]}
}

// needs are the templates that take something of a network, and what.
var needs = map[string][]string{
	"endpoints": {"VpcId", "VpcCidr", "InnerSubnetIds", "PrivateRouteTableIds", "IsolatedRouteTableId"},
	"zone":      {"VpcId"},
	"cache":     {"VpcId", "DataSubnetIds"},
}

// TestMinistack: the templates whose types ministack knows, from nothing and again; the
// resources are then read back through each service's own API.
func TestMinistack(t *testing.T) {
	e := ministack.start(t)
	c := e.config(t)
	// cache is known but for a resource that its parameters leave out.
	names := []string{"alarms", "cache", "delegation", "endpoints", "keys", "night", "zone"}
	covers(t, ministack, names)
	v := values{}
	for _, env := range environments {
		network := ground(t, ec2.NewFromConfig(in(c, env.account)), env.network)
		for template, parameters := range needs {
			for _, p := range parameters {
				v.set(env.name, p, network[p], template)
			}
		}
	}
	g := graphOf(t, v, names...)
	outputs := deploy(t, c, g, landing.OutcomeCreated)
	deploy(t, c, g, landing.OutcomeUnchanged)
	for _, env := range environments {
		account := in(c, env.account)
		of := func(template string) map[string]string { return outputs[env.name+"/"+template] }
		readKeys(t, account, env.name, of("keys"))
		readEndpoints(t, ec2.NewFromConfig(account), v[env.name]["endpoints"])
		readZone(t, account, env.name, of("zone"))

		topic, err := sns.NewFromConfig(account).GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: aws.String(of("alarms")["AlarmTopicArn"])})
		if err != nil || topic.Attributes["KmsMasterKeyId"] == "" || !strings.Contains(topic.Attributes["Policy"], "Statement") {
			t.Errorf("%s: the topic is %v, %v", env.name, topic, err)
		}
		group, err := scheduler.NewFromConfig(account).GetScheduleGroup(t.Context(), &scheduler.GetScheduleGroupInput{Name: aws.String(of("night")["NightScheduleGroupName"])})
		if err != nil || group.State != "ACTIVE" {
			t.Errorf("%s: the group of schedules is %v, %v", env.name, group, err)
		}
		secret, err := secretsmanager.NewFromConfig(account).DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(of("cache")["CacheSecretArn"])})
		if err != nil || aws.ToString(secret.KmsKeyId) != of("keys")["SecretsKeyArn"] {
			t.Errorf("%s: the cache's secret is %v, %v", env.name, secret, err)
		}
	}
}

// TestMoto: the same for moto, which knows a network with NAT gateways and flow logs. It
// loses the outputs of stacks that change sets make, so what a stack needs of another is
// read back from the services and given by the estate.
func TestMoto(t *testing.T) {
	e := moto.start(t)
	e.url = e.unprotected(t)
	c := e.config(t)
	names := []string{"access", "delegation", "endpoints", "keys", "network", "zone"}
	covers(t, moto, names)
	deploy(t, c, graphOf(t, nil, "keys"), landing.OutcomeCreated)
	v := values{}
	for _, env := range environments {
		account := in(c, env.account)
		keys := physical(t, account, "bank-"+env.name+"-keys")
		of := map[string]string{}
		for name, resource := range map[string]string{"DataKeyArn": "DataKey", "LogsKeyArn": "LogsKey"} {
			key, err := kms.NewFromConfig(account).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(keys[resource])})
			if err != nil {
				t.Fatal(err)
			}
			of[name] = aws.ToString(key.KeyMetadata.Arn)
		}
		readKeys(t, account, env.name, of)
		v.set(env.name, "LogsKeyArn", of["LogsKeyArn"], "network")
		// Only Systems Manager's association, which neither emulator knows, is left out.
		v.set(env.name, "CloseDefaultSecurityGroup", "false", "network")
	}
	deploy(t, c, graphOf(t, v, "network"), landing.OutcomeCreated)
	for _, env := range environments {
		account := in(c, env.account)
		network := readNetwork(t, account, env.name, env.network)
		for _, template := range []string{"endpoints", "zone"} {
			for _, p := range needs[template] {
				v.set(env.name, p, network[p], template)
			}
		}
		group, err := ec2.NewFromConfig(account).CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("nodes"), Description: aws.String("Nodes of the cluster"), VpcId: aws.String(network["VpcId"])})
		if err != nil {
			t.Fatal(err)
		}
		for _, engine := range []string{"Postgresql", "Mariadb", "Cache"} {
			v.set(env.name, engine+"SecurityGroupId", aws.ToString(group.GroupId), "access")
		}
		v.set(env.name, "ClusterSecurityGroupId", aws.ToString(group.GroupId), "access")
	}
	deploy(t, c, graphOf(t, v, "access", "endpoints", "zone"), landing.OutcomeCreated)
	for _, env := range environments {
		account := in(c, env.account)
		readEndpoints(t, ec2.NewFromConfig(account), v[env.name]["endpoints"])
		zones := physical(t, account, "bank-"+env.name+"-zone")
		readZone(t, account, env.name, map[string]string{"ZoneId": zones["Zone"], "PrivateHostedZoneId": zones["InnerZone"]})
		groups, err := ec2.NewFromConfig(account).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{v[env.name]["access"]["ClusterSecurityGroupId"]}})
		if err != nil || len(groups.SecurityGroups) != 1 {
			t.Fatal(groups, err)
		}
		var ports []int32
		for _, rule := range groups.SecurityGroups[0].IpPermissions {
			ports = append(ports, aws.ToInt32(rule.FromPort))
		}
		slices.Sort(ports)
		if fmt.Sprint(ports) != "[3306 5432 6379]" {
			t.Errorf("%s: what may enter is %v", env.name, ports)
		}
	}
}

// unprotected stands before moto, which has no UpdateTerminationProtection: it takes
// that call, and hands all others on.
func (e *emulator) unprotected(t *testing.T) string {
	t.Helper()
	to, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") == "UpdateTerminationProtection" {
			w.Header().Set("Content-Type", "text/xml")
			_, _ = io.WriteString(w, "<UpdateTerminationProtectionResponse><UpdateTerminationProtectionResult/></UpdateTerminationProtectionResponse>")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// physical are the ids of a stack's resources, by their names in the template.
func physical(t *testing.T, c aws.Config, stack string) map[string]string {
	t.Helper()
	out, err := cloudformation.NewFromConfig(c).DescribeStackResources(t.Context(), &cloudformation.DescribeStackResourcesInput{StackName: &stack})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, r := range out.StackResources {
		ids[aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
	}
	return ids
}

// readKeys asks KMS for the keys: each rotates, and main's are multi-Region.
func readKeys(t *testing.T, c aws.Config, environment string, arns map[string]string) {
	t.Helper()
	client := kms.NewFromConfig(c)
	for name, arn := range arns {
		key, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
		if err != nil {
			t.Errorf("%s, %s: %v", environment, name, err)
			continue
		}
		rotation, err := client.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &arn})
		if err != nil || !rotation.KeyRotationEnabled {
			t.Errorf("%s: %s does not rotate: %v, %v", environment, name, rotation, err)
		}
		if m := key.KeyMetadata; m.KeyState != kmstypes.KeyStateEnabled || aws.ToBool(m.MultiRegion) != (environment == "main") {
			t.Errorf("%s: %s is %s, multi-Region %v", environment, name, m.KeyState, aws.ToBool(m.MultiRegion))
		}
	}
}

// readEndpoints asks EC2 for the endpoints: those of gateways are in the route tables,
// the others in the subnets, with private names.
func readEndpoints(t *testing.T, c *ec2.Client, given map[string]string) {
	t.Helper()
	out, err := c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{Filters: []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{given["VpcId"]}}}})
	if err != nil {
		t.Fatal(err)
	}
	gateways, interfaces := 0, 0
	for _, e := range out.VpcEndpoints {
		switch {
		case e.VpcEndpointType == ec2types.VpcEndpointTypeGateway && slices.Contains(e.RouteTableIds, strings.Split(given["PrivateRouteTableIds"], ",")[0]):
			gateways++
		case e.VpcEndpointType == ec2types.VpcEndpointTypeInterface && aws.ToBool(e.PrivateDnsEnabled) && len(e.SubnetIds) == len(strings.Split(given["InnerSubnetIds"], ",")):
			interfaces++
		default:
			t.Errorf("the endpoint %s of %s is of type %s, in %v and %v", aws.ToString(e.VpcEndpointId), aws.ToString(e.ServiceName), e.VpcEndpointType, e.RouteTableIds, e.SubnetIds)
		}
	}
	if gateways == 0 || interfaces < 10 {
		t.Errorf("there are %d gateways and %d interfaces", gateways, interfaces)
	}
}

// readZone asks Route 53 for the two zones, and for who may certify names.
func readZone(t *testing.T, c aws.Config, environment string, given map[string]string) {
	t.Helper()
	client, name := route53.NewFromConfig(c), environment+"."+domain+"."
	if environment == "main" {
		name = domain + "."
	}
	zone, err := client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: aws.String(given["ZoneId"])})
	if err != nil || aws.ToString(zone.HostedZone.Name) != name || len(zone.DelegationSet.NameServers) == 0 {
		t.Errorf("%s: the zone is %v, %v", environment, zone, err)
	}
	inner, err := client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: aws.String(given["PrivateHostedZoneId"])})
	if err != nil || !inner.HostedZone.Config.PrivateZone || aws.ToString(inner.HostedZone.Name) != "internal."+name {
		t.Errorf("%s: the private zone is %v, %v", environment, inner, err)
	}
	records, err := client.ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: aws.String(given["ZoneId"])})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(records.ResourceRecordSets, func(r r53types.ResourceRecordSet) bool {
		return r.Type == r53types.RRTypeCaa && len(r.ResourceRecords) == 2 && strings.Contains(aws.ToString(r.ResourceRecords[0].Value), "amazon.com")
	}) {
		t.Errorf("%s: the zone does not say who may certify its names", environment)
	}
}

// readNetwork asks EC2 for the network that moto has made, and returns what other
// templates need of it.
func readNetwork(t *testing.T, c aws.Config, environment, cidr string) map[string]string {
	t.Helper()
	client, ids := ec2.NewFromConfig(c), physical(t, c, "bank-"+environment+"-network")
	id := ids["Vpc"]
	of := []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{id}}}
	vpcs, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{id}})
	if err != nil || len(vpcs.Vpcs) != 1 || aws.ToString(vpcs.Vpcs[0].CidrBlock) != cidr {
		t.Fatalf("%s: the network is %v, %v", environment, vpcs, err)
	}
	subnets, err := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: of})
	if err != nil {
		t.Fatal(err)
	}
	zones := map[string]int{}
	for _, s := range subnets.Subnets {
		zones[aws.ToString(s.AvailabilityZone)]++
	}
	if len(zones) != 3 || len(subnets.Subnets) != 12 {
		t.Errorf("%s: there are subnets in %v", environment, zones)
	}
	nat, err := client.DescribeNatGateways(t.Context(), &ec2.DescribeNatGatewaysInput{Filter: of})
	if err != nil || len(nat.NatGateways) != 3 {
		t.Errorf("%s: the NAT gateways are %v, %v", environment, nat, err)
	}
	ways := map[string]int{}
	tables, err := client.DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{Filters: of})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables.RouteTables {
		for _, r := range table.Routes {
			if aws.ToString(r.DestinationCidrBlock) == "0.0.0.0/0" {
				switch {
				case r.NatGatewayId != nil:
					ways["NAT"]++
				case strings.HasPrefix(aws.ToString(r.GatewayId), "igw-"):
					ways["internet"]++
				}
			}
		}
		if aws.ToString(table.RouteTableId) == ids["IsolatedRouteTable"] && len(table.Routes) != 1 {
			t.Errorf("%s: there are ways out of the data subnets: %v", environment, table.Routes)
		}
	}
	if ways["NAT"] != 3 || ways["internet"] != 1 {
		t.Errorf("%s: the ways out are %v", environment, ways)
	}
	logs, err := client.DescribeFlowLogs(t.Context(), &ec2.DescribeFlowLogsInput{})
	if err != nil || len(logs.FlowLogs) != 1 || aws.ToString(logs.FlowLogs[0].ResourceId) != id {
		t.Errorf("%s: the flow logs are %v, %v", environment, logs, err)
	}
	role, err := iam.NewFromConfig(c).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String(ids["FlowLogRole"])})
	if err != nil || !strings.Contains(aws.ToString(role.Role.AssumeRolePolicyDocument), "vpc-flow-logs.amazonaws.com") {
		t.Errorf("%s: who writes them is %v, %v", environment, role, err)
	}
	return map[string]string{
		"VpcId": id, "VpcCidr": cidr, "InnerSubnetIds": strings.Join([]string{ids["InnerSubnet1"], ids["InnerSubnet2"], ids["InnerSubnet3"]}, ","),
		"PrivateRouteTableIds": ids["PrivateRouteTable1"], "IsolatedRouteTableId": ids["IsolatedRouteTable"],
	}
}
