package redis

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A server drops transactions from its append-only file when the user default
// could not have run them: a closed side must come back from a restart whole, and closed.
func TestClosedSideIsRestarted(t *testing.T) {
	for name, user := range map[string]string{"on": "", "off": "off"} {
		t.Run("default is "+name, func(t *testing.T) {
			p := newPair(t, "appendonly", "yes")
			if user != "" {
				must(t, p.to.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">app", "~*", "&*", "+@all").Err())
				must(t, p.to.Do(t.Context(), "ACL", "SETUSER", defaultUser, user).Err())
				must(t, p.to.Do(t.Context(), "CONFIG", "REWRITE").Err())
				p.m.cfg.Target.Username, p.m.cfg.Target.Password = "app", "app"
			}
			stop := replicating(t, p.m)
			write := func(n int) {
				t.Helper()
				for i := range n {
					_, err := p.from.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
						tx.Set(t.Context(), fmt.Sprint("a", i), n, 0)
						tx.RPush(t.Context(), "list", n)
						return nil
					})
					must(t, err)
				}
				follows(t, p.m, stop)
			}
			write(50)
			must(t, p.target.Restart(t.Context()))
			write(60)
			if user == "" {
				refused := as(t, p.target, "", "").Set(t.Context(), "a0", "wrong", 0).Err()
				if refused == nil {
					t.Error("the closed target takes a write behind a restart")
				}
			}
			must(t, p.target.Restart(t.Context()))
			follows(t, p.m, stop)
			must(t, stop())
			own, err := p.m.dial(t.Context(), target)
			must(t, err)
			defer own.hangUp()
			if n := own.LLen(t.Context(), "list").Val(); n != 50*1+60 {
				t.Errorf("the target's list has %d values, want %d", n, 110)
			}
			must(t, p.m.openUsers(t.Context(), own))
			list := strings.Join(aclList(t, own.Client), "\n")
			if want := "user default " + name + " "; !strings.Contains(list, want) || !strings.Contains(list, "+@all") || strings.Contains(list, wasOn) {
				t.Errorf("the users behind opening: %s", list)
			}
		})
	}
}

// Sealed, restarted, and opened again: nobody writes in between, and all is as before.
func TestSealedSourceIsRestarted(t *testing.T) {
	p := newPair(t, "appendonly", "yes")
	m := p.m
	stop := replicating(t, m)
	_, err := p.from.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		tx.Set(t.Context(), "a", 1, 0)
		tx.Set(t.Context(), "b", 2, 0)
		return nil
	})
	must(t, err)
	follows(t, m, stop)
	must(t, m.Prepare(t.Context()))
	mk, err := m.Fence(t.Context())
	must(t, err)
	must(t, m.CatchUp(t.Context(), mk))
	must(t, stop())
	must(t, m.Seal(t.Context()))
	must(t, p.source.Restart(t.Context()))
	app := as(t, p.source, "", "")
	if err := app.Set(t.Context(), "a", "wrong", 0).Err(); err == nil {
		t.Error("the sealed source takes a write behind a restart")
	}
	must(t, m.Unfence(t.Context()))
	must(t, app.Set(t.Context(), "c", 3, 0).Err())
	for key, want := range map[string]string{"a": "1", "b": "2", "c": "3"} {
		if got := app.Get(context.Background(), key).Val(); got != want {
			t.Errorf("%s is %q behind the restart, want %q", key, got, want)
		}
	}
}

// A target that is restarted before the way back streams has lost the log that the
// way back begins in: it begins with a copy.
func TestWayBackBeginsWithACopyBehindARestart(t *testing.T) {
	p := newPair(t, "appendonly", "yes")
	m := p.m
	stop := replicating(t, m)
	must(t, p.from.MSet(t.Context(), "a", 1, "gone", 1).Err())
	follows(t, m, stop)
	must(t, m.Prepare(t.Context()))
	mk, err := m.Fence(t.Context())
	must(t, err)
	must(t, m.CatchUp(t.Context(), mk))
	must(t, stop())
	must(t, m.Seal(t.Context()))
	must(t, m.Open(t.Context()))
	if got := p.to.ConfigGet(t.Context(), fsync).Val()[fsync]; got != "everysec" {
		t.Errorf("%s is %q behind the opening", fsync, got)
	}
	app := as(t, p.target, "", "")
	must(t, app.Del(t.Context(), "gone").Err())
	p.target.Kill() // what the source acknowledged is on disk
	must(t, p.target.Restart(t.Context()))
	if got := app.Get(t.Context(), "a").Val(); got != "1" {
		t.Errorf("a is %q behind the crash", got)
	}
	must(t, app.Del(t.Context(), "gone").Err())
	must(t, app.Set(t.Context(), "b", 2, 0).Err())
	back, err := m.Reverse()
	must(t, err)
	t.Cleanup(func() { back.Close(context.WithoutCancel(t.Context())) })
	stop = replicating(t, back)
	must(t, m.Retire(t.Context()))
	must(t, app.Set(t.Context(), "c", 3, 0).Err())
	follows(t, back, stop)
	same(t, &pair{source: p.target, target: p.source, from: p.to, to: p.from, m: back})
	must(t, stop())
}

// TestServerThatStartsIsSoughtAgain: on a closed side nobody can log in as default, and
// the session of our own user ends as those do while a server starts.
func TestServerThatStartsIsSoughtAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Redis servers: not with -short (testing.Short)")
	}
	p := newPair(t)
	if err := p.to.Do(t.Context(), "ACL", "SETUSER", "default", "off").Err(); err != nil {
		t.Fatal(err)
	}
	m := p.mover(t)
	if _, err := m.dial(t.Context(), target); !shutOut(err) || lost(err) {
		t.Errorf("without a user of our own: %v", err)
	}
	m.onDial = func(s *session) {
		if s.Options().Username == m.ownUser() {
			s.AddHook(ending{})
		}
	}
	if _, err := m.dial(t.Context(), target); !lost(err) {
		t.Errorf("it is given up: %v", err)
	}
}

// ending ends a session with its first command.
type ending struct{}

func (ending) DialHook(next redis.DialHook) redis.DialHook { return next }

func (ending) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return io.EOF }
}

func (ending) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return io.EOF }
}
