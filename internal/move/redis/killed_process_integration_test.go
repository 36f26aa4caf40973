package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dhow/internal/move"
)

// A process of its own that replicates finds its servers here.
const (
	childSource = "DHOW_TEST_SOURCE"
	childTarget = "DHOW_TEST_TARGET"
	childPace   = "DHOW_TEST_PACE" // keys a second of its copy
)

// asProcess replicates until it is killed, and returns the exit code where that fails.
func asProcess(source, target, pace string) int {
	var of [2]*redis.Options
	for i, text := range []string{source, target} {
		o, err := redis.ParseURL(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		o.MaxRetries = -1
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		of[i] = o
	}
	perSecond, err := strconv.Atoi(pace)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	m, err := New(Config{Estate: "e", Name: "r", Source: of[0], Target: of[1], Limits: Limits{KeysPerSecond: perSecond}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = m.Replicate(context.Background(), func(move.Progress) {})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

const (
	// keysBefore are what there is to copy, and keysPerSecond is the pace of those
	// copies that are killed: they last longer than anybody needs to kill them.
	keysBefore    = 25_000
	keysPerSecond = 2500
	// killsInCopy and killsInStream are how often the process dies in each.
	killsInCopy   = 3
	killsInStream = 10
)

// TestProcessIsKilled: SIGKILL ends the process that copies and streams, again and
// again, while sessions write what would show if it came twice or never: counters,
// lists and streams that only grow, and transactions over all of them.
func TestProcessIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Redis servers: not with -short (testing.Short)")
	}
	p := newPair(t, "repl-backlog-size", "64mb")
	fillBefore(t, p.from)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { growing(t, ctx, p.from, i) })
	}
	defer wg.Wait()
	defer cancel()

	chance := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	between := func(least, most int) time.Duration {
		return time.Duration(least+chance.IntN(most-least)) * time.Millisecond
	}
	copying, streaming := 0, 0
	for range killsInCopy {
		child := replicatingProcess(t, p, keysPerSecond)
		begun(t, p)
		time.Sleep(between(0, 300)) // when it dies is chance, and any moment must do
		child.kill()
		if s, err := p.mover(t).State(t.Context()); err != nil {
			t.Fatal(err)
		} else if !s.Copied {
			copying++
		}
	}
	for range killsInStream {
		child := replicatingProcess(t, p, 0)
		copied(t, p)
		time.Sleep(between(0, 200))
		child.kill()
		streaming++
	}
	cancel()
	wg.Wait()
	stop := replicating(t, p.m)
	follows(t, p.m, stop)
	same(t, p)
	if err := stop(); err != nil {
		t.Error(err)
	}
	t.Logf("killed %d times within the copy and %d times behind it; %s writes", copying, streaming, p.from.Get(t.Context(), "grows:all").Val())
	if copying == 0 {
		t.Error("no kill fell into the copy: lower keysPerSecond")
	}
}

// fillBefore writes what there is to copy.
func fillBefore(t *testing.T, c *redis.Client) {
	t.Helper()
	const batch = 5000
	for from := 0; from < keysBefore; from += batch {
		if _, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for i := from; i < from+batch; i++ {
				pipe.HSet(t.Context(), fmt.Sprint("before:", i), "n", i, "text", fmt.Sprintf("%02000d", i))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// growing writes until ctx ends.
func growing(t *testing.T, ctx context.Context, c *redis.Client, session int) {
	for n := 0; ctx.Err() == nil; n++ {
		own := fmt.Sprint("grows:", session, ":", n%50)
		_, err := c.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.Incr(ctx, "grows:all")
			tx.Incr(ctx, own)
			tx.RPush(ctx, fmt.Sprint("list:", session), n)
			tx.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []any{"session", session, "n", n}})
			tx.HIncrBy(ctx, fmt.Sprint("before:", n%keysBefore), "n", 1)
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("session %d: %v", session, err)
			return
		}
	}
}

// child is a process that replicates.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
}

func replicatingProcess(t *testing.T, p *pair, keysPerSecond int) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childSource+"="+p.source.URL(), childTarget+"="+p.target.URL(), childPace+"="+strconv.Itoa(keysPerSecond))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{t, cmd}
}

// kill ends the process; it must not have ended by itself.
func (c *child) kill() {
	c.t.Helper()
	_ = c.cmd.Process.Kill() // it may have ended, which Wait says
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // it is one on Linux
		c.t.Fatalf("the process ended by itself: %v", err)
	}
}

// begun waits until the move has begun, and copied until all is copied.
func begun(t *testing.T, p *pair) {
	t.Helper()
	waitFor(t, p, func(s move.State) bool { return s.Started })
}
func copied(t *testing.T, p *pair) {
	t.Helper()
	waitFor(t, p, func(s move.State) bool { return s.Copied })
}

func waitFor(t *testing.T, p *pair, is func(move.State) bool) {
	t.Helper()
	var s move.State
	var err error
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		if s, err = p.m.State(t.Context()); err == nil && is(s) {
			return
		}
	}
	t.Fatalf("it does not come so far: %+v, %v", s, err)
}
