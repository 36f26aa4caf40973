package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// follow runs a mover's stream until the test, or stop, ends it.
func follow(t *testing.T, m *Mover) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Replicate(ctx, func(move.Progress) {}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
	})
	t.Cleanup(stop)
	until(t, "it streams", func() bool {
		select {
		case err := <-ended:
			ended <- err // for stop
			t.Fatalf("the stream ended with %v", err)
		default:
		}
		_, err := m.isRunning()
		return err == nil
	})
	return stop
}

// knows says whether a server knows a command.
func knows(t *testing.T, c *redis.Client, command string) bool {
	t.Helper()
	known, err := c.Do(t.Context(), "COMMAND", "INFO", command).Slice()
	must(t, err)
	return known[0] != nil
}

// fill writes keys of all types.
func fill(t *testing.T, c *redis.Client, n int) {
	t.Helper()
	for from := 0; from < n; from += 500 {
		_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := from; i < min(n, from+500); i++ {
				k := fmt.Sprintf("k:%d", i)
				switch i % 6 {
				case 0:
					p.Set(t.Context(), k, strings.Repeat("v", i%300), 0)
				case 1:
					p.Set(t.Context(), k, i, time.Hour+time.Duration(i)*time.Millisecond)
				case 2:
					p.HSet(t.Context(), k, "a", i, "b", strings.Repeat("x", i%100))
				case 3:
					p.SAdd(t.Context(), k, i, i+1, "word")
				case 4:
					p.ZAdd(t.Context(), k, redis.Z{Score: float64(i) / 3, Member: "m"}, redis.Z{Score: 1, Member: i})
				default:
					p.RPush(t.Context(), k, "a", i)
				}
			}
			return nil
		})
		must(t, err)
	}
}

