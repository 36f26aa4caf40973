package chaos

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/demo"
	"dhow/internal/estate"
)

// A cutover is killed at every step that it writes into its journal, there and
// back; started again, it arrives by itself each time.
func TestCutoverKilledAtEveryStep(t *testing.T) {
	tr := newTrip(t, demo.StageConfig{Whole: true, Accounts: 2000, Entries: 10_000, Quick: true})
	tr.depart()
	for _, step := range cutover.Steps() {
		for _, to := range []estate.Side{estate.Target, estate.Source} {
			t.Run(string(step)+"/to the "+string(to), func(t *testing.T) {
				tr := tr.on(t)
				tr.killedAt(step, to)
				tr.arrive(to)
				tr.goesOn(to)
			})
			if t.Failed() {
				tr.on(t)
				return
			}
		}
	}
	tr.on(t).check()
}

// A replication is killed at random moments, in the copy, while the indexes are
// built and in the stream; started again, it goes on each time.
func TestReplicateKilledAtRandomMoments(t *testing.T) {
	const (
		kills    = 50
		most     = 3 * kills // where the machine is so slow that the copy takes more of them
		soonest  = 30 * time.Millisecond
		latest   = 1200 * time.Millisecond
		accounts = 20_000
		// perSecond lets the copy last for about half of the kills.
		perSecond = 8000
	)
	tr := newTrip(t, demo.StageConfig{Accounts: accounts, Entries: 5 * accounts, RowsPerSecond: perSecond})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	phases := map[string]int{}
	for n := 0; n < kills || n < most && phases["stream"] == 0; n++ {
		c := tr.start(tr.command(t.Context(), "replicate", "-o", "json"))
		if n%5 > 0 { // the moments of these do not depend on how long it takes to begin
			tr.await("a report", commandTime, func() bool {
				select {
				case <-c.done:
					return true
				default:
					return lastPhase(c.output()) != "start"
				}
			})
		}
		select {
		case <-c.done:
			t.Fatalf("it ended by itself: %v\n%s", c.err, c.output())
		case <-time.After(soonest + time.Duration(r.Int64N(int64(latest-soonest)))):
		}
		_ = c.cmd.Process.Kill()
		<-c.done
		phases[lastPhase(c.output())]++
	}
	t.Logf("killed %d times, by phase: %v", kills, phases)
	for _, p := range []string{"copy", "stream"} {
		if phases[p] == 0 {
			t.Errorf("no kill fell into phase %q: change the amounts of this test", p)
		}
	}
	tr.depart()
	tr.arrive(estate.Target)
	tr.goesOn(estate.Target)
	tr.check()
}

// lastPhase is the phase of the last report, or "start" before the first.
func lastPhase(out string) string {
	const key = `"phase":"`
	i := strings.LastIndex(out, key)
	if i < 0 {
		return "start"
	}
	phase, _, _ := strings.Cut(out[i+len(key):], `"`)
	return phase
}
