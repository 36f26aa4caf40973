package double

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// parametersShown are a shape's parameters as they are told: what is NoEcho is hidden.
func (s *stack) parametersShown(sh *shape) []types.Parameter {
	if sh.template == nil {
		return nil
	}
	var out []types.Parameter
	for _, name := range slices.Sorted(maps.Keys(sh.given.values)) {
		p := types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(sh.given.values[name])}
		if sh.template.parameters[name].noEcho {
			p.ParameterValue = aws.String(noEchoMask)
		}
		if v, ok := sh.given.ssm[name]; ok {
			p.ResolvedValue = &v
		}
		out = append(out, p)
	}
	return out
}

func (s *stack) described() types.Stack {
	out := types.Stack{StackId: &s.id, StackName: &s.name, CreationTime: &s.created, StackStatus: s.status, Capabilities: s.capabilities, Outputs: s.outputs, Parameters: s.parametersShown(&s.shape),
		Tags: s.tags, EnableTerminationProtection: &s.protected, DisableRollback: &s.noRollback, RollbackConfiguration: &types.RollbackConfiguration{}, NotificationARNs: s.notify,
		DriftInformation: &types.StackDriftInformation{StackDriftStatus: s.drift}, TimeoutInMinutes: s.timeout}
	if s.template != nil && s.template.description != "" {
		out.Description = &s.template.description
	}
	if s.reason != "" {
		out.StackStatusReason = &s.reason
	}
	if !s.updated.IsZero() {
		out.LastUpdatedTime = &s.updated
	}
	if !s.deleted.IsZero() {
		out.DeletionTime = &s.deleted
	}
	if !s.driftChecked.IsZero() {
		out.DriftInformation.LastCheckTimestamp = &s.driftChecked
	}
	if s.role != "" {
		out.RoleARN = &s.role
	}
	if s.changeSetID != "" {
		out.ChangeSetId = &s.changeSetID
	}
	return out
}

