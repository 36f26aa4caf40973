package double

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// plan is what a new shape would change of a stack.
type plan struct {
	changes  []*change
	changed  bool // also without a change of a resource: outputs and tags
	problems []planProblem
}

type planProblem struct {
	logical string
	problem problem
}

// change is what happens to one resource.
type change struct {
	action      types.ChangeAction
	logical     string
	kind        string
	physical    string
	replacement types.Replacement
	scope       []types.ResourceAttribute
	details     []types.ResourceChangeDetail
	before      map[string]any
	after       map[string]any
	policy      types.PolicyAction
}

// scopeOf is what a template's functions see where nothing is known of its resources.
func (d *Double) scopeOf(s *stack, sh *shape) (*scope, error) {
	sc := &scope{t: sh.template, at: s.at, params: sh.given.resolved, stackName: s.name, stackID: s.id, zones: d.zones(s.at.region),
		imported: func(name string) (any, error) {
			for _, other := range d.in(s.at) {
				if v, ok := other.exports[name]; ok {
					return v, nil
				}
			}
			return nil, lacking("No export named %s found", name)
		}}
	if err := sc.settle(); err != nil {
		return nil, err
	}
	return sc, nil
}

// planOf compares a stack with what it would be.
func (d *Double) planOf(s *stack, sh *shape) (*plan, error) {
	sc, err := d.scopeOf(s, sh)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	fresh := map[string]bool{} // those whose values come to be
	now := map[string]*resource{}
	sc.resource = func(name string) (any, error) {
		if !sc.wants(sc.t.resources[name]) {
			return nil, unresolved(name)
		}
		if r := now[name]; r != nil && !fresh[name] {
			return r.physical, nil
		}
		return unknown{}, nil
	}
	sc.attribute = func(name, attribute string) (any, error) {
		if !sc.wants(sc.t.resources[name]) {
			return nil, unresolved(name)
		}
		r := now[name]
		if r == nil || fresh[name] {
			return unknown{}, nil
		}
		kind, err := d.schemas.typeOf(s.at.region, r.kind)
		if err != nil {
			return nil, err
		}
		if !kind.hasAttribute(attribute) {
			return unknown{}, nil // it is told where it is wanted
		}
		return kind.value(r, strings.Split(attribute, ".")), nil
	}
	deps := sc.dependencies()
	var retyped []string
	for name, old := range s.resources {
		if _, stays := deps[name]; stays && sh.template.resources[name].kind != old.kind {
			retyped = append(retyped, name)
		}
	}
	if len(retyped) > 0 {
		slices.Sort(retyped)
		return nil, invalid("Update of resource type is not permitted. The new template modifies resource type of the following resources: [%s]", strings.Join(retyped, ", "))
	}
	for _, name := range ordered(deps) {
		decl := sh.template.resources[name]
		kind, err := d.schemas.typeOf(s.at.region, decl.kind)
		if err != nil {
			return nil, err
		}
		properties, problems, err := sc.propertiesOf(kind, decl, sh.tags)
		if err != nil {
			return nil, err
		}
		for _, problem := range problems {
			p.problems = append(p.problems, planProblem{name, problem})
		}
		old := s.resources[name]
		c := &change{logical: name, kind: decl.kind, after: properties, action: types.ChangeActionAdd}
		if old == nil {
			fresh[name] = true
			p.changes = append(p.changes, c)
			continue
		}
		next := *old
		next.properties = properties
		now[name] = &next
		c.action, c.physical, c.before = types.ChangeActionModify, old.physical, old.properties
		d.compare(c, s, sh, sc, kind, decl, old, fresh)
		if c.replacement == types.ReplacementTrue {
			fresh[name] = true
		}
		if len(c.scope) > 0 {
			c.policy = map[types.Replacement]types.PolicyAction{types.ReplacementTrue: types.PolicyActionReplaceAndDelete, types.ReplacementConditional: types.PolicyActionReplaceAndDelete}[c.replacement]
			if c.policy != "" && keeps(old.replacePolicy) {
				c.policy = types.PolicyActionReplaceAndRetain
			}
			p.changes = append(p.changes, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		if _, stays := deps[name]; stays {
			continue
		}
		r := s.resources[name]
		c := &change{logical: name, kind: r.kind, physical: r.physical, before: r.properties, action: types.ChangeActionRemove, policy: types.PolicyActionDelete}
		switch {
		case keeps(r.deletion):
			c.policy = types.PolicyActionRetain
		case r.deletion == "Snapshot":
			c.policy = types.PolicyActionSnapshot
		}
		p.changes = append(p.changes, c)
	}
	slices.SortStableFunc(p.changes, func(a, b *change) int { return strings.Compare(a.logical, b.logical) })
	outputs, _, err := d.outputsOf(sc, sh)
	if err != nil {
		return nil, err
	}
	p.changed = len(p.changes) > 0 || !sameOutputs(outputs, s.outputs) || !sameTags(sh.tags, s.tags)
	return p, nil
}

func keeps(policy string) bool { return policy == "Retain" || policy == "RetainExceptOnCreate" }

// propertiesOf evaluates the properties of a resource, with the stack's tags.
func (s *scope) propertiesOf(kind *resourceType, decl *resourceDecl, tags []types.Tag) (map[string]any, []problem, error) {
	v, err := s.eval(decl.properties)
	if err != nil {
		return nil, nil, err
	}
	properties, ok := v.(map[string]any)
	if !ok || decl.properties == nil {
		properties = map[string]any{}
	}
	problems := kind.check(properties)
	return kind.withTags(properties, tags), problems, nil
}

// withTags adds a stack's tags to those of a resource, which go before them.
func (t *resourceType) withTags(properties map[string]any, tags []types.Tag) map[string]any {
	if t.tags == "" || len(tags) == 0 {
		return properties
	}
	properties = maps.Clone(properties)
	s := t.root.properties[t.tags]
	switch have := properties[t.tags].(type) {
	case unknown:
	case map[string]any:
		all := maps.Clone(have)
		for _, tag := range tags {
			if _, ok := all[*tag.Key]; !ok {
				all[*tag.Key] = *tag.Value
			}
		}
		properties[t.tags] = all
	case nil:
		if slices.Contains(s.types, "object") {
			all := map[string]any{}
			for _, tag := range tags {
				all[*tag.Key] = *tag.Value
			}
			properties[t.tags] = all
			break
		}
		properties[t.tags] = t.tagList(nil, s, tags)
	case []any:
		properties[t.tags] = t.tagList(have, s, tags)
	}
	return properties
}

func (t *resourceType) tagList(have []any, s *schema, tags []types.Tag) []any {
	if s.items == nil || s.items.properties["Key"] == nil || s.items.properties["Value"] == nil {
		return have
	}
	all := slices.Clone(have)
	for _, tag := range tags {
		if slices.ContainsFunc(have, func(v any) bool { m, _ := v.(map[string]any); return text(m["Key"]) == *tag.Key }) {
			continue
		}
		one := map[string]any{"Key": *tag.Key, "Value": *tag.Value}
		if slices.Contains(s.items.required, "PropagateAtLaunch") {
			one["PropagateAtLaunch"] = true
		}
		all = append(all, one)
	}
	return all
}

// compare tells how a resource would change.
func (d *Double) compare(c *change, s *stack, sh *shape, sc *scope, kind *resourceType, decl *resourceDecl, old *resource, fresh map[string]bool) {
	scoped := map[types.ResourceAttribute]bool{}
	c.replacement = types.ReplacementFalse
	for _, diff := range differences(old.properties, c.after, nil) {
		attribute := types.ResourceAttributeProperties
		if kind.tags != "" && diff.path[0] == kind.tags {
			attribute = types.ResourceAttributeTags
		}
		scoped[attribute] = true
		target := &types.ResourceTargetDefinition{Attribute: attribute, Name: &diff.path[0], Path: aws.String("/Properties/" + strings.Join(diff.path, "/")), RequiresRecreation: types.RequiresRecreationNever,
			AttributeChangeType: diff.kind()}
		if diff.before != nil {
			target.BeforeValue = aws.String(s.shown(sh, diff.before))
		}
		if diff.after != nil {
			target.AfterValue = aws.String(s.shown(sh, diff.after))
		}
		detail := types.ResourceChangeDetail{Target: target, Evaluation: types.EvaluationTypeStatic, ChangeSource: types.ChangeSourceDirectModification}
		sc.because(&detail, s, sh, decl.properties[diff.path[0]], fresh)
		if hasUnknown(diff.after) {
			detail.Evaluation = types.EvaluationTypeDynamic
		}
		switch {
		case kind.replacesAt(kind.createOnly, diff):
			target.RequiresRecreation = types.RequiresRecreationAlways
			if detail.Evaluation == types.EvaluationTypeStatic {
				c.replacement = types.ReplacementTrue
			} else if c.replacement != types.ReplacementTrue {
				c.replacement = types.ReplacementConditional
			}
		case kind.replacesAt(kind.maybeCreateOnly, diff):
			target.RequiresRecreation = types.RequiresRecreationConditionally
			if c.replacement != types.ReplacementTrue {
				c.replacement = types.ReplacementConditional
			}
		}
		c.details = append(c.details, detail)
	}
	for _, one := range []struct {
		attribute     types.ResourceAttribute
		before, after any
	}{
		{types.ResourceAttributeMetadata, old.metadata, decl.metadata},
		{types.ResourceAttributeDeletionPolicy, old.deletion, decl.deletion},
		{types.ResourceAttributeUpdateReplacePolicy, old.replacePolicy, decl.replacePolicy},
	} {
		if !same(one.before, one.after) {
			scoped[one.attribute] = true
			c.details = append(c.details, types.ResourceChangeDetail{Evaluation: types.EvaluationTypeStatic, ChangeSource: types.ChangeSourceDirectModification,
				Target: &types.ResourceTargetDefinition{Attribute: one.attribute, RequiresRecreation: types.RequiresRecreationNever}})
		}
	}
	for a := range scoped {
		c.scope = append(c.scope, a)
	}
	slices.Sort(c.scope)
}

// because tells what a change comes from: a parameter, another resource, or the template.
func (s *scope) because(detail *types.ResourceChangeDetail, st *stack, sh *shape, raw any, fresh map[string]bool) {
	var refs []reference
	references(raw, s.conditions, func(r reference) { refs = append(refs, r) })
	slices.SortFunc(refs, func(a, b reference) int { return strings.Compare(a.name+"."+a.attribute, b.name+"."+b.attribute) })
	for _, r := range refs {
		switch {
		case fresh[r.name] && r.attribute == "":
			detail.ChangeSource, detail.CausingEntity = types.ChangeSourceResourceReference, aws.String(r.name)
			return
		case fresh[r.name]:
			detail.ChangeSource, detail.CausingEntity = types.ChangeSourceResourceAttribute, aws.String(r.name+"."+r.attribute)
			return
		case s.t.parameters[r.name] != nil && st.given != nil && st.given.values[r.name] != sh.given.values[r.name]:
			detail.ChangeSource, detail.CausingEntity = types.ChangeSourceParameterReference, aws.String(r.name)
		}
	}
}

// replacesAt says whether a difference is of a property that a list names, whole or in part.
func (t *resourceType) replacesAt(list [][]string, diff difference) bool {
	if covers(list, diff.path) {
		return true
	}
	for _, path := range list {
		if len(path) > len(diff.path) && slices.Equal(path[:len(diff.path)], diff.path) {
			rest := path[len(diff.path):]
			if !slices.Contains(rest, "*") && !same(lookup(diff.before, rest), lookup(diff.after, rest)) {
				return true
			}
		}
	}
	return false
}

// difference is one that two values have.
type difference struct {
	path          []string
	before, after any // nil: not there
}

func (d difference) kind() types.AttributeChangeType {
	switch {
	case d.before == nil:
		return types.AttributeChangeTypeAdd
	case d.after == nil:
		return types.AttributeChangeTypeRemove
	}
	return types.AttributeChangeTypeModify
}

// differences are those of two values, each as deep as it can be told.
func differences(before, after any, path []string) []difference {
	if same(before, after) {
		return nil
	}
	switch b := before.(type) {
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			break
		}
		var out []difference
		keys := maps.Clone(b)
		maps.Copy(keys, a)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			out = append(out, differences(b[key], a[key], append(slices.Clone(path), key))...)
		}
		return out
	case []any:
		a, ok := after.([]any)
		if !ok || len(a) != len(b) || len(b) == 0 {
			break
		}
		var out []difference
		for i := range b {
			out = append(out, differences(b[i], a[i], append(slices.Clone(path), strconv.Itoa(i)))...)
		}
		return out
	}
	if before == nil && after == nil {
		return nil
	}
	return []difference{{path, before, after}}
}

