package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// maxSocketPath is what the kernel takes for a Unix socket's address, in bytes.
	maxSocketPath = 107
	// probeTime is how long a gate that may be alive has to take a connection.
	probeTime = time.Second
)

// listeners are what a gate listens on.
type listeners struct {
	data, control net.Listener
	metrics       net.Listener // nil when there is none
	socket        string       // the control socket's path, to be removed; empty when it is none
}

// listen opens all of the gate's addresses, the control address first: a gate
// that can not be steered must not serve.
func (g *Gate) listen(ctx context.Context) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if isSocket(g.cfg.Control) {
		if l.control, err = listenSocket(ctx, g.cfg.Control); err != nil {
			return nil, err
		}
		l.socket = g.cfg.Control
	} else if l.control, err = listenTCP(ctx, "control", g.cfg.Control); err != nil {
		return nil, err
	}
	if l.data, err = listenTCP(ctx, "listen", g.cfg.Listen); err != nil {
		return nil, err
	}
	if g.cfg.Metrics != "" {
		if l.metrics, err = listenTCP(ctx, "metrics", g.cfg.Metrics); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func listenTCP(ctx context.Context, key, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("gate.%s: another process listens on %s: stop it, or choose another port: %w", key, address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("gate.%s: listen on %s: %w", key, address, err)
	}
	return l, nil
}

// listenSocket opens the control socket for this account alone. One that a dead
// gate left is replaced; one that answers is another gate's.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the gate's socket: %w", err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode is set before the socket has a name, so that there is no moment in
	// which others could connect.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return failed
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("gate.control: open the socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // close removes it, last
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("close the gate's socket to other accounts: %w", err)
	}
	return l, nil
}

// removeStale makes way for a new socket.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the gate's socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("gate.control: %s is there and is no socket: remove it, or name another path", path)
	}
	d := net.Dialer{Timeout: probeTime}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("gate.control: another gate answers on %s: stop it first, or name another path", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("gate.control: see whether another gate answers on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a dead gate: %w", err)
	}
	return nil
}

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("gate.control: the socket's path %s has %d bytes and the system takes %d: set a shorter one, for example /run/dhow/gate.sock", path, len(path), maxSocketPath)
	}
	return nil
}

func (l *listeners) addrs() Addrs {
	a := Addrs{Data: l.data.Addr().String(), Control: l.control.Addr().String()}
	if l.metrics != nil {
		a.Metrics = l.metrics.Addr().String()
	}
	return a
}

// close closes what is open still; listeners that a server closed do not mind.
func (l *listeners) close() {
	for _, one := range []net.Listener{l.data, l.control, l.metrics} {
		if one != nil {
			_ = one.Close()
		}
	}
	if l.socket != "" {
		_ = os.Remove(l.socket)
	}
}
