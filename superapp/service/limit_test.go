package service

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestLimitIsForEachClient(t *testing.T) {
	l := newLimiter(10)
	now := time.Now()
	from := func(address string) *http.Request { return &http.Request{RemoteAddr: address} }
	taken := 0
	for range 100 {
		if l.allow(from("10.0.0.1:5000"), now) {
			taken++
		}
	}
	if taken != burstSeconds*10 {
		t.Errorf("%d of 100 at once were taken, want %d", taken, burstSeconds*10)
	}
	if !l.allow(from("10.0.0.2:5000"), now) {
		t.Error("another client was refused")
	}
	if l.allow(from("10.0.0.1:6000"), now) {
		t.Error("another port is another client")
	}
	if !l.allow(from("10.0.0.1:5000"), now.Add(time.Second)) {
		t.Error("a second later it is refused still")
	}
	if none := newLimiter(0); !none.allow(from("10.0.0.1:5000"), now) || len(none.clients) != 0 {
		t.Error("no limit limits, or remembers")
	}
}

func TestLimitForgetsClients(t *testing.T) {
	l := newLimiter(10)
	now := time.Now()
	for i := range maxClients + 10 {
		l.allow(&http.Request{RemoteAddr: fmt.Sprintf("[2001:db8::%x]:1", i)}, now)
	}
	if len(l.clients) > maxClients {
		t.Errorf("%d clients are remembered, of at most %d", len(l.clients), maxClients)
	}
	later := now.Add(2 * forgetAfter)
	l.allow(&http.Request{RemoteAddr: "10.0.0.1:1"}, later)
	if len(l.clients) != 1 {
		t.Errorf("%d clients are remembered that have been quiet", len(l.clients)-1)
	}
}
