package process

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// alone binds a port as a client's socket would, without SO_REUSEADDR.
func alone(t *testing.T, number int) error {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(s) }()
	return unix.Bind(s, &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}})
}

func TestPortIsKeptForItsOwner(t *testing.T) {
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	for range 3 { // a server that is started again and again
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", p.On("127.0.0.1"))
		if err != nil {
			t.Fatalf("its owner can not listen: %v", err)
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.On("127.0.0.1"))
		if err != nil {
			t.Fatalf("a client can not connect: %v", err)
		}
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = served.Close() // the server's end first, which leaves the port in TIME_WAIT
		_ = c.Close()
		_ = l.Close()
		if err := alone(t, p.Number()); err == nil {
			t.Fatal("somebody else got the port while no server listened")
		}
	}
	p.Release()
	p.Release()
	q, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	number := q.Number()
	q.Release()
	if err := alone(t, number); err != nil {
		t.Fatalf("the port is not given back: %v", err)
	}
}

func TestPortsDiffer(t *testing.T) {
	const many = 200
	seen := map[int]bool{}
	for range many {
		p, err := ReservePort()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Release)
		if seen[p.Number()] {
			t.Fatalf("port %d was given twice", p.Number())
		}
		seen[p.Number()] = true
	}
	for range many {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		if port := l.Addr().(*net.TCPAddr).Port; seen[port] {
			t.Fatalf("port %d, which is reserved, was given to a listener that asked for any", port)
		}
	}
}
