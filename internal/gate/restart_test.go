package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dhow/internal/estate"
	"dhow/internal/gate"
	"dhow/internal/process"
)

// killable is a gate in a process of its own, which can be killed.
type killable struct {
	*gate.Client
	cfg gate.Config
	cmd *exec.Cmd
	log *strings.Builder
	url string
}

// newProcess starts a gate on a port of its own, which it keeps over restarts.
func newProcess(t *testing.T, source, target string) *killable {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes, which testing.Short() leaves out")
	}
	p := &killable{cfg: config(t, source, target)}
	port, err := process.ReservePort()
	must(t, err)
	t.Cleanup(port.Release)
	p.cfg.Listen = port.On("127.0.0.1")
	p.url = "http://" + p.cfg.Listen
	p.Client = gate.Dial(p.cfg.Control, "")
	p.start(t)
	return p
}

func (p *killable) start(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(p.cfg)
	must(t, err)
	path := filepath.Join(filepath.Dir(p.cfg.State), "config.json")
	must(t, os.WriteFile(path, text, 0o600))
	p.cmd, p.log = exec.Command(os.Args[0]), &strings.Builder{}
	p.cmd.Env = append(os.Environ(), childConfig+"="+path)
	p.cmd.Stderr = p.log
	must(t, p.cmd.Start())
	t.Cleanup(func() { p.kill() })
	await(t, "the gate's answer", func() bool {
		_, err := p.Status(t.Context())
		return err == nil
	})
}

// kill is what no process can resist.
func (p *killable) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func TestServedSideSurvivesAKill(t *testing.T) {
	source, target := newApplication(t, estate.Source, nil), newApplication(t, estate.Target, nil)
	p := newProcess(t, source.url, target.url)
	c := newClient(t)
	want(t, get(t, c, p.url), estate.Source)
	must(t, p.SwitchAndRelease(t.Context(), estate.Target))
	for range 3 {
		p.kill()
		p.start(t)
		want(t, get(t, newClient(t), p.url), estate.Target)
	}
	// A hold does not survive: the side that was served before serves.
	must(t, p.Hold(t.Context()))
	p.kill()
	p.start(t)
	want(t, get(t, newClient(t), p.url), estate.Target)
	// Killed at whatever instant of a switch, it serves the old side or the new one, and
	// after a switch that was confirmed the new one.
	sides := []estate.Side{estate.Source, estate.Target}
	for i := range 6 {
		to := sides[i%2]
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		go func() { done <- p.SwitchAndRelease(ctx, to) }()
		time.Sleep(time.Duration(i) * 300 * time.Microsecond) // a moment of the switch, or one before or behind it
		p.kill()
		err := <-done
		cancel()
		p.start(t)
		s, statusErr := p.Status(t.Context())
		must(t, statusErr)
		if err == nil && s.Side != to {
			t.Errorf("the switch to %s was confirmed, and %q is served after the kill", to, s.Side)
		}
		want(t, get(t, newClient(t), p.url), s.Side)
		must(t, p.SwitchAndRelease(t.Context(), to))
	}
}

func TestTerminatedGateEndsWhatIsInFlight(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	source := newApplication(t, estate.Source, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-goOn })
	p := newProcess(t, source.url, source.url)
	ch := later(t, newClient(t), request(t, http.MethodGet, p.url, nil))
	<-arrived
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	await(t, "the end of listening", func() bool {
		conn, err := net.Dial("tcp", p.cfg.Listen)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	close(goOn)
	want(t, <-ch, estate.Source)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the gate ended with %v:\n%s", err, p.log)
	}
}

func TestDamagedStateIsNotGuessed(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":1}`, `{"version":2,"side":"source"}`, `{"version":1,"side":"north"}`, `{"version":1,"side":"source","routes":{"a":"x"}}`,
		`{"version":1,"side":"source"} more`, strings.Repeat(" ", 2<<20)} {
		cfg := config(t, "http://127.0.0.1:1", "http://127.0.0.1:1")
		must(t, os.WriteFile(cfg.State, []byte(text), 0o600))
		failing(t, cfg, "can not be understood")
	}
}

// What can not be made durable is not done.
func TestSwitchThatIsNotDurableIsNone(t *testing.T) {
	l := newLab(t, nil, nil)
	dir := filepath.Dir(l.cfg.State)
	aside := dir + ".aside"
	must(t, os.Rename(dir, aside))
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink(filepath.Join(aside, "gate.sock"), l.cfg.Control)) // the command still arrives
	must(t, os.Mkdir(l.cfg.State, 0o700))                                 // and the file can not take its place
	t.Cleanup(func() { _ = os.RemoveAll(aside) })
	must(t, os.WriteFile(filepath.Join(l.cfg.State, "x"), nil, 0o600))
	must(t, l.Hold(t.Context()))
	err := l.SwitchAndRelease(t.Context(), estate.Target)
	if err == nil || !strings.Contains(err.Error(), "nothing was switched") {
		t.Fatalf("the switch: %v", err)
	}
	if s := l.gate.Status(); s.Side != estate.Source || s.Routes[0].State != gate.StateHolding {
		t.Errorf("behind the failed switch: %+v", s)
	}
	must(t, l.Release(t.Context()))
	want(t, get(t, newClient(t), l.url), estate.Source)
	if left, _ := filepath.Glob(filepath.Join(dir, "gate.json.*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestStop(t *testing.T) {
	arrived, goOn := make(chan struct{}, 1), make(chan struct{})
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket" {
			echoSocket(w, r)
			return
		}
		arrived <- struct{}{}
		<-goOn
	}, nil)
	socket := dialSocket(t, l.url+"/socket")
	say(t, socket, "a")
	slow := later(t, newClient(t), request(t, http.MethodGet, l.url, nil))
	<-arrived
	must(t, l.Hold(t.Context()))
	held := later(t, newClient(t), request(t, http.MethodPost, l.url, strings.NewReader("order")))
	l.awaitHeld(t, 1)
	stopped := make(chan error, 1)
	go func() { stopped <- l.stop() }()
	if a := <-held; a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"stopping"`) || a.header.Get("Retry-After") == "" {
		t.Errorf("what was held got status %d, error %v: %s", a.status, a.err, a.body)
	}
	if err := l.Hold(t.Context()); !errors.Is(err, gate.ErrStopping) {
		t.Errorf("a hold at the stop: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := socket.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the socket lives on: %v", err)
	}
	close(goOn)
	want(t, <-slow, estate.Source)
	must(t, <-stopped)
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	app := newApplication(t, estate.Source, func(_ http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-r.Context().Done(); close(goOn) })
	cfg := config(t, app.url, app.url)
	cfg.StopTime = 50 * time.Millisecond
	g, err := gate.New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx) }()
	<-g.Ready()
	ch := later(t, newClient(t), request(t, http.MethodGet, "http://"+g.Addrs().Data, nil))
	<-arrived
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), fmt.Sprintf("with 1 requests in flight that did not end within %s", cfg.StopTime)) {
		t.Errorf("the stop: %v", err)
	}
	if a := <-ch; a.err == nil {
		t.Errorf("it was answered: %+v", a)
	}
	<-goOn
}
