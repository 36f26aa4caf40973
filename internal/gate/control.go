package gate

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The gate is steered in HTTP, which every shell can speak (curl --unix-socket):
//
//	GET  /status   how the gate stands
//	POST /hold     keep new requests back
//	POST /drain    wait until none is in flight; within_ms bounds it
//	POST /switch   serve the side "to" from now on, the held requests first
//	POST /release  let the held requests go to the side that is served
//
// A command is a JSON object, or nothing; "route" confines it to one route. Each
// may be sent again: what is so already stays so.

const (
	// commandTime bounds the reading of a command's head, and the wait for commands to end at the stop.
	commandTime = 5 * time.Second
	// maxCommand bounds a command, in bytes.
	maxCommand = 4 << 10
	// maxDrain bounds a drain that names no time of its own; a hold is over long before.
	maxDrain = 10 * time.Minute
)

// command is what a POST carries.
type command struct {
	Route    string `json:"route,omitempty"`
	To       Side   `json:"to,omitempty"`
	WithinMS int64  `json:"within_ms,omitempty"`
}

// done is the answer to a command.
type done struct {
	// Routes are those that it was about.
	Routes []string `json:"routes"`
	// Changed are those of them that it changed; the others were so already.
	Changed []string `json:"changed"`
	TookMS  float64  `json:"took_ms"`
}

// Codes of refused commands, in the answer's code.
const (
	codeBad      = "bad_request"
	codeDenied   = "denied"
	codeRoute    = "unknown_route"
	codeNotHeld  = "not_held"
	codeHoldOver = "hold_over"
	codeStopping = "stopping"
	codeTimeout  = "timeout"
	codeFailed   = "failed"
)

// refusals say how an error of a command is answered; any other is a failure of the gate.
var refusals = []struct {
	err    error
	code   string
	status int
}{
	{ErrNotHeld, codeNotHeld, http.StatusConflict},
	{ErrHoldOver, codeHoldOver, http.StatusConflict},
	{ErrStopping, codeStopping, http.StatusServiceUnavailable},
	{ErrUnknownRoute, codeRoute, http.StatusNotFound},
	{errBadCommand, codeBad, http.StatusBadRequest},
	{context.DeadlineExceeded, codeTimeout, http.StatusGatewayTimeout},
}

// ErrUnknownRoute says that the gate has no route of that name.
var ErrUnknownRoute = errors.New("unknown route")

// errBadCommand says that a command makes no sense.
var errBadCommand = errors.New("no valid command")

// controlServer takes the commands until ctx ends.
func (g *Gate) controlServer(ctx context.Context) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, g.Status()) })
	for path, do := range map[string]func(context.Context, command) ([]*route, []string, error){
		"POST /hold": g.doHold, "POST /drain": g.doDrain, "POST /switch": g.doSwitch, "POST /release": g.doRelease,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { g.obey(ctx, w, r, do) })
	}
	return g.innerServer(g.authorized(mux))
}

// metricsServer serves the metrics and what a supervisor asks.
func (g *Gate) metricsServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return g.innerServer(mux)
}

func (g *Gate) innerServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: commandTime, IdleTimeout: idleTime, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelWarn)}
}

