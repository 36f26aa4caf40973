package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The sides, as the instances are called that run there, and what neither wrote.
const (
	source = "source"
	target = "target"
	seed   = "seed"
)

// audited are the tables whose rows are placed in time.
var audited = []struct {
	database string
	table    string
	created  string // the column with the instant at which the row was made
	// final rows are never changed: their one commit is their instance's.
	final bool
}{
	{"accounts", "transfers", "at", true},
	{"accounts", "holds", "at", false},
	{"payments", "payments", "created", false},
	{"payments", "splits", "created", true},
	{"payments", "requests", "created", false},
	{"transfers", "sends", "created", false},
}

// audit is the audit of both sides; nil when none was asked for.
type audit struct {
	allowed int
	report  *Report
	// sides holds the databases of each side, by name.
	sides  map[string]map[string]*database
	events []event
}

// event is an instant at which a side wrote.
type event struct {
	at    int64 // microseconds since 1970
	id    int64
	table int8 // in audited
	onTgt bool
}

func (c *checker) openSides(ctx context.Context) (_ *audit, err error) {
	s := c.cfg.Sides
	if s == nil {
		return nil, nil
	}
	a := &audit{allowed: s.Switches, report: c.report, sides: map[string]map[string]*database{source: {}, target: {}}}
	defer func() {
		if err != nil {
			a.close(ctx)
		}
	}()
	for _, of := range stores {
		at, to := *of.url(&s.Source), *of.url(&s.Target)
		if of.mariadb || of.optional && at == "" && to == "" {
			continue
		}
		for side, url := range map[string]string{source: at, target: to} {
			db, err := connect(ctx, "the "+of.name+" database at the "+side, url, of.variable(side), of)
			if err != nil {
				return nil, err
			}
			a.sides[side][of.name] = db
			var on string
			if err := db.row(ctx, []any{&on}, "SHOW track_commit_timestamp"); err != nil {
				return nil, err
			}
			if on != "on" {
				return nil, fmt.Errorf("%s does not keep when its transactions committed: set track_commit_timestamp = on, restart the server, and do so before the traffic begins", db.name)
			}
		}
	}
	return a, nil
}

func (a *audit) close(ctx context.Context) {
	if a == nil {
		return
	}
	for _, side := range a.sides {
		for _, d := range side {
			d.close(ctx)
		}
	}
}

// run places the rows of all tables in time and counts how often the serving side changed.
func (a *audit) run(ctx context.Context) error {
	if a == nil {
		return nil
	}
	for i := range audited {
		if a.sides[source][audited[i].database] == nil {
			continue
		}
		if err := a.table(ctx, int8(i)); err != nil {
			return err
		}
	}
	a.report.Audited, a.report.SwitchesAllowed = true, a.allowed
	a.report.AuditedRows = int64(len(a.events))
	a.count()
	return nil
}

// written is a row as one side has it.
type written struct {
	id       int64
	instance string
	at       time.Time // of the commit that wrote it here last
	hash     int64     // of its values
	created  time.Time
}

// writtenRows are all rows of a table that an instance wrote, with the time of their last commit.
const writtenRows = `SELECT t.id, t.instance, pg_xact_commit_timestamp(t.xmin), hashtextextended(t::text, 0), t.%s FROM %s t WHERE %s ORDER BY t.id`

func scanWritten(r rows, w *written) error {
	var at *time.Time
	if err := r.Scan(&w.id, &w.instance, &at, &w.hash, &w.created); err != nil {
		return err
	}
	if at == nil {
		return fmt.Errorf("row %d has no commit time: track_commit_timestamp was switched on after it was written, or the server has forgotten: audit sooner after the move", w.id)
	}
	w.at = *at
	return nil
}

// table merges a table's rows of both sides by id.
func (a *audit) table(ctx context.Context, n int8) (err error) {
	t := audited[n]
	src, tgt := a.sides[source][t.database], a.sides[target][t.database]
	for _, d := range []*database{src, tgt} {
		if err := d.freeze(ctx); err != nil {
			return err
		}
	}
	late, err := a.merge(ctx, n, src, tgt)
	if err := errors.Join(err, src.thaw(ctx), tgt.thaw(ctx)); err != nil {
		return err
	}
	// On a system in service the snapshots are not of one instant: what was not on
	// its own side is looked for again.
	for _, w := range late {
		if err := a.secondLook(ctx, n, w); err != nil {
			return err
		}
	}
	return nil
}

func (a *audit) merge(ctx context.Context, n int8, src, tgt *database) (late []written, err error) {
	t := audited[n]
	sql := fmt.Sprintf(writtenRows, t.created, t.table, "t.instance <> '"+seed+"'")
	ss, err := open(ctx, src, scanWritten, sql)
	if err != nil {
		return nil, err
	}
	defer ss.close()
	ts, err := open(ctx, tgt, scanWritten, sql)
	if err != nil {
		return nil, err
	}
	defer ts.close()
	s, errS := ss.next()
	g, errT := ts.next()
	for errS == nil && errT == nil && (s != nil || g != nil) {
		switch {
		case g == nil || s != nil && s.id < g.id:
			late = a.one(n, *s, false, late)
			s, errS = ss.next()
		case s == nil || g.id < s.id:
			late = a.one(n, *g, true, late)
			g, errT = ts.next()
		default:
			a.both(n, *s, *g)
			s, errS = ss.next()
			g, errT = ts.next()
		}
	}
	return late, errors.Join(errS, errT)
}

