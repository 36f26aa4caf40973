package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// Preflight is a list of rules. A rule is a trap that a move can fall into: what
// finds it in what a server says of itself, what would happen, and what mends it.
// The rules stand in the files preflight_*.go, one for each group; this file runs
// them. docs/preflight-redis.md is made of the same list.

// where says on which server a rule looks.
type where string

const (
	onSource where = "source"
	onTarget where = "target"
	onEither where = "either" // on both, one after the other
)

// rule is one trap.
type rule struct {
	id       string
	severity move.Severity
	on       where
	// fresh: it matters only until the move has begun.
	fresh bool
	// title says what was found, for the manual.
	title string
	// pair says that it needs both servers.
	pair bool
	find func(context.Context, *inspection, *end) ([]finding, error)
	// consequence and fix are templates, filled from a finding; {side} is the server.
	consequence, fix string
}

// finding is what a rule found: values by placeholder.
type finding map[string]string

// end is one server as the preflight sees it.
type end struct {
	*session
	on      where
	options *redis.Options
	cluster bool // the estate says so
	info    map[string]string
	// settings are nil where they can not be read.
	settings map[string]string
	// users are nil where they can not be read.
	users *guarded
	// missing are the commands that a move needs and the server does not know or let us use.
	missing map[string]string
	keys    map[int]int64
	clock   time.Time
	asked   time.Time // by the local clock
}

// inspection is one run over both servers; an end that could not be reached is nil.
type inspection struct {
	m              *Mover
	source, target *end
	begun          bool // the target holds this move's state
}

// lookTimeout bounds one rule's look at a server.
const lookTimeout = 30 * time.Second

// groups are all rules, in the order in which they are told.
func groups() [][]rule {
	return [][]rule{pairRules, serverRules, streamRules, rightRules}
}

// Preflight names everything that would lose data or fail later. It changes
// nothing. With one server away it still looks at the other, and returns what it
// found together with the error.
func (m *Mover) Preflight(ctx context.Context) ([]move.Issue, error) {
	x := &inspection{m: m}
	var errs []error
	for _, e := range []struct {
		on   where
		into **end
	}{{onSource, &x.source}, {onTarget, &x.target}} {
		opened, err := x.open(ctx, e.on)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer opened.hangUp()
		*e.into = opened
	}
	if x.target != nil {
		n, err := x.target.Exists(ctx, stateKey(m.stream)).Result()
		if err != nil && x.target.info["cluster_enabled"] != "1" { // there a key may be anywhere
			return nil, errors.Join(append(errs, x.target.fails("look for the move's state", err))...)
		}
		x.begun = n > 0
	}
	var issues []move.Issue
	for _, group := range groups() {
		for _, r := range group {
			found, err := x.apply(ctx, r)
			issues = append(issues, found...)
			if err != nil {
				return issues, errors.Join(append(errs, fmt.Errorf("look for %s: %w", r.id, err))...)
			}
		}
	}
	sort.SliceStable(issues, func(i, j int) bool { return issues[i].Severity == move.Loses && issues[j].Severity != move.Loses })
	return issues, errors.Join(errs...)
}

// open connects to one end and learns what the rules need.
func (x *inspection) open(ctx context.Context, on where) (*end, error) {
	s, err := x.m.dial(ctx, string(on))
	if err != nil {
		return nil, err
	}
	e := &end{session: s, on: on, options: x.m.given(string(on)), cluster: x.m.cfg.SourceCluster}
	if on == onTarget {
		e.cluster = x.m.cfg.TargetCluster
	}
	if err := e.learn(ctx, x.m); err != nil {
		s.hangUp()
		return nil, err
	}
	return e, nil
}

func (e *end) learn(ctx context.Context, m *Mover) error {
	text, err := e.Info(ctx).Result()
	if err != nil {
		return e.fails("read INFO", err)
	}
	e.info = parseInfo(text)
	if e.settings, err = e.ConfigGet(ctx, "*").Result(); err != nil && !refusal(err) {
		return e.fails("read the settings", err)
	}
	g, err := m.readACL(ctx, e.session)
	if err == nil {
		e.users = &g
	} else if !refusal(err) {
		return err
	}
	if e.keys, err = keySpaces(ctx, e.session); err != nil {
		return err
	}
	e.asked = time.Now()
	if e.clock, err = e.Time(ctx).Result(); err != nil && !refusal(err) {
		return e.fails("read the time", err)
	}
	e.missing, err = e.lacks(ctx)
	return err
}

