package cli_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dhow/internal/cutover"
	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/redisserver"
	"dhow/internal/redisserver/redistest"
)

// harbour is a stage with a server of each engine on both sides.
type harbour struct {
	*stage
	maria map[cutover.Side]*mariadbserver.Server
	redis map[cutover.Side]*redisserver.Server
}

// cards is what the MariaDB source holds: rows of their own, and a table without a key.
const cards = `
	CREATE DATABASE cards;
	CREATE TABLE cards.card (id bigint AUTO_INCREMENT PRIMARY KEY, owner varchar(60) NOT NULL, UNIQUE (owner)) ENGINE=InnoDB;
	CREATE TABLE cards.movement (id bigint PRIMARY KEY, card bigint NOT NULL, amount decimal(12,2) NOT NULL, FOREIGN KEY (card) REFERENCES cards.card (id)) ENGINE=InnoDB;
	INSERT INTO cards.card (owner) SELECT CONCAT('owner ', seq) FROM seq_1_to_300;
	INSERT INTO cards.movement SELECT seq, 1 + seq MOD 300, seq / 100 FROM seq_1_to_4000;`

func newHarbour(t *testing.T) *harbour {
	t.Helper()
	h := &harbour{stage: newStage(t, 15, 15), maria: map[cutover.Side]*mariadbserver.Server{}, redis: map[cutover.Side]*redisserver.Server{}}
	for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
		h.maria[side], h.redis[side] = mariadbtest.Start(t), redistest.Start(t, "repl-ping-replica-period", "1")
	}
	h.create(t, "ledger")
	if err := h.maria[cutover.Source].Exec(t.Context(), "mysql", cards); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		h.set(t, cutover.Source, fmt.Sprint("session:", i), "seed")
	}
	return h
}

func (h *harbour) client(t *testing.T, side cutover.Side) *redis.Client {
	t.Helper()
	s := h.redis[side]
	return redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Password: s.Password()})
}

func (h *harbour) set(t *testing.T, side cutover.Side, key, value string) {
	t.Helper()
	c := h.client(t, side)
	defer c.Close()
	if err := c.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// estate writes the estate of the three.
func (h *harbour) estate(t *testing.T) *place {
	t.Helper()
	p := h.estateOf(t, "", nil, "ledger")
	var b strings.Builder
	add := func(name, engine string, port func(cutover.Side) int, password func(cutover.Side) string, more string) {
		fmt.Fprintf(&b, "  - name: %s\n    engine: %s\n", name, engine)
		for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
			secret := fmt.Sprintf("%s-%s.password", name, side)
			write(t, filepath.Join(p.dir, secret), password(side)+"\n")
			fmt.Fprintf(&b, "    %s: {host: 127.0.0.1, port: %d, password: {file: %s}%s}\n", side, port(side), secret, more)
		}
		p.databases = append(p.databases, name)
	}
	add("cards", "mariadb", func(s cutover.Side) int { return h.maria[s].Port }, func(s cutover.Side) string { return h.maria[s].Password() }, ", user: "+h.maria[cutover.Source].User())
	add("sessions", "redis", func(s cutover.Side) int { return h.redis[s].Port }, func(s cutover.Side) string { return h.redis[s].Password() }, "")
	write(t, p.file(), string(slurp(t, p.file()))+b.String()+roomy)
	return p
}

// write writes one row and key of each engine at a side, as its application would.
func (h *harbour) write(t *testing.T, side cutover.Side, n int) {
	t.Helper()
	h.exec(t, side, "ledger", fmt.Sprintf("INSERT INTO entries (key, account, amount) VALUES ('new-%d', 1, %d)", n, n))
	if err := h.maria[side].Exec(t.Context(), "cards", fmt.Sprintf("INSERT INTO card (owner) VALUES ('new %d')", n)); err != nil {
		t.Fatal(err)
	}
	h.set(t, side, fmt.Sprint("new:", n), fmt.Sprint(n))
}

// refuses fails where an engine's side still takes writes.
func (h *harbour) refuses(t *testing.T, side cutover.Side) {
	t.Helper()
	ctx := context.Background()
	if err := h.server(side).Exec(ctx, "ledger", "INSERT INTO entries (key, account, amount) VALUES ('never', 1, 1)"); err == nil {
		t.Errorf("PostgreSQL's %s takes writes", side)
	}
	if err := h.maria[side].Exec(ctx, "cards", "INSERT INTO card (owner) VALUES ('never')"); err == nil {
		t.Errorf("MariaDB's %s takes writes", side)
	}
	c := h.client(t, side)
	defer c.Close()
	if err := c.Set(ctx, "never", "x", 0).Err(); err == nil {
		t.Errorf("Redis's %s takes writes", side)
	}
}

