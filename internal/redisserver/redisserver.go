// Package redisserver runs Redis servers of one's own: on a free port, in a folder
// of their own, gone when their owner stops or dies. The demo and the tests use
// it; it is not for production servers.
package redisserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/process"
)

const (
	// startTimeout bounds the wait for a server that was started.
	startTimeout = 30 * time.Second
	// stopTimeout bounds a shutdown before the server is killed.
	stopTimeout = 10 * time.Second
	// probeEvery is how often a starting server is asked whether it is ready.
	probeEvery = 20 * time.Millisecond
	loopback   = "127.0.0.1"
)

// Options say which server to run.
type Options struct {
	// Dir is the server's folder; it is created when it does not exist, and data
	// that is there is served again. Empty: a temporary folder, removed by Stop.
	Dir string
	// Listen is a further address of this machine to serve on, besides loopback:
	// for clients in other network namespaces. Empty means none.
	Listen string
	// Password is the server's; empty means a random one, or that of the folder.
	Password string
	// Settings override the defaults of redis.conf, for example "appendonly": "no".
	Settings map[string]string
}

// Server is a running Redis server.
type Server struct {
	Dir  string
	Port int

	password string
	temp     bool
	port     *process.Port // kept until Stop
	proc     *process.Process
}

// Start starts a server. It ends when Stop or Kill is called and when this process
// dies, however it dies.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("no redis-server on this machine: run `make setup`")
	}
	s := &Server{Dir: o.Dir}
	if s.Dir == "" {
		if s.Dir, err = os.MkdirTemp("", "dhow-redis"); err != nil {
			return nil, fmt.Errorf("create a folder for redis: %w", err)
		}
		s.temp = true
	}
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return nil, fmt.Errorf("find the folder of redis: %w", err)
	}
	if err := s.create(o.Password); err != nil {
		s.remove()
		return nil, err
	}
	if s.port, err = process.ReservePort(); err != nil {
		s.remove()
		return nil, err
	}
	s.Port = s.port.Number()
	if err := s.run(ctx, o); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// create makes the folder and the password, where they are not there yet.
func (s *Server) create(password string) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("create the folder of redis: %w", err)
	}
	secret := filepath.Join(s.Dir, "password")
	old, err := os.ReadFile(secret)
	if s.password = strings.TrimSpace(string(old)); err == nil && s.password != "" {
		return nil
	}
	if s.password = password; password == "" {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails, see crypto/rand
		s.password = hex.EncodeToString(random[:])
	}
	if err := os.WriteFile(secret, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the password of redis: %w", err)
	}
	return nil
}

func (s *Server) conf() string { return filepath.Join(s.Dir, "redis.conf") }

// configure writes redis.conf, which holds the password: arguments are in every process list.
func (s *Server) configure(o Options) error {
	all := map[string]string{
		"bind":                     loopback,
		"port":                     strconv.Itoa(s.Port),
		"dir":                      s.Dir,
		"requirepass":              s.password,
		"protected-mode":           "yes",
		"appendonly":               "yes",
		"appendfsync":              "everysec",
		"save":                     `""`,
		"daemonize":                "no",
		"repl-diskless-sync-delay": "0",
	}
	if o.Listen != "" {
		all["bind"] += " " + o.Listen
	}
	for k, v := range o.Settings {
		all[k] = v
	}
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var conf strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&conf, "%s %s\n", k, all[k])
	}
	if err := os.WriteFile(s.conf(), []byte(conf.String()), 0o600); err != nil {
		return fmt.Errorf("write the settings of redis: %w", err)
	}
	return nil
}

// run starts the server and returns once it answers.
func (s *Server) run(ctx context.Context, o Options) error {
	if err := s.configure(o); err != nil {
		return err
	}
	return s.launch(ctx)
}

func (s *Server) launch(ctx context.Context) error {
	cmd := exec.Command("redis-server", s.conf()) //nolint:noctx // it lives until Stop
	cmd.Dir = s.Dir
	proc, err := process.Start(cmd, process.Options{Name: "redis", Log: filepath.Join(s.Dir, "server.log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.ready(ctx); err != nil {
		s.Kill()
		return err
	}
	return nil
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(loopback, strconv.Itoa(s.Port)), Password: s.password, PoolSize: 1, MaxRetries: -1})
	defer func() { _ = c.Close() }() // nothing is written behind the answer
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		if c.Ping(ctx).Err() == nil {
			return nil
		}
		select {
		case <-s.proc.Done():
			return fmt.Errorf("redis ended while it started: %s", s.proc.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for redis on port %d: %w: %s", s.Port, ctx.Err(), s.proc.LogTail())
		case <-tick.C:
		}
	}
}

// URL is the connection string. It holds the password: give it to a client, never to a log.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.password), Host: net.JoinHostPort(loopback, strconv.Itoa(s.Port)), Path: "/0"}
	return u.String()
}

// Password is the default user's password.
func (s *Server) Password() string { return s.password }

// Pid is the server's process.
func (s *Server) Pid() int { return s.proc.Pid() }

// Stop shuts the server down and waits until it is gone; a temporary folder is
// removed, and its port is given back. It may be called again.
func (s *Server) Stop(ctx context.Context) error {
	defer s.remove()
	return s.shutdown(ctx)
}

func (s *Server) shutdown(ctx context.Context) error {
	if s.proc == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return s.proc.Stop(ctx, syscall.SIGTERM)
}

// Kill ends the server at once, as a crash would, and waits until it is gone. The
// next Restart reads the append-only file.
func (s *Server) Kill() {
	if s.proc != nil {
		s.proc.Kill()
	}
}

// Restart stops the server if it runs and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

func (s *Server) remove() {
	s.port.Release()
	if s.temp {
		_ = os.RemoveAll(s.Dir) // only our own temporary folder; what cannot go is the system's to clean
	}
}
