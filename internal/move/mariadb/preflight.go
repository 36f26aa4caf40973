package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

// Preflight is a list of rules. A rule is a trap that a move can fall into: what
// finds it on a server, what would happen, and what mends it. The rules stand in the
// files preflight_*.go, one for each group; this file runs them.
// docs/preflight-mariadb.md is made of the same list.

// place is where a rule looks.
type place string

const (
	onSource place = source
	onTarget place = target
	onEither place = "either" // on both, one after the other
)

// rule is one trap.
type rule struct {
	id       string
	severity move.Severity
	on       place
	// fresh: it matters only until the move has begun.
	fresh bool
	// title says what was found, for the manual.
	title string
	// find finds it. What a finding holds fills the {placeholders} of consequence and
	// fix; its "object" names it.
	find func(context.Context, *inspection, *end) ([]finding, error)
	// pair: it needs both servers.
	pair bool
	// consequence and fix are templates. {role} is the session's account, quoted for
	// SQL; {side} is the server's.
	consequence, fix string
	// example is the fix as the manual tells it, where the template is all placeholder.
	example string
}

// finding is what a rule found: values by placeholder.
type finding map[string]string

// thresholds are from where on something counts.
type thresholds struct {
	patience time.Duration // a transaction that is open for longer holds the move up
	keyless  int64         // bytes of a table without a key that is slow to search for every change
}

// defaultThresholds are those of Preflight.
var defaultThresholds = thresholds{patience: time.Minute} //nolint:gochecknoglobals // a constant in all but syntax

// lookSeconds bounds one statement of the preflight.
const lookSeconds = 60

// serverVersion is a version's first two numbers.
type serverVersion struct{ major, minor int }

func (v serverVersion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v serverVersion) before(w serverVersion) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// end is one server as the preflight sees it.
type end struct {
	side    string
	named   string // what the estate calls it
	conn    *sql.Conn
	text    string // its version in full
	version serverVersion
	role    string // our account, quoted for SQL
	// settings are the server's own.
	settings map[string]string
	rights   rights
	catalog  *Catalog
	// in lists the databases that move, as a condition.
	in string
	// rds: the server has the procedures of a managed one.
	rds bool
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
	return [][]rule{pairRules(), serverRules(), streamRules(), rightRules(), tableRules(), objectRules()}
}

// Preflight names everything that would lose data or fail later. It changes nothing:
// its sessions are read-only. With one server away it still looks at the other, and
// returns what it found together with the error.
func (m *Mover) Preflight(ctx context.Context) ([]move.Issue, error) {
	return m.inspect(ctx, defaultThresholds)
}

func (m *Mover) inspect(ctx context.Context, limits thresholds) ([]move.Issue, error) {
	x, errs := m.openInspection(ctx, limits)
	defer x.close()
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

// openInspection connects to both ends, as far as they answer.
func (m *Mover) openInspection(ctx context.Context, limits thresholds) (*inspection, []error) {
	x := &inspection{m: m, limits: limits}
	var errs []error
	for side, into := range map[string]**end{source: &x.source, target: &x.target} {
		opened, err := x.open(ctx, side)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		*into = opened
	}
	if x.target != nil {
		state, err := readStream(ctx, x.target.conn, m.stream)
		if err != nil && !denied(err) {
			errs = append(errs, err)
		}
		x.begun = state != nil
	}
	return x, errs
}

func (x *inspection) close() {
	for _, e := range []*end{x.source, x.target} {
		if e != nil {
			hangUp(e.conn)
		}
	}
}

var versionStart = regexp.MustCompile(`^(?:5\.5\.5-)?(\d+)\.(\d+)\.`)

// open connects to one end and learns what many rules need.
func (x *inspection) open(ctx context.Context, side string) (_ *end, err error) {
	e := &end{side: side, named: x.m.named(side), settings: map[string]string{}}
	if e.conn, err = x.m.session(ctx, side); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			hangUp(e.conn)
			err = fmt.Errorf("look at the %s of database %s: %w", e.named, x.m.cfg.Name, err)
		}
	}()
	for _, sql := range []string{"SET SESSION TRANSACTION READ ONLY", fmt.Sprintf("SET SESSION max_statement_time = %d, lock_wait_timeout = 5", lookSeconds)} {
		if _, err := e.conn.ExecContext(ctx, sql); err != nil {
			return nil, err
		}
	}
	var account string
	if err := e.conn.QueryRowContext(ctx, "SELECT VERSION(), CURRENT_USER()").Scan(&e.text, &account); err != nil {
		return nil, err
	}
	user, host, _ := strings.Cut(account, "@")
	e.role = quote(user) + "@" + quote(host)
	if found := versionStart.FindStringSubmatch(e.text); found != nil {
		e.version.major, _ = strconv.Atoi(found[1]) // digits
		e.version.minor, _ = strconv.Atoi(found[2])
	}
	if err := scan(ctx, e.conn, "SHOW GLOBAL VARIABLES", func(row func(...any) error) error {
		var name, value string
		if err := row(&name, &value); err != nil {
			return err
		}
		e.settings[strings.ToLower(name)] = value
		return nil
	}); err != nil {
		return nil, err
	}
	if e.rights, err = readRights(ctx, e.conn); err != nil {
		return nil, err
	}
	if e.catalog, err = x.m.catalog(ctx, e.conn); err != nil {
		return nil, err
	}
	names := make([]string, len(e.catalog.Schemas))
	for i, s := range e.catalog.Schemas {
		names[i] = quoteText(s.Name)
	}
	if e.in = "IN (" + strings.Join(names, ", ") + ")"; len(names) == 0 {
		e.in = "IN ('')"
	}
	err = e.conn.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM information_schema.routines WHERE routine_schema = 'mysql' AND routine_name = 'rds_set_external_master_gtid'").Scan(&e.rds)
	return e, err
}

