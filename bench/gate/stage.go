package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"dhow/internal/estate"
	"dhow/internal/gate"
)

const (
	// roleVariable makes this program one of the stage's processes.
	roleVariable = "DHOW_BENCH_ROLE"
	// The variables below say the rest to such a process.
	sourceVariable, targetVariable = "DHOW_BENCH_SOURCE", "DHOW_BENCH_TARGET"
	folderVariable                 = "DHOW_BENCH_FOLDER"
	profileVariable                = "DHOW_BENCH_PROFILE"

	roleApplication, roleGate, roleBare = "application", "gate", "bare"

	// startTime and stopTime bound a process's start and end.
	startTime = 10 * time.Second
	stopTime  = 10 * time.Second
	// keptConnections is how many idle connections the bare proxy keeps.
	keptConnections = 1000
	// headTime bounds what the application waits for a request's head.
	headTime = 10 * time.Second
)

// reply is what the application answers: as long as a payment's answer is.
var reply = []byte(`{"id":123456,"state":"completed","transfer":654321,"from_balance":1000000,"from_version":42,"note":"` + strings.Repeat("x", 120) + `"}`)

// stage are the processes: an application of two sides and a gate before it.
type stage struct {
	folder         string
	source, target string // host:port
	gate, bare     string
	control        *gate.Client
	children       []*exec.Cmd
}

// newStage starts the processes; close ends them.
func newStage(ctx context.Context, profile string) (_ *stage, err error) {
	s := &stage{}
	if s.folder, err = os.MkdirTemp("", "dhow-bench"); err != nil {
		return nil, fmt.Errorf("create a folder: %w", err)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, side := range []*string{&s.source, &s.target} {
		if *side, err = s.start(ctx, roleApplication); err != nil {
			return nil, err
		}
	}
	if profile != "" {
		if profile, err = filepath.Abs(profile); err != nil {
			return nil, err
		}
	}
	s.gate, err = s.start(ctx, roleGate, sourceVariable+"=http://"+s.source, targetVariable+"=http://"+s.target, folderVariable+"="+s.folder, profileVariable+"="+profile)
	if err != nil {
		return nil, err
	}
	if s.bare, err = s.start(ctx, roleBare, sourceVariable+"=http://"+s.source); err != nil {
		return nil, err
	}
	s.control = gate.Dial(filepath.Join(s.folder, "gate.sock"), "")
	return s, nil
}

// start runs this program in a role and returns the address that it serves on.
func (s *stage) start(ctx context.Context, role string, more ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), more...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start the %s: %w", role, err)
	}
	s.children = append(s.children, cmd)
	late := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the %s did not start: %w", role, err)
	}
	return strings.TrimSpace(line), nil
}

func (s *stage) close() {
	for i := len(s.children) - 1; i >= 0; i-- {
		cmd := s.children[i]
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it says itself what it has to say
		late.Stop()
	}
	_ = os.RemoveAll(s.folder)
}

// play is the life of a child.
func play(ctx context.Context, role string) error {
	switch role {
	case roleGate:
		return playGate(ctx)
	case roleBare:
		u, err := url.Parse(os.Getenv(sourceVariable))
		if err != nil {
			return err
		}
		transport := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: keptConnections, DisableCompression: true}
		transport.Protocols.SetHTTP1(true)
		return serve(ctx, &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() }})
	}
	return serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply)
	}))
}

// serve serves HTTP/1.1 and HTTP/2 in the clear until ctx ends.
func serve(ctx context.Context, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: headTime, Handler: h}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// playGate runs a gate with a route to HTTP/1.1 and one to HTTP/2 in the clear.
func playGate(ctx context.Context) error {
	source, target, folder := os.Getenv(sourceVariable), os.Getenv(targetVariable), os.Getenv(folderVariable)
	g, err := gate.New(gate.Config{
		Listen: "127.0.0.1:0", Control: filepath.Join(folder, "gate.sock"), State: filepath.Join(folder, "gate.json"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Routes: []estate.Route{
			{Name: "plain", Path: plainPath, Source: source, Target: target},
			{Name: "h2c", Path: h2cPath, Source: source, Target: target, H2C: true},
		},
	})
	if err != nil {
		return err
	}
	if path := os.Getenv(profileVariable); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx) }()
	select {
	case <-g.Ready():
		fmt.Println(g.Addrs().Data)
	case err := <-ended:
		return err
	}
	return <-ended
}
