package gate

import (
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"

	"dhow/internal/estate"
)

const (
	// latencyWindows of latencyWindow each are what the status's quantiles look back on: a minute.
	latencyWindows = 6
	latencyWindow  = 10 * time.Second
	// latencyMost is the longest latency that is told apart, in microseconds: an hour.
	latencyMost = int64(time.Hour / time.Microsecond)
	// latencyDigits are the decimal digits that are kept: an error of one percent.
	latencyDigits = 2
)

// metrics are what the gate counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry

	requests   *prometheus.CounterVec   // route, side, code
	failures   *prometheus.CounterVec   // route, side, reason
	duration   *prometheus.HistogramVec // route, side
	held       *prometheus.HistogramVec // route
	holds      *prometheus.HistogramVec // route, end
	drains     prometheus.Histogram
	switches   *prometheus.CounterVec // route, to
	longClosed *prometheus.CounterVec // route
	noRoute    prometheus.Counter
	ahead      *prometheus.CounterVec // route, side, end
}

// stallBuckets are for what a cutover takes, in seconds; the budget is 0.3.
var stallBuckets = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .25, .3, .4, .5, .75, 1, 2, 5, 10, 30, 60}

func newMetrics() *metrics {
	name := func(s string) string { return prometheus.BuildFQName("dhow", "gate", s) }
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("requests_total"),
			Help: "Requests that are over, by the class of their answer's status; 4xx has those whose client went away (499)."}, []string{"route", "side", "code"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("failures_total"),
			Help: "Requests that had no whole answer from the application, by the reason."}, []string{"route", "side", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("request_duration_seconds"),
			Help:    "From a request's arrival to its end, what it was held included; without long-lived ones.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"route", "side"}),
		held: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("held_seconds"),
			Help: "How long each held request was held.", Buckets: stallBuckets}, []string{"route"}),
		holds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("hold_duration_seconds"),
			Help: "How long each hold lasted; it ended by a command or by itself (expired).", Buckets: stallBuckets}, []string{"route", "end"}),
		drains: prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("drain_duration_seconds"),
			Help: "How long the requests in flight took to end, each time that was waited for.", Buckets: stallBuckets}),
		switches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("switches_total"),
			Help: "Switches to another side."}, []string{"route", "to"}),
		longClosed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("long_lived_closed_total"),
			Help: "WebSockets and event streams that were closed because their side is served no more."}, []string{"route"}),
		noRoute: prometheus.NewCounter(prometheus.CounterOpts{Name: name("no_route_total"),
			Help: "Requests that no route takes."}),
		ahead: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("spare_connections_total"),
			Help: "Connections to the other side that were opened while requests were held, by what became of them."}, []string{"route", "side", "end"}),
	}
	m.registry.MustRegister(m.requests, m.failures, m.duration, m.held, m.holds, m.drains, m.switches, m.longClosed, m.noRoute, m.ahead)
	return m
}

// codeClasses are the labels of the classes of status codes; the first is for requests without an answer.
var codeClasses = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// meter counts one route's requests. What every request needs is looked up once.
type meter struct {
	metrics *metrics
	name    string
	codes   map[Side]*[len(codeClasses)]prometheus.Counter
	took    map[Side]prometheus.Observer
	held    prometheus.Observer

	mu       sync.Mutex
	latency  *hdrhistogram.WindowedHistogram
	rotated  time.Time
	requests int64
	failures int64
}

func newMeter(m *metrics, route string) *meter {
	t := &meter{metrics: m, name: route, held: m.held.WithLabelValues(route), rotated: time.Now(),
		codes: map[Side]*[len(codeClasses)]prometheus.Counter{}, took: map[Side]prometheus.Observer{},
		latency: hdrhistogram.NewWindowed(latencyWindows, 1, latencyMost, latencyDigits)}
	for _, side := range []Side{estate.Source, estate.Target, nowhere} {
		t.codes[side] = new([len(codeClasses)]prometheus.Counter)
		t.took[side] = m.duration.WithLabelValues(route, string(side))
		for i, class := range codeClasses {
			t.codes[side][i] = m.requests.WithLabelValues(route, string(side), class)
		}
	}
	return t
}

// nowhere is the side of requests that were sent to none.
const nowhere Side = "none"

// record counts an exchange that is over.
func (t *meter) record(x *exchange) {
	took := time.Since(x.began)
	side := x.pass.side
	if side == "" {
		side = nowhere
	}
	t.codes[side][class(x.status)].Inc()
	if x.failure != "" {
		t.metrics.failures.WithLabelValues(t.name, string(side), string(x.failure)).Inc()
	}
	if !x.long {
		t.took[side].Observe(took.Seconds())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	if x.failure != "" && x.failure != failClient || x.status >= http.StatusInternalServerError {
		t.failures++
	}
	if !x.long {
		t.rotate()
		_ = t.latency.Current.RecordValue(min(max(took.Microseconds(), 1), latencyMost))
	}
}

// rotate lets go of the oldest window when its time has come. The lock is held.
func (t *meter) rotate() {
	for n := 0; time.Since(t.rotated) >= latencyWindow; n++ {
		if n == latencyWindows { // all are empty already
			t.rotated = time.Now()
			return
		}
		t.latency.Rotate()
		t.rotated = t.rotated.Add(latencyWindow)
	}
}

// figures are the meter's part of the status, its latencies added to all's.
func (t *meter) figures(all *hdrhistogram.Histogram) (requests, failures int64, own Latency) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rotate()
	merged := t.latency.Merge()
	all.Merge(merged)
	return t.requests, t.failures, quantiles(merged)
}

func class(status int) int {
	if c := status / 100; c > 0 && c < len(codeClasses) {
		return c
	}
	return 0
}

// valves tells the metrics how the routes' valves stand.
type valves struct {
	gate *Gate

	held, inFlight, long, holding, serving, ahead *prometheus.Desc
}

func newValves(g *Gate) *valves {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("dhow", "gate", name), help, labels, nil)
	}
	return &valves{gate: g,
		held:     desc("held", "Requests that are held now.", "route"),
		inFlight: desc("in_flight", "Ordinary requests that the application works on now.", "route"),
		long:     desc("long_lived", "Open WebSockets and event streams.", "route"),
		holding:  desc("holding", "1 while new requests are held.", "route"),
		serving:  desc("serving", "1 for the side that is served, 0 for the other.", "route", "side"),
		ahead:    desc("read_ahead_bytes", "Memory reserved for bodies of held requests."),
	}
}

// Describe implements prometheus.Collector.
func (c *valves) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.held, c.inFlight, c.long, c.holding, c.serving, c.ahead} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *valves) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, r := range c.gate.routes {
		n := r.valve.count()
		gauge(c.held, float64(n.Held), r.name)
		gauge(c.inFlight, float64(n.InFlight), r.name)
		gauge(c.long, float64(n.LongLived), r.name)
		gauge(c.holding, yes(n.State == StateHolding), r.name)
		gauge(c.serving, yes(n.Side == estate.Source), r.name, string(estate.Source))
		gauge(c.serving, yes(n.Side == estate.Target), r.name, string(estate.Target))
	}
	gauge(c.ahead, float64(c.gate.bounds.ahead.Load()))
}
