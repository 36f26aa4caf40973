package landing

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:generate sh -c "cd ../.. && go run ./internal/landing/generate"

//go:embed data/permissions.txt
var permissions []byte

// parsePermissions reads the generator's text: a type a line, with its actions grouped
// by their service: "AWS::EC2::EIP ec2:AllocateAddress,CreateTags kms:Decrypt".
func parsePermissions(text []byte) (map[string][]string, error) {
	known := map[string][]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for at := 1; lines.Scan(); at++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		known[words[0]] = []string{} // there are types that take nothing
		for _, group := range words[1:] {
			service, names, ok := strings.Cut(group, ":")
			if !ok || service == "" {
				return nil, fmt.Errorf("permissions.txt: line %d: %q is no action", at, group)
			}
			for name := range strings.SplitSeq(names, ",") {
				known[words[0]] = append(known[words[0]], service+":"+name)
			}
		}
	}
	return known, lines.Err()
}

// ownActions are what the deployer itself calls.
var ownActions = []string{
	"cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DeleteStack", "cloudformation:DescribeChangeSet",
	"cloudformation:DescribeStackEvents", "cloudformation:DescribeStackResourceDrifts", "cloudformation:DescribeStacks", "cloudformation:DetectStackDrift", "cloudformation:DetectStackResourceDrift",
	"cloudformation:ExecuteChangeSet", "cloudformation:GetStackPolicy", "cloudformation:GetTemplate", "cloudformation:ListStackResources", "cloudformation:SetStackPolicy", "cloudformation:TagResource", "cloudformation:UntagResource",
	"cloudformation:UpdateStack", "cloudformation:UpdateTerminationProtection",
}

// lookingActions are those of no stack: what tells of drift, and what the preflight
// asks, which says that it does not know where it may not.
var lookingActions = []string{"cloudformation:DescribeStackDriftDetectionStatus", "iam:SimulatePrincipalPolicy", "servicequotas:GetServiceQuota"}

// actionsOf are the actions that deploying stacks needs, sorted, each once, and the
// types of which nobody tells what they need.
func actionsOf(stacks []*Stack) (actions, unknown []string, err error) {
	known, err := parsePermissions(permissions)
	if err != nil {
		return nil, nil, err
	}
	need := map[string]bool{}
	missing := map[string]bool{}
	for _, a := range ownActions {
		need[a] = true
	}
	for _, s := range stacks {
		for _, typ := range s.template.types() {
			if known[typ] == nil {
				missing[typ] = true
			}
			for _, a := range known[typ] {
				need[a] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(need)), slices.Sorted(maps.Keys(missing)), nil
}

// Policy is an IAM policy.
type Policy struct {
	Version   string            `json:"Version"`
	Statement []PolicyStatement `json:"Statement"`
}

// PolicyStatement is a statement of a Policy.
type PolicyStatement struct {
	Sid       string                         `json:"Sid"`
	Effect    string                         `json:"Effect"`
	Action    []string                       `json:"Action"`
	Resource  []string                       `json:"Resource"`
	Condition map[string]map[string][]string `json:"Condition,omitempty"`
}

// Need is the least that whoever deploys needs in an account.
type Need struct {
	Account string   `json:"account"`
	Policy  Policy   `json:"policy"`
	Unknown []string `json:"unknown,omitempty"` // types of which nobody tells what they need
}

// Policies are the policies of the role in each account, and that of the caller who
// assumes it, which comes first.
func (g *Graph) Policies(stacks []*Stack) ([]Need, error) {
	var needs []Need
	role := g.landing.Role.Name
	by := map[string][]*Stack{}
	for _, s := range stacks {
		by[string(s.Account)] = append(by[string(s.Account)], s)
	}
	if role != "" {
		var roles []string
		for _, account := range slices.Sorted(maps.Keys(by)) {
			number := by[account][0].Number
			if number == "" {
				number = "*" // it is still to be made
			}
			roles = append(roles, roleARN("aws", number, role))
		}
		slices.Sort(roles)
		needs = append(needs, Need{Account: "caller", Policy: Policy{Version: policyVersion, Statement: []PolicyStatement{{Sid: "Enter", Effect: "Allow", Action: []string{"sts:AssumeRole"}, Resource: slices.Compact(roles)}}}})
	}
	for _, account := range slices.Sorted(maps.Keys(by)) {
		need, err := g.need(account, by[account])
		if err != nil {
			return nil, err
		}
		needs = append(needs, need)
	}
	return needs, nil
}

const policyVersion = "2012-10-17"

// need is what the role of an account has to be allowed: its own stacks by their names,
// resources only by way of CloudFormation, in the regions where they stand.
func (g *Graph) need(account string, stacks []*Stack) (Need, error) {
	actions, unknown, err := actionsOf(stacks)
	if err != nil {
		return Need{}, err
	}
	var ours, regional, global, pass []string
	regions := map[string]bool{}
	number := "*"
	for _, s := range stacks {
		regions[s.Region] = true
		if s.Number != "" {
			number = s.Number
		}
	}
	names := slices.Sorted(maps.Keys(regions))
	var arns []string
	for _, region := range names {
		arns = append(arns, fmt.Sprintf("arn:aws:cloudformation:%s:%s:stack/%s-*/*", region, number, g.Application))
	}
	for _, a := range actions {
		service, _, _ := strings.Cut(a, ":")
		switch {
		case slices.Contains(ownActions, a):
			ours = append(ours, a)
		case a == "iam:PassRole":
			pass = append(pass, a)
		case globalServices[service]:
			global = append(global, a)
		default:
			regional = append(regional, a)
		}
	}
	via := map[string][]string{"aws:CalledVia": {"cloudformation.amazonaws.com"}}
	p := Policy{Version: policyVersion, Statement: []PolicyStatement{{Sid: "Stacks", Effect: "Allow", Action: ours, Resource: arns}}}
	add := func(sid string, actions, resources []string, condition map[string]map[string][]string) {
		if len(actions) > 0 {
			p.Statement = append(p.Statement, PolicyStatement{Sid: sid, Effect: "Allow", Action: actions, Resource: resources, Condition: condition})
		}
	}
	add("Resources", regional, []string{"*"}, map[string]map[string][]string{"ForAnyValue:StringEquals": via, "StringEquals": {"aws:RequestedRegion": names}})
	add("GlobalResources", global, []string{"*"}, map[string]map[string][]string{"ForAnyValue:StringEquals": via})
	add("PassRoles", pass, []string{fmt.Sprintf("arn:aws:iam::%s:role/%s-*", number, g.Application), fmt.Sprintf("arn:aws:iam::%s:role/aws-service-role/*", number)}, map[string]map[string][]string{"ForAnyValue:StringEquals": via})
	add("Look", lookingActions, []string{"*"}, nil)
	return Need{Account: account, Policy: p, Unknown: unknown}, nil
}

// globalServices answer in one region for all, so that a request's region says nothing.
var globalServices = map[string]bool{"iam": true, "organizations": true, "route53": true, "cloudfront": true, "budgets": true, "ce": true, "shield": true, "sso": true, "account": true, "globalaccelerator": true}
