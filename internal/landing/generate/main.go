// Command generate makes the list of what it takes to create, read, change and delete
// a resource of each type, from the handlers of the schemas that cfn-lint ships. It
// holds the types of services that a landing zone is made of, so that it can be read.
//
//	go run ./internal/landing/generate           # writes internal/landing/data
//	go run ./internal/landing/generate -check    # says whether the data is what would be written
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"

	"dhow/internal/cfnlint"
)

const (
	file     = "internal/landing/data/permissions.txt"
	lock     = "requirements-cfn-lint.txt"
	schemas  = "cfnlint/data/schemas/resources/"
	maxBytes = 4 << 20 // of one schema; the largest has a tenth of it
)

// services are those whose types are told.
var services = []string{
	"ACMPCA", "AccessAnalyzer", "ApplicationAutoScaling", "ApiGateway", "ApiGatewayV2", "Athena", "AutoScaling", "Backup", "Budgets", "CE", "CertificateManager", "CloudFormation", "CloudFront", "CloudTrail",
	"CloudWatch", "Cognito", "Config", "DynamoDB", "EC2", "ECR", "ECS", "EFS", "EKS", "ElastiCache", "ElasticLoadBalancingV2", "Events", "FIS", "GuardDuty", "IAM", "Inspector", "InspectorV2",
	"KMS", "KinesisFirehose", "Lambda", "Logs", "Macie", "NetworkFirewall", "Oam", "Organizations", "RAM", "RDS", "ResourceGroups", "Route53", "Route53Resolver", "S3", "SNS", "SQS", "SSM",
	"SSO", "Scheduler", "SecretsManager", "SecurityHub", "ServiceDiscovery", "Shield", "StepFunctions", "Synthetics", "Transfer", "WAFv2", "XRay",
}

// byHand are types whose schemas have no handlers: CloudFormation creates them by the
// service's own calls, as the service's reference names them.
var byHand = map[string][]string{
	"AWS::CloudFormation::WaitCondition": {}, "AWS::CloudFormation::WaitConditionHandle": {},
	"AWS::EC2::ClientVpnEndpoint":                      {"ec2:CreateClientVpnEndpoint", "ec2:CreateTags", "ec2:DeleteClientVpnEndpoint", "ec2:DescribeClientVpnEndpoints", "ec2:ModifyClientVpnEndpoint"},
	"AWS::ElasticLoadBalancingV2::ListenerCertificate": {"elasticloadbalancing:AddListenerCertificates", "elasticloadbalancing:DescribeListenerCertificates", "elasticloadbalancing:RemoveListenerCertificates"},
	"AWS::Route53::RecordSetGroup":                     {"route53:ChangeResourceRecordSets", "route53:GetChange", "route53:GetHostedZone", "route53:ListResourceRecordSets"},
	"AWS::CloudWatch::AnomalyDetector":                 {"cloudwatch:DeleteAnomalyDetector", "cloudwatch:DescribeAnomalyDetectors", "cloudwatch:PutAnomalyDetector"},
	"AWS::IAM::AccessKey":                              {"iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:ListAccessKeys", "iam:UpdateAccessKey"},
	"AWS::IAM::UserToGroupAddition":                    {"iam:AddUserToGroup", "iam:GetGroup", "iam:RemoveUserFromGroup"},
}

func main() {
	check := flag.Bool("check", false, "write nothing, and fail where the data differs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to release
	}
}

func run(ctx context.Context, check bool) error {
	w, err := cfnlint.Fetch(ctx, lock, "cfn-lint")
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // it was only read
	made, err := made(w)
	if err != nil {
		return err
	}
	if check {
		if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, made) {
			return fmt.Errorf("%s is not what the schemas say: run `go generate ./internal/landing`", file)
		}
		return nil
	}
	return os.WriteFile(file, made, 0o644)
}

// schema is what is read of a type's schema.
type schema struct {
	Type     string `json:"typeName"`
	Handlers map[string]struct {
		Permissions []string `json:"permissions"`
	} `json:"handlers"`
}

func made(w *cfnlint.Wheel) ([]byte, error) {
	need := map[string]map[string]bool{}
	for typ, actions := range byHand {
		need[typ] = map[string]bool{}
		for _, a := range actions {
			need[typ][a] = true
		}
	}
	for _, f := range w.File {
		if !strings.HasPrefix(f.Name, schemas) || !strings.HasSuffix(f.Name, ".json") || f.UncompressedSize64 > maxBytes {
			continue
		}
		s, err := read(w, f.Name)
		if err != nil {
			return nil, err
		}
		words := strings.Split(s.Type, "::")
		if len(s.Handlers) == 0 || len(words) < 3 || words[0] != "AWS" || !slices.Contains(services, words[1]) {
			continue
		}
		if need[s.Type] == nil { // a type has several schemas, where regions differ
			need[s.Type] = map[string]bool{}
		}
		for handler, h := range s.Handlers {
			if handler == "list" { // CloudFormation does not list while it deploys
				continue
			}
			for _, a := range h.Permissions {
				// Some schemas write an action with a space, or a service in capitals.
				service, name, ok := strings.Cut(strings.TrimSpace(a), ":")
				if ok && service != "" && name != "" {
					need[s.Type][strings.ToLower(service)+":"+name] = true
				}
			}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made by generate from the handlers of cfn-lint %s: what it takes to create, read, change and delete a resource of each type.\n", w.Version)
	for _, typ := range slices.Sorted(maps.Keys(need)) {
		b.WriteString(typ)
		last := ""
		for _, a := range slices.Sorted(maps.Keys(need[typ])) {
			service, name, _ := strings.Cut(a, ":")
			if service == last {
				b.WriteString("," + name)
				continue
			}
			b.WriteString(" " + a)
			last = service
		}
		b.WriteString("\n")
	}
	return b.Bytes(), nil
}

func read(w *cfnlint.Wheel, name string) (schema, error) {
	var s schema
	f, err := w.Open(name)
	if err != nil {
		return s, err
	}
	defer func() { _ = f.Close() }() // likewise
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return s, fmt.Errorf("read the schema %s: %w", name, err)
	}
	return s, nil
}
