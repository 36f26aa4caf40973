package emulators

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
)

// answers are what a server says of a template, by what was asked.
type answers map[string]string

// Of a physical id or a value that the server chose, the form alone is compared.
var forms = []struct {
	is   *regexp.Regexp
	form string
}{
	{regexp.MustCompile(`\b[0-9]{12}\b`), "ACCOUNT"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b(vpc|subnet|igw|rtb|sg)-([0-9a-f]{17}|[0-9a-f]{8})\b`), "$1-HEX"},
	{regexp.MustCompile(`(stack-[A-Za-z]+)-[A-Za-z0-9]{12,13}\b`), "$1-RANDOM"},
	{regexp.MustCompile(`(stack-[a-z]+)-[a-z0-9]{12,13}\b`), "$1-RANDOM"},
	{regexp.MustCompile(`(:secret:[A-Za-z/]+)-[A-Za-z0-9]{6}$`), "$1-RANDOM"},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "HOST"},
}

func formOf(text string) string {
	for _, f := range forms {
		text = f.is.ReplaceAllString(text, f.form)
	}
	return text
}

// answer asks a server for a template's whole life: the change set that makes its stack,
// the stack, the change set of its second version, that too, and the stack's end.
func answer(t *testing.T, cfn *cloudformation.Client, c comparison) answers {
	t.Helper()
	a, name := answers{}, "stack"
	for i, body := range []string{c.body, c.next} {
		if body == "" {
			continue
		}
		kind := []types.ChangeSetType{types.ChangeSetTypeCreate, types.ChangeSetTypeUpdate}[i]
		if !a.change(t, cfn, name, fmt.Sprint("set", i), kind, body) {
			break
		}
	}
	if _, err := cfn.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: &name}); err != nil {
		a["deleted"] = said(err)
		return a
	}
	until(t, "the stack's end", func() bool {
		out, err := cfn.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
		switch {
		case err != nil:
			a["gone"] = said(err)
		case len(out.Stacks) == 0:
			a["gone"] = "no stacks"
		case strings.HasSuffix(string(out.Stacks[0].StackStatus), "_FAILED"):
			a["gone"] = string(out.Stacks[0].StackStatus)
		default:
			return out.Stacks[0].StackStatus == types.StackStatusDeleteComplete
		}
		return true
	})
	return a
}

// change makes and executes a change set, and notes what is said of it; false where that
// came to nothing.
func (a answers) change(t *testing.T, cfn *cloudformation.Client, name, set string, kind types.ChangeSetType, body string) bool {
	t.Helper()
	verb := strings.ToLower(string(kind))
	in := &cloudformation.CreateChangeSetInput{StackName: &name, ChangeSetName: &set, ChangeSetType: kind, TemplateBody: &body, Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}
	if _, err := cfn.CreateChangeSet(t.Context(), in); err != nil {
		a[verb+" refused"] = said(err)
		return false
	}
	var made *cloudformation.DescribeChangeSetOutput
	var err error
	until(t, "the change set", func() bool {
		made, err = cfn.DescribeChangeSet(t.Context(), &cloudformation.DescribeChangeSetInput{StackName: &name, ChangeSetName: &set})
		return err != nil || !strings.HasSuffix(string(made.Status), "_PENDING") && !strings.HasSuffix(string(made.Status), "_IN_PROGRESS")
	})
	if err != nil {
		a[verb+" set"] = said(err)
		return false
	}
	a[verb+" set"] = string(made.Status)
	if made.Status == types.ChangeSetStatusFailed {
		a[verb+" set"] += ": " + aws.ToString(made.StatusReason)
		return false
	}
	for _, change := range made.Changes {
		r := change.ResourceChange
		resource := verb + " " + aws.ToString(r.LogicalResourceId)
		a[resource] = strings.TrimSpace(string(r.Action) + " " + string(r.Replacement))
		if r.Action == types.ChangeActionModify {
			var properties []string
			for _, d := range r.Details {
				if d.Target != nil && d.Target.Name != nil {
					properties = append(properties, *d.Target.Name+" "+string(d.Target.RequiresRecreation))
				}
			}
			slices.Sort(properties)
			a[resource+" details"] = strings.Join(slices.Compact(properties), ", ")
		}
	}
	if _, err := cfn.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: &name, ChangeSetName: &set}); err != nil {
		a[verb+" executed"] = said(err)
		return false
	}
	var stack types.Stack
	until(t, "the stack", func() bool {
		var out *cloudformation.DescribeStacksOutput
		if out, err = cfn.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name}); err != nil || len(out.Stacks) == 0 {
			return true
		}
		stack = out.Stacks[0]
		return !strings.HasSuffix(string(stack.StackStatus), "_IN_PROGRESS")
	})
	if err != nil {
		a[verb+" status"] = said(err)
		return false
	}
	a[verb+" status"] = string(stack.StackStatus)
	for _, o := range stack.Outputs {
		a[verb+" output "+aws.ToString(o.OutputKey)] = formOf(aws.ToString(o.OutputValue))
	}
	return true
}

// said is an error's code and words.
func said(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + formOf(api.ErrorMessage())
	}
	return "no answer of AWS's form"
}

// comparison is a template and its second version.
type comparison struct{ name, body, next string }

// reason is why an emulator says otherwise than the double.
type reason struct {
	emulator *kind
	// comparison and key are regular expressions of what it is about, as a whole.
	comparison, key string
	why             string
}

func (r reason) fits(k *kind, comparison, key string) bool {
	whole := func(pattern, text string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text) }
	return r.emulator == k && whole(r.comparison, comparison) && whole(r.key, key)
}

// compare writes in what an emulator differs from the double, and why; what nobody has
// given a reason for is an error.
func compare(t *testing.T, into *strings.Builder, k *kind, c comparison, double, other answers, used []bool) {
	t.Helper()
	keys := maps.Clone(double)
	maps.Copy(keys, other)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if double[key] == other[key] {
			continue
		}
		why := "nobody has said why"
		at := slices.IndexFunc(reasons, func(r reason) bool { return r.fits(k, c.name, key) })
		if at < 0 {
			t.Errorf("%s: nobody has said why %q is\n   %s %q\n   double %q", c.name, key, k.name, other[key], double[key])
		} else {
			used[at], why = true, reasons[at].why
		}
		fmt.Fprintf(into, "%s, %s\n  double:    %s\n  %-10s %s\n  because %s\n", c.name, key, cmp.Or(double[key], "-"), k.name+":", cmp.Or(other[key], "-"), why)
	}
}

// TestCompare: the same templates to the double and to the emulators. What they differ in
// is held by a golden, each with a reason.
func TestCompare(t *testing.T) {
	emulators := map[*kind]*cloudformation.Client{}
	for _, k := range []*kind{moto, ministack} {
		e := k.start(t)
		emulators[k] = cloudformation.NewFromConfig(e.config(t), func(o *cloudformation.Options) { o.Retryer = aws.NopRetryer{} })
	}
	var differences strings.Builder
	used := make([]bool, len(reasons))
	same := 0
	for _, c := range comparisons {
		want := answer(t, doubled(t), c)
		same += len(want)
		for _, k := range []*kind{moto, ministack} {
			compare(t, &differences, k, c, want, answer(t, emulators[k], c), used)
		}
	}
	for i, r := range reasons {
		if !used[i] {
			t.Errorf("%s does not differ any more in %q of %q, though %s", r.emulator.name, r.key, r.comparison, r.why)
		}
	}
	t.Logf("of %d templates the double has given %d answers; the emulators differ in %d", len(comparisons), same, strings.Count(differences.String(), "\n  because "))
	golden(t, "differences.txt", differences.String())
}
