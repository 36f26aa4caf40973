package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move/postgres"
)

// copyDatabase is the database that is copied.
const copyDatabase = "copied"

// pgcopydbOptions are the best that were found for this machine's two cores and
// for each shape: more jobs than two cost it time, and so do parts of tables.
var pgcopydbJobs = strconv.Itoa(postgres.DefaultCopies)

// copyRace lets pgcopydb and the mover copy a shape in turns.
func copyRace(ctx context.Context, l *lab, s shape, o options) (*copyResult, error) {
	l.say("%s: make the data", s.name)
	if err := l.source.CreateDatabase(ctx, copyDatabase); err != nil {
		return nil, err
	}
	defer l.drop(ctx)
	for _, sql := range s.sql(o.divisor) {
		if err := l.source.Exec(ctx, copyDatabase, sql); err != nil {
			return nil, err
		}
	}
	if err := l.source.Exec(ctx, copyDatabase, "VACUUM ANALYZE"); err != nil {
		return nil, err
	}
	want, err := read(ctx, l.source, copyDatabase)
	if err != nil {
		return nil, err
	}
	wantObjects, err := l.objects(ctx, l.source, copyDatabase)
	if err != nil {
		return nil, err
	}
	res := &copyResult{Shape: s.name, What: s.what, Rows: want.rows()}
	if err := l.size(ctx, res); err != nil {
		return nil, err
	}
	for pair := range o.pairs {
		turns := []func(context.Context, *lab, string, options) (turn, error){clone, moveCopy}
		order := []int{pair % 2, 1 - pair%2} // who is first takes turns too
		var t [2]turn
		for _, who := range order {
			if err := l.fresh(ctx, copyDatabase); err != nil {
				return nil, err
			}
			if err := l.calm(ctx); err != nil {
				return nil, err
			}
			before := [2]float64{cpu(l.source), cpu(l.target)}
			if t[who], err = turns[who](ctx, l, fmt.Sprintf("copy-%s-%d", s.name, pair+1), o); err != nil {
				return nil, err
			}
			t[who].SourceCPU, t[who].TargetCPU = cpu(l.source)-before[0], cpu(l.target)-before[1]
			got, err := read(ctx, l.target, copyDatabase)
			if err != nil {
				return nil, err
			}
			if err := want.same(got); err != nil {
				return nil, fmt.Errorf("after %s: %w", t[who].Who, err)
			}
			gotObjects, err := l.objects(ctx, l.target, copyDatabase)
			if err != nil {
				return nil, err
			}
			if wantObjects != gotObjects {
				return nil, fmt.Errorf("after %s: %+v became %+v", t[who].Who, wantObjects, gotObjects)
			}
			l.say("%s: %s", s.name, t[who])
		}
		res.Pairs = append(res.Pairs, copyPair{Peer: t[0], Ours: t[1], Ratio: t[1].Seconds / t[0].Seconds})
	}
	return res, nil
}

// drop removes the shape from both servers.
func (l *lab) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := errors.Join(l.dropStreams(ctx, copyDatabase), l.source.Exec(ctx, "postgres", "DROP DATABASE "+copyDatabase),
		l.target.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+copyDatabase)); err != nil {
		l.say("remove the data: %v", err)
	}
}

func (l *lab) size(ctx context.Context, res *copyResult) error {
	conn, err := connect(ctx, l.source, copyDatabase)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if err := conn.QueryRow(ctx, "SELECT pg_database_size($1)", copyDatabase).Scan(&res.Bytes); err != nil {
		return fmt.Errorf("ask for the size of the data: %w", err)
	}
	return nil
}

// clone is pgcopydb's turn.
func clone(ctx context.Context, l *lab, _ string, _ options) (turn, error) {
	t := turn{Who: "pgcopydb"}
	path, err := exec.LookPath("pgcopydb")
	if err != nil {
		return t, errors.New("pgcopydb is not installed: run `make bench-postgres`, which installs it")
	}
	dir, err := os.MkdirTemp("", "dhow-bench")
	if err != nil {
		return t, fmt.Errorf("create a folder for pgcopydb: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system cleans its temporary folder as well
	cmd := exec.CommandContext(ctx, path, "clone", "--table-jobs", pgcopydbJobs, "--index-jobs", pgcopydbJobs, "--dir", filepath.Join(dir, "work"))
	cmd.Env = append(os.Environ(), "PGCOPYDB_SOURCE_PGURI="+l.source.URL(copyDatabase), "PGCOPYDB_TARGET_PGURI="+l.target.URL(copyDatabase))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return t, fmt.Errorf("pgcopydb clone: %w: %s", err, tail(said.String()))
	}
	t.Seconds = time.Since(began).Seconds()
	t.OwnCPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return t, nil
}

// moveCopy is the mover's turn: a process of its own, from its start until it streams.
func moveCopy(ctx context.Context, l *lab, name string, o options) (turn, error) {
	t := turn{Who: "dhow"}
	defer func() {
		if err := l.dropStreams(context.WithoutCancel(ctx), copyDatabase); err != nil {
			l.say("remove the move's slot: %v", err)
		}
	}()
	c, err := startChild(ctx, task{Source: l.source.URL(copyDatabase), Target: l.target.URL(copyDatabase), Profile: profilePath(o, name)})
	if err != nil {
		return t, err
	}
	defer c.kill()
	if _, err := c.await(eventStreaming); err != nil {
		return t, err
	}
	t.Seconds = time.Since(c.began).Seconds()
	if err := c.tell(orderStop); err != nil {
		return t, err
	}
	end, err := c.await(eventEnd)
	if err != nil {
		return t, err
	}
	t.PeakMiB, t.Phases = end.PeakMiB, end.Phases
	if err := c.wait(); err != nil {
		return t, err
	}
	t.OwnCPU = (c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()).Seconds()
	return t, nil
}

func profilePath(o options, name string) string {
	if o.profile == "" {
		return ""
	}
	path, err := filepath.Abs(filepath.Join(o.profile, name+".pprof"))
	if err != nil {
		return ""
	}
	return path
}

// tail is a text's end, for errors.
func tail(text string) string {
	const most = 2000 // bytes
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(text)
}
