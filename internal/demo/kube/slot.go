package kube

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// recordsDir holds one record for each running cluster. It lies where a restart
	// of the machine empties it.
	recordsDir = "/run/dhow/kube"
	// slots is how many clusters fit: 198.18.0.0/15, the range for tests of network
	// devices that no network routes, in parts of /20.
	slots = 32
	// sweepTimeout bounds the removal of what a cluster left; the kernel needs a
	// moment to let cgroups and folders of killed processes go.
	sweepTimeout = 30 * time.Second
	// sweepEvery is the pause between two tries.
	sweepEvery = 20 * time.Millisecond
	// markerName is a link in a cluster's folder that names its slot: no other folder is
	// removed.
	markerName = "cluster"
)

// record is what stands in a slot's file: what must go when its owner is dead.
type record struct {
	Name string `json:"name"`
	// Dir is the cluster's folder.
	Dir string `json:"dir"`
	// Init is the first process in the cluster's namespaces, Began when it started in
	// the kernel's ticks, by which it is told from a later one of the same number.
	Init  int    `json:"init,omitempty"`
	Began string `json:"began,omitempty"`
}

// slot is a place for one cluster: a range of addresses, and the name under which
// everything of it is found. Its file is locked while the owner lives; the kernel
// gives the lock back when it dies, however it dies.
type slot struct {
	number int
	file   *os.File
	record record
}

// id names the slot's link and cgroups.
func (s *slot) id() string { return fmt.Sprintf("dhow-kube-%02d", s.number) }

// Every slot's range is divided alike.
const (
	slotBits     = 20
	linkOffset   = 0x000 // one /24 between the host (.1) and the node (.2)
	linkBits     = 24
	serviceStart = 0x400 // one /22 of Services
	serviceBits  = 22
	podStart     = 0x800 // one /21 of pods
	podBits      = 21
	dnsHost      = 10 // the DNS Service's place in its range, as kubeadm has it
)

func (s *slot) address(offset int) netip.Addr {
	base := binary.BigEndian.Uint32([]byte{198, 18, 0, 0})
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], base+uint32(s.number)<<(32-slotBits)+uint32(offset))
	return netip.AddrFrom4(b)
}

func (s *slot) all() netip.Prefix      { return netip.PrefixFrom(s.address(0), slotBits) }
func (s *slot) host() netip.Addr       { return s.address(linkOffset + 1) }
func (s *slot) node() netip.Addr       { return s.address(linkOffset + 2) }
func (s *slot) link() netip.Prefix     { return netip.PrefixFrom(s.address(linkOffset), linkBits) }
func (s *slot) services() netip.Prefix { return netip.PrefixFrom(s.address(serviceStart), serviceBits) }
func (s *slot) pods() netip.Prefix     { return netip.PrefixFrom(s.address(podStart), podBits) }
func (s *slot) apiService() netip.Addr { return s.address(serviceStart + 1) }
func (s *slot) dns() netip.Addr        { return s.address(serviceStart + dnsHost) }

// claim takes a free slot whose addresses nobody else on this machine uses, and
// writes the record first of all, so that nothing can exist without it.
func claim(r record) (*slot, error) {
	for n := range slots {
		s, err := open(n)
		if err != nil {
			return nil, err
		}
		if s == nil { // held by a living owner
			continue
		}
		used, err := inUse(s.all())
		if err != nil || used || s.record.Dir != "" {
			err = errors.Join(err, s.release(s.record.Dir == ""))
			if err != nil {
				return nil, err
			}
			continue
		}
		if err := s.write(r); err != nil {
			return nil, errors.Join(err, s.release(true))
		}
		return s, nil
	}
	return nil, fmt.Errorf("all %d ranges of addresses in 198.18.0.0/15 are in use: stop another cluster first", slots)
}

// open takes a slot's lock and reads its record; nil when an owner holds it.
func open(number int) (*slot, error) {
	path := filepath.Join(recordsDir, fmt.Sprintf("%02d.json", number))
	for {
		if err := os.MkdirAll(recordsDir, 0o700); err != nil {
			return nil, fmt.Errorf("create the folder of the clusters' records: %w", err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // somebody's last record went, and the folder with it
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open a cluster's record: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, fmt.Errorf("lock the cluster's record %s: %w", path, err)
		}
		// The file may have been removed between opening and locking.
		mine, errMine := f.Stat()
		there, errThere := os.Stat(path)
		if errMine != nil || errThere != nil || !os.SameFile(mine, there) {
			_ = f.Close()
			continue
		}
		s := &slot{number: number, file: f}
		text, err := io.ReadAll(f)
		if err == nil && len(text) > 0 {
			err = json.Unmarshal(text, &s.record)
		}
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("read the cluster's record %s: %w", path, err)
		}
		return s, nil
	}
}

