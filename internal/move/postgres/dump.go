package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// This file asks pg_dump, which knows every kind of object, for the schema, and
// takes its answer apart into entries.

const (
	// dumpLockWait bounds pg_dump's wait for locks: shorter than a server's
	// deadlock_timeout (a second unless set), so that it is never the application
	// whose transaction is ended.
	dumpLockWait = 700 * time.Millisecond
	// dumpTries bounds the tries for the locks, with a pause of about dumpPause in between.
	dumpTries = 30
	dumpPause = 200 * time.Millisecond
)

// entry is an object of the schema as pg_dump describes it.
type entry struct {
	Name, Type, Schema string
	SQL                string
}

// schemaDump is a database's schema in pg_dump's two sections.
type schemaDump struct {
	settings string // what each session that runs entries must set first
	pre      []entry
	post     []entry
}

// pgDump finds the newest pg_dump of this machine.
func pgDump(ctx context.Context) (path string, major int, err error) {
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump") // the pattern is well formed
	if p, err := exec.LookPath("pg_dump"); err == nil {
		paths = append(paths, p)
	}
	version := regexp.MustCompile(`\(PostgreSQL\) (\d+)`)
	for _, p := range paths {
		out, err := exec.CommandContext(ctx, p, "--version").Output()
		if ctx.Err() != nil { // cut off, which says nothing of the machine
			return "", 0, ctx.Err()
		}
		if err != nil {
			continue
		}
		if v := version.FindSubmatch(out); v != nil {
			if n, _ := strconv.Atoi(string(v[1])); n > major {
				path, major = p, n
			}
		}
	}
	if path == "" {
		return "", 0, &move.Refused{Reason: "there is no pg_dump on this machine", Fix: "install the package postgresql-client"}
	}
	return path, major, nil
}

// dumpSchema dumps the source's schema as the snapshot shows it.
func (m *Mover) dumpSchema(ctx context.Context, snapshot string, server version) (*schemaDump, error) {
	dump, major, err := pgDump(ctx)
	if err != nil {
		return nil, err
	}
	if major < server.major {
		return nil, &move.Refused{Reason: fmt.Sprintf("pg_dump %d can not read a server of version %d", major, server.major), Fix: fmt.Sprintf("install the package postgresql-client-%d", server.major)}
	}
	dir, err := os.MkdirTemp("", "dhow-schema")
	if err != nil {
		return nil, fmt.Errorf("create a folder for the schema: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what cannot go is the system's to clean
	archive := filepath.Join(dir, "schema")
	cmd := exec.CommandContext(ctx, dump, m.dumpArgs(snapshot, archive)...)
	cmd.Env = dumpEnv(os.Environ(), m.cfg.Source, m.cfg.SourceEnv)
	if err := runDump(ctx, cmd); err != nil {
		return nil, fmt.Errorf("dump the source's schema with %s: %w", dump, err)
	}
	d := &schemaDump{}
	restore := filepath.Join(filepath.Dir(dump), "pg_restore")
	for section, into := range map[string]*[]entry{"pre-data": &d.pre, "post-data": &d.post} {
		out, err := exec.CommandContext(ctx, restore, "--section="+section, "-f", "-", archive).Output()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("read the %s section of the schema with %s: %w", section, restore, err)
		}
		d.settings, *into = splitDump(string(out))
	}
	return d, nil
}

// runDump runs pg_dump, and again when it did not get its locks: it locks all
// tables against changes of their definition, and a transaction that truncates
// tables in another order would wait for it as it waits for the transaction.
func runDump(ctx context.Context, cmd *exec.Cmd) error {
	for try := 1; ; try++ {
		again := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
		again.Env = cmd.Env
		var errs bytes.Buffer
		again.Stderr = &errs
		err := again.Run()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !bytes.Contains(errs.Bytes(), []byte("LOCK TABLE")) || try == dumpTries {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dumpPause/2 + rand.N(dumpPause)):
		}
	}
}

// dumpArgs are pg_dump's arguments. Every user of the machine can read them, so
// nothing of the connection is among them.
func (m *Mover) dumpArgs(snapshot, archive string) []string {
	args := []string{"-Fc", "--schema-only", "--no-publications", "--no-subscriptions", "--no-tablespaces", "--no-security-labels", "-N", "dhow", "--snapshot=" + snapshot,
		"--lock-wait-timeout=" + strconv.FormatInt(dumpLockWait.Milliseconds(), 10), "-f", archive}
	for _, s := range m.cfg.Schemas {
		args = append(args, "-n", pattern(s))
	}
	for _, t := range m.cfg.Exclude {
		schema, name, _ := strings.Cut(t, ".")
		args = append(args, "-T", pattern(schema)+"."+pattern(name))
	}
	return args
}

// dumpEnv is pg_dump's environment, which is its user's alone: how to reach the
// source as we do. Variables of libpq that the user has set are for other
// connections; one of them (PGSERVICE, PGOPTIONS, PGHOSTADDR) would lead elsewhere.
func dumpEnv(environ []string, src *pgx.ConnConfig, more []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return strings.HasPrefix(v, "PG") })
	ssl := "PGSSLMODE=disable"
	if src.TLSConfig != nil {
		ssl = "PGSSLMODE=require"
	}
	return append(append(env, "LC_ALL=C", "PGHOST="+src.Host, "PGPORT="+strconv.Itoa(int(src.Port)), "PGDATABASE="+src.Database,
		"PGUSER="+src.User, "PGPASSWORD="+src.Password, "PGPASSFILE="+os.DevNull, "PGAPPNAME=dhow", "PGCONNECT_TIMEOUT=10", ssl), more...)
}

// pattern makes of a name a pattern for pg_dump that matches it alone.
func pattern(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

var entryHeader = regexp.MustCompile(`(?m)^--\n-- Name: (.*); Type: (.*); Schema: (.*); Owner: .*\n--\n`)

// splitDump takes pg_restore's script apart. Names are made harmless by pg_dump
// (no line ends), so a header can not be forged by one.
func splitDump(script string) (settings string, entries []entry) {
	heads := entryHeader.FindAllStringSubmatchIndex(script, -1)
	preamble := script
	if len(heads) > 0 {
		preamble = script[:heads[0][0]]
	}
	for line := range strings.Lines(preamble) {
		if strings.HasPrefix(line, "SET transaction_timeout") { // of version 17; older ones do not know it
			continue
		}
		if strings.HasPrefix(line, "SET ") || strings.HasPrefix(line, "SELECT pg_catalog.set_config") {
			settings += line
		}
	}
	for i, h := range heads {
		end := len(script)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		sql := script[h[1]:end]
		if i+1 == len(heads) { // the script's own end
			if at := strings.LastIndex(sql, "\n--\n-- PostgreSQL database dump complete"); at >= 0 {
				sql = sql[:at]
			}
		}
		entries = append(entries, entry{Name: script[h[2]:h[3]], Type: script[h[4]:h[5]], Schema: script[h[6]:h[7]], SQL: strings.TrimSpace(sql)})
	}
	return settings, entries
}

// skipped are entries that the move does not carry over: they concern the
// server, or the extension's owner, rather than the data.
func skipped(e entry) bool {
	return e.Type == "COMMENT" && strings.HasPrefix(e.Name, "EXTENSION ") || e.Type == "EVENT TRIGGER" || e.Type == "COMMENT" && strings.HasPrefix(e.Name, "EVENT TRIGGER ")
}
