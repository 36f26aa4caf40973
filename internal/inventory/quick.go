package inventory

import "strings"

// quickKeys is how many keys of a mapping are compared one by one.
const quickKeys = 512

// quick reads the YAML in which manifests are written: blocks of mappings and sequences,
// plain and quoted texts on one line, and literal blocks. That is several times as
// fast as the library, which tens of thousands of objects feel. Whatever is
// beyond it, and whatever is wrong, it leaves to the library: ok is false. What it
// takes it reads as the library does, which a test holds against each other.
func quick(b []byte, line int) (_ *node, ok bool) {
	q := &quickReader{}
	if !q.scan(string(b), line) {
		return nil, false
	}
	if len(q.lines) == 0 {
		return nil, false
	}
	n := q.block(q.lines[0].indent, 0)
	if n == nil || q.at != len(q.lines) {
		return nil, false
	}
	return n, true
}

// quickLine is a line that is neither empty nor a comment.
type quickLine struct {
	indent int
	line   int32
	text   string // without indent, with what follows it
	raw    int    // which of all lines it is
}

type quickReader struct {
	lines []quickLine
	raw   []string
	at    int
	// ended says that the last line ends as the others do.
	ended bool
}

// scan takes the text apart into lines. In a block of text there are comments and empty
// lines too, so all lines are kept beside.
func (q *quickReader) scan(s string, line int) bool {
	n := strings.Count(s, "\n") + 1
	q.raw, q.lines = make([]string, 0, n), make([]quickLine, 0, n)
	q.ended = strings.HasSuffix(s, "\n")
	first := true
	for len(s) > 0 {
		l, rest, _ := strings.Cut(s, "\n")
		s = rest
		number := int32(line + len(q.raw))
		q.raw = append(q.raw, l)
		indent := 0
		for indent < len(l) && l[indent] == ' ' {
			indent++
		}
		for i := range len(l) {
			if c := l[i]; c < ' ' || c >= 0x7f {
				return false // tabs, carriage returns, other alphabets
			}
		}
		t := strings.TrimRight(l[indent:], " ")
		if t == "" || t[0] == '#' {
			continue
		}
		if indent == 0 && (strings.HasPrefix(t, "---") || t[0] == '%' || strings.HasPrefix(t, "...")) {
			if t == "---" && first {
				first = false
				continue
			}
			return false
		}
		first = false
		q.lines = append(q.lines, quickLine{indent, number, t, len(q.raw) - 1})
	}
	return true
}

// block reads a mapping or a sequence whose lines begin at indent; nil if it can not.
func (q *quickReader) block(indent, depth int) *node {
	if depth > maxDepth/2 {
		return nil
	}
	l := q.lines[q.at]
	n := &node{line: l.line, form: mapping}
	if l.text == "-" || strings.HasPrefix(l.text, "- ") {
		n.form = sequence
	}
	for q.at < len(q.lines) {
		l := q.lines[q.at]
		if l.indent < indent {
			break
		}
		if l.indent > indent {
			return nil
		}
		item := l.text == "-" || strings.HasPrefix(l.text, "- ")
		if n.form == sequence {
			if !item {
				break // the next key of a mapping whose sequence is not indented
			}
			kid := q.item(l, indent, depth)
			if kid == nil {
				return nil
			}
			n.kids = append(n.kids, kid)
			continue
		}
		if item {
			return nil
		}
		if !q.pair(n, l, indent, depth) {
			return nil
		}
	}
	return n
}

// item reads what follows a dash.
func (q *quickReader) item(l quickLine, indent, depth int) *node {
	inner := strings.TrimLeft(l.text[1:], " ")
	if inner == "" || inner[0] == '#' {
		q.at++
		if q.at < len(q.lines) && q.lines[q.at].indent > indent {
			return q.block(q.lines[q.at].indent, depth+1)
		}
		return &node{line: l.line}
	}
	if inner == "-" || strings.HasPrefix(inner, "- ") {
		return nil
	}
	if key, _, found := quickKey(inner); found && key != "" {
		// A mapping that begins on the dash's line: its other lines stand below the key.
		in := indent + len(l.text) - len(inner)
		q.lines[q.at] = quickLine{in, l.line, inner, l.raw}
		return q.block(in, depth+1)
	}
	return q.value(inner, l, indent)
}

// pair reads a key and its value into n.
func (q *quickReader) pair(n *node, l quickLine, indent, depth int) bool {
	key, rest, found := quickKey(l.text)
	if !found || key == "<<" || len(n.keys) > quickKeys || n.get(key) != nil {
		return false
	}
	if rest == "" || rest[0] == '#' {
		q.at++
		kid := &node{line: l.line}
		if q.at < len(q.lines) {
			next := q.lines[q.at]
			item := next.text == "-" || strings.HasPrefix(next.text, "- ")
			if next.indent > indent || next.indent == indent && item {
				if kid = q.block(next.indent, depth+1); kid == nil {
					return false
				}
			}
		}
		n.add(key, l.line, kid)
		return true
	}
	kid := q.value(rest, l, indent)
	if kid == nil {
		return false
	}
	n.add(key, l.line, kid)
	return true
}