func (s *slot) write(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write a cluster's record: %w", err)
	}
	// Written beside and moved would lose the lock. A shorter text never follows a
	// longer one, so one write is never half of an older record.
	if _, err := s.file.WriteAt(append(text, '\n'), 0); err != nil {
		return fmt.Errorf("write the cluster's record %s: %w", s.file.Name(), err)
	}
	s.record = r
	return nil
}

// release gives the slot back; remove says that nothing is left of its cluster.
func (s *slot) release(remove bool) error {
	var err error
	if remove {
		if err = os.Remove(s.file.Name()); err != nil {
			err = fmt.Errorf("remove a cluster's record: %w", err)
		}
	}
	_ = s.file.Close() // after the file is gone: who opens it now makes a new one
	if remove {
		_ = os.Remove(recordsDir) // the last one takes the folders with it
		_ = os.Remove(filepath.Dir(recordsDir))
	}
	return err
}

// inUse says whether an address or a route of this machine lies in the range.
func inUse(p netip.Prefix) (bool, error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && p.Contains(ip) {
			return true, nil
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false, fmt.Errorf("list this machine's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		// A wider route, such as the default one, does not take the range.
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok && ones >= 15 && p.Overlaps(netip.PrefixFrom(ip, ones)) {
			return true, nil
		}
	}
	return false, nil
}

// Clean removes everything that clusters of dead owners left on this machine; those
// of living owners are not touched. It may be called at any time, and again.
func Clean(ctx context.Context) error {
	if os.Getuid() != 0 { // who is not root never had one
		return nil
	}
	files, err := filepath.Glob(filepath.Join(recordsDir, "[0-9][0-9].json"))
	if err != nil {
		return fmt.Errorf("list the clusters' records: %w", err)
	}
	var all []error
	for _, f := range files {
		n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(f), ".json"))
		if err != nil {
			continue
		}
		s, err := open(n)
		if err != nil {
			all = append(all, err)
		} else if s != nil {
			all = append(all, s.sweep(ctx))
		}
	}
	return errors.Join(all...)
}

// sweep removes what is left of a slot's cluster, and then the record; it goes on
// when ctx ends, for it is short. When it fails the record stays, for the next sweep. Namespaces, mounts, links, routes and
// firewall rules need no removing: they end with the last process in them.
func (s *slot) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	err := errors.Join(
		s.endInit(ctx),
		s.removeLink(),
		poll(ctx, sweepEvery, func() error { return removeCgroups(s.id()) }),
		poll(ctx, sweepEvery, func() error { return s.removeFolder() }),
	)
	if err != nil {
		err = fmt.Errorf("clean up cluster %q: %w", s.record.Name, err)
	}
	return errors.Join(err, s.release(err == nil))
}

// endInit makes sure that the cluster's first process is gone; the kernel then has
// ended every other one before.
func (s *slot) endInit(ctx context.Context) error {
	if s.record.Init == 0 {
		return nil
	}
	return poll(ctx, sweepEvery, func() error {
		if began, alive := birth(s.record.Init); !alive || began != s.record.Began {
			return nil
		}
		_ = syscall.Kill(s.record.Init, syscall.SIGKILL)
		return fmt.Errorf("process %d does not end", s.record.Init)
	})
}

// birth is when a process started, in the kernel's ticks since its own start, and
// whether it lives: a zombie does not.
func birth(pid int) (string, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The name in parentheses may hold anything; the state and 19 more fields follow it.
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return "", false
	}
	return fields[19], fields[0] != "Z" && fields[0] != "X"
}

// removeLink removes the host's end of the link at once: the kernel would take a
// moment after the last process.
func (s *slot) removeLink() error {
	l, err := netlink.LinkByName(s.id())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove the link %s: %w", s.id(), err)
	}
	return nil
}

// removeFolder removes the cluster's folder, if it is marked as its own.
func (s *slot) removeFolder() error {
	dir := s.record.Dir
	marker := filepath.Join(dir, markerName)
	if dir == "" {
		return nil
	}
	if id, _ := os.Readlink(marker); id != s.id() {
		_ = os.Remove(dir) // where it was made, and its owner killed before it was marked
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove the folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == markerName { // the last to go, for the next try
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove the folder: %w", err)
		}
	}
	if err := errors.Join(os.Remove(marker), os.Remove(dir)); err != nil {
		return fmt.Errorf("remove the folder: %w", err)
	}
	return nil
}
