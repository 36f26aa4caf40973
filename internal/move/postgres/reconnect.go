package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// SQLSTATEs of a server that goes away.
const (
	classConnection = "08"
	adminShutdown   = "57P01"
	crashShutdown   = "57P02"
)

// lost says whether an error means that a connection went away, or that the
// server is on its way down or up: what may be over a moment later.
func lost(err error) bool {
	var refused *move.Refused
	if errors.As(err, &refused) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case adminShutdown, crashShutdown, cannotConnectNow, tooManyConnections, objectInUse:
			return true
		}
		return strings.HasPrefix(pg.Code, classConnection)
	}
	var network net.Error
	var attempt *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &attempt) && !isTLS(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), closedText)
}

// closedText is a session that ended before it was used; the driver has no type for it.
const closedText = "conn closed"

// lockHeld says that another session runs this move. After a connection was
// lost it may be an old one of our own, which the server has not missed yet.
type lockHeld struct{ *move.Refused } //nolint:errname // it is a refusal

func (e *lockHeld) Unwrap() error { return e.Refused }

// reconnectPauses are the pauses between two tries: they grow, and chance keeps
// movers from coming back all at once.
func reconnectPauses() *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = reconnectFirst, reconnectMost, 2
	return pauses
}

// persistently runs the move, and runs it again when a connection was lost
// outside the change stream, which seeks its own connections; it
// resumes from what the target holds. A server that was never reached is told of
// at once: that is rather a wrong address.
func (m *Mover) persistently(ctx context.Context, report func(move.Progress), run func(context.Context, func(move.Progress)) error) error {
	var mu sync.Mutex
	var last move.Progress
	var heard time.Time
	listen := func(p move.Progress) {
		mu.Lock()
		last, heard = p, time.Now()
		mu.Unlock()
		report(p)
	}
	pauses := reconnectPauses()
	var lostAt time.Time
	for {
		err := run(ctx, listen)
		mu.Lock()
		p, at := last, heard
		mu.Unlock()
		var held *lockHeld
		again := !lostAt.IsZero() && errors.As(err, &held)
		var unreached *connectError
		never := at.IsZero() && lostAt.IsZero() && errors.As(err, &unreached)
		if err == nil || ctx.Err() != nil || never || !lost(err) && !again {
			return err
		}
		if lostAt.IsZero() || at.After(lostAt) { // it went well until now
			lostAt = time.Now()
			pauses.Reset()
		}
		if away := time.Since(lostAt); away > reconnectFor {
			return fmt.Errorf("no connection for %s: %w", away.Round(time.Second), err)
		}
		pause := pauses.NextBackOff()
		m.log.Warn("a connection was lost, trying again", "error", err, "pause", pause)
		p.Note = fmt.Sprintf("trying again since %s: %v", lostAt.Format(time.TimeOnly), err)
		p.At = time.Now()
		report(p)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
