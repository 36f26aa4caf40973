package plan

import (
	"slices"
	"strings"
)

// nginx's configuration is a tree of directives: words that end with a semicolon, or
// that open a block. Here it is read as far as it tells which host and path goes to
// which address.
const (
	// maxDirectives bounds a configuration, maxBlocks how deep its blocks lie in each other.
	maxDirectives = 100_000
	maxBlocks     = 64
)

// directive is one of nginx's, with those in its block.
type directive struct {
	words []string
	block []directive
}

// forward is a host and path of a proxy, and the addresses that it sends them to.
type forward struct {
	hosts []string
	path  string
	// exact says that the path is that alone; pattern that it is a regular expression.
	exact, pattern bool
	servers        []string
	// rewritten says that the address has a path of its own, which takes the place's.
	rewritten bool
	tls       bool
}

// parseNginx reads a configuration; what ends too early or nests too deeply is read as far as it goes.
func parseNginx(text string) []directive {
	p := &nginxParser{text: text, left: maxDirectives}
	return p.block(0)
}

type nginxParser struct {
	text string
	at   int
	left int
}

// block reads directives up to the end of a block.
func (p *nginxParser) block(depth int) []directive {
	var all []directive
	var words []string
	for {
		word, kind := p.word()
		switch kind {
		case 0:
			return all
		case ';', '{':
			d := directive{words: words}
			words = nil
			if kind == '{' {
				if depth == maxBlocks {
					return all
				}
				d.block = p.block(depth + 1)
			}
			if len(d.words) > 0 {
				all = append(all, d)
				if p.left--; p.left == 0 {
					return all
				}
			}
		case '}':
			return all
		default:
			words = append(words, word)
		}
	}
}

// word reads the next word, 'w', or one of ; { } and 0 at the end.
func (p *nginxParser) word() (string, byte) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\r', '\n':
			p.at++
			continue
		case '#':
			if i := strings.IndexByte(p.text[p.at:], '\n'); i >= 0 {
				p.at += i
			} else {
				p.at = len(p.text)
			}
			continue
		case ';', '{', '}':
			p.at++
			return "", c
		case '"', '\'':
			return p.quoted(c), 'w'
		}
		begin := p.at
		for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n;{}", rune(p.text[p.at])) {
			if p.text[p.at] == '\\' {
				p.at++
			}
			// A variable may be written with braces: ${name}.
			if p.at+1 < len(p.text) && p.text[p.at] == '$' && p.text[p.at+1] == '{' {
				if i := strings.IndexByte(p.text[p.at:], '}'); i > 0 {
					p.at += i
				}
			}
			p.at++
		}
		p.at = min(p.at, len(p.text))
		return p.text[begin:p.at], 'w'
	}
	return "", 0
}

func (p *nginxParser) quoted(end byte) string {
	var b strings.Builder
	for p.at++; p.at < len(p.text) && p.text[p.at] != end; p.at++ {
		if p.text[p.at] == '\\' && p.at+1 < len(p.text) {
			p.at++
		}
		b.WriteByte(p.text[p.at])
	}
	p.at++
	return b.String()
}

// forwards are what a configuration sends where, in its order.
func forwards(all []directive) []forward {
	f := &forwarding{upstreams: map[string][]string{}}
	f.gather(all)
	f.walk(all, server{})
	return f.all
}

type forwarding struct {
	upstreams map[string][]string
	all       []forward
}

// server is the block of a server around a location.
type server struct {
	hosts []string
	tls   bool
}

func (f *forwarding) gather(all []directive) {
	for _, d := range all {
		if d.words[0] == "upstream" && len(d.words) > 1 {
			for _, s := range d.block {
				if s.words[0] == "server" && len(s.words) > 1 {
					f.upstreams[d.words[1]] = append(f.upstreams[d.words[1]], s.words[1])
				}
			}
			continue
		}
		f.gather(d.block)
	}
}

func (f *forwarding) walk(all []directive, in server) {
	for _, d := range all {
		switch d.words[0] {
		case "server":
			s := server{}
			for _, x := range d.block {
				switch x.words[0] {
				case "server_name":
					for _, h := range x.words[1:] {
						if h = strings.ToLower(h); hostForm.MatchString(h) {
							s.hosts = append(s.hosts, h)
						}
					}
				case "listen":
					s.tls = s.tls || slices.Contains(x.words[1:], "ssl")
				}
			}
			f.walk(d.block, s)
		case "location":
			f.location(d, in)
			f.walk(d.block, in)
		default:
			f.walk(d.block, in)
		}
	}
}

func (f *forwarding) location(d directive, in server) {
	if len(d.words) < 2 {
		return
	}
	l := forward{hosts: in.hosts, path: d.words[len(d.words)-1], tls: in.tls}
	if len(d.words) > 2 {
		l.exact, l.pattern = d.words[1] == "=", strings.HasPrefix(d.words[1], "~")
	}
	for _, x := range d.block {
		if (x.words[0] != "proxy_pass" && x.words[0] != "grpc_pass") || len(x.words) < 2 {
			continue
		}
		_, rest, ok := strings.Cut(x.words[1], "://")
		if !ok {
			rest = x.words[1]
		}
		host, path, hasPath := strings.Cut(rest, "/")
		l.rewritten = hasPath && "/"+path != l.path
		if servers, ok := f.upstreams[host]; ok {
			l.servers = append(l.servers, servers...)
		} else {
			l.servers = append(l.servers, host)
		}
	}
	if len(l.servers) > 0 {
		f.all = append(f.all, l)
	}
}
