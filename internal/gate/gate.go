// Package gate is the traffic gate: an HTTP reverse proxy before a running
// application that can hold new requests back, wait until those in flight have
// ended, and send all of them to the other side from then on. The cutover steers
// it over a control address; by itself it decides one thing only, that a hold
// never lasts longer than it may. It knows nothing of databases.
//
// docs/gate.md draws how a hold works and says what happens at each failure.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"dhow/internal/estate"
)

// Side is an end of the voyage.
type Side = estate.Side

const (
	// headerTime bounds how long a client may take to send a request's head.
	headerTime = 30 * time.Second
	// idleTime is how long a client's idle connection is kept: longer than load
	// balancers keep theirs (a minute, mostly), so that they close first.
	idleTime = 3 * time.Minute
	// maxStreams is how many requests may be open on one HTTP/2 connection: held ones
	// of a load balancer that has few connections among them.
	maxStreams = 1000

	// DefaultAnswerTime is how long an upstream may take to begin its answer once it
	// has the whole request: longer than what is before the gate waits, so that
	// the gate is not the one to give up.
	DefaultAnswerTime = 5 * time.Minute
	// DefaultStopTime is how long a gate that is stopped waits for the requests in
	// flight; Kubernetes gives half a minute in all.
	DefaultStopTime = 20 * time.Second

	// complaints and complaintBurst bound the log's lines about failed requests, a second.
	complaints     = 5
	complaintBurst = 20
)

// Config is what a gate works on.
type Config struct {
	// Listen is the address that clients are served on, Control a Unix socket's path
	// or a loopback address host:port that needs Token, Metrics the address of the
	// metrics page (empty means none). Port 0 means any; see Addrs.
	Listen, Control, Metrics string
	Token                    string
	Routes                   []estate.Route
	// Hold bounds what is held; zero values mean the estate's defaults.
	Hold estate.Hold
	// State is the file that says, after a crash too, which side is served. A
	// second gate with the same file is refused.
	State string
	// AnswerTime bounds an upstream's silence, StopTime a graceful stop; zero means the defaults.
	AnswerTime, StopTime time.Duration
	Log                  *slog.Logger
}

// route is a route of the gate that runs.
type route struct {
	name, host string
	prefix     string // the path, without a slash at its end
	valve      *valve
	upstreams  map[Side]*upstream
	meter      *meter
}

// Gate is a traffic gate.
type Gate struct {
	cfg     Config
	log     *slog.Logger
	routes  []*route
	byName  map[string]*route
	table   *table
	bounds  bounds
	metrics *metrics
	started time.Time

	// control is taken by one command at a time that changes the served side.
	control sync.Mutex
	sides   *sides // guarded by control

	conns    sync.WaitGroup // connections of clients
	handlers sync.WaitGroup // requests
	grumble  *rate.Limiter

	ready chan struct{}
	addrs Addrs // valid once ready is closed
}

// Addrs are the addresses that a gate listens on.
type Addrs struct {
	Data, Control, Metrics string // Metrics is empty when there is none
}

// New makes a gate. It opens nothing yet.
func New(cfg Config) (*Gate, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	g := &Gate{cfg: cfg, log: cfg.Log, byName: map[string]*route{}, metrics: newMetrics(), started: time.Now(),
		grumble: rate.NewLimiter(complaints, complaintBurst), ready: make(chan struct{})}
	g.bounds.requests, g.bounds.bytes = int64(cfg.Hold.Requests), int64(cfg.Hold.Bytes)
	buffers := newBufferPool()
	for _, rc := range cfg.Routes {
		r := &route{name: rc.Name, host: bareHost(rc.Host), prefix: strings.TrimRight(rc.Path, "/"), upstreams: map[Side]*upstream{}, meter: newMeter(g.metrics, rc.Name)}
		for side, raw := range map[Side]string{estate.Source: rc.Source, estate.Target: rc.Target} {
			up, err := newUpstream(raw, rc.H2C, cfg.AnswerTime, cfg.Log, buffers, g.metrics.ahead.MustCurryWith(prometheus.Labels{"route": rc.Name, "side": string(side)}))
			if err != nil {
				return nil, fmt.Errorf("the %s of route %s: %w", side, rc.Name, err)
			}
			r.upstreams[side] = up
		}
		r.valve = newValve(estate.Source, &g.bounds, cfg.Hold.Time, func(held time.Duration, expired bool) { g.holdEnded(r, held, expired) })
		g.routes = append(g.routes, r)
		g.byName[r.name] = r
	}
	g.table = newTable(g.routes)
	g.metrics.registry.MustRegister(newValves(g))
	return g, nil
}

