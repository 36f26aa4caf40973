package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// Verify compares both sides in three steps, each on fewer rows than the one
// before:
//
//  1. Chunks. Each server sums the hashes of the rows of a chunk; dhow compares
//     the sums. Nothing but sums leaves the servers.
//  2. Rows. Of a chunk whose sums differ, both servers list their rows' keys and
//     hashes in the same order, and the two lists are merged as they arrive.
//  3. Looks. On moving data what the lists tell is only a suspicion, because the
//     stream is always a little behind. Suspects are looked at again, with the
//     stream's passing in between, until each is proved equal or proved
//     different; see judge.
//
// What does not move (a pinned snapshot, a sealed source) needs no third step.
//
// Memory is bounded in all three: sums, one row of each list, at most
// suspectBatch suspects. Sessions are bounded by Limits.Copies on each side (two
// at least), and one more for a moment in the last resort.

const (
	// verifyMemory is the memory of a sort on a server, per session.
	verifyMemory = "16MB"
	// suspectBatch is how many suspects are looked at together.
	suspectBatch = 1000
	// ownTypes is the first OID that a server gives by itself; types below have the same on every server.
	ownTypes = 16384
)

// comparedTable is a table that is on both sides.
type comparedTable struct {
	source, target *Table
	columns        []Column // those that both sides have
	key            []Column
	text           string   // the row's text, the same expression on both sides
	keyTexts       []string // the key's columns as text
	mixed          bool     // the sides keep texts in different encodings
	left           atomic.Int64
}

// keyless tables are compared as what they are: rows of which there are so and so many.
func (t *comparedTable) keyless() bool { return len(t.key) == 0 }

// verifier is one run of Verify.
type verifier struct {
	m     *Mover
	o     move.VerifyOptions
	pins  *pins // the snapshots to compare; nil: the data as it is
	exact bool  // nothing moves: one look decides
	// pass returns true once the target has applied all that the source had
	// committed at the call, or false after the patience; 0 has no end.
	pass func(ctx context.Context, patience time.Duration) (bool, error)
	// leftOut counts the changes that a stream of our own left out since the repair began.
	leftOut func() int64

	// mixed: the two databases keep their texts in different encodings.
	mixed bool

	leading  sync.Mutex // guards lead, which plans and looks again
	lead     *pair
	progress *progress
	found    move.Findings
	suspects chan suspect
}

// Verify compares both sides chunk by chunk and names every differing row.
func (m *Mover) Verify(ctx context.Context, o move.VerifyOptions, report func(move.Progress)) (move.Comparison, error) {
	if o.Most <= 0 {
		o.Most = move.DefaultMostDifferences
	}
	if report == nil {
		report = func(move.Progress) {}
	}
	v := &verifier{m: m, o: o, progress: newProgress(m.cfg.Name, report), suspects: make(chan suspect, suspectBatch)}
	v.found.Most = o.Most
	if o.Pinned {
		if o.Repair || len(o.Tables) > 0 {
			return move.Comparison{}, errors.New("what is pinned can not be repaired, and is compared whole: compare the moving data")
		}
		m.mu.Lock()
		v.pins = m.pins
		m.mu.Unlock()
		if v.pins == nil {
			return move.Comparison{}, fmt.Errorf("no snapshot of database %s is pinned: it is pinned during the cutover and lasts as long as that process", m.cfg.Name)
		}
	}
	return v.run(ctx)
}

