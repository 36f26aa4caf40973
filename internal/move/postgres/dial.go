package postgres

import (
	"context"
	"net"
	"time"
)

// How soon a peer that is cut off without a word is given up.
const (
	keepaliveIdle     = 10 * time.Second // of silence, before it is asked
	keepaliveInterval = 5 * time.Second
	keepaliveCount    = 4
	// unacknowledged bounds how long sent bytes may stay without an answer.
	unacknowledged = 30 * time.Second
)

// dial opens a connection that notices a partition in about half a minute,
// rather than after the kernel's quarter of an hour.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Control: boundUnacknowledged, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount}}
	return d.DialContext(ctx, network, address)
}
