// Package service is what the application's services share: connections to their
// stores, an HTTP server with health, readiness, metrics, request ids, traces,
// rate limits and a graceful end, answers and refusals in JSON, and idempotency
// keys. It knows no account and no payment; a service gives it routes and, if it
// likes, pages and work to do in the background.
package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

const (
	// DefaultPool is how many connections a service opens to each of its stores.
	DefaultPool = 16
	// DefaultRateLimit is in requests a second of one client address; a proxy before
	// the service is one client.
	DefaultRateLimit = 10_000
	// flushTime bounds the sending of the last traces.
	flushTime = 2 * time.Second
	// maxPool keeps a mistyped number from exhausting the server.
	maxPool = 200
	// readyEvery is the pause between two looks at whether the database answers, at the start.
	readyEvery = 100 * time.Millisecond
	// shutdownTime bounds the graceful end: longer than a request may take.
	shutdownTime = requestTime + 5*time.Second
)

// Options say how a service is run.
type Options struct {
	// Listen is a host and a port; port 0 lets the kernel choose.
	Listen string
	// AddressFile gets the address that was bound, once the service is ready.
	// Empty means none.
	AddressFile string
	// Instance names the process in the rows that it writes.
	Instance string
	// Pool is how many connections to each store are opened, at least 1.
	Pool int
	// RateLimit is in requests a second of one client address; 0 is no limit.
	RateLimit int
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// Needs are the stores that the service keeps its state in.
	Needs Needs
	// Prepare are statements of PostgreSQL that every connection knows before it serves, so that
	// the first requests do not wait for a server to read its catalogs.
	Prepare []string
}

// Flags adds the options to a command.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "`address` to serve on; port 0 lets the kernel choose")
	f.StringVar(&o.AddressFile, "address-file", "", "`file` that gets the bound address once the service is ready")
	f.StringVar(&o.Instance, "instance", "source", "`name` of this process in the rows that it writes")
	f.IntVar(&o.Pool, "pool", DefaultPool, "connections to each store")
	f.IntVar(&o.RateLimit, "rate-limit", DefaultRateLimit, "requests a second of one client address; 0 for no limit")
	f.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error; debug logs each request")
}

func (o *Options) check() (slog.Level, error) {
	var level slog.Level
	switch {
	case o.Pool < 1 || o.Pool > maxPool:
		return level, Usagef("--pool is %d: give a number from 1 to %d", o.Pool, maxPool)
	case o.RateLimit < 0:
		return level, Usagef("--rate-limit is %d: give a number from 0, which is no limit", o.RateLimit)
	case o.Instance == "":
		return level, Usagef("--instance is empty: name this process, for example source or target")
	}
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return level, Usagef("--log-level is %q: give debug, info, warn or error", o.LogLevel)
	}
	return level, nil
}

// usageError is a mistake in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// ExitCode is the process's, for who turns errors into one.
func (usageError) ExitCode() int { return 2 }

// Usagef is the error of a command that was called wrongly; its ExitCode is 2.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Base is what a service is built on.
type Base struct {
	Instance string
	// DB, MariaDB and Redis are nil where the service does not need them.
	DB      *pgxpool.Pool
	MariaDB *sql.DB
	Redis   *redis.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// App is what a service adds.
type App struct {
	// Routes are handlers by pattern, as http.ServeMux reads them: "POST /transfers".
	Routes map[string]Handler
	// OpenAPI describes the routes, in YAML; nil means nothing does.
	OpenAPI []byte
	// Pages answers what no route does; nil means that there is nothing.
	Pages http.Handler
	// Background runs beside the server until its context ends; nil means nothing.
	Background func(ctx context.Context)
}

// Run serves an application until ctx ends, then finishes the requests in flight
// and returns nil. DATABASE_URL, MARIADB_URL and REDIS_URL name the stores, as far
// as they are needed. A store that does not answer stops nothing: the service says that it is not ready, and waits.
func Run(ctx context.Context, name string, o Options, build func(Base) App) error {
	level, err := o.check()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("service", name, "instance", o.Instance)
	if o.AddressFile != "" {
		// A file of an earlier run would name an address where nobody is.
		if err := os.Remove(o.AddressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the old address file: %w", err)
		}
	}
	stores, err := openStores(ctx, name, o)
	if err != nil {
		return err
	}
	defer stores.close()
	tracer, flush, err := newTracer(ctx, name, o.Instance, log)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := flush(ctx); err != nil {
			log.Warn("the last traces could not be sent", "error", err)
		}
	}()
	registry := newRegistry(stores)
	app := build(Base{Instance: o.Instance, DB: stores.postgres, MariaDB: stores.mariadb, Redis: stores.redis, Log: log, Metrics: registry})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.Listen, err)
	}
	server := newServer(handler(app, &edge{log: log, tracer: tracer, limit: newLimiter(o.RateLimit), seconds: requestSeconds(registry)}, stores, registry), log)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, server, listener) })
	if app.Background != nil {
		g.Go(func() error { app.Background(ctx); return nil })
	}
	g.Go(func() error {
		if !awaitStores(ctx, stores, log) {
			return nil
		}
		log.Info("ready", "address", listener.Addr().String())
		return writeAddress(o.AddressFile, listener.Addr().String())
	})
	err = g.Wait()
	log.Info("stopped")
	return err
}

// awaitStores returns true once all stores answer, and false when ctx ends before.
func awaitStores(ctx context.Context, s *stores, log *slog.Logger) bool {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	told := false
	for {
		err := s.ping(ctx)
		if err == nil {
			return true
		}
		if !told && ctx.Err() == nil {
			log.Warn("a store does not answer: check its address in the environment, and the server; waiting for it", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// writeAddress puts the address into a file, whole or not at all.
func writeAddress(file, address string) error {
	if file == "" {
		return nil
	}
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write the address file: %w", err)
	}
	_, err = temp.WriteString(address + "\n")
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the first error is the one to tell
		return fmt.Errorf("write the address file %s: %w", file, err)
	}
	return nil
}

// ReadAddress reads what a ready service wrote; os.ErrNotExist says not ready yet.
func ReadAddress(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the address file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
