package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// Preflight is a list of rules. A rule is a trap that a move can fall into: a
// statement that finds it in a server's catalogs, what would happen, and what
// mends it. The rules stand in the files preflight_*.go, one for each group;
// this file runs them. docs/preflight.md is made of the same list.

// side says on which server a rule looks, and which one an issue is about.
type side string

const (
	onSource side = "source"
	onTarget side = "target"
	onEither side = "either" // on both, one after the other
)

// rule is one trap.
type rule struct {
	id       string
	severity move.Severity
	on       side
	// fresh: it matters only until the move has begun.
	fresh bool
	// title says what was found, for the manual.
	title string
	// sql finds it: a row for each finding, whose columns fill the {placeholders}
	// of consequence and fix; the column object names it. It follows prelude.
	sql string
	// find finds it where one statement can not; about both servers, so both must be there.
	find func(context.Context, *inspection, *end) ([]finding, error)
	// consequence and fix are templates. {role} and {database} are the session's,
	// quoted for SQL; {side} is the server's.
	consequence, fix string
	// example is the fix as the manual tells it, where the template is all placeholder.
	example string
}

// finding is what a rule found: values by placeholder.
type finding map[string]string

// thresholds are from where on something counts.
type thresholds struct {
	patience time.Duration // a transaction that is open for longer holds the move up
	large    int64         // bytes of a database whose disk needs a thought
	scan     int64         // bytes of a table without a key that is slow to search for every change
}

// defaultThresholds are those of Preflight.
var defaultThresholds = thresholds{patience: time.Minute, large: 10 << 30, scan: 8 << 20}

const (
	// lookTimeout bounds one statement of the preflight.
	lookTimeout = time.Minute
	// slotsThere: the stream's slot, and one for the snapshot when a copy goes on.
	// slotsBack: that of the way back.
	slotsThere, slotsBack = 2, 1
	// sessionsBeside are a move's sessions at one end beside its copies or lanes: the
	// snapshot, the state, the stream, the watch and those that wait for the cutover.
	sessionsBeside = 7
)

// end is one server as the preflight sees it.
type end struct {
	side     side
	named    string // what the estate calls it
	conn     *pgx.Conn
	version  version
	role     string
	database string
	super    bool
	// settings are those of a new session of ours, before we set any.
	settings map[string]string
	args     []any
	began    time.Time // when the server was asked for its time, by the local clock
	clock    time.Time
	trip     time.Duration
}

// inspection is one run over both servers; an end that could not be reached is nil.
type inspection struct {
	m              *Mover
	source, target *end
	limits         thresholds
	begun          bool // the target holds this move's state
}

// groups are all rules, in the order in which they are told.
func groups() [][]rule {
	return [][]rule{pairRules, serverRules, streamRules, rightRules, tableRules, columnRules, objectRules, codeRules, copyRules}
}

// Preflight names everything that would lose data or fail later. It changes
// nothing: its sessions are read-only. With one server away it still looks at
// the other, and returns what it found together with the error.
func (m *Mover) Preflight(ctx context.Context) ([]move.Issue, error) {
	return m.inspect(ctx, defaultThresholds)
}

func (m *Mover) inspect(ctx context.Context, limits thresholds) ([]move.Issue, error) {
	x := &inspection{m: m, limits: limits}
	var errs []error
	for _, e := range []struct {
		side side
		cfg  *pgx.ConnConfig
		into **end
	}{{onSource, m.cfg.Source, &x.source}, {onTarget, m.cfg.Target, &x.target}} {
		opened, err := x.open(ctx, e.side, e.cfg)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer hangUp(ctx, opened.conn)
		*e.into = opened
	}
	if err := x.measure(ctx); err != nil {
		return nil, errors.Join(append(errs, err)...)
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

// open connects to one end and learns what many rules need.
func (x *inspection) open(ctx context.Context, s side, cfg *pgx.ConnConfig) (_ *end, err error) {
	e := &end{side: s, named: x.m.named(string(s)), settings: map[string]string{}}
	c := cfg.Copy() // without the settings of the move's sessions, which would hide the server's own
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if e.conn, err = pgx.ConnectConfig(ctx, c); err != nil {
		return nil, explainConnect(ctx, c, e.named, err)
	}
	defer func() {
		if err != nil {
			hangUp(ctx, e.conn)
			err = fmt.Errorf("look at the %s: %w", e.named, err)
		}
	}()
	if e.version, err = serverVersion(ctx, e.conn); err != nil {
		return nil, err
	}
	if err := e.conn.QueryRow(ctx, "SELECT current_user, current_database(), rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&e.role, &e.database, &e.super); err != nil {
		return nil, err
	}
	rows, err := e.conn.Query(ctx, "SELECT name, coalesce(setting, '') FROM pg_catalog.pg_settings")
	if err != nil {
		return nil, err
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { e.settings[name] = value; return nil }); err != nil {
		return nil, err
	}
	if _, err := e.conn.Exec(ctx, fmt.Sprintf("SET default_transaction_read_only = on; SET search_path = pg_catalog; SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET statement_timeout = %d; SET lock_timeout = %d",
		lookTimeout.Milliseconds(), connectTimeout.Milliseconds())); err != nil {
		return nil, err
	}
	e.began = time.Now()
	if err := e.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&e.clock); err != nil {
		return nil, err
	}
	e.trip = time.Since(e.began)
	return e, nil
}

// measure reads what the rules of one end need of the other, and fills their parameters.
func (x *inspection) measure(ctx context.Context) error {
	if x.target != nil {
		state, err := readStream(ctx, x.target.conn, x.m.stream)
		if err != nil {
			return err
		}
		x.begun = state != nil
	}
	var tables, objects int64
	if x.source != nil {
		if err := x.source.conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'S') AND "+scope+"), (SELECT count(*) FROM pg_largeobject_metadata)",
			nonNil(x.m.cfg.Schemas), nonNil(x.m.cfg.Exclude)).Scan(&tables, &objects); err != nil {
			return fmt.Errorf("count the source's tables: %w", err)
		}
	}
	l := x.m.limits
	for _, e := range []*end{x.source, x.target} {
		if e == nil {
			continue
		}
		slots, sessions, locks := slotsThere, l.Copies+sessionsBeside, tables
		if e.side == onTarget {
			const locksATable = 4 // of a table that is created: its own, its TOAST table's, that one's index, its type
			slots, sessions, locks = slotsBack, max(l.Copies, l.Lanes)+sessionsBeside, tables*locksATable
		}
		e.args = []any{nonNil(x.m.cfg.Schemas), nonNil(x.m.cfg.Exclude), x.m.stream, x.m.back, slots, sessions, locks, objects,
			l.WALStop >> 20, x.limits.patience.Seconds(), x.limits.large, x.limits.scan, x.m.cfg.Stragglers == TerminateSessions}
	}
	return nil
}

