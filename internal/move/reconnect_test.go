package move

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestPersistence(t *testing.T) {
	away, broken := errors.New("away"), errors.New("broken")
	nowhere := &ConnectError{Cause: away}
	held := HeldBy("ledger", "")
	for _, c := range []struct {
		name        string
		runs        []error // what each run ends with
		reports     bool    // whether each run reports before it ends
		reportFirst bool
		want        error
		took        int
	}{
		{name: "a server that was never reached is told at once", runs: []error{nowhere}, want: nowhere, took: 1},
		{name: "one that was reached and goes away at once is sought again", runs: []error{away, nowhere, broken}, want: broken, took: 3},
		{name: "not before the first report, where that is asked for", runs: []error{away}, reportFirst: true, want: away, took: 1},
		{name: "but after it", runs: []error{away, nowhere, broken}, reports: true, reportFirst: true, want: broken, took: 3},
		{name: "a lost connection is sought again", runs: []error{away, away, broken}, reports: true, want: broken, took: 3},
		{name: "an old lock of one's own is waited for", runs: []error{away, held, broken}, reports: true, want: broken, took: 3},
		{name: "somebody else's lock is told at once", runs: []error{held}, reports: true, want: held, took: 1},
		{name: "an end is an end", runs: []error{nil}, reports: true, took: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := Persistence{First: time.Second, Most: time.Minute, Lost: func(err error) bool { return errors.Is(err, away) }, ReportFirst: c.reportFirst, Log: slog.New(slog.DiscardHandler)}
				took := 0
				err := p.Run(t.Context(), func(Progress) {}, func(_ context.Context, report func(Progress)) error {
					if c.reports {
						report(Progress{})
					}
					took++
					return c.runs[took-1]
				})
				if !errors.Is(err, c.want) {
					t.Errorf("ended with %v, want %v", err, c.want)
				}
				if took != c.took {
					t.Errorf("ran %d times, want %d", took, c.took)
				}
			})
		})
	}
}

// A server that stays away is given up after reconnectFor; each report of progress begins that time anew.
func TestPersistenceGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		p := Persistence{First: time.Second, Most: time.Minute, Lost: func(error) bool { return true }, Log: slog.New(slog.DiscardHandler)}
		began := time.Now()
		var well time.Time
		var notes int
		err := p.Run(t.Context(), func(got Progress) {
			if got.Note != "" {
				notes++
			}
		}, func(_ context.Context, report func(Progress)) error {
			if well.IsZero() && time.Since(began) > reconnectFor/2 {
				report(Progress{Rows: 1})
				well = time.Now()
			}
			return away
		})
		if !errors.Is(err, away) {
			t.Errorf("ended with %v, want %v behind it", err, away)
		}
		if sought := time.Since(well); sought < reconnectFor || sought > reconnectFor+2*p.Most {
			t.Errorf("sought the server for %s after the last report", sought)
		}
		if notes < 10 {
			t.Errorf("said %d times that it tries again", notes)
		}
	})
}

// Whatever a run ends with once ctx has ended, Run returns ctx's error, also out of a pause.
func TestPersistenceEnds(t *testing.T) {
	for _, why := range []error{nil, context.Canceled, errors.New("away"), errors.New("broken")} {
		ctx, cancel := context.WithCancel(t.Context())
		p := Persistence{First: time.Second, Most: time.Minute, Lost: func(error) bool { return true }, Log: slog.New(slog.DiscardHandler)}
		err := p.Run(ctx, func(Progress) {}, func(context.Context, func(Progress)) error { cancel(); return why })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %v: ended with %v", why, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour/2)
		defer cancel()
		p := Persistence{First: time.Hour, Most: time.Hour, Lost: func(error) bool { return true }, Log: slog.New(slog.DiscardHandler)}
		err := p.Run(ctx, func(Progress) {}, func(context.Context, func(Progress)) error { return errors.New("away") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestHeldBy(t *testing.T) {
	var refused *Refused
	if err := error(HeldBy("ledger", "")); !errors.As(err, &refused) || refused.Reason != "another dhow moves database ledger already" {
		t.Errorf("says %v", err)
	}
	if err := HeldBy("ledger", "from 10.0.0.1"); err.Reason != "another dhow moves database ledger already from 10.0.0.1" {
		t.Errorf("says %v", err)
	}
}
