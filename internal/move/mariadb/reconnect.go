package mariadb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-sql-driver/mysql"

	"dhow/internal/move"
)

const (
	// reconnectFirst and reconnectMost bound the growing pauses between two tries;
	// reconnectFor is how long a lost server is sought.
	reconnectFirst = 200 * time.Millisecond
	reconnectMost  = 5 * time.Second
	reconnectFor   = 10 * time.Minute
)

// Numbers of errors of a server that goes away, or is too busy for a moment.
const (
	errTooManyConnections = 1040
	errShutdown           = 1053
	errQueryInterrupted   = 1317
	errConnectionKilled   = 1927
)

// lost says whether an error means that a connection went away, or that the server
// is on its way down or up: what may be over a moment later.
func lost(err error) bool {
	var refused *move.Refused
	if errors.As(err, &refused) {
		return false
	}
	var network net.Error
	return isNumber(err, errTooManyConnections, errShutdown, errConnectionKilled, errQueryInterrupted) ||
		errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// lockHeld says that another session runs this move. After a connection was lost
// it may be an old one of our own, which the server has not missed yet.
type lockHeld struct{ *move.Refused } //nolint:errname // it is a refusal

func (e *lockHeld) Unwrap() error { return e.Refused }

// persistently runs the move, and runs it again when a connection was lost; it
// resumes from what the target holds. A server that was never reached is told of at
// once: that is rather a wrong address.
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
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = reconnectFirst, reconnectMost, 2
	var lostAt time.Time
	for {
		err := run(ctx, listen)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) && !lost(err) {
				m.log.Warn("the replication ended", "error", err)
			}
			return ctx.Err()
		}
		mu.Lock()
		p, at := last, heard
		mu.Unlock()
		var held *lockHeld
		again := !lostAt.IsZero() && errors.As(err, &held)
		if err == nil || at.IsZero() || !lost(err) && !again {
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
		p.Note, p.At = fmt.Sprintf("trying again since %s: %v", lostAt.Format(time.TimeOnly), err), time.Now()
		report(p)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
