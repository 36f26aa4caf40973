package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dhow/internal/cutover"
)

// roomy is a policy for machines that tests share with others: what is tested
// here is the commands, not how short a stall can be.
const roomy = "cutover: {stall_budget: 4s}\n"

// TestLife moves two databases under traffic, back, and there again, by the
// commands alone, and looks at what each prints for programs.
func TestLife(t *testing.T) {
	t.Parallel()
	s := newStage(t, 13, 17)
	s.create(t, "accounts", "payments")
	app := newApplication(t, s, "accounts")
	before := s.look(t, "accounts", "payments")
	p := s.estateOf(t, app.estate(t)+roomy, nil, "accounts", "payments")

	preflight := p.run(t, 0, "preflight", "-o", "json").object(t)
	is(t, preflight, 0, "errors")
	is(t, preflight, "accounts", "databases", 0, "database")
	is(t, preflight, "payments", "databases", 1, "database")
	s.unchanged(t, before, "accounts", "payments")

	gate := p.begin(t, "gate", "-o", "json")
	eventually(t, "the gate serves", func() bool { return strings.Contains(gate.out.String(), `"event":"serving"`) })
	is(t, gate.objects(t)[0], app.gate, "listen")
	app.traffic(t)
	app.flows(t, 20)

	status := p.run(t, 0, "status", "-o", "json").object(t)
	is(t, status, "source", "databases", 0, "serves")
	is(t, status, false, "databases", 0, "state", "started")
	is(t, status, "source", "gate", "side")

	streaming(t, p.run(t, 0, "replicate", "--until-streaming", "-o", "json"))
	is(t, p.run(t, 0, "status", "-o", "json").object(t), true, "databases", 1, "state", "copied")

	verified(t, s, p)

	rehearsed := p.run(t, 0, "cutover", "--dry-run", "-o", "json").object(t)
	is(t, rehearsed, true, "dry_run")
	is(t, rehearsed, false, "over_budget")
	is(t, rehearsed, 4*time.Second.Nanoseconds(), "budget_ns")
	is(t, rehearsed, 0, "before", "accounts", "different")

	// There, from under a running replicate.
	moved(t, p, cutover.Target, followed(t, p, cutover.Target))
	app.flows(t, 20)
	is(t, p.run(t, 0, "gate", "status", "-o", "json").object(t), "target", "routes", 0, "side")
	p.run(t, 1, "cutover", "--yes").says(t, "is served by the target already", "next: see `dhow status`")

	// Back, from under one that streams back.
	moved(t, p, cutover.Source, followed(t, p, cutover.Source))
	app.flows(t, 20)
	p.run(t, 1, "finish", "--yes").says(t, "the source still serves database", "next: run `dhow cutover` first, or give the move up with `dhow finish --abandon`")

	// And there for good, without one.
	moved(t, p, cutover.Target, nil)
	app.flows(t, 20)
	finished := p.run(t, 0, "finish", "--yes", "-o", "json").object(t)
	is(t, finished, "target", "serving")
	if n := len(at(t, finished, "removed").([]any)); n < 8 { // a schema, triggers of three tables on each of four sides
		t.Errorf("finish removes %d things only", n)
	}
	app.flows(t, 20)
	app.judge(t, cutover.Target)
	s.handedOver(t, before, "accounts", "payments")

	// Nothing is left to finish, and the gate ends cleanly.
	is(t, p.run(t, 0, "finish", "--yes", "-o", "json").object(t), "[]", "removed")
	gate.stop()
	gate.wait(t).ends(t, 0)
	p.run(t, 1, "gate", "status").says(t, "the gate does not answer", "start it with `dhow gate`")
}

// handedOver checks that nothing but the application's own objects is left: on
// both sides what the source had, and the target's were there before the move.
func (s *stage) handedOver(t *testing.T, before sides, databases ...string) {
	t.Helper()
	for _, d := range databases {
		for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
			for _, b := range s.belongings(t, side, d) {
				known := false
				for _, from := range []cutover.Side{cutover.Source, cutover.Target} {
					for _, had := range before[string(from)+" "+d] {
						known = known || had == b
					}
				}
				if !known || strings.Contains(b, "dhow") {
					t.Errorf("%s %s is left with %s", side, d, b)
				}
			}
		}
	}
}

// streaming checks the lines of a replicate that was told to end when it follows.
func streaming(t *testing.T, r *running) {
	t.Helper()
	seen := map[string]map[string]bool{}
	lines := r.objects(t)
	for _, l := range lines[:len(lines)-1] {
		is(t, l, "progress", "event")
		database, phase := at(t, l, "database").(string), at(t, l, "phase").(string)
		if seen[database] == nil {
			seen[database] = map[string]bool{}
		}
		seen[database][phase] = true
		for _, key := range []string{"rows", "rows_total", "bytes", "bytes_total", "rows_per_second", "bytes_per_second", "eta_ns", "lag_bytes", "lag_seconds", "retained_bytes"} {
			at(t, l, key)
		}
	}
	for _, d := range []string{"accounts", "payments"} {
		if !seen[d]["copy"] && !seen[d]["index"] || !seen[d]["stream"] {
			t.Errorf("of database %s only %v are reported", d, seen[d])
		}
	}
	last := lines[len(lines)-1]
	is(t, last, "end", "event")
	is(t, last, "streaming", "reason")
	is(t, last, "payments", "databases", 1, "database")
}