// isOn says whether a setting of the server is switched on.
func (e *end) isOn(setting string) bool {
	return strings.EqualFold(e.settings[setting], "ON") || e.settings[setting] == "1"
}

// number is a setting's number; 0 where there is none.
func (e *end) number(setting string) float64 {
	n, err := strconv.ParseFloat(e.settings[setting], 64)
	if err != nil {
		return 0
	}
	return n
}

// rows runs a rule's statement: a finding for each row, by the columns' names.
func (e *end) rows(ctx context.Context, query string, args ...any) (found []finding, err error) {
	rows, err := e.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		f := finding{}
		for i, n := range names {
			f[n] = values[i].String
		}
		found = append(found, f)
	}
	return found, rows.Err()
}

// apply runs a rule on the ends it is about.
func (x *inspection) apply(ctx context.Context, r rule) ([]move.Issue, error) {
	if r.fresh && (x.begun || x.m.cfg.Back) {
		return nil, nil
	}
	var issues []move.Issue
	for _, e := range []*end{x.source, x.target} {
		if e == nil || r.on != onEither && string(r.on) != e.side || r.pair && (x.source == nil || x.target == nil) {
			continue
		}
		found, err := r.find(ctx, x, e)
		switch {
		case denied(err):
			issues = append(issues, move.Issue{Severity: move.Warns, Rule: unseen, Side: e.named, Object: r.id, Consequence: fmt.Sprintf("our account may not look for %s (%v), so it is not known whether it is there", r.id, err),
				Fix: "grant the account the right to read that, or run the preflight as one that has it"})
			continue
		case err != nil:
			return issues, fmt.Errorf("on the %s: %w", e.named, err)
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

// denied says whether a server's error is that a right is missing.
func denied(err error) bool {
	const database, access, table, column, routine, shows = 1044, 1045, 1142, 1143, 1370, 1345
	return isNumber(err, errAccessDenied, errSpecialMissing, database, access, table, column, routine, shows)
}

// fill puts a finding's values into a template.
func (e *end) fill(template string, f finding) string {
	pairs := []string{"{role}", e.role, "{side}", e.named}
	for k, v := range f {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

// one is a single finding.
func one(pairs ...string) []finding {
	f := finding{}
	for i := 0; i+1 < len(pairs); i += 2 {
		f[pairs[i]] = pairs[i+1]
	}
	return []finding{f}
}

// setting makes the find of a rule about one setting: bad says whether a value is wrong.
func setting(name string, bad func(*inspection, *end, string) bool) func(context.Context, *inspection, *end) ([]finding, error) {
	return func(_ context.Context, x *inspection, e *end) ([]finding, error) {
		if value, there := e.settings[name]; there && bad(x, e, value) {
			return one("object", name, "found", value), nil
		}
		return nil, nil
	}
}

// inConfig follows a setting that ends with the server's run.
const inConfig = "; -- and in the server's configuration, so that it outlives a restart (a managed one: in its parameter group)"

// thenRestart follows a setting that a server reads when it starts.
const thenRestart = " in the server's configuration, then restart it (a managed one: in its parameter group, then reboot)"
