package mariadb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// Verify compares both sides in three steps, each on fewer rows than the one before:
//
//  1. Chunks. Each server sums up the digests of the rows of a chunk; dhow compares
//     the sums. Nothing but sums leaves the servers.
//  2. Rows. Of a chunk whose sums differ both servers list their rows' keys and
//     digests in the same order, and the two lists are merged as they arrive.
//  3. Looks. On moving data what the lists tell is only a suspicion, because the
//     stream is always a little behind. Suspects are looked at again, with the
//     stream's passing in between, and in the end under a short lock of those very
//     rows at the source: then nothing of them is under way, and what differs differs.
//
// What does not move (a pinned snapshot, a sealed source) needs no third step.
//
// Memory is bounded in all three: sums, one row of each list, at most suspectBatch
// suspects. Sessions are bounded by Limits.Copies on each side (two at least).

const (
	// suspectBatch is how many suspects are looked at together: few enough for a
	// condition that the servers search their indexes by.
	suspectBatch = 200
	// chunkRowsMost and chunkRowsLeast bound a chunk: some tenths of a second of one core.
	chunkRowsMost, chunkRowsLeast = 100_000, 1_000
	// chunkBytes is a chunk's size by the table's average.
	chunkBytes = 16 << 20
	// reportEvery is how often progress is told.
	reportEvery = 500 * time.Millisecond
	// smallestPacket is the least max_allowed_packet with which every row's text can be put together.
	smallestPacket = 1 << 20
)

// verifier is one run of Verify.
type verifier struct {
	m     *Mover
	o     move.VerifyOptions
	pins  *pins // the snapshots to compare; nil: the data as it is
	exact bool  // nothing moves: one look decides
	plain *pair // sees the data as it is, also beside snapshots

	lead     *pair   // plans
	looks    *looker // looks again
	found    move.Findings
	told     teller
	suspects chan suspect
}

// workers are the pairs of sessions that compare, beside the one that plans.
func (m *Mover) workers() int { return max(1, m.limits.Copies-1) }

// Verify compares both sides chunk by chunk and names every differing row.
func (m *Mover) Verify(ctx context.Context, o move.VerifyOptions, report func(move.Progress)) (move.Comparison, error) {
	var state move.State
	if !o.Pinned {
		var err error
		if state, err = m.State(ctx); err != nil {
			return move.Comparison{}, err
		}
	}
	return m.verify(ctx, o, report, state)
}

// verify compares, where the move stands as state says.
func (m *Mover) verify(ctx context.Context, o move.VerifyOptions, report func(move.Progress), state move.State) (move.Comparison, error) {
	if o.Most <= 0 {
		o.Most = move.DefaultMostDifferences
	}
	v := &verifier{m: m, o: o, suspects: make(chan suspect, suspectBatch)}
	v.told.report, v.told.board.Database = report, m.cfg.Name
	v.found.Most = o.Most
	switch {
	case o.Pinned && (o.Repair || len(o.Tables) > 0):
		return move.Comparison{}, errors.New("what is pinned can not be repaired, and is compared whole: compare the moving data")
	case o.Pinned:
		m.mu.Lock()
		v.pins = m.pins
		m.mu.Unlock()
		if v.pins == nil || !v.pins.pinned {
			return move.Comparison{}, fmt.Errorf("no snapshot of database %s is pinned: it is pinned during the cutover and lasts as long as that process", m.cfg.Name)
		}
		v.pins.using.Lock()
		defer v.pins.using.Unlock()
		v.exact = true
	case !state.Copied:
		return move.Comparison{}, &move.Refused{Reason: fmt.Sprintf("database %s is not copied whole yet: there is nothing to compare", m.cfg.Name), Fix: "run `dhow replicate` until it streams"}
	case state.Open:
		return move.Comparison{}, &move.Refused{Reason: fmt.Sprintf("the target of database %s takes writes of its own, so its rows are not those of the source any more", m.cfg.Name), Fix: "compare the way back, after the cutover, with `dhow verify`; the cutover itself compared what it had pinned"}
	default:
		v.exact = state.Sealed
	}
	return v.run(ctx)
}

func (v *verifier) run(ctx context.Context) (found move.Comparison, err error) {
	if v.plain, err = v.m.openPair(ctx); err != nil {
		return move.Comparison{}, err
	}
	defer v.plain.close()
	if v.o.Repair {
		if err := v.m.restoreTriggers(ctx); err != nil {
			return move.Comparison{}, err
		}
	}
	if v.lead = v.plain; v.pins != nil {
		v.lead = v.pins.pairs[0]
	}
	if !v.exact {
		follows, stop, err := v.followStream(ctx)
		if err != nil {
			return move.Comparison{}, err
		}
		defer func() {
			if e := stop(); e != nil { // why the stream ended says more than that its end was noticed
				err = e
			}
		}()
		ctx = follows
	}
	v.looks = &looker{v: v}
	defer v.looks.close()
	catalogs, err := v.catalogs(ctx)
	if err != nil {
		return move.Comparison{}, err
	}
	tables, err := v.tables(catalogs)
	if err != nil {
		return move.Comparison{}, err
	}
	v.told.board.Begin(move.PhaseVerify, 0)
	for _, t := range tables {
		v.found.Expect(t.source.String())
		v.told.board.Expect(t.source.String(), t.source.Rows, t.source.Bytes)
	}
	if err := v.compareTables(ctx, tables); err != nil {
		return move.Comparison{}, err
	}
	if v.exact && len(v.o.Tables) == 0 {
		if err := v.compareCounters(ctx, catalogs); err != nil {
			return move.Comparison{}, err
		}
	}
	v.told.tell(true)
	return v.found.Result(len(tables)), nil
}

