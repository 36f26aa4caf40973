package double

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
)

const maxPolicy = 16 << 10 // bytes

// policyDocument is a stack policy.
type policyDocument struct {
	Statement []policyStatement
}

type policyStatement struct {
	Effect      string
	Action      words
	NotAction   words
	Principal   any
	Resource    words
	NotResource words
	Condition   map[string]map[string]words
}

func checkPolicy(text string) error {
	var p policyDocument
	if len(text) > maxPolicy || json.Unmarshal([]byte(text), &p) != nil || len(p.Statement) == 0 {
		return invalid("Error validating stack policy: Invalid stack policy")
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" {
			return invalid("Error validating stack policy: Invalid effect %q", s.Effect)
		}
		for _, a := range slices.Concat(s.Action, s.NotAction) {
			if !strings.HasPrefix(a, "Update:") && a != "*" {
				return invalid("Error validating stack policy: Unknown action %q", a)
			}
		}
		for _, r := range slices.Concat(s.Resource, s.NotResource) {
			if r != "*" && !strings.HasPrefix(r, "LogicalResourceId/") {
				return invalid("Error validating stack policy: Unknown resource %q", r)
			}
		}
	}
	return nil
}

// allowed says whether a stack's policy lets a resource be changed so. Without a policy
// all is allowed, with one only what it allows and does not deny.
func allowed(policy, action string, r *resource) bool {
	if policy == "" {
		return true
	}
	var p policyDocument
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		return true // it was checked when it was set
	}
	ok := false
	for _, s := range p.Statement {
		if s.applies(action, r) {
			if s.Effect == "Deny" {
				return false
			}
			ok = true
		}
	}
	return ok
}

func (s policyStatement) applies(action string, r *resource) bool {
	fits := func(patterns words, s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return wild(p, s) })
	}
	if len(s.Action) > 0 && !fits(s.Action, action) || len(s.NotAction) > 0 && fits(s.NotAction, action) {
		return false
	}
	id := "LogicalResourceId/" + r.logical
	if len(s.Resource) > 0 && !fits(s.Resource, id) || len(s.NotResource) > 0 && fits(s.NotResource, id) {
		return false
	}
	for operator, keys := range s.Condition {
		if kinds, ok := keys["ResourceType"]; ok {
			match := fits(kinds, r.kind)
			if strings.HasPrefix(operator, "StringEquals") {
				match = slices.Contains(kinds, r.kind)
			}
			if !match {
				return false
			}
		}
	}
	return true
}

// wild says whether a pattern with stars fits a text.
func wild(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		at := strings.Index(text, p)
		if at < 0 {
			return false
		}
		text = text[at+len(p):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

func (d *Double) setStackPolicy(c *call, in *cloudformation.SetStackPolicyInput) (*cloudformation.SetStackPolicyOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	if in.StackPolicyURL != nil {
		return nil, noURL("StackPolicyURL")
	}
	if err := checkPolicy(aws.ToString(in.StackPolicyBody)); err != nil {
		return nil, err
	}
	s.policy = *in.StackPolicyBody
	return nil, nil
}

func (d *Double) getStackPolicy(c *call, in *cloudformation.GetStackPolicyInput) (*cloudformation.GetStackPolicyOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	out := &cloudformation.GetStackPolicyOutput{}
	if s.policy != "" {
		out.StackPolicyBody = &s.policy
	}
	return out, nil
}

// noURL refuses what lies elsewhere: the double reads no bucket.
func noURL(what string) error {
	return invalid("%s must reference a valid S3 object to which you have access.", what)
}

func (d *Double) updateTerminationProtection(c *call, in *cloudformation.UpdateTerminationProtectionInput) (*cloudformation.UpdateTerminationProtectionOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	s.protected = aws.ToBool(in.EnableTerminationProtection)
	return &cloudformation.UpdateTerminationProtectionOutput{StackId: &s.id}, nil
}
