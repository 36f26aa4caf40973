package emulators

import (
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
	{regexp.MustCompile(`(STACK-[A-Za-z]+)-[A-Za-z0-9]{12,13}\b`), "$1-RANDOM"},
	{regexp.MustCompile(`(:secret:[A-Za-z/]+)-[A-Za-z0-9]{6}$`), "$1-RANDOM"},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "HOST"},
}

func formOf(text string) string {
	for _, f := range forms {
		text = f.is.ReplaceAllString(text, f.form)
	}
	return text
}

// life is a stack's, as one server tells it.
type life struct {
	t   *testing.T
	cfn *cloudformation.Client
	// stack is its name, which is nobody's else; under is before all that is noted of it.
	stack, under string
	answers      answers
}

// answer asks a server for a template's whole life, twice: by change sets and without.
// The second version follows the first, and then the stack ends.
func answer(t *testing.T, cfn *cloudformation.Client, c comparison, stack string) answers {
	t.Helper()
	a := answers{}
	for _, way := range []struct {
		suffix, under string
		bring         func(*life, string, string) bool
	}{{"a", "", (*life).change}, {"b", "at once: ", (*life).atOnce}} {
		l := &life{t: t, cfn: cfn, stack: stack + way.suffix, under: way.under, answers: a}
		if way.bring(l, "create", c.body) && c.next != "" {
			way.bring(l, "update", c.next)
		}
		l.end()
	}
	return a
}

func (l *life) note(key, text string) {
	l.answers[l.under+key] = formOf(strings.ReplaceAll(text, l.stack, "STACK"))
}

// change makes and executes a change set, and notes what is said of it; false where that
// came to nothing.
func (l *life) change(verb, body string) bool {
	l.t.Helper()
	set := "by-" + verb
	if _, err := l.cfn.CreateChangeSet(l.t.Context(), &cloudformation.CreateChangeSetInput{StackName: &l.stack, ChangeSetName: &set, ChangeSetType: types.ChangeSetType(strings.ToUpper(verb)),
		TemplateBody: &body, Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}); err != nil {
		l.note(verb+" refused", said(err))
		return false
	}
	var made *cloudformation.DescribeChangeSetOutput
	var err error
	until(l.t, "the change set", func() bool {
		made, err = l.cfn.DescribeChangeSet(l.t.Context(), &cloudformation.DescribeChangeSetInput{StackName: &l.stack, ChangeSetName: &set})
		return err != nil || !strings.HasSuffix(string(made.Status), "_PENDING") && !strings.HasSuffix(string(made.Status), "_IN_PROGRESS")
	})
	if err != nil {
		l.note(verb+" set", said(err))
		return false
	}
	if made.Status == types.ChangeSetStatusFailed {
		l.note(verb+" set", string(made.Status)+": "+aws.ToString(made.StatusReason))
		return false
	}
	l.note(verb+" set", string(made.Status))
	for _, change := range made.Changes {
		l.resource(verb, change.ResourceChange)
	}
	if _, err := l.cfn.ExecuteChangeSet(l.t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: &l.stack, ChangeSetName: &set}); err != nil {
		l.note(verb+" executed", said(err))
		return false
	}
	return l.settle(verb)
}

// resource notes what a change set says that becomes of a resource.
func (l *life) resource(verb string, r *types.ResourceChange) {
	name := verb + " " + aws.ToString(r.LogicalResourceId)
	l.note(name, strings.TrimSpace(string(r.Action)+" "+string(r.Replacement)))
	if r.Action != types.ChangeActionModify {
		return
	}
	var properties []string
	for _, d := range r.Details {
		if d.Target != nil && d.Target.Name != nil {
			properties = append(properties, *d.Target.Name+" "+string(d.Target.RequiresRecreation))
		}
	}
	slices.Sort(properties)
	l.note(name+" details", strings.Join(slices.Compact(properties), ", "))
}

// atOnce makes or updates the stack without a change set.
func (l *life) atOnce(verb, body string) bool {
	l.t.Helper()
	var err error
	capabilities := []types.Capability{types.CapabilityCapabilityNamedIam}
	if verb == "create" {
		_, err = l.cfn.CreateStack(l.t.Context(), &cloudformation.CreateStackInput{StackName: &l.stack, TemplateBody: &body, Capabilities: capabilities})
	} else {
		_, err = l.cfn.UpdateStack(l.t.Context(), &cloudformation.UpdateStackInput{StackName: &l.stack, TemplateBody: &body, Capabilities: capabilities})
	}
	if err != nil {
		l.note(verb+" refused", said(err))
		return false
	}
	return l.settle(verb)
}

