package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

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
		{"a server that starts", &move.ConnectError{Cause: &pgconn.PgError{Code: cannotConnectNow}}, true},
		{"a broken connection", &pgconn.PgError{Code: "08006"}, true},
		{"a slot in use", &pgconn.PgError{Code: objectInUse}, true},
		{"a deadlock", fmt.Errorf("read the catalog: %w", &pgconn.PgError{Code: deadlockDetected}), true},
		{"the end of the stream", fmt.Errorf("receive: %w", io.ErrUnexpectedEOF), true},
		{"a reset", &net.OpError{Op: "read", Err: errors.New("reset")}, true},
		{"a closed session", errors.New("conn closed"), true},
		{"a full disk", &pgconn.PgError{Code: "53100"}, false},
		{"a wrong password", &move.ConnectError{Cause: &pgconn.PgError{Code: invalidPassword}}, false},
		{"a conflict of data", &pgconn.PgError{Code: "23505"}, false},
		{"a refusal", &move.Refused{Reason: "no"}, false},
		{"a held lock", move.HeldBy("ledger", ""), false},
	} {
		if got := lost(c.err); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
