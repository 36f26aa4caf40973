package gate

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// spareMost is how many connections to one upstream are opened ahead: what a
	// release lets go at once needs no more.
	spareMost = releaseWindow
	// spareMostH2C is the same for HTTP/2, where one connection carries all requests.
	spareMostH2C = 4
	// spareParallel is how many of them are opened at a time: fewer than the shortest
	// queues of connections take, so that no packet is dropped and sent again a second later.
	spareParallel = 16
	// spareTime is how old a connection may be that was never used. Servers close such
	// ones after five seconds or more, and a request that meets the closing fails.
	spareTime = 3 * time.Second
)

// spares are connections to an upstream that are opened while requests are held, so
// that a release finds them ready: hundreds of requests that open one each, all at
// the same instant, would wait for the upstream to accept them.
type spares struct {
	address string
	dialer  *net.Dialer
	// early says that the upstream may speak first (HTTP/2 does).
	early  bool
	opened *prometheus.CounterVec // by what became of it

	mu     sync.Mutex
	ready  []spare // the oldest first
	closed bool
	sweep  *time.Timer // closes what gets too old; nil when nothing is ready
}

type spare struct {
	conn   net.Conn
	opened time.Time
}

// What became of a spare connection.
const (
	spareUsed   = "used"
	spareUnused = "unused"
	spareFailed = "failed"
)

func newSpares(u *url.URL, dialer *net.Dialer, early bool, opened *prometheus.CounterVec) *spares {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return &spares{address: net.JoinHostPort(u.Hostname(), port), dialer: dialer, early: early, opened: opened}
}

// dial gives a spare connection, or opens one.
func (s *spares) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == s.address {
		for c := s.take(); c != nil; c = s.take() {
			if alive(c, s.early) {
				s.opened.WithLabelValues(spareUsed).Inc()
				return c, nil
			}
			s.drop(c)
		}
	}
	return s.dialer.DialContext(ctx, network, address)
}

// take is the youngest connection, nil when there is none that is young enough.
func (s *spares) take() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.ready)
	if n == 0 || time.Since(s.ready[n-1].opened) > spareTime {
		return nil
	}
	c := s.ready[n-1].conn
	s.ready = s.ready[:n-1]
	return c
}

// alive asks the system whether the other end has closed an idle connection. early
// says that it may have spoken first.
func alive(c net.Conn, early bool) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	lives := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		lives = errors.Is(err, syscall.EAGAIN) || err == nil && n > 0 && early
		return true // look once
	})
	return err == nil && lives
}

func (s *spares) drop(c net.Conn) {
	s.opened.WithLabelValues(spareUnused).Inc()
	_ = c.Close()
}

// fill opens connections until n are ready, or until one can not be opened: the
// requests will find out by themselves, and say so.
func (s *spares) fill(ctx context.Context, n int) {
	most := spareMost
	if s.early {
		most = spareMostH2C
	}
	n = min(n, most)
	s.mu.Lock()
	missing := n - len(s.ready)
	s.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(spareParallel)
	for range missing {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			c, err := s.dialer.DialContext(ctx, "tcp", s.address)
			if err != nil {
				if ctx.Err() == nil {
					s.opened.WithLabelValues(spareFailed).Inc()
				}
				return err
			}
			s.keep(c)
			return nil
		})
	}
	_ = g.Wait() // counted; see above
}

func (s *spares) keep(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.drop(c)
		return
	}
	s.ready = append(s.ready, spare{c, time.Now()})
	if s.sweep == nil {
		s.sweep = time.AfterFunc(spareTime, s.age)
	}
}

// age closes what is too old to be used.
func (s *spares) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep = nil
	old := 0
	for old < len(s.ready) && time.Since(s.ready[old].opened) >= spareTime {
		s.drop(s.ready[old].conn)
		old++
	}
	s.ready = append([]spare(nil), s.ready[old:]...)
	if len(s.ready) > 0 && !s.closed {
		s.sweep = time.AfterFunc(spareTime-time.Since(s.ready[0].opened), s.age)
	}
}

// close closes all, and what is opened from now on.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.sweep != nil {
		s.sweep.Stop()
		s.sweep = nil
	}
	for _, one := range s.ready {
		s.drop(one.conn)
	}
	s.ready = nil
}

// openAhead opens connections to the side that is not served, as many as a
// release will need, for as long as a hold lasts.
func (g *Gate) openAhead(r *route, h *hold) {
	other := r.upstreams[r.valve.count().Side.Other()]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g.handlers.Go(func() {
		select {
		case <-h.over:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		other.spares().fill(ctx, r.valve.waiting(h))
		renew := time.NewTimer(spareTime)
		select {
		case <-h.over:
			renew.Stop()
			return
		case <-h.more:
		case <-renew.C: // those that were opened are too old now
		}
		renew.Stop()
	}
}
