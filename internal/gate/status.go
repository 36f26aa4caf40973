package gate

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"dhow/internal/estate"
)

// State is what a route does with new requests.
type State string

// The states of a route.
const (
	StateOpen      State = "open"      // they pass
	StateHolding   State = "holding"   // they are held
	StateReleasing State = "releasing" // the held ones go first, the new ones behind them
)

// Status is how the gate stands.
type Status struct {
	Started time.Time `json:"started"`
	// Listen is the address that clients are served on.
	Listen string `json:"listen"`
	// Side is the side that serves all routes; empty when they differ.
	Side Side `json:"side"`
	// Held are the requests that are held now, HeldMost the most that ever were at
	// once, ReadAhead the bytes reserved for their bodies.
	Held      int64 `json:"held"`
	HeldMost  int64 `json:"held_most"`
	ReadAhead int64 `json:"read_ahead_bytes"`
	// InFlight are the requests that the application works on; LongLived the
	// WebSockets and event streams, which are not among them.
	InFlight  int `json:"in_flight"`
	LongLived int `json:"long_lived"`
	// Requests are all that are over since the start; Failures those of them that
	// had a status from 500 on or no whole answer, though their client stayed.
	Requests int64 `json:"requests"`
	Failures int64 `json:"failures"`
	// Latency is of the last minute, without long-lived requests.
	Latency Latency       `json:"latency"`
	Hold    HoldLimits    `json:"hold"`
	Routes  []RouteStatus `json:"routes"`
}

// RouteStatus is how a route stands.
type RouteStatus struct {
	Name   string `json:"name"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path"`
	Source string `json:"source"`
	Target string `json:"target"`
	Side   Side   `json:"side"`
	State  State  `json:"state"`
	// HeldSince and HeldUntil bound the hold, whose end comes by itself; nil when there is none.
	HeldSince *time.Time `json:"held_since,omitempty"`
	HeldUntil *time.Time `json:"held_until,omitempty"`
	Held      int        `json:"held"`
	InFlight  int        `json:"in_flight"`
	LongLived int        `json:"long_lived"`
	Requests  int64      `json:"requests"`
	Failures  int64      `json:"failures"`
	Latency   Latency    `json:"latency"`
}

// Latency is from a request's arrival to its end, in milliseconds; Count is of how many.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// HoldLimits are the bounds of a hold.
type HoldLimits struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
	TimeMS   int64 `json:"time_ms"`
}

func quantiles(h *hdrhistogram.Histogram) Latency {
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return Latency{Count: h.TotalCount(), P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)), Max: ms(h.Max())}
}

// Status is how the gate stands now.
func (g *Gate) Status() Status {
	s := Status{Started: g.started, Listen: g.Addrs().Data, HeldMost: g.bounds.heldMost.Load(), ReadAhead: g.bounds.ahead.Load(),
		Hold: HoldLimits{g.bounds.requests, g.bounds.bytes, g.cfg.Hold.Time.Milliseconds()}}
	all := hdrhistogram.New(1, latencyMost, latencyDigits)
	for _, r := range g.routes {
		n := r.valve.count()
		one := RouteStatus{Name: r.name, Host: r.host, Path: r.prefix + "/", Source: r.upstreams[estate.Source].url.String(), Target: r.upstreams[estate.Target].url.String(),
			Side: n.Side, State: n.State, Held: n.Held, InFlight: n.InFlight, LongLived: n.LongLived}
		if r.prefix != "" {
			one.Path = r.prefix
		}
		if n.State == StateHolding {
			one.HeldSince, one.HeldUntil = &n.Since, &n.Until
		}
		one.Requests, one.Failures, one.Latency = r.meter.figures(all)
		if len(s.Routes) == 0 {
			s.Side = n.Side
		} else if s.Side != n.Side {
			s.Side = ""
		}
		s.Held += int64(n.Held)
		s.InFlight += n.InFlight
		s.LongLived += n.LongLived
		s.Requests += one.Requests
		s.Failures += one.Failures
		s.Routes = append(s.Routes, one)
	}
	s.Latency = quantiles(all)
	return s
}
