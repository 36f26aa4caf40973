package landing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Change is what becomes of one resource.
type Change struct {
	Action   string `json:"action"` // add, modify, remove, import or dynamic
	Resource string `json:"resource"`
	Type     string `json:"type"`
	Physical string `json:"physical,omitempty"`
	// Replacement is what a modification does to it: true, conditional or false.
	Replacement string `json:"replacement,omitempty"`
	// Loses says that its data would be gone.
	Loses   bool     `json:"loses,omitempty"`
	Details []Detail `json:"details,omitempty"`
}

// Detail is a property that changes.
type Detail struct {
	Property string `json:"property"`
	Before   string `json:"before,omitempty"`
	After    string `json:"after,omitempty"`
	// Recreation is never, conditionally or always.
	Recreation string `json:"recreation,omitempty"`
}

// Replaces says that the resource is made anew, or may be and holds data.
func (c Change) Replaces() bool {
	return c.Replacement == "true" || c.Replacement == "conditional" && holdsData(c.Type)
}

// Refused says that the change is not made unless replacement is allowed.
func (c Change) Refused() bool { return c.Replaces() || c.Loses }

// changeOf reads a change of a change set; false where it is none of a resource.
func changeOf(c types.Change) (Change, bool) {
	r := c.ResourceChange
	if r == nil {
		return Change{}, false
	}
	change := Change{Action: strings.ToLower(string(r.Action)), Resource: aws.ToString(r.LogicalResourceId), Type: aws.ToString(r.ResourceType), Physical: aws.ToString(r.PhysicalResourceId)}
	if r.Action == types.ChangeActionModify {
		change.Replacement = strings.ToLower(string(r.Replacement))
	}
	if holdsData(change.Type) {
		gone := r.Action == types.ChangeActionRemove && (r.PolicyAction == types.PolicyActionDelete || r.PolicyAction == "")
		replaced := change.Replacement == "true" && r.PolicyAction != types.PolicyActionReplaceAndRetain && r.PolicyAction != types.PolicyActionReplaceAndSnapshot
		change.Loses = gone || replaced
	}
	seen := map[string]int{}
	for _, d := range r.Details {
		if d.Target == nil {
			continue
		}
		detail := Detail{Property: propertyOf(d.Target), Before: aws.ToString(d.Target.BeforeValue), After: aws.ToString(d.Target.AfterValue), Recreation: strings.ToLower(string(d.Target.RequiresRecreation))}
		if at, again := seen[detail.Property]; again { // once for what it refers to and once for itself
			old := &change.Details[at]
			old.Before, old.After = cmp.Or(old.Before, detail.Before), cmp.Or(old.After, detail.After)
			continue
		}
		seen[detail.Property] = len(change.Details)
		change.Details = append(change.Details, detail)
	}
	slices.SortStableFunc(change.Details, func(a, b Detail) int { return strings.Compare(a.Property, b.Property) })
	return change, true
}

// propertyOf is the path of what a detail is about.
func propertyOf(t *types.ResourceTargetDefinition) string {
	if path := strings.TrimPrefix(aws.ToString(t.Path), "/Properties/"); path != "" {
		return strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".")
	}
	if t.Attribute == types.ResourceAttributeProperties {
		return aws.ToString(t.Name)
	}
	return strings.TrimSuffix(string(t.Attribute)+"."+aws.ToString(t.Name), ".")
}

// sortChanges sorts what is taken away first, then what changes, then what is new.
func sortChanges(changes []Change) {
	order := []string{"remove", "modify", "dynamic", "import", "add"}
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Action), slices.Index(order, b.Action)), strings.Compare(a.Resource, b.Resource))
	})
}

// refusal is the error about changes that are not allowed; nil where there are none.
func refusal(id string, changes []Change) error {
	var what []string
	for _, c := range changes {
		switch {
		case c.Loses:
			what = append(what, fmt.Sprintf("%s (%s) would lose its data", c.Resource, c.Type))
		case c.Replaces():
			what = append(what, fmt.Sprintf("%s (%s) would be replaced%s", c.Resource, c.Type, because(c)))
		}
	}
	if len(what) == 0 {
		return nil
	}
	return &RefusedError{Stack: id, What: what}
}

func because(c Change) string {
	var properties []string
	for _, d := range c.Details {
		if d.Recreation != "" && d.Recreation != "never" {
			properties = append(properties, d.Property)
		}
	}
	if len(properties) == 0 {
		return ""
	}
	return " for its " + strings.Join(properties, ", ")
}

// RefusedError says that a change would replace something or lose data.
type RefusedError struct {
	Stack string
	What  []string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: %s: nothing of it was changed", e.Stack, strings.Join(e.What, "; "))
}

// statement is one of a stack policy.
type statement struct {
	Effect    string   `json:"Effect"`
	Action    []string `json:"Action"`
	Principal string   `json:"Principal"`
	Resource  []string `json:"Resource"`
}

// stackPolicy keeps a stack's data from being replaced or removed by an update; empty
// where the stack has none. With open it lets all be done, for an update that is allowed to.
func stackPolicy(s *Stack, open bool) string {
	var data []string
	for _, r := range s.resources() {
		if holdsData(r.Type) {
			data = append(data, "LogicalResourceId/"+r.ID)
		}
	}
	if len(data) == 0 {
		return ""
	}
	slices.Sort(data)
	policy := struct{ Statement []statement }{[]statement{{"Allow", []string{"Update:*"}, "*", []string{"*"}}}}
	if !open {
		policy.Statement = append(policy.Statement, statement{"Deny", []string{"Update:Replace", "Update:Delete"}, "*", data})
	}
	text, err := json.Marshal(policy)
	if err != nil { // texts alone are in it
		return ""
	}
	return string(text)
}