// apply runs a rule on the ends it is about.
func (x *inspection) apply(ctx context.Context, r rule) ([]move.Issue, error) {
	if r.fresh && (x.begun || x.m.cfg.Back) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var issues []move.Issue
	for _, e := range []*end{x.source, x.target} {
		if e == nil || r.on != onEither && r.on != e.on || r.pair && (x.source == nil || x.target == nil) {
			continue
		}
		found, err := r.find(ctx, x, e)
		if refusal(err) {
			issues = append(issues, move.Issue{
				Severity: move.Warns, Rule: unseen, Side: e.side, Object: r.id,
				Consequence: fmt.Sprintf("the user may not look for %s, so it is not known whether it is there", r.id),
				Fix:         "let the user look, or run the preflight as one that may",
			})
			continue
		}
		if err != nil {
			return issues, fmt.Errorf("on the %s: %w", e.side, err)
		}
		slices.SortStableFunc(found, func(a, b finding) int { return strings.Compare(a["object"], b["object"]) })
		for _, f := range found {
			issues = append(issues, move.Issue{Severity: r.severity, Rule: r.id, Side: e.side, Object: f["object"], Consequence: e.fill(r.consequence, f), Fix: e.fill(r.fix, f)})
		}
	}
	return issues, nil
}

// unseen is the rule of an issue that says that another rule could not look.
const unseen = "cannot-look"

// fill puts a finding's values into a template.
func (e *end) fill(template string, f finding) string {
	pairs := []string{"{side}", e.side}
	for k, v := range f {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

// number reads a number from INFO or the settings; 0 where there is none.
func number(values map[string]string, name string) int64 {
	n, err := strconv.ParseInt(values[name], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// whenever makes a rule's finder of a condition; a finding without an object is about the server.
func whenever(is func(x *inspection, e *end) finding) func(context.Context, *inspection, *end) ([]finding, error) {
	return func(_ context.Context, x *inspection, e *end) ([]finding, error) {
		if f := is(x, e); f != nil {
			return []finding{f}, nil
		}
		return nil, nil
	}
}

// needed are the commands that a move uses at both ends, for it goes there and
// back. Those that a move can do without are the business of rules of their own.
var needed = []string{
	"INFO", "SELECT", "SCAN", "DUMP", "PTTL", "EXISTS", "WATCH", "MULTI", "EXEC", "TIME", "PING", "HSET", "HGETALL", "DEL", "UNLINK", "INCR",
	"RESTORE", "PEXPIREAT", "FLUSHDB", "CLIENT|PAUSE", "CLIENT|UNPAUSE", "CLIENT|LIST",
}

// optional are those whose absence a rule of its own tells.
var optional = []string{"PSYNC", "REPLCONF", "ACL|SETUSER", "CONFIG|SET"}

// trials are arguments with which the right to use a command is tried (ACL DRYRUN
// runs nothing).
var trials = map[string][]string{
	"SELECT": {"0"}, "SCAN": {"0"}, "DUMP": {"k"}, "PTTL": {"k"}, "EXISTS": {"k"}, "WATCH": {"k"}, "HSET": {"k", "f", "v"}, "HGETALL": {"k"}, "DEL": {"k"},
	"UNLINK": {"k"}, "INCR": {"k"}, "RESTORE": {"k", "0", "v"}, "PEXPIREAT": {"k", "1"}, "CLIENT|PAUSE": {"1"}, "PSYNC": {"?", "-1"},
	"REPLCONF": {"capa", "eof"}, "ACL|SETUSER": {"u"}, "CONFIG|SET": {"a", "b"},
}

// lacks are the commands that the server does not know, or does not let us use, with why.
func (e *end) lacks(ctx context.Context) (map[string]string, error) {
	missing := map[string]string{}
	user, err := e.Do(ctx, "ACL", "WHOAMI").Text()
	if err != nil && !refusal(err) {
		return nil, e.fails("ask who we are", err)
	}
	for _, name := range slices.Concat(needed, optional) {
		command, sub, _ := strings.Cut(name, "|")
		known, err := e.Do(ctx, "COMMAND", "INFO", command).Slice()
		if err != nil && !refusal(err) {
			return nil, e.fails("ask for the command "+command, err)
		}
		if err == nil && (len(known) == 0 || known[0] == nil) {
			missing[name] = "unknown"
			continue
		}
		args := []any{"ACL", "DRYRUN", user, command}
		if sub != "" {
			args = append(args, sub)
		}
		for _, a := range trials[name] {
			args = append(args, a)
		}
		answer, err := e.Do(ctx, args...).Text()
		if err != nil { // servers before Redis 7 try nothing, and others may not let us
			var said redis.Error
			if !errors.As(err, &said) {
				return nil, e.fails("try the command "+command, err)
			}
			continue
		}
		if answer != "OK" {
			missing[name] = "refused"
		}
	}
	return missing, nil
}
