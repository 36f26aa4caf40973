package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds how deep a document goes: the deepest of Kubernetes' own, a schema
	// in a definition of a kind, has some forty levels.
	maxDepth = 200
	// maxNodes bounds what aliases may grow a document to. A ConfigMap of a megabyte, the
	// most that a cluster takes, has no more values.
	maxNodes = 1 << 20
)

// form is what a node is.
type form uint8

const (
	null form = iota
	text
	literal // a number or a boolean, as JSON writes it
	mapping
	sequence
)

// node is a value of a document, with its line: what YAML and JSON have in common.
type node struct {
	form form
	line int32
	text string
	// keys are a mapping's, keyLines where they stand; kids are its values, or a sequence's.
	keys     []string
	keyLines []int32
	kids     []*node
}

// get is the value of a key, nil if it is not there.
func (n *node) get(key string) *node {
	if n == nil || n.form != mapping {
		return nil
	}
	for i, k := range n.keys {
		if k == key {
			return n.kids[i]
		}
	}
	return nil
}

// at follows keys.
func (n *node) at(keys ...string) *node {
	for _, k := range keys {
		n = n.get(k)
	}
	return n
}

// string is a text's, "" of anything else.
func (n *node) string() string {
	if n == nil || n.form != text {
		return ""
	}
	return n.text
}

// scalar is what stands there, be it text, number or boolean.
func (n *node) scalar() string {
	if n == nil || n.form != text && n.form != literal {
		return ""
	}
	return n.text
}

// remove takes a key out.
func (n *node) remove(key string) {
	if n == nil || n.form != mapping {
		return
	}
	for i, k := range n.keys {
		if k == key {
			n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
			n.keyLines = append(n.keyLines[:i:i], n.keyLines[i+1:]...)
			n.kids = append(n.kids[:i:i], n.kids[i+1:]...)
			return
		}
	}
}

// set gives a key a value, in the place of an earlier one.
func (n *node) set(key string, v *node) {
	for i, k := range n.keys {
		if k == key {
			n.kids[i] = v
			return
		}
	}
	n.add(key, v.line, v)
}

func (n *node) add(key string, line int32, v *node) {
	n.keys, n.keyLines, n.kids = append(n.keys, key), append(n.keyLines, line), append(n.kids, v)
}

// appendJSON writes the node as JSON.
func (n *node) appendJSON(b []byte) []byte {
	switch n.form {
	case text:
		return appendString(b, n.text)
	case literal:
		return append(b, n.text...)
	case mapping:
		b = append(b, '{')
		for i, k := range n.keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, k)
			b = append(b, ':')
			b = n.kids[i].appendJSON(b)
		}
		return append(b, '}')
	case sequence:
		b = append(b, '[')
		for i, k := range n.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = k.appendJSON(b)
		}
		return append(b, ']')
	case null:
	}
	return append(b, "null"...)
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			b = append(b, s[from:i]...)
			b = append(b, `\ufffd`...)
			i++
			from = i
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// index lists the lines of all fields, sorted by hash.
func (n *node) index() []lineAt {
	lines := make([]lineAt, 0, 64)
	var walk func(n *node, h uint64)
	walk = func(n *node, h uint64) {
		for i, k := range n.kids {
			to, line := hashIndex(h, i), k.line
			if n.form == mapping {
				to, line = hashKey(h, n.keys[i]), n.keyLines[i]
			}
			lines = append(lines, lineAt{to, line})
			walk(k, to)
		}
	}
	walk(n, hashStart)
	return sortLines(lines)
}

// document is a part of a file that is one YAML document.
type document struct {
	text []byte
	line int // of its first line, from 1
}

// split finds the documents of a text. A line that begins with three dashes begins
// a document wherever it stands, in a block of text too.
func split(all []byte) []document {
	all = bytes.TrimPrefix(all, []byte("\xef\xbb\xbf"))
	var docs []document
	start, startLine, line := 0, 1, 1
	take := func(end int) {
		if t := all[start:end]; !blank(t) {
			docs = append(docs, document{t, startLine})
		}
	}
	for at := 0; at < len(all); line++ {
		end := bytes.IndexByte(all[at:], '\n')
		next := len(all)
		if end >= 0 {
			next = at + end + 1
		}
		l := all[at:next]
		marker := len(l) >= 3 && (len(l) == 3 || l[3] == ' ' || l[3] == '\t' || l[3] == '\r' || l[3] == '\n')
		switch {
		case marker && bytes.HasPrefix(l, []byte("---")) && at > start:
			take(at)
			start, startLine = at, line
		case marker && bytes.HasPrefix(l, []byte("...")):
			take(at)
			start, startLine = next, line+1
		}
		at = next
	}
	take(len(all))
	return docs
}

// blank says that a text has only comments and separators.
func blank(t []byte) bool {
	for len(t) > 0 {
		l, rest, _ := bytes.Cut(t, []byte("\n"))
		t = rest
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '#' && !bytes.Equal(l, []byte("---")) {
			return false
		}
	}
	return true
}

// misplaced is a fault of a document, with its line.
type misplaced struct {
	line int
	what string
}

func (m *misplaced) Error() string { return m.what }

var errDepth = fmt.Errorf("it goes deeper than %d levels", maxDepth)

