// Command answer is the application of the tests' pods: it says who it is, asks others
// for the tests, and ends when it is told to.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		fmt.Println("the store is not there")
		os.Exit(3)
	}
	name, _ := os.Hostname()
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Println("asked for its name")
		fmt.Fprint(w, name)
	})
	http.HandleFunc("GET /resolve", func(w http.ResponseWriter, r *http.Request) {
		all, err := net.DefaultResolver.LookupHost(r.Context(), r.URL.Query().Get("name"))
		fmt.Fprint(w, all, err)
	})
	http.HandleFunc("GET /get", func(w http.ResponseWriter, r *http.Request) {
		client := http.Client{Timeout: 5 * time.Second}
		answer, err := client.Get(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		_, _ = io.Copy(w, answer.Body)
	})
	server := &http.Server{Addr: ":8080"}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	_ = server.ListenAndServe()
}