// quickKey takes a line apart at its colon.
func quickKey(s string) (key, rest string, ok bool) {
	if s[0] == '"' || s[0] == '\'' {
		key, rest, ok = quickQuoted(s)
		if !ok || len(rest) == 0 || rest[0] != ':' || len(rest) > 1 && rest[1] != ' ' {
			return "", "", false
		}
		return key, strings.TrimLeft(rest[1:], " "), true
	}
	if !quickPlain(s[0], s) {
		return "", "", false
	}
	for i := range len(s) {
		switch s[i] {
		case ':':
			if i+1 == len(s) || s[i+1] == ' ' {
				key = s[:i]
				if strings.HasSuffix(key, " ") {
					return "", "", false
				}
				return key, strings.TrimLeft(s[i+1:], " "), true
			}
		case '#':
			if i > 0 && s[i-1] == ' ' {
				return "", "", false
			}
		}
	}
	return "", "", false
}

// quickPlain says that a text may begin a plain scalar.
func quickPlain(c byte, s string) bool {
	switch c {
	case ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`':
		return false
	case '-', '?', ':':
		return len(s) > 1 && s[1] != ' '
	}
	return true
}

// quickQuoted reads a quoted text on one line, without escapes.
func quickQuoted(s string) (in, rest string, ok bool) {
	end := strings.IndexByte(s[1:], s[0])
	if end < 0 {
		return "", "", false
	}
	in, rest = s[1:end+1], s[end+2:]
	if s[0] == '"' && strings.IndexByte(in, '\\') >= 0 || s[0] == '\'' && strings.HasPrefix(rest, "'") {
		return "", "", false
	}
	return in, rest, true
}

// value reads a value that begins on a line.
func (q *quickReader) value(s string, l quickLine, indent int) *node {
	n := &node{line: l.line, form: text}
	switch s[0] {
	case '"', '\'':
		in, rest, ok := quickQuoted(s)
		if !ok || !quickEnd(rest) {
			return nil
		}
		n.text = in
	case '|':
		return q.literal(s, l, indent)
	case '{', '[':
		body, _, _ := strings.Cut(s, " #")
		switch strings.TrimRight(body, " ") {
		case "{}":
			n.form = mapping
		case "[]":
			n.form = sequence
		default:
			if !quickFlow(n, strings.TrimRight(body, " ")) || len(body) != len(s) {
				return nil
			}
		}
	default:
		if !quickPlain(s[0], s) {
			return nil
		}
		if at := strings.Index(s, " #"); at >= 0 {
			s = strings.TrimRight(s[:at], " ")
		}
		if strings.Contains(s, ": ") || strings.HasSuffix(s, ":") {
			return nil
		}
		n.form, n.text = resolve(s)
	}
	q.at++
	// A text may go on in the next line: that is the library's.
	if q.at < len(q.lines) && q.lines[q.at].indent > indent {
		return nil
	}
	return n
}

// quickEnd says that nothing follows a quoted text but a comment.
func quickEnd(rest string) bool {
	return rest == "" || rest[0] == ' ' && (strings.TrimLeft(rest, " ") == "" || strings.TrimLeft(rest, " ")[0] == '#')
}

// quickFlow reads a list of texts in brackets: ["a", 'b', c].
func quickFlow(n *node, s string) bool {
	if s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	n.form = sequence
	for rest := strings.Trim(s[1:len(s)-1], " "); ; {
		kid := &node{line: n.line, form: text}
		if rest == "" {
			return false
		}
		if rest[0] == '"' || rest[0] == '\'' {
			in, after, ok := quickQuoted(rest)
			if !ok {
				return false
			}
			kid.text, rest = in, strings.TrimLeft(after, " ")
		} else {
			end := strings.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			plain := strings.TrimRight(rest[:end], " ")
			if plain == "" || !quickPlain(plain[0], plain) || strings.ContainsAny(plain, "[]{}#:\"'?") {
				return false
			}
			kid.form, kid.text = resolve(plain)
			rest = rest[end:]
		}
		n.kids = append(n.kids, kid)
		if rest == "" {
			return true
		}
		if rest[0] != ',' {
			return false
		}
		rest = strings.TrimLeft(rest[1:], " ")
	}
}

// literal reads a block of text: | and |-.
func (q *quickReader) literal(s string, l quickLine, indent int) *node {
	if s != "|" && s != "|-" {
		return nil
	}
	var out strings.Builder
	in, raw := -1, l.raw+1
	for ; raw < len(q.raw); raw++ {
		t := q.raw[raw]
		lead := len(t) - len(strings.TrimLeft(t, " "))
		if lead == len(t) { // empty
			if in < 0 && lead > 0 || in >= 0 && lead > in {
				return nil
			}
			out.WriteByte('\n')
			continue
		}
		if in < 0 {
			if lead <= indent {
				return nil
			}
			in = lead
		}
		if lead < in {
			if lead > indent {
				return nil
			}
			break
		}
		out.WriteString(t[in:])
		out.WriteByte('\n')
	}
	if in < 0 {
		return nil
	}
	n := &node{line: l.line, form: text, text: strings.TrimRight(out.String(), "\n")}
	if raw == len(q.raw) && !q.ended {
		return nil // then the text has no end either
	}
	if s == "|" {
		n.text += "\n"
	}
	for q.at++; q.at < len(q.lines) && q.lines[q.at].raw < raw; q.at++ {
	}
	return n
}