// catalogs reads both sides', and makes sure that the servers can put a row's text together.
func (v *verifier) catalogs(ctx context.Context) (of [2]*Catalog, err error) {
	return of, v.plain.bothSides(ctx, func(ctx context.Context, i int, q querier) (err error) {
		var packet int64
		if err := q.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&packet); err != nil {
			return fmt.Errorf("ask for max_allowed_packet: %w", err)
		}
		if packet < smallestPacket {
			return &move.Refused{Reason: fmt.Sprintf("max_allowed_packet is %d on the %s: the server can not put the text of a large row together", packet, v.m.named([]string{source, target}[i])), Fix: "SET GLOBAL max_allowed_packet = 16777216"}
		}
		of[i], err = v.m.catalog(ctx, q)
		return err
	})
}

// tables pairs the tables of both sides; what only one side has is a difference.
func (v *verifier) tables(catalogs [2]*Catalog) (tables []*comparedTable, err error) {
	source, target := catalogs[0], catalogs[1]
	if len(v.o.Tables) > 0 {
		if err := v.confine(source, target); err != nil {
			return nil, err
		}
	}
	for i, kind := range []move.Kind{move.Missing, move.Extra} {
		for _, t := range catalogs[i].Tables {
			if catalogs[1-i].Table(t.Name) == nil {
				v.found.Object(t.String(), "table", kind)
			}
		}
	}
	for _, s := range source.Tables {
		t := target.Table(s.Name)
		switch {
		case t == nil:
		case v.pins != nil && (!s.Transactional() || !t.Transactional()):
			// A snapshot does not show such a table as it was.
			v.found.Undecided(max(1, s.Rows))
			v.m.log.Warn("a table whose engine knows no snapshots can not be compared as it was under the fence", "table", s.String(), "engine", s.Engine)
		default:
			tables = append(tables, v.joined(s, t))
		}
	}
	slices.SortStableFunc(tables, func(a, b *comparedTable) int { return int(min(max(b.source.Bytes-a.source.Bytes, -1), 1)) })
	return tables, nil
}

// confine leaves only the named tables in both catalogs.
func (v *verifier) confine(both ...*Catalog) error {
	unknown := slices.Clone(v.o.Tables)
	for _, c := range both {
		for _, t := range c.Tables {
			unknown = slices.DeleteFunc(unknown, func(name string) bool { return name == t.String() })
		}
	}
	if len(unknown) > 0 {
		return &move.Refused{Reason: fmt.Sprintf("no table %s moves with database %s", strings.Join(unknown, ", "), v.m.cfg.Name), Fix: "name a table as database.table"}
	}
	for _, c := range both {
		c.Tables = slices.DeleteFunc(c.Tables, func(t *Table) bool { return !slices.Contains(v.o.Tables, t.String()) })
	}
	return nil
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
			err := v.plan(wctx, t, units)
			if wctx.Err() != nil {
				return gctx.Err() // a worker that failed says why
			}
			if err != nil {
				return fmt.Errorf("cut table %s into chunks: %w", t.source, err)
			}
		}
		return nil
	})
	for i := range v.m.workers() {
		workers.Go(func() error {
			var p *pair
			if v.pins != nil {
				p = v.pins.pairs[1+i]
			}
			for u := range units {
				if p == nil { // no session for a worker without work
					var err error
					if p, err = v.m.openPair(wctx); err != nil {
						return err
					}
					defer p.close()
				}
				if err := v.unlocking(wctx, p, func() error { return v.compare(wctx, p, u) }); err != nil {
					return fmt.Errorf("compare table %s: %w", u.table.source, err)
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

// unlocking does something with a pair's sessions and gives back the locks that this
// takes. A session that sees a snapshot is in one transaction all the time, and the
// application's ALTER or TRUNCATE on the side that serves would wait for its end.
func (v *verifier) unlocking(ctx context.Context, p *pair, do func() error) error {
	if v.pins == nil {
		return do()
	}
	each := func(sql string) error {
		return p.bothSides(ctx, func(ctx context.Context, _ int, q querier) error {
			if _, err := q.ExecContext(ctx, sql); err != nil {
				return fmt.Errorf("give back the locks: %w", err)
			}
			return nil
		})
	}
	if err := each("SAVEPOINT dhow_unit"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return each("ROLLBACK TO SAVEPOINT dhow_unit")
}
