// Command serve is the program of the tests' pods. It takes a moment to start, answers
// after some milliseconds, and ends at once when it is told to, whatever it was at: as most
// programs do.
package main

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// starts is how long it takes to serve, answers the longest that it takes for an answer.
	starts, answers = 500 * time.Millisecond, 30 * time.Millisecond
	// idle is longer than a load balancer keeps a connection.
	idle = 2 * time.Minute
	// header bounds a client's header.
	header = 10 * time.Second
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		os.Exit(0)
	}()
	time.Sleep(starts)
	name, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(time.Duration(rand.Int64N(int64(answers))))
		_, _ = io.WriteString(w, name)
	})
	server := &http.Server{Addr: ":8080", Handler: mux, IdleTimeout: idle, ReadHeaderTimeout: header}
	_ = server.ListenAndServe() // a pod that can not serve is started again
	os.Exit(1)
}
