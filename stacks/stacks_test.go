package stacks

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the pages of docs/stacks anew")

const (
	mostLines = 400
	// mostBytes is what CloudFormation takes within a call, without a bucket.
	mostBytes = 51200
)

func TestTemplate(t *testing.T) {
	if _, err := Template("no-such"); err == nil || !strings.Contains(err.Error(), `no template "no-such": there are `) {
		t.Errorf("a template that is not there: %v", err)
	}
	first, err := Template(Names()[0])
	if err != nil {
		t.Fatal(err)
	}
	first[0] = '!'
	again, err := Template(Names()[0])
	if err != nil || again[0] == '!' {
		t.Errorf("who changes its copy changes the template (%v)", err)
	}
}

// literals are what no template may name: regions with their zones, and accounts.
var literals = regexp.MustCompile(`\b(?:af|ap|ca|cn|eu|il|me|mx|sa|us)(?:-gov|-iso[a-z]?)?-(?:central|north|south|east|west|northeast|northwest|southeast|southwest)-\d[a-z]?\b|(?:^|[^-\w])\d{12}\b|arn:aws:`)

func TestForm(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		if n := strings.Count(of.text, "\n"); n > mostLines {
			t.Errorf("it has %d lines, and at most %d are read in one go: split it", n, mostLines)
		}
		if n := len(of.text); n > mostBytes {
			t.Errorf("it has %d bytes, and CloudFormation takes %d", n, mostBytes)
		}
		for i, line := range strings.Split(of.text, "\n") {
			if found := literals.FindString(line); found != "" {
				t.Errorf("line %d names %s: any region, zone and account must do", i+1, found)
			}
		}
		for _, key := range []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Resources", "Outputs"} {
			if of.root[key] == nil {
				t.Errorf("it has no %s", key)
			}
		}
		for _, key := range sortedKeys(of.section("Outputs")) {
			o := asMap(of.section("Outputs")[key])
			if o["Description"] == nil {
				t.Errorf("output %s is not described", key)
			}
			if o["Export"] != nil {
				t.Errorf("output %s is exported, and could then not be replaced: outputs are wired by name", key)
			}
		}
		walk(of.root, func(m map[string]any) {
			if m["Fn::ImportValue"] != nil {
				t.Errorf("it imports %v: parameters are wired by name", m["Fn::ImportValue"])
			}
		})
	})
}

// TestPacks: the templates in conformance packs, which no linter looks into, are whole.
func TestPacks(t *testing.T) {
	identifier := regexp.MustCompile(`^[A-Z][A-Z0-9_]+$`)
	packs := 0
	every(t, func(t *testing.T, of *template) {
		for _, id := range sortedKeys(of.section("Resources")) {
			pack := of.resources()[id]
			if pack["Type"] != "AWS::Config::ConformancePack" {
				continue
			}
			packs++
			body := asMap(pack["Properties"])["TemplateBody"]
			if sub := asMap(body)["Fn::Sub"]; sub != nil {
				body = sub
			}
			var inner map[string]any
			if err := yaml.Unmarshal([]byte(asString(body)), &inner); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			rules := map[string]string{} // their names, by the logical id
			all := asMap(inner["Resources"])
			for rule, r := range all {
				properties := asMap(asMap(r)["Properties"])
				if asMap(r)["Type"] != "AWS::Config::ConfigRule" {
					continue
				}
				rules[rule] = asString(properties["ConfigRuleName"])
				if source := asString(asMap(properties["Source"])["SourceIdentifier"]); !identifier.MatchString(source) {
					t.Errorf("%s: %s is of the managed rule %q, which is no identifier", id, rule, source)
				}
			}
			if len(rules) == 0 {
				t.Errorf("%s has no rules", id)
			}
			for fix, r := range all {
				if of := asMap(r); of["Type"] == "AWS::Config::RemediationConfiguration" && (rules[asString(of["DependsOn"])] == "" || rules[asString(of["DependsOn"])] != asString(asMap(of["Properties"])["ConfigRuleName"])) {
					t.Errorf("%s: %s mends no rule of the pack", id, fix)
				}
			}
		}
	})
	if packs == 0 {
		t.Error("there are no packs")
	}
}

// environments are what every template that knows of them takes, or some of them.
var environments = []string{"dev", "sit", "main", "dr", "shared"}

