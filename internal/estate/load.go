package estate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// FileName is what an estate file is called where nothing else is said.
	FileName = "dhow.yaml"
	// maxFile bounds an estate file, in bytes; sixty databases and two hundred
	// routes need half of it.
	maxFile = 128 << 10
	// maxNesting bounds how deep lists and mappings stand in one another on one
	// line; the file's own keys need 6.
	maxNesting = 32
	// maxKeys bounds the keys of all mappings; sixty databases, two hundred routes and
	// two hundred services need half. The parser's time grows with their square.
	maxKeys = 8000
)

// Load reads an estate file, fills in the defaults and checks it. What is wrong
// with the file's content is an *Invalid with all problems at once; any other
// error says why the file could not be read.
func Load(path string) (*Estate, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	return parse(path, filepath.Dir(absolute), text)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file; write one with `dhow init`, or name another with --file: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open the estate file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the estate file: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %s, which no estate needs: is it the right file?", path, Size(maxFile))
	}
	return text, nil
}

// parse makes an estate of a file's text; dir is what relative paths are relative to.
func parse(file, dir string, text []byte) (*Estate, error) {
	r := newReading(file, dir)
	e := &Estate{File: file}
	if root := r.syntax(text); root != nil {
		d := decoder{reading: r, aliases: map[*ast.AliasNode]ast.Node{}, budget: maxValues}
		d.anchors(root, map[string]ast.Node{})
		if d.decode(root, e) {
			e.fill(r)
			e.check(r)
		}
	}
	if err := r.invalid(); err != nil {
		return nil, err
	}
	return e, nil
}

// syntax reads the file as YAML; it returns nil when there is a problem.
func (r *reading) syntax(text []byte) ast.Node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		r.problem(position{firstInvalid(text), 1}, "", "is not UTF-8 text: save the file as UTF-8")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if at, deep := tooDeep(tokens); deep {
		r.problem(at, "", "lists or mappings stand more than %d deep in one another: an estate needs no such nesting", maxNesting)
		return nil
	}
	if at, many := tooMany(tokens); many {
		r.problem(at, "", "here is key %d of the file, and no estate needs so many: split it over several estates", maxKeys+1)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // doubles are reported with the rest
	if err != nil {
		// Only the parser's own words: the rest of its text quotes the file, which may hold a secret.
		at, message := position{1, 1}, "the reader does not understand it"
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			if said := syntax.GetMessage(); !strings.Contains(said, `"`) {
				message = strings.ReplaceAll(said, "\t", `\t`)
			}
			if t := syntax.GetToken(); t != nil {
				at = place(t)
			}
		}
		r.problem(at, "", "is not valid YAML: %s: check the indentation, the quotes and the brackets here and on the line before", message)
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType:
		case root != nil:
			r.problem(where(doc.Body), "", "a second document begins here: one file holds one estate, so remove it or move it to a file of its own")
			return nil
		default:
			root = doc.Body
		}
	}
	if root == nil {
		r.problem(position{1, 1}, "", "is empty: write one with `dhow init`")
	}
	return root
}

func firstInvalid(text []byte) int {
	line := 1
	for l := range bytes.Lines(text) {
		if !utf8.Valid(l) {
			break
		}
		line++
	}
	return line
}

// tooDeep finds nesting that takes a parser by recursion unreasonable time or stack.
func tooDeep(tokens token.Tokens) (position, bool) {
	flow, block, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			block, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			block++
		}
		if flow > maxNesting || block > maxNesting {
			return place(t), true
		}
	}
	return position{}, false
}

// tooMany says where there are more keys than a file may have.
func tooMany(tokens token.Tokens) (position, bool) {
	keys := 0
	for _, t := range tokens {
		if t.Type == token.MappingValueType {
			if keys++; keys > maxKeys {
				return place(t), true
			}
		}
	}
	return position{}, false
}

func place(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// where is the place at which a node begins.
func where(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return where(m.Values[0].Key)
	}
	return place(n.GetToken())
}