func (v *verifier) run(ctx context.Context) (move.Comparison, error) {
	var err error
	if v.lead, err = v.connect(ctx); err != nil {
		return move.Comparison{}, err
	}
	defer v.lead.close(ctx)
	stop, err := v.standing(ctx)
	if err != nil {
		return move.Comparison{}, err
	}
	defer stop()
	tables, sealed, err := v.tables(ctx)
	if err != nil {
		return move.Comparison{}, err
	}
	v.progress.phase(move.PhaseVerify)
	for _, t := range tables {
		v.found.Expect(t.source.Name.String())
		v.progress.board.Expect(t.source.Name.String(), estimate(t.source), t.source.Bytes)
	}
	done := v.progress.start(ctx)
	defer done()
	if err := v.compareTables(ctx, tables); err != nil {
		return move.Comparison{}, err
	}
	if n := v.leftOut(); n > 0 {
		return move.Comparison{}, &move.Refused{Reason: fmt.Sprintf("the source wrote %d times to rows of database %s that were still in each other's way while they were repaired", n, v.m.cfg.Name), Fix: "repair once more"}
	}
	if sealed && len(v.o.Tables) == 0 {
		if err := v.compareObjects(ctx); err != nil {
			return move.Comparison{}, err
		}
	}
	if v.pins != nil {
		if err := v.rewritten(ctx, tables); err != nil {
			return move.Comparison{}, err
		}
	}
	return v.found.Result(len(tables)), nil
}

// standing finds out what moves, and makes sure that moving data has a stream.
func (v *verifier) standing(ctx context.Context) (stop func(), err error) {
	v.leftOut = func() int64 { return 0 }
	v.pass = func(context.Context, time.Duration) (bool, error) { return true, nil }
	if v.pins != nil {
		v.exact = true
		return func() {}, nil
	}
	state, err := readStream(ctx, v.lead.target, v.m.stream)
	if err != nil {
		return nil, err
	}
	if state == nil || state.Phase != phaseStream {
		return nil, &move.Refused{Reason: fmt.Sprintf("database %s is not copied whole yet: there is nothing to compare", v.m.cfg.Name), Fix: "run `dhow replicate` until it streams"}
	}
	closed, err := fenced(ctx, v.lead.target, v.m.moveName())
	if err != nil {
		return nil, err
	}
	if !closed {
		return nil, &move.Refused{Reason: fmt.Sprintf("the target of database %s takes writes of its own, so its rows are not those of the source any more", v.m.cfg.Name), Fix: "compare the way back, after the cutover, with `dhow verify`; the cutover itself compared what it had pinned"}
	}
	if v.exact, err = fenced(ctx, v.lead.source, v.m.moveName()); err != nil {
		return nil, err
	}
	if v.exact {
		return func() {}, nil
	}
	return v.followStream(ctx)
}

// tables pairs the tables of both sides; what only one side has is a difference.
// Sealed says whether sequences and large objects were handed over already.
func (v *verifier) tables(ctx context.Context) (tables []*comparedTable, sealed bool, err error) {
	sealed = v.exact
	if v.pins != nil { // the snapshot shows what was before the seal
		conn, err := v.m.source(ctx)
		if err != nil {
			return nil, false, err
		}
		sealed, err = fenced(ctx, conn, v.m.moveName())
		hangUp(ctx, conn)
		if err != nil {
			return nil, false, err
		}
	}
	var catalogs [2]*Catalog
	if err := v.lead.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) (err error) {
		catalogs[i], err = v.m.catalog(ctx, conn)
		return err
	}); err != nil {
		return nil, false, err
	}
	source, target := catalogs[0], catalogs[1]
	if v.mixed, err = v.encodings(ctx); err != nil {
		return nil, false, err
	}
	if len(v.o.Tables) > 0 {
		if err := v.confine(source, target); err != nil {
			return nil, false, err
		}
	}
	for _, lists := range [][2][]*Table{{source.Tables, target.Tables}, {source.Roots, target.Roots}} {
		for i, kind := range []move.Kind{move.Missing, move.Extra} {
			other := Catalog{Tables: lists[1-i]}
			for _, t := range lists[i] {
				if other.table(t.Name) == nil {
					v.found.Object(t.Name.String(), "table", kind)
				}
			}
		}
	}
	for _, s := range source.Tables {
		t := target.table(s.Name)
		switch {
		case t == nil:
		case s.Unlogged && !sealed:
			// Its changes are in no log, so none was streamed: it is what the copy
			// found. Only the end of the move can tell whether that is enough.
			v.m.log.Info("an unlogged table is compared at the cutover only", "table", s.Name.String())
		default:
			tables = append(tables, v.joined(s, t))
		}
	}
	slices.SortStableFunc(tables, func(a, b *comparedTable) int { return int(min(max(b.source.Bytes-a.source.Bytes, -1), 1)) })
	return tables, sealed, nil
}

