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

// TestAt lets cutovers wait for their time: beside a replicate, alone, until they
// are given up, until they are too late, and until something is not well.
func TestAt(t *testing.T) {
	t.Parallel()
	s := newStage(t, 15, 15)
	for name, test := range map[string]func(*testing.T){
		"beside a replicate": s.testAtBeside,
		"alone":              s.testAtAlone,
		"not well":           s.testAtNotWell,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			test(t)
		})
	}
}

// soon is a time that comes soon, as it is named to a command.
func soon(in time.Duration) string { return time.Now().Add(in).Format(time.RFC3339) }

// history is two weeks of a quiet night and a busy day, in quarters of an hour.
func history(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	end := time.Now().Truncate(15 * time.Minute)
	for at := end.Add(-16 * 24 * time.Hour); at.Before(end); at = at.Add(15 * time.Minute) {
		n := 90_000
		if h := at.UTC().Hour(); h >= 2 && h < 4 {
			n = 900
		}
		fmt.Fprintf(&b, "%s,%d\n", at.UTC().Format("2006-01-02 15:04:05"), n)
	}
	path := filepath.Join(t.TempDir(), "requests.csv")
	write(t, path, b.String())
	return path
}

func (s *stage) testAtBeside(t *testing.T) {
	s.create(t, "beside")
	p := s.estateOf(t, roomy, nil, "beside")
	replicate := p.begin(t, "replicate", "-o", "json")
	eventually(t, "replicate streams", func() bool { return strings.Contains(replicate.out.String(), `"phase":"stream"`) })
	s.exec(t, cutover.Source, "beside", "INSERT INTO log (line) VALUES ('while it waits')")
	moment := time.Now().Add(15 * time.Second).Truncate(time.Second)
	run := p.run(t, 0, "cutover", "--at", moment.Format(time.RFC3339), "--prepare", "12s", "--history", history(t), "--zone", "UTC", "--yes", "-o", "json").object(t)
	is(t, run, "done", "outcome")
	is(t, run, 0, "compared", "beside", "different")
	is(t, run, false, "schedule", "chosen")
	is(t, run, "UTC", "schedule", "zone")
	at(t, run, "schedule", "expected", "held")
	at(t, run, "schedule", "plan", "runners_up", 0, "at")
	held, err := time.Parse(time.RFC3339Nano, at(t, run, "held_at").(string))
	if err != nil || held.Before(moment) || held.After(moment.Add(time.Minute)) {
		t.Errorf("requests were held at %s (%v), want %s", held, err, moment)
	}
	replicate.wait(t).ends(t, 0)
	lines := replicate.objects(t)
	is(t, lines[len(lines)-1], "yielded", "reason")
}

func (s *stage) testAtAlone(t *testing.T) {
	s.create(t, "alone")
	p := s.estateOf(t, roomy, nil, "alone")
	p.run(t, 1, "cutover", "--at", soon(time.Hour), "--yes").says(t, "it is not waited for", "database alone is not copied yet", "next: run `dhow replicate` until it streams")
	p.run(t, 1, "cutover", "--now", "--yes").says(t, "database alone is not copied yet")
	p.run(t, 0, "replicate", "--until-streaming")

	// Ctrl-C, after it has streamed: nothing has changed.
	waits := p.begin(t, "cutover", "--at", soon(time.Hour), "--yes")
	s.exec(t, cutover.Source, "alone", "INSERT INTO log (line) VALUES ('while it waits')")
	eventually(t, "it streams", func() bool {
		return s.one(t, cutover.Target, "alone", "SELECT count(*)::text FROM log WHERE line = 'while it waits'") == "1"
	})
	status := p.run(t, 0, "status", "-o", "json").object(t)
	is(t, status, os.Getpid(), "replicate", "pid")
	waits.stop()
	waits.wait(t).ends(t, 1)
	waits.says(t, "waiting for the moment was given up, nothing was changed")
	waits.prints(t, "the cutover begins in 49m", "Ctrl-C gives it up")
	is(t, p.run(t, 0, "status", "-o", "json").object(t), "source", "databases", 0, "serves")

	// Somebody else's cutover takes the estate over from one that waits.
	waits = p.begin(t, "cutover", "--at", soon(time.Hour), "--yes")
	eventually(t, "it waits", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, ".dhow", "dhow.sock"))
		return err == nil
	})
	is(t, p.run(t, 0, "cutover", "--dry-run", "-o", "json").object(t), true, "dry_run")
	waits.wait(t).ends(t, 1)
	waits.says(t, "given up: handed over to `dhow cutover`")

	// And to its end, streaming by itself, printing for people.
	done := p.run(t, 0, "cutover", "--at", soon(25*time.Second), "--prepare", "20s", "--yes")
	done.prints(t, "the cutover starts at", "checking whether all is well", "all is ready: the traffic moves in", "the target serves")
	p.run(t, 1, "cutover", "--now", "--yes").says(t, "the target serves already")
}

// testAtNotWell: what was well when the waiting began is looked at again.
func (s *stage) testAtNotWell(t *testing.T) {
	s.create(t, "unwell")
	p := s.estateOf(t, roomy, nil, "unwell")
	p.run(t, 0, "replicate", "--until-streaming")
	waits := p.begin(t, "cutover", "--at", soon(25*time.Second), "--prepare", "1s", "--yes")
	eventually(t, "it waits", func() bool { return strings.Contains(waits.out.String(), "the cutover begins in") })
	s.exec(t, cutover.Source, "unwell", "CREATE TABLE fresh (n int)")
	waits.wait(t).ends(t, 1)
	waits.says(t, "the cutover was not started", "preflight finds", "public.fresh", "see `dhow preflight`")
	is(t, p.run(t, 0, "status", "-o", "json").object(t), "source", "databases", 0, "serves")
	s.exec(t, cutover.Source, "unwell", "DROP TABLE fresh")
	is(t, p.run(t, 0, "cutover", "--now", "--yes", "-o", "json").object(t), "done", "outcome")
}
