package redis

import (
	"strings"
	"testing"
	"time"
)

// TestReplicateByNotifications moves from a server that knows no PSYNC.
func TestReplicateByNotifications(t *testing.T) {
	p := newPair(t, "rename-command", `PSYNC ""`)
	do := func(args ...any) {
		t.Helper()
		if err := p.from.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	do("SET", "a", "1", "EX", 1000)
	do("HSET", "h", "f", "v")
	do("XADD", "s", "1-1", "f", "v")
	do("XGROUP", "CREATE", "s", "g", "0")
	stop := replicating(t, p.m)
	follows(t, p.m, stop)
	same(t, p)
	do("INCR", "a")
	do("RENAME", "h", "i")
	do("MOVE", "i", 3)
	do("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">") // no notification tells of it
	do("SET", "short", "x", "PX", 30)
	do("EVAL", "for i = 1, 2000 do redis.call('SET', KEYS[1] .. i, i) end return 1", 1, "many")
	do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	follows(t, p.m, stop)
	state(t, p.from)
	follows(t, p.m, stop)
	same(t, p)
	do("SWAPDB", 0, 3)
	follows(t, p.m, stop)
	same(t, p)
	do("FLUSHDB")
	do("SET", "left", "over")
	follows(t, p.m, stop)
	same(t, p)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	do("DEL", "left")
	do("SET", "meanwhile", 1)
	p.m = p.mover(t)
	stop = replicating(t, p.m)
	follows(t, p.m, stop)
	same(t, p)
	if got, err := p.to.FunctionDump(t.Context()).Result(); err != nil || !strings.Contains(got, "lib") {
		t.Errorf("functions %q, %v", got, err)
	}
	ctx := t.Context()
	if err := p.m.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	do("SET", "last", time.Now().String())
	marker, err := p.m.Fence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- p.m.CatchUp(ctx, marker) }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the fence's marker is not reached")
	}
	same(t, p)
	if err := p.m.Unfence(ctx); err != nil {
		t.Fatal(err)
	}
}