// authorized asks for the token, where there is one.
func (g *Gate) authorized(next http.Handler) http.Handler {
	if g.cfg.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(g.cfg.Token)) // of one length, whatever is sent
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="dhow gate"`)
			reply(w, http.StatusUnauthorized, problem{codeDenied, "the token is missing or wrong: send the secret that gate.token names, as Authorization: Bearer"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// obey reads a command, does it and answers.
func (g *Gate) obey(serving context.Context, w http.ResponseWriter, r *http.Request, do func(context.Context, command) ([]*route, []string, error)) {
	c, err := readCommand(r)
	if err != nil {
		reply(w, http.StatusBadRequest, problem{codeBad, err.Error()})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(serving, cancel)()
	began := time.Now()
	routes, changed, err := do(ctx, c) //nolint:contextcheck // ctx ends with the request's, and with the serving one
	took := time.Since(began)
	if err != nil {
		if serving.Err() != nil {
			err = ErrStopping
		}
		p, status := problem{codeFailed, err.Error()}, http.StatusInternalServerError
		for _, known := range refusals {
			if errors.Is(err, known.err) {
				p.Code, status = known.code, known.status
				break
			}
		}
		g.log.Warn("a command was refused", "command", r.URL.Path, "route", c.Route, "error", err)
		reply(w, status, p)
		return
	}
	if changed == nil {
		changed = []string{}
	}
	answer := done{Routes: []string{}, Changed: changed, TookMS: float64(took.Microseconds()) / 1000}
	for _, rt := range routes {
		answer.Routes = append(answer.Routes, rt.name)
	}
	g.log.Info("a command was done", "command", r.URL.Path, "route", c.Route, "to", string(c.To), "changed", changed, "took", took)
	reply(w, http.StatusOK, answer)
}

func readCommand(r *http.Request) (command, error) {
	var c command
	text, err := io.ReadAll(io.LimitReader(r.Body, maxCommand+1))
	switch {
	case err != nil:
		return c, fmt.Errorf("read the command: %w", err)
	case len(text) > maxCommand:
		return c, fmt.Errorf("the command has more than %d bytes", maxCommand)
	}
	return parseCommand(text)
}

// parseCommand reads a command's text; none at all is an empty command.
func parseCommand(text []byte) (command, error) {
	var c command
	if len(strings.TrimSpace(string(text))) == 0 {
		return c, nil
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf(`a command is a JSON object with "route", "to" and "within_ms", each of which may be left out: %w`, err)
	}
	if d.More() {
		return c, errors.New("more follows the command")
	}
	if c.To != "" && !valid(c.To) {
		return c, fmt.Errorf(`"to" is %q: want "source" or "target"`, c.To)
	}
	if c.WithinMS < 0 || c.WithinMS > maxDrain.Milliseconds() {
		return c, fmt.Errorf(`"within_ms" is %d: want 0 to %d`, c.WithinMS, maxDrain.Milliseconds())
	}
	return c, nil
}

// about are the routes that a command is about.
func (g *Gate) about(c command) ([]*route, error) {
	if c.Route == "" {
		return g.routes, nil
	}
	if r, ok := g.byName[c.Route]; ok {
		return []*route{r}, nil
	}
	names := make([]string, len(g.routes))
	for i, r := range g.routes {
		names[i] = r.name
	}
	return nil, fmt.Errorf("%w %q: the gate's routes are %s", ErrUnknownRoute, c.Route, strings.Join(names, ", "))
}

func (g *Gate) doHold(_ context.Context, c command) (routes []*route, changed []string, err error) {
	if routes, err = g.about(c); err != nil {
		return nil, nil, err
	}
	for _, r := range routes {
		began, err := r.valve.keep()
		if err != nil {
			return nil, nil, err
		}
		if began != nil {
			changed = append(changed, r.name)
			g.handlers.Go(func() { g.openAhead(r, began) }) //nolint:contextcheck // it lasts as long as the hold, not as the command
		}
	}
	return routes, changed, nil
}

// doDrain waits for one route after the other: as all are held, what is drained stays so.
func (g *Gate) doDrain(ctx context.Context, c command) (routes []*route, changed []string, err error) {
	if routes, err = g.about(c); err != nil {
		return nil, nil, err
	}
	within := maxDrain
	if c.WithinMS > 0 {
		within = time.Duration(c.WithinMS) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for _, r := range routes {
		if err := r.valve.drain(ctx); err != nil {
			return nil, nil, fmt.Errorf("route %s: %w", r.name, err)
		}
	}
	for _, r := range routes { // a hold may have ended while another route was waited for
		if !r.valve.drained() {
			return nil, nil, fmt.Errorf("route %s: %w", r.name, ErrHoldOver)
		}
	}
	g.metrics.drains.Observe(time.Since(began).Seconds())
	return routes, nil, nil
}

// doSwitch makes the switch durable, then does it. Who asked may be gone by
// then: a switch that is begun is ended.
func (g *Gate) doSwitch(_ context.Context, c command) (routes []*route, changed []string, err error) {
	if routes, err = g.about(c); err != nil {
		return nil, nil, err
	}
	if c.To == "" {
		return nil, nil, fmt.Errorf(`%w: a switch needs "to", which is "source" or "target"`, errBadCommand)
	}
	g.control.Lock()
	defer g.control.Unlock()
	if !g.served(routes, c) {
		if err := g.sides.set(c.Route, c.To); err != nil {
			return nil, nil, err
		}
	}
	for _, r := range routes {
		turned, cut := r.valve.turn(c.To)
		if turned {
			changed = append(changed, r.name)
			g.metrics.switches.WithLabelValues(r.name, string(c.To)).Inc()
		}
		g.metrics.longClosed.WithLabelValues(r.name).Add(float64(cut))
	}
	return routes, changed, nil
}

// served says whether the file says already what a switch would write.
func (g *Gate) served(routes []*route, c command) bool {
	if c.Route == "" && (g.sides.now.Side != c.To || len(g.sides.now.Routes) > 0) {
		return false
	}
	for _, r := range routes {
		if g.sides.of(r.name) != c.To {
			return false
		}
	}
	return true
}

func (g *Gate) doRelease(_ context.Context, c command) (routes []*route, changed []string, err error) {
	if routes, err = g.about(c); err != nil {
		return nil, nil, err
	}
	for _, r := range routes {
		if r.valve.release() {
			changed = append(changed, r.name)
		}
	}
	return routes, changed, nil
}

// reply answers a command.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
