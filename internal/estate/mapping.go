package estate

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// pair is a key and its value in a mapping.
type pair struct {
	key   string
	at    position // the key's
	value ast.Node
	first int // the line of the first when the key is given once more; else 0
}

// pairs are a mapping's keys and values, what it merges included.
func (d *decoder) pairs(path string, n *ast.MappingNode) []pair {
	var (
		found  []pair
		merges []ast.Node
	)
	seen := map[string]int{} // the line of each key's first
	for _, v := range n.Values {
		if v.Key.IsMergeKey() {
			merges = append(merges, v.Value)
			continue
		}
		keyNode := d.resolve(path, v.Key)
		if k, ok := keyNode.(*ast.MappingKeyNode); ok {
			keyNode = d.resolve(path, k.Value)
		}
		scalar, ok := keyNode.(ast.ScalarNode)
		if !ok {
			if keyNode != nil {
				d.problem(where(v.Key), path, "a key has to be a plain name")
			}
			continue
		}
		p := pair{key: name(scalar), at: where(v.Key), value: v.Value}
		if first, twice := seen[p.key]; twice {
			p.first = first
		} else {
			seen[p.key] = p.at.line
		}
		found = append(found, p)
	}
	for _, m := range merges {
		for _, p := range d.merged(path, m) {
			if _, ok := seen[p.key]; !ok {
				seen[p.key] = p.at.line
				found = append(found, p)
			}
		}
	}
	return found
}

// twice notes a key that is given once more, and says whether it is.
func (d *decoder) twice(path string, p pair) bool {
	if p.first != 0 {
		d.problem(p.at, path, "is given twice: the first is in line %d; remove one of them", p.first)
	}
	return p.first != 0
}

// merged are the pairs of a merge key's value: a mapping, or a list of them of
// which the first that has a key gives it.
func (d *decoder) merged(path string, n ast.Node) []pair {
	at := where(n)
	switch v := d.resolve(path, n).(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		return d.pairs(path, v)
	case *ast.SequenceNode:
		var all []pair
		for _, one := range v.Values {
			switch m := d.resolve(path, one).(type) {
			case nil:
			case *ast.MappingNode:
				all = append(all, d.pairs(path, m)...)
			default:
				d.problem(where(one), path, "<< merges mappings only: name an anchor of a mapping")
			}
		}
		return all
	}
	d.problem(at, path, "<< merges mappings only: name an anchor of a mapping")
	return nil
}

// join is the path of a key below another.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// placeOf is where problems with a pair's value are shown: at the value when
// it stands on one line with its key, else at the key.
func placeOf(p pair) position {
	if p.value == nil || p.value.GetToken() == nil {
		return p.at
	}
	if at := where(p.value); at.line == p.at.line {
		return at
	}
	return p.at
}

// unknown notes a key that is none, with what was most likely meant.
func (d *decoder) unknown(path string, p pair, t reflect.Type) {
	below := join(path, p.key)
	names := keys(t)
	if t == reflect.TypeFor[Endpoint]() && slices.Contains([]string{"url", "uri", "dsn", "conninfo", "connectionstring"}, fold(p.key)) {
		d.problem(p.at, below, "a connection string is not taken, for it tends to hold a password: give host, port, database and user each as a key, and the password as %s", placesToKeep)
		for _, n := range names {
			d.broken[join(path, n)] = true // all that it would have held
		}
		return
	}
	if n := nearest(p.key, names); n != "" {
		d.broken[join(path, n)] = true // it was meant, so it is not missing too
		d.problem(p.at, below, "unknown key: did you mean %s?", n)
		return
	}
	if home := homeOf(p.key); home != "" {
		d.problem(p.at, below, "unknown key here: it belongs under %s", home)
		return
	}
	d.problem(p.at, below, "unknown key: remove it; the keys here are %s", strings.Join(names, ", "))
}

// homeOf is the mapping that a key belongs to; empty unless there is exactly one.
func homeOf(key string) string {
	var homes []string
	var look func(path string, t reflect.Type)
	look = func(path string, t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer:
			look(path, t.Elem())
		case reflect.Slice:
			look(path+"[]", t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				if k := keyOf(t.Field(i)); k != "" {
					if k == key && path != "" {
						homes = append(homes, path)
					}
					look(strings.TrimPrefix(path+"."+k, "."), t.Field(i).Type)
				}
			}
		}
	}
	look("", reflect.TypeFor[Estate]())
	if len(homes) != 1 {
		return ""
	}
	return homes[0]
}
