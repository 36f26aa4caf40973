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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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
func handler(routes map[string]Handler, db *pgxpool.Pool, registry *prometheus.Registry, log *slog.Logger) http.Handler {
	e := &edge{log: log, seconds: requestSeconds(registry)}
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.Handle(pattern, e.wrap(pattern, h))
	}
	mux.Handle("GET /healthz", e.wrap("GET /healthz", func(*http.Request) (Answer, error) {
		return JSON(http.StatusOK, map[string]string{"status": "alive"})
	}))
	mux.Handle("GET /readyz", e.wrap("GET /readyz", func(r *http.Request) (Answer, error) {
		if err := ping(r.Context(), db); err != nil {
			return Answer{}, Unavailable(err)
		}
		return JSON(http.StatusOK, map[string]string{"status": "ready"})
	}))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.Handle("/", e.wrap("other", func(r *http.Request) (Answer, error) {
		return Answer{}, &Refusal{Status: http.StatusNotFound, Code: "unknown_path", Text: "there is no " + r.Method + " at this path"}
	}))
	return mux
}

// edge is where requests come in and answers go out.
type edge struct {
	log     *slog.Logger
	seconds *prometheus.HistogramVec
}

func (e *edge) wrap(route string, h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := r.Header.Get(requestIDHeader)
		if !validToken(id, maxRequestID) {
			id = uuid.NewString()
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), requestIDKey, id), requestTime)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := e.answer(h, r)
		answer.write(w, id)
		took := time.Since(began)
		e.seconds.WithLabelValues(route, statusText(answer.Status)).Observe(took.Seconds())
		e.note(ctx, route, answer.Status, took, err)
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
