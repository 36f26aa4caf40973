package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// pair is a session on each side, both of which see what is to be compared.
type pair struct{ source, target *pgx.Conn }

// verifySettings make a session's statements cheap to plan and bounded in memory.
// One session uses one core: dhow runs several of them, as the limits say.
const verifySettings = "SET application_name = 'dhow verify'; SET jit = off; SET max_parallel_workers_per_gather = 0; SET work_mem = '" + verifyMemory + "'"

// connect opens a pair; under pins it sees their snapshots.
func (v *verifier) connect(ctx context.Context) (_ *pair, err error) {
	p := &pair{}
	defer func() {
		if err != nil {
			p.close(ctx)
		}
	}()
	if p.source, err = v.m.source(ctx); err != nil {
		return nil, err
	}
	if p.target, err = v.m.target(ctx); err != nil {
		return nil, err
	}
	err = p.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, verifySettings); err != nil {
			return fmt.Errorf("prepare a session of the comparison: %w", err)
		}
		if v.pins == nil {
			return nil
		}
		return importSnapshot(ctx, conn, [2]pin{v.pins.source, v.pins.target}[i].snapshot)
	})
	return p, err
}

// both runs do on both sides at once: 0 is the source, 1 the target.
func (p *pair) both(ctx context.Context, do func(ctx context.Context, i int, conn *pgx.Conn) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := do(ctx, 0, p.source); err != nil {
			return fmt.Errorf("on the source: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := do(ctx, 1, p.target); err != nil {
			return fmt.Errorf("on the target: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// unlocking does something with a pair's sessions and gives back the locks that
// this takes. A session that sees a snapshot is in one transaction all the time,
// and the application's TRUNCATE on the side that serves would wait for its end.
func (v *verifier) unlocking(ctx context.Context, p *pair, do func() error) error {
	if v.pins == nil {
		return do()
	}
	each := func(sql string) error {
		return p.both(ctx, func(ctx context.Context, _ int, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, sql); err != nil {
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
	return each("ROLLBACK TO SAVEPOINT dhow_unit; RELEASE SAVEPOINT dhow_unit")
}

func (p *pair) close(ctx context.Context) {
	for _, conn := range []*pgx.Conn{p.source, p.target} {
		if conn != nil {
			hangUp(ctx, conn)
		}
	}
}
