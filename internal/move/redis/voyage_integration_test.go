package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// application writes to the side that serves, on and on; a write that is refused
// goes to the other side.
type application struct {
	clients [2]*redis.Client
	serving atomic.Int32
	count   map[string]int64 // acknowledged INCRs by key
	stop    func()
}

func startApplication(t *testing.T, e *ends) *application {
	t.Helper()
	a := &application{clients: [2]*redis.Client{as(t, e.source, "", ""), as(t, e.target, "", "")}, count: map[string]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	for w := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for ctx.Err() == nil {
				key := fmt.Sprintf("n:%d:%d", w, r.IntN(20))
				err := a.clients[a.serving.Load()].Incr(context.Background(), key).Err()
				if denied(err) {
					time.Sleep(time.Millisecond) // the traffic is about to move
					continue
				}
				if err != nil {
					t.Errorf("a write failed: %v", err)
					return
				}
				mu.Lock()
				a.count[key]++
				mu.Unlock()
				a.clients[a.serving.Load()].Set(context.Background(), "e:"+key, "x", time.Duration(1+r.IntN(200))*time.Millisecond)
			}
		})
	}
	a.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(a.stop)
	return a
}

// passage is one cutover under traffic, by hand, with the proof.
func passage(t *testing.T, m, back *Mover, stopStream func(), app *application, to int32) (stopBack func()) {
	t.Helper()
	must(t, m.Prepare(t.Context()))
	mk, err := m.Fence(t.Context())
	must(t, err)
	must(t, m.CatchUp(t.Context(), mk))
	stopStream()
	must(t, m.Pin(t.Context()))
	must(t, m.Seal(t.Context()))
	must(t, m.Open(t.Context()))
	app.serving.Store(to)
	stopBack = follow(t, back)
	must(t, m.Retire(t.Context()))
	c, err := m.Verify(t.Context(), move.VerifyOptions{Pinned: true}, nil)
	must(t, err)
	if c.Different != 0 || c.Rows == 0 {
		t.Errorf("the proof: %+v", c)
	}
	return stopBack
}

func TestThereBackAndThereAgainWithoutAFullCopy(t *testing.T) {
	e := startEnds(t, "appendonly", "no")
	fill(t, as(t, e.source, "", ""), 2000)
	app := startApplication(t, e)
	e.m.pinPatience = 10 * time.Second
	back, err := e.m.Reverse()
	must(t, err)
	t.Cleanup(func() { back.Close(context.Background()) })
	back.pinPatience = e.m.pinPatience
	stop := follow(t, e.m)
	copies := func() int64 {
		info, err := e.m.dial(t.Context(), source)
		must(t, err)
		defer info.hangUp()
		stats, err := info.info(t.Context(), "stats")
		must(t, err)
		return number(stats, "sync_full")
	}
	stop = passage(t, e.m, back, stop, app, 1)
	stand(t, e.m, move.State{Started: true, Copied: true, Sealed: true, Open: true})
	stand(t, back, move.State{Started: true, Copied: true})
	full := copies()
	stop = passage(t, back, e.m, stop, app, 0)
	stand(t, back, move.State{Started: true, Copied: true, Sealed: true, Open: true})
	stop = passage(t, e.m, back, stop, app, 1)
	stand(t, e.m, move.State{Started: true, Copied: true, Sealed: true, Open: true})
	app.stop()
	// Each full synchronisation behind the first passage was one of the pins.
	if n := copies() - full; n != 2 {
		t.Errorf("%d snapshots of the source were made behind the first passage, want 2 that were pinned", n)
	}
	until(t, "the way back has all", func() bool {
		c, err := back.Verify(t.Context(), move.VerifyOptions{}, nil)
		must(t, err)
		return c.Different == 0 && c.Undecided == 0
	})
	stop()
	for key, want := range app.count {
		for i, c := range app.clients {
			if n, err := c.Get(t.Context(), key).Int64(); err != nil || n != want {
				t.Errorf("%s is %d at side %d, want %d: %v", key, n, i, want, err)
			}
		}
	}
	must(t, e.m.Finish(t.Context()))
	for i, c := range app.clients {
		if keys := c.Keys(t.Context(), ourPrefix+"*").Val(); len(keys) > 0 {
			t.Errorf("left at side %d: %v", i, keys)
		}
		if list := strings.Join(aclList(t, c), "\n"); strings.Contains(list, "dhow") {
			t.Errorf("left at side %d: %s", i, list)
		}
	}
}

