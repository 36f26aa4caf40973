package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/pgserver/pgtest"
)

// TestVerifyAcrossEncodings compares texts whose bytes differ though they are the same.
func TestVerifyAcrossEncodings(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL servers: not with -short (testing.Short)")
	}
	ctx := context.Background()
	var cfgs [2]*pgx.ConnConfig
	var conns [2]*pgx.Conn
	for i, encoding := range []string{"LATIN1", "UTF8"} {
		s := pgtest.Start(t, 15)
		if err := s.Exec(ctx, "postgres", "CREATE DATABASE app TEMPLATE template0 ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
			t.Fatal(err)
		}
		var err error
		if cfgs[i], err = pgx.ParseConfig(s.URL("app")); err != nil {
			t.Fatal(err)
		}
		cfgs[i].RuntimeParams["client_encoding"] = "UTF8"
		if conns[i], err = pgx.ConnectConfig(ctx, cfgs[i]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close(ctx) })
	}
	source, target := conns[0], conns[1]
	if _, err := source.Exec(ctx, `CREATE TABLE words (w text PRIMARY KEY, c char(5), v varchar(9), b bpchar, j jsonb); CREATE TABLE bag (w text); ALTER TABLE bag REPLICA IDENTITY FULL;
		INSERT INTO words SELECT 'wörd ' || i, 'é', NULLIF('ß' || i % 3, 'ß0'), 'ü ', jsonb_build_object('ä', i) FROM generate_series(1, 30000) i;
		INSERT INTO words VALUES ('', '', '', NULL, NULL), ('zz', NULL, NULL, '', '{}'), ('éé', NULL, '', NULL, 'null'); INSERT INTO bag SELECT 'æ' || i % 7 FROM generate_series(1, 5000) i; ANALYZE`); err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Estate: "test", Name: "app", Source: cfgs[0], Target: cfgs[1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(ctx) })
	if _, err := m.load(ctx, func(move.Progress) {}); err != nil {
		t.Fatal(err)
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}))
	plant(t, target, "UPDATE words SET v = NULL WHERE w = ''; UPDATE words SET c = 'e' WHERE w = 'wörd 77'; DELETE FROM words WHERE w = 'éé'; INSERT INTO bag VALUES ('æ')")
	want := []string{"extra public.bag (æ)", "changed public.words w=", "changed public.words w=wörd 77", "missing public.words w=éé"}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}), want...)
	c := verify(t, m, move.VerifyOptions{Repair: true})
	if c.Different != 4 || c.Repaired != 4 {
		t.Errorf("%d of %d rows were repaired: %s", c.Repaired, c.Different, strings.Join(want, ", "))
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}))
}