// holds fails unless a side has all that was written, of each engine.
func (h *harbour) holds(t *testing.T, side cutover.Side, written int) {
	t.Helper()
	ctx := context.Background()
	if n := h.one(t, side, "ledger", "SELECT count(*)::text FROM entries"); n != fmt.Sprint(5000+written) {
		t.Errorf("PostgreSQL's %s holds %s entries, want %d", side, n, 5000+written)
	}
	db, err := h.maria[side].Open("cards")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n, highest sql.NullInt64
	if err := db.QueryRowContext(ctx, "SELECT count(*), max(id) FROM card").Scan(&n, &highest); err != nil || n.Int64 != int64(300+written) {
		t.Errorf("MariaDB's %s holds %d cards, want %d, %v", side, n.Int64, 300+written, err)
	}
	c := h.client(t, side)
	defer c.Close()
	for i := range written {
		if v, err := c.Get(ctx, fmt.Sprint("new:", i)).Result(); err != nil || v != fmt.Sprint(i) {
			t.Errorf("Redis's %s holds %q of write %d, %v", side, v, i, err)
		}
	}
}

// TestEnginesMoveAsOne moves a database of each engine there, back and there again
// by the commands alone: at every moment one side takes writes, of all of them.
func TestEnginesMoveAsOne(t *testing.T) {
	t.Parallel()
	h := newHarbour(t)
	p := h.estate(t)
	engines := []string{"postgresql", "mariadb", "redis"}

	preflight := p.run(t, 0, "preflight", "-o", "json").object(t)
	for i, e := range engines {
		is(t, preflight, e, "databases", i, "engine")
	}
	p.run(t, 0, "replicate", "--database", "sessions", "--until-streaming")
	p.run(t, 1, "cutover", "--dry-run").says(t, "is not copied yet")
	p.run(t, 0, "replicate", "--until-streaming", "-o", "json")
	written := 0
	next := func(side cutover.Side) {
		h.write(t, side, written)
		written++
	}
	next(cutover.Source)

	streaming := followed(t, p, cutover.Target)
	equal := p.run(t, 0, "verify", "-o", "json").object(t)
	for i, e := range engines {
		is(t, equal, e, "databases", i, "engine")
		is(t, equal, 0, "databases", i, "different")
		is(t, equal, 0, "databases", i, "by_table", 0, "different")
	}
	streaming.stop()
	streaming.wait(t)

	rehearsed := p.run(t, 0, "cutover", "--dry-run", "-o", "json").object(t)
	for _, d := range p.databases {
		at(t, rehearsed, "rehearsed", d, "lag_ns")
	}
	if slowest := at(t, rehearsed, "slowest"); slowest == "" {
		t.Error("the rehearsal names no slowest database")
	}
	h.refuses(t, cutover.Target)
	next(cutover.Source)

	for _, to := range []cutover.Side{cutover.Target, cutover.Source, cutover.Target} {
		run := p.run(t, 0, map[cutover.Side]string{cutover.Target: "cutover", cutover.Source: "rollback"}[to], "--yes", "-o", "json").object(t)
		is(t, run, "done", "outcome")
		for _, d := range p.databases {
			is(t, run, 0, "compared", d, "different")
			for _, b := range at(t, run, "compared", d, "by_table").([]any) {
				is(t, b, 0, "different")
				at(t, b, "took_ns")
			}
			if n := at(t, run, "compared", d, "rows").(float64); n < 500 {
				t.Errorf("only %v of %s are compared", n, d)
			}
			if moving, lost := run["compared_moving"]; lost {
				t.Errorf("the snapshots of %v were lost", moving)
			}
		}
		h.refuses(t, to.Other())
		next(to)
		status := p.run(t, 0, "status", "-o", "json").object(t)
		for i := range p.databases {
			is(t, status, to, "databases", i, "serves")
		}
		p.run(t, 0, "verify").prints(t, "both sides are equal")
		h.holds(t, to.Other(), written)
	}

	finished := p.run(t, 0, "finish", "--yes", "-o", "json").object(t)
	is(t, finished, "target", "serving")
	kinds := map[string]bool{}
	for _, l := range at(t, finished, "removed").([]any) {
		kinds[at(t, l, "database").(string)] = true
	}
	for _, d := range p.databases {
		if !kinds[d] {
			t.Errorf("finish removes nothing of %s", d)
		}
	}
	is(t, p.run(t, 0, "finish", "--yes", "-o", "json").object(t), "[]", "removed")
	next(cutover.Target)
	h.holds(t, cutover.Target, written)
}
