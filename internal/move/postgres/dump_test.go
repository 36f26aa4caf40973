package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/pgserver/pgtest"
)

func TestDumpEnvironment(t *testing.T) {
	src, err := pgx.ParseConfig("postgres://me:hidden@far:6000/bank?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	env := dumpEnv([]string{"PATH=/bin", "HOME=/home/me", "PGSERVICE=other", "PGOPTIONS=-c x=y", "PGHOSTADDR=10.0.0.1", "PGPASSWORD=theirs", "PGSSLROOTCERT=/theirs", "PAGER=less"},
		src, []string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=/ours"})
	value := func(key string) (v string) { // the last one counts
		for _, e := range env {
			if rest, ok := strings.CutPrefix(e, key+"="); ok {
				v = rest
			}
		}
		return v
	}
	for key, want := range map[string]string{"PATH": "/bin", "HOME": "/home/me", "PAGER": "less", "PGSERVICE": "", "PGOPTIONS": "", "PGHOSTADDR": "", "PGHOST": "far", "PGPORT": "6000", "PGUSER": "me", "PGDATABASE": "bank",
		"PGPASSWORD": "hidden", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/ours", "PGPASSFILE": "/dev/null"} {
		if got := value(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if slices.ContainsFunc(env, func(e string) bool { return strings.Contains(e, "theirs") || strings.Contains(e, "other") }) {
		t.Errorf("the user's variables are among %q", env)
	}
}

// TestDumpIsNotLedAstray dumps under an environment that points elsewhere, and shows no password to other users of the machine.
func TestDumpIsNotLedAstray(t *testing.T) {
	ctx := context.Background()
	s := pgtest.Start(t, 15)
	cfg, err := pgx.ParseConfig(pgtest.Database(t, s, "dumped"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	run(t, conn, "CREATE TABLE here (a int PRIMARY KEY)")
	run(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	var snapshot string
	if err := conn.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&snapshot); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"PGSERVICE=nowhere", "PGHOST=nowhere.invalid", "PGHOSTADDR=192.0.2.1", "PGDATABASE=postgres", "PGOPTIONS=-c search_path=nowhere -c role=nobody", "PGSSLMODE=verify-full", "PGPASSWORD=wrong", "PGTARGETSESSIONATTRS=standby", "PGREQUIREAUTH=none", "PGCLIENTENCODING=LATIN1"} {
		key, value, _ := strings.Cut(v, "=")
		t.Setenv(key, value)
	}
	m, err := New(Config{Estate: "test", Name: "dumped", Source: cfg, Target: cfg})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.dumpSchema(ctx, snapshot, version{major: 15})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(d.pre, func(e entry) bool { return e.Name == "here" && e.Type == "TABLE" }) {
		t.Errorf("the table is not among %+v", d.pre)
	}
	for _, arg := range m.dumpArgs(snapshot, "archive") {
		if strings.Contains(arg, s.Password()) || strings.Contains(arg, cfg.Host) {
			t.Errorf("argument %q shows the connection", arg)
		}
	}
}
