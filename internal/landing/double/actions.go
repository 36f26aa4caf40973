package double

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

func cloudformationActions() map[string]handler {
	return map[string]handler{
		"CancelUpdateStack":                 answer((*Double).cancelUpdateStack),
		"ContinueUpdateRollback":            answer((*Double).continueUpdateRollback),
		"CreateChangeSet":                   answer((*Double).createChangeSet),
		"CreateStack":                       answer((*Double).createStack),
		"DeleteChangeSet":                   answer((*Double).deleteChangeSet),
		"DeleteStack":                       answer((*Double).deleteStack),
		"DescribeAccountLimits":             answer((*Double).describeAccountLimits),
		"DescribeChangeSet":                 answer((*Double).describeChangeSet),
		"DescribeEvents":                    answer((*Double).describeEvents),
		"DescribeStackDriftDetectionStatus": answer((*Double).describeStackDriftDetectionStatus),
		"DescribeStackEvents":               answer((*Double).describeStackEvents),
		"DescribeStackResource":             answer((*Double).describeStackResource),
		"DescribeStackResourceDrifts":       answer((*Double).describeStackResourceDrifts),
		"DescribeStackResources":            answer((*Double).describeStackResources),
		"DescribeStacks":                    answer((*Double).describeStacks),
		"DetectStackDrift":                  answer((*Double).detectStackDrift),
		"ExecuteChangeSet":                  answer((*Double).executeChangeSet),
		"GetStackPolicy":                    answer((*Double).getStackPolicy),
		"GetTemplate":                       answer((*Double).getTemplate),
		"GetTemplateSummary":                answer((*Double).getTemplateSummary),
		"ListChangeSets":                    answer((*Double).listChangeSets),
		"ListExports":                       answer((*Double).listExports),
		"ListImports":                       answer((*Double).listImports),
		"ListStackResources":                answer((*Double).listStackResources),
		"ListStacks":                        answer((*Double).listStacks),
		"RollbackStack":                     answer((*Double).rollbackStack),
		"SetStackPolicy":                    answer((*Double).setStackPolicy),
		"UpdateStack":                       answer((*Double).updateStack),
		"UpdateTerminationProtection":       answer((*Double).updateTerminationProtection),
		"ValidateTemplate":                  answer((*Double).validateTemplate),
	}
}

// maxStacks is how many stacks an account has in a region, unless its quota says otherwise.
const maxStacks = 2000

func (d *Double) roomForStack(at place) error {
	limit := float64(maxStacks)
	if acc := d.accounts.byID[at.account]; acc != nil {
		if q, ok := acc.Quotas["cloudformation/L-0485CB21"]; ok {
			limit = q
		}
	}
	if float64(len(d.stacks[at])) >= limit {
		return faultf(400, "LimitExceededException", "Limit for stack has been exceeded")
	}
	return nil
}

// again says whether a request with a token was served before; one that asks for
// something else under it is refused.
func (s *stack) again(token, what string) (bool, error) {
	if token == "" {
		return false, nil
	}
	if had, ok := s.tokens[token]; ok {
		if had != what {
			return false, faultf(400, "TokenAlreadyExistsException", "A client request token already exists: %s", token)
		}
		return true, nil
	}
	s.tokens[token] = what
	return false, nil
}

