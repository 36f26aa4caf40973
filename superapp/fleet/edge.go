package fleet

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// edgeHeaderTime bounds what a slow client may cost.
	edgeHeaderTime = 5 * time.Second
	// edgeIdle connections are kept to each service.
	edgeIdle = 256
	// edgeKeep is shorter than the services keep idle connections.
	edgeKeep = time.Minute
	// edgeStop bounds the end of the requests in flight.
	edgeStop = 10 * time.Second
)

// edge is one address for all services: what a gate or a load balancer is elsewhere.
type edge struct {
	server *http.Server
	ended  chan error
}

// serveEdge sends each path to its service, the longest prefix first.
func serveEdge(l net.Listener, addresses map[string]string) *edge {
	type route struct {
		prefix string
		to     *httputil.ReverseProxy
	}
	transport := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: edgeIdle, IdleConnTimeout: edgeKeep, DisableCompression: true}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // that a service is away is seen in the answers
	var routes []route
	for _, s := range Services() {
		to := &url.URL{Scheme: "http", Host: addresses[s.Name]}
		for _, prefix := range s.Paths {
			routes = append(routes, route{prefix, &httputil.ReverseProxy{Transport: transport, ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.SetXForwarded()
				r.Out.Host = r.In.Host
			}}})
		}
	}
	slices.SortFunc(routes, func(a, b route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	e := &edge{ended: make(chan error, 1), server: &http.Server{ReadHeaderTimeout: edgeHeaderTime, ErrorLog: quiet,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, route := range routes {
				if covers(route.prefix, r.URL.Path) {
					route.to.ServeHTTP(w, r)
					return
				}
			}
			http.NotFound(w, r)
		})}}
	go func() { e.ended <- e.server.Serve(l) }()
	return e
}

// covers says whether a path is a prefix's: "/cards" covers "/cards/7" and not "/cardsets".
func covers(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// close lets the requests in flight end.
func (e *edge) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), edgeStop)
	defer cancel()
	err := e.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, e.server.Close())
	}
	if last := <-e.ended; !errors.Is(last, http.ErrServerClosed) {
		err = errors.Join(err, last)
	}
	return err
}
