package gate_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dhow/internal/estate"
	"dhow/internal/gate"
)

const token = "a-secret-of-the-estate"

func onPort(c *gate.Config) { c.Control, c.Token = "127.0.0.1:0", token }

func TestControlPortWantsItsToken(t *testing.T) {
	l := newLab(t, nil, onPort)
	must(t, l.Hold(t.Context()))
	must(t, l.Release(t.Context()))
	address := l.gate.Addrs().Control
	for _, wrong := range []string{"", "wrong", token + "x", token[:len(token)-1]} {
		c := gate.Dial(address, wrong)
		_, err := c.Status(t.Context())
		for _, err := range []error{err, c.Hold(t.Context()), c.SwitchAndRelease(t.Context(), estate.Target)} {
			if err == nil || !strings.Contains(err.Error(), "token is missing or wrong") || strings.Contains(err.Error(), token) {
				t.Errorf("with the token %q: %v", wrong, err)
			}
		}
	}
	for _, header := range []string{"Basic " + token, token, "bearer"} {
		r := request(t, http.MethodPost, "http://"+address+"/switch", strings.NewReader(`{"to":"target"}`))
		r.Header.Set("Authorization", header)
		if a := do(newClient(t), r); header != token && a.status != http.StatusUnauthorized {
			t.Errorf("%q: status %d", header, a.status)
		}
	}
	must(t, l.SwitchAndRelease(t.Context(), estate.Source))
	want(t, get(t, newClient(t), l.url), estate.Source)
}

func TestUnsafeConfigurationIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*gate.Config)
		want string
	}{
		"port without a token": {func(c *gate.Config) { c.Control = "127.0.0.1:0" }, "needs a token"},
		"port of all":          {func(c *gate.Config) { c.Control, c.Token = "0.0.0.0:0", token }, "can be reached from other machines"},
		"port of a name":       {func(c *gate.Config) { c.Control, c.Token = "example.org:80", token }, "can be reached from other machines"},
		"long socket":          {func(c *gate.Config) { c.Control = "/" + strings.Repeat("x", 200) }, "shorter"},
		"no address":           {func(c *gate.Config) { c.Listen = "" }, "gate.listen"},
		"no control":           {func(c *gate.Config) { c.Control = "" }, "gate.control"},
		"no state":             {func(c *gate.Config) { c.State = "" }, "file"},
		"no route":             {func(c *gate.Config) { c.Routes = nil }, "gate.routes"},
		"same name":            {func(c *gate.Config) { c.Routes = append(c.Routes, c.Routes[0]) }, "a name of its own"},
		"same place": {func(c *gate.Config) {
			r := c.Routes[0]
			r.Name, r.Path = "other", ""
			c.Routes = append(c.Routes, r)
		}, "the same host and path"},
		"odd path":         {func(c *gate.Config) { c.Routes[0].Path = "x" }, "slash"},
		"odd upstream":     {func(c *gate.Config) { c.Routes[0].Target = "ftp://a" }, "the target of route all"},
		"h2c over TLS":     {func(c *gate.Config) { c.Routes[0].Source, c.Routes[0].H2C = "https://a", true }, "in the clear"},
		"negative bound":   {func(c *gate.Config) { c.Hold.Requests = -1 }, "above zero"},
		"negative time":    {func(c *gate.Config) { c.StopTime = -time.Second }, "above zero"},
		"upstream nowhere": {func(c *gate.Config) { c.Routes[0].Source = "http://" }, "the source of route all"},
	} {
		cfg := config(t, "http://127.0.0.1:1", "http://127.0.0.1:2")
		tc.edit(&cfg)
		if _, err := gate.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestFromEstate(t *testing.T) {
	if _, err := gate.FromEstate(&estate.Estate{File: "dhow.yaml"}, "", nil); err == nil || !strings.Contains(err.Error(), "dhow.yaml") {
		t.Errorf("without a gate: %v", err)
	}
	e := &estate.Estate{State: "/state", Gate: &estate.Gate{Listen: "a:1", Control: "/c", Metrics: "b:2", Hold: estate.Hold{Requests: 7}}}
	cfg, err := gate.FromEstate(e, token, nil)
	must(t, err)
	if cfg.Listen != "a:1" || cfg.Control != "/c" || cfg.Metrics != "b:2" || cfg.Token != token || cfg.Hold.Requests != 7 || cfg.State != "/state/gate.json" {
		t.Errorf("%+v", cfg)
	}
}

// command sends what no client would.
func (l *lab) command(t *testing.T, path, body string) answer {
	t.Helper()
	r := request(t, http.MethodPost, "http://"+l.gate.Addrs().Control+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	return do(newClient(t), r)
}

func TestCommands(t *testing.T) {
	l := newLab(t, nil, onPort)
	for _, tc := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/hold", `{"route":"none"}`, http.StatusNotFound, `unknown route \"none\": the gate's routes are all`},
		{"/hold", `{`, http.StatusBadRequest, "JSON object"},
		{"/hold", `{} {}`, http.StatusBadRequest, "more follows"},
		{"/hold", `{"rout":"all"}`, http.StatusBadRequest, "rout"},
		{"/hold", strings.Repeat(" ", 5000), http.StatusBadRequest, "4096"},
		{"/switch", ``, http.StatusBadRequest, "needs"},
		{"/switch", `{"to":"nowhere"}`, http.StatusBadRequest, "source"},
		{"/drain", `{"within_ms":-1}`, http.StatusBadRequest, "within_ms"},
		{"/drain", ``, http.StatusConflict, "hold first"},
		{"/release", ``, http.StatusOK, `"changed":[]`},
		{"/hold", ` `, http.StatusOK, `"changed":["all"]`},
		{"/hold", `{"route":"all"}`, http.StatusOK, `"changed":[]`},
		{"/drain", `{"within_ms":1000}`, http.StatusOK, `"routes":["all"]`},
		{"/switch", `{"to":"target"}`, http.StatusOK, `"changed":["all"]`},
		{"/switch", `{"to":"target"}`, http.StatusOK, `"changed":[]`},
		{"/other", ``, http.StatusNotFound, "404"},
	} {
		if a := l.command(t, tc.path, tc.body); a.status != tc.status || !strings.Contains(a.body, tc.want) {
			t.Errorf("%s %.40s: status %d, error %v: %s; want %d and %q", tc.path, tc.body, a.status, a.err, a.body, tc.status, tc.want)
		}
	}
	if err := l.HoldRoute(t.Context(), "none"); !errors.Is(err, gate.ErrUnknownRoute) {
		t.Errorf("a client's unknown route: %v", err)
	}
	if a := get(t, newClient(t), "http://"+l.gate.Addrs().Control+"/hold"); a.status != http.StatusUnauthorized {
		t.Errorf("GET without a token: status %d", a.status)
	}
}

func TestSocketIsTheAccountsOwn(t *testing.T) {
	l := newLab(t, nil, nil)
	info, err := os.Stat(l.cfg.Control)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %s", info.Mode())
	}
	must(t, l.stop())
	if _, err := os.Lstat(l.cfg.Control); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a gate that was stopped left its socket: %v", err)
	}
	if err := l.Hold(t.Context()); !errors.Is(err, gate.ErrNoGate) || !strings.Contains(err.Error(), "dhow gate") {
		t.Errorf("a command to no gate: %v", err)
	}
}

// failing runs a gate that is expected not to start.
func failing(t *testing.T, cfg gate.Config, want string) {
	t.Helper()
	g, err := gate.New(cfg)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Serve(ctx); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it started, or failed otherwise: %v; want %q", err, want)
	}
}

