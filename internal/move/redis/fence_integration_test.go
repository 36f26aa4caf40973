package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
	"dhow/internal/redisserver"
	"dhow/internal/redisserver/redistest"
)

// ends are two servers and a mover between them.
type ends struct {
	source, target *redisserver.Server
	m              *Mover
}

func startEnds(t *testing.T, settings ...string) *ends {
	t.Helper()
	e := &ends{source: redistest.Start(t, settings...), target: redistest.Start(t, settings...)}
	e.m = e.mover(t)
	return e
}

// mover is a new process's mover.
func (e *ends) mover(t *testing.T) *Mover {
	t.Helper()
	m, err := New(Config{Estate: "test", Name: "cache", Source: optionsOf(t, e.source), Target: optionsOf(t, e.target), Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

func optionsOf(t *testing.T, s *redisserver.Server) *redis.Options {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	return o
}

// as opens a client of a server as one of its users.
func as(t *testing.T, s *redisserver.Server, user, password string) *redis.Client {
	t.Helper()
	o := optionsOf(t, s)
	if user != "" {
		o.Username, o.Password = user, password
	}
	o.ReadTimeout = time.Minute
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a command that must succeed.
func do(t *testing.T, c redis.Cmdable, args ...any) {
	t.Helper()
	cmd := redis.NewCmd(t.Context(), args...)
	if err := c.(interface {
		Process(context.Context, redis.Cmder) error
	}).Process(t.Context(), cmd); err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
}

func aclList(t *testing.T, c *redis.Client) []string {
	t.Helper()
	list, err := c.Do(t.Context(), "ACL", "LIST").StringSlice()
	must(t, err)
	return list
}

// streaming makes the target say that the copy is done, as the stream would.
func (e *ends) streaming(t *testing.T) {
	t.Helper()
	must(t, e.m.closeTarget(t.Context()))
	to, err := e.m.dial(t.Context(), target)
	must(t, err)
	defer to.hangUp()
	must(t, writePosition(t.Context(), to, e.m.stream, position{phase: move.PhaseStream, expiry: expiriesPadded}))
}

// people gives a server users of many kinds, with the password pw.
func people(t *testing.T, c *redis.Client) {
	t.Helper()
	do(t, c, "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
	if knows(t, c, "FUNCTION") { // Redis 7
		do(t, c, "ACL", "SETUSER", "narrow", "on", ">pw", "~a:*", "%R~b:*", "&ch*", "-@all", "+@read", "+@write", "+config|get", "-flushall", "+ping")
		do(t, c, "ACL", "SETUSER", "chosen", "on", ">pw", "~*", "-@all", "+@read", "(+set +ping ~z:*)", "(%R~q:* +@all -del)")
	} else {
		do(t, c, "ACL", "SETUSER", "narrow", "on", ">pw", "~a:*", "resetchannels", "&ch*", "-@all", "+@read", "+@write", "+select|0", "-flushall", "+ping")
		do(t, c, "ACL", "SETUSER", "chosen", "on", ">pw", "~z:*", "-@all", "+@read", "+set", "+ping")
	}
	do(t, c, "ACL", "SETUSER", "leaving", "on", ">pw", "~*", "+@all")
	do(t, c, "ACL", "SETUSER", "reset", "reset", "on", ">pw", "~*", "+@all", "-@dangerous")
}

func denied(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOPERM") }

// stand checks where a mover says that it stands.
func stand(t *testing.T, m *Mover, want move.State) {
	t.Helper()
	got, err := m.State(t.Context())
	must(t, err)
	if got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
}

func TestSealTakesWritesFromEveryUserAndUnfenceGivesThemBack(t *testing.T) {
	e := startEnds(t)
	admin := as(t, e.source, "", "")
	people(t, admin)
	leaving := as(t, e.source, "leaving", "pw") // an open connection of a user that is switched off
	must(t, leaving.Set(t.Context(), "k", "v", 0).Err())
	do(t, admin, "ACL", "SETUSER", "leaving", "off")
	functions := knows(t, admin, "FUNCTION")
	if functions {
		do(t, admin, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)")
	}
	app, chosen, narrow := as(t, e.source, "app", "pw"), as(t, e.source, "chosen", "pw"), as(t, e.source, "narrow", "pw")
	must(t, chosen.Set(t.Context(), "z:1", "1", 0).Err())
	must(t, narrow.Set(t.Context(), "a:1", "1", 0).Err())
	must(t, app.Set(t.Context(), "a:2", "1", 0).Err())
	before := aclList(t, admin)
	e.streaming(t)
	stand(t, e.m, move.State{Started: true, Copied: true})
	must(t, e.m.Prepare(t.Context()))

	// A transaction that is queued, and a client that waits for an element, when the seal comes.
	queued := app.Conn()
	defer queued.Close()
	must(t, queued.Do(t.Context(), "MULTI").Err())
	must(t, queued.Do(t.Context(), "SET", "queued", "1").Err())
	waits := make(chan error, 1)
	waiting := as(t, e.source, "app", "pw")
	go func() {
		_, err := waiting.BLPop(context.Background(), 0, "list").Result()
		waits <- err
	}()
	until(t, "a client waits", func() bool {
		list, err := admin.ClientList(t.Context()).Result()
		must(t, err)
		return strings.Contains(list, "cmd=blpop")
	})

	mk, err := e.m.Fence(t.Context())
	must(t, err)
	if !strings.HasSuffix(mk.Position, fmt.Sprintf(":%d", mk.N)) {
		t.Errorf("marker %+v", mk)
	}
	must(t, e.m.Seal(t.Context()))
	stand(t, e.m, move.State{Started: true, Copied: true, Sealed: true})
	if err := <-waits; !errors.Is(err, redis.Nil) {
		t.Errorf("the client that waited got %v, want the end of its wait", err)
	}
	if err := queued.Do(t.Context(), "EXEC").Err(); err == nil {
		t.Error("a transaction that was queued before the seal wrote behind it")
	}
	for name, err := range map[string]error{
		"default":       admin.Set(t.Context(), "k", "w", 0).Err(),
		"app":           app.Set(t.Context(), "k", "w", 0).Err(),
		"switched off":  leaving.Set(t.Context(), "k", "w", 0).Err(),
		"selector":      chosen.Set(t.Context(), "z:1", "w", 0).Err(),
		"narrow":        narrow.Set(t.Context(), "a:1", "w", 0).Err(),
		"new session":   as(t, e.source, "app", "pw").Del(t.Context(), "k").Err(),
		"flushall":      app.FlushAll(t.Context()).Err(),
		"blocking":      app.BLPop(t.Context(), time.Second, "list").Err(),
		"sort and keep": app.Do(t.Context(), "SORT", "list", "STORE", "k").Err(),
	} {
		if !denied(err) {
			t.Errorf("%s: a write got %v", name, err)
		}
	}
	if err := app.Eval(t.Context(), "return redis.call('SET', KEYS[1], 'w')", []string{"k"}).Err(); err == nil {
		t.Error("a script wrote behind the seal")
	}
	if functions {
		if err := app.FCall(t.Context(), "put", []string{"k"}, "w").Err(); err == nil {
			t.Error("a function wrote behind the seal")
		}
		if err := app.FunctionLoadReplace(t.Context(), "#!lua name=lib\nredis.register_function('put', function() end)").Err(); !denied(err) {
			t.Errorf("a function was replaced behind the seal: %v", err)
		}
	}
	if v := app.Get(t.Context(), "k").Val(); v != "v" {
		t.Errorf("k is %q behind the seal", v)
	}
	if v := narrow.Get(t.Context(), "a:1").Val(); v != "1" {
		t.Errorf("reading gives %q behind the seal", v)
	}

	// Our own user goes on writing, for the way back.
	o, err := e.m.options(t.Context(), source)
	must(t, err)
	own := redis.NewClient(o)
	defer own.Close()
	must(t, own.Set(t.Context(), "by the way back", "1", 0).Err())
	must(t, own.RPush(t.Context(), "list", "kept").Err())
	if n := own.LLen(t.Context(), "list").Val(); n != 1 {
		t.Errorf("an element that the way back wrote was taken: %d left", n)
	}

	must(t, e.m.Unfence(t.Context()))
	must(t, e.m.Unfence(t.Context()))
	stand(t, e.m, move.State{Started: true, Copied: true})
	must(t, app.Set(t.Context(), "k", "again", 0).Err())
	must(t, chosen.Set(t.Context(), "z:1", "again", 0).Err())
	after := slices.DeleteFunc(aclList(t, admin), func(l string) bool { return strings.Contains(l, e.m.ownUser()) })
	if !slices.Equal(before, after) {
		t.Errorf("the users are\n%s\nand were\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	must(t, e.m.Finish(t.Context()))
	if after := aclList(t, admin); !slices.Equal(before, after) {
		t.Errorf("finished, the users are\n%s\nand were\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	for _, side := range []string{source, target} {
		left, err := e.m.Leftovers(t.Context(), side)
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left at the %s: %v", side, left)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestSealSurvivesARestart(t *testing.T) {
	for name, settings := range map[string][]string{"config file": nil, "ACL file": {"aclfile", "users.acl"}} {
		t.Run(name, func(t *testing.T) {
			var e *ends
			if settings == nil {
				e = startEnds(t)
			} else {
				e = &ends{}
				for _, s := range []**redisserver.Server{&e.source, &e.target} {
					*s = startWithACLFile(t)
				}
				e.m = e.mover(t)
			}
			admin := as(t, e.source, "", "")
			people(t, admin)
			before := aclList(t, admin)
			e.streaming(t)
			must(t, e.m.Prepare(t.Context()))
			_, err := e.m.Fence(t.Context())
			must(t, err)
			must(t, e.m.Seal(t.Context()))
			must(t, e.source.Restart(t.Context()))
			must(t, e.target.Restart(t.Context()))
			m := e.mover(t)
			stand(t, m, move.State{Started: true, Copied: true, Sealed: true})
			for user, key := range map[string]string{"": "k", "app": "k", "chosen": "z:1", "narrow": "a:1"} {
				if err := as(t, e.source, user, "pw").Set(t.Context(), key, "w", 0).Err(); !denied(err) && !shutOut(err) {
					t.Errorf("after a restart %q writes: %v", user, err)
				}
				if err := as(t, e.target, "", "").Set(t.Context(), key, "w", 0).Err(); !denied(err) && !shutOut(err) {
					t.Errorf("after a restart the target takes a write: %v", err)
				}
			}
			must(t, m.Open(t.Context()))
			must(t, m.Open(t.Context()))
			stand(t, m, move.State{Started: true, Copied: true, Sealed: true, Open: true})
			must(t, as(t, e.target, "", "").Set(t.Context(), "k", "w", 0).Err())
			var refused *move.Refused
			if err := m.Unfence(t.Context()); !errors.As(err, &refused) {
				t.Errorf("the source was opened while the target serves: %v", err)
			}
			must(t, e.source.Restart(t.Context()))
			must(t, e.target.Restart(t.Context()))
			stand(t, m, move.State{Started: true, Copied: true, Sealed: true, Open: true})
			must(t, m.Finish(t.Context()))
			must(t, e.source.Restart(t.Context()))
			// A server derives the text of the rules anew when it starts, in any order.
			if after := sorted(aclList(t, as(t, e.source, "", ""))); !slices.Equal(sorted(before), after) {
				t.Errorf("finished, the users are\n%s\nand were\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		})
	}
}

// TestNoWriteSlipsThrough lets several users write as fast as they can, in their
// own ways, while the source is fenced and sealed: what was acknowledged is what
// the source holds at the marker, and not a write more behind it.
func TestNoWriteSlipsThrough(t *testing.T) {
	e := startEnds(t, "appendonly", "no")
	admin := as(t, e.source, "", "")
	people(t, admin)
	e.streaming(t)
	must(t, e.m.Prepare(t.Context()))
	var acknowledged [6]atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	for i := range acknowledged {
		user := []string{"", "app", "narrow"}[i%3]
		c := as(t, e.source, user, "pw")
		key := fmt.Sprintf("a:%d", i)
		group.Go(func() {
			for ctx.Err() == nil {
				var err error
				switch i {
				case 0, 2:
					err = c.Incr(ctx, key).Err()
				case 1, 3:
					_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				case 4:
					err = c.Eval(ctx, "return redis.call('INCR', KEYS[1])", []string{key}).Err()
				default:
					err = c.Incr(ctx, key).Err()
				}
				if err != nil {
					return
				}
				acknowledged[i].Add(1)
			}
		})
	}
	until(t, "all write", func() bool {
		return !slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool { return acknowledged[i].Load() < 50 })
	})
	_, err := e.m.Fence(t.Context())
	must(t, err)
	held := map[string]string{}
	for i := range acknowledged {
		held[fmt.Sprintf("a:%d", i)] = admin.Get(t.Context(), fmt.Sprintf("a:%d", i)).Val()
	}
	must(t, e.m.Seal(t.Context()))
	group.Wait() // each ends with the first refusal
	for i := range acknowledged {
		key := fmt.Sprintf("a:%d", i)
		if v := admin.Get(t.Context(), key).Val(); v != held[key] || v != fmt.Sprint(acknowledged[i].Load()) {
			t.Errorf("%s is %s, was %s at the fence, and %d writes were acknowledged", key, v, held[key], acknowledged[i].Load())
		}
	}
}

func TestSealRefusesABrokenFence(t *testing.T) {
	e := startEnds(t)
	admin := as(t, e.source, "", "")
	e.streaming(t)
	must(t, e.m.Prepare(t.Context()))
	// A replica makes the server keep a log.
	o, err := e.m.options(t.Context(), source)
	must(t, err)
	replica, err := dialPSYNC(t.Context(), o, "", 0)
	must(t, err)
	defer replica.hangUp()
	must(t, replica.passOver(t.Context()))
	before := aclList(t, admin)
	for name, breakIt := range map[string]func(){
		"somebody ends the pause": func() {
			_, err := admin.Pipelined(t.Context(), func(p redis.Pipeliner) error { // at once: a renewal would pause the write again
				p.Do(t.Context(), "CLIENT", "UNPAUSE")
				p.Set(t.Context(), "slipped", "1", 0)
				return nil
			})
			must(t, err)
		},
		"a renewal comes late": func() {
			must(t, syscall.Kill(e.source.Pid(), syscall.SIGSTOP))
			time.Sleep(e.m.pauseTime + 200*time.Millisecond) // the pause ends while nobody can renew it
			must(t, syscall.Kill(e.source.Pid(), syscall.SIGCONT))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e.m.pauseTime = pauseTime
			if strings.HasPrefix(name, "a renewal") {
				e.m.pauseTime = 2 * time.Second
			}
			_, err := e.m.Fence(t.Context())
			must(t, err)
			breakIt()
			if err := e.m.Seal(t.Context()); err == nil || !strings.Contains(err.Error(), "broken") && !strings.Contains(err.Error(), "somebody wrote") {
				t.Errorf("sealed behind a broken fence: %v", err)
			}
			must(t, e.m.Unfence(t.Context()))
			stand(t, e.m, move.State{Started: true, Copied: true})
			must(t, admin.Set(t.Context(), "k", "1", 0).Err())
			after := aclList(t, admin)
			if !slices.Equal(before, after) {
				t.Errorf("the users are\n%s\nand were\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		})
	}
}

func TestFenceEndsWithTheProcess(t *testing.T) {
	e := startEnds(t)
	e.streaming(t)
	must(t, e.m.Prepare(t.Context()))
	e.m.pauseTime = 2 * time.Second
	_, err := e.m.Fence(t.Context())
	must(t, err)
	began := time.Now()
	// It is renewed while the process lives.
	c := as(t, e.source, "", "")
	wrote := make(chan time.Duration, 1)
	go func() {
		if c.Set(context.Background(), "k", "1", 0).Err() == nil {
			wrote <- time.Since(began)
		}
		close(wrote)
	}()
	time.Sleep(3 * e.m.pauseTime)
	select {
	case took := <-wrote:
		t.Fatalf("a write passed a renewed pause after %s", took)
	default:
	}
	e.m.fence.end() // the process dies
	if took, ok := <-wrote; !ok || took < 3*e.m.pauseTime {
		t.Errorf("the write went on after %s, %v", took, ok)
	}
}

// sorted are the lines of ACL LIST with each line's words in order, without the
// one that a server adds to users that it reads from its configuration.
func sorted(list []string) []string {
	lines := make([]string, len(list))
	for i, l := range list {
		words := slices.DeleteFunc(strings.Fields(strings.ReplaceAll(l, ")", " )")), func(w string) bool { return w == "sanitize-payload" })
		slices.Sort(words)
		lines[i] = strings.Join(words, " ")
	}
	return lines
}
