package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// copiedSchema is a large table with a key, one without, and small ones.
const copiedSchema = `
	CREATE TABLE big (id bigint PRIMARY KEY, v text);
	CREATE TABLE keyless (a int, b text); ALTER TABLE keyless REPLICA IDENTITY FULL;
	CREATE TABLE small_1 (id int PRIMARY KEY); CREATE TABLE small_2 (id int PRIMARY KEY);
	INSERT INTO big SELECT n, repeat('x', 1500) FROM generate_series(1, 20000) n;
	INSERT INTO keyless SELECT n % 100, repeat('y', 50) FROM generate_series(1, 20000) n;
	INSERT INTO small_1 SELECT n FROM generate_series(1, 100) n; INSERT INTO small_2 SELECT n FROM generate_series(1, 100) n;`

// helper is a mover of the same move, as another process has it, with a pace of its own.
func helper(t *testing.T, m *Mover, rowsPerSecond int) *Mover {
	t.Helper()
	cfg := m.cfg
	cfg.Limits.RowsPerSecond = rowsPerSecond
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	other, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(context.Background()) })
	return other
}

// TestAssist lets helpers take part in copies: from before the beginning to the
// end, killed in the middle, and with an owner that is killed and starts again,
// while the application writes.
func TestAssist(t *testing.T) {
	if testing.Short() {
		t.Skip("takes real servers: not with -short (testing.Short)")
	}
	// The owner is so slow that there is work left, however late the helpers come.
	limits := Limits{ChunkBytes: 5 << 20, Copies: 1, RowsPerSecond: 2500}
	for name, c := range map[string]struct {
		killHelper, killOwner bool
	}{"to the end": {}, "a killed helper": {killHelper: true}, "a killed owner": {killOwner: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, source, target := empties(t, 15, 15, copiedSchema, limits)
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
			defer stop()
			var all sync.WaitGroup
			defer all.Wait()
			var helped [2]atomic.Int64
			for i := range helped {
				h := helper(t, m, 10_000)
				all.Go(func() {
					for i == 0 && c.killHelper && ctx.Err() == nil { // killed over and over
						short, kill := context.WithTimeout(ctx, 1500*time.Millisecond)
						err := h.Assist(short, i, len(helped), func(move.Progress) {})
						kill()
						if err == nil {
							return
						}
					}
					if err := h.Assist(ctx, i, len(helped), func(p move.Progress) { helped[i].Store(p.Rows) }); err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("a helper ends with %v", err)
					}
				})
			}
			writing, enough := context.WithCancel(ctx)
			all.Go(func() { keepWriting(writing, t, m.cfg.Source) })
			for try := 0; ; try++ {
				short, kill := ctx, func() {}
				if c.killOwner && try < 3 {
					short, kill = context.WithTimeout(ctx, 2*time.Second)
				}
				_, err := m.load(short, func(move.Progress) {})
				kill()
				if err == nil {
					break
				}
				if ctx.Err() != nil || short.Err() == nil {
					t.Fatalf("the copy ends with %v", err)
				}
			}
			enough()
			streamed(ctx, t, m)
			if rows := helped[0].Load() + helped[1].Load(); rows == 0 && !c.killHelper {
				t.Error("the helpers copied nothing")
			} else {
				t.Logf("the helpers copied %d rows", rows)
			}
			sameContent(t, source, target)
		})
	}
}

// keepWriting goes on changing rows of all tables.
func keepWriting(ctx context.Context, t *testing.T, cfg *pgx.ConnConfig) {
	t.Helper()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for n := 1; ctx.Err() == nil; n++ {
		if _, err := conn.Exec(ctx, `UPDATE big SET v = 'changed ' || $1 WHERE id = ($1 * 37) % 20000; `, n); err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
		if _, err := conn.Exec(ctx, `INSERT INTO keyless VALUES ($1, 'new')`, n); err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
	}
}

// streamed runs the stream until the target has all that was written.
func streamed(ctx context.Context, t *testing.T, m *Mover) {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Replicate(ctx, func(move.Progress) {}) }()
	for {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := m.Rehearse(short)
		cancel()
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			stop()
			t.Fatalf("the stream ends with %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ends with %v", err)
	}
}
