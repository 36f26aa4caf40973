package redis

import (
	"context"
)

// sparesEach is how many open sessions are kept ready on each side for the
// cutover: the fence holds one, Seal and Open use another.
const sparesEach = 2

// openSpares opens the sessions that the cutover will need, so that none is
// opened while clients wait.
func (m *Mover) openSpares(ctx context.Context) error {
	m.closeSpares()
	for _, side := range []string{source, target} {
		for range sparesEach {
			s, err := m.dial(ctx, side)
			if err != nil {
				m.closeSpares()
				return err
			}
			m.putBack(s)
		}
	}
	return nil
}

// take gives a spare session of a side, or a new one.
func (m *Mover) take(ctx context.Context, side string) (*session, error) {
	for {
		m.mu.Lock()
		var s *session
		list := m.spares[m.named(side)]
		if n := len(list); n > 0 {
			s = list[n-1]
			m.spares[m.named(side)] = list[:n-1]
		}
		m.mu.Unlock()
		if s == nil {
			return m.dial(ctx, side)
		}
		if s.Ping(ctx).Err() == nil {
			return s, nil
		}
		s.hangUp()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// putBack keeps a session for the next that takes one.
func (m *Mover) putBack(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.spares[s.side]) >= sparesEach {
		s.hangUp()
		return
	}
	if m.spares == nil {
		m.spares = map[string][]*session{}
	}
	m.spares[s.side] = append(m.spares[s.side], s)
}

func (m *Mover) closeSpares() {
	m.mu.Lock()
	list := m.spares
	m.spares = nil
	m.mu.Unlock()
	for _, sessions := range list {
		for _, s := range sessions {
			s.hangUp()
		}
	}
}