func TestPinnedSnapshotsAreComparedWhileBothSidesMoveOn(t *testing.T) {
	for name, most := range map[string]int{"keys are remembered": rememberMost, "sums alone": 1000} {
		t.Run(name, func(t *testing.T) {
			e := startEnds(t)
			e.m.pinPatience = 10 * time.Second
			e.m.rememberMost = most
			admin := as(t, e.source, "", "")
			fill(t, admin, 6000)
			o3 := optionsOf(t, e.source)
			o3.DB = 3
			third := redis.NewClient(o3)
			defer third.Close()
			fill(t, third, 600)
			spaces := 2
			if knows(t, admin, "FUNCTION") {
				spaces++
				do(t, admin, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
			}
			do(t, admin, "SET", "gone soon", "1", "PX", "1")

			// Both sides are made to differ behind the mover's back.
			stop := follow(t, e.m)
			must(t, e.m.Prepare(t.Context()))
			o, err := e.m.options(t.Context(), target)
			must(t, err)
			own := redis.NewClient(o)
			defer own.Close()
			until(t, "it is copied", func() bool { return own.Exists(t.Context(), "k:5999").Val() == 1 })
			must(t, own.Set(t.Context(), "k:0", "other", 0).Err())
			must(t, own.HSet(t.Context(), "k:2", "b", "other").Err())
			must(t, own.Del(t.Context(), "k:4").Err())
			must(t, own.Set(t.Context(), "only here", "1", 0).Err())
			must(t, own.Do(t.Context(), "PEXPIREAT", "k:7", int64(expiryPad)+time.Now().Add(9*time.Hour).UnixMilli()).Err())

			mk, err := e.m.Fence(t.Context())
			must(t, err)
			must(t, e.m.CatchUp(t.Context(), mk))
			stop()
			must(t, e.m.Pin(t.Context()))
			must(t, e.m.Seal(t.Context()))
			must(t, e.m.Open(t.Context()))
			// The application goes on at the target.
			do(t, as(t, e.target, "", ""), "DEL", "k:10", "k:11")
			do(t, as(t, e.target, "", ""), "SET", "new", "1")
			c, err := e.m.Verify(t.Context(), move.VerifyOptions{Pinned: true}, nil)
			must(t, err)
			want := []string{"changed db0 k:0", "changed db0 k:2", "missing db0 k:4", "changed db0 k:7", `extra db0 "only here"`}
			if len(c.ByTable) != spaces || c.ByTable[0].Rows != 6000 || c.ByTable[1].Rows != 600 || spaces == 3 && c.ByTable[2].Rows != 1 {
				t.Errorf("by table: %+v", c.ByTable)
			}
			if most == rememberMost {
				checkDifferences(t, c, want)
			} else if c.Different < int64(spaces)+2 { // k:7 only where expiries are exact; k:10, k:11 and new may be named too: their buckets may be others' as well
				t.Errorf("%d differ: %+v", c.Different, c.Differences)
			}
			if _, err := e.m.Verify(t.Context(), move.VerifyOptions{Pinned: true}, nil); err == nil {
				t.Error("what was pinned is compared twice")
			}
		})
	}
}

// checkDifferences compares "kind table key…" with what was found.
func checkDifferences(t *testing.T, c move.Comparison, want []string) {
	t.Helper()
	var got []string
	for _, d := range c.Differences {
		got = append(got, fmt.Sprintf("%s %s %s", d.Kind, d.Table, d.Key))
	}
	slices.Sort(want)
	slices.Sort(got)
	ok := len(got) == len(want) && c.Different == int64(len(want))
	for i := range min(len(got), len(want)) {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("%d differ:\n%s\nwant\n%s", c.Different, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMovingDataIsComparedWithoutFalseAlarms(t *testing.T) {
	e := startEnds(t, "appendonly", "no")
	admin := as(t, e.source, "", "")
	fill(t, admin, 3000)
	follow(t, e.m)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 3 {
		c := as(t, e.source, "", "")
		writers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				k := fmt.Sprintf("k:%d", 1000+r.IntN(2300)) // the first thousand stay, whatever the writers get done
				switch r.IntN(6) {
				case 0:
					c.Del(ctx, k)
				case 1:
					c.Set(ctx, k, r.Int(), time.Duration(1+r.IntN(20))*time.Millisecond)
				case 2:
					c.Set(ctx, k, r.Int(), time.Hour)
				case 3:
					c.PExpire(ctx, k, time.Duration(r.IntN(3000))*time.Millisecond)
				case 4:
					c.Incr(ctx, "hot")
				default:
					c.Incr(ctx, "hot")
					c.HSet(ctx, fmt.Sprintf("h:%d", r.IntN(50)), "f", r.Int())
				}
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	for range 3 {
		c, err := e.m.Verify(t.Context(), move.VerifyOptions{}, nil)
		must(t, err)
		if c.Different != 0 || c.Rows < 1000 {
			t.Errorf("false alarms: %+v", c)
		}
	}

	// Planted differences are found and repaired, while all goes on.
	o, err := e.m.options(t.Context(), target)
	must(t, err)
	own := redis.NewClient(o)
	defer own.Close()
	must(t, admin.HSet(t.Context(), "quiet", "a", 1, "b", 2).Err())
	must(t, admin.Set(t.Context(), "ends", 1, time.Hour).Err())
	must(t, admin.RPush(t.Context(), "list\x00", 1).Err())
	do(t, admin, "XADD", "log", "*", "a", "b")
	do(t, admin, "XGROUP", "CREATE", "log", "group", "0")
	do(t, admin, "XREADGROUP", "GROUP", "group", "me", "STREAMS", "log", ">")
	until(t, "they arrive", func() bool {
		pending, err := own.XPending(t.Context(), "log", "group").Result()
		return err == nil && pending.Count == 1
	})
	must(t, own.HSet(t.Context(), "quiet", "b", 3).Err())
	must(t, own.Persist(t.Context(), "ends").Err())
	must(t, own.Del(t.Context(), "list\x00").Err())
	must(t, own.Set(t.Context(), "extra", 1, 0).Err())
	do(t, own, "XACK", "log", "group", own.XPending(t.Context(), "log", "group").Val().Lower)
	want := []string{`changed db0 quiet (hash field`, `changed db0 ends (string, expiry)`, `missing db0 "list\x00" (list)`, `extra db0 extra (string)`, `changed db0 log (stream`}
	c, err := e.m.Verify(t.Context(), move.VerifyOptions{}, nil)
	must(t, err)
	checkDifferences(t, c, want)
	c, err = e.m.Verify(t.Context(), move.VerifyOptions{Repair: true}, nil)
	must(t, err)
	checkDifferences(t, c, want)
	if c.Repaired != int64(len(want)) {
		t.Errorf("%d of %d repaired", c.Repaired, len(want))
	}
	c, err = e.m.Verify(t.Context(), move.VerifyOptions{}, nil)
	must(t, err)
	if c.Different != 0 {
		t.Errorf("after the repair: %+v", c.Differences)
	}
}