func TestOneGateHasAStateAndASocket(t *testing.T) {
	l := newLab(t, nil, nil)
	failing(t, l.cfg, "another gate runs with the state")
	other := l.cfg
	other.State = filepath.Join(filepath.Dir(l.cfg.State), "other.json")
	failing(t, other, "another gate answers on")
	other.Control = filepath.Join(filepath.Dir(l.cfg.State), "plain")
	must(t, os.WriteFile(other.Control, nil, 0o600))
	failing(t, other, "is no socket")
	other.Control = filepath.Join(filepath.Dir(l.cfg.State), "other.sock")
	other.Listen = l.gate.Addrs().Data
	failing(t, other, "another process listens on")
	if err := l.Hold(t.Context()); err != nil {
		t.Errorf("the first gate is steered no more: %v", err)
	}
	// A socket that a dead gate left is in nobody's way.
	other.Listen = "127.0.0.1:0"
	dead, err := net.Listen("unix", other.Control)
	must(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, dead.Close())
	serve(t, other)
	must(t, gate.Dial(other.Control, "").Hold(t.Context()))
}

func TestClientTellsWhatAnswers(t *testing.T) {
	for body, want := range map[string]string{"hello": "is no gate", `{"code":"x","error":"y"}`: "hold: y"} {
		app := newApplication(t, estate.Source, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, body)
		})
		if err := gate.Dial(strings.TrimPrefix(app.url, "http://"), "").Hold(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	app := newApplication(t, estate.Source, nil)
	if _, err := gate.Dial(strings.TrimPrefix(app.url, "http://"), "").Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no gate of this version") {
		t.Errorf("an application for a gate: %v", err)
	}
	cut := newApplication(t, estate.Source, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if err := gate.Dial(strings.TrimPrefix(cut.url, "http://"), "").Hold(t.Context()); !errors.Is(err, gate.ErrNoGate) {
		t.Errorf("a gate that dies in the middle: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := gate.Dial(silent.Addr().String(), "").Hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a gate that says nothing: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	l := newLab(t, nil, func(c *gate.Config) { c.Metrics = "127.0.0.1:0" })
	c := newClient(t)
	for range 3 {
		want(t, get(t, c, l.url), estate.Source)
	}
	must(t, l.Hold(t.Context()))
	must(t, l.Drain(t.Context()))
	ch := later(t, c, request(t, http.MethodGet, l.url, nil))
	l.awaitHeld(t, 1)
	url := "http://" + l.gate.Addrs().Metrics
	page := get(t, c, url+"/metrics").body
	for _, line := range []string{`dhow_gate_held{route="all"} 1`, `dhow_gate_holding{route="all"} 1`, `dhow_gate_serving{route="all",side="source"} 1`, `dhow_gate_serving{route="all",side="target"} 0`} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("while it holds, no %s in\n%s", line, page)
		}
	}
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	want(t, <-ch, estate.Target)
	await(t, "four requests", func() bool { return l.gate.Status().Requests == 4 })
	page = get(t, c, url+"/metrics").body
	for _, line := range []string{
		`dhow_gate_requests_total{code="2xx",route="all",side="source"} 3`, `dhow_gate_requests_total{code="2xx",route="all",side="target"} 1`,
		`dhow_gate_switches_total{route="all",to="target"} 1`, `dhow_gate_held_seconds_count{route="all"} 1`, `dhow_gate_hold_duration_seconds_count{end="command",route="all"} 1`,
		`dhow_gate_drain_duration_seconds_count 1`, `dhow_gate_held{route="all"} 0`, `dhow_gate_serving{route="all",side="target"} 1`, `dhow_gate_in_flight{route="all"} 0`,
		`dhow_gate_request_duration_seconds_count{route="all",side="source"} 3`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no %s in\n%s", line, page)
		}
	}
	if a := get(t, c, url+"/healthz"); a.status != http.StatusOK {
		t.Errorf("/healthz: %d", a.status)
	}
	s := l.status(t)
	if s.Latency.Count != 4 || s.Latency.P50 <= 0 || s.Latency.Max < s.Latency.P50 || s.HeldMost != 1 || s.Routes[0].Latency.Count != 4 {
		t.Errorf("the status is %+v", s)
	}
}