func TestParameters(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		used := references([]any{of.root["Resources"], of.root["Conditions"], of.root["Outputs"], of.root["Rules"]})
		var grouped []string
		for _, g := range asList(asMap(of.section("Metadata")["AWS::CloudFormation::Interface"])["ParameterGroups"]) {
			if asMap(asMap(g)["Label"])["default"] == nil {
				t.Errorf("a group of parameters has no label: %v", g)
			}
			for _, p := range asList(asMap(g)["Parameters"]) {
				grouped = append(grouped, asString(p))
			}
		}
		all := of.section("Parameters")
		slices.Sort(grouped)
		if want := sortedKeys(all); !slices.Equal(grouped, want) {
			t.Errorf("the groups of AWS::CloudFormation::Interface hold\n%v, and the parameters are\n%v", grouped, want)
		}
		for _, name := range sortedKeys(all) {
			p := asMap(all[name])
			if !slices.Contains(used, name) {
				t.Errorf("%s is used nowhere", name)
			}
			if d := asString(p["Description"]); len(d) < 10 {
				t.Errorf("%s is described as %q", name, d)
			}
			if p["AllowedPattern"] != nil && p["ConstraintDescription"] == nil {
				t.Errorf("%s has a pattern that no ConstraintDescription puts in words", name)
			}
			switch typ := asString(p["Type"]); typ {
			case "String":
				if p["AllowedValues"] == nil && p["AllowedPattern"] == nil {
					t.Errorf("%s takes any text: give it AllowedValues or an AllowedPattern", name)
				}
			case "Number":
				if p["AllowedValues"] == nil && (p["MinValue"] == nil || p["MaxValue"] == nil) {
					t.Errorf("%s takes any number: give it AllowedValues or a MinValue and a MaxValue", name)
				}
			}
			if pattern := asString(p["AllowedPattern"]); pattern != "" {
				holdPattern(t, name, pattern, p["Default"])
			}
		}
		if asMap(all["Application"])["Default"] != nil {
			t.Error("Application has a default: two applications would share names")
		}
		for _, e := range asList(asMap(all["Environment"])["AllowedValues"]) {
			if !slices.Contains(environments, asString(e)) {
				t.Errorf("Environment may be %v, which is none of %v", e, environments)
			}
		}
	})
}

// holdPattern holds that a pattern is one and that a parameter's default, or each of
// its parts, keeps to it.
func holdPattern(t *testing.T, name, pattern string, def any) {
	t.Helper()
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		// Java's looking around is none of Go's; cfn-lint knows it.
		if !strings.Contains(pattern, "(?") {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	if s, ok := def.(string); ok && !re.MatchString(s) {
		for _, part := range strings.Split(s, ",") {
			if !re.MatchString(part) {
				t.Errorf("%s has a default %q that its own pattern refuses", name, s)
			}
		}
	}
}

// contract are the outputs that other templates and the deployer know by name.
var contract = map[string][]string{
	"network":      {"VpcId", "VpcCidr", "PublicSubnetIds", "PrivateSubnetIds", "DataSubnetIds", "PrivateRouteTableIds"},
	"keys":         {"DataKeyArn", "SecretsKeyArn", "LogsKeyArn", "ClusterKeyArn", "RegistryKeyArn"},
	"organization": {"OrganizationId", "RootId", "NonProductionAccountId", "ProductionAccountId", "SecurityAccountId"},
	"security":     {"LogBucketName", "LogBucketArn", "TrailArn", "FindingsTopicArn"},
	"identity":     {"PermissionBoundaryArn", "BreakGlassRoleArn"},
	"registry":     {"RegistryUri", "RepositoryArns"},
	"cluster":      {"ClusterName", "ClusterEndpoint", "ClusterSecurityGroupId", "NodeRoleArn"},
	"service":      {"ServiceRoleArn", "ServiceLogGroupName"},
	"frontend":     {"FrontendUrl", "FrontendLoadBalancerDnsName", "FrontendLoadBalancerArn"},
	"website":      {"WebsiteLoadBalancerDnsName", "WebsiteLoadBalancerArn"},
	"postgresql":   {"PostgresqlEndpoint", "PostgresqlPort", "PostgresqlSecretArn", "PostgresqlSecurityGroupId"},
	"mariadb":      {"MariadbEndpoint", "MariadbPort", "MariadbSecretArn", "MariadbSecurityGroupId"},
	"cache":        {"CacheEndpoint", "CachePort", "CacheSecretArn", "CacheSecurityGroupId"},
	"edge":         {"CertificateArn", "HostedZoneId", "WebAclArn", "AccessLogBucketName"},
}

func TestOutputs(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		outputs := of.section("Outputs")
		for _, want := range contract[of.name] {
			if outputs[want] == nil {
				t.Errorf("it has no output %s, which other templates take", want)
			}
		}
		for _, name := range sortedKeys(outputs) {
			if !regexp.MustCompile(`^[A-Z][A-Za-z0-9]+$`).MatchString(name) {
				t.Errorf("output %s is not in CamelCase", name)
			}
		}
	})
}

