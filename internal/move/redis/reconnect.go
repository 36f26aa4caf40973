package redis

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// reconnectFirst and reconnectMost bound the growing pauses between two tries.
const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 2 * time.Second
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
	return errors.As(err, &network) && !move.IsTLS(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, redis.ErrClosed)
}

// persistence is how the mover seeks a server that went away.
func (m *Mover) persistence() move.Persistence {
	return move.Persistence{First: reconnectFirst, Most: reconnectMost, Lost: lost, Log: m.log}
}

// isNil says that the server answered that there is nothing.
func isNil(err error) bool { return errors.Is(err, redis.Nil) }
