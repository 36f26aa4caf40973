package mariadb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dhow/internal/move"
)

// stoppable is the pace of a copy that is still far from its end when a test stops it,
// however late: rows a second.
const stoppable = 400

// stopInCopy lets a copy run until so many of its pieces are done, under so many
// snapshots, and stops it.
func (e *ends) stopInCopy(pieces, snapshots int) {
	e.tb.Helper()
	s := e.replicate(e.mover("app"))
	for began := time.Now(); !e.has(e.target, fmt.Sprintf("SELECT 1 FROM dhow.stream WHERE phase = 'copy' AND (SELECT COUNT(done_gtid) FROM dhow.chunk) >= %d AND settled_gtid LIKE '%s'", pieces, strings.Repeat("%;", snapshots-1)+"%")); time.Sleep(5 * time.Millisecond) {
		select {
		case <-s.ended:
			e.tb.Fatalf("replicate: %v", s.err)
		default:
		}
		if time.Since(began) > streamsWithin {
			e.tb.Fatal("it does not copy")
		}
	}
	s.end()
	if !e.has(e.target, "SELECT 1 FROM dhow.stream WHERE phase = 'copy'") {
		e.tb.Fatal("the copy was complete before it was stopped")
	}
}

// TestACopyGoesOnUnderASecondSnapshot stops a copy twice; meanwhile rows change
// their keys, values that must be unique wander between rows, and parents go.
func TestACopyGoesOnUnderASecondSnapshot(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "USE app", "CREATE SEQUENCE app.s", "CREATE TABLE keyless (a INT, b VARCHAR(200))", "CREATE TABLE parent (id INT PRIMARY KEY, u INT, UNIQUE KEY (u), b VARCHAR(200))",
		"CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE, b VARCHAR(300))",
		"CREATE TABLE other (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES child (id), u INT, UNIQUE KEY (u), b VARCHAR(100))",
		"INSERT INTO keyless SELECT seq % 500, REPEAT('k', 60) FROM seq_1_to_2000", "INSERT INTO parent SELECT seq, seq, REPEAT('p', 150) FROM seq_1_to_2000",
		"INSERT INTO child SELECT seq, 1 + seq % 2000, REPEAT('c', 200) FROM seq_1_to_3000", "INSERT INTO other SELECT seq, IF(seq BETWEEN 1000 AND 1900, seq, NULL), seq, REPEAT('o', 100) FROM seq_1_to_2500", "ANALYZE TABLE keyless, parent, child, other")
	e.limits = Limits{Copies: 1, RowsPerSecond: stoppable, ChunkBytes: 100 << 10}
	change := func(k int) {
		e.sql(e.source, "USE app",
			fmt.Sprintf("DELETE FROM keyless WHERE a = %d LIMIT 2", k), "INSERT INTO keyless VALUES (-1, 'new')", fmt.Sprintf("UPDATE keyless SET b = 'changed' WHERE a = %d", k+1),
			fmt.Sprintf("DELETE FROM parent WHERE id = %d", k), fmt.Sprintf("UPDATE parent SET id = id + 10000 WHERE id = %d", k+1), fmt.Sprintf("UPDATE parent SET id = %d WHERE id = %d", k, k+2), fmt.Sprintf("UPDATE parent SET u = u + 10000 WHERE id = %d", k+3), fmt.Sprintf("UPDATE parent SET u = %d WHERE id = %d", k+3, k+4),
			fmt.Sprintf("DELETE FROM other WHERE id = %d", k), fmt.Sprintf("UPDATE other SET id = %d, u = %d WHERE id = %d", k, 20000+k, k+1), fmt.Sprintf("INSERT INTO other VALUES (%d, NULL, %d, '')", 30000+k, k+1), "DO NEXTVAL(app.s)")
	}
	e.stopInCopy(1, 1)
	change(100)
	e.stopInCopy(2, 2)
	change(200)
	e.limits.RowsPerSecond = 0
	s := e.replicate(e.mover("app"))
	s.wait()
	change(300)
	s.catchUp()
	e.equal("app")
	s.end()
}

func TestAKilledSettlingGoesOn(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "USE app", "CREATE TABLE a (id INT PRIMARY KEY, b VARCHAR(200))", "CREATE TABLE z (id INT PRIMARY KEY, b VARCHAR(200))",
		"INSERT INTO a SELECT seq, REPEAT('a', 100) FROM seq_1_to_3000", "INSERT INTO z SELECT seq, REPEAT('z', 150) FROM seq_1_to_3000", "ANALYZE TABLE a, z")
	e.limits = Limits{Copies: 1, RowsPerSecond: stoppable, ChunkBytes: 100 << 10}
	e.stopInCopy(6, 1)
	// What one of the tables has to follow takes a while, in many transactions.
	for i := range 100 {
		e.sql(e.source, fmt.Sprintf("UPDATE app.a SET b = 'x%d' WHERE id %% 10 = %d", i, i%10), fmt.Sprintf("UPDATE app.z SET b = 'x%d' WHERE id %% 10 = %d", i, i%10))
	}
	e.limits.RowsPerSecond = 0
	s := e.replicate(e.mover("app"))
	for began := time.Now(); !e.has(e.target, "SELECT 1 FROM dhow.stream WHERE phase IN ('settle', 'index', 'stream')"); time.Sleep(time.Millisecond) {
		if time.Since(began) > streamsWithin {
			t.Fatal("it does not settle")
		}
	}
	s.end()
	// A server that restarts forgets which tables it was to follow, and starts by itself.
	if err := e.target.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = e.replicate(e.mover("app"))
	s.wait()
	s.catchUp()
	e.equal("app")
	s.end()
	if p := <-s.last; p.Phase != move.PhaseStream {
		t.Errorf("the last report is of phase %s", p.Phase)
	}
}
