package double

import (
	"maps"
	"slices"
	"strings"
)

// reference is something that a value names.
type reference struct {
	name      string // of a parameter or a resource
	attribute string // empty: Ref
}

// references calls found for everything that a value names. Branches that a condition
// does not take are left out where conditions are given.
func references(v any, conditions map[string]bool, found func(reference)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			references(item, conditions, found)
		}
	case map[string]any:
		name, arg, ok := functionOf(v)
		if !ok {
			for _, item := range v {
				references(item, conditions, found)
			}
			return
		}
		list, _ := arg.([]any)
		switch name {
		case "Ref":
			found(reference{name: text(arg)})
		case "Fn::GetAtt":
			if len(list) >= 2 {
				found(reference{text(list[0]), strings.Join(texts(list[1:]), ".")})
				references(list[1:], conditions, found)
			} else if s, ok := arg.(string); ok {
				name, attribute, _ := strings.Cut(s, ".")
				found(reference{name, attribute})
			}
		case "Fn::Sub":
			format, _ := arg.(string)
			var vars map[string]any
			if len(list) == 2 {
				format, _ = list[0].(string)
				vars, _ = list[1].(map[string]any)
			}
			for _, m := range variable.FindAllStringSubmatch(format, -1) {
				name := strings.TrimSpace(m[1])
				if own, ok := vars[name]; ok {
					references(own, conditions, found)
				} else if variableName.MatchString(name) {
					name, attribute, _ := strings.Cut(name, ".")
					found(reference{name, attribute})
				}
			}
		case "Fn::If":
			if conditions != nil && len(list) == 3 {
				if conditions[text(list[0])] {
					references(list[1], conditions, found)
				} else {
					references(list[2], conditions, found)
				}
				return
			}
			references(arg, conditions, found)
		default:
			references(arg, conditions, found)
		}
	}
}

// wants says whether a template has a resource, as its conditions are.
func (s *scope) wants(r *resourceDecl) bool { return r.condition == "" || s.conditions[r.condition] }

// dependencies are the resources that each of a template's waits for.
func (s *scope) dependencies() map[string][]string {
	deps := map[string][]string{}
	for name, r := range s.t.resources {
		if !s.wants(r) {
			continue
		}
		on := map[string]bool{}
		add := func(other string) {
			if o := s.t.resources[other]; o != nil && s.wants(o) {
				on[other] = true
			}
		}
		references(r.properties, s.conditions, func(ref reference) { add(ref.name) })
		for _, other := range r.dependsOn {
			add(other)
		}
		deps[name] = slices.Sorted(maps.Keys(on))
	}
	return deps
}

// circle are the resources that wait for one another, if any do.
func circle(deps map[string][]string) []string {
	left := maps.Clone(deps)
	for shrunk := true; shrunk; {
		shrunk = false
		for name, on := range left {
			if !slices.ContainsFunc(on, func(o string) bool { _, waits := left[o]; return waits }) {
				delete(left, name)
				shrunk = true
			}
		}
	}
	// What only waits for the circle is no part of it.
	for shrunk := true; shrunk; {
		shrunk = false
		for name := range left {
			wanted := false
			for _, on := range left {
				wanted = wanted || slices.Contains(on, name)
			}
			if !wanted {
				delete(left, name)
				shrunk = true
			}
		}
	}
	return slices.Sorted(maps.Keys(left))
}

// ordered are the names of a graph, each behind those that it waits for, and otherwise by
// name. There is no circle in it.
func ordered(deps map[string][]string) []string {
	var out []string
	done := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		for _, on := range deps[name] {
			visit(on)
		}
		out = append(out, name)
	}
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		visit(name)
	}
	return out
}

// turned are the edges of a graph the other way around.
func turned(deps map[string][]string) map[string][]string {
	back := make(map[string][]string, len(deps))
	for name := range deps {
		back[name] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		for _, on := range deps[name] {
			if _, ok := back[on]; ok {
				back[on] = append(back[on], name)
			}
		}
	}
	return back
}
