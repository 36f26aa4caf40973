package double

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// changeSet is one change set of a stack.
type changeSet struct {
	id, name, description string
	s                     *stack
	shape                 shape
	created               time.Time
	status                types.ChangeSetStatus
	execution             types.ExecutionStatus
	reason                string
	plan                  *plan
	kind                  types.ChangeSetType
	onFailure             types.OnStackFailure
	token                 string
	operation             string
	events                []types.OperationEvent
}

const (
	noChanges   = "The submitted information didn't contain changes. Submit different information to create a change set."
	earlyFailed = "The following hook(s)/validation failed: [AWS::EarlyValidation::PropertyValidation]. To troubleshoot Early Validation errors, use the DescribeEvents API for detailed failure information."
	// pageSize is how many things an answer has at most.
	pageSize = 100
	// maxChangeSets is how many change sets a stack may have.
	maxChangeSets = 1000
)

var changeSetName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

// request is what requests that shape a stack have in common.
type request struct {
	body, url, role  *string
	previous         *bool
	parameters       []types.Parameter
	tags             []types.Tag
	capabilities     []types.Capability
	notify           []string
	noRollback       *bool
	retainExceptMade *bool
	timeout          *int32
}

// shapeOf reads a request into a shape, and refuses what CloudFormation refuses at once.
func (d *Double) shapeOf(at place, s *stack, r request) (*shape, error) {
	if r.url != nil {
		return nil, noURL("TemplateURL")
	}
	var t *template
	var err error
	if aws.ToBool(r.previous) {
		if s == nil || s.template == nil {
			return nil, invalid("Template format error: There is no previous template.")
		}
		t = s.template
	} else if t, err = parseTemplate(aws.ToString(r.body)); err != nil {
		return nil, err
	}
	if err := d.validate(at, t); err != nil {
		return nil, err
	}
	values, keep := map[string]string{}, map[string]bool{}
	for _, p := range r.parameters {
		name := aws.ToString(p.ParameterKey)
		if _, twice := values[name]; twice || keep[name] {
			return nil, invalid("Duplicate parameter keys: [%s]", name)
		}
		if aws.ToBool(p.UsePreviousValue) {
			if p.ParameterValue != nil {
				return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true and non empty value for a parameter", name)
			}
			keep[name] = true
		} else {
			values[name] = aws.ToString(p.ParameterValue)
		}
	}
	var before map[string]string
	if s != nil && s.given != nil {
		before = s.given.values
	}
	g, err := d.parametersOf(at, t, values, keep, before)
	if err != nil {
		return nil, err
	}
	rules := &scope{t: t, at: at, params: g.resolved, zones: d.zones(at.region)}
	if err := rules.settle(); err != nil {
		return nil, err
	}
	if err := rules.checkRules(); err != nil {
		return nil, err
	}
	var given []string
	for _, c := range r.capabilities {
		given = append(given, string(c))
	}
	if err := capable(t, given); err != nil {
		return nil, err
	}
	if err := checkTags(r.tags); err != nil {
		return nil, err
	}
	sh := &shape{template: t, given: g, tags: r.tags, capabilities: r.capabilities, role: aws.ToString(r.role), notify: r.notify, noRollback: aws.ToBool(r.noRollback),
		retainNew: aws.ToBool(r.retainExceptMade), timeout: r.timeout}
	if s != nil && r.tags == nil {
		sh.tags = s.tags
	}
	return sh, nil
}

const maxTags = 50

