package postgres

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// SQLSTATEs of a server that goes away.
const (
	classConnection = "08"
	adminShutdown   = "57P01"
	crashShutdown   = "57P02"
)

const deadlockDetected = "40P01"

// deadlocked says whether the server chose us to end a deadlock: the same again may pass.
func deadlocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == deadlockDetected
}

// lost says whether an error means that a connection went away, that the server
// is on its way down or up, or that a session was chosen to end a deadlock: what
// may be over a moment later.
func lost(err error) bool {
	var refused *move.Refused
	if errors.As(err, &refused) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case adminShutdown, crashShutdown, cannotConnectNow, tooManyConnections, objectInUse, deadlockDetected:
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

// persistence is how the mover seeks a server that went away.
func (m *Mover) persistence() move.Persistence {
	return move.Persistence{First: reconnectFirst, Most: reconnectMost, Lost: lost, Log: m.log}
}
