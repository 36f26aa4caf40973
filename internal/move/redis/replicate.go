package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

const (
	// progressEvery is how often a report is made.
	progressEvery = 500 * time.Millisecond
	// predecessorWait bounds the wait for the connection of a process that was killed
	// a moment ago, which the server has yet to end; predecessorPoll is the pause between two tries.
	predecessorWait = 2 * time.Second
	predecessorPoll = 50 * time.Millisecond
)

// Replicate brings the target from wherever it stands to the stream, and streams
// until ctx ends. A connection that is lost on the way is sought again.
func (m *Mover) Replicate(ctx context.Context, report func(move.Progress)) error {
	if m.cfg.SourceCluster || m.cfg.TargetCluster {
		return &move.Refused{Reason: fmt.Sprintf("database %s is a cluster: clusters can not be moved yet", m.cfg.Name), Fix: "move to and from single servers"}
	}
	return m.persistence().Run(ctx, report, m.replicate)
}

// replicate goes as far as its connections do.
func (m *Mover) replicate(ctx context.Context, report func(move.Progress)) error {
	to, err := m.dial(ctx, target)
	if err != nil {
		return err
	}
	pos, err := readPosition(ctx, to, m.stream)
	to.hangUp()
	if err != nil {
		return to.fails("resume", err)
	}
	open, err := m.mayStream(ctx, pos)
	if err != nil {
		return err
	}
	if err := m.closeTarget(ctx); err != nil {
		return err
	}
	// Our own user may be there only now.
	if to, err = m.dial(ctx, target); err != nil {
		return err
	}
	defer to.hangUp()
	lane, err := m.lockedLane(ctx)
	if err != nil {
		return err
	}
	defer lane.hangUp()
	if pos, err = readPosition(ctx, to, m.stream); err != nil {
		return to.fails("resume", err)
	}
	from, pos, err := m.attach(ctx, to, pos, open, report)
	if errors.Is(err, errNoReplica) {
		return m.scan(ctx, to, pos, report)
	}
	if err != nil {
		return err
	}
	defer from.hangUp()
	if pos, err = m.adopt(ctx, to, pos); err != nil {
		return err
	}
	return m.follow(ctx, from, to, lane, pos, report)
}

// mayStream refuses to write to a target that the application uses; open says that
// the application might.
func (m *Mover) mayStream(ctx context.Context, pos position) (open bool, err error) {
	if pos.broken != "" {
		return false, &move.Refused{Reason: fmt.Sprintf("the stream of database %s has stopped for good: %s", m.cfg.Name, pos.broken), Fix: "clean up with `dhow finish`, empty the target and begin again"}
	}
	if pos.phase == "" && m.cfg.Back {
		return false, &move.Refused{Reason: fmt.Sprintf("there is no way back for database %s yet", m.cfg.Name), Fix: "it begins with the cutover"}
	}
	if pos.phase == "" {
		return false, nil
	}
	st, err := m.State(ctx)
	if err != nil {
		return false, err
	}
	if st.Open && st.Sealed {
		return true, &move.Refused{Reason: fmt.Sprintf("the target of database %s is open: the application writes there", m.cfg.Name), Fix: "stream from it with `dhow rollback`"}
	}
	return st.Open, nil
}

// errNoReplica says that the source lets us not be its replica.
var errNoReplica = errors.New("the source takes no replica")

// attach connects to the source's stream at the position, after a copy where one is
// needed; open says that the application might have written at the target.
func (m *Mover) attach(ctx context.Context, to *session, pos position, open bool, report func(move.Progress)) (*psync, position, error) {
	o, err := m.options(ctx, source)
	if err != nil {
		return nil, pos, err
	}
	replid := pos.replid
	if pos.phase != move.PhaseStream {
		replid = ""
	}
	p, err := dialPSYNC(ctx, o, replid, pos.offset)
	if refusal(err) {
		m.log.Warn("the source takes no replica: keys are read one by one", "error", err)
		return nil, pos, errNoReplica
	}
	if err != nil {
		return nil, pos, explainConnect(ctx, o, m.named(source), err)
	}
	switch {
	case !p.full:
		pos.replid = p.replid
		return p, pos, nil
	case open && pos.phase == move.PhaseStream && (m.cfg.Back || pos.expiry == expiriesExact):
		// The data was in use, and nothing says that it is not: it is not thrown away.
		p.hangUp()
		return nil, pos, &move.Refused{
			Reason: fmt.Sprintf("the log of the %s no longer reaches back to where the %s of database %s stands", m.named(source), m.named(target), m.cfg.Name),
			Fix:    "compare both with `dhow verify`, and repair what differs; raise repl-backlog-size before the next cutover",
		}
	}
	note := ""
	if pos.phase == move.PhaseStream {
		note = fmt.Sprintf("copying again: the log of the %s no longer reaches back to where the %s stands, or the %[1]s was restarted; raise repl-backlog-size there", m.named(source), m.named(target))
		m.log.Warn(note)
	}
	pos, err = m.copy(ctx, p, to, note, report)
	if err != nil {
		p.hangUp()
		return nil, pos, err
	}
	return p, pos, nil
}

