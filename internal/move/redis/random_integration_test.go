package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// randomTime bounds the rounds of a run, unless DHOW_ROUNDS says how many there are.
	randomTime = 12 * time.Second
	// roundCommands are the commands of a session in one round.
	roundCommands = 400
	// sessionsAtOnce write at the same time.
	sessionsAtOnce = 3
	// voyageRounds are the rounds between two cutovers.
	voyageRounds = 3
)

// TestRandomCommandsArriveExactly moves a server while several sessions run random
// commands on it, with keys that end, transactions, scripts, functions, streams
// and whole databases that are removed or swapped; the mover and its connections
// are killed at random. Both sides are compared after each round, value by value
// and expiry by expiry, and the move is turned back and forth. DHOW_SEED repeats
// a run's commands (not how the sessions meet), DHOW_ROUNDS says how many rounds there are.
func TestRandomCommandsArriveExactly(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Redis servers: not with -short (testing.Short)")
	}
	seed, rounds := uint64(time.Now().UnixNano()), 0
	for name, set := range map[string]func(string) error{
		"DHOW_SEED":   func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
		"DHOW_ROUNDS": func(s string) (err error) { rounds, err = strconv.Atoi(s); return err },
	} {
		if s := os.Getenv(name); s != "" {
			if err := set(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	t.Logf("DHOW_SEED=%d DHOW_ROUNDS=%d", seed, rounds)
	x := &randomMove{t: t, pair: newPair(t, "repl-backlog-size", "64mb"), seed: seed, chance: rand.New(rand.NewPCG(seed, 0))}
	x.start()
	for until := time.Now().Add(randomTime); !t.Failed() && (x.round < rounds || rounds == 0 && time.Now().Before(until)); {
		x.run()
		if x.round%voyageRounds == 0 && !t.Failed() {
			x.turn()
		}
	}
	x.end()
	t.Logf("%d rounds, %d cutovers, %d commands, the mover killed %d times and its connections %d times", x.round, x.turns, x.commands, x.killed, x.cut)
}

// randomMove is a move that goes on over all rounds. Its pair's source is where the sessions write.
type randomMove struct {
	t *testing.T
	*pair
	seed   uint64
	chance *rand.Rand

	round, turns, commands, killed, cut int
	stopping                            func() error
}

func (x *randomMove) start() { x.stopping = replicating(x.t, x.m) }

func (x *randomMove) end() {
	if err := x.stopping(); err != nil {
		x.t.Errorf("the mover: %v", err)
	}
}

// run lets the sessions write while the mover is disturbed, and compares.
func (x *randomMove) run() {
	x.round++
	ctx := x.t.Context()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range sessionsAtOnce {
		wg.Go(func() { x.session(ctx, i) })
	}
	go func() { wg.Wait(); close(done) }()
	for working := true; working; {
		select {
		case <-done:
			working = false
		case <-time.After(time.Duration(x.chance.IntN(20)) * time.Millisecond):
			x.disturb(ctx)
		}
	}
	x.commands += sessionsAtOnce * roundCommands
	state(x.t, x.from) // what has ended is removed when it is looked at
	follows(x.t, x.m, x.stopping)
	same(x.t, x.pair)
}

// disturb kills the mover or one of its connections, or does nothing.
func (x *randomMove) disturb(ctx context.Context) {
	switch x.chance.IntN(6) {
	case 0:
		x.end()
		time.Sleep(time.Duration(x.chance.IntN(150)) * time.Millisecond) // keys end while nobody streams
		x.m = x.again()
		x.start()
		x.killed++
	case 1:
		x.from.Do(ctx, "CLIENT", "KILL", "TYPE", "replica")
		x.cut++
	case 2:
		list, _ := x.to.ClientList(ctx).Result()
		for line := range strings.Lines(list) {
			if strings.Contains(line, "name="+x.m.laneName()+" ") {
				id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
				x.to.Do(ctx, "CLIENT", "KILL", "ID", id)
				x.cut++
			}
		}
	case 3:
		if err := x.m.approach(ctx); err != nil && !lost(err) && !errors.Is(err, context.Canceled) {
			x.t.Logf("approach: %v", err)
		}
	}
}

// again is the mover of a new process.
func (x *randomMove) again() *Mover {
	m, err := New(x.m.cfg)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { m.Close(context.WithoutCancel(x.t.Context())) })
	return m
}

// turn cuts over: what was the target is written to from then on.
func (x *randomMove) turn() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	follows(x.t, x.m, x.stopping)
	step := func(what string, err error) {
		x.t.Helper()
		if err != nil {
			x.t.Fatalf("%s: %v", what, err)
		}
	}
	err := x.m.Prepare(ctx)
	for lost(err) && ctx.Err() == nil { // a connection that was killed a moment ago
		follows(x.t, x.m, x.stopping)
		err = x.m.Prepare(ctx)
	}
	step("prepare", err)
	marker, err := x.m.Fence(ctx)
	step("fence", err)
	step("catch up", x.m.CatchUp(ctx, marker))
	x.end()
	step("seal", x.m.Seal(ctx))
	step("open", x.m.Open(ctx))
	same(x.t, x.pair)
	back, err := x.m.Reverse()
	step("reverse", err)
	step("retire", x.m.Retire(ctx))
	x.t.Cleanup(func() { back.Close(context.WithoutCancel(x.t.Context())) })
	x.m, x.from, x.to = back, x.to, x.from
	x.session(ctx, 99) // before the way back streams
	x.start()
	follows(x.t, x.m, x.stopping)
	x.turns++
	state(x.t, x.from)
	follows(x.t, x.m, x.stopping)
	same(x.t, x.pair)
}