func checkTags(tags []types.Tag) error {
	if len(tags) > maxTags {
		return invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to %d", maxTags)
	}
	seen := map[string]bool{}
	for _, t := range tags {
		key := aws.ToString(t.Key)
		switch {
		case key == "" || len(key) > 128:
			return invalid("1 validation error detected: Value '%s' at 'tags.1.member.key' failed to satisfy constraint: Member must have length between 1 and 128", key)
		case t.Value == nil || len(*t.Value) > 256:
			return invalid("1 validation error detected: Value at 'tags.1.member.value' failed to satisfy constraint: Member must have length between 1 and 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		case seen[key]:
			return invalid("Duplicate tag keys: [%s]", key)
		}
		seen[key] = true
	}
	return nil
}

func (d *Double) createChangeSet(c *call, in *cloudformation.CreateChangeSetInput) (*cloudformation.CreateChangeSetOutput, error) {
	name, stackID := aws.ToString(in.ChangeSetName), aws.ToString(in.StackName)
	if !changeSetName.MatchString(name) {
		return nil, invalid("1 validation error detected: Value '%s' at 'changeSetName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", name)
	}
	kind := in.ChangeSetType
	if kind == "" {
		kind = types.ChangeSetTypeUpdate
	}
	if kind == types.ChangeSetTypeImport || len(in.ResourcesToImport) > 0 || aws.ToBool(in.ImportExistingResources) {
		return nil, invalid("The double has nothing that could be imported: change sets of type IMPORT are not supported.")
	}
	s := d.find(c.at, stackID)
	if s != nil && s.status == types.StackStatusDeleteComplete {
		s = nil
	}
	if s != nil {
		for _, cs := range s.changeSets {
			if cs.name == name {
				if cs.token != "" && cs.token == aws.ToString(in.ClientToken) {
					return &cloudformation.CreateChangeSetOutput{Id: &cs.id, StackId: &s.id}, nil
				}
				return nil, faultf(400, "AlreadyExistsException", "ChangeSet %s already exists", name)
			}
		}
		if len(s.changeSets) >= maxChangeSets {
			return nil, faultf(400, "LimitExceededException", "ChangeSet limit exceeded for stack %s", s.name)
		}
	}
	switch kind {
	case types.ChangeSetTypeCreate:
		if s != nil && s.status != types.StackStatusReviewInProgress {
			return nil, invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", s.name, name)
		}
		if s == nil {
			if err := checkStackName(stackID); err != nil {
				return nil, err
			}
			if err := d.roomForStack(c.at); err != nil {
				return nil, err
			}
		}
	case types.ChangeSetTypeUpdate:
		if s == nil {
			return nil, invalid("Stack [%s] does not exist", stackID)
		}
		if !updatable(s) {
			return nil, invalid("Stack:%s is in %s state and can not be updated.", s.id, s.status)
		}
	default:
		return nil, invalid("1 validation error detected: Value '%s' at 'changeSetType' failed to satisfy constraint: Member must satisfy enum value set: [CREATE, UPDATE, IMPORT]", kind)
	}
	sh, err := d.shapeOf(c.at, s, request{in.TemplateBody, in.TemplateURL, in.RoleARN, in.UsePreviousTemplate, in.Parameters, in.Tags, in.Capabilities, in.NotificationARNs, nil, nil, nil})
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = d.newStack(c.at, stackID)
		s.turn(d.clock.tell(), types.StackStatusReviewInProgress, "User Initiated")
	}
	d.serial++
	cs := &changeSet{name: name, s: s, shape: *sh, created: d.clock.tell(), kind: kind, description: aws.ToString(in.Description), onFailure: in.OnStackFailure, token: aws.ToString(in.ClientToken),
		status: types.ChangeSetStatusCreatePending, execution: types.ExecutionStatusUnavailable}
	cs.id = "arn:" + partitionOf(c.at.region) + ":cloudformation:" + c.at.region + ":" + c.at.account + ":changeSet/" + name + "/" + uuidOf(s.id, name, strconv.Itoa(d.serial))
	cs.operation = uuidOf(cs.id, "operation")
	cs.shape.noRollback = cs.onFailure == types.OnStackFailureDoNothing
	s.changeSets = append(s.changeSets, cs)
	at := d.clock.tell()
	d.clock.after(at, changeSetTime/3, func() {
		if cs.status == types.ChangeSetStatusCreatePending {
			cs.status = types.ChangeSetStatusCreateInProgress
		}
	})
	d.clock.after(at, changeSetTime, func() {
		if cs.status == types.ChangeSetStatusCreateInProgress {
			d.compareSet(cs)
		}
	})
	return &cloudformation.CreateChangeSetOutput{Id: &cs.id, StackId: &s.id}, nil
}

// updatable says whether a stack's status lets it be updated.
func updatable(s *stack) bool {
	switch s.status {
	case types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete, types.StackStatusImportComplete, types.StackStatusImportRollbackComplete,
		types.StackStatusCreateFailed, types.StackStatusUpdateFailed:
		return true
	}
	return false
}

