package cutover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver registers itself
)

// Journal is the durable record of cutovers: a row a step, on the disk before
// the step acts. One process writes it at a time (see Lock); others may read.
type Journal struct{ db *sql.DB }

// Run is one try to move the traffic, in either direction.
type Run struct {
	ID      int64     `json:"id"`
	To      Side      `json:"to"`
	Started time.Time `json:"started"`
	// Last is the last step that began, empty before the first.
	Last Step `json:"last"`
	// Outcome is empty while the run is unfinished.
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"`
	Steps   []Entry `json:"steps,omitempty"`
}

// Entry is a row of the journal.
type Entry struct {
	Step Step      `json:"step"`
	At   time.Time `json:"at"`
}

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Done   Outcome = "done"   // the traffic has moved
	Undone Outcome = "undone" // all is as before
)

// journalBusy bounds the wait for another reader or writer of the file.
const journalBusy = 5 * time.Second

const journalDDL = `
CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, side TEXT NOT NULL, started INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', ended INTEGER);
CREATE TABLE IF NOT EXISTS step (id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, step TEXT NOT NULL, at INTEGER NOT NULL);`

// OpenJournal opens the journal, and creates it where it is missing.
func OpenJournal(ctx context.Context, path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the journal's folder: %w", err)
	}
	// The rollback journal with synchronous=FULL has a transaction on the disk
	// when its commit returns; a write-ahead log would save little here.
	db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_pragma=journal_mode(DELETE)&_pragma=synchronous(FULL)&_pragma=busy_timeout(%d)", path, journalBusy.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("open the journal %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, journalDDL); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("prepare the journal %s (is the disk full, the folder writable, the file a journal?): %w", path, err)
	}
	return &Journal{db: db}, nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// Begin records a new run.
func (j *Journal) Begin(ctx context.Context, to Side) (*Run, error) {
	r := &Run{To: to, Started: time.Now()}
	res, err := j.db.ExecContext(ctx, "INSERT INTO run (side, started) VALUES (?, ?)", string(to), r.Started.UnixNano())
	if err == nil {
		r.ID, err = res.LastInsertId()
	}
	if err != nil {
		return nil, fmt.Errorf("write the journal (nothing was changed; make room on its disk where that is full, and try again): %w", err)
	}
	return r, nil
}

// Step records that a step is about to act.
func (j *Journal) Step(ctx context.Context, r *Run, s Step) error {
	at := time.Now()
	if _, err := j.db.ExecContext(ctx, "INSERT INTO step (run, step, at) VALUES (?, ?, ?)", r.ID, string(s), at.UnixNano()); err != nil {
		return fmt.Errorf("write step %s into the journal: %w", s, err)
	}
	r.Last = s
	r.Steps = append(r.Steps, Entry{Step: s, At: at})
	return nil
}

// End records how a run ended.
func (j *Journal) End(ctx context.Context, r *Run, o Outcome, detail string) error {
	if _, err := j.db.ExecContext(ctx, "UPDATE run SET outcome = ?, detail = ?, ended = ? WHERE id = ?", string(o), detail, time.Now().UnixNano(), r.ID); err != nil {
		return fmt.Errorf("write the end of the run into the journal: %w", err)
	}
	r.Outcome, r.Detail = o, detail
	return nil
}

// Last is the newest run with its steps; nil when there was none.
func (j *Journal) Last(ctx context.Context) (*Run, error) {
	var r Run
	var started int64
	err := j.db.QueryRowContext(ctx, "SELECT id, side, started, outcome, detail FROM run ORDER BY id DESC LIMIT 1").Scan(&r.ID, &r.To, &started, &r.Outcome, &r.Detail)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	r.Started = time.Unix(0, started)
	rows, err := j.db.QueryContext(ctx, "SELECT step, at FROM step WHERE run = ? ORDER BY id", r.ID)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.Step, &at); err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		e.At = time.Unix(0, at)
		r.Steps = append(r.Steps, e)
		r.Last = e.Step
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return &r, nil
}
