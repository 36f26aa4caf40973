package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dhow/internal/move"
	"dhow/internal/move/redis/rdb"
	"dhow/internal/redisserver"
	"dhow/internal/redisserver/redistest"
)

// patience bounds each wait of a test.
const patience = 30 * time.Second

// pair is a source and a target of a test.
type pair struct {
	source, target *redisserver.Server
	m              *Mover
	from, to       *redis.Client
}

func serverOptions(t testing.TB, s *redisserver.Server) *redis.Options {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	// Several sessions of one client would change the setting at once, see go-redis' initConn.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o
}

// newPair starts two servers and a mover between them. Its own connection to the
// target may read there, for the users' rights to write are taken.
func newPair(t testing.TB, settings ...string) *pair {
	t.Helper()
	settings = append([]string{"appendonly", "no"}, settings...)
	p := &pair{source: redistest.Start(t, settings...), target: redistest.Start(t, settings...)}
	p.from, p.to = redis.NewClient(serverOptions(t, p.source)), redis.NewClient(serverOptions(t, p.target))
	t.Cleanup(func() { _, _ = p.from.Close(), p.to.Close() })
	p.m = p.mover(t)
	return p
}

func (p *pair) mover(t testing.TB) *Mover {
	t.Helper()
	m, err := New(Config{Estate: "e", Name: "r", Source: serverOptions(t, p.source), Target: serverOptions(t, p.target), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.WithoutCancel(t.Context())) })
	return m
}

// replicating runs Replicate until stop is called, which returns its error.
func replicating(t testing.TB, m *Mover) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Replicate(ctx, func(move.Progress) {})
	}()
	var err error
	ended := false
	stop = func() error {
		cancel()
		if !ended {
			err, ended = <-done, true
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// follows waits until the target has all that the source has acknowledged.
func follows(t testing.TB, m *Mover, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if _, err = m.Rehearse(ctx); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("the stream does not catch up: %v, %v", err, stop())
}

// held is a key of a server.
type held struct {
	payload string
	sum     rdb.Sum
	end     int64
}

// state is all that a server holds, by database and key.
func state(t testing.TB, c *redis.Client) map[string]held {
	t.Helper()
	ctx := t.Context()
	all := map[string]held{}
	for db := range 16 {
		conn := c.Conn()
		if err := conn.Select(ctx, db).Err(); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for cursor := uint64(0); ; {
			some, next, err := conn.Scan(ctx, cursor, "", 1000).Result()
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, some...)
			if cursor = next; cursor == 0 {
				break
			}
		}
		for _, key := range keys {
			if strings.HasPrefix(key, ourPrefix) {
				continue
			}
			payload, err := conn.Dump(ctx, key).Bytes()
			if errors.Is(err, redis.Nil) {
				continue
			}
			end, err2 := conn.Do(ctx, "PEXPIRETIME", key).Int64()
			sum, err3 := rdb.Digest(payload, true)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatalf("%q: %v", key, err)
			}
			if end == -2 { // it ended just now
				continue
			}
			all[fmt.Sprintf("db%d %q", db, key)] = held{string(payload), sum, trueExpiry(end)}
		}
		if err := conn.Select(ctx, 0).Err(); err != nil { // it goes back to the pool
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	return all
}

// same compares both servers; keys that end meanwhile are no difference.
func same(t testing.TB, p *pair) {
	t.Helper()
	a, b := state(t, p.from), state(t, p.to)
	now := time.Now().UnixMilli()
	for _, all := range []map[string]held{a, b} {
		for k, v := range all {
			if v.end > 0 && v.end <= now { // whether it is still there is chance
				delete(a, k)
				delete(b, k)
			}
		}
	}
	bad := 0
	for k, v := range a {
		w, ok := b[k]
		switch {
		case bad >= 20 || ok && w.sum == v.sum && w.end == v.end:
			continue
		case !ok:
			t.Errorf("%s: only at the source, until %d", k, v.end)
		default:
			diff, err := rdb.Diff([]byte(v.payload), []byte(w.payload), true)
			t.Errorf("%s: until %d and %d, %s, %v", k, v.end, w.end, diff, err)
		}
		bad++
	}
	for k, v := range b {
		if _, ok := a[k]; !ok && bad < 20 {
			bad++
			t.Errorf("%s: only at the target, until %d", k, v.end)
		}
	}
}

func TestReplicateCopiesAndStreams(t *testing.T) {
	p := newPair(t)
	ctx := t.Context()
	far := time.Now().Add(time.Hour).UnixMilli()
	do := func(args ...any) {
		t.Helper()
		if err := p.from.Do(ctx, args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	do("SET", "a", "1", "PXAT", far)
	do("XADD", "s", "*", "f", "v")
	do("XGROUP", "CREATE", "s", "g", "0")
	do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('inc', function(k) return redis.call('INCR', k[1]) end)")
	stop := replicating(t, p.m)
	follows(t, p.m, stop)
	same(t, p)
	do("INCR", "a")
	do("FCALL", "inc", 1, "a")
	do("EVAL", "redis.call('SET', KEYS[1], 'x', 'EX', 100); return redis.call('RPUSH', KEYS[2], 1, 2)", 2, "e", "l")
	do("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
	if _, err := p.from.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Set(ctx, "t1", "1", time.Minute)
		tx.Do(ctx, "SELECT", 2)
		tx.HSet(ctx, "h", "f", "v")
		tx.Do(ctx, "SELECT", 0)
		tx.Incr(ctx, "a")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	follows(t, p.m, stop)
	same(t, p)
	do("FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\nredis.register_function('dec', function(k) return redis.call('DECR', k[1]) end)")
	do("SWAPDB", 0, 2)
	do("SET", "after", "swap")
	follows(t, p.m, stop)
	same(t, p)
	do("FLUSHDB")
	do("SET", "after", "flush", "EX", 50)
	follows(t, p.m, stop)
	same(t, p)
	do("FLUSHALL")
	do("SET", "after", "flushall", "KEEPTTL")
	do("PUBLISH", "channel", "message")
	follows(t, p.m, stop)
	same(t, p)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s, err := p.m.State(ctx); err != nil || !s.Copied || s.Open || s.Sealed {
		t.Errorf("%+v, %v", s, err)
	}
	do("SET", "while", "nobody streams", "EX", 1000)
	stop = replicating(t, p.m)
	follows(t, p.m, stop)
	same(t, p)
	if libs, err := p.to.FunctionList(ctx, redis.FunctionListQuery{}).Result(); err != nil || len(libs) != 1 || libs[0].Functions[0].Name != "dec" {
		t.Errorf("%v, %v", libs, err)
	}
}
