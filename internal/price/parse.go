package price

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxProblems bounds the report of one file.
	maxProblems = 100
	// maxNesting bounds how deep mappings stand in one another on one line; a list of
	// prices needs 2.
	maxNesting = 8
	// maxHours is how many hours a month has at most.
	maxHours = 744
)

// Invalid is a file of prices that can not be used, with everything that is wrong with it.
type Invalid struct { //nolint:errname // it is the file that is invalid
	File     string    `json:"file"`
	Problems []Problem `json:"problems"`
}

// Problem is one thing that is wrong with a file of prices, and what to do about it.
type Problem struct {
	// Line counts from 1.
	Line int `json:"line"`
	// Path is the key's, as prices[0].regions.eu-central-1; empty when the whole file is meant.
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

// Error has a line for each problem, in the order of the file.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text)
		if p.Path != "" {
			lines[i] = fmt.Sprintf("%s:%d: %s: %s", e.File, p.Line, p.Path, p.Text)
		}
	}
	return strings.Join(lines, "\n")
}

func newList() *List {
	return &List{sources: map[string]Source{}, factors: map[string]factor{}, prices: map[Code]*entry{}, commitments: map[int]commitment{}}
}

// reader reads a file of prices and gathers what is wrong with it.
type reader struct {
	problems []Problem
}

func (r *reader) wrong(n ast.Node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: line(n), Path: path, Text: fmt.Sprintf(format, args...)})
}

func line(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return line(m.Values[0].Key)
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return max(1, n.GetToken().Position.Line)
}

// parse makes a list of a file's text. A whole list names all that Load needs; one that
// is laid over another may leave out what the other has.
func parse(file string, text []byte, whole bool) (*List, error) {
	r := &reader{}
	l := newList()
	if root := r.syntax(text); root != nil {
		r.list(root, l, whole)
	}
	if len(r.problems) == 0 {
		return l, nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if more := len(r.problems) - maxProblems; more > 0 {
		next := r.problems[maxProblems].Line
		r.problems = append(r.problems[:maxProblems:maxProblems], Problem{Line: next, Text: fmt.Sprintf("%d more problems follow from here on: correct those above first", more)})
	}
	return nil, &Invalid{File: file, Problems: r.problems}
}

// syntax reads the text as YAML; nil where there is a problem.
func (r *reader) syntax(text []byte) ast.Node {
	at := func(line int, format string, args ...any) ast.Node {
		r.problems = append(r.problems, Problem{Line: max(1, line), Text: fmt.Sprintf(format, args...)})
		return nil
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return at(1, "is not UTF-8 text: save the file as UTF-8")
	}
	tokens := lexer.Tokenize(string(text))
	flow, block, last := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != last {
			block, last = 0, t.Position.Line
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
			return at(t.Position.Line, "has an anchor, an alias, a merge or a tag, which are not taken here: write out what is meant, or quote a text that begins with its sign")
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			block++
		}
		if flow > maxNesting || block > maxNesting {
			return at(t.Position.Line, "lists or mappings stand more than %d deep in one another: a list of prices needs no such nesting", maxNesting)
		}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, message := 1, "the reader does not understand it"
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			message = strings.ReplaceAll(syntax.GetMessage(), "\t", `\t`)
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
		}
		return at(line, "is not valid YAML: %s: check the indentation, the quotes and the brackets here and on the line before", message)
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType:
		case root != nil:
			return at(line(doc.Body), "a second document begins here: one file holds one list of prices")
		default:
			root = doc.Body
		}
	}
	if root == nil {
		return at(1, "is empty: see docs/prices.md for its form")
	}
	return root
}

// member is a key of a mapping and its value.
type member struct {
	key   string
	node  ast.Node // the key's
	value ast.Node
}

// members are a mapping's keys, each once; known are those that it may have, nil for any.
func (r *reader) members(n ast.Node, path string, known ...string) []member {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.wrong(n, path, "want a mapping%s", alternatives(" of ", known))
		return nil
	}
	var found []member
	seen := map[string]int{}
	for _, v := range m.Values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok || key.GetToken() == nil {
			r.wrong(v.Key, path, "a key has to be a plain name")
			continue
		}
		name := key.GetToken().Value
		switch first, twice := seen[name]; {
		case twice:
			r.wrong(v.Key, below(path, name), "is given twice: the first is in line %d; remove one of them", first)
			continue
		case known != nil && !slices.Contains(known, name):
			r.wrong(v.Key, below(path, name), "unknown key: the keys here are %s", strings.Join(known, ", "))
			continue
		}
		seen[name] = line(v.Key)
		found = append(found, member{name, v.Key, v.Value})
	}
	return found
}

func alternatives(before string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return before + strings.Join(names, ", ")
}

