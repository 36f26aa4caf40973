package orphan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

//nolint:gochecknoglobals // constants
var (
	begin   = time.Date(2026, 12, 7, 9, 0, 0, 0, time.UTC)
	deletes = Settings{Cluster: "bank", Delete: true, After: 24 * time.Hour}
)

// gone is a judgement of orphans alone, with what shows whose they are.
func gone(names ...string) Judgement {
	all := []Resource{proof()}
	for _, name := range names {
		all = append(all, made(LoadBalancer, name, "service.k8s.aws", "gone/"+name))
	}
	for i := range names {
		all = append(all, made(LoadBalancer, fmt.Sprint("owned", i), "service.k8s.aws", "shop/db"))
	}
	return Judge(all, living())
}

// reread is a report as the next look has it.
func reread(t interface {
	Helper()
	Fatal(...any)
}, r Report) Report {
	t.Helper()
	text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// follow looks every step for a time, and returns the last report and what was due then.
func follow(t *testing.T, r Report, s Settings, j Judgement, from time.Time, lasts, step time.Duration) (Report, []string, time.Time) {
	t.Helper()
	now := from
	var due []string
	for ; !now.After(from.Add(lasts)); now = now.Add(step) {
		r, due = reread(t, r).Next(s, now, j)
		if len(due) > 0 && now.Before(from.Add(s.After)) {
			t.Fatalf("after %s %v are due", now.Sub(from), due)
		}
	}
	return r, due, now.Add(-step)
}

func TestNext(t *testing.T) {
	one := gone("a")
	arn := "arn:LoadBalancer:a"
	r, due, now := follow(t, Report{}, deletes, one, begin, 24*time.Hour, 10*time.Minute)
	if !slices.Equal(due, []string{arn}) || !r.Orphans[0].Deleting || !r.Orphans[0].Since.Equal(begin) {
		t.Fatalf("after a day got %v, %+v", due, r)
	}
	t.Run("a rehearsal", func(t *testing.T) {
		s := deletes
		s.Delete = false
		r, due, _ := follow(t, Report{}, s, one, begin, 48*time.Hour, 10*time.Minute)
		if len(due) > 0 || r.Mode != "DryRun" || r.Orphans[0].Then != "nothing, for this is a dry run; else it would be deleted from 2026-12-08T09:00:00Z on" {
			t.Errorf("got %v, %+v", due, r)
		}
	})
	t.Run("it was killed before it could say what it deleted", func(t *testing.T) {
		next, due := reread(t, r).Next(deletes, now.Add(time.Minute), gone())
		if len(due) > 0 || len(next.Orphans) > 0 || len(next.Deleted) != 1 || next.Deleted[0].ARN != arn || next.Deleted[0].At == nil {
			t.Errorf("got %v, %+v", due, next)
		}
	})
	t.Run("it was killed before it deleted", func(t *testing.T) {
		next, due := reread(t, r).Next(deletes, now.Add(time.Minute), one)
		if !slices.Equal(due, []string{arn}) || len(next.Deleted) > 0 {
			t.Errorf("got %v, %+v", due, next)
		}
	})
	t.Run("it had an owner between", func(t *testing.T) {
		between, _ := reread(t, r).Next(deletes, now.Add(time.Minute), gone())
		next, due := reread(t, between).Next(deletes, now.Add(2*time.Minute), one)
		if len(due) > 0 || !next.Orphans[0].Since.Equal(now.Add(2*time.Minute)) {
			t.Errorf("got %v, %+v", due, next)
		}
	})
	for name, c := range map[string]struct {
		change func(*Report)
		s      func(*Settings)
		later  time.Duration
	}{
		"nobody looked for long":     {later: longestGap + time.Second},
		"the clock went back":        {later: -time.Minute},
		"of another cluster":         {change: func(r *Report) { r.Cluster = "other" }, later: time.Minute},
		"from a time to come":        {change: func(r *Report) { later := now.Add(time.Hour); r.Orphans[0].Since = &later }, later: time.Minute},
		"somebody took the time out": {change: func(r *Report) { r.Orphans[0].Since = nil }, later: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			before := reread(t, r)
			if c.change != nil {
				c.change(&before)
			}
			at := now.Add(c.later)
			next, due := before.Next(deletes, at, one)
			if len(due) > 0 || !next.Orphans[0].Since.Equal(at) {
				t.Errorf("got %v, %+v", due, next)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		j := one
		j.Refusal = "no"
		next, due := reread(t, r).Next(deletes, now.Add(time.Minute), j)
		if len(due) > 0 || next.Refused != "no" || next.Orphans[0].Then != "nothing: see refused" || !next.Orphans[0].Since.Equal(begin) {
			t.Errorf("got %v, %+v", due, next)
		}
	})
	t.Run("no more than a few at once", func(t *testing.T) {
		names := strings.Split("abcdefgh", "")
		_, due, _ := follow(t, Report{}, deletes, gone(names...), begin, 24*time.Hour, 30*time.Minute)
		if len(due) != mostDeletions {
			t.Errorf("got %v", due)
		}
	})
	t.Run("a load balancer first", func(t *testing.T) {
		lb, tg := made(LoadBalancer, "x", "service.k8s.aws", "shop/gone"), made(TargetGroup, "x", "service.k8s.aws", "shop/gone")
		r, due, now := follow(t, Report{}, deletes, Judge([]Resource{behind(tg, "x"), lb, proof()}, living()), begin, 24*time.Hour, 30*time.Minute)
		if !slices.Equal(due, []string{lb.ARN}) || r.Orphans[1].Then != "deleted once its load balancer is gone" {
			t.Fatalf("got %v, %+v", due, r)
		}
		r.Settle(lb.ARN, now, nil)
		r, due = reread(t, r).Next(deletes, now.Add(10*time.Minute), Judge([]Resource{tg, proof()}, living()))
		if !slices.Equal(due, []string{tg.ARN}) || len(r.Deleted) != 1 {
			t.Errorf("got %v, %+v", due, r)
		}
	})
	t.Run("AWS refuses", func(t *testing.T) {
		r := reread(t, r)
		r.Settle(arn, now, errors.New(strings.Repeat("ä", mostText)))
		if e := r.Orphans[0]; e.Deleting || len(r.Deleted) > 0 || !strings.HasPrefix(e.Then, "tried again at the next look: ä") || len(e.Then) > 2*mostText {
			t.Errorf("got %+v", r)
		}
		if _, due := reread(t, r).Next(deletes, now.Add(time.Minute), one); !slices.Equal(due, []string{arn}) {
			t.Errorf("got %v", due)
		}
	})
	t.Run("many", func(t *testing.T) {
		var j Judgement
		for i := range 3 * mostEntries {
			for _, s := range []State{Orphan, Kept, NotUnderstood} {
				name := fmt.Sprintf("%032d", i)
				j.Findings = append(j.Findings, Finding{Resource: Resource{Kind: LoadBalancer, Name: name, ARN: fmt.Sprintf("arn:%0250d:%s-%d", 0, name, s)}, State: s, Why: strings.Repeat("w", 250), Owner: strings.Repeat("o", 250)})
			}
		}
		r, _ := Report{}.Next(deletes, begin, j)
		text, err := r.Text()
		if err != nil || len(text) > 1<<20 || r.LeftOut != 6*mostEntries {
			t.Errorf("got %d bytes, %d left out, %v", len(text), r.LeftOut, err)
		}
	})
}

// TestSeenAllTheTime: whatever comes between, nothing is due that was not an orphan at every
// look of the time before.
func TestSeenAllTheTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{Cluster: "bank", Delete: true, After: 2 * time.Hour}
		var r Report
		var since time.Time // of the only orphan there can be, zero without
		now := begin
		last := now
		for range rapid.IntRange(1, 16).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 80).Draw(t, "minutes")) * time.Minute)
			j := gone()
			if rapid.IntRange(0, 9).Draw(t, "there") > 0 {
				j = gone("a")
			}
			switch {
			case j.Orphan("arn:LoadBalancer:a") == nil:
				since = time.Time{}
			case since.IsZero() || now.Sub(last) > longestGap:
				since = now
			}
			last = now
			var due []string
			r, due = reread(t, r).Next(s, now, j)
			if want := !since.IsZero() && now.Sub(since) >= s.After; (len(due) > 0) != want {
				t.Fatalf("at %s, an orphan since %s, got %v", now, since, due)
			}
			if len(due) > 0 && rapid.Bool().Draw(t, "fails") {
				r.Settle(due[0], now, errors.New("no"))
			}
		}
	})
}

// FuzzRead: whatever stands in the report, nothing that was no orphan a while ago is due.
func FuzzRead(f *testing.F) {
	r, _ := Report{}.Next(deletes, begin, gone("a"))
	text, err := r.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Add("orphans: [{since: 2026-01-01T00:00:00Z, arn: 'arn:LoadBalancer:a'}]\ncluster: bank\nlooked: 0001-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Read(text)
		if err != nil {
			return
		}
		r.Looked = begin.Add(-2 * longestGap)
		if _, due := r.Next(deletes, begin, gone("a")); len(due) > 0 {
			t.Fatalf("%v are due", due)
		}
	})
}
