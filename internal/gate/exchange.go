package gate

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// exchange is a request and its answer on their way through the gate. It is the
// context of the request to the upstream too, so that what the proxy calls back
// finds it.
type exchange struct {
	context.Context
	cancel context.CancelFunc

	gate  *Gate
	route *route
	pass  pass
	in    *http.Request
	began time.Time

	// turned says that the gate cut it because its side is served no more.
	turned atomic.Bool

	status  int     // what was answered; 0 when nothing was
	failure failure // why no whole answer of the application came; empty when one did
	long    bool    // the answer is an event stream or a switched protocol

	request requestBody
	answer  answerBody
}

// failure is why a request had no whole answer from the application.
type failure string

const (
	failUnreachable failure = "unreachable" // no connection to the upstream: nothing was sent
	failNoAnswer    failure = "no_answer"   // the connection broke before an answer came
	failTimeout     failure = "timeout"     // no answer in time
	failCut         failure = "cut"         // the connection broke within the answer
	failClient      failure = "client_gone" // the client went away, or its body broke off
	failFull        failure = "hold_full"   // more requests were held than may be
	failStopping    failure = "stopping"    // the gate was stopped in the middle of a hold
)

type exchangeKey struct{}

// Value finds the exchange itself, and all that the request's context holds.
func (x *exchange) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return x
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// serve is the way of every request.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request) {
	g.handlers.Add(1)
	defer g.handlers.Done()
	if r.Method == http.MethodConnect {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		respond(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "the gate opens no tunnels")
		return
	}
	rt := g.table.find(r.Host, r.URL.Path)
	if rt == nil {
		g.metrics.noRoute.Inc()
		respond(w, r, http.StatusNotFound, "no_route", "no route of the gate takes this host and path")
		return
	}
	x := &exchange{gate: g, route: rt, in: r, began: time.Now()}
	x.Context, x.cancel = context.WithCancel(r.Context())
	x.pass.cut = x.turn
	defer x.end()

	ahead, err := x.admit(r) //nolint:contextcheck // x is the request's context
	if ahead != nil {
		defer ahead.end()
	}
	if err != nil {
		x.refuse(w, err)
		return
	}
	out := r.WithContext(x) //nolint:contextcheck // as above
	if ahead != nil {
		out.Body = ahead
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// The upstream may begin to answer before it has read the whole request.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	rt.upstreams[x.pass.side].proxy.ServeHTTP(w, out)
}

// admit lets the request through the valve, at once or after a hold. What was
// read ahead of the body in the meantime comes back, also with an error.
func (x *exchange) admit(r *http.Request) (*aheadBody, error) {
	held, err := x.route.valve.enter(&x.pass, isEventSource(r))
	if err != nil || !held {
		return nil, err
	}
	ahead := x.gate.readAhead(r)
	err = x.pass.wait(x)
	if ahead != nil {
		ahead.stop()
	}
	x.route.meter.held.Observe(time.Since(x.began).Seconds())
	return ahead, err
}

// refuse answers a request that is sent to no side.
func (x *exchange) refuse(w http.ResponseWriter, err error) {
	text := "the gate in front of the application is stopping: nothing was done, try again"
	switch {
	case errors.Is(err, errFull):
		x.failure = failFull
		text = "the application is being moved and more requests wait for it than may: nothing was done, try again"
	case errors.Is(err, ErrStopping):
		x.failure = failStopping
	default:
		x.failure, x.status = failClient, statusClientGone
		abort()
	}
	x.status = http.StatusServiceUnavailable
	w.Header().Set("Retry-After", retryAfter)
	respond(w, x.in, x.status, string(x.failure), text)
}

// turn ends a long-lived exchange whose side is served no more.
func (x *exchange) turn() {
	x.turned.Store(true)
	x.cancel()
}

// end counts the exchange, whichever way it ended.
func (x *exchange) end() {
	x.cancel()
	x.pass.leave()
	x.request.over.Store(true)
	if b := &x.answer; x.failure == "" && b.x != nil && !b.ended && !x.turned.Load() {
		x.failure = failClient
		if b.err != nil && x.in.Context().Err() == nil {
			x.failure = failCut
		}
	}
	x.route.meter.record(x)
}

// isEventSource says whether a client asks for an event stream and nothing else,
// as a browser's EventSource does. Its answer may begin with the first event,
// and that may be long after.
func isEventSource(r *http.Request) bool {
	accept := r.Header["Accept"]
	return r.Method == http.MethodGet && len(accept) == 1 && isEventStream(accept[0])
}

// isEventStream says whether a media type is that of server-sent events.
func isEventStream(mediaType string) bool {
	const events = "text/event-stream"
	if len(mediaType) < len(events) || !strings.EqualFold(mediaType[:len(events)], events) {
		return false
	}
	rest := strings.TrimLeft(mediaType[len(events):], " \t")
	return rest == "" || rest[0] == ';'
}