// compareSet finds out what a change set changes.
func (d *Double) compareSet(cs *changeSet) {
	fail := func(reason string) {
		cs.status, cs.execution, cs.reason = types.ChangeSetStatusFailed, types.ExecutionStatusUnavailable, reason
	}
	p, err := d.planOf(cs.s, &cs.shape)
	if err != nil {
		fail(d.faultOf(err).message)
		return
	}
	if d.early && len(p.problems) > 0 {
		now := d.clock.tell()
		for i, bad := range p.problems {
			path := "/Resources/" + bad.logical + "/Properties" + bad.problem.path
			kind := cs.shape.template.resources[bad.logical].kind
			cs.events = append(cs.events, types.OperationEvent{EventId: aws.String(uuidOf(cs.id, strconv.Itoa(i))), EventType: types.EventTypeValidationError, LogicalResourceId: aws.String(bad.logical),
				OperationId: &cs.operation, OperationType: types.OperationTypeCreateChangeset, ResourceType: &kind, StackId: &cs.s.id, Timestamp: &now, ValidationFailureMode: types.HookFailureModeFail,
				ValidationName: aws.String("PROPERTY_VALIDATION"), ValidationPath: &path, ValidationStatus: types.ValidationStatusFailed, ValidationStatusReason: aws.String(bad.problem.String())})
		}
		fail(earlyFailed)
		return
	}
	if !p.changed && cs.kind == types.ChangeSetTypeUpdate {
		fail(noChanges)
		return
	}
	cs.plan, cs.status, cs.execution = p, types.ChangeSetStatusCreateComplete, types.ExecutionStatusAvailable
}

// changeSetOf finds a change set by its ARN, or by its name and its stack.
func (d *Double) changeSetOf(at place, name, stackName *string) (*changeSet, error) {
	id := aws.ToString(name)
	for _, s := range d.order {
		if s.at != at || stackName != nil && *stackName != s.name && *stackName != s.id {
			continue
		}
		for _, cs := range s.changeSets {
			if cs.id == id || cs.name == id && stackName != nil {
				return cs, nil
			}
		}
	}
	if stackName == nil && !strings.HasPrefix(id, "arn:") {
		return nil, invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
	}
	return nil, faultf(404, "ChangeSetNotFound", "ChangeSet [%s] does not exist", id)
}

func (d *Double) describeChangeSet(c *call, in *cloudformation.DescribeChangeSetInput) (*cloudformation.DescribeChangeSetOutput, error) {
	cs, err := d.changeSetOf(c.at, in.ChangeSetName, in.StackName)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.DescribeChangeSetOutput{ChangeSetId: &cs.id, ChangeSetName: &cs.name, StackId: &cs.s.id, StackName: &cs.s.name, CreationTime: &cs.created, Status: cs.status,
		ExecutionStatus: cs.execution, Parameters: cs.s.parametersShown(&cs.shape), Tags: cs.shape.tags, Capabilities: cs.shape.capabilities, OnStackFailure: cs.onFailure, NotificationARNs: cs.shape.notify}
	if cs.description != "" {
		out.Description = &cs.description
	}
	if cs.reason != "" {
		out.StatusReason = &cs.reason
	}
	if cs.plan == nil {
		return out, nil
	}
	page, next, err := paged(cs.plan.changes, in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	out.NextToken = next
	for _, ch := range page {
		rc := &types.ResourceChange{Action: ch.action, LogicalResourceId: &ch.logical, ResourceType: &ch.kind, Details: ch.details, Scope: ch.scope, Replacement: ch.replacement, PolicyAction: ch.policy}
		if ch.physical != "" {
			rc.PhysicalResourceId = &ch.physical
		}
		if aws.ToBool(in.IncludePropertyValues) {
			if ch.before != nil {
				rc.BeforeContext = aws.String(cs.context(ch.before))
			}
			if ch.after != nil {
				rc.AfterContext = aws.String(cs.context(ch.after))
			}
		} else {
			rc.Details = withoutValues(ch.details)
		}
		out.Changes = append(out.Changes, types.Change{Type: types.ChangeTypeResource, ResourceChange: rc})
	}
	return out, nil
}

func (cs *changeSet) context(properties map[string]any) string {
	return compact(map[string]any{"Properties": hide(properties, cs.s.secrets(&cs.shape))})
}

func withoutValues(details []types.ResourceChangeDetail) []types.ResourceChangeDetail {
	out := slices.Clone(details)
	for i := range out {
		target := *out[i].Target
		target.BeforeValue, target.AfterValue = nil, nil
		out[i].Target = &target
	}
	return out
}

func (d *Double) executeChangeSet(c *call, in *cloudformation.ExecuteChangeSetInput) (*cloudformation.ExecuteChangeSetOutput, error) {
	cs, err := d.changeSetOf(c.at, in.ChangeSetName, in.StackName)
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientRequestToken)
	if same, err := cs.s.again(token, "execute "+cs.id); same || err != nil {
		return nil, err
	}
	if cs.execution != types.ExecutionStatusAvailable {
		return nil, faultf(400, "InvalidChangeSetStatus", "ChangeSet [%s] cannot be executed in its current status of [%s]", cs.id, cs.status)
	}
	s := cs.s
	if s.busy() {
		return nil, faultf(400, "InvalidChangeSetStatus", "Stack [%s] is in %s state and cannot be updated.", s.name, s.status)
	}
	at := d.clock.tell()
	if in.DisableRollback != nil {
		cs.shape.noRollback = *in.DisableRollback
	}
	if in.RetainExceptOnCreate != nil {
		cs.shape.retainNew = *in.RetainExceptOnCreate
	}
	kind := types.OperationTypeUpdateStack
	if cs.kind == types.ChangeSetTypeCreate {
		kind = types.OperationTypeCreateStack
	}
	o := d.operate(s, kind, token)
	if cs.kind == types.ChangeSetTypeCreate {
		s.shape = cs.shape
		if cs.onFailure == types.OnStackFailureDelete {
			o.onFailure = types.OnFailureDelete
		}
		err = o.create(at, "User Initiated")
	} else {
		err = o.update(at, &cs.shape, "User Initiated")
	}
	if err != nil {
		return nil, err
	}
	cs.execution = types.ExecutionStatusExecuteComplete
	s.changeSetID = cs.id
	for _, other := range s.changeSets { // they were compared with what is no more
		if other != cs {
			other.execution = types.ExecutionStatusObsolete
		}
	}
	s.changeSets = []*changeSet{cs}
	return nil, nil
}

