package mariadb

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/move"
)

// reconnectFirst and reconnectMost bound the growing pauses between two tries.
const (
	reconnectFirst = 200 * time.Millisecond
	reconnectMost  = 5 * time.Second
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

// persistence is how the mover seeks a server that went away.
func (m *Mover) persistence() move.Persistence {
	return move.Persistence{First: reconnectFirst, Most: reconnectMost, Lost: lost, ReportFirst: true, Log: m.log}
}
