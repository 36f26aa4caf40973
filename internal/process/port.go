package process

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Port is a TCP port that is kept for a child: from when the kernel named it until
// Release nobody else is given it, also while no child listens. A child that binds
// with SO_REUSEADDR, as servers do, gets it all the same, on any address and as
// often as it is started.
type Port struct {
	number int
	socket int
}

// ReservePort asks the kernel for a free port.
func ReservePort() (*Port, error) {
	// A socket that is bound and does not listen: clients' own ports, which the
	// kernel chooses, keep clear of it, and a listener does not.
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", os.NewSyscallError("socket", err))
	}
	p := &Port{socket: s}
	if p.number, err = bind(s); err != nil {
		p.Release()
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	return p, nil
}

// bind gives the socket a port of all addresses.
func bind(s int) (int, error) {
	if err := unix.Bind(s, &unix.SockaddrInet4{}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	// Only now: with it before, the kernel might choose the port of another reservation.
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	name, err := unix.Getsockname(s)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return name.(*unix.SockaddrInet4).Port, nil
}

// Number is the port's.
func (p *Port) Number() int { return p.number }

// On is the port at a host: an address to listen on, or to call.
func (p *Port) On(host string) string { return net.JoinHostPort(host, strconv.Itoa(p.number)) }

// Release gives the port back. It may be called again, and on nil.
func (p *Port) Release() {
	if p != nil && p.socket >= 0 {
		_ = unix.Close(p.socket)
		p.socket = -1
	}
}
