package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// Prepare does before the fence what would otherwise lengthen it: our own user,
// a trial of all rules, a log at the target from which the way back can start,
// and sessions.
func (m *Mover) Prepare(ctx context.Context) error {
	s, err := m.dialGiven(ctx, source)
	if err != nil {
		return err
	}
	defer s.hangUp()
	err = m.ensureOwnUser(ctx, s)
	if err == nil {
		err = m.tryClosing(ctx, s)
	}
	if refusal(err) {
		m.log.Warn("the source's users can not be changed: behind the cutover it takes writes of whoever still reaches it", "error", err)
	} else if err != nil {
		return err
	}
	if err := m.promptForks(ctx); err != nil {
		return err
	}
	if err := m.keepLog(ctx); err != nil {
		return err
	}
	if err := m.approach(ctx); err != nil {
		return err
	}
	return m.openSpares(ctx)
}

// closeTarget takes the application's right to write at the target, until Open.
// Replicate calls it before it writes there. It may be called again.
func (m *Mover) closeTarget(ctx context.Context) error {
	given, err := m.dialGiven(ctx, target)
	if err != nil {
		return err
	}
	defer given.hangUp()
	if err = m.ensureOwnUser(ctx, given); err == nil {
		err = m.closeUsers(ctx, given, nil)
	}
	if err == nil {
		_, err = m.saveACL(ctx, given)
		return err
	}
	if !refusal(err) {
		return err
	}
	m.log.Warn("the target's users can not be changed: nothing but the application's own configuration keeps it from writing there", "error", err)
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return err
	}
	defer from.hangUp()
	defer to.hangUp()
	return m.writeNote(ctx, from, to, to.side, true)
}

// Seal makes the fence durable, and notes where the stream back begins.
func (m *Mover) Seal(ctx context.Context) error {
	m.mu.Lock()
	f, running := m.fence, m.running
	m.mu.Unlock()
	if f == nil {
		return errors.New("seal without a fence: fence the source first")
	}
	if running != nil {
		return errors.New("seal while the stream runs: stop it first")
	}
	if err := f.holds(); err != nil {
		return err
	}
	to, err := m.take(ctx, target)
	if err != nil {
		return err
	}
	defer m.putBack(to)
	start, err := m.turn(ctx, to)
	if err != nil {
		return err
	}
	from, err := m.take(ctx, source)
	if err != nil {
		return err
	}
	defer m.putBack(from)
	var after *redis.StringCmd
	err = m.closeUsers(ctx, from, func(p redis.Pipeliner) { after = p.Info(ctx, "replication") })
	if refusal(err) {
		return m.sealByPause(ctx, f, from, to, start)
	}
	if err != nil {
		return err
	}
	// The rights are gone. That nothing slipped through before is known only now.
	at, err := placeOf(parseInfo(after.Val()))
	if err == nil {
		err = f.holds()
	}
	if err == nil {
		err = f.untouched(at)
	}
	if err != nil {
		last, cancel := parting(ctx)
		defer cancel()
		return errors.Join(err, m.openUsers(last, from))
	}
	durable, err := m.saveACL(ctx, from)
	if err != nil {
		return err
	}
	if !durable {
		m.log.Warn("the source keeps its users in no file: when it is restarted it takes writes again")
	}
	m.dropFence(ctx)
	if err := m.releaseWaiting(ctx, from); err != nil {
		return err
	}
	return m.beginBack(ctx, from, start)
}

// turn is the place in the target's log behind which only the stream back will
// find anything. Its own last write is ours, in database 0, so that the reader
// who starts there knows which database the log is about.
func (m *Mover) turn(ctx context.Context, to *session) (logPlace, error) {
	if err := to.Incr(ctx, m.turnKey()).Err(); err != nil {
		return logPlace{}, to.fails("mark where the stream back begins", err)
	}
	info, err := to.info(ctx, "replication")
	if err != nil {
		return logPlace{}, err
	}
	m.mu.Lock()
	kept := m.keeper != nil
	m.mu.Unlock()
	if kept && info[backlogActive] != "1" {
		return logPlace{}, fmt.Errorf("the %s keeps no log for the way back: prepare again", to.side)
	}
	at, err := placeOf(info)
	if err != nil {
		return at, to.fails("read where the stream back begins", err)
	}
	return at, nil
}

// beginBack writes the start of the stream back at its target, which is this one's source.
func (m *Mover) beginBack(ctx context.Context, from *session, at logPlace) error {
	err := writePosition(ctx, from, m.back, position{phase: move.PhaseStream, replid: at.replid, offset: at.offset, expiry: expiriesExact})
	if err != nil {
		return from.fails("note where the stream back begins", err)
	}
	return nil
}

