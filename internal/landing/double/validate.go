package double

import (
	"maps"
	"slices"
	"strings"
)

// identityTypes are the types of IAM, with the property that names one of each: a stack
// that has one needs to be told that it may, and one more where it is named.
var identityTypes = map[string]string{"AWS::IAM::AccessKey": "", "AWS::IAM::Group": "GroupName", "AWS::IAM::InstanceProfile": "InstanceProfileName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
	"AWS::IAM::Policy": "", "AWS::IAM::Role": "RoleName", "AWS::IAM::User": "UserName", "AWS::IAM::UserToGroupAddition": "", "AWS::IAM::RolePolicy": "", "AWS::IAM::UserPolicy": "", "AWS::IAM::GroupPolicy": ""}

// capabilities are those that a template needs, and the types that need them.
func (t *template) capabilities() (needs []string, because []string) {
	named := false
	for _, name := range slices.Sorted(maps.Keys(t.resources)) {
		r := t.resources[name]
		property, ok := identityTypes[r.kind]
		if !ok {
			continue
		}
		if !slices.Contains(because, r.kind) {
			because = append(because, r.kind)
		}
		if _, given := r.properties[property]; property != "" && given {
			named = true
		}
	}
	if len(because) > 0 {
		needs = []string{"CAPABILITY_IAM"}
		if named {
			needs = []string{"CAPABILITY_NAMED_IAM"}
		}
	}
	if len(t.transforms) > 0 {
		needs = append(needs, "CAPABILITY_AUTO_EXPAND")
	}
	return needs, because
}

func capable(t *template, given []string) error {
	needs, _ := t.capabilities()
	if len(needs) == 0 || slices.Contains(given, needs[0]) || needs[0] == "CAPABILITY_IAM" && slices.Contains(given, "CAPABILITY_NAMED_IAM") {
		if len(needs) < 2 || slices.Contains(given, needs[1]) {
			return nil
		}
	}
	return faultf(400, "InsufficientCapabilitiesException", "Requires capabilities : [%s]", strings.Join(needs, ", "))
}

// validate refuses a template that names what is not there, in whatever branch, or types
// that the region lacks.
func (d *Double) validate(at place, t *template) error {
	var strange []string
	for _, name := range slices.Sorted(maps.Keys(t.resources)) {
		kind := t.resources[name].kind
		_, err := d.schemas.typeOf(at.region, kind)
		switch {
		case err == errNoType: //nolint:errorlint // it is never wrapped
			if !slices.Contains(strange, kind) {
				strange = append(strange, kind)
			}
		case err != nil:
			return err
		}
	}
	if len(strange) > 0 {
		return invalid("Template format error: Unrecognized resource types: [%s]", strings.Join(strange, ", "))
	}
	if err := t.validateConditions(); err != nil {
		return err
	}
	deps := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(t.resources)) {
		r := t.resources[name]
		if r.condition != "" && t.conditions[r.condition] == nil {
			return invalid("Template format error: Unresolved condition dependency %s in the Resources block of the template", r.condition)
		}
		if err := d.validateReferences(at, t, r.properties, "Resources"); err != nil {
			return err
		}
		if err := d.validateReferences(at, t, r.metadata, "Resources"); err != nil {
			return err
		}
		for _, other := range r.dependsOn {
			if t.resources[other] == nil {
				return unresolved(other)
			}
		}
		on := slices.Clone(r.dependsOn)
		references(r.properties, nil, func(ref reference) {
			if t.resources[ref.name] != nil {
				on = append(on, ref.name)
			}
		})
		deps[name] = on
	}
	if c := circle(deps); len(c) > 0 {
		return invalid("Circular dependency between resources: [%s]", strings.Join(c, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(t.outputs)) {
		o := t.outputs[name]
		if o.condition != "" && t.conditions[o.condition] == nil {
			return invalid("Template format error: Unresolved condition dependency %s in the Outputs block of the template", o.condition)
		}
		if err := d.validateReferences(at, t, []any{o.value, o.export}, "Outputs"); err != nil {
			return err
		}
	}
	return nil
}

func (t *template) validateConditions() error {
	for _, name := range slices.Sorted(maps.Keys(t.conditions)) {
		var wrong []string
		references(t.conditions[name], nil, func(ref reference) {
			if _, ok := (&scope{}).pseudo(ref.name); !ok && t.parameters[ref.name] == nil && !slices.Contains(wrong, ref.name) {
				wrong = append(wrong, ref.name)
			}
		})
		if len(wrong) > 0 {
			slices.Sort(wrong)
			return invalid("Template format error: Unresolved dependencies [%s]. Cannot reference resources in the Conditions block of the template", strings.Join(wrong, ", "))
		}
	}
	return nil
}

// validateReferences refuses a value that names what a template lacks.
func (d *Double) validateReferences(at place, t *template, v any, block string) error {
	missing := map[string]bool{}
	var first error
	references(v, nil, func(ref reference) {
		if _, ok := (&scope{}).pseudo(ref.name); ok && ref.attribute == "" || ref.name == "" {
			return
		}
		r := t.resources[ref.name]
		if ref.attribute == "" {
			if r == nil && t.parameters[ref.name] == nil {
				missing[ref.name] = true
			}
			return
		}
		if r == nil {
			if first == nil {
				first = invalid("Template error: instance of Fn::GetAtt references undefined resource %s", ref.name)
			}
			return
		}
		kind, err := d.schemas.typeOf(at.region, r.kind)
		// Of types that handlers make AWS tells only when it asks for the attribute.
		if err == nil && !kind.handled && !kind.hasAttribute(ref.attribute) && first == nil && !strings.Contains(ref.attribute, "..") {
			first = invalid("Template error: resource %s does not support attribute type %s in Fn::GetAtt", ref.name, ref.attribute)
		}
	})
	if len(missing) > 0 {
		return invalid("Template format error: Unresolved resource dependencies [%s] in the %s block of the template", strings.Join(slices.Sorted(maps.Keys(missing)), ", "), block)
	}
	if first != nil {
		return first
	}
	return unresolvedConditions(t, v)
}

// unresolvedConditions refuses an Fn::If of a condition that a template lacks.
func unresolvedConditions(t *template, v any) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := unresolvedConditions(t, item); err != nil {
				return err
			}
		}
	case map[string]any:
		if list, ok := v["Fn::If"].([]any); ok && len(v) == 1 && len(list) > 0 {
			if _, ok := t.conditions[text(list[0])]; !ok {
				return invalid("Template error: unresolved condition dependency %s in Fn::If", text(list[0]))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := unresolvedConditions(t, v[key]); err != nil {
				return err
			}
		}
	}
	return nil
}
