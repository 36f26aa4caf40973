package redis

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// keysOfOurs are all keys that a move can leave on a side.
func (m *Mover) keysOfOurs() []string {
	return []string{stateKey(m.stream), stateKey(m.back), m.turnKey(), m.noteKey(), m.settingsKey(), m.markKey()}
}

// Finish removes from both sides all that the move left: keys, users, settings.
// It refuses while neither side would take writes. It may be called again.
func (m *Mover) Finish(ctx context.Context) error {
	m.Close(ctx)
	s, err := m.State(ctx)
	if err != nil {
		return err
	}
	// A sealed source whose target knows of no move is what an earlier Finish,
	// cut off in the middle, leaves: going on is right.
	if s.Sealed && s.Started && !s.Open {
		return m.between()
	}
	// The side that does not serve is cleaned last, so that its users stay closed
	// until nothing else of the move is left.
	sides := []string{source, target}
	if s.Open {
		sides = []string{target, source}
	}
	for _, side := range sides {
		if err := m.clean(ctx, side); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mover) clean(ctx context.Context, side string) error {
	s, err := m.dial(ctx, side)
	if err != nil {
		return err
	}
	defer s.hangUp()
	if err := m.resetSettings(ctx, s); err != nil {
		return err
	}
	if err := s.Del(ctx, m.keysOfOurs()...).Err(); err != nil {
		return s.fails("remove the move's keys", err)
	}
	if err := m.openUsers(ctx, s); err != nil {
		if refusal(err) {
			return nil // where users can not be changed none of ours can be
		}
		return err
	}
	given, err := m.dialGiven(ctx, side)
	if err != nil {
		return err
	}
	defer given.hangUp()
	if err := given.Do(ctx, "ACL", "DELUSER", m.ownUser()).Err(); err != nil {
		return given.fails("remove the user "+m.ownUser(), err)
	}
	_, err = m.saveACL(ctx, given)
	return err
}

// Leftovers lists what the move left on a side, by the estate's name of it.
func (m *Mover) Leftovers(ctx context.Context, side string) ([]move.Leftover, error) {
	s, err := m.dial(ctx, m.named(side))
	if err != nil {
		return nil, err
	}
	defer s.hangUp()
	var left []move.Leftover
	for _, key := range m.keysOfOurs() {
		n, err := s.Exists(ctx, key).Result()
		if err != nil {
			return nil, s.fails("look for the move's keys", err)
		}
		if n > 0 {
			left = append(left, move.Leftover{Kind: "key", Name: key})
		}
	}
	g, err := m.readACL(ctx, s)
	if refusal(err) {
		return left, nil
	}
	if err != nil {
		return nil, err
	}
	for _, u := range g.users {
		if _, closed := g.shadows[u.name]; closed {
			left = append(left, move.Leftover{Kind: "user", Name: m.shadow(u.name)})
		}
	}
	if g.own {
		left = append(left, move.Leftover{Kind: "user", Name: m.ownUser()})
	}
	return left, nil
}

// Close ends the mover's sessions: an open fence and pinned snapshots go with them.
func (m *Mover) Close(ctx context.Context) {
	m.Unpin(ctx)
	m.dropFence(ctx)
	m.closeSpares()
	m.dropLog()
}

// settingsKey keeps, on each side, what settings were before we changed them.
func (m *Mover) settingsKey() string { return ourPrefix + "settings:" + m.moveID() }

// markKey is written at a source to see it pass through the stream.
func (m *Mover) markKey() string { return ourPrefix + "mark:" + m.moveID() }

// forkDelay is the setting that lets a server wait for further replicas before it
// forks: a pinned snapshot would cost that long, under the fence.
const forkDelay = "repl-diskless-sync-delay"

// promptForks makes both servers fork for a snapshot at once, where they let us.
func (m *Mover) promptForks(ctx context.Context) error {
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return err
	}
	defer from.hangUp()
	defer to.hangUp()
	for _, s := range []*session{from, to} {
		if err := m.setSetting(ctx, s, forkDelay, "0"); err != nil {
			return err
		}
	}
	return nil
}

// setSetting changes a setting and keeps what it was; where the server refuses, nothing is changed.
func (m *Mover) setSetting(ctx context.Context, s *session, name, value string) error {
	var answer redis.Error
	have, err := s.ConfigGet(ctx, name).Result()
	if errors.As(err, &answer) || err == nil && (have[name] == value || have[name] == "") {
		return nil
	}
	if err != nil {
		return s.fails("read the setting "+name, err)
	}
	if err := s.HSetNX(ctx, m.settingsKey(), name, have[name]).Err(); err != nil {
		return s.fails("keep the setting "+name, err)
	}
	if err := s.ConfigSet(ctx, name, value).Err(); err != nil && !errors.As(err, &answer) {
		return s.fails("change the setting "+name, err)
	}
	return nil
}

// resetSettings puts back what setSetting has changed.
func (m *Mover) resetSettings(ctx context.Context, s *session) error {
	former, err := s.HGetAll(ctx, m.settingsKey()).Result()
	if err != nil {
		return s.fails("read the former settings", err)
	}
	for name, value := range former {
		var answer redis.Error
		if err := s.ConfigSet(ctx, name, value).Err(); err != nil && !errors.As(err, &answer) {
			return s.fails("put the setting "+name+" back", err)
		}
	}
	return nil
}
