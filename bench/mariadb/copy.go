package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"dhow/bench/sidebyside"
	"dhow/internal/mariadbserver"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
)

// copyDatabase is the database that is copied.
const copyDatabase = "copied"

// dumpRows are the rows of one piece of a large table, without which mydumper and
// myloader would use one thread for it.
const dumpRows = "250000"

// copyRace lets mydumper and the mover copy a shape in turns.
func copyRace(ctx context.Context, l lab, s sidebyside.Shape, o sidebyside.Options) (*sidebyside.Copies, error) {
	l.Say("%s: make the data", s.Name)
	if err := l.Source.Exec(ctx, "mysql", "DROP DATABASE IF EXISTS "+copyDatabase+"; RESET MASTER"); err != nil {
		return nil, err
	}
	if err := l.Source.CreateDatabase(ctx, copyDatabase); err != nil {
		return nil, err
	}
	for _, sql := range s.SQL(o.Divisor) {
		if err := l.Source.Exec(ctx, copyDatabase, sql); err != nil {
			return nil, err
		}
	}
	want, err := read(ctx, l.Source)
	if err != nil {
		return nil, err
	}
	// A server that has served for a while knows how large its tables are.
	for name := range want {
		if err := l.Source.Exec(ctx, copyDatabase, "ANALYZE TABLE `"+name+"`"); err != nil {
			return nil, err
		}
	}
	res := &sidebyside.Copies{Shape: s.Name, What: s.What, Rows: want.Rows()}
	if err := l.size(ctx, res); err != nil {
		return nil, err
	}
	for n := range o.Pairs {
		pair, err := l.Pair(ctx, n, sidebyside.Race{
			Name: s.Name,
			Ready: func(ctx context.Context) error {
				if err := l.fresh(ctx); err != nil {
					return err
				}
				return l.calm(ctx)
			},
			Turns: [2]func(context.Context) (sidebyside.Turn, error){l.dumpAndLoad, func(ctx context.Context) (sidebyside.Turn, error) {
				return l.moveCopy(ctx, o.Profile(fmt.Sprintf("copy-%s-%d", s.Name, n+1)))
			}},
			Check: func(ctx context.Context, _ int) error {
				got, err := read(ctx, l.Target)
				if err != nil {
					return err
				}
				return want.Same(got)
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

func (l lab) size(ctx context.Context, res *sidebyside.Copies) error {
	db, err := connect(l.Source, copyDatabase)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is written behind the answer
	if err := db.QueryRowContext(ctx, "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = ?", copyDatabase).Scan(&res.Bytes); err != nil {
		return fmt.Errorf("ask for the size of the data: %w", err)
	}
	return nil
}

// dumpAndLoad is mydumper's and myloader's turn, one after the other: the one
// knows when its files are whole, the other reads whole files.
func (l lab) dumpAndLoad(ctx context.Context) (sidebyside.Turn, error) {
	t := sidebyside.Turn{Who: "mydumper"}
	dir, err := os.MkdirTemp("", "dhow-bench")
	if err != nil {
		return t, fmt.Errorf("create a folder for mydumper: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system cleans its temporary folder as well
	files := filepath.Join(dir, "files")
	threads := strconv.Itoa(mariadb.DefaultCopies)
	began := time.Now()
	for _, step := range []struct {
		program string
		s       *mariadbserver.Server
		args    []string
	}{
		{"mydumper", l.Source, []string{"--trx-consistency-only", "--rows", dumpRows, "--outputdir", files}},
		{"myloader", l.Target, []string{"--directory", files}},
	} {
		path, err := exec.LookPath(step.program)
		if err != nil {
			return t, fmt.Errorf("%s is not installed: run `make bench-mariadb`, which installs it", step.program)
		}
		secret := filepath.Join(dir, step.program+".cnf")
		if err := os.WriteFile(secret, []byte(fmt.Sprintf("[client]\npassword=%s\n[%s]\npassword=%[1]s\n", step.s.Password(), step.program)), 0o600); err != nil {
			return t, fmt.Errorf("write the options of %s: %w", step.program, err)
		}
		cmd := exec.CommandContext(ctx, path, append([]string{"--defaults-file", secret, "--host", loopback, "--port", strconv.Itoa(step.s.Port), "--user", step.s.User(), "--database", copyDatabase, "--threads", threads}, step.args...)...)
		spent, err := sidebyside.Run(cmd)
		if err != nil {
			return t, fmt.Errorf("%s: %w", step.program, err)
		}
		t.Phases = append(t.Phases, sidebyside.Phase{Name: step.program, Seconds: time.Since(began).Seconds() - t.Seconds})
		t.Seconds = time.Since(began).Seconds()
		t.OwnCPU += spent
	}
	return t, nil
}

// moveCopy is the mover's turn.
func (l lab) moveCopy(ctx context.Context, profile string) (sidebyside.Turn, error) {
	t, err := sidebyside.MoverCopies(ctx, profile, task{Source: endpointOf(l.Source), Target: endpointOf(l.Target)})
	if err != nil {
		return t, err
	}
	// mydumper has no like of the guard: its length is shown apart.
	for _, p := range t.Phases {
		if p.Name == string(move.PhaseGuard) {
			t.Seconds -= p.Seconds
		}
	}
	return t, l.forget(ctx)
}