// settle waits until nothing happens to the stack any more, and notes how it is then;
// false where it is not as it was asked for.
func (l *life) settle(verb string) bool {
	l.t.Helper()
	var stack types.Stack
	var err error
	until(l.t, "the stack", func() bool {
		var out *cloudformation.DescribeStacksOutput
		if out, err = l.cfn.DescribeStacks(l.t.Context(), &cloudformation.DescribeStacksInput{StackName: &l.stack}); err != nil || len(out.Stacks) == 0 {
			return true
		}
		stack = out.Stacks[0]
		return !strings.HasSuffix(string(stack.StackStatus), "_IN_PROGRESS")
	})
	if err != nil {
		l.note(verb+" status", said(err))
		return false
	}
	l.note(verb+" status", string(stack.StackStatus))
	for _, o := range stack.Outputs {
		l.note(verb+" output "+aws.ToString(o.OutputKey), aws.ToString(o.OutputValue))
	}
	if string(stack.StackStatus) == strings.ToUpper(verb)+"_COMPLETE" {
		return true
	}
	l.note(verb+" failed", l.failure())
	return false
}

// failure is what failed first, and why; where nothing did, why the stack was taken back.
func (l *life) failure() string {
	l.t.Helper()
	out, err := l.cfn.DescribeStackEvents(l.t.Context(), &cloudformation.DescribeStackEventsInput{StackName: &l.stack})
	if err != nil {
		return said(err)
	}
	for _, suffix := range []string{"_FAILED", "ROLLBACK_IN_PROGRESS"} {
		for _, e := range slices.Backward(out.StackEvents) {
			if strings.HasSuffix(string(e.ResourceStatus), suffix) {
				return aws.ToString(e.LogicalResourceId) + ": " + aws.ToString(e.ResourceStatusReason)
			}
		}
	}
	return "nothing"
}

// end deletes the stack, and notes what is then said of it.
func (l *life) end() {
	l.t.Helper()
	if _, err := l.cfn.DeleteStack(l.t.Context(), &cloudformation.DeleteStackInput{StackName: &l.stack}); err != nil {
		l.note("deleted", said(err))
		return
	}
	until(l.t, "the stack's end", func() bool {
		out, err := l.cfn.DescribeStacks(l.t.Context(), &cloudformation.DescribeStacksInput{StackName: &l.stack})
		switch {
		case err != nil:
			l.note("gone", said(err))
		case len(out.Stacks) == 0:
			l.note("gone", "no stacks")
		case !strings.HasSuffix(string(out.Stacks[0].StackStatus), "_IN_PROGRESS"):
			l.note("gone", string(out.Stacks[0].StackStatus))
		default:
			return false
		}
		return true
	})
}

// said is an error's code and words.
func said(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
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

// compare adds to each reason what of an emulator's answers it is about, where they
// differ from the double's; what nobody has given a reason for is an error. It returns how
// many of the double's answers are the emulator's too.
func compare(t *testing.T, about [][]string, k *kind, c comparison, double, other answers) (same int) {
	t.Helper()
	keys := maps.Clone(double)
	maps.Copy(keys, other)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if double[key] == other[key] {
			same++
			continue
		}
		difference := fmt.Sprintf("%s, %s: %q, the double %q", c.name, key, other[key], double[key])
		at := slices.IndexFunc(reasons, func(r reason) bool { return r.fits(k, c.name, key) })
		if at < 0 {
			t.Errorf("nobody has said why %s differs in %s", k.name, difference)
			continue
		}
		about[at] = append(about[at], difference)
	}
	return same
}

// TestCompare: the same templates to the double and to the emulators. What they differ in
// is held by a golden, under its reasons.
func TestCompare(t *testing.T) {
	emulators := map[*kind]*cloudformation.Client{}
	for _, k := range []*kind{moto, ministack} {
		e := k.start(t)
		emulators[k] = cloudformation.NewFromConfig(e.config(t), func(o *cloudformation.Options) { o.Retryer = aws.NopRetryer{} })
	}
	cfn := doubled(t)
	about := make([][]string, len(reasons))
	same, all := map[*kind]int{}, 0
	for i, c := range comparisons {
		stack := fmt.Sprintf("stack%02d", i)
		want := answer(t, cfn, c, stack)
		all += len(want)
		for _, k := range []*kind{moto, ministack} {
			same[k] += compare(t, about, k, c, want, answer(t, emulators[k], c, stack))
		}
	}
	var differences strings.Builder
	for i, r := range reasons {
		if len(about[i]) == 0 {
			t.Errorf("%s does not differ any more in %q of %q, though %s", r.emulator.name, r.key, r.comparison, r.why)
		}
		fmt.Fprintf(&differences, "%s: %s\n  %s\n", r.emulator.name, r.why, strings.Join(about[i], "\n  "))
	}
	t.Logf("of %d answers that the double gives to %d templates moto gives %d too, and ministack %d", all, len(comparisons), same[moto], same[ministack])
	golden(t, "differences.txt", differences.String())
}