// sealByPause seals a source whose users we may not change: the pause goes on
// until Retire, and the target notes it. The start of the way back has to be
// written at the source, where writes are paused: the pause ends for that one
// write and begins again in one piece of input, which the server works off before
// it turns to the clients that wait.
func (m *Mover) sealByPause(ctx context.Context, f *fence, from, to *session, start logPlace) error {
	f.end()
	if err := f.holds(); err != nil {
		return err
	}
	back := position{phase: move.PhaseStream, replid: start.replid, offset: start.offset, expiry: expiriesExact}
	sent := time.Now()
	var before, after *redis.StringCmd
	answers, err := from.Pipelined(ctx, func(p redis.Pipeliner) error {
		before = p.Info(ctx, "replication")
		p.Do(ctx, "CLIENT", "UNPAUSE")
		p.Del(ctx, stateKey(m.back))
		p.HSet(ctx, stateKey(m.back), back.fields())
		p.Do(ctx, "CLIENT", "PAUSE", f.lasts.Milliseconds(), "WRITE")
		after = p.Info(ctx, "replication")
		return nil
	})
	if err = firstError(answers, err); err != nil {
		return from.fails("note where the stream back begins", err)
	}
	at, err := placeOf(parseInfo(before.Val()))
	if err == nil {
		err = f.untouched(at)
	}
	if err == nil {
		at, err = placeOf(parseInfo(after.Val()))
	}
	if err != nil {
		return from.fails("seal by the pause", err)
	}
	f.restart(ctx, at, sent)
	return m.writeNote(ctx, from, to, from.side, true)
}

// Open lets the target take writes, once the source durably refuses them.
func (m *Mover) Open(ctx context.Context) error {
	from, err := m.take(ctx, source)
	if err != nil {
		return err
	}
	defer m.putBack(from)
	to, err := m.take(ctx, target)
	if err != nil {
		return err
	}
	defer m.putBack(to)
	st, err := m.stands(ctx, from, to)
	if err != nil {
		return err
	}
	if !st.sourceClosed {
		return fmt.Errorf("database %s still takes writes at the source: the target stays closed", m.cfg.Name)
	}
	if !st.noted.closed(from.side) {
		// A user that was made since the seal would write at the source.
		if err := m.closeUsers(ctx, from, nil); err != nil {
			return err
		}
	}
	if err := m.settle(ctx); err != nil {
		return err
	}
	if err := m.harden(ctx, to); err != nil {
		return err
	}
	return m.openSide(ctx, from, to, to)
}

// fsync is the setting that says when a server's append-only file is on disk.
const fsync = "appendfsync"

// harden puts on disk what the target holds, before it serves: what the source had
// acknowledged is then lost by no crash of the target, and the way back may begin
// with a copy, should a restart have cost the target its log. A server without such
// a file, or that lets us change nothing, is left as it is.
func (m *Mover) harden(ctx context.Context, to *session) error {
	if err := m.setSetting(ctx, to, fsync, "always"); err != nil {
		return err
	}
	former, err := to.HGet(ctx, m.settingsKey(), fsync).Result()
	if isNil(err) {
		return nil // it always is, or it can not be changed
	}
	// The answer to a write comes once the file is on disk, with all before it.
	if err == nil {
		err = to.Incr(ctx, m.turnKey()).Err()
	}
	if err != nil {
		return to.fails("put on disk what it holds", err)
	}
	var answer redis.Error
	if err := to.ConfigSet(ctx, fsync, former).Err(); err != nil && !errors.As(err, &answer) {
		return to.fails("put the setting "+fsync+" back", err)
	}
	return nil
}

// openSide gives the rights at a side back, and takes the note of it away.
func (m *Mover) openSide(ctx context.Context, from, to, s *session) error {
	if err := m.openUsers(ctx, s); err != nil && !refusal(err) {
		return err
	}
	return m.writeNote(ctx, from, to, s.side, false)
}

// Retire gives back what the direction that has done its work held: sessions,
// the reader of the target's log, and a pause that stood for the seal, since the
// stream back writes at the source from now on.
func (m *Mover) Retire(ctx context.Context) error {
	m.dropFence(ctx)
	m.closeSpares()
	m.dropLog()
	return nil
}

// Unfence lets the source take writes again, whatever stage the fence is at.
func (m *Mover) Unfence(ctx context.Context) error {
	m.Unpin(ctx)
	m.dropFence(ctx)
	m.closeSpares()
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return err
	}
	defer from.hangUp()
	defer to.hangUp()
	st, err := m.stands(ctx, from, to)
	if err != nil {
		return err
	}
	if st.sourceClosed && st.phase != "" && !st.targetClosed {
		return &move.Refused{Reason: fmt.Sprintf("database %s is served by the target: the source must not take writes too", m.cfg.Name), Fix: "go back with `dhow rollback`"}
	}
	// The pause of a process that died would end by itself, only later.
	if err := unpause(ctx, from); err != nil {
		return err
	}
	if !st.sourceClosed {
		return nil
	}
	return m.openSide(ctx, from, to, from)
}
