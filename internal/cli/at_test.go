package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dhow/internal/window"
)

func TestPrintSchedule(t *testing.T) {
	moment := func(day, hour int, held float64) window.Moment {
		at := time.Date(2026, 3, day, hour, 22, 0, 0, time.UTC)
		return window.Moment{At: at, Until: at.Add(8 * time.Minute), Rate: held * 5, Stall: 200 * time.Millisecond, Held: held, Least: held / 2, Most: held * 2, Weeks: 6}
	}
	p := &window.Plan{Best: moment(17, 4, 0.4), Runners: []window.Moment{moment(18, 4, 2), moment(15, 3, 14.6)}, Usual: 25, Busiest: 1234, Sure: window.Sure{Weeks: 6, Quiet: 5},
		From: noon.AddDate(0, 0, -42), To: noon, Weeks: 6, Requests: 12_345_678, Notes: []string{"12 lines or samples could not be read and were left out"}}
	a, out := printing(t)
	named := moment(16, 12, 80)
	for _, s := range []*schedule{
		{At: p.Best.At, Chosen: true, Zone: "UTC", Stall: 200 * time.Millisecond, Expected: &p.Best, Plan: p},
		{At: named.At, Zone: localZone, Stall: 200 * time.Millisecond, Expected: &named, Plan: p},
		{At: named.At, Zone: "UTC"},
	} {
		if err := a.printSchedule(s); err != nil {
			t.Fatal(err)
		}
		a.printf("")
	}
	golden(t, "schedule.txt", out.String())
}

// TestCountDown counts a day down on a clock of the test's own.
func TestCountDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, out := printing(t)
		to := time.Now().Add(26 * time.Hour)
		if err := a.countDown(t.Context(), to, true, func(left time.Duration) string { return left.String() }); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(to); late < 0 || late > time.Second {
			t.Errorf("it ends %s after its time", late)
		}
		var told []string
		for line := range strings.Lines(out.String()) {
			told = append(told, strings.Fields(line)[1])
		}
		want := []string{"26h0m0s", "25h0m0s", "1h0m0s", "50m0s", "10m0s", "9m0s", "1m0s", "50s", "10s"}
		at := 0
		for _, line := range told {
			if at < len(want) && line == want[at] {
				at++
			}
		}
		if at < len(want) || len(told) != 26+5+9+5 {
			t.Errorf("%d lines are told: %v", len(told), told)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.countDown(ctx, time.Now().Add(time.Hour), true, func(time.Duration) string { return "" }); !errors.Is(err, context.Canceled) {
			t.Errorf("given up, it ends with %v", err)
		}
	})
}

func TestTooLate(t *testing.T) {
	a, _ := printing(t)
	err := a.atItsMoment(t.Context(), &schedule{At: time.Now().Add(-time.Hour)}, time.Second)
	if !errors.Is(err, errTooLate) || !strings.Contains(err.Error(), "begin earlier with --prepare") {
		t.Errorf("an hour late it ends with %v", err)
	}
}
