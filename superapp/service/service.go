// Package service is what the application's services share: a PostgreSQL pool,
// an HTTP server with health, readiness, metrics, request ids and a graceful
// end, answers and refusals in JSON, and idempotency keys. It knows no account
// and no payment; a service gives it routes and, if it likes, work to do in the
// background.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

const (
	// DefaultPool is how many connections a service opens to its database.
	DefaultPool = 16
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
	// Pool is how many connections to the database are opened, at least 1.
	Pool int
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// Prepare are statements that every connection knows before it serves, so that
	// the first requests do not wait for a server to read its catalogs.
	Prepare []string
}

// Flags adds the options to a command.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "`address` to serve on; port 0 lets the kernel choose")
	f.StringVar(&o.AddressFile, "address-file", "", "`file` that gets the bound address once the service is ready")
	f.StringVar(&o.Instance, "instance", "source", "`name` of this process in the rows that it writes")
	f.IntVar(&o.Pool, "pool", DefaultPool, "connections to the database")
	f.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error; debug logs each request")
}

func (o *Options) check() (slog.Level, error) {
	var level slog.Level
	switch {
	case o.Pool < 1 || o.Pool > maxPool:
		return level, Usagef("--pool is %d: give a number from 1 to %d", o.Pool, maxPool)
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
	DB       *pgxpool.Pool
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// App is what a service adds.
type App struct {
	// Routes are handlers by pattern, as http.ServeMux reads them: "POST /transfers".
	Routes map[string]Handler
	// Background runs beside the server until its context ends; nil means nothing.
	Background func(ctx context.Context)
}

// Run serves an application until ctx ends, then finishes the requests in flight
// and returns nil. DATABASE_URL names the database. A database that does not
// answer stops nothing: the service says that it is not ready, and waits.
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
	db, err := openPool(ctx, name, o.Pool, o.Prepare)
	if err != nil {
		return err
	}
	defer db.Close()
	registry := newRegistry(db)
	app := build(Base{Instance: o.Instance, DB: db, Log: log, Metrics: registry})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.Listen, err)
	}
	server := newServer(handler(app.Routes, db, registry, log), log)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, server, listener) })
	if app.Background != nil {
		g.Go(func() error { app.Background(ctx); return nil })
	}
	g.Go(func() error {
		if !awaitDatabase(ctx, db, log) {
			return nil
		}
		log.Info("ready", "address", listener.Addr().String())
		return writeAddress(o.AddressFile, listener.Addr().String())
	})
	err = g.Wait()
	log.Info("stopped")
	return err
}

// awaitDatabase returns true once the database answers, and false when ctx ends before.
func awaitDatabase(ctx context.Context, db *pgxpool.Pool, log *slog.Logger) bool {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	told := false
	for {
		err := ping(ctx, db)
		if err == nil {
			return true
		}
		if !told && ctx.Err() == nil {
			log.Warn("the database does not answer: check DATABASE_URL and the server; waiting for it", "error", err)
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
