package redis

import (
	"context"
	"testing"
	"time"

	"dhow/internal/move"
	"dhow/internal/redisserver"
)

// TestSealByPauseWhereUsersCanNotBeChanged moves between servers whose users are
// somebody else's, as in ElastiCache: the pause stands for the seal until Retire.
func TestSealByPauseWhereUsersCanNotBeChanged(t *testing.T) {
	e := startEnds(t)
	for _, s := range []*redisserver.Server{e.source, e.target} {
		do(t, as(t, s, "", ""), "ACL", "SETUSER", "mover", "on", ">pw", "~*", "&*", "+@all", "-acl")
	}
	from, to := optionsOf(t, e.source), optionsOf(t, e.target)
	from.Username, from.Password, to.Username, to.Password = "mover", "pw", "mover", "pw"
	newMover := func() *Mover {
		m, err := New(Config{Estate: "test", Name: "cache", Source: from, Target: to})
		must(t, err)
		t.Cleanup(func() { m.Close(context.Background()) })
		return m
	}
	m := newMover()
	stop := follow(t, m)
	app := as(t, e.source, "", "")
	must(t, app.Set(t.Context(), "k", "1", 0).Err())
	stand(t, m, move.State{Started: true, Copied: true})

	// Sealed, and undone by another process.
	seal := func(m *Mover) {
		must(t, m.Prepare(t.Context()))
		mk, err := m.Fence(t.Context())
		must(t, err)
		must(t, m.CatchUp(t.Context(), mk))
		stop()
		must(t, m.Seal(t.Context()))
		stand(t, m, move.State{Started: true, Copied: true, Sealed: true})
	}
	seal(m)
	m.kill()
	must(t, newMover().Unfence(t.Context()))
	stand(t, m, move.State{Started: true, Copied: true})
	must(t, app.Set(t.Context(), "k", "2", 0).Err())

	m = newMover()
	stop = follow(t, m)
	seal(m)
	wrote := make(chan error, 1)
	go func() { wrote <- app.Set(context.Background(), "late", "1", 0).Err() }()
	must(t, m.Open(t.Context()))
	stand(t, m, move.State{Started: true, Copied: true, Sealed: true, Open: true})
	select {
	case err := <-wrote:
		t.Fatalf("the source took a write behind the seal: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if v := as(t, e.target, "", "").Get(t.Context(), "k").Val(); v != "2" {
		t.Errorf("k is %q at the target", v)
	}
	back, err := m.Reverse()
	must(t, err)
	t.Cleanup(func() { back.Close(context.Background()) })
	must(t, m.Retire(t.Context()))
	if err := <-wrote; err != nil {
		t.Errorf("behind Retire: %v", err)
	}
	stopBack := follow(t, back)
	must(t, as(t, e.target, "", "").Set(t.Context(), "k", "3", 0).Err())
	until(t, "the way back brings it", func() bool { return app.Get(t.Context(), "k").Val() == "3" })
	stopBack()
	must(t, m.Finish(t.Context()))
	for _, side := range []string{source, target} {
		left, err := m.Leftovers(t.Context(), side)
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left at the %s: %v", side, left)
		}
	}
}
