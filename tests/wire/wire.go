// Package wire is a TCP relay for tests, between a client and a server, that can be cut
// (every connection is reset, new ones are refused) and stopped (nothing passes, nobody is
// told: a partition).
package wire

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Wire is a relay to one server.
type Wire struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	cut     bool
	stopped chan struct{} // closed while bytes pass; replaced by an open one while they do not
	conns   map[net.Conn]bool
}

// New relays to a server, host and port, until the test ends.
func New(tb testing.TB, server string) *Wire {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	flowing := make(chan struct{})
	close(flowing)
	w := &Wire{listener: l, server: server, stopped: flowing, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.relay(c) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		w.Heal()
		w.reset()
		all.Wait()
	})
	return w
}

// Address is where clients connect, host and port.
func (w *Wire) Address() string { return w.listener.Addr().String() }

func (w *Wire) relay(client net.Conn) {
	defer client.Close()
	if !w.keep(client) {
		return
	}
	defer w.forget(client)
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.server) // it ends with the wire
	if err != nil {
		return
	}
	defer server.Close()
	if !w.keep(server) {
		return
	}
	defer w.forget(server)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			w.pass(way[1], way[0])
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

func (w *Wire) pass(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		flowing := w.stopped
		w.mu.Unlock()
		<-flowing
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *Wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return false
	}
	w.conns[c] = true
	return true
}

func (w *Wire) forget(c net.Conn) {
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
}

func (w *Wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset rather than an end
		}
		_ = c.Close()
	}
}

// Cut resets every connection and refuses new ones until Heal.
func (w *Wire) Cut() {
	w.mu.Lock()
	w.cut = true
	w.mu.Unlock()
	w.reset()
}

// Partition lets nothing pass any more, without telling anybody, until Heal.
func (w *Wire) Partition() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.stopped:
		w.stopped = make(chan struct{})
	default:
	}
}

// Heal lets everything pass again. Bytes that were on their way arrive now.
func (w *Wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
	select {
	case <-w.stopped:
	default:
		close(w.stopped)
	}
}
