package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

func TestLost(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"a shutdown", &pgconn.PgError{Code: adminShutdown}, true},
		{"a crash", fmt.Errorf("apply: %w", &pgconn.PgError{Code: crashShutdown}), true},
		{"a server that starts", &connectError{cause: &pgconn.PgError{Code: cannotConnectNow}}, true},
		{"a broken connection", &pgconn.PgError{Code: "08006"}, true},
		{"a slot in use", &pgconn.PgError{Code: objectInUse}, true},
		{"the end of the stream", fmt.Errorf("receive: %w", io.ErrUnexpectedEOF), true},
		{"a reset", &net.OpError{Op: "read", Err: errors.New("reset")}, true},
		{"a closed session", errors.New("conn closed"), true},
		{"a full disk", &pgconn.PgError{Code: "53100"}, false},
		{"a wrong password", &connectError{cause: &pgconn.PgError{Code: invalidPassword}}, false},
		{"a conflict of data", &pgconn.PgError{Code: "23505"}, false},
		{"a refusal", &move.Refused{Reason: "no"}, false},
		{"a held lock", &lockHeld{&move.Refused{Reason: "no"}}, false},
	} {
		if got := lost(c.err); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestPersistently(t *testing.T) {
	m := &Mover{log: slog.New(slog.DiscardHandler)}
	away := &pgconn.PgError{Code: adminShutdown}
	nowhere := &connectError{cause: &net.OpError{Op: "dial", Err: errors.New("refused")}}
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		runs []error // what each run ends with
		well bool    // whether each run reports before it ends
		want error
		took int
	}{
		{"a server that was never reached is told at once", []error{nowhere, broken}, false, nowhere, 1},
		{"one that was reached and goes away at once is sought again", []error{away, nowhere, broken}, false, broken, 3},
		{"a lost connection is sought again", []error{away, away, broken}, true, broken, 3},
		{"an old lock of one's own is waited for", []error{away, &lockHeld{&move.Refused{}}, broken}, true, broken, 3},
		{"somebody else's lock is told at once", []error{&lockHeld{&move.Refused{}}, broken}, true, &move.Refused{}, 1},
		{"an end is an end", []error{nil, broken}, true, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			took := 0
			err := m.persistently(ctx, func(move.Progress) {}, func(_ context.Context, report func(move.Progress)) error {
				if c.well {
					report(move.Progress{})
				}
				took++
				return c.runs[took-1]
			})
			var refused *move.Refused
			if !errors.Is(err, c.want) && (!errors.As(c.want, &refused) || !errors.As(err, &refused)) {
				t.Errorf("ended with %v, want %v", err, c.want)
			}
			if took != c.took {
				t.Errorf("ran %d times, want %d", took, c.took)
			}
		})
	}
}
