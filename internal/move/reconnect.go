package move

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// reconnectFor is how long a server that was lost is sought.
const reconnectFor = 10 * time.Minute

// Pauses are the pauses between two tries to reach a server, from first to most:
// they grow, and chance keeps movers from coming back all at once.
func Pauses(first, most time.Duration) *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = first, most, 2
	return pauses
}

// ConnectError is a session that could not be opened: which one, why, and what
// to do next. It is not a Refused, because a server that is away may come back:
// whoever waits for it asks the cause, which errors.As finds behind it.
type ConnectError struct {
	Side, Where string
	Why, Fix    string
	Cause       error
}

func (e *ConnectError) Error() string {
	if e.Fix == "" {
		return fmt.Sprintf("connect to the %s, %s: %s", e.Side, e.Where, e.Why)
	}
	return fmt.Sprintf("connect to the %s, %s: %s: %s", e.Side, e.Where, e.Why, e.Fix)
}

func (e *ConnectError) Unwrap() error { return e.Cause }

// IsTLS says whether an error came of a TLS handshake.
func IsTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &unknown) ||
		errors.As(err, &name) || errors.As(err, &invalid)
}

// LockHeld says that another process runs this move. After a connection was lost
// it may be an old session of our own, which the server has not missed yet.
type LockHeld struct{ *Refused } //nolint:errname // it is a refusal

func (e *LockHeld) Unwrap() error { return e.Refused }

// HeldBy is the refusal to move a database that somebody else moves; from says
// from where, in the server's words, or is empty.
func HeldBy(database, from string) *LockHeld {
	reason := strings.TrimSpace(fmt.Sprintf("another dhow moves database %s already %s", database, from))
	return &LockHeld{&Refused{Reason: reason, Fix: "stop it, or look at it with `dhow status`"}}
}

// Persistence runs a move again when a connection was lost, for so long.
type Persistence struct {
	// First and Most are the shortest and the longest pause between two tries.
	First, Most time.Duration
	// Lost says whether an error means that a connection went away, or that the
	// server is on its way down or up: what may be over a moment later.
	Lost func(error) bool
	// ReportFirst says that any error before the first report is told at once;
	// without it, only a ConnectError before anything was reported or lost: that is
	// rather a wrong address.
	ReportFirst bool
	Log         *slog.Logger
}

// Run runs a move until it ends by itself, by an error that trying again does
// not mend, or by ctx, whose error it returns. Each run resumes from what the
// target holds.
func (s Persistence) Run(ctx context.Context, report func(Progress), run func(context.Context, func(Progress)) error) error {
	var mu sync.Mutex
	var last Progress
	var heard time.Time
	listen := func(p Progress) {
		mu.Lock()
		last, heard = p, time.Now()
		mu.Unlock()
		report(p)
	}
	pauses := Pauses(s.First, s.Most)
	var lostAt time.Time
	for {
		err := run(ctx, listen)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) && !s.Lost(err) {
				s.Log.Warn("the replication ended", "error", err)
			}
			return ctx.Err()
		}
		mu.Lock()
		p, at := last, heard
		mu.Unlock()
		var held *LockHeld
		again := !lostAt.IsZero() && errors.As(err, &held)
		var unreached *ConnectError
		never := at.IsZero() && lostAt.IsZero() && (s.ReportFirst || errors.As(err, &unreached))
		if err == nil || never || !s.Lost(err) && !again {
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
		s.Log.Warn("a connection was lost, trying again", "error", err, "pause", pause)
		p.Note, p.At = fmt.Sprintf("trying again since %s: %v", lostAt.Format(time.TimeOnly), err), time.Now()
		report(p)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