func (d *Double) createStack(c *call, in *cloudformation.CreateStackInput) (*cloudformation.CreateStackOutput, error) {
	name, token := aws.ToString(in.StackName), aws.ToString(in.ClientRequestToken)
	if err := checkStackName(name); err != nil {
		return nil, err
	}
	if s := d.stacks[c.at][name]; s != nil {
		if _, had := s.tokens[token]; had && token != "" {
			if _, err := s.again(token, "create"); err != nil {
				return nil, err
			}
			return &cloudformation.CreateStackOutput{StackId: &s.id}, nil
		}
		return nil, faultf(400, "AlreadyExistsException", "Stack [%s] already exists", name)
	}
	if err := d.roomForStack(c.at); err != nil {
		return nil, err
	}
	if in.OnFailure != "" && in.DisableRollback != nil {
		return nil, invalid("You can specify either DisableRollback or OnFailure, but not both.")
	}
	if in.StackPolicyURL != nil {
		return nil, noURL("StackPolicyURL")
	}
	if in.StackPolicyBody != nil {
		if err := checkPolicy(*in.StackPolicyBody); err != nil {
			return nil, err
		}
	}
	sh, err := d.shapeOf(c.at, nil, request{in.TemplateBody, in.TemplateURL, in.RoleARN, nil, in.Parameters, in.Tags, in.Capabilities, in.NotificationARNs, in.DisableRollback, in.RetainExceptOnCreate, in.TimeoutInMinutes})
	if err != nil {
		return nil, err
	}
	s := d.newStack(c.at, name)
	s.protected, s.policy = aws.ToBool(in.EnableTerminationProtection), aws.ToString(in.StackPolicyBody)
	_, err = d.planOf(s, sh) // what a function gives is known before anything is made
	lacks, taken := late(err)
	if err != nil && !taken {
		d.drop(s)
		return nil, err
	}
	s.shape = *sh
	if _, err := s.again(token, "create"); err != nil {
		return nil, err
	}
	o := d.operate(s, types.OperationTypeCreateStack, token)
	o.onFailure = in.OnFailure
	if taken {
		o.miscreate(d.clock.tell(), lacks.message)
	} else if err := o.create(d.clock.tell(), "User Initiated"); err != nil {
		d.drop(s)
		return nil, err
	}
	return &cloudformation.CreateStackOutput{StackId: &s.id, OperationId: &o.id}, nil
}

// drop forgets a stack that came to nothing.
func (d *Double) drop(s *stack) {
	delete(d.stacks[s.at], s.name)
	delete(d.byID, s.id)
	d.order = slices.DeleteFunc(d.order, func(o *stack) bool { return o == s })
}

func (d *Double) updateStack(c *call, in *cloudformation.UpdateStackInput) (*cloudformation.UpdateStackOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientRequestToken)
	if same, err := s.again(token, "update"); same || err != nil {
		return &cloudformation.UpdateStackOutput{StackId: &s.id}, err
	}
	if !updatable(s) {
		return nil, invalid("Stack:%s is in %s state and can not be updated.", s.id, s.status)
	}
	if in.StackPolicyURL != nil || in.StackPolicyDuringUpdateURL != nil {
		return nil, noURL("StackPolicyURL")
	}
	for _, p := range []*string{in.StackPolicyBody, in.StackPolicyDuringUpdateBody} {
		if p != nil {
			if err := checkPolicy(*p); err != nil {
				return nil, err
			}
		}
	}
	sh, err := d.shapeOf(c.at, s, request{in.TemplateBody, in.TemplateURL, in.RoleARN, in.UsePreviousTemplate, in.Parameters, in.Tags, in.Capabilities, in.NotificationARNs, in.DisableRollback, in.RetainExceptOnCreate, nil})
	if err != nil {
		return nil, err
	}
	p, err := d.planOf(s, sh)
	lacks, taken := late(err)
	if err != nil && !taken {
		return nil, err
	}
	if !taken && !p.changed {
		return nil, invalid("No updates are to be performed.")
	}
	o := d.operate(s, types.OperationTypeUpdateStack, token)
	if in.StackPolicyDuringUpdateBody != nil {
		o.policy = *in.StackPolicyDuringUpdateBody
	}
	if taken {
		o.misupdate(d.clock.tell(), sh, lacks.message)
	} else if err := o.update(d.clock.tell(), sh, "User Initiated"); err != nil {
		return nil, err
	}
	if in.StackPolicyBody != nil {
		s.policy = *in.StackPolicyBody
	}
	return &cloudformation.UpdateStackOutput{StackId: &s.id, OperationId: &o.id}, nil
}

