package estate

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxValues bounds how many values a file may come to once its aliases are
// written out: aliases of aliases grow without bound.
const maxValues = 50_000

// decoder turns the file's nodes into the estate's types, strictly: it takes no
// key that the types lack and no value of another type than theirs.
type decoder struct {
	*reading
	aliases map[*ast.AliasNode]ast.Node // what each alias stands for; missing when nothing
	budget  int                         // values that may still be read
}

// anchors finds what each alias stands for: the last anchor of its name before
// it. An anchor counts from its value's end on, so that nothing contains itself.
func (d *decoder) anchors(n ast.Node, known map[string]ast.Node) {
	switch v := n.(type) {
	case *ast.MappingNode:
		for _, pair := range v.Values {
			d.anchors(pair, known)
		}
	case *ast.MappingValueNode:
		d.anchors(v.Key, known)
		d.anchors(v.Value, known)
	case *ast.MappingKeyNode:
		d.anchors(v.Value, known)
	case *ast.SequenceNode:
		for _, value := range v.Values {
			d.anchors(value, known)
		}
	case *ast.TagNode:
		d.anchors(v.Value, known)
	case *ast.AnchorNode:
		d.anchors(v.Value, known)
		known[name(v.Name)] = v.Value
	case *ast.AliasNode:
		if target, ok := known[name(v.Value)]; ok {
			d.aliases[v] = target
		}
	}
}

func name(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// decode reads the whole file into e. It says whether that is worth checking:
// of a file that is no mapping, or was not read to its end, nothing more is known.
func (d *decoder) decode(root ast.Node, e *Estate) bool {
	d.at[""] = where(root)
	into := reflect.ValueOf(e).Elem()
	n := d.resolve("", root)
	if n == nil {
		return false
	}
	if n.Type() != ast.MappingType {
		d.problem(where(n), "", "is %s: want %s; `dhow init` writes one to begin with", kind(n), want(into.Type()))
		return false
	}
	d.value("", n, into)
	return d.budget >= 0
}

// resolve follows anchors and aliases to the value itself. It returns nil, and
// notes why, when there is none.
func (d *decoder) resolve(path string, n ast.Node) ast.Node {
	for {
		if d.budget--; d.budget < 0 {
			if d.budget == -1 {
				d.problem(where(n), path, "the file's aliases come to more than %d values: write out what is meant", maxValues)
			}
			d.broken[path] = true
			return nil
		}
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			target := d.aliases[v]
			if target == nil {
				d.problem(where(v), path, "is an alias of nothing: set its anchor above it, or quote a text that begins with an asterisk")
				return nil
			}
			n = target
		case *ast.TagNode:
			d.problem(where(v), path, "has a YAML tag, which is not taken: write the plain value, in quotes when it begins with an exclamation mark")
			return nil
		case nil:
			return nil
		default:
			return n
		}
	}
}

var (
	secretType   = reflect.TypeFor[Secret]()
	tlsType      = reflect.TypeFor[TLS]()
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[time.Duration]()
)

// value reads a node into a value of the estate's types.
func (d *decoder) value(path string, n ast.Node, into reflect.Value) {
	written := n
	if n = d.resolve(path, n); n == nil {
		return
	}
	at := where(n)
	if _, alias := written.(*ast.AliasNode); alias {
		at = where(written)
	}
	if _, ok := d.at[path]; !ok {
		d.at[path] = at
	}
	if n.Type() == ast.NullType {
		d.problem(d.at[path], path, "has no value: give it %s; or remove the key", want(into.Type()))
		return
	}
	switch into.Type() {
	case secretType:
		d.secret(path, n, into)
		return
	case sizeType:
		d.size(path, n, into)
		return
	case durationType:
		d.duration(path, n, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.value(path, n, into.Elem())
	case reflect.Struct:
		d.fields(path, n, into)
	case reflect.Slice:
		d.list(path, n, into)
	case reflect.Map:
		d.entries(path, n, into)
	case reflect.String:
		if text, ok := d.text(path, n); ok {
			into.SetString(text)
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.mismatch(path, n, into.Type())
			return
		}
		into.SetBool(b.Value)
	case reflect.Int:
		if whole, ok := d.whole(path, n, into.Type()); ok {
			into.SetInt(whole)
		}
	default:
		panic("estate: no way to read a " + into.Type().String()) // a programmer's slip; every test of Load meets it
	}
}

// mismatch notes that a value is of another type than its key takes.
func (d *decoder) mismatch(path string, n ast.Node, wanted reflect.Type) {
	d.problem(d.at[path], path, "is %s: want %s", kind(n), want(wanted))
}

// kind names what a node is.
func kind(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.NullType:
		return "empty"
	}
	return "text"
}

// want says what a key of a type takes.
func want(t reflect.Type) string {
	switch t {
	case secretType:
		return placesToKeep
	case sizeType:
		return "a size, for example 64MiB"
	case durationType:
		return "a duration, for example 300ms"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Struct:
		return "a mapping of " + alternatives(keys(t))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "a list of names, for example [one, two]"
		}
		return "a list, each entry begun by a dash"
	case reflect.Map:
		return "a mapping of names to names"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "text"
}

// keys are the names of a struct's keys, in the order of the type.
func keys(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if key := keyOf(t.Field(i)); key != "" {
			names = append(names, key)
		}
	}
	return names
}

// keyOf is the key of a field in the file; empty when it has none.
func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if !f.IsExported() || key == "-" {
		return ""
	}
	return key
}

// fields reads a mapping into a struct.
func (d *decoder) fields(path string, n ast.Node, into reflect.Value) {
	t := into.Type()
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.mismatch(path, n, t)
		return
	}
	names := keys(t)
	for _, p := range d.pairs(path, m) {
		below := join(path, p.key)
		if d.twice(below, p) {
			continue
		}
		i := slices.Index(names, p.key)
		if i < 0 {
			d.unknown(path, p, t)
			continue
		}
		for j := range t.NumField() {
			if keyOf(t.Field(j)) == p.key {
				d.at[below] = placeOf(p)
				d.value(below, p.value, into.Field(j))
			}
		}
	}
	if t == tlsType {
		into.Addr().Interface().(*TLS).origin = d.origin(path)
	}
}

// list reads a list into a slice.
func (d *decoder) list(path string, n ast.Node, into reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.mismatch(path, n, into.Type())
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	for i, v := range seq.Values {
		if d.budget < 0 {
			return
		}
		below := path + "[" + strconv.Itoa(i) + "]"
		one := reflect.New(into.Type().Elem()).Elem()
		d.value(below, v, one)
		into.Set(reflect.Append(into, one))
	}
}

// entries reads a mapping of names to names.
func (d *decoder) entries(path string, n ast.Node, into reflect.Value) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.mismatch(path, n, into.Type())
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, p := range d.pairs(path, m) {
		below := join(path, p.key)
		if d.twice(below, p) {
			continue
		}
		d.at[below] = placeOf(p)
		one := reflect.New(into.Type().Elem()).Elem()
		d.value(below, p.value, one)
		into.SetMapIndex(reflect.ValueOf(p.key), one)
	}
}
