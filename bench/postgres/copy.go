package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"dhow/bench/sidebyside"
	"dhow/internal/move/postgres"
)

// copyDatabase is the database that is copied.
const copyDatabase = "copied"

// pgcopydbOptions are the best that were found for this machine's two cores and
// for each shape: more jobs than two cost it time, and so do parts of tables.
var pgcopydbJobs = strconv.Itoa(postgres.DefaultCopies)

// copyRace lets pgcopydb and the mover copy a shape in turns.
func copyRace(ctx context.Context, l lab, s sidebyside.Shape, o sidebyside.Options) (*sidebyside.Copies, error) {
	l.Say("%s: make the data", s.Name)
	if err := l.Source.CreateDatabase(ctx, copyDatabase); err != nil {
		return nil, err
	}
	defer l.drop(ctx)
	for _, sql := range append(s.SQL(o.Divisor), "VACUUM ANALYZE") {
		if err := l.Source.Exec(ctx, copyDatabase, sql); err != nil {
			return nil, err
		}
	}
	want, err := read(ctx, l.Source, copyDatabase)
	if err != nil {
		return nil, err
	}
	wantObjects, err := l.objects(ctx, l.Source, copyDatabase)
	if err != nil {
		return nil, err
	}
	res := &sidebyside.Copies{Shape: s.Name, What: s.What, Rows: want.Rows()}
	if err := l.size(ctx, res); err != nil {
		return nil, err
	}
	for n := range o.Pairs {
		pair, err := l.Pair(ctx, n, sidebyside.Race{
			Name: s.Name,
			Ready: func(ctx context.Context) error {
				if err := l.fresh(ctx, copyDatabase); err != nil {
					return err
				}
				return l.calm(ctx)
			},
			Turns: [2]func(context.Context) (sidebyside.Turn, error){l.clone, func(ctx context.Context) (sidebyside.Turn, error) {
				return l.moveCopy(ctx, o.Profile(fmt.Sprintf("copy-%s-%d", s.Name, n+1)))
			}},
			Check: func(ctx context.Context, _ int) error {
				got, err := read(ctx, l.Target, copyDatabase)
				if err != nil {
					return err
				}
				if err := want.Same(got); err != nil {
					return err
				}
				gotObjects, err := l.objects(ctx, l.Target, copyDatabase)
				if err == nil && wantObjects != gotObjects {
					err = fmt.Errorf("%+v became %+v", wantObjects, gotObjects)
				}
				return err
			},
		})
		if err != nil {
			return nil, err
		}
		pair.Ratio = pair.Ours.Seconds / pair.Peer.Seconds
		res.Pairs = append(res.Pairs, pair)
	}
	return res, nil
}

// drop removes the shape from both servers.
func (l lab) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sidebyside.StopTimeout)
	defer cancel()
	if err := errors.Join(l.dropStreams(ctx, copyDatabase), l.Source.Exec(ctx, "postgres", "DROP DATABASE "+copyDatabase),
		l.Target.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+copyDatabase)); err != nil {
		l.Say("remove the data: %v", err)
	}
}

func (l lab) size(ctx context.Context, res *sidebyside.Copies) error {
	conn, err := connect(ctx, l.Source, copyDatabase)
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
func (l lab) clone(ctx context.Context) (sidebyside.Turn, error) {
	t := sidebyside.Turn{Who: "pgcopydb"}
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
	cmd.Env = append(os.Environ(), "PGCOPYDB_SOURCE_PGURI="+l.Source.URL(copyDatabase), "PGCOPYDB_TARGET_PGURI="+l.Target.URL(copyDatabase))
	began := time.Now()
	if t.OwnCPU, err = sidebyside.Run(cmd); err != nil {
		return t, fmt.Errorf("pgcopydb clone: %w", err)
	}
	t.Seconds = time.Since(began).Seconds()
	return t, nil
}

// moveCopy is the mover's turn.
func (l lab) moveCopy(ctx context.Context, profile string) (sidebyside.Turn, error) {
	defer func() {
		if err := l.dropStreams(context.WithoutCancel(ctx), copyDatabase); err != nil {
			l.Say("remove the move's slot: %v", err)
		}
	}()
	return sidebyside.MoverCopies(ctx, profile, task{Source: l.Source.URL(copyDatabase), Target: l.Target.URL(copyDatabase)})
}
