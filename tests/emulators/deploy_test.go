package emulators

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/region"
	"dhow/stacks"
)

const domain = "bank.example"

// environments are the estate's, with the account and the range of each.
var environments = []struct{ name, account, network string }{{"dev", "333333333333", "10.16.0.0/16"}, {"main", "444444444444", "10.18.0.0/16"}}

// values are parameters of an environment's templates: by environment, template and name.
// Those of no environment are of all.
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

// of are the parameters of an environment that some templates have.
func (v values) of(environment string, library landing.Library) map[string]map[string]string {
	of := map[string]map[string]string{}
	for template, parameters := range v[environment] {
		if library[template] != nil {
			of[template] = parameters
		}
	}
	return of
}

// graphOf are templates of a library in an estate of two environments.
func graphOf(t *testing.T, all landing.Library, v values, names ...string) *landing.Graph {
	t.Helper()
	library := landing.Library{}
	for _, n := range names {
		library[n] = all[n]
	}
	var list []map[string]any
	for _, e := range environments {
		list = append(list, map[string]any{"name": e.name, "network": e.network, "parameters": v.of(e.name, library)})
	}
	// JSON is YAML too.
	text, err := json.Marshal(map[string]any{"name": "bank", "landing": map[string]any{
		"accounts": map[string]string{"management": management, "security": "222222222222", "nonproduction": environments[0].account, "production": environments[1].account},
		"role":     map[string]string{"name": role}, "domain": domain,
		"regions":      map[string]string{"main": home, "dr": "eu-west-1"},
		"environments": list, "parameters": v.of("", library),
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

func apply(t *testing.T, c aws.Config, g *landing.Graph) ([]landing.Result, error) {
	t.Helper()
	return landing.NewDeployer(landing.DeployerOptions{Graph: g, AWS: c, Poll: 50 * time.Millisecond}).Apply(t.Context(), g.Stacks)
}

// deploy brings a graph's stacks to an emulator, by the deployer that deploys to AWS,
// and returns the outputs of each.
func deploy(t *testing.T, c aws.Config, g *landing.Graph, want string) map[string]map[string]string {
	t.Helper()
	results, err := apply(t, c, g)
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
func wholly(t *testing.T, k *kind, library landing.Library) []string {
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
	var names []string
	for name, template := range library {
		if !slices.ContainsFunc(template.Resources, func(r landing.Resource) bool { return !known[r.Type] }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// covers asserts that no template is left out that an emulator knows wholly, but those
// that are there to fail.
func covers(t *testing.T, k *kind, library landing.Library, names []string, failing ...string) {
	t.Helper()
	for _, name := range wholly(t, k, library) {
		if !slices.Contains(names, name) && !slices.Contains(failing, name) {
			t.Errorf("%s knows every type of the template %s: deploy it to it, too", k.name, name)
		}
	}
	t.Logf("deployed to %s: %s", k.name, strings.Join(names, ", "))
}

// ground is a network as the templates want one, made by EC2's own calls, for
// an emulator that lacks a type of the template network.
func ground(t *testing.T, n network, cidr string) map[string]string {
	t.Helper()
	vpc := n.createVPC(t, cidr)
	var subnets []string
	for i, zone := range []string{"a", "b", "c"} {
		subnets = append(subnets, n.createSubnet(t, vpc, home+zone, strings.Replace(cidr, "0.0/16", fmt.Sprint(i, ".0/24"), 1)))
	}
	ids := strings.Join(subnets, ",")
	return map[string]string{"VpcId": vpc, "VpcCidr": cidr, "InnerSubnetIds": ids, "DataSubnetIds": ids, "PrivateRouteTableIds": n.createRouteTable(t, vpc), "IsolatedRouteTableId": n.createRouteTable(t, vpc)}
}

// needs are the templates that take something of a network, and what.
var needs = map[string][]string{
	"endpoints": {"VpcId", "VpcCidr", "InnerSubnetIds", "PrivateRouteTableIds", "IsolatedRouteTableId"},
	"zone":      {"VpcId"},
	"cache":     {"VpcId", "DataSubnetIds"},
}

func embedded(t *testing.T) landing.Library {
	t.Helper()
	library, err := landing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return library
}

// TestMinistack: the templates whose types ministack knows, from nothing and again; the
// resources are then read back through each service's own API. What it fails at is taken
// back, and the deployer tells why.
func TestMinistack(t *testing.T) {
	e := ministack.start(t)
	c := e.config(t)
	// automation is known but for what its parameters leave out.
	names := []string{"alarms", "automation", "delegation", "endpoints", "keys", "night", "zone"}
	library := embedded(t)
	covers(t, ministack, library, names)
	v := values{}
	v.set("", "FindingsBusArn", "arn:aws:events:"+home+":222222222222:event-bus/bank-findings", "automation")
	v.set("", "ForwardRoleArn", "arn:aws:iam::"+management+":role/bank-forward", "automation")
	for _, env := range environments {
		ids := ground(t, network{in(c, env.account)}, env.network)
		for template, parameters := range needs {
			for _, p := range parameters {
				v.set(env.name, p, ids[p], template)
			}
		}
		v.set(env.name, "InterfaceEndpoints", "true", "endpoints")
		v.set(env.name, "PostgresqlArn", "arn:aws:rds:"+home+":"+env.account+":db:bank-"+env.name+"-postgresql", "night")
	}
	g := graphOf(t, library, v, names...)
	outputs := deploy(t, c, g, landing.OutcomeCreated)
	deploy(t, c, g, landing.OutcomeUnchanged)
	for _, env := range environments {
		account := in(c, env.account)
		of := func(template string) map[string]string { return outputs[env.name+"/"+template] }
		readKeys(t, account, env.name, of("keys"))
		readEndpoints(t, e.kind, network{account}, v[env.name]["endpoints"])
		readZone(t, account, env.name, of("zone"))
		readNight(t, account, env.name, of("night")["NightScheduleGroupName"])

		topic, err := sns.NewFromConfig(account).GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: aws.String(of("alarms")["AlarmTopicArn"])})
		if err != nil {
			t.Error(err)
		} else if a := topic.Attributes; a["DisplayName"] != "bank "+env.name || !strings.Contains(a["Policy"], "AlarmsAndRules") {
			t.Errorf("%s: the topic is %v", env.name, a)
		}
	}
	readDelegation(t, in(c, environments[1].account), outputs["main/zone"]["ZoneId"], outputs["dev/zone"]["ZoneNameServers"])

	_, err := apply(t, c, graphOf(t, library, v, append(names, "cache")...))
	for _, env := range environments {
		name := "bank-" + env.name + "-cache"
		if want := "the stack " + name + " ended in ROLLBACK_COMPLETE: KeysThrownAway (AWS::CloudWatch::Alarm) failed first: AWS::CloudWatch::Alarm Properties.Metrics (metric math) is not supported"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		for logical, id := range physical(t, in(c, env.account), name) {
			t.Errorf("%s: of what failed there is %s, %s", env.name, logical, id)
		}
	}
}

// plainer says in words that moto understands what templates say: it does not know
// !Condition but by its long form, nor Fn::Cidr, nor tags that are no list, and takes
// nothing but a number for an index.
func plainer(t *testing.T, library landing.Library, names ...string) landing.Library {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		body, err := stacks.Template(name)
		if err != nil {
			t.Fatal(err)
		}
		body = tagMap.ReplaceAll(byLongForm.ReplaceAll(body, []byte("{Condition: $1}")), nil)
		body = zoneOf.ReplaceAllFunc(body, func(found []byte) []byte {
			return []byte("!Sub '${AWS::Region}" + map[string]string{"First": "a", "Second": "b", "Third": "c"}[string(zoneOf.FindSubmatch(found)[1])] + "'")
		})
		// The network has 16 bits: what differs are the third byte, and the subnet's prefix.
		body = rangeOf.ReplaceAllFunc(body, func(found []byte) []byte {
			n, errN := strconv.Atoi(string(rangeOf.FindSubmatch(found)[1]))
			count, errCount := strconv.Atoi(string(rangeOf.FindSubmatch(found)[2]))
			if err := errors.Join(errN, errCount); err != nil {
				t.Fatal(err)
			}
			return fmt.Appendf(nil, "!Join ['.', [!Select [0, !Split ['.', !Ref VpcCidr]], !Select [1, !Split ['.', !Ref VpcCidr]], '%d.0/%d']]", n*256/count, 16+bits.Len(uint(count))-1)
		})
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	library, err := landing.Read(dir, library)
	if err != nil {
		t.Fatal(err)
	}
	return library
}

var (
	tagMap     = regexp.MustCompile(`(?m)^ +Tags: \{.*\n`)
	byLongForm = regexp.MustCompile(`!Condition (\w+)`)
	zoneOf     = regexp.MustCompile(`!Select \[!Ref (First|Second|Third)Zone, !GetAZs ''\]`)
	rangeOf    = regexp.MustCompile(`!Select \[(\d+), !Cidr \[!Ref VpcCidr, (\d+), !FindInMap \[Bits, !Ref VpcPrefixLength, \w+\]\]\]`)
)

// TestMoto: the same for moto, which knows a network with NAT gateways and flow logs. It
// loses the outputs of stacks that change sets make, so what a stack needs of another is
// read back from the services and given by the estate. It takes the tags of a key in
// another form than a template's, and fails at those.
func TestMoto(t *testing.T) {
	e := moto.start(t)
	e.url = e.guarded(t)
	c := e.config(t)
	names := []string{"access", "delegation", "endpoints", "network", "zone"}
	library := plainer(t, embedded(t), names...)
	covers(t, moto, library, names, "keys")
	v := values{}
	for _, env := range environments {
		key, err := kms.NewFromConfig(in(c, env.account)).CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("Logs")})
		if err != nil {
			t.Fatal(err)
		}
		v.set(env.name, "LogsKeyArn", aws.ToString(key.KeyMetadata.Arn), "network")
		// Only Systems Manager's association, which neither emulator knows, is left out.
		v.set(env.name, "CloseDefaultSecurityGroup", "false", "network")
	}
	deploy(t, c, graphOf(t, library, v, "network"), landing.OutcomeCreated)
	for _, env := range environments {
		n := network{in(c, env.account)}
		ids := readNetwork(t, n, env.name, env.network)
		for _, template := range []string{"endpoints", "zone"} {
			for _, p := range needs[template] {
				v.set(env.name, p, ids[p], template)
			}
		}
		v.set(env.name, "InterfaceEndpoints", "true", "endpoints")
		v.set(env.name, "ClusterSecurityGroupId", n.createGroup(t, ids["VpcId"], "nodes"), "access")
		for _, engine := range []string{"Postgresql", "Mariadb", "Cache"} {
			v.set(env.name, engine+"SecurityGroupId", n.createGroup(t, ids["VpcId"], engine), "access")
		}
	}
	deploy(t, c, graphOf(t, library, v, "access", "endpoints", "zone"), landing.OutcomeCreated)
	for _, env := range environments {
		account := in(c, env.account)
		readEndpoints(t, e.kind, network{account}, v[env.name]["endpoints"])
		zones := physical(t, account, "bank-"+env.name+"-zone")
		servers := readZone(t, account, env.name, map[string]string{"ZoneId": zones["Zone"], "PrivateHostedZoneId": zones["InnerZone"]})
		v.set("", map[string]string{"dev": "DevZoneNameServers", "main": "MainZoneId"}[env.name], map[string]string{"dev": servers, "main": zones["Zone"]}[env.name], "delegation")
		groups := v[env.name]["access"]
		for engine, port := range map[string]int{"Postgresql": 5432, "Mariadb": 3306, "Cache": 6379} {
			if got := (network{account}).entered(t, groups[engine+"SecurityGroupId"]); len(got) != 1 || got[port] != groups["ClusterSecurityGroupId"] {
				t.Errorf("%s: who may enter %s is %v", env.name, engine, got)
			}
		}
	}
	deploy(t, c, graphOf(t, library, v, "delegation"), landing.OutcomeCreated)
	readDelegation(t, in(c, environments[1].account), v[""]["delegation"]["MainZoneId"], v[""]["delegation"]["DevZoneNameServers"])
	cleaned(t, c)
}

// guarded stands before moto, which has no UpdateTerminationProtection: it takes that
// call, and hands all others on. An error of moto itself, which a second try would cover
// up, fails the test.
func (e *emulator) guarded(t *testing.T) string {
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
		form, err := url.ParseQuery(string(body))
		if err == nil && form.Get("Action") == "UpdateTerminationProtection" {
			w.Header().Set("Content-Type", "text/xml")
			_, _ = io.WriteString(w, "<UpdateTerminationProtectionResponse><UpdateTerminationProtectionResult/></UpdateTerminationProtectionResponse>")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		watched := *proxy
		watched.ModifyResponse = func(res *http.Response) error {
			if res.StatusCode >= http.StatusInternalServerError {
				t.Errorf("%s has failed: %s at %s of %s", e.kind.name, res.Status, form.Get("Action"), form.Get("StackName"))
			}
			return nil
		}
		watched.ServeHTTP(w, r)
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
		// ministack keeps the days as the text that a parameter is, which the SDK does not take for a number.
		rotation, err := client.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &arn})
		if inWords := err != nil && strings.Contains(err.Error(), `expected number, got "365"`); !inWords && (err != nil || !rotation.KeyRotationEnabled) {
			t.Errorf("%s: %s does not rotate: %v, %v", environment, name, rotation, err)
		}
		if m := key.KeyMetadata; m.KeyState != kmstypes.KeyStateEnabled || aws.ToBool(m.MultiRegion) != (environment == "main") {
			t.Errorf("%s: %s is %s, multi-Region %v", environment, name, m.KeyState, aws.ToBool(m.MultiRegion))
		}
	}
	if len(arns) != 5 {
		t.Errorf("%s: there are the keys %v", environment, arns)
	}
}

// readEndpoints asks EC2 for the endpoints: those of gateways are in the route tables,
// the others in the subnets, with private names. ministack evaluates no Fn::Join in a
// condition, and so leaves the others out.
func readEndpoints(t *testing.T, k *kind, n network, given map[string]string) {
	t.Helper()
	gateways, interfaces := 0, map[string]bool{}
	for _, e := range n.endpoints(t, given["VpcId"]) {
		switch {
		case e.Type == "Gateway" && slices.Contains(e.RouteTables, strings.Split(given["PrivateRouteTableIds"], ",")[0]):
			gateways++
		case e.Type == "Interface" && e.PrivateDNS && len(e.Subnets) == len(strings.Split(given["InnerSubnetIds"], ",")):
			interfaces[e.Service] = true
		default:
			t.Errorf("there is the endpoint %+v", e)
		}
	}
	if gateways != 2 || len(interfaces) != map[*kind]int{moto: 20, ministack: 0}[k] {
		t.Errorf("there are %d gateways and %d interfaces", gateways, len(interfaces))
	}
}

// readZone asks Route 53 for the two zones, and for who may certify names, and returns
// the public one's servers. Which zone is private neither emulator keeps.
func readZone(t *testing.T, c aws.Config, environment string, given map[string]string) string {
	t.Helper()
	client, name := route53.NewFromConfig(c), environment+"."+domain
	if environment == "main" {
		name = domain
	}
	servers := ""
	for id, want := range map[string]string{given["ZoneId"]: name, given["PrivateHostedZoneId"]: "internal." + name} {
		zone, err := client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &id})
		if err != nil {
			t.Fatalf("%s, %s: %v", environment, want, err)
		}
		if got := strings.TrimSuffix(aws.ToString(zone.HostedZone.Name), "."); got != want {
			t.Errorf("%s: the zone is %s, want %s", environment, got, want)
		}
		if want == name {
			servers = strings.Join(zone.DelegationSet.NameServers, ",")
		}
	}
	records := recordsOf(t, c, given["ZoneId"])
	if caa := records["CAA "+name]; len(caa) != 2 || !strings.Contains(caa[0], "amazon.com") {
		t.Errorf("%s: who may certify names is not said: %v", environment, records)
	}
	return servers
}

