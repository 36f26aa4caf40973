package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestDealingOutlivesASession cuts a stream off when its lanes have come to
// different places, changes how the tables' rows are to be dealt out, and lets
// the stream go on: nothing may be left out, and nothing applied twice.
func TestDealingOutlivesASession(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL servers: not with -short (testing.Short)")
	}
	const lanes = 3 // of streaming
	tables := []string{"a", "b", "c", "d", "e", "f"}
	var schema, work, unique strings.Builder
	for _, n := range tables {
		fmt.Fprintf(&schema, "CREATE TABLE %s (id int PRIMARY KEY, u int); INSERT INTO %[1]s SELECT i, i FROM generate_series(1, 60) i; ", n)
		fmt.Fprintf(&work, "UPDATE %s SET u = u + 1000; DELETE FROM %[1]s WHERE id %% 5 = 0; INSERT INTO %[1]s SELECT i, -i FROM generate_series(100, 160) i; ", n)
		fmt.Fprintf(&unique, "ALTER TABLE %s ADD UNIQUE (u); ", n)
	}
	m, source, target := ends(t, 15, 15, schema.String())
	ctx := context.Background()
	closeTarget(t, m, target)
	stop := streaming(t, m, source, target)
	settle(t, m, source)
	other, err := pgx.ConnectConfig(ctx, m.cfg.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	// One row is locked on the target: its lane waits, the others do not.
	exec(other, "BEGIN; SELECT FROM a WHERE id = 7 FOR UPDATE")
	exec(source, "BEGIN; "+work.String()+"COMMIT")
	for until := time.Now().Add(30 * time.Second); ; {
		var places int
		if err := target.QueryRow(ctx, "SELECT count(*) FROM dhow.position WHERE stream = $1", m.stream).Scan(&places); err != nil {
			t.Fatal(err)
		}
		if places == lanes-1 { // nothing was applied before
			break
		}
		if time.Now().After(until) {
			t.Fatal("the lanes did not come to different places")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	exec(other, "ROLLBACK")
	exec(target, unique.String())
	exec(source, unique.String())
	stop = again(t, m, target)
	exec(source, "UPDATE a SET u = 5000 WHERE id = 1; DELETE FROM b WHERE id = 101")
	settle(t, m, source)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameContent(t, source, target)
	var together int
	if err := target.QueryRow(ctx, "SELECT count(*) FROM dhow.dealing WHERE together AND schema_name = 'public'").Scan(&together); err != nil {
		t.Fatal(err)
	}
	if together != len(tables) {
		t.Errorf("the rows of %d tables go through one lane each, want those of %d", together, len(tables))
	}
	// The changed dealing too outlives its session.
	stop = again(t, m, target)
	exec(source, "UPDATE c SET u = 5000 WHERE id = 1; UPDATE d SET id = id + 1000 WHERE id < 10")
	settle(t, m, source)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameContent(t, source, target)
}
