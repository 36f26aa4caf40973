package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

const (
	// registryBytes bounds what one registry takes in its life: the application's
	// images are about 100 MB.
	registryBytes = 2 << 30
	// registryHeader bounds a slow client's request, registryIdle an idle
	// connection, registryEnd the transfers that are under way at the end: who
	// sends then will send again.
	registryHeader = 5 * time.Second
	registryIdle   = time.Minute
	registryEnd    = 2 * time.Second
)

// Registry is a registry of container images within this process, for tests and
// the demo: without accounts, and forgetful. Layers lie in dir, or in memory if
// dir is empty; what names them is kept in memory alone. It serves until ctx
// ends, gives the transfers under way a moment, and returns nil.
func Registry(ctx context.Context, l net.Listener, dir string) error {
	quiet := log.New(io.Discard, "", 0)
	options := []registry.Option{registry.Logger(quiet), registry.WithReferrersSupport(true)}
	if dir != "" {
		options = append(options, registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)))
	}
	var left atomic.Int64
	left.Store(registryBytes)
	server := &http.Server{
		Handler:           bounded(registry.New(options...), &left),
		ReadHeaderTimeout: registryHeader,
		IdleTimeout:       registryIdle,
		ErrorLog:          quiet,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve images on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), registryEnd)
	defer cancel()
	err := server.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if last := <-ended; !errors.Is(last, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve images on %s: %w", l.Addr(), last))
	}
	return err
}

// bounded refuses what would go beyond the bytes that are left.
func bounded(h http.Handler, left *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &metered{ReadCloser: r.Body, left: left}
		}
		if left.Load() < 0 && r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, errFull.Error(), http.StatusInsufficientStorage)
			return
		}
		h.ServeHTTP(w, r)
	})
}

var errFull = fmt.Errorf("the registry is full: it takes %d bytes in all, start a new one", registryBytes)

// metered is a body whose bytes are counted down.
type metered struct {
	io.ReadCloser
	left *atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if m.left.Add(-int64(n)) < 0 {
		return n, errFull
	}
	return n, err
}
