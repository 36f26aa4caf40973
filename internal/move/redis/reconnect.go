package redis

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
	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

const (
	// reconnectFirst and reconnectMost are the shortest and the longest pause
	// between two tries to connect; reconnectFor is how long a server may be away.
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 2 * time.Second
	reconnectFor   = 10 * time.Minute
)

// lost says whether an error means that a connection went away, or that the
// server is on its way down or up: what may be over a moment later.
func lost(err error) bool {
	var refused *move.Refused
	if errors.As(err, &refused) {
		return false
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		kind, _, _ := strings.Cut(answer.Error(), " ")
		switch kind {
		case "LOADING", "MASTERDOWN", "NOMASTERLINK", "BUSY", "CLUSTERDOWN", "TRYAGAIN":
			return true
		}
		return strings.Contains(answer.Error(), "max number of clients")
	}
	var network net.Error
	return errors.As(err, &network) && !isTLS(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, redis.ErrClosed)
}

// lockHeld says that another process runs this move. After a connection was lost
// it may be an old one of our own, which the server has not missed yet.
type lockHeld struct{ *move.Refused } //nolint:errname // it is a refusal

func (e *lockHeld) Unwrap() error { return e.Refused }

// persistently runs the move, and runs it again when a connection was lost; it
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
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = reconnectFirst, reconnectMost, 2
	var lostAt time.Time
	for {
		err := run(ctx, listen)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		p, at := last, heard
		mu.Unlock()
		var held *lockHeld
		again := !lostAt.IsZero() && errors.As(err, &held)
		var unreached *connectError
		never := at.IsZero() && lostAt.IsZero() && errors.As(err, &unreached)
		if err == nil || never || !lost(err) && !again {
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

// isNil says that the server answered that there is nothing.
func isNil(err error) bool { return errors.Is(err, redis.Nil) }
