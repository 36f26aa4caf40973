package mariadb

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dhow/internal/move"
)

// TestFenceAndSealAreQuick takes the time of both with a hundred tables, while the
// application writes until the gate would hold it and some tables' numbers differ.
func TestFenceAndSealAreQuick(t *testing.T) {
	e := startEnds(t)
	const tables, most = 100, 2 * time.Second // most: only that it is not another order of magnitude, on any machine
	statements := []string{"CREATE DATABASE app"}
	for i := range tables {
		statements = append(statements, fmt.Sprintf("CREATE TABLE app.t%d (id INT AUTO_INCREMENT PRIMARY KEY, v INT, w VARCHAR(100))", i))
	}
	e.sql(e.source, statements...)
	c := cross(e, "app")
	var done atomic.Bool
	var wg sync.WaitGroup
	db, err := e.open(e.source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for w := range 4 {
		wg.Go(func() {
			for n := 0; !done.Load(); n++ {
				_, err := db.ExecContext(context.Background(), fmt.Sprintf("INSERT INTO app.t%d (v, w) VALUES (%d, 'some text')", (w*31+n)%tables, n))
				if err != nil && !isNumber(err, errRefused) {
					t.Error(err)
				}
				time.Sleep(2 * time.Millisecond) // a load, not the machine's limit
			}
		})
	}
	defer func() { done.Store(true); wg.Wait() }()
	step(t, "prepare", c.there.Prepare)
	for i := range 5 {
		e.sql(e.source, "BEGIN", fmt.Sprintf("INSERT INTO app.t%d (v) VALUES (1)", i), "ROLLBACK")
	}
	timed := func(what string, do func(context.Context) error) time.Duration {
		began := time.Now()
		step(t, what, do)
		return time.Since(began)
	}
	var mk move.Marker
	fence := timed("fence", func(ctx context.Context) (err error) { mk, err = c.there.Fence(ctx); return err })
	step(t, "catch up", func(ctx context.Context) error { return c.there.CatchUp(ctx, mk) })
	c.stream.end()
	pin := timed("pin", c.there.Pin)
	seal := timed("seal", c.there.Seal)
	open := timed("open", c.there.Open)
	t.Logf("%d tables: fence %s, pin %s, seal %s, open %s", tables, fence, pin, seal, open)
	if fence+seal > most {
		t.Errorf("fence and seal take %s", fence+seal)
	}
}

// TestPrepareBesideAnOpenTransaction: who holds a table of the target open does not
// keep a cutover from being prepared, and is named; sealing does what was left.
func TestPrepareBesideAnOpenTransaction(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO app.t (v) VALUES (1)")
	c := cross(e, "app")
	e.sql(e.source, "BEGIN", "INSERT INTO app.t (v) VALUES (2), (3)", "ROLLBACK")
	db, err := e.open(e.target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM app.t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c.there.log = slog.New(slog.NewTextHandler(&said, nil))
	step(t, "prepare", c.there.Prepare)
	if text := said.String(); !strings.Contains(text, "held open") || !strings.Contains(text, "session ") {
		t.Errorf("it says %q", text)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	c.over(c.there, c.back)
	next := "SELECT auto_increment FROM information_schema.tables WHERE table_schema = 'app' AND table_name = 't'"
	if from, to := e.value(e.source, next), e.value(e.target, next); from != to {
		t.Errorf("the next number is %s, at the source %s", to, from)
	}
}