// lockedLane is the connection that the changes go through. Its name is the move's
// lock: only one process anywhere may write to the target, and the server forgets
// a connection as soon as its process dies.
func (m *Mover) lockedLane(ctx context.Context) (*wire, error) {
	o, err := m.options(ctx, target)
	if err != nil {
		return nil, err
	}
	w, err := dialWire(ctx, o)
	if err != nil {
		return nil, explainConnect(ctx, o, m.named(target), err)
	}
	name := m.laneName()
	var id int64
	line, err := w.ask("CLIENT", "SETNAME", name)
	if err == nil {
		line, err = w.ask("CLIENT", "ID")
	}
	if err == nil {
		id, err = strconv.ParseInt(strings.TrimPrefix(line, ":"), 10, 64)
	}
	var other string
	for until := time.Now().Add(predecessorWait); err == nil; {
		if other, err = m.olderLane(ctx, name, id); err != nil || other == "" || time.Now().After(until) {
			break
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(predecessorPoll):
		}
	}
	if err == nil && other != "" {
		err = move.HeldBy(m.cfg.Name, "from "+other)
	}
	if err != nil {
		w.hangUp()
		return nil, fmt.Errorf("take the move's lock on the %s: %w", m.named(target), err)
	}
	return w, nil
}

// laneName is the name of the connection that writes to the target. A name has no spaces.
func (m *Mover) laneName() string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, "dhow:lane:"+m.stream)
}

// olderLane is the address of another connection of the name that was there before ours.
func (m *Mover) olderLane(ctx context.Context, name string, id int64) (string, error) {
	to, err := m.dial(ctx, target)
	if err != nil {
		return "", err
	}
	defer to.hangUp()
	list, err := to.ClientList(ctx).Result()
	if refusal(err) {
		m.log.Warn("the target's connections can not be listed: nothing keeps a second dhow from moving the same database")
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(list) {
		f := map[string]string{}
		for word := range strings.FieldsSeq(line) {
			k, v, _ := strings.Cut(word, "=")
			f[k] = v
		}
		if n, err := strconv.ParseInt(f["id"], 10, 64); err == nil && n < id && f["name"] == name {
			return f["addr"], nil
		}
	}
	return "", nil
}

// CatchUp returns once the running stream has applied the marker.
func (m *Mover) CatchUp(ctx context.Context, mk move.Marker) error {
	r, err := m.isRunning()
	if err != nil {
		return err
	}
	if err := r.reaches(ctx, mk.N); err != nil {
		return fmt.Errorf("wait until the target has applied marker %d: %w", mk.N, err)
	}
	return nil
}

// Rehearse times how long a write at the source takes to the target.
func (m *Mover) Rehearse(ctx context.Context) (move.Rehearsal, error) {
	r, err := m.isRunning()
	if err != nil {
		return move.Rehearsal{}, err
	}
	start := time.Now()
	offset, err := r.sourceOffset(ctx)
	if err != nil {
		return move.Rehearsal{}, err
	}
	if err := r.reaches(ctx, offset); err != nil {
		return move.Rehearsal{}, fmt.Errorf("wait until the target has applied the source's position: %w", err)
	}
	return move.Rehearsal{Lag: time.Since(start)}, nil
}

func (m *Mover) isRunning() (*running, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		return nil, errors.New("the change stream does not run: start `dhow replicate` and wait until it streams")
	}
	return m.running, nil
}

// masterOffset is how long a server's log of commands is.
func masterOffset(ctx context.Context, s *session) (int64, error) {
	info, err := s.info(ctx, "replication")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if err != nil {
		return 0, s.fails("read the log's position", errors.New("INFO replication names none"))
	}
	return n, nil
}
