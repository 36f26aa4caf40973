package gate

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"dhow/internal/estate"
)

func testValve(requests int64) (*valve, *bounds, *atomic.Int64) {
	b := &bounds{requests: requests, bytes: 100}
	ends := &atomic.Int64{}
	return newValve(estate.Source, b, time.Hour, func(time.Duration, bool) { ends.Add(1) }), b, ends
}

func isReady(p *pass) bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// The held ones go in the order of arrival, a window of them at a time, and who
// comes meanwhile goes behind them.
func TestReleaseKeepsTheOrder(t *testing.T) {
	synctest.Test(t, testReleaseKeepsTheOrder) // the window grows by the clock
}

func testReleaseKeepsTheOrder(t *testing.T) {
	v, b, _ := testValve(10_000)
	if _, err := v.keep(); err != nil {
		t.Fatal(err)
	}
	all := make([]*pass, 3*releaseWindow)
	for i := range all {
		all[i] = &pass{}
		if held, err := v.enter(all[i], false); !held || err != nil {
			t.Fatalf("pass %d: held %v, %v", i, held, err)
		}
	}
	v.turn(estate.Target)
	gone := func() int {
		n := 0
		for n < len(all) && isReady(all[n]) {
			n++
		}
		for i := n; i < len(all); i++ {
			if isReady(all[i]) {
				t.Fatalf("%d went before %d", i, n)
			}
		}
		return n
	}
	late := &pass{}
	if held, err := v.enter(late, false); !held || err != nil {
		t.Fatalf("a late one: held %v, %v; it overtakes those that wait", held, err)
	}
	all = append(all, late)
	if c := v.count(); c.State != StateReleasing || c.Held != len(all)-gone() {
		t.Errorf("while it releases: %+v", c)
	}
	// One that ends makes room for one.
	before := gone()
	if before < releaseWindow {
		t.Fatalf("%d went at once, want %d", before, releaseWindow)
	}
	all[0].leave()
	all[0].leave()
	if gone() <= before && before < len(all) {
		t.Errorf("an answer made no room")
	}
	// And nobody is kept back for ever by an upstream that does not answer.
	for deadline := time.Now().Add(10 * time.Second); gone() < len(all); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d went", gone(), len(all))
		}
	}
	for _, p := range all {
		if p.side != estate.Target {
			t.Fatalf("one went to the %s", p.side)
		}
		p.leave()
	}
	if c := v.count(); c.InFlight != 0 || c.State != StateOpen || b.held.Load() != 0 {
		t.Errorf("at the end %+v, %d held", c, b.held.Load())
	}
}

// However a valve is used, what it counts is what is there, nobody is forgotten, and
// each goes to the side that was served when it was let go.
func TestValveAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(0, 6).Draw(t, "bound")
		v, b, ends := testValve(most)
		var held, flying, long []*pass
		side, holding, holds := estate.Source, false, int64(0)
		remove := func(list *[]*pass) *pass {
			i := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
			p := (*list)[i]
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return p
		}
		letGo := func() {
			for _, p := range held {
				if !isReady(p) || p.err != nil || p.side != side {
					t.Fatalf("a held one is ready %v, error %v, side %s of %s", isReady(p), p.err, p.side, side)
				}
				if p.long {
					long = append(long, p)
				} else {
					flying = append(flying, p)
				}
			}
			held, holding = nil, false
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				p := &pass{}
				p.cut = func() { p.leave() }
				lasting := rapid.Bool().Draw(t, "long")
				queued, err := v.enter(p, lasting)
				switch {
				case holding && int64(len(held)) >= most:
					if !errors.Is(err, errFull) {
						t.Fatalf("beyond the bound: %v, %v", queued, err)
					}
				case err != nil || queued != holding:
					t.Fatalf("queued %v while holding %v: %v", queued, holding, err)
				case queued:
					held = append(held, p)
				case lasting:
					long = append(long, p)
				default:
					flying = append(flying, p)
				}
			},
			"leave": func(*rapid.T) {
				if len(flying) > 0 {
					remove(&flying).leave()
				}
			},
			"lasts": func(*rapid.T) {
				if len(flying) == 0 {
					return
				}
				p := remove(&flying)
				p.lasts()
				if p.side == side {
					long = append(long, p)
				}
			},
			"give up": func(*rapid.T) {
				if len(held) == 0 {
					return
				}
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if err := remove(&held).wait(ctx); !errors.Is(err, context.Canceled) {
					t.Fatalf("it gave up with %v", err)
				}
			},
			"hold": func(*rapid.T) {
				h, err := v.keep()
				if err != nil || (h != nil) == holding {
					t.Fatalf("a hold while holding %v: %v, %v", holding, h, err)
				}
				if !holding {
					holds++
				}
				holding = true
			},
			"release": func(*rapid.T) {
				if v.release() != holding {
					t.Fatalf("released, while holding was %v", holding)
				}
				letGo()
			},
			"turn": func(*rapid.T) {
				to := rapid.SampledFrom([]Side{estate.Source, estate.Target}).Draw(t, "to")
				changed, cut := v.turn(to)
				want := 0
				stay := long[:0:0]
				for _, p := range long {
					if p.side == to {
						stay = append(stay, p)
					} else {
						want++
					}
				}
				if changed != (to != side) || cut != want {
					t.Fatalf("changed %v from %s to %s, cut %d of %d", changed, side, to, cut, want)
				}
				long, side = stay, to
				letGo()
			},
			"drain": func(*rapid.T) {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				err := v.drain(ctx)
				switch {
				case !holding:
					if !errors.Is(err, ErrNotHeld) {
						t.Fatalf("not held: %v", err)
					}
				case (err == nil) != (len(flying) == 0):
					t.Fatalf("%d in flight: %v", len(flying), err)
				}
			},
			"": func(t *rapid.T) {
				c := v.count()
				if c.Held != len(held) || c.InFlight != len(flying) || c.LongLived != len(long) || c.Side != side || (c.State == StateHolding) != holding {
					t.Fatalf("counted %+v; there are %d held, %d in flight, %d long-lived, %s, holding %v", c, len(held), len(flying), len(long), side, holding)
				}
				if b.held.Load() != int64(len(held)) {
					t.Fatalf("%d places are taken by %d", b.held.Load(), len(held))
				}
			},
		})
		v.stop()
		for _, p := range held {
			if !isReady(p) || !errors.Is(p.err, ErrStopping) {
				t.Fatalf("stopped, and a held one is ready %v, error %v", isReady(p), p.err)
			}
		}
		if c := v.count(); c.LongLived != 0 || c.Held != 0 {
			t.Fatalf("stopped: %+v", c)
		}
		if _, err := v.keep(); !errors.Is(err, ErrStopping) {
			t.Fatalf("a hold behind the stop: %v", err)
		}
		if ends.Load() != holds {
			t.Fatalf("%d of %d holds were told to have ended", ends.Load(), holds)
		}
	})
}

