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
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"dhow/internal/process"
)

const loopback = "127.0.0.1"

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
	*process.Server
	password string
}

// Start starts a server. It ends when Stop or Kill is called and when this process
// dies, however it dies.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("no redis-server on this machine: run `make setup`")
	}
	s := &Server{}
	s.Server, err = process.NewServer(process.ServerOptions{Name: "redis", Dir: o.Dir, Command: s.command, Probe: s.probe, Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL})
	if err != nil {
		return nil, err
	}
	if err = s.create(o.Password); err == nil {
		err = s.configure(o)
	}
	if err == nil {
		err = s.Restart(ctx)
	}
	if err != nil {
		_ = s.Stop(ctx) // nothing runs
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
	maps.Copy(all, o.Settings)
	var conf strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&conf, "%s %s\n", k, all[k])
	}
	if err := os.WriteFile(s.conf(), []byte(conf.String()), 0o600); err != nil {
		return fmt.Errorf("write the settings of redis: %w", err)
	}
	return nil
}

func (s *Server) command() *exec.Cmd {
	cmd := exec.Command("redis-server", s.conf()) //nolint:noctx // it lives until Stop
	cmd.Dir = s.Dir
	return cmd
}

func (s *Server) probe(ctx context.Context) error {
	c := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(loopback, strconv.Itoa(s.Port)), Password: s.password, PoolSize: 1, MaxRetries: -1})
	defer func() { _ = c.Close() }() // nothing is written behind the answer
	err := c.Ping(ctx).Err()
	if err != nil && strings.HasPrefix(err.Error(), "WRONGPASS") && strings.Contains(s.LogTail(), "Ready to accept connections") {
		return nil // nobody can log in as default, and it answers
	}
	return err
}

// URL is the connection string. It holds the password: give it to a client, never to a log.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.password), Host: net.JoinHostPort(loopback, strconv.Itoa(s.Port)), Path: "/0"}
	return u.String()
}

// Password is the default user's password.
func (s *Server) Password() string { return s.password }
