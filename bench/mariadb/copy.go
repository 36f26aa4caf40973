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

	"dhow/internal/mariadbserver"
	"dhow/internal/move/mariadb"
)

// copyDatabase is the database that is copied.
const copyDatabase = "copied"

// dumpRows are the rows of one piece of a large table, without which mydumper and
// myloader would use one thread for it.
const dumpRows = "250000"

// copyRace lets mydumper and the mover copy a shape in turns.
func copyRace(ctx context.Context, l *lab, s shape, o options) (*copyResult, error) {
	l.say("%s: make the data", s.name)
	if err := l.source.Exec(ctx, "mysql", "DROP DATABASE IF EXISTS "+copyDatabase+"; RESET MASTER"); err != nil {
		return nil, err
	}
	if err := l.source.CreateDatabase(ctx, copyDatabase); err != nil {
		return nil, err
	}
	for _, sql := range s.sql(o.divisor) {
		if err := l.source.Exec(ctx, copyDatabase, sql); err != nil {
			return nil, err
		}
	}
	want, err := read(ctx, l.source)
	if err != nil {
		return nil, err
	}
	// A server that has served for a while knows how large its tables are.
	for name := range want {
		if err := l.source.Exec(ctx, copyDatabase, "ANALYZE TABLE `"+name+"`"); err != nil {
			return nil, err
		}
	}
	res := &copyResult{Shape: s.name, What: s.what, Rows: want.rows()}
	if err := l.size(ctx, res); err != nil {
		return nil, err
	}
	for pair := range o.pairs {
		turns := []func(context.Context, *lab, string, options) (turn, error){dumpAndLoad, moveCopy}
		order := []int{pair % 2, 1 - pair%2} // who is first takes turns too
		var t [2]turn
		for _, who := range order {
			if err := l.fresh(ctx); err != nil {
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
			got, err := read(ctx, l.target)
			if err != nil {
				return nil, err
			}
			if err := want.same(got); err != nil {
				return nil, fmt.Errorf("after %s: %w", t[who].Who, err)
			}
			l.say("%s: %s", s.name, t[who])
		}
		res.Pairs = append(res.Pairs, copyPair{Peer: t[0], Ours: t[1], Ratio: t[1].Seconds / t[0].Seconds})
	}
	return res, nil
}

func (l *lab) size(ctx context.Context, res *copyResult) error {
	db, err := connect(l.source, copyDatabase)
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
func dumpAndLoad(ctx context.Context, l *lab, _ string, _ options) (turn, error) {
	t := turn{Who: "mydumper"}
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
		{"mydumper", l.source, []string{"--trx-consistency-only", "--rows", dumpRows, "--outputdir", files}},
		{"myloader", l.target, []string{"--directory", files}},
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
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return t, fmt.Errorf("%s: %w: %s", step.program, err, tail(said.String()))
		}
		t.Phases = append(t.Phases, phase{step.program, time.Since(began).Seconds() - t.Seconds})
		t.Seconds = time.Since(began).Seconds()
		t.OwnCPU += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	return t, nil
}

// moveCopy is the mover's turn: a process of its own, from its start until it streams.
func moveCopy(ctx context.Context, l *lab, name string, o options) (turn, error) {
	t := turn{Who: "dhow"}
	c, err := startChild(ctx, task{Source: endpointOf(l.source), Target: endpointOf(l.target), Profile: profilePath(o, name)})
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
	if err := errors.Join(c.wait(), l.forget(ctx)); err != nil {
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
