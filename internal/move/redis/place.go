package redis

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// Where a move stands is read from both servers, each time:
//
//	dhow:{stream}   at a stream's target: how far it is, see position.go
//	the users       a side that has shadows is closed, see acl.go
//	dhow:closed:…   where a server lets us change no users: what is said to be closed

// ourPrefix begins every key of ours; such keys are not the application's, so
// they are neither copied nor compared.
const ourPrefix = "dhow:"

// stateKey holds a stream's state at its target, in database 0. The braces keep
// it in one slot of a cluster with what is written in the same transaction.
func stateKey(stream string) string { return ourPrefix + "{" + stream + "}" }

// turnKey is written to once where a stream back begins, see Seal.
func (m *Mover) turnKey() string { return ourPrefix + "turn:" + m.moveID() }

// noteKey says what is closed where the users' rights can not say it.
func (m *Mover) noteKey() string { return ourPrefix + "closed:" + m.moveID() }

// fields of a note.
const (
	noteGeneration = "generation"
	noteClosed     = "closed:" // with the side's name in the estate
)

// note is the younger of the two sides' notes: each is written at the target of
// its direction, since writes at a source that is paused would wait.
type note struct {
	generation int64
	fields     map[string]string
}

func (m *Mover) readNote(ctx context.Context, sides ...*session) (note, error) {
	var n note
	for _, s := range sides {
		fields, err := s.HGetAll(ctx, m.noteKey()).Result()
		if err != nil {
			return n, s.fails("read what is closed", err)
		}
		if g, _ := strconv.ParseInt(fields[noteGeneration], 10, 64); g > n.generation { // no number is no note
			n = note{generation: g, fields: fields}
		}
	}
	return n, nil
}

func (n note) closed(named string) bool { return n.fields[noteClosed+named] == "1" }

// writeNote says of a side that it is closed, or is not.
func (m *Mover) writeNote(ctx context.Context, from, to *session, named string, closed bool) error {
	n, err := m.readNote(ctx, from, to)
	if err != nil {
		return err
	}
	if n.closed(named) == closed {
		return nil
	}
	fields := map[string]any{}
	for k, v := range n.fields {
		fields[k] = v
	}
	fields[noteGeneration] = n.generation + 1
	fields[noteClosed+named] = "0"
	if closed {
		fields[noteClosed+named] = "1"
	}
	if err := to.HSet(ctx, m.noteKey(), fields).Err(); err != nil {
		return to.fails("note what is closed", err)
	}
	return nil
}

// hasShadows says whether the users' rights close a side; where they can not be read, they do not.
func (m *Mover) hasShadows(ctx context.Context, s *session) (bool, error) {
	g, err := m.readACL(ctx, s)
	if refusal(err) {
		return false, nil
	}
	return len(g.shadows) > 0, err
}

// standing is what both servers say of a move.
type standing struct {
	phase                      string // of this direction's stream; empty: none
	sourceClosed, targetClosed bool
	noted                      note
}

func (m *Mover) stands(ctx context.Context, from, to *session) (standing, error) {
	var st standing
	var err error
	if st.noted, err = m.readNote(ctx, from, to); err != nil {
		return st, err
	}
	if st.sourceClosed, err = m.hasShadows(ctx, from); err != nil {
		return st, err
	}
	if st.targetClosed, err = m.hasShadows(ctx, to); err != nil {
		return st, err
	}
	st.sourceClosed = st.sourceClosed || st.noted.closed(from.side)
	st.targetClosed = st.targetClosed || st.noted.closed(to.side)
	st.phase, err = to.HGet(ctx, stateKey(m.stream), "phase").Result()
	if err != nil && err != redis.Nil { //nolint:errorlint // the driver's own sentinel, never wrapped
		return st, to.fails("read how far the stream is", err)
	}
	return st, nil
}

// State asks both servers where the move stands.
func (m *Mover) State(ctx context.Context) (move.State, error) {
	var s move.State
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return s, err
	}
	defer from.hangUp()
	defer to.hangUp()
	st, err := m.stands(ctx, from, to)
	if err != nil {
		return s, err
	}
	s.Started = st.phase != ""
	s.Copied = st.phase == string(move.PhaseStream)
	s.Sealed = st.sourceClosed
	s.Open = s.Started && !st.targetClosed
	return s, nil
}

// between says that neither side takes writes.
func (m *Mover) between() error {
	return &move.Refused{Reason: fmt.Sprintf("database %s stands between its two ends: neither takes writes", m.cfg.Name), Fix: "run `dhow cutover` or `dhow rollback` again; they end in a safe state"}
}