// session writes like one of the application's.
func (x *randomMove) session(ctx context.Context, i int) {
	r := rand.New(rand.NewPCG(x.seed, uint64(x.round*1000+i)))
	c := x.from.Conn()
	defer func() {
		c.Do(ctx, "SELECT", 0)
		_ = c.Close()
	}()
	w := &randomWriter{r}
	for n := 0; n < roundCommands; n++ {
		switch r.IntN(20) {
		case 0:
			c.Do(ctx, "SELECT", r.IntN(3))
		case 1, 2:
			p := c.TxPipeline()
			for range 1 + r.IntN(6) {
				p.Do(ctx, w.command()...)
			}
			_, _ = p.Exec(ctx) // a command of the wrong type fails, at the source alone
		case 3, 4, 5:
			p := c.Pipeline()
			for range 1 + r.IntN(30) {
				p.Do(ctx, w.command()...)
				n++
			}
			_, _ = p.Exec(ctx)
		default:
			c.Do(ctx, w.command()...)
		}
	}
}

// randomWriter makes commands.
type randomWriter struct{ *rand.Rand }

func (w *randomWriter) key() string { return fmt.Sprint("k", w.IntN(40)) }

func (w *randomWriter) text() string {
	switch w.IntN(6) {
	case 0:
		return strconv.Itoa(w.IntN(1000) - 500)
	case 1:
		return strings.Repeat(string(rune('a'+w.IntN(26))), w.IntN(3000))
	case 2:
		b := make([]byte, w.IntN(90))
		for i := range b {
			b[i] = byte(w.Uint32())
		}
		return string(b)
	}
	return fmt.Sprint("v", w.IntN(30))
}

// ms is a short time, seldom a long one.
func (w *randomWriter) ms() int {
	if w.IntN(4) == 0 {
		return 100_000 + w.IntN(1000_000)
	}
	return 1 + w.IntN(400)
}

const randomFunctions = "#!lua name=%s\nredis.register_function('%s_up', function(k, a) redis.call('PEXPIRE', k[1], 50000) return redis.call('INCRBY', k[1], %d) end)"

