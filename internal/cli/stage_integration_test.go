package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/cli"
	"dhow/internal/cutover"
	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

// patience bounds every wait for something that has to come, on a loaded machine too.
const patience = 60 * time.Second

// stage is two servers; each test has databases of its own on them.
type stage struct{ source, target *pgserver.Server }

func newStage(t *testing.T, from, to int) *stage {
	t.Helper()
	return &stage{source: pgtest.Start(t, from), target: pgtest.Start(t, to)}
}

func (s *stage) server(side cutover.Side) *pgserver.Server {
	if side == cutover.Source {
		return s.source
	}
	return s.target
}

// schema is a small ledger: a key of each kind, a table without one, a sequence.
const schema = `
	CREATE TABLE accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL DEFAULT 0);
	CREATE TABLE entries (key text PRIMARY KEY, account bigint NOT NULL REFERENCES accounts, amount bigint NOT NULL, at timestamptz NOT NULL DEFAULT now());
	CREATE TABLE log (at timestamptz NOT NULL DEFAULT now(), line text);
	ALTER TABLE log REPLICA IDENTITY FULL;
	CREATE SEQUENCE receipts;
	INSERT INTO accounts (owner) SELECT 'owner ' || n FROM generate_series(1, 500) n;
	INSERT INTO entries SELECT 'seed-' || n, 1 + n % 500, n FROM generate_series(1, 5000) n;
	INSERT INTO log (line) SELECT 'line ' || n FROM generate_series(1, 100) n;`

// place is a folder with an estate.
type place struct {
	dir       string
	databases []string
}

func (p *place) file() string { return filepath.Join(p.dir, "dhow.yaml") }

// end is how the estate names one side of a database; zero values are as the server says.
type end struct {
	host     string
	port     int
	database string
	password string
}

// estateOf writes an estate of databases that are on both servers; more is the
// rest of the file, and change may bend an end.
func (s *stage) estateOf(t *testing.T, more string, change func(side cutover.Side, e *end), databases ...string) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), databases: databases}
	var b strings.Builder
	fmt.Fprintf(&b, "name: test\ndatabases:\n")
	for _, d := range databases {
		fmt.Fprintf(&b, "  - name: %s\n", d)
		for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
			srv := s.server(side)
			e := end{host: "127.0.0.1", port: srv.Port, database: d, password: srv.Password()}
			if change != nil {
				change(side, &e)
			}
			secret := fmt.Sprintf("%s-%s.password", d, side)
			write(t, filepath.Join(p.dir, secret), e.password+"\n")
			fmt.Fprintf(&b, "    %s: {host: %s, port: %d, database: %s, user: %s, password: {file: %s}}\n", side, e.host, e.port, e.database, srv.User(), secret)
		}
	}
	write(t, p.file(), b.String()+more)
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// create makes empty databases on both sides, and fills the source's.
func (s *stage) create(t *testing.T, databases ...string) {
	t.Helper()
	for _, d := range databases {
		pgtest.Database(t, s.source, d)
		pgtest.Database(t, s.target, d)
		s.exec(t, cutover.Source, d, schema)
	}
}

func (s *stage) exec(t *testing.T, side cutover.Side, database, sql string) {
	t.Helper()
	if err := s.server(side).Exec(context.Background(), database, sql); err != nil {
		t.Fatal(err)
	}
}

// list reads a column of texts.
func (s *stage) list(t *testing.T, side cutover.Side, database, sql string, args ...any) []string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.server(side).URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s *stage) one(t *testing.T, side cutover.Side, database, sql string, args ...any) string {
	t.Helper()
	all := s.list(t, side, database, sql, args...)
	if len(all) != 1 {
		t.Fatalf("%s gives %d rows", sql, len(all))
	}
	return all[0]
}

// belongings are all that a move could leave in a database and on its server,
// and what the application has there.
const belongings = `
	SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database() OR database IS NULL
	UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
	UNION ALL SELECT 'publication ' || pubname FROM pg_publication
	UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
	UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
	UNION ALL SELECT 'extension ' || extname FROM pg_extension
	UNION ALL SELECT 'role ' || rolname FROM pg_roles
	UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
	UNION ALL SELECT format('trigger %s on %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
	UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
	UNION ALL SELECT format('relation %s %s, identity %s', relkind, c.oid::regclass, relreplident) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	UNION ALL SELECT format('setting %s %s', setrole, setconfig) FROM pg_db_role_setting
	UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database()
	UNION ALL SELECT 'advisory lock' FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND d.datname = current_database()
	ORDER BY 1`

