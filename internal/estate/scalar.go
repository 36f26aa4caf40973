package estate

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// text reads a text. A number or a truth value is refused, for YAML would
// change it: 010 is 8, 1.10 is 1.1.
func (d *decoder) text(path string, n ast.Node) (string, bool) {
	var s string
	switch v := n.(type) {
	case *ast.StringNode:
		s = v.Value
	case *ast.LiteralNode:
		s = v.Value.Value
	case *ast.MappingNode, *ast.SequenceNode:
		d.mismatch(path, n, reflect.TypeFor[string]())
		return "", false
	default:
		d.problem(d.at[path], path, "is %s: want text, so put it in quotes", kind(n))
		return "", false
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		d.problem(d.at[path], path, "has a control character, such as a line end, in it: write it on one line")
		return "", false
	}
	if s == "" {
		d.problem(d.at[path], path, "is empty: give it a value or remove the key")
		return "", false
	}
	return s, true
}

var wholeNumber = regexp.MustCompile(`^[-+]?[0-9]+$`)

// whole reads a whole number, in plain decimal digits.
func (d *decoder) whole(path string, n ast.Node, wanted reflect.Type) (int64, bool) {
	if s, ok := n.(*ast.StringNode); ok && s.Token.Type != token.StringType && wholeNumber.MatchString(s.Value) {
		d.problem(d.at[path], path, "is text: want a whole number, so remove the quotes")
		return 0, false
	}
	if s, ok := n.(*ast.StringNode); ok && wholeNumber.MatchString(s.Value) {
		d.problem(d.at[path], path, "is too large a number")
		return 0, false
	}
	if n.Type() != ast.IntegerType {
		d.mismatch(path, n, wanted)
		return 0, false
	}
	digits := name(n)
	if !wholeNumber.MatchString(digits) {
		d.problem(d.at[path], path, "is not a plain number: write it in decimal digits alone, for example 5432")
		return 0, false
	}
	whole, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		d.problem(d.at[path], path, "is too large a number")
		return 0, false
	}
	return whole, true
}

// size reads a number of bytes.
func (d *decoder) size(path string, n ast.Node, into reflect.Value) {
	if n.Type() == ast.IntegerType {
		if whole, ok := d.whole(path, n, sizeType); ok {
			into.SetInt(whole)
		}
		return
	}
	s, ok := n.(*ast.StringNode)
	if !ok {
		d.mismatch(path, n, sizeType)
		return
	}
	size, err := ParseSize(s.Value)
	if err != nil {
		d.problem(d.at[path], path, "%s", err)
		return
	}
	into.SetInt(int64(size))
}

// duration reads a time with its unit.
func (d *decoder) duration(path string, n ast.Node, into reflect.Value) {
	if n.Type() == ast.IntegerType || n.Type() == ast.FloatType {
		d.problem(d.at[path], path, "has no unit: write for example %sms or %[1]ss", name(n))
		return
	}
	s, ok := n.(*ast.StringNode)
	if !ok {
		d.mismatch(path, n, durationType)
		return
	}
	v, err := time.ParseDuration(s.Value)
	if err != nil {
		d.problem(d.at[path], path, "is not a duration: want a number and a unit (ms, s, m or h), for example 300ms or 1m30s")
		return
	}
	into.SetInt(int64(v))
}

// placesToKeep are the ways to say where a secret is kept.
const placesToKeep = `{env: NAME} for an environment variable, {file: path} for a file or {arn: "arn:aws:secretsmanager:..."} for AWS Secrets Manager`

// secret reads where a secret is kept. What is written in its place may be the
// secret itself, so no problem here quotes the file.
func (d *decoder) secret(path string, n ast.Node, into reflect.Value) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.problem(d.at[path], path, "holds a secret in the clear: say where it is kept instead, as %s, and change the secret if this file was shared", placesToKeep)
		return
	}
	var s Secret
	fields := map[string]*string{"env": &s.Env, "file": &s.File, "arn": &s.ARN, "field": &s.Field}
	known := keys(secretType)
	for _, p := range d.pairs(path, m) {
		field := fields[p.key]
		if d.twice(path, p) {
			continue
		}
		if field == nil {
			if near := nearest(p.key, known); near != "" {
				d.problem(p.at, path, "has an unknown key: did you mean %s?", near)
			} else {
				d.problem(p.at, path, "has an unknown key: say where the secret is kept, as %s", placesToKeep)
			}
			continue
		}
		below := join(path, p.key)
		d.at[below] = placeOf(p)
		d.value(below, p.value, reflect.ValueOf(field).Elem())
	}
	s.origin = d.origin(path)
	into.Set(reflect.ValueOf(s))
}

func (d *decoder) origin(path string) origin {
	return origin{file: d.file, line: d.at[path].line, path: path}
}