// TestLists: a list arrives as a list. An output of joined values feeds a parameter
// that splits them, or one that is passed on as it is.
func TestLists(t *testing.T) {
	joined := map[string]bool{}
	for _, name := range Names() {
		for key, o := range parsed(t, name).section("Outputs") {
			v := asMap(asMap(o)["Value"])
			if v["Fn::Join"] != nil {
				if list := asList(v["Fn::Join"]); asString(list[0]) == "," {
					joined[key] = true
				}
			}
		}
	}
	every(t, func(t *testing.T, of *template) {
		for name, p := range of.section("Parameters") {
			typ := asString(asMap(p)["Type"])
			if joined[name] && typ != "CommaDelimitedList" && !strings.HasPrefix(typ, "List<") {
				t.Errorf("%s is a list of another template's and of type %s here", name, typ)
			}
		}
	})
}

// keepers are the types that hold what cannot be made again.
var keepers = map[string]bool{
	"AWS::S3::Bucket": true, "AWS::KMS::Key": true, "AWS::KMS::ReplicaKey": true, "AWS::ECR::Repository": true,
	"AWS::RDS::DBInstance": true, "AWS::RDS::DBCluster": true, "AWS::ElastiCache::ReplicationGroup": true,
	"AWS::Backup::BackupVault": true, "AWS::DynamoDB::Table": true, "AWS::SecretsManager::Secret": true,
	"AWS::Organizations::Account": true, "AWS::Organizations::Organization": true, "AWS::Route53::HostedZone": true,
}

func TestKeepers(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		for _, id := range sortedKeys(of.resources()) {
			r := of.resources()[id]
			if !keepers[asString(r["Type"])] {
				continue
			}
			for _, policy := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
				switch asString(r[policy]) {
				case "Retain", "RetainExceptOnCreate", "Snapshot":
				default:
					t.Errorf("%s, %v: its %s is %v, and its data would be gone with it", id, r["Type"], policy, r[policy])
				}
			}
		}
	})
}

// TestBuckets: every bucket is closed to the public, encrypted, versioned, without
// ACLs, and takes no plain HTTP.
func TestBuckets(t *testing.T) {
	every(t, func(t *testing.T, of *template) {
		all := of.resources()
		for _, id := range sortedKeys(all) {
			if asString(all[id]["Type"]) != "AWS::S3::Bucket" {
				continue
			}
			p := asMap(all[id]["Properties"])
			for _, key := range []string{"BucketEncryption", "VersioningConfiguration", "OwnershipControls", "PublicAccessBlockConfiguration"} {
				if p[key] == nil {
					t.Errorf("bucket %s has no %s", id, key)
				}
			}
			for _, key := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
				if asMap(p["PublicAccessBlockConfiguration"])[key] != true {
					t.Errorf("bucket %s has not %s: true", id, key)
				}
			}
			if !slices.ContainsFunc(sortedKeys(all), func(other string) bool {
				o := asMap(all[other]["Properties"])
				return asString(all[other]["Type"]) == "AWS::S3::BucketPolicy" && slices.Contains(references(o["Bucket"]), id) && refusesPlain(o["PolicyDocument"])
			}) {
				t.Errorf("bucket %s has no policy that denies all without TLS", id)
			}
		}
	})
}

func refusesPlain(document any) bool {
	for _, s := range asList(asMap(document)["Statement"]) {
		if st := asMap(s); asString(st["Effect"]) == "Deny" && fmt.Sprint(asMap(asMap(st["Condition"])["Bool"])["aws:SecureTransport"]) == "false" {
			return true
		}
	}
	return false
}