func (s *stage) belongings(t *testing.T, side cutover.Side, database string) []string {
	t.Helper()
	return s.list(t, side, database, belongings)
}

// sides are the belongings of both sides of databases, to be compared later.
type sides map[string][]string

func (s *stage) look(t *testing.T, databases ...string) sides {
	t.Helper()
	all := sides{}
	for _, d := range databases {
		for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
			all[string(side)+" "+d] = s.belongings(t, side, d)
		}
	}
	return all
}

// unchanged fails when a side has more or less than before.
func (s *stage) unchanged(t *testing.T, before sides, databases ...string) {
	t.Helper()
	for where, now := range s.look(t, databases...) {
		for _, b := range now {
			if !slices.Contains(before[where], b) {
				t.Errorf("%s has %s", where, b)
			}
		}
		for _, b := range before[where] {
			if !slices.Contains(now, b) {
				t.Errorf("%s has no %s any more", where, b)
			}
		}
	}
}

// output collects what a command writes, from several goroutines.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// running is a command that runs in this process.
type running struct {
	args     []string
	out, err output
	stop     context.CancelFunc
	done     chan struct{}
	code     int
}

// begin starts a command on the estate of a place.
func (p *place) begin(t *testing.T, args ...string) *running { return p.launch(t, nil, args...) }

// runStopping runs a command, and does something when it has come to a step.
func (p *place) runStopping(t *testing.T, at cutover.Step, do func(), args ...string) *running {
	t.Helper()
	return p.launch(t, func(s cutover.Step) {
		if s == at {
			do()
		}
	}, args...).wait(t)
}

func (p *place) launch(t *testing.T, afterStep func(cutover.Step), args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{args: args, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.code = cli.Run(ctx, append([]string{"--file", p.file()}, args...), cli.IO{In: strings.NewReader(""), Out: &r.out, Err: &r.err, AfterStep: afterStep})
	}()
	t.Cleanup(func() { stop(); <-r.done })
	return r
}

// wait waits for the command's end.
func (r *running) wait(t *testing.T) *running {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("dhow %s does not end; it said:\n%s\n%s", strings.Join(r.args, " "), r.out.String(), r.err.String())
	}
	return r
}

// run runs a command that has to end with a code.
func (p *place) run(t *testing.T, code int, args ...string) *running {
	t.Helper()
	r := p.begin(t, args...).wait(t)
	r.ends(t, code)
	return r
}

func (r *running) ends(t *testing.T, code int) {
	t.Helper()
	if r.code != code {
		t.Fatalf("dhow %s ends with %d, want %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, code, r.out.String(), r.err.String())
	}
}

// says fails unless the error output has all the words.
func (r *running) says(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.err.String(), w) {
			t.Errorf("dhow %s does not say %q, but:\n%s", strings.Join(r.args, " "), w, r.err.String())
		}
	}
}

// prints fails unless the output has all the words.
func (r *running) prints(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.out.String(), w) {
			t.Errorf("dhow %s does not print %q, but:\n%s", strings.Join(r.args, " "), w, r.out.String())
		}
	}
}

// object reads the output as one JSON object.
func (r *running) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(r.out.String()))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("dhow %s prints no JSON: %v\n%s", strings.Join(r.args, " "), err, r.out.String())
	}
	if d.More() {
		t.Fatalf("dhow %s prints more than one object:\n%s", strings.Join(r.args, " "), r.out.String())
	}
	return v
}

// objects reads the output as a JSON object a line.
func (r *running) objects(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(r.out.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("dhow %s prints a line that is no JSON: %v\n%s", strings.Join(r.args, " "), err, line)
		}
		all = append(all, v)
	}
	return all
}

// at follows a path of keys and indexes into JSON.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	whole := v
	for _, p := range path {
		ok := false
		switch p := p.(type) {
		case string:
			var m map[string]any
			if m, ok = v.(map[string]any); ok {
				v, ok = m[p]
			}
		case int:
			var l []any
			if l, ok = v.([]any); ok && p < len(l) {
				v = l[p]
			} else {
				ok = false
			}
		}
		if !ok {
			text, _ := json.MarshalIndent(whole, "", "  ")
			t.Fatalf("there is no %v in %s", path, text)
		}
	}
	return v
}

// is compares what stands at a path, as text.
func is(t *testing.T, v any, want any, path ...any) {
	t.Helper()
	got := at(t, v, path...)
	if n, ok := got.(float64); ok && n == float64(int64(n)) {
		got = int64(n)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v is %v, want %v", path, got, want)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func slurp(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