// Ready is closed once clients are served.
func (g *Gate) Ready() <-chan struct{} { return g.ready }

// Addrs are the addresses that were bound; empty before the gate is ready.
func (g *Gate) Addrs() Addrs {
	select {
	case <-g.ready:
		return g.addrs
	default:
		return Addrs{}
	}
}

// Serve serves clients and takes commands until ctx ends, then stops: those in
// flight end, for at most the StopTime, those held are refused, and long-lived ones are
// closed. It returns nil after such a stop. It may be called once.
func (g *Gate) Serve(ctx context.Context) error {
	sides, err := openSides(g.cfg.State)
	if err != nil {
		return err
	}
	defer sides.close()
	g.sides = sides
	for _, r := range g.routes {
		side := sides.of(r.name)
		r.valve.turn(side)
		g.log.Info("a route is served", "route", r.name, "side", string(side), "path", r.prefix+"/")
	}
	l, err := g.listen(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	g.addrs = l.addrs()
	close(g.ready)
	g.log.Info("the gate serves", "listen", g.addrs.Data, "control", g.addrs.Control, "metrics", g.addrs.Metrics)

	data := g.dataServer()
	steer, endCommands := context.WithCancel(context.WithoutCancel(ctx))
	defer endCommands()
	control := g.controlServer(steer)
	run, runCtx := errgroup.WithContext(ctx)
	serve := func(what string, s *http.Server, l net.Listener) {
		run.Go(func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve the %s on %s: %w", what, l.Addr(), err)
			}
			return nil
		})
	}
	serve("clients", data, l.data)
	serve("commands", control, l.control)
	others := []*http.Server{control}
	if l.metrics != nil {
		m := g.metricsServer()
		serve("metrics", m, l.metrics)
		others = append(others, m)
	}
	run.Go(func() error {
		<-runCtx.Done()
		err := g.stop(data) //nolint:contextcheck // the one that ended is why it stops
		endCommands()
		for _, s := range others {
			_ = s.Close()
		}
		return err
	})
	return run.Wait()
}

// stop ends all that clients have under way.
func (g *Gate) stop(data *http.Server) error {
	g.log.Info("the gate stops: requests in flight end first")
	for _, r := range g.routes {
		r.valve.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.cfg.StopTime)
	defer cancel()
	var err error
	if data.Shutdown(ctx) != nil {
		n := 0
		for _, r := range g.routes {
			n += r.valve.count().InFlight
		}
		err = fmt.Errorf("the gate was stopped with %d requests in flight that did not end within %s", n, g.cfg.StopTime)
		_ = data.Close()
	}
	g.conns.Wait()
	g.handlers.Wait()
	for _, r := range g.routes {
		for _, up := range r.upstreams {
			up.close()
		}
	}
	return err
}

// dataServer is the server of the clients.
func (g *Gate) dataServer() *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(g.serve),
		Protocols:         p,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				g.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				g.conns.Done()
			}
		},
	}
}

// holdEnded notes that a hold ended.
func (g *Gate) holdEnded(r *route, held time.Duration, expired bool) {
	end := "command"
	if expired {
		end = "expired"
		g.log.Warn("a hold ended by itself: the cutover that asked for it did not come back in time; requests go to the side that was served before",
			"route", r.name, "side", string(r.valve.count().Side), "after", held)
	}
	g.metrics.holds.WithLabelValues(r.name, end).Observe(held.Seconds())
}

// complain logs a request that an upstream failed, unless there are too many of them.
func (g *Gate) complain(x *exchange, err error) {
	if g.grumble.Allow() {
		g.log.Warn("an upstream failed", "route", x.route.name, "side", string(x.pass.side), "method", x.in.Method, "failure", string(x.failure), "error", err)
	}
}
