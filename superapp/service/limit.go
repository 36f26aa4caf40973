package service

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxClients bounds the memory of who asked how often.
	maxClients = 10_000
	// forgetAfter is how long a client that asks nothing is remembered; by then its
	// allowance is whole again.
	forgetAfter = time.Minute
	// burstSeconds of a client's rate may come at once.
	burstSeconds = 2
)

// limiter bounds the requests of each client address; a proxy counts as one client.
type limiter struct {
	perSecond int // 0: no bound
	mu        sync.Mutex
	clients   map[string]*allowance
}

type allowance struct {
	*rate.Limiter
	last time.Time
}

func newLimiter(perSecond int) *limiter {
	return &limiter{perSecond: perSecond, clients: map[string]*allowance{}}
}

// allow counts a request; false says that it is one too many.
func (l *limiter) allow(r *http.Request, now time.Time) bool {
	if l.perSecond == 0 {
		return true
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.clients[client]
	if a == nil {
		l.makeRoom(now)
		a = &allowance{Limiter: rate.NewLimiter(rate.Limit(l.perSecond), burstSeconds*l.perSecond)}
		l.clients[client] = a
	}
	a.last = now
	return a.AllowN(now, 1)
}

// makeRoom forgets who has been quiet, and, when all are busy, anyone.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.clients) < maxClients {
		return
	}
	for client, a := range l.clients {
		if now.Sub(a.last) > forgetAfter {
			delete(l.clients, client)
		}
	}
	for client := range l.clients {
		if len(l.clients) < maxClients {
			return
		}
		delete(l.clients, client)
	}
}

func tooMany() *Refusal {
	return &Refusal{Status: http.StatusTooManyRequests, Code: "too_many_requests", Text: "too many requests from this address: slow down and send this one again"}
}