func below(path, key string) string {
	if !plain.MatchString(key) {
		key = strconv.Quote(shown(key))
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

var (
	plain      = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	codeForm   = regexp.MustCompile(`^[a-z0-9-]+(/[a-z0-9-]+)*(/[a-z0-9.-]+)$`)
	regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
	moneyForm  = regexp.MustCompile(`^[A-Z]{3}$`)
)

// units are what prices are per.
var units = []string{"hour", "month", "GB", "GB-month", "IOPS-month", "MBps-month", "item", "10,000 calls", "100,000 events", "million"}

// text is a value as it is written, for numbers too: 0.10 stays 0.10.
func (r *reader) text(m member, path string) (string, bool) {
	s, ok := m.value.(ast.ScalarNode)
	if !ok || s.GetToken() == nil || m.value.Type() == ast.NullType {
		r.wrong(m.node, path, "want a text or a number")
		return "", false
	}
	text := s.GetToken().Value
	if l, ok := m.value.(*ast.LiteralNode); ok && l.Value != nil {
		text = l.Value.Value
	}
	if text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		r.wrong(m.node, path, "is empty, or has more than a line: give it a value on one line")
		return "", false
	}
	return text, true
}

func (r *reader) list(root ast.Node, l *List, whole bool) {
	var prices, factors, commitments ast.Node
	for _, m := range r.members(root, "", "date", "currency", "hours", "base", "other", "sources", "factors", "commitments", "prices") {
		switch m.key {
		case "sources":
			r.sources(m.value, l)
			continue
		case "factors":
			factors = m.value
			continue
		case "commitments":
			commitments = m.value
			continue
		case "prices":
			prices = m.value
			continue
		}
		text, ok := r.text(m, m.key)
		if !ok {
			continue
		}
		switch m.key {
		case "date":
			if !isDate(text) {
				r.wrong(m.node, m.key, "%q is no day: want it as 2006-01-02", shown(text))
			}
			l.Date = text
		case "currency":
			if !moneyForm.MatchString(text) {
				r.wrong(m.node, m.key, "%q is no currency: want its three letters, for example USD", shown(text))
			}
			l.Currency = text
		case "hours":
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxHours {
				r.wrong(m.node, m.key, "%q is not how many hours a month has: want a whole number up to %d", shown(text), maxHours)
			}
			l.Hours = n
		case "base":
			if !regionForm.MatchString(text) {
				r.wrong(m.node, m.key, "%q is no region: want a name like eu-central-1", shown(text))
			}
			l.Base = text
		case "other":
			l.other = r.factor(m, text, m.key)
		}
	}
	if factors != nil {
		r.factors(factors, l)
	}
	if commitments != nil {
		r.commitments(commitments, l)
	}
	if prices != nil {
		r.prices(prices, l)
	}
	switch {
	case len(r.problems) > 0:
	case l.Date == "":
		r.wrong(root, "date", "is missing: give the day that the prices are of, as 2006-01-02")
	case len(l.prices) == 0:
		r.wrong(root, "prices", "is missing: a list of prices needs one at least")
	case whole && (l.Currency == "" || l.Hours == 0 || l.Base == "" || l.other == 0 || len(l.commitments) != 2):
		r.wrong(root, "", "currency, hours, base, other or commitments is missing")
	}
}

func (r *reader) sources(n ast.Node, l *List) {
	for _, m := range r.members(n, "sources") {
		path := below("sources", m.key)
		var s Source
		for _, f := range r.members(m.value, path, "title", "url", "date", "estimate") {
			text, ok := r.text(f, below(path, f.key))
			if !ok {
				continue
			}
			switch f.key {
			case "title":
				s.Title = text
			case "url":
				s.URL = text
			case "date":
				s.Date = text
			case "estimate":
				if text != "true" && text != "false" {
					r.wrong(f.node, below(path, f.key), "%q is neither true nor false", shown(text))
				}
				s.Estimate = text == "true"
			}
		}
		if s.Title == "" || !isDate(s.Date) {
			r.wrong(m.node, path, "lacks its title, or its date as 2006-01-02")
		}
		l.sources[m.key] = s
	}
}

// maxFactor bounds a region's factor: nowhere are prices ten times the base region's.
const maxFactor = 10

func (r *reader) factor(m member, text, path string) Amount {
	rate, err := parseRate(text)
	if err != nil || rate <= 0 || rate > maxFactor*nanos || rate%(nanos/milli) != 0 {
		r.wrong(m.node, path, "%q is no factor: want a number above 0 and up to %d, with at most three digits behind its point", shown(text), maxFactor)
		return 0
	}
	return Amount(rate / (nanos / milli))
}

func (r *reader) factors(n ast.Node, l *List) {
	for _, m := range r.members(n, "factors") {
		path := below("factors", m.key)
		if !regionForm.MatchString(m.key) {
			r.wrong(m.node, path, "is no region: want a name like eu-central-1")
		}
		var f factor
		for _, k := range r.members(m.value, path, "times", "source") {
			text, ok := r.text(k, below(path, k.key))
			if !ok {
				continue
			}
			switch k.key {
			case "times":
				f.of = r.factor(k, text, below(path, k.key))
			case "source":
				f.source = r.source(k, l, text, below(path, k.key))
			}
		}
		if f.of == 0 || f.source == "" {
			r.wrong(m.node, path, "lacks times or source")
		}
		l.factors[m.key] = f
	}
}

// commitments are by how many years one commits for: 1 or 3, as AWS sells them.
func (r *reader) commitments(n ast.Node, l *List) {
	for _, m := range r.members(n, "commitments", "1", "3") {
		path := below("commitments", m.key)
		var c commitment
		for _, k := range r.members(m.value, path, "compute", "data", "source") {
			at := below(path, k.key)
			text, ok := r.text(k, at)
			if !ok {
				continue
			}
			if k.key == "source" {
				c.source = r.source(k, l, text, at)
				continue
			}
			percent, err := strconv.Atoi(text)
			if err != nil || percent < 1 || percent > 100 {
				r.wrong(k.node, at, "%q is no share: want what is paid of the price, in whole percent from 1 to 100", shown(text))
			}
			if k.key == "data" {
				c.data = percent
			} else {
				c.compute = percent
			}
		}
		if c.compute == 0 || c.data == 0 || c.source == "" {
			r.wrong(m.node, path, "lacks compute, data or source")
		}
		years, _ := strconv.Atoi(m.key) // it is one of those above
		l.commitments[years] = c
	}
}

func (r *reader) source(m member, l *List, text, path string) string {
	if _, ok := l.sources[text]; !ok {
		r.wrong(m.node, path, "%q is none of the sources: they are %s", shown(text), strings.Join(slices.Sorted(maps.Keys(l.sources)), ", "))
	}
	return text
}

func (r *reader) prices(n ast.Node, l *List) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.wrong(n, "prices", "want a list, each entry begun by a dash")
		return
	}
	for i, v := range seq.Values {
		r.price(v, "prices["+strconv.Itoa(i)+"]", l)
	}
}