func (d *Double) deleteStack(c *call, in *cloudformation.DeleteStackInput) (*cloudformation.DeleteStackOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil || s.status == types.StackStatusDeleteComplete || s.status == types.StackStatusDeleteInProgress {
		return nil, nil // AWS says nothing of a stack that is not there
	}
	token := aws.ToString(in.ClientRequestToken)
	if same, err := s.again(token, "delete"); same || err != nil {
		return nil, err
	}
	if s.protected {
		return nil, invalid("Stack [%s] cannot be deleted while TerminationProtection is enabled", s.name)
	}
	if s.busy() && s.status != types.StackStatusCreateInProgress && s.status != types.StackStatusRollbackInProgress {
		return nil, invalid("Stack [%s] cannot be deleted while in status %s", s.id, s.status)
	}
	if len(in.RetainResources) > 0 && s.status != types.StackStatusDeleteFailed && in.DeletionMode != types.DeletionModeForceDeleteStack {
		return nil, invalid("Invalid operation on stack [%s]. When you delete a stack, specify which resources to retain only when the stack is in the DELETE_FAILED state.", s.id)
	}
	for _, name := range in.RetainResources {
		if s.resources[name] == nil {
			return nil, invalid("Invalid operation on stack [%s]. The following resources to retain do not belong to it: [%s]", s.id, name)
		}
	}
	at := d.clock.tell()
	if s.operation != nil && s.operation.run != nil { // it is given up
		s.operation.run.over = true
		s.operation.run.callOff(at)
	}
	o := d.operate(s, types.OperationTypeDeleteStack, token)
	o.skip = map[string]bool{}
	for _, name := range in.RetainResources {
		o.skip[name] = true
	}
	s.turn(at, types.StackStatusDeleteInProgress, "User Initiated")
	for _, name := range slices.Sorted(maps.Keys(s.exports)) {
		if users := d.importers(c.at, name); len(users) > 0 {
			o.later(at, func(at time.Time) {
				o.end(at, types.StackStatusDeleteFailed, "Delete canceled. Cannot delete export "+name+" as it is in use by "+strings.Join(users, " and ")+".")
			})
			return nil, nil
		}
	}
	o.undo(at, types.StackStatusDeleteComplete, types.StackStatusDeleteFailed)
	return nil, nil
}

func (d *Double) cancelUpdateStack(c *call, in *cloudformation.CancelUpdateStackInput) (*cloudformation.CancelUpdateStackOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	if s.status != types.StackStatusUpdateInProgress {
		return nil, invalid("CancelUpdateStack cannot be called from current stack status")
	}
	o, at := s.operation, d.clock.tell()
	o.why[""] = "User Initiated"
	o.run.over = true
	o.run.callOff(at)
	o.restore(at, o.snapshot, "User Initiated")
	return nil, nil
}

func (d *Double) continueUpdateRollback(c *call, in *cloudformation.ContinueUpdateRollbackInput) (*cloudformation.ContinueUpdateRollbackOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientRequestToken)
	if same, err := s.again(token, "continue"); same || err != nil {
		return nil, err
	}
	if s.status != types.StackStatusUpdateRollbackFailed {
		return nil, invalid("Stack:%s is in %s state and can not continue update rollback.", s.id, s.status)
	}
	skip := map[string]bool{}
	for _, name := range in.ResourcesToSkip {
		if r := s.resources[name]; r == nil || r.status != types.ResourceStatusUpdateFailed {
			return nil, invalid("Resources to skip [%s] must be resources that failed to update.", name)
		}
		skip[name] = true
	}
	o := d.operate(s, types.OperationTypeContinueRollback, token)
	o.skip = skip
	o.restore(d.clock.tell(), s.rollbackFrom, "User Initiated")
	return nil, nil
}