// errKilled is what a process gets that was killed.
var errKilled = errors.New("killed")

// dying ends a mover's process behind so many commands: nothing that it sends
// after them arrives.
type dying struct{ left *atomic.Int64 }

func (d dying) DialHook(next redis.DialHook) redis.DialHook { return next }
func (d dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.left.Add(-1) < 0 {
			cmd.SetErr(errKilled)
			return errKilled
		}
		return next(ctx, cmd)
	}
}

func (d dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if d.left.Add(-1) < 0 {
			for _, c := range cmds {
				c.SetErr(errKilled)
			}
			return errKilled
		}
		return next(ctx, cmds)
	}
}

// TestKilledBetweenAnyTwoCommands kills the process that fences, seals and opens
// behind each of its commands. The servers' word then says what to do, and a new
// process does it: undo what is not open, or go on.
func TestKilledBetweenAnyTwoCommands(t *testing.T) {
	e := startEnds(t, "appendonly", "no")
	admin, there := as(t, e.source, "", ""), as(t, e.target, "", "")
	people(t, admin)
	must(t, admin.Set(t.Context(), "k", "1", time.Hour).Err())
	stop := follow(t, e.m)
	before := sorted(withoutOurs(aclList(t, admin)))
	done, serves := false, 0
	for n := int64(0); !done; n++ {
		m := e.mover(t)
		m.pauseTime = 30 * time.Second // its renewals die with it
		left := &atomic.Int64{}
		left.Store(n)
		must(t, e.m.Prepare(t.Context()))
		mk, err := func() (move.Marker, error) {
			m.onDial = func(s *session) { s.AddHook(dying{left}) }
			return m.Fence(t.Context())
		}()
		if err == nil {
			must(t, e.m.CatchUp(t.Context(), mk))
			stop()
			if err = m.Seal(t.Context()); err == nil {
				if err = m.Open(t.Context()); err == nil {
					done = true
				}
			}
			m.kill()
			st, err := e.mover(t).State(t.Context())
			must(t, err)
			if st.Open {
				serves++
				if !st.Sealed {
					t.Fatalf("killed behind command %d: both sides take writes", n)
				}
				next := e.mover(t)
				must(t, next.Open(t.Context()))
				if err := admin.Set(t.Context(), "k", "2", 0).Err(); !denied(err) {
					t.Fatalf("killed behind command %d: the source takes a write: %v", n, err)
				}
				must(t, there.Set(t.Context(), "k", "2", time.Hour).Err())
				// Home again, so that the next round can begin.
				back, err := next.Reverse()
				must(t, err)
				stopBack := follow(t, back)
				must(t, back.Prepare(t.Context()))
				mk, err := back.Fence(t.Context())
				must(t, err)
				must(t, back.CatchUp(t.Context(), mk))
				stopBack()
				must(t, back.Seal(t.Context()))
				must(t, back.Open(t.Context()))
				back.Close(t.Context())
				next.Close(t.Context())
			}
		} else {
			m.kill()
		}
		st, err := e.mover(t).State(t.Context())
		must(t, err)
		if st.Open {
			t.Fatalf("killed behind command %d: open: %+v", n, st)
		}
		must(t, e.mover(t).Unfence(t.Context()))
		must(t, admin.Set(t.Context(), "k", fmt.Sprint(n), time.Hour).Err())
		if err := there.Set(t.Context(), "k", "2", 0).Err(); !denied(err) {
			t.Fatalf("killed behind command %d: the target takes a write: %v", n, err)
		}
		if after := sorted(withoutOurs(aclList(t, admin))); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Fatalf("killed behind command %d: the users are\n%s", n, strings.Join(after, "\n"))
		}
		if _, err := e.m.isRunning(); err != nil {
			stop = follow(t, e.m)
		}
	}
	t.Logf("the target served behind %d of the kills", serves)
	stop()
}

// withoutOurs leaves the move's own users out.
func withoutOurs(list []string) []string {
	var theirs []string
	for _, l := range list {
		if !strings.HasPrefix(l, "user dhow-") {
			theirs = append(theirs, l)
		}
	}
	return theirs
}

// kill ends a mover as the death of its process would: nothing more is sent.
func (m *Mover) kill() {
	m.mu.Lock()
	f := m.fence
	m.fence = nil
	m.mu.Unlock()
	if f != nil {
		f.end()
		f.s.hangUp()
	}
	m.closeSpares()
	m.dropLog()
}