// price reads one entry: of what, per what, from where, and how much everywhere or by
// region. A thing may have several entries, of different sources.
func (r *reader) price(n ast.Node, path string, l *List) {
	var of, per, source string
	var everywhere *member
	var regions ast.Node
	for _, m := range r.members(n, path, "of", "per", "source", "everywhere", "regions") {
		if m.key == "regions" {
			regions = m.value
			continue
		}
		at := below(path, m.key)
		text, ok := r.text(m, at)
		if !ok {
			continue
		}
		switch m.key {
		case "of":
			if !codeForm.MatchString(text) {
				r.wrong(m.node, at, "%q names nothing that has a price: want for example nat/hour or ec2/m7g.large", shown(text))
			}
			of = text
		case "per":
			if !slices.Contains(units, text) {
				r.wrong(m.node, at, "%q is no unit: want %s", shown(text), strings.Join(units, ", "))
			}
			per = text
		case "source":
			source = r.source(m, l, text, at)
		case "everywhere":
			everywhere = &m
		}
	}
	if of == "" || per == "" || source == "" || everywhere == nil && regions == nil {
		r.wrong(n, path, "lacks of, per, source, or its prices as everywhere or regions")
		return
	}
	e := l.prices[Code(of)]
	if e == nil {
		e = &entry{per: per, regions: map[string]rated{}}
		l.prices[Code(of)] = e
	}
	if e.per != per {
		r.wrong(n, path, "%s is per %s here and per %s above", shown(of), per, e.per)
	}
	if everywhere != nil {
		if rate, ok := r.rate(*everywhere, below(path, "everywhere")); ok {
			if e.everywhere != nil {
				r.wrong(n, path, "%s has a price everywhere already", shown(of))
			}
			e.everywhere = &rated{rate, source}
		}
	}
	if regions == nil {
		return
	}
	for _, m := range r.members(regions, below(path, "regions")) {
		at := below(below(path, "regions"), m.key)
		if !regionForm.MatchString(m.key) {
			r.wrong(m.node, at, "is no region: want a name like eu-central-1")
		}
		rate, ok := r.rate(m, at)
		if !ok {
			continue
		}
		if _, twice := e.regions[m.key]; twice {
			r.wrong(m.node, at, "%s has a price there already", shown(of))
		}
		e.regions[m.key] = rated{rate, source}
	}
}

func (r *reader) rate(m member, path string) (Rate, bool) {
	text, ok := r.text(m, path)
	if !ok {
		return 0, false
	}
	rate, err := parseRate(text)
	if err != nil {
		r.wrong(m.node, path, "%s", err)
		return 0, false
	}
	return rate, true
}

// isDate says whether a text is a day as 2006-01-02.
func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}
