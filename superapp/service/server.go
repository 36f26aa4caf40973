package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
)

const (
	// requestTime bounds a request, with all that it waits for.
	requestTime = 10 * time.Second
	// headerTime and readTime bound what a slow client may cost.
	headerTime = 5 * time.Second
	readTime   = 10 * time.Second
	writeTime  = requestTime + 5*time.Second
	// idleTime is longer than proxies keep idle connections (commonly 90 s), so
	// that they close first: a request sent into a connection that the server is
	// closing fails.
	idleTime = 180 * time.Second
	// maxHeader and maxBody are in bytes; real requests have some hundred.
	maxHeader = 16 << 10
	maxBody   = 16 << 10
	// retryAfter is what a client that got a 503 is told to wait, in seconds.
	retryAfter = "1"
	// requestIDHeader names a request in the logs of all who handle it.
	requestIDHeader = "X-Request-Id"
	maxRequestID    = 64
)

// Handler answers a request. An error that is a *Refusal goes to the client; a
// database that is away or takes no writes becomes a 503; any other is a defect:
// it is logged, and the client gets a 500 without its text.
type Handler func(r *http.Request) (Answer, error)

type contextKey int

const requestIDKey contextKey = iota

// RequestID is the id of the request that ctx belongs to; empty outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// handler routes requests and looks after what all have in common.
func handler(app App, e *edge, s *stores, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range app.Routes {
		mux.Handle(pattern, e.limited(e.wrap(pattern, h)))
	}
	mux.Handle("GET /healthz", e.wrap("GET /healthz", func(*http.Request) (Answer, error) {
		return JSON(http.StatusOK, map[string]string{"status": "alive"})
	}))
	mux.Handle("GET /readyz", e.wrap("GET /readyz", func(r *http.Request) (Answer, error) {
		if err := s.ping(r.Context()); err != nil {
			return Answer{}, Unavailable(err)
		}
		return JSON(http.StatusOK, map[string]string{"status": "ready"})
	}))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	if app.OpenAPI != nil {
		mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/yaml")
			_, _ = w.Write(app.OpenAPI) // a client that left gets nothing
		})
	}
	if app.Pages != nil {
		mux.Handle("/", e.limited(e.pages(app.Pages)))
		return mux
	}
	mux.Handle("/", e.limited(e.wrap(otherRoute, func(r *http.Request) (Answer, error) {
		return Answer{}, &Refusal{Status: http.StatusNotFound, Code: CodeUnknownPath, Text: "there is no " + r.Method + " at this path"}
	})))
	return mux
}

// otherRoute is the name, in metrics and traces, of all that has no route of its own.
const otherRoute = "other"

// edge is where requests come in and answers go out.
type edge struct {
	log     *slog.Logger
	tracer  trace.Tracer
	limit   *limiter
	seconds *prometheus.HistogramVec
}

// limited refuses the requests of a client that sends too many.
func (e *edge) limited(next http.Handler) http.Handler {
	refuse := e.wrap("limited", func(*http.Request) (Answer, error) { return Answer{}, tooMany() })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.limit.allow(r, time.Now()) {
			next.ServeHTTP(w, r)
			return
		}
		refuse.ServeHTTP(w, r)
	})
}

// wrap serves a route with a handler that makes answers.
func (e *edge) wrap(route string, h Handler) http.Handler {
	return e.around(route, func(w http.ResponseWriter, r *http.Request) (int, error) {
		answer, err := e.answer(h, r)
		answer.write(w, RequestID(r.Context()))
		return answer.Status, err
	})
}

// pages serves what writes its own answers.
func (e *edge) pages(h http.Handler) http.Handler {
	return e.around("pages", func(w http.ResponseWriter, r *http.Request) (status int, err error) {
		noted := &noting{ResponseWriter: w, status: http.StatusOK}
		w.Header().Set(requestIDHeader, RequestID(r.Context()))
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v: %s", p, debug.Stack())
				if status = http.StatusInternalServerError; !noted.wrote {
					http.Error(w, internalText, status)
				}
			}
		}()
		h.ServeHTTP(noted, r)
		return noted.status, nil
	})
}

// noting remembers the status that was written.
type noting struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (n *noting) WriteHeader(status int) {
	if !n.wrote {
		n.status, n.wrote = status, true
	}
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(b []byte) (int, error) {
	n.wrote = true
	return n.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// around gives a request its id, its span and its bounds, and notes its end.
func (e *edge) around(route string, serve func(http.ResponseWriter, *http.Request) (int, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get(requestIDHeader)
		if !validToken(id, maxRequestID) {
			id = uuid.NewString()
		}
		ctx, span := began(r.Context(), e.tracer, r, route)
		ctx, cancel := context.WithTimeout(context.WithValue(ctx, requestIDKey, id), requestTime)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, err := serve(w, r)
		took := time.Since(start)
		e.seconds.WithLabelValues(route, statusText(status)).Observe(took.Seconds())
		ended(span, status)
		e.note(ctx, route, status, took, err)
	})
}

// answer calls the handler and makes an answer of any outcome.
func (e *edge) answer(h Handler, r *http.Request) (a Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v: %s", p, debug.Stack())
			a = (&Refusal{Status: http.StatusInternalServerError, Code: codeInternal, Text: internalText}).answer()
		}
	}()
	if a, err = h(r); err == nil {
		return a, nil
	}
	return refusalOf(err).answer(), err
}

// note logs what failed, and each request when the level is debug.
func (e *edge) note(ctx context.Context, route string, status int, took time.Duration, err error) {
	level := slog.LevelDebug
	switch {
	case status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	if !e.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("request", RequestID(ctx)), slog.String("route", route), slog.Int("status", status), slog.Duration("took", took)}
	if id := traceID(ctx); id != "" {
		attrs = append(attrs, slog.String("trace", id))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	e.log.LogAttrs(ctx, level, "request", attrs...)
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serve serves until ctx ends, then takes no new connection and lets the
// requests in flight end.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err := server.Shutdown(bounded)
	if err != nil {
		err = fmt.Errorf("wait for the requests in flight: %w", errors.Join(err, server.Close()))
	}
	if last := <-ended; !errors.Is(last, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve on %s: %w", listener.Addr(), last))
	}
	return err
}
