package redisserver_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dhow/internal/redisserver"
	"dhow/internal/redisserver/redistest"
)

func open(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServerKeepsWhatItWroteOverCrashAndRestart(t *testing.T) {
	s := redistest.Start(t, "appendfsync", "always")
	c := open(t, s.URL())
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := open(t, s.URL()).Get(t.Context(), "k").Result(); v != "v" {
		t.Errorf("%q, %v", v, err)
	}
	if args, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/cmdline"); err == nil && strings.Contains(string(args), s.Password()) {
		t.Error("the password is in the process list")
	}
	dir := s.Dir
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))); err == nil {
		_ = c.Close()
		t.Error("the port still answers after Stop")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestServerListensOnAFurtherAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a Redis server: not with -short (testing.Short)")
	}
	s, err := redisserver.Start(t.Context(), redisserver.Options{Listen: "127.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	there := strings.Replace(s.URL(), "127.0.0.1", "127.0.0.2", 1)
	if err := open(t, there).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if err := open(t, strings.Replace(there, s.Password(), "wrong", 1)).Ping(t.Context()).Err(); err == nil {
		t.Error("a wrong password was taken")
	}
}