// command is any of those that write.
func (w *randomWriter) command() []any {
	k, j, v, n := w.key(), w.key(), w.text(), w.IntN(10)-3
	at := time.Now().UnixMilli() + int64(w.ms())
	one := func(all ...[]any) []any { return all[w.IntN(len(all))] }
	option := []string{"NX", "XX", "GT", "LT"}[w.IntN(4)]
	switch w.IntN(12) {
	case 0:
		return one([]any{"SET", k, v}, []any{"SET", k, v, "PX", w.ms()}, []any{"SET", k, n, "EXAT", at/1000 + 1}, []any{"SET", k, v, "KEEPTTL"},
			[]any{"SET", k, n, "NX", "PX", w.ms()}, []any{"SET", k, v, "XX", "GET"}, []any{"SETEX", k, 1 + w.IntN(3), v}, []any{"PSETEX", k, w.ms(), n},
			[]any{"GETSET", k, v}, []any{"GETDEL", k}, []any{"GETEX", k, "PX", w.ms()}, []any{"GETEX", k, "PERSIST"}, []any{"MSET", k, v, j, n}, []any{"MSETNX", k, v, j, v})
	case 1:
		return one([]any{"INCR", k}, []any{"INCRBY", k, n}, []any{"INCRBYFLOAT", k, "1.25"}, []any{"APPEND", k, v}, []any{"SETRANGE", k, w.IntN(50), v},
			[]any{"SETBIT", k, w.IntN(500), w.IntN(2)}, []any{"BITOP", "OR", k, j, w.key()}, []any{"BITFIELD", k, "INCRBY", "u8", 3, 7}, []any{"PFADD", k, v, n}, []any{"PFMERGE", k, j})
	case 2:
		return one([]any{"RPUSH", k, v, n}, []any{"LPUSH", k, v}, []any{"LPOP", k}, []any{"RPOP", k, 2}, []any{"LTRIM", k, 0, w.IntN(20)}, []any{"LSET", k, 0, v},
			[]any{"LINSERT", k, "BEFORE", n, v}, []any{"LMOVE", k, j, "LEFT", "RIGHT"}, []any{"LREM", k, 0, n}, []any{"RPOPLPUSH", k, j}, []any{"LMPOP", 2, k, j, "LEFT"}, []any{"BLPOP", k, "0.001"})
	case 3:
		return one([]any{"SADD", k, v, n}, []any{"SADD", k, n, n + 1, n * 70000}, []any{"SREM", k, n}, []any{"SPOP", k}, []any{"SMOVE", k, j, n},
			[]any{"SUNIONSTORE", k, j, w.key()}, []any{"SDIFFSTORE", k, j, w.key()}, []any{"SINTERSTORE", k, j, w.key()})
	case 4:
		return one([]any{"ZADD", k, n, v}, []any{"ZADD", k, "GT", "CH", float64(n) / 3, n, 2, v}, []any{"ZINCRBY", k, "0.1", n}, []any{"ZREM", k, n}, []any{"ZPOPMIN", k},
			[]any{"ZUNIONSTORE", k, 2, j, w.key(), "WEIGHTS", 2, 3}, []any{"ZRANGESTORE", k, j, 0, 3}, []any{"ZREMRANGEBYRANK", k, 5, 9}, []any{"GEOADD", k, n, 1.5, v}, []any{"ZADD", k, "+inf", v})
	case 5:
		return one([]any{"HSET", k, v, n, n, v}, []any{"HDEL", k, n}, []any{"HINCRBY", k, n, 5}, []any{"HINCRBYFLOAT", k, n, "0.5"}, []any{"HSETNX", k, n, v}, []any{"HSET", k, w.IntN(200), v})
	case 6, 7:
		g := fmt.Sprint("g", w.IntN(2))
		return one([]any{"XADD", k, "*", "f", v}, []any{"XADD", k, "MAXLEN", "~", 30, "*", "a", n, "b", v}, []any{"XGROUP", "CREATE", k, g, "0", "MKSTREAM"},
			[]any{"XREADGROUP", "GROUP", g, fmt.Sprint("c", w.IntN(3)), "COUNT", 3, "STREAMS", k, ">"}, []any{"XREADGROUP", "GROUP", g, "c0", "NOACK", "COUNT", 1, "STREAMS", k, ">"},
			[]any{"XAUTOCLAIM", k, g, "c1", 0, "0", "COUNT", 2}, []any{"XTRIM", k, "MAXLEN", 10}, []any{"XGROUP", "DELCONSUMER", k, g, "c2"}, []any{"XGROUP", "DESTROY", k, g},
			[]any{"XGROUP", "SETID", k, g, "$"}, []any{"EVAL", "local p = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 3) for _, e in ipairs(p) do redis.call('XDEL', KEYS[1], e[1]) end", 1, k},
			[]any{"EVAL", "local p = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 3) for _, e in ipairs(p) do redis.call('XACK', KEYS[1], ARGV[1], e[1]) end", 1, k, g})
	case 8:
		return one([]any{"PEXPIRE", k, w.ms()}, []any{"EXPIRE", k, 1 + w.IntN(3)}, []any{"PEXPIREAT", k, at}, []any{"PEXPIRE", k, w.ms(), option}, []any{"PERSIST", k}, []any{"PEXPIREAT", k, at, option}, []any{"EXPIRE", k, 1000})
	case 9:
		return one([]any{"DEL", k}, []any{"UNLINK", k, j}, []any{"RENAME", k, j}, []any{"RENAMENX", k, j}, []any{"COPY", k, j, "REPLACE"}, []any{"COPY", k, j, "DB", w.IntN(3)},
			[]any{"MOVE", k, w.IntN(3)}, []any{"SORT", k, "ALPHA", "STORE", j}, []any{"GET", k}, []any{"PUBLISH", "c", v})
	case 10:
		return one(
			[]any{"EVAL", "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) redis.call('RPUSH', KEYS[2], ARGV[1]) return redis.call('TIME')", 2, k, j, v, w.ms()},
			[]any{"EVAL", "redis.call('DEL', KEYS[1]) for i = 1, 20 do redis.call('HSET', KEYS[1], i, math.random(100)) end redis.call('PEXPIRE', KEYS[1], ARGV[1])", 1, k, w.ms()},
			[]any{"EVAL", "if redis.call('PTTL', KEYS[1]) > 0 then redis.call('PEXPIRE', KEYS[1], 60000) redis.call('INCR', KEYS[1]) end", 1, k},
			[]any{"EVAL", "redis.call('INCR', KEYS[1]) error('no')", 1, k},
			[]any{"FCALL", fmt.Sprintf("lib%d_up", w.IntN(3)), 1, k})
	}
	lib := fmt.Sprint("lib", w.IntN(3))
	switch w.IntN(20) {
	case 0:
		return one([]any{"FLUSHDB"}, []any{"FLUSHDB", "ASYNC"}, []any{"FLUSHALL"}, []any{"SWAPDB", w.IntN(3), w.IntN(3)}, []any{"SCRIPT", "FLUSH"})
	case 1, 2, 3:
		return []any{"FUNCTION", "LOAD", "REPLACE", fmt.Sprintf(randomFunctions, lib, lib, w.IntN(5))}
	case 4:
		return []any{"FUNCTION", "DELETE", lib}
	}
	return []any{"INCR", k}
}
