package voyage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"dhow/internal/cutover"
)

// A running replication is questioned over a Unix socket in the state folder,
// in HTTP, which every shell can speak (curl --unix-socket):
//
//	GET  /status  how each database stands
//	POST /yield   hand the estate over: the streams end, then the lock is free
//
// It is open to the account that runs dhow alone.

const (
	// maxSocketPath is what the kernel takes for a socket's address, in bytes.
	maxSocketPath = 107
	// socketMode lets the account that runs dhow at the socket, and nobody else.
	socketMode = 0o600
	// headerTime bounds the reading of a request's head.
	headerTime = 5 * time.Second
	// maxQuestion bounds a request's body, in bytes.
	maxQuestion = 4 << 10
)

// Status is what a running replication says of itself.
type Status struct {
	Pid     int          `json:"pid"`
	Started time.Time    `json:"started"`
	To      cutover.Side `json:"to"`
	// PeakRSS is the most memory that the process had, in bytes; 0 where the system does not say.
	PeakRSS int64 `json:"peak_rss_bytes,omitempty"`
	// Databases are in the estate's order.
	Databases []Standing `json:"databases"`
}

// yieldRequest says who wants the estate.
type yieldRequest struct {
	For string `json:"for"`
}

// Listen opens the socket of the estate. The caller holds the estate's lock, so
// a socket that is there is a dead process's.
func (v *Voyage) Listen(ctx context.Context) (net.Listener, error) {
	path, err := v.socket()
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove an old socket: %w", err)
	}
	// The mode is set before the socket has a name, so that there is no moment in
	// which others could connect.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if controlled := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }); controlled != nil {
			return controlled
		}
		return err
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("close the socket to other accounts: %w", err)
	}
	return l, nil
}

// socket is the socket's path, in whichever form is the shorter one: the
// kernel's limit is on what it is given.
func (v *Voyage) socket() (string, error) {
	path := v.path(socketFile)
	if len(path) <= maxSocketPath {
		return path, nil
	}
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, path); err == nil && len(rel) <= maxSocketPath {
			return rel, nil
		}
	}
	return "", fmt.Errorf("the path of the socket, %s, is longer than the %d bytes that the system takes: name a shorter folder as state in %s", path, maxSocketPath, v.Estate.File)
}

// Serve answers questions about the replication until ctx ends. yield is called
// once, by whoever asks first, with what for; it must make the replication end.
func (r *Replication) Serve(ctx context.Context, l net.Listener, log *slog.Logger, yield func(what string)) error {
	var once sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, Status{Pid: os.Getpid(), Started: r.began, To: r.to, PeakRSS: PeakRSS(), Databases: r.Standings()})
	})
	mux.HandleFunc("POST /yield", func(w http.ResponseWriter, q *http.Request) {
		var y yieldRequest
		if !ask(w, q, &y) {
			return
		}
		answer(w, struct{}{})
		_ = http.NewResponseController(w).Flush() // the asker looks at the lock in any case
		once.Do(func() { yield(y.For) })
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTime, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// The questions' contexts end with ctx, so they have little left to do.
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), headerTime)
		defer cancel()
		if srv.Shutdown(short) != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answer on the socket: %w", err)
}

func ask(w http.ResponseWriter, q *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxQuestion)).Decode(into); err != nil {
		http.Error(w, "the question is not JSON: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, with any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(with) // who has hung up needs no answer
}