// apply runs a rule on the ends it is about.
func (x *inspection) apply(ctx context.Context, r rule) ([]move.Issue, error) {
	if r.fresh && (x.begun || x.m.cfg.Back) {
		return nil, nil
	}
	var issues []move.Issue
	for _, e := range []*end{x.source, x.target} {
		if e == nil || r.on != onEither && r.on != e.side || r.find != nil && (x.source == nil || x.target == nil) {
			continue
		}
		var found []finding
		var err error
		if r.find != nil {
			found, err = r.find(ctx, x, e)
		} else {
			found, err = e.look(ctx, r.sql)
		}
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && pg.Code == insufficientPrivilege:
			issues = append(issues, move.Issue{Severity: move.Warns, Rule: unseen, Side: e.named, Object: r.id, Consequence: fmt.Sprintf("the user may not look for %s (%s), so it is not known whether it is there", r.id, pg.Message),
				Fix: "grant the user the right to read that, or run the preflight as a role that has it"})
			continue
		case err != nil:
			return issues, fmt.Errorf("on the %s: %w", e.named, withoutDetail(err))
		}
		slices.SortStableFunc(found, func(a, b finding) int { return strings.Compare(a["object"], b["object"]) })
		for _, f := range found {
			issues = append(issues, move.Issue{Severity: r.severity, Rule: r.id, Side: e.named, Object: f["object"], Consequence: e.fill(r.consequence, f), Fix: e.fill(r.fix, f)})
		}
	}
	return issues, nil
}

// unseen is the rule of an issue that says that another rule could not look.
const unseen = "cannot-look"

// fill puts a finding's values into a template.
func (e *end) fill(template string, f finding) string {
	pairs := []string{"{role}", ident(e.role), "{database}", ident(e.database), "{side}", e.named}
	for k, v := range f {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

// look runs a rule's statement.
func (e *end) look(ctx context.Context, sql string) ([]finding, error) {
	rows, err := e.conn.Query(ctx, prelude+" SELECT (SELECT jsonb_object_agg(key, coalesce(value, '')) FROM jsonb_each_text(to_jsonb(q)))::text FROM ("+sql+") q", e.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (finding, error) {
		var text string
		f := finding{}
		if err := row.Scan(&text); err != nil {
			return nil, err
		}
		return f, json.Unmarshal([]byte(text), &f)
	})
}

// prelude are what the rules' statements look at:
//
//	given    what the move is and needs
//	rel      the relations that move
//	nsp      the schemas that move
//	usable   of each table, the unique index that can name its rows best
const prelude = `WITH given AS (SELECT $3::text AS stream, $4::text AS back, $5::bigint AS slots, $6::bigint AS sessions, $7::bigint AS locks, $8::bigint AS objects,
		$9::bigint AS wal_mb, $10::float8 AS patience, $11::bigint AS large, $12::bigint AS scan, $13::bool AS terminate),
	nsp AS (SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n WHERE ` + scopeOf + `
		AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')),
	rel AS (SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.reltablespace, c.relowner, c.relacl, c.relispartition, c.relrowsecurity, c.relispopulated,
			n.nspname || '.' || c.relname AS object, format('%I.%I', n.nspname, c.relname) AS name
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND ` + scope + `),
	usable AS (SELECT DISTINCT ON (i.indrelid) i.indrelid, CASE WHEN i.indisprimary THEN 'DEFAULT' ELSE 'USING INDEX ' || quote_ident(c.relname) END AS identity
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
			AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (num, pos) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
				WHERE k.pos <= i.indnkeyatts AND NOT a.attnotnull)
		ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, c.relname COLLATE "C")`

// thenRestart follows a setting that a server reads when it starts.
const thenRestart = "; -- then restart the server (a managed one: in its parameter group, then reboot)"