// afterApply is what a change set shows of a value that comes to be.
const afterApply = "{{changeSet:KNOWN_AFTER_APPLY}}"

// shown is a value as a change set or an event shows it: without what NoEcho hides.
func (s *stack) shown(sh *shape, v any) string {
	v = hide(v, s.secrets(sh))
	if isScalar(v) {
		return text(v)
	}
	return compact(v)
}

// secrets are the values of parameters that must not be shown.
func (s *stack) secrets(shapes ...*shape) []string {
	var all []string
	for _, sh := range append(shapes, &s.shape, s.before) {
		if sh == nil || sh.template == nil {
			continue
		}
		for name, p := range sh.template.parameters {
			if v := sh.given.values[name]; p.noEcho && v != "" {
				all = append(all, v)
			}
		}
	}
	return all
}

// shortSecret is how long a secret is that is also hidden within a text: one of a letter or
// two would take words apart.
const shortSecret = 6

// hide replaces what must not be shown, and what is not known yet.
func hide(v any, secrets []string) any {
	switch v := v.(type) {
	case unknown:
		return afterApply
	case string:
		for _, secret := range secrets {
			if v == secret {
				return noEchoMask
			}
			if len(secret) >= shortSecret {
				v = strings.ReplaceAll(v, secret, noEchoMask)
			}
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = hide(v[i], secrets)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = hide(v[key], secrets)
		}
		return out
	}
	return v
}