func (d *Double) deleteChangeSet(c *call, in *cloudformation.DeleteChangeSetInput) (*cloudformation.DeleteChangeSetOutput, error) {
	cs, err := d.changeSetOf(c.at, in.ChangeSetName, in.StackName)
	if err != nil {
		if f, ok := err.(*fault); ok && f.code == "ChangeSetNotFound" { //nolint:errorlint // it is never wrapped
			if in.StackName != nil {
				if _, err := d.living(c.at, *in.StackName); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}
		return nil, err
	}
	if cs.execution == types.ExecutionStatusExecuteInProgress {
		return nil, faultf(400, "InvalidChangeSetStatus", "ChangeSet [%s] cannot be deleted in its current status of [%s]", cs.id, cs.status)
	}
	cs.status = types.ChangeSetStatusDeleteComplete
	cs.s.changeSets = slices.DeleteFunc(cs.s.changeSets, func(o *changeSet) bool { return o == cs })
	return nil, nil
}

func (d *Double) listChangeSets(c *call, in *cloudformation.ListChangeSetsInput) (*cloudformation.ListChangeSetsOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil {
		return nil, invalid("Stack [%s] does not exist", aws.ToString(in.StackName))
	}
	page, next, err := paged(s.changeSets, in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListChangeSetsOutput{NextToken: next}
	for _, cs := range page {
		sum := types.ChangeSetSummary{ChangeSetId: &cs.id, ChangeSetName: &cs.name, CreationTime: &cs.created, ExecutionStatus: cs.execution, Status: cs.status, StackId: &s.id, StackName: &s.name}
		if cs.reason != "" {
			sum.StatusReason = &cs.reason
		}
		if cs.description != "" {
			sum.Description = &cs.description
		}
		out.Summaries = append(out.Summaries, sum)
	}
	return out, nil
}

// paged is a page of a list, and the token of the next.
func paged[T any](list []T, token *string, size int) ([]T, *string, error) {
	from := 0
	if token != nil {
		n, err := strconv.Atoi(strings.TrimPrefix(*token, "page-"))
		if err != nil || n < 0 || n > len(list) || !strings.HasPrefix(*token, "page-") {
			return nil, nil, invalid("The next token is invalid.")
		}
		from = n
	}
	to := min(from+size, len(list))
	if to < len(list) {
		return list[from:to], aws.String("page-" + strconv.Itoa(to)), nil
	}
	return list[from:to], nil, nil
}