func (a *audit) event(n int8, id int64, at time.Time, onTarget bool) {
	a.events = append(a.events, event{at: at.UnixMicro(), id: id, table: n, onTgt: onTarget})
}

// made notes where and when the row was made, for rows that may have been changed since.
func (a *audit) made(n int8, w written) {
	if !audited[n].final {
		a.event(n, w.id, w.created, w.instance == target)
	}
}

func (a *audit) known(n int8, w written) bool {
	if w.instance == source || w.instance == target {
		return true
	}
	a.report.add(UnknownInstance, a.of(n, w.id), "it was written by an instance that is called %q", w.instance)
	return false
}

func (a *audit) of(n int8, id int64) string {
	return fmt.Sprintf("%s.%s, row %d", audited[n].database, audited[n].table, id)
}

func side(onTarget bool) string {
	if onTarget {
		return target
	}
	return source
}

// one is a row that only one side has. It must be its own.
func (a *audit) one(n int8, w written, onTarget bool, late []written) []written {
	if !a.known(n, w) {
		return late
	}
	if w.instance == side(onTarget) {
		a.event(n, w.id, w.at, onTarget)
		a.made(n, w)
		return late
	}
	if len(late) < suspects {
		return append(late, w)
	}
	a.elsewhere(n, w)
	return late
}

func (a *audit) elsewhere(n int8, w written) {
	a.report.add(WroteElsewhere, a.of(n, w.id), "it is the %s's, and is not there: it was committed at the other side, at %s", w.instance, stamp(w.at.UnixMicro()))
	a.event(n, w.id, w.at, w.instance == source)
}

// both is a row that both sides have. Where it is the same, the side that
// committed it first wrote it, and the other one has it from the stream between.
func (a *audit) both(n int8, s, g written) {
	if !a.known(n, s) || !a.known(n, g) {
		return
	}
	final := audited[n].final
	if s.hash != g.hash {
		if final || s.instance != g.instance || !s.created.Equal(g.created) {
			a.report.add(BothSidesWrote, a.of(n, s.id), "the sides hold two different rows with this id, committed at %s at the source and at %s at the target", stamp(s.at.UnixMicro()), stamp(g.at.UnixMicro()))
			return
		}
		// One side has changed it and the other does not have that yet: which is
		// not known, so only its making is placed in time.
		a.report.UndecidedRows++
		a.made(n, s)
		return
	}
	onTarget := g.at.Before(s.at)
	first := s
	if onTarget {
		first = g
	}
	if final && first.instance != side(onTarget) {
		a.report.add(WroteElsewhere, a.of(n, s.id), "it is the %s's, and was committed first at the %s, at %s", first.instance, side(onTarget), stamp(first.at.UnixMicro()))
	}
	a.event(n, first.id, first.at, onTarget)
	a.made(n, first)
}

// secondLook looks again for a row on its own side.
func (a *audit) secondLook(ctx context.Context, n int8, w written) error {
	t := audited[n]
	var own []written
	s, err := open(ctx, a.sides[w.instance][t.database], scanWritten, fmt.Sprintf(writtenRows, t.created, t.table, "t.id = $1"), w.id)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		row, err := s.next()
		if err != nil {
			return err
		}
		if row == nil {
			break
		}
		own = append(own, *row)
	}
	switch {
	case len(own) == 0:
		a.elsewhere(n, w)
	case w.instance == source:
		a.both(n, own[0], w)
	default:
		a.both(n, w, own[0])
	}
	return nil
}

// count goes through all events in the order of time and counts how often
// another side than before wrote.
func (a *audit) count() {
	slices.SortFunc(a.events, func(x, y event) int { return cmp.Compare(x.at, y.at) })
	var last *event
	var changes []string
	for i := 0; i < len(a.events); {
		// Events of the same microsecond are in no order: those of the side at hand come first.
		end := i
		for end < len(a.events) && a.events[end].at == a.events[i].at {
			end++
		}
		group := a.events[i:end]
		if last != nil {
			slices.SortFunc(group, func(x, y event) int { return cmp.Compare(rank(x, last), rank(y, last)) })
		}
		for j := range group {
			e := &group[j]
			if last != nil && last.onTgt != e.onTgt {
				a.report.Switches++
				if len(changes) < a.report.most {
					changes = append(changes, fmt.Sprintf("the %s wrote it at %s, %s after the %s wrote %s", side(e.onTgt), stamp(e.at),
						time.Duration(e.at-last.at)*time.Microsecond, side(last.onTgt), a.of(last.table, last.id)), a.of(e.table, e.id))
				}
			}
			last = e
		}
		i = end
	}
	if extra := a.report.Switches - a.allowed; extra > 0 {
		a.report.count(BothSidesWrote, int64(extra))
		for i := 0; i < len(changes); i += 2 {
			a.report.list(BothSidesWrote, changes[i+1], changes[i])
		}
	}
}

func rank(e event, last *event) int {
	if e.onTgt == last.onTgt {
		return 0
	}
	return 1
}

func stamp(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02 15:04:05.000000")
}