// outputsOf evaluates a template's outputs, and what they export.
func (d *Double) outputsOf(sc *scope, sh *shape) ([]types.Output, map[string]string, error) {
	var outputs []types.Output
	exports := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(sh.template.outputs)) {
		o := sh.template.outputs[name]
		if o.condition != "" && !sc.conditions[o.condition] {
			continue
		}
		v, err := sc.eval(o.value)
		if err != nil {
			return nil, nil, fmt.Errorf("output %s: %w", name, err)
		}
		switch list := v.(type) {
		case unknown:
			v = afterApply
		case []any, map[string]any:
			_ = list
			return nil, nil, invalid("Template format error: Output %s is malformed. The Value field of every Outputs member must evaluate to a String and not a List.", name)
		}
		out := types.Output{OutputKey: aws.String(name), OutputValue: aws.String(text(v))}
		if o.description != "" {
			out.Description = &o.description
		}
		if o.export != nil {
			e, err := sc.eval(o.export)
			if err != nil {
				return nil, nil, err
			}
			if e != any(unknown{}) {
				out.ExportName = aws.String(text(e))
				exports[text(e)] = text(v)
			}
		}
		outputs = append(outputs, out)
	}
	return outputs, exports, nil
}

func sameOutputs(a, b []types.Output) bool {
	return slices.EqualFunc(a, b, func(a, b types.Output) bool {
		return *a.OutputKey == *b.OutputKey && *a.OutputValue == *b.OutputValue && aws.ToString(a.ExportName) == aws.ToString(b.ExportName) && aws.ToString(a.Description) == aws.ToString(b.Description)
	})
}

func sameTags(a, b []types.Tag) bool {
	key := func(t types.Tag) string { return *t.Key + "=" + *t.Value }
	words := func(tags []types.Tag) []string {
		var all []string
		for _, t := range tags {
			all = append(all, key(t))
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(words(a), words(b))
}
