package double

import (
	"maps"
	"slices"
)

// checkRules holds the values of parameters against a template's rules, before anything
// is done. The words around a rule's own are close to AWS's.
func (s *scope) checkRules() error {
	for _, name := range slices.Sorted(maps.Keys(s.t.rules)) {
		rule, ok := s.t.rules[name].(map[string]any)
		assertions, isList := rule["Assertions"].([]any)
		if !ok || !isList {
			return invalid("Template format error: Every Rules object must contain an Assertions list: %s", name)
		}
		if when, given := rule["RuleCondition"]; given {
			applies, err := s.decide(when, nil)
			if err != nil {
				return err
			}
			if !applies {
				continue
			}
		}
		for _, one := range assertions {
			a, _ := one.(map[string]any)
			holds, err := s.decide(a["Assert"], nil)
			if err != nil {
				return err
			}
			if !holds {
				return invalid("Template validation error: Rule %s failed: %s", name, text(a["AssertDescription"]))
			}
		}
	}
	return nil
}

// every decides what rules alone know: whether every item of a list is one of some values.
func (s *scope) every(list []any) (bool, error) {
	if len(list) != 2 {
		return false, invalid("Template error: Fn::EachMemberEquals and Fn::EachMemberIn require a list of 2 parameters.")
	}
	v, err := s.eval(list[0])
	if err != nil {
		return false, err
	}
	among, err := s.eval(list[1])
	if err != nil {
		return false, err
	}
	allowed, many := among.([]any)
	if !many {
		allowed = []any{among}
	}
	items, _ := v.([]any)
	for _, item := range items {
		if !slices.ContainsFunc(allowed, func(a any) bool { return same(a, item) }) {
			return false, nil
		}
	}
	return true, nil
}