// parse reads a document. Of a key that stands twice in a mapping the last is taken, as
// `kubectl` did of old, and the fault is reported.
func (d document) parse() (*node, []misplaced, error) {
	if n, ok := quick(d.text, d.line); ok {
		return n, nil, nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(d.text, &root); err != nil {
		return nil, nil, d.place(err)
	}
	c := &converter{offset: d.line - 1, left: maxNodes}
	n, err := c.convert(&root, 0)
	if err != nil {
		return nil, nil, err
	}
	return n, c.faults, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// place gives a YAML library's error its line in the file.
func (d document) place(err error) error {
	what := err.Error()
	line := d.line
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		what = what[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line += n - 1
		}
	}
	return &misplaced{line, "it is not valid YAML: " + what}
}

// converter makes nodes of a YAML library's.
type converter struct {
	offset int
	left   int
	faults []misplaced
}

func (c *converter) convert(y *yaml.Node, depth int) (*node, error) {
	if c.left--; c.left < 0 {
		return nil, &misplaced{y.Line + c.offset, fmt.Sprintf("its aliases make more than %d values of it", maxNodes)}
	}
	if depth > maxDepth {
		return nil, &misplaced{y.Line + c.offset, errDepth.Error()}
	}
	n := &node{line: int32(y.Line + c.offset)}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			return n, nil
		}
		return c.convert(y.Content[0], depth+1)
	case yaml.AliasNode:
		to, err := c.convert(y.Alias, depth+1)
		if err == nil {
			to.line = n.line
		}
		return to, err
	case yaml.SequenceNode:
		n.form = sequence
		for _, k := range y.Content {
			kid, err := c.convert(k, depth+1)
			if err != nil {
				return nil, err
			}
			n.kids = append(n.kids, kid)
		}
	case yaml.MappingNode:
		n.form = mapping
		if err := c.mapping(n, y, depth); err != nil {
			return nil, err
		}
	case yaml.ScalarNode:
		n.form, n.text = text, y.Value
		if y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 || y.Style&yaml.TaggedStyle != 0 {
			tag := y.ShortTag()
			if y.Style&yaml.TaggedStyle != 0 && tag == "!!str" || tag == "!!binary" {
				return n, nil
			}
			n.form, n.text = resolve(y.Value)
		}
	}
	return n, nil
}

// mapping reads the pairs of a mapping. What `<<` merges gives way to what stands there.
func (c *converter) mapping(n *node, y *yaml.Node, depth int) error {
	var merged []*node
	seen := make(map[string]bool, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		kid, err := c.convert(v, depth+1)
		if err != nil {
			return err
		}
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style == 0 {
			if kid.form == sequence {
				merged = append(merged, kid.kids...)
			} else {
				merged = append(merged, kid)
			}
			continue
		}
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return &misplaced{k.Line + c.offset, "a key is not a text"}
		}
		if seen[k.Value] {
			c.faults = append(c.faults, misplaced{k.Line + c.offset, fmt.Sprintf("the key %q stands twice", shorten(k.Value, maxEvidence))})
			n.remove(k.Value)
		}
		seen[k.Value] = true
		n.add(k.Value, int32(k.Line+c.offset), kid)
	}
	for _, m := range merged {
		for i, k := range m.keys {
			if !seen[k] {
				seen[k] = true
				n.add(k, m.keyLines[i], m.kids[i])
			}
		}
	}
	return nil
}

// resolve says what a plain scalar is, by the rules that Kubernetes' own reader has: YAML
// 1.1, where yes and on are booleans, without y and n.
func resolve(s string) (form, string) {
	if s == "" {
		return null, ""
	}
	switch s[0] {
	case '-', '+', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return number(s)
	case '~', 'n', 'N', 't', 'T', 'f', 'F', 'y', 'Y', 'o', 'O':
		switch s {
		case "~", "null", "Null", "NULL":
			return null, ""
		case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON":
			return literal, "true"
		case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
			return literal, "false"
		}
	}
	return text, s
}

var yamlFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

func number(s string) (form, string) {
	plain := s
	if strings.IndexByte(s, '_') >= 0 {
		plain = strings.ReplaceAll(s, "_", "")
	}
	simple := len(plain) < 19
	for i := range len(plain) {
		if c := plain[i]; c < '0' || c > '9' || i == 0 && c == '0' && len(plain) > 1 {
			simple = false
			break
		}
	}
	if simple {
		return literal, plain
	}
	if n, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return literal, strconv.FormatInt(n, 10)
	}
	if n, err := strconv.ParseUint(plain, 0, 64); err == nil {
		return literal, strconv.FormatUint(n, 10)
	}
	if yamlFloat.MatchString(plain) {
		if f, err := strconv.ParseFloat(plain, 64); err == nil && !math.IsInf(f, 0) {
			return literal, strconv.FormatFloat(f, 'g', -1, 64)
		}
	}
	return text, s
}

// parseJSON reads one JSON value; lines are not known.
func parseJSON(b []byte) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	n, err := decodeJSON(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return n, nil
}

func decodeJSON(d *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		n := &node{form: sequence}
		if t == '{' {
			n.form = mapping
		}
		for d.More() {
			key := ""
			if n.form == mapping {
				k, err := d.Token()
				if err != nil {
					return nil, err
				}
				key, _ = k.(string)
			}
			kid, err := decodeJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			if n.form == mapping {
				n.add(key, 0, kid)
			} else {
				n.kids = append(n.kids, kid)
			}
		}
		_, err := d.Token() // the end of it
		return n, err
	case string:
		return &node{form: text, text: t}, nil
	case json.Number:
		return &node{form: literal, text: t.String()}, nil
	case bool:
		return &node{form: literal, text: strconv.FormatBool(t)}, nil
	}
	return &node{}, nil
}
