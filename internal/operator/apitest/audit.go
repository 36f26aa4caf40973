package apitest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Requests are how often a user asked for something, by verb and resource, as in "patch
// exposures/status".
type Requests map[string]int

// All is how many there are.
func (r Requests) All() (n int) {
	for _, count := range r {
		n += count
	}
	return n
}

// Writes are those that ask for a change, be it one or not.
func (r Requests) Writes() Requests {
	some := Requests{}
	for what, count := range r {
		verb, _, _ := strings.Cut(what, " ")
		if slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, verb) {
			some[what] = count
		}
	}
	return some
}

// Names are the verbs with their resources, the most frequent first.
func (r Requests) Names() []string {
	return slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		if r[a] != r[b] {
			return r[b] - r[a]
		}
		return strings.Compare(a, b)
	})
}

func (p *Plane) auditLog() string { return p.folder("audit.log") }

// auditPolicy writes down who asks for what, without what was said, when it has been
// answered; of a watch, when it begins.
func (p *Plane) auditPolicy() string {
	text := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n"
	for _, user := range p.o.Audited {
		text += fmt.Sprintf("- {level: Metadata, users: [%q]}\n", user)
	}
	return text + "- {level: None}\n"
}

// auditEvent is what is read of a line of the API server's.
type auditEvent struct {
	Stage, Verb string
	User        struct{ Username string }
	ObjectRef   struct{ Resource, Subresource string }
	RequestURI  string
}

// Requests counts the requests of a user that the API server has answered behind a
// position, by its own word: the first is 0, and the next one is returned. An audited user's
// request stands there before its answer is sent.
func (p *Plane) Requests(user string, from int64) (_ Requests, next int64, err error) {
	f, err := os.Open(p.auditLog())
	if err != nil {
		return nil, from, fmt.Errorf("read what the API server was asked for: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, from, fmt.Errorf("read what the API server was asked for: %w", err)
	}
	all, next := Requests{}, from
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line that is being written is counted the next time
			return all, next, nil
		}
		if err != nil {
			return nil, from, fmt.Errorf("read what the API server was asked for: %w", err)
		}
		next += int64(len(line))
		what, err := asked(line, user)
		if err != nil {
			return nil, from, err
		}
		if what != "" {
			all[what]++
		}
	}
}

// asked is what a user asked for in a line, "" if it does not count.
func asked(line []byte, user string) (string, error) {
	var e auditEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return "", fmt.Errorf("read what the API server was asked for: %w", err)
	}
	if e.User.Username != user || (e.Verb == "watch") != (e.Stage == "ResponseStarted") {
		return "", nil
	}
	what := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		what += "/" + e.ObjectRef.Subresource
	}
	if what == "" { // discovery, and the like
		what, _, _ = strings.Cut(e.RequestURI, "?")
	}
	return e.Verb + " " + what, nil
}