func (d *Double) rollbackStack(c *call, in *cloudformation.RollbackStackInput) (*cloudformation.RollbackStackOutput, error) {
	s, err := d.living(c.at, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientRequestToken)
	if same, err := s.again(token, "rollback"); same || err != nil {
		return &cloudformation.RollbackStackOutput{StackId: &s.id}, err
	}
	at := d.clock.tell()
	switch s.status {
	case types.StackStatusCreateFailed:
		o := d.operate(s, types.OperationTypeRollback, token)
		s.turn(at, types.StackStatusRollbackInProgress, "User Initiated")
		o.undo(at, types.StackStatusRollbackComplete, types.StackStatusRollbackFailed)
	case types.StackStatusUpdateFailed:
		o := d.operate(s, types.OperationTypeRollback, token)
		o.restore(at, s.rollbackFrom, "User Initiated")
	default:
		return nil, invalid("Stack:%s is in %s state and can not be rolled back.", s.id, s.status)
	}
	return &cloudformation.RollbackStackOutput{StackId: &s.id}, nil
}

func (d *Double) validateTemplate(c *call, in *cloudformation.ValidateTemplateInput) (*cloudformation.ValidateTemplateOutput, error) {
	if in.TemplateURL != nil {
		return nil, noURL("TemplateURL")
	}
	t, err := parseTemplate(aws.ToString(in.TemplateBody))
	if err != nil {
		return nil, err
	}
	if err := d.validate(c.at, t); err != nil {
		return nil, err
	}
	out := &cloudformation.ValidateTemplateOutput{DeclaredTransforms: t.transforms}
	if t.description != "" {
		out.Description = &t.description
	}
	needs, because := t.capabilities()
	for _, n := range needs {
		out.Capabilities = append(out.Capabilities, types.Capability(n))
	}
	if len(because) > 0 {
		out.CapabilitiesReason = aws.String("The following resource(s) require capabilities: [" + strings.Join(because, ", ") + "]")
	}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		p := t.parameters[name]
		out.Parameters = append(out.Parameters, types.TemplateParameter{ParameterKey: &p.name, DefaultValue: p.fallback, Description: &p.description, NoEcho: &p.noEcho})
	}
	return out, nil
}

func (d *Double) getTemplateSummary(c *call, in *cloudformation.GetTemplateSummaryInput) (*cloudformation.GetTemplateSummaryOutput, error) {
	if in.TemplateURL != nil {
		return nil, noURL("TemplateURL")
	}
	var t *template
	if in.StackName != nil {
		s, err := d.living(c.at, *in.StackName)
		if err != nil {
			return nil, err
		}
		t = s.template
	}
	if t == nil {
		var err error
		if t, err = parseTemplate(aws.ToString(in.TemplateBody)); err != nil {
			return nil, err
		}
		if err := d.validate(c.at, t); err != nil {
			return nil, err
		}
	}
	out := &cloudformation.GetTemplateSummaryOutput{DeclaredTransforms: t.transforms, Version: aws.String("2010-09-09")}
	if t.description != "" {
		out.Description = &t.description
	}
	if t.metadata != nil {
		out.Metadata = aws.String(compact(t.metadata))
	}
	needs, because := t.capabilities()
	for _, n := range needs {
		out.Capabilities = append(out.Capabilities, types.Capability(n))
	}
	if len(because) > 0 {
		out.CapabilitiesReason = aws.String("The following resource(s) require capabilities: [" + strings.Join(because, ", ") + "]")
	}
	kinds := map[string]bool{}
	for _, r := range t.resources {
		kinds[r.kind] = true
	}
	out.ResourceTypes = slices.Sorted(maps.Keys(kinds))
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		p := t.parameters[name]
		one := types.ParameterDeclaration{ParameterKey: &p.name, DefaultValue: p.fallback, Description: &p.description, NoEcho: &p.noEcho, ParameterType: &p.kind}
		if len(p.allowed) > 0 {
			one.ParameterConstraints = &types.ParameterConstraints{AllowedValues: p.allowed}
		}
		out.Parameters = append(out.Parameters, one)
	}
	return out, nil
}