// readDelegation asks Route 53 whether main's zone names the servers of dev's.
func readDelegation(t *testing.T, c aws.Config, zone, servers string) {
	t.Helper()
	records := recordsOf(t, c, zone)
	if got := strings.Join(records["NS dev."+domain], ","); got != servers || servers == "" {
		t.Errorf("the servers of dev's zone are %q, and main's names %q", servers, got)
	}
}

// recordsOf are a zone's records, by type and name.
func recordsOf(t *testing.T, c aws.Config, zone string) map[string][]string {
	t.Helper()
	out, err := route53.NewFromConfig(c).ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][]string{}
	for _, set := range out.ResourceRecordSets {
		key := string(set.Type) + " " + strings.TrimSuffix(aws.ToString(set.Name), ".")
		for _, r := range set.ResourceRecords {
			records[key] = append(records[key], aws.ToString(r.Value))
		}
	}
	return records
}

// readNight asks the scheduler for what stops and starts the database and the nodes;
// main's work all night.
func readNight(t *testing.T, c aws.Config, environment, group string) {
	t.Helper()
	client := scheduler.NewFromConfig(c)
	list, err := client.ListSchedules(t.Context(), &scheduler.ListSchedulesInput{GroupName: &group})
	if err != nil {
		t.Fatal(err)
	}
	got, want := []string{}, []string{}
	for _, s := range list.Schedules {
		one, err := client.GetSchedule(t.Context(), &scheduler.GetScheduleInput{GroupName: &group, Name: s.Name})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, aws.ToString(one.ScheduleExpression)+" "+aws.ToString(one.Target.Arn)+" "+aws.ToString(one.Target.Input))
	}
	if environment != "main" {
		database, function := fmt.Sprintf(`DBInstance {"DbInstanceIdentifier": "bank-%s-postgresql"}`, environment), "arn:aws:lambda:"+home+":"+environments[0].account+":function:bank-"+environment+"-night"
		want = []string{
			"cron(0 20 ? * MON-FRI *) " + function + ` {"switch": "off"}`, "cron(0 20 ? * MON-FRI *) arn:aws:scheduler:::aws-sdk:rds:stop" + database,
			"cron(0 6 ? * MON-FRI *) " + function + ` {"switch": "on"}`, "cron(0 6 ? * MON-FRI *) arn:aws:scheduler:::aws-sdk:rds:start" + database,
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: want\n%s\ngot\n%s", environment, strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// readNetwork asks EC2 for the network that moto has made, and returns what other
// templates need of it.
func readNetwork(t *testing.T, n network, environment, cidr string) map[string]string {
	t.Helper()
	ids := physical(t, n.Config, "bank-"+environment+"-network")
	id := ids["Vpc"]
	if vpc := n.vpc(t, id); vpc.CIDR != cidr {
		t.Errorf("%s: the network is %v", environment, vpc)
	}
	subnets := map[string]int{}
	for _, zone := range n.zones(t, id) {
		subnets[zone]++
	}
	if want := map[string]int{home + "a": 4, home + "b": 4, home + "c": 4}; !maps.Equal(subnets, want) {
		t.Errorf("%s: there are subnets in %v", environment, subnets)
	}
	if nat := n.natGateways(t, id); len(nat) != 3 {
		t.Errorf("%s: the NAT gateways are %v", environment, nat)
	}
	ways := map[string]int{}
	for _, table := range n.routeTables(t, id) {
		for _, r := range table.Routes {
			switch {
			case r.To != "0.0.0.0/0":
			case r.NAT != "":
				ways["NAT"]++
			case strings.HasPrefix(r.Gateway, "igw-"):
				ways["internet"]++
			}
		}
		if table.ID == ids["IsolatedRouteTable"] && len(table.Routes) != 1 {
			t.Errorf("%s: there are ways out of the data subnets: %v", environment, table.Routes)
		}
	}
	if ways["NAT"] != 3 || ways["internet"] != 1 {
		t.Errorf("%s: the ways out are %v", environment, ways)
	}
	if logged := n.logged(t); !slices.Equal(logged, []string{id}) {
		t.Errorf("%s: the flow logs are of %v", environment, logged)
	}
	role, err := iam.NewFromConfig(n.Config).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String(ids["FlowLogRole"])})
	if err != nil || !strings.Contains(aws.ToString(role.Role.AssumeRolePolicyDocument), "vpc-flow-logs.amazonaws.com") {
		t.Errorf("%s: who writes them is %v, %v", environment, role, err)
	}
	return map[string]string{
		"VpcId": id, "VpcCidr": cidr, "InnerSubnetIds": strings.Join([]string{ids["InnerSubnet1"], ids["InnerSubnet2"], ids["InnerSubnet3"]}, ","),
		"PrivateRouteTableIds": ids["PrivateRouteTable1"], "IsolatedRouteTableId": ids["IsolatedRouteTable"],
	}
}