// confine leaves only the named tables in both catalogs; rows of a partitioned
// table are in its partitions, so those are named.
func (v *verifier) confine(both ...*Catalog) error {
	unknown := slices.Clone(v.o.Tables)
	for _, c := range both {
		for _, t := range c.Tables {
			unknown = slices.DeleteFunc(unknown, func(name string) bool { return name == t.Name.String() })
		}
	}
	if len(unknown) > 0 {
		return &move.Refused{Reason: fmt.Sprintf("no table %s moves with database %s", strings.Join(unknown, ", "), v.m.cfg.Name), Fix: "name a table as schema.table, and a partitioned one by its partitions"}
	}
	for _, c := range both {
		c.Tables = slices.DeleteFunc(c.Tables, func(t *Table) bool { return !slices.Contains(v.o.Tables, t.Name.String()) })
		c.Roots = nil
	}
	return nil
}

// joined pairs a table's columns by name. Generated ones are compared too.
func (v *verifier) joined(s, t *Table) *comparedTable {
	c := &comparedTable{source: s, target: t, mixed: v.mixed}
	for _, col := range s.Columns {
		other := t.column(col.Name)
		switch {
		case other == nil:
			v.found.Object(s.Name.String(), "column "+col.Name, move.Missing)
		case col.TypeOID != other.TypeOID && min(col.TypeOID, other.TypeOID) < ownTypes:
			v.found.Object(s.Name.String(), fmt.Sprintf("column %s: type %s instead of %s", col.Name, other.Type, col.Type), move.Changed)
		default:
			c.columns = append(c.columns, col)
		}
	}
	for _, col := range t.Columns {
		if s.column(col.Name) == nil {
			v.found.Object(s.Name.String(), "column "+col.Name, move.Extra)
		}
	}
	c.text = rowText(c.columns, v.mixed)
	for _, k := range s.Key {
		if !slices.ContainsFunc(c.columns, func(col Column) bool { return col.Name == k }) {
			c.key, c.keyTexts = nil, nil
			break
		}
		c.key = append(c.key, *s.column(k))
		c.keyTexts = append(c.keyTexts, "concat(t."+identifiers([]string{k})+")")
	}
	return c
}

// encodings says whether the servers keep the same text in different bytes.
func (v *verifier) encodings(ctx context.Context) (mixed bool, err error) {
	var names [2]string
	err = v.lead.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&names[i])
	})
	if err != nil {
		return false, fmt.Errorf("read the encodings: %w", err)
	}
	return names[0] != names[1], nil
}

// compareTables sends the tables' chunks through the workers, and their suspects to one that looks again.
func (v *verifier) compareTables(ctx context.Context, tables []*comparedTable) error {
	units := make(chan *unit)
	pace := move.NewPace(v.m.limits.RowsPerSecond)
	g, gctx := errgroup.WithContext(ctx)
	workers, wctx := errgroup.WithContext(gctx)
	g.Go(func() error {
		defer close(units)
		for _, t := range tables {
			list, err := v.plan(wctx, t)
			if wctx.Err() != nil {
				return gctx.Err() // a worker that failed says why
			}
			if err != nil {
				return fmt.Errorf("cut table %s into chunks: %w", t.source.Name, err)
			}
			for _, u := range list {
				select {
				case units <- u:
				case <-wctx.Done():
					return gctx.Err()
				}
			}
		}
		return nil
	})
	for range max(1, v.m.limits.Copies-1) {
		workers.Go(func() error {
			var p *pair
			for u := range units {
				if p == nil { // no session for a worker without work
					var err error
					if p, err = v.connect(wctx); err != nil {
						return err
					}
					defer p.close(wctx)
				}
				if err := v.unlocking(wctx, p, func() error { return v.compare(wctx, p, u) }); err != nil {
					return fmt.Errorf("compare table %s: %w", u.table.source.Name, withoutDetail(err))
				}
				if err := pace.Took(wctx, u.rows); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(v.suspects)
		return workers.Wait()
	})
	g.Go(func() error { return v.lookAgain(gctx) })
	return g.Wait()
}