// verified plants a difference, and lets verify find and mend it.
func verified(t *testing.T, s *stage, p *place) {
	t.Helper()
	equal := p.run(t, 0, "verify", "-o", "json").object(t)
	is(t, equal, "target", "to")
	is(t, equal, 0, "different")
	is(t, equal, 3, "databases", 0, "tables")
	is(t, equal, "[]", "databases", 0, "differences")

	s.exec(t, cutover.Target, "payments", "SET session_replication_role = replica; DELETE FROM entries WHERE key = 'seed-42'; UPDATE accounts SET owner = 'somebody' WHERE id = 7")
	found := p.run(t, 1, "verify", "--database", "payments", "-o", "json")
	if found.err.String() != "" {
		t.Errorf("verify says what it has printed already: %s", found.err.String())
	}
	differs := found.object(t)
	is(t, differs, 2, "different")
	is(t, differs, "public.accounts", "databases", 0, "differences", 0, "table")
	is(t, differs, "id=7", "databases", 0, "differences", 0, "key")
	is(t, differs, "changed", "databases", 0, "differences", 0, "kind")
	is(t, differs, "missing", "databases", 0, "differences", 1, "kind")

	p.run(t, 1, "verify", "--database", "payments").prints(t, "2 rows differ", "id=7", "other values", "key=seed-42", "missing at the target", "`dhow verify --repair`")
	is(t, p.run(t, 0, "verify", "--database", "payments", "--table", "public.log", "-o", "json").object(t), 1, "databases", 0, "tables")
	p.run(t, 2, "verify", "--table", "public.log").says(t, "--table needs --database")
	p.run(t, 1, "verify", "--database", "payments", "--table", "public.lgo").says(t, "no table public.lgo moves with database payments")
	p.run(t, 0, "__complete", "verify", "--database", "payments", "--table", "public.a").prints(t, "public.accounts")

	// A cutover is refused while rows differ.
	p.run(t, 1, "cutover", "--dry-run").says(t, "the two sides differ in 2 rows", "payments: public.accounts id=7", "mend with `dhow verify --repair`")

	mended := p.run(t, 0, "verify", "--repair", "-o", "json").object(t)
	is(t, mended, 0, "different")
	is(t, mended, 2, "databases", 1, "repaired")
	p.run(t, 0, "verify").prints(t, "both sides are equal")
}

// followed starts a replicate and waits until it follows a side's databases.
func followed(t *testing.T, p *place, to cutover.Side) *running {
	t.Helper()
	r := p.begin(t, "replicate", "-o", "json")
	for _, d := range p.databases {
		eventually(t, d+" streams", func() bool { return strings.Contains(r.out.String(), fmt.Sprintf(`"database":%q,"phase":"stream"`, d)) })
	}
	status := p.run(t, 0, "status", "-o", "json").object(t)
	is(t, status, os.Getpid(), "replicate", "pid")
	is(t, status, to, "replicate", "to")
	is(t, status, "stream", "databases", 0, "progress", "phase")
	p.run(t, 0, "status").prints(t, "streams to the "+string(to), "behind by")
	// A comparison beside it.
	is(t, p.run(t, 0, "verify", "-o", "json").object(t), 0, "different")
	return r
}

// moved moves the traffic to a side; a replicate that runs has to hand over.
func moved(t *testing.T, p *place, to cutover.Side, replicate *running) {
	t.Helper()
	command := "cutover"
	if to == cutover.Source {
		command = "rollback"
	}
	run := p.run(t, 0, command, "--yes", "-o", "json").object(t)
	is(t, run, "done", "outcome")
	is(t, run, to, "to")
	is(t, run, 4*time.Second.Nanoseconds(), "budget_ns")
	for i, step := range cutover.Steps() {
		is(t, run, step, "steps", i, "step")
	}
	for _, d := range p.databases {
		is(t, run, 0, "compared", d, "different")
		if rows := at(t, run, "compared", d, "rows").(float64); rows < 5600 {
			t.Errorf("only %v rows of %s are compared", rows, d)
		}
	}
	report := at(t, run, "report").(string)
	for _, name := range []string{report, strings.TrimSuffix(report, ".json") + ".md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: %v %v", filepath.Base(name), info.Mode(), err)
		}
		if !strings.Contains(string(text), "seal") {
			t.Errorf("%s does not tell the steps", filepath.Base(name))
		}
	}
	if replicate != nil {
		replicate.wait(t).ends(t, 0)
		lines := replicate.objects(t)
		is(t, lines[len(lines)-1], "yielded", "reason")
	}
	status := p.run(t, 0, "status", "-o", "json").object(t)
	is(t, status, to, "databases", 0, "serves")
	is(t, status, to, "gate", "side")
	is(t, status, "done", "last_run", "outcome")
	p.run(t, 0, "status").prints(t, "replicate: not running", "leads to the "+string(to), "to the "+string(to))
}