// A hold of a moment ago must not end the one that follows it.
func TestExpiryIsOfItsOwnHold(t *testing.T) {
	v, _, ends := testValve(1)
	old, err := v.keep()
	if err != nil {
		t.Fatal(err)
	}
	v.release()
	if _, err := v.keep(); err != nil {
		t.Fatal(err)
	}
	v.expire(old)
	if c := v.count(); c.State != StateHolding || ends.Load() != 1 {
		t.Errorf("an old hold's end ended another: %+v, %d ends", c, ends.Load())
	}
	v.release()
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"", "{}", `{"route":"a","to":"target","within_ms":5}`, `{"to":"x"}`, `{} {}`, "null", "[]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCommand(text)
		if err == nil && (c.To != "" && !valid(c.To) || c.WithinMS < 0 || c.WithinMS > maxDrain.Milliseconds()) {
			t.Errorf("%q was taken for %+v", text, c)
		}
	})
}

func FuzzSavedSides(f *testing.F) {
	for _, s := range []string{"", "{}", `{"version":1,"side":"source","routes":{"a":"target"},"changed":"2026-01-02T03:04:05Z"}`, `{"version":1,"side":"source"}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSides(text)
		if err != nil {
			return
		}
		if !valid(s.Side) || s.Version != sidesVersion {
			t.Errorf("%q was taken for %+v", text, s)
		}
		for name, side := range s.Routes {
			if !valid(side) {
				t.Errorf("%q: route %q is served by %q", text, name, side)
			}
		}
	})
}

// A request goes to the longest prefix that it lies under, and no place is outside of the root's.
func FuzzRoute(f *testing.F) {
	f.Add("bank.example:80", "/pay/x")
	f.Add("[::1]", "/")
	f.Add("A.", "*")
	routes := []*route{{name: "root"}, {name: "pay", prefix: "/pay"}, {name: "deep", prefix: "/pay/deep"}, {name: "host", host: "bank.example", prefix: "/pay"}}
	table := newTable(routes)
	f.Fuzz(func(t *testing.T, host, path string) {
		r := table.find(host, path)
		if r == nil {
			if path == "" || path[0] == '/' {
				t.Errorf("%q %q goes nowhere", host, path)
			}
			return
		}
		if !under(path, r.prefix) || r.host != "" && r.host != bareHost(host) {
			t.Errorf("%q %q went to %s", host, path, r.name)
		}
		for _, other := range routes {
			if other.host == r.host && len(other.prefix) > len(r.prefix) && under(path, other.prefix) {
				t.Errorf("%q %q went to %s, and %s is longer", host, path, r.name, other.name)
			}
		}
		if bareHost(bareHost(host)) != bareHost(host) && host != "" && !oddHost(host) {
			t.Errorf("the bare host of %q is not bare: %q", host, bareHost(host))
		}
	})
}

// oddHost says that a host is none that a server lets through.
func oddHost(host string) bool {
	for _, c := range host {
		if c == ':' || c == '[' || c == ']' || c == '.' {
			return true // a port of a port is no host's
		}
	}
	return false
}

func FuzzForwardedFor(f *testing.F) {
	f.Add("127.0.0.1:80", "1.2.3.4", "for=1.2.3.4", "a")
	f.Add("[::1]:80", "", "x", `a"b`)
	f.Fuzz(func(t *testing.T, remote, before, forwarded, host string) {
		in := &http.Request{RemoteAddr: remote, Host: host, Header: http.Header{"X-Forwarded-For": {before}, "Forwarded": {forwarded}}}
		out := http.Header{}
		forwardedFor(out, in)
		if len(out["X-Forwarded-For"]) != 1 || len(out["Forwarded"]) != 1 || out["X-Forwarded-For"][0][:len(before)] != before || out["Forwarded"][0][:len(forwarded)] != forwarded {
			t.Errorf("what was said before is not kept: %q", out)
		}
		if len(in.Header) != 2 {
			t.Errorf("the client's own header was changed: %q", in.Header)
		}
	})
}

func TestEventStreamTypes(t *testing.T) {
	for mediaType, want := range map[string]bool{"text/event-stream": true, "Text/Event-Stream; charset=utf-8": true, "text/event-stream ;q=1": true,
		"text/event-streams": false, "text/html": false, "": false, "text/event-stream, text/html": false} {
		if isEventStream(mediaType) != want {
			t.Errorf("%q: %v", mediaType, !want)
		}
	}
}