func (d *Double) describeStacks(c *call, in *cloudformation.DescribeStacksInput) (*cloudformation.DescribeStacksOutput, error) {
	if in.StackName != nil {
		s := d.find(c.at, *in.StackName)
		if s == nil {
			return nil, invalid("Stack with id %s does not exist", *in.StackName)
		}
		return &cloudformation.DescribeStacksOutput{Stacks: []types.Stack{s.described()}}, nil
	}
	page, next, err := paged(d.in(c.at), in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.DescribeStacksOutput{NextToken: next}
	for _, s := range page {
		out.Stacks = append(out.Stacks, s.described())
	}
	return out, nil
}

func (d *Double) listStacks(c *call, in *cloudformation.ListStacksInput) (*cloudformation.ListStacksOutput, error) {
	var all []*stack
	for _, s := range slices.Backward(d.order) {
		if s.at == c.at && (len(in.StackStatusFilter) == 0 || slices.Contains(in.StackStatusFilter, s.status)) {
			all = append(all, s)
		}
	}
	page, next, err := paged(all, in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListStacksOutput{NextToken: next}
	for _, s := range page {
		full := s.described()
		out.StackSummaries = append(out.StackSummaries, types.StackSummary{StackId: &s.id, StackName: &s.name, CreationTime: &s.created, StackStatus: s.status, StackStatusReason: full.StackStatusReason,
			DeletionTime: full.DeletionTime, LastUpdatedTime: full.LastUpdatedTime, TemplateDescription: full.Description,
			DriftInformation: &types.StackDriftInformationSummary{StackDriftStatus: s.drift, LastCheckTimestamp: full.DriftInformation.LastCheckTimestamp}})
	}
	return out, nil
}

func (d *Double) describeStackEvents(c *call, in *cloudformation.DescribeStackEventsInput) (*cloudformation.DescribeStackEventsOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil {
		return nil, invalid("Stack [%s] does not exist", aws.ToString(in.StackName))
	}
	// The newest come first, and a token says how many older ones are left: so what
	// happens between two pages moves none.
	left := len(s.events)
	if in.NextToken != nil {
		n, err := strconv.Atoi(strings.TrimPrefix(*in.NextToken, "older-"))
		if err != nil || n < 0 || n > left {
			return nil, invalid("The next token is invalid.")
		}
		left = n
	}
	from := max(0, left-pageSize)
	out := &cloudformation.DescribeStackEventsOutput{StackEvents: slices.Clone(s.events[from:left])}
	slices.Reverse(out.StackEvents)
	if from > 0 {
		out.NextToken = aws.String("older-" + strconv.Itoa(from))
	}
	return out, nil
}

// describeEvents tells why a change set failed before anything was done, and what
// happened to a stack.
func (d *Double) describeEvents(c *call, in *cloudformation.DescribeEventsInput) (*cloudformation.DescribeEventsOutput, error) {
	var all []types.OperationEvent
	switch {
	case in.ChangeSetName != nil:
		cs, err := d.changeSetOf(c.at, in.ChangeSetName, in.StackName)
		if err != nil {
			return nil, err
		}
		all = cs.events
	case in.StackName != nil || in.OperationId != nil:
		for _, s := range d.order {
			if s.at != c.at || in.StackName != nil && *in.StackName != s.id && s != d.stacks[c.at][*in.StackName] {
				continue
			}
			for _, e := range slices.Backward(s.events) {
				if in.OperationId == nil || aws.ToString(e.OperationId) == *in.OperationId {
					all = append(all, types.OperationEvent{EventId: e.EventId, EventType: types.EventTypeStackEvent, LogicalResourceId: e.LogicalResourceId, PhysicalResourceId: e.PhysicalResourceId,
						ResourceType: e.ResourceType, ResourceStatus: e.ResourceStatus, ResourceStatusReason: e.ResourceStatusReason, StackId: e.StackId, Timestamp: e.Timestamp, OperationId: e.OperationId})
				}
			}
			for _, cs := range s.changeSets {
				if in.OperationId != nil && cs.operation == *in.OperationId {
					all = append(all, cs.events...)
				}
			}
		}
	default:
		return nil, invalid("One of ChangeSetName, OperationId or StackName must be specified")
	}
	if in.Filters != nil && aws.ToBool(in.Filters.FailedEvents) {
		all = slices.DeleteFunc(slices.Clone(all), func(e types.OperationEvent) bool {
			return e.ValidationStatus != types.ValidationStatusFailed && !strings.HasSuffix(string(e.ResourceStatus), "_FAILED")
		})
	}
	page, next, err := paged(all, in.NextToken, pageSize)
	return &cloudformation.DescribeEventsOutput{OperationEvents: page, NextToken: next}, err
}

// sorted are a stack's resources by name.
func (s *stack) sorted() []*resource {
	var all []*resource
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		all = append(all, s.resources[name])
	}
	return all
}

func (s *stack) resourceShown(r *resource) types.StackResource {
	out := types.StackResource{LogicalResourceId: &r.logical, ResourceStatus: r.status, ResourceType: &r.kind, Timestamp: &r.at2, StackId: &s.id, StackName: &s.name,
		DriftInformation: &types.StackResourceDriftInformation{StackResourceDriftStatus: r.drift}}
	if r.physical != "" {
		out.PhysicalResourceId = &r.physical
	}
	if r.reason != "" {
		out.ResourceStatusReason = &r.reason
	}
	if !r.driftChecked.IsZero() {
		out.DriftInformation.LastCheckTimestamp = &r.driftChecked
	}
	return out
}

func (d *Double) describeStackResources(c *call, in *cloudformation.DescribeStackResourcesInput) (*cloudformation.DescribeStackResourcesOutput, error) {
	if in.StackName == nil && in.PhysicalResourceId == nil {
		return nil, invalid("Either stack name or physical resource id must be specified.")
	}
	var s *stack
	if in.StackName != nil {
		if s = d.find(c.at, *in.StackName); s == nil {
			return nil, invalid("Stack with id %s does not exist", *in.StackName)
		}
	} else {
		for _, other := range d.in(c.at) {
			for _, r := range other.resources {
				if r.physical == *in.PhysicalResourceId {
					s = other
				}
			}
		}
		if s == nil {
			return nil, invalid("Stack for %s does not exist", *in.PhysicalResourceId)
		}
	}
	out := &cloudformation.DescribeStackResourcesOutput{}
	for _, r := range s.sorted() {
		if in.LogicalResourceId == nil || *in.LogicalResourceId == r.logical {
			out.StackResources = append(out.StackResources, s.resourceShown(r))
		}
		if len(out.StackResources) == pageSize {
			break
		}
	}
	return out, nil
}

func (d *Double) describeStackResource(c *call, in *cloudformation.DescribeStackResourceInput) (*cloudformation.DescribeStackResourceOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil {
		return nil, invalid("Stack '%s' does not exist", aws.ToString(in.StackName))
	}
	r := s.resources[aws.ToString(in.LogicalResourceId)]
	if r == nil {
		return nil, invalid("Resource %s does not exist for stack %s", aws.ToString(in.LogicalResourceId), s.name)
	}
	one := s.resourceShown(r)
	detail := &types.StackResourceDetail{LogicalResourceId: one.LogicalResourceId, ResourceStatus: one.ResourceStatus, ResourceType: one.ResourceType, LastUpdatedTimestamp: one.Timestamp,
		PhysicalResourceId: one.PhysicalResourceId, ResourceStatusReason: one.ResourceStatusReason, StackId: one.StackId, StackName: one.StackName, DriftInformation: one.DriftInformation}
	if r.metadata != nil {
		detail.Metadata = aws.String(compact(r.metadata))
	}
	return &cloudformation.DescribeStackResourceOutput{StackResourceDetail: detail}, nil
}

func (d *Double) listStackResources(c *call, in *cloudformation.ListStackResourcesInput) (*cloudformation.ListStackResourcesOutput, error) {
	s := d.find(c.at, aws.ToString(in.StackName))
	if s == nil {
		return nil, invalid("Stack with id %s does not exist", aws.ToString(in.StackName))
	}
	page, next, err := paged(s.sorted(), in.NextToken, pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListStackResourcesOutput{NextToken: next}
	for _, r := range page {
		one := s.resourceShown(r)
		out.StackResourceSummaries = append(out.StackResourceSummaries, types.StackResourceSummary{LogicalResourceId: one.LogicalResourceId, ResourceStatus: one.ResourceStatus, ResourceType: one.ResourceType,
			LastUpdatedTimestamp: one.Timestamp, PhysicalResourceId: one.PhysicalResourceId, ResourceStatusReason: one.ResourceStatusReason,
			DriftInformation: &types.StackResourceDriftInformationSummary{StackResourceDriftStatus: r.drift, LastCheckTimestamp: one.DriftInformation.LastCheckTimestamp}})
	}
	return out, nil
}

func (d *Double) getTemplate(c *call, in *cloudformation.GetTemplateInput) (*cloudformation.GetTemplateOutput, error) {
	var t *template
	if in.ChangeSetName != nil {
		cs, err := d.changeSetOf(c.at, in.ChangeSetName, in.StackName)
		if err != nil {
			return nil, err
		}
		t = cs.shape.template
	} else {
		s := d.find(c.at, aws.ToString(in.StackName))
		if s == nil {
			return nil, invalid("Stack with id %s does not exist", aws.ToString(in.StackName))
		}
		t = s.template
	}
	out := &cloudformation.GetTemplateOutput{StagesAvailable: []types.TemplateStage{types.TemplateStageOriginal, types.TemplateStageProcessed}}
	if t != nil {
		out.TemplateBody = &t.body
	}
	return out, nil
}

func (d *Double) listExports(c *call, in *cloudformation.ListExportsInput) (*cloudformation.ListExportsOutput, error) {
	var all []types.Export
	for _, s := range d.in(c.at) {
		for name, value := range s.exports {
			all = append(all, types.Export{Name: &name, Value: &value, ExportingStackId: &s.id})
		}
	}
	slices.SortFunc(all, func(a, b types.Export) int { return strings.Compare(*a.Name, *b.Name) })
	page, next, err := paged(all, in.NextToken, pageSize)
	return &cloudformation.ListExportsOutput{Exports: page, NextToken: next}, err
}

func (d *Double) listImports(c *call, in *cloudformation.ListImportsInput) (*cloudformation.ListImportsOutput, error) {
	name := aws.ToString(in.ExportName)
	users := d.importers(c.at, name)
	if len(users) == 0 {
		return nil, invalid("Export '%s' is not imported by any stack.", name)
	}
	page, next, err := paged(users, in.NextToken, pageSize)
	return &cloudformation.ListImportsOutput{Imports: page, NextToken: next}, err
}

func (d *Double) describeAccountLimits(_ *call, _ *cloudformation.DescribeAccountLimitsInput) (*cloudformation.DescribeAccountLimitsOutput, error) {
	return &cloudformation.DescribeAccountLimitsOutput{AccountLimits: []types.AccountLimit{{Name: aws.String("StackLimit"), Value: aws.Int32(maxStacks)},
		{Name: aws.String("StackOutputsLimit"), Value: aws.Int32(maxOutputs)}}}, nil
}
