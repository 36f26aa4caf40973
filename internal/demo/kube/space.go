package kube

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"dhow/internal/process"
)

//go:embed init.sh
var initScript string

// space is the set of namespaces in which a cluster lives: of processes, mounts,
// network and System V objects. Everything in it ends with its first process, and
// that one ends with this process, however it ends.
type space struct {
	logs  string // their folder
	tools toolbox
	init  *process.Process
	// lifeline is the pipe that the first process listens to. The kernel closes it
	// with this process; nothing is ever written.
	lifeline io.Closer
	children []*process.Process
}

// newSpace makes the namespaces of the cluster with that folder, tells born of the first process, and returns once they are furnished. The
// caller closes it, also when an error is returned with it.
func newSpace(dir, logs string, t toolbox, born func(pid int) error) (*space, error) {
	s := &space{logs: logs, tools: t}
	cmd := exec.Command(t.found["sh"], "-c", initScript, "sh", dir, t.bin) //nolint:noctx // it lives until close
	cmd.Env = []string{"PATH=" + searchPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC}
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	s.lifeline = lifeline
	if s.init, err = process.Start(cmd, process.Options{Name: "the namespaces' first process", Log: filepath.Join(logs, "init.log"), DeathSignal: syscall.SIGKILL}); err != nil {
		return nil, err
	}
	if err := born(s.init.Pid()); err != nil {
		return s, err
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "ready\n" {
		s.init.Kill()
		return s, fmt.Errorf("make the cluster's namespaces: %w", errors.Join(err, s.init.Err()))
	}
	return s, nil
}

// connect joins the space to the host by a link of its own.
func (s *space) connect(at *slot) error {
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: at.id()}, PeerName: "eth0", PeerNamespace: netlink.NsPid(s.init.Pid())}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add the link %s: %w", at.id(), err)
	}
	host, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("reach the host's network: %w", err)
	}
	defer host.Close()
	if err := raise(host, at.id(), at.host(), linkBits); err != nil {
		return err
	}
	// What comes from the cluster may go on to others side by side with it: over this
	// link alone, for the machine's own setting is not the cluster's to change.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+at.id()+"/forwarding", []byte("1"), 0); err != nil {
		return fmt.Errorf("let the link %s pass packets on: %w", at.id(), err)
	}
	ns, err := netns.GetFromPid(s.init.Pid())
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer ns.Close() //nolint:errcheck // a file that was only read
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("reach the network namespace: %w", err)
	}
	defer inside.Close()
	if err := raise(inside, "lo", netip.Addr{}, 0); err != nil {
		return err
	}
	if err := raise(inside, "eth0", at.node(), linkBits); err != nil {
		return err
	}
	if err := inside.RouteAdd(&netlink.Route{Gw: at.host().AsSlice()}); err != nil {
		return fmt.Errorf("add the node's default route: %w", err)
	}
	for _, p := range []netip.Prefix{at.services(), at.pods()} { // reached from the host, too
		to := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := host.RouteAdd(&netlink.Route{Dst: to, Gw: at.node().AsSlice()}); err != nil {
			return fmt.Errorf("add the route to %s: %w", p, err)
		}
	}
	return nil
}

// raise gives a link its address and sets it up.
func raise(h *netlink.Handle, name string, a netip.Addr, bits int) error {
	l, err := h.LinkByName(name)
	if err == nil && a.IsValid() {
		err = h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}})
	}
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set up the link %s: %w", name, err)
	}
	return nil
}

// enter is a command line that runs a program inside.
func (s *space) enter(program string, args ...string) []string {
	return append([]string{s.tools.found["nsenter"], "--target", strconv.Itoa(s.init.Pid()), "--mount", "--net", "--pid", "--ipc", "--", program}, args...)
}

// start runs a program inside until the space is closed; its log is in the folder.
func (s *space) start(program string, args ...string) error {
	line := s.enter(program, args...)
	cmd := exec.Command(line[0], line[1:]...) //nolint:noctx // it lives until close
	cmd.Env = []string{"PATH=" + searchPath, "HOME=" + s.logs}
	name := filepath.Base(program)
	p, err := process.Start(cmd, process.Options{Name: name, Log: filepath.Join(s.logs, name+".log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		return err
	}
	s.children = append(s.children, p)
	return nil
}

// run runs a program inside and waits for it.
func (s *space) run(ctx context.Context, program string, args ...string) error {
	line := s.enter(program, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = []string{"PATH=" + searchPath}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, out)
	}
	return nil
}

// fallen is the error of a program that has ended by itself, nil if none has.
func (s *space) fallen() error {
	for _, p := range append([]*process.Process{s.init}, s.children...) {
		select {
		case <-p.Done():
			return errors.Join(errors.New("a process of the cluster has ended"), p.Err())
		default:
		}
	}
	return nil
}

// close ends every process inside, and returns once all are gone.
func (s *space) close() {
	s.init.Kill() // returns after the kernel has ended all others
	for _, p := range s.children {
		p.Kill()
	}
	_ = s.lifeline.Close()
}
