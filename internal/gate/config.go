package gate

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"dhow/internal/estate"
)

// stateFile holds the served side, in the estate's state folder.
const stateFile = "gate.json"

// FromEstate is the configuration of an estate's gate. token is the secret that
// the estate's gate.token names; a Unix socket needs none.
func FromEstate(e *estate.Estate, token string, log *slog.Logger) (Config, error) {
	if e.Gate == nil {
		return Config{}, fmt.Errorf("%s has no gate: add the key gate, with listen and routes", e.File)
	}
	return Config{Listen: e.Gate.Listen, Control: e.Gate.Control, Metrics: e.Gate.Metrics, Token: token,
		Routes: e.Gate.Routes, Hold: e.Gate.Hold, State: filepath.Join(e.State, stateFile), Log: log}, nil
}

// fill sets the defaults and refuses what no gate can run with. The estate has
// checked its file with the line of each fault; this is for who builds a Config.
func (c *Config) fill() error {
	if c.Hold.Requests == 0 {
		c.Hold.Requests = estate.DefaultHoldRequests
	}
	if c.Hold.Bytes == 0 {
		c.Hold.Bytes = estate.DefaultHoldBytes
	}
	if c.Hold.Time == 0 {
		c.Hold.Time = estate.DefaultHoldTime
	}
	if c.AnswerTime == 0 {
		c.AnswerTime = DefaultAnswerTime
	}
	if c.StopTime == 0 {
		c.StopTime = DefaultStopTime
	}
	switch {
	case c.Hold.Requests < 0 || c.Hold.Bytes < 0 || c.Hold.Time < 0 || c.AnswerTime < 0 || c.StopTime < 0:
		return errors.New("the gate's bounds and times have to be above zero")
	case c.Listen == "":
		return errors.New("the gate needs an address to listen on: set gate.listen")
	case c.Control == "":
		return errors.New("the gate needs a control address: set gate.control")
	case c.State == "":
		return errors.New("the gate needs a file for the side that it serves")
	case len(c.Routes) == 0:
		return errors.New("the gate has no route: add one under gate.routes")
	}
	if err := checkControl(c.Control, c.Token); err != nil {
		return err
	}
	names, places := map[string]bool{}, map[string]string{}
	for _, r := range c.Routes {
		if r.Name == "" || names[r.Name] {
			return fmt.Errorf("route %q: every route needs a name of its own", r.Name)
		}
		names[r.Name] = true
		if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
			return fmt.Errorf("route %s: the path %q has to begin with a slash", r.Name, r.Path)
		}
		place := bareHost(r.Host) + strings.TrimRight(r.Path, "/")
		if other, taken := places[place]; taken {
			return fmt.Errorf("route %s: route %s has the same host and path", r.Name, other)
		}
		places[place] = r.Name
	}
	return nil
}

// checkControl refuses a control address that others than this machine's users
// can reach, or that any of them can use.
func checkControl(control, token string) error {
	if isSocket(control) {
		return checkSocketPath(control)
	}
	host, _, err := net.SplitHostPort(control)
	if err != nil {
		return fmt.Errorf("the control address %q: %w", control, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("the control address %s can be reached from other machines: use 127.0.0.1 or a Unix socket's path", control)
	}
	if token == "" {
		return fmt.Errorf("the control address %s is open to every user of this machine, so it needs a token: set gate.token", control)
	}
	return nil
}

// isSocket says whether a control address is a Unix socket's path.
func isSocket(control string) bool {
	if strings.ContainsRune(control, '/') {
		return true
	}
	_, _, err := net.SplitHostPort(control)
	return err != nil
}
