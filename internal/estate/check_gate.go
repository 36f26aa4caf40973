package estate

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSocketPath bounds a Unix socket's path, in bytes: what sockaddr_un holds
	// on Linux, less the closing zero byte.
	maxSocketPath = 107
	// maxHoldTime bounds a hold: beyond it every client has given up.
	maxHoldTime = time.Minute
)

// hostPattern is a name or an address as a Host header gives it, without the port.
var hostPattern = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$`)

func (g *Gate) check(r *reading) {
	listeners := map[string]string{}
	if r.required("gate.listen", g.Listen, `the address that clients are served on, for example ":8080"`) {
		r.listener(listeners, "gate.listen", g.Listen, 0)
	}
	if g.Metrics != "" {
		r.listener(listeners, "gate.metrics", g.Metrics, 0)
	}
	g.Token.check(r, "gate.token")
	g.checkControl(r, listeners)
	r.atLeast("gate.hold.requests", int64(g.Hold.Requests), 1, "1")
	r.atLeast("gate.hold.bytes", int64(g.Hold.Bytes), 1, "1")
	if r.sound("gate.hold.time") && (g.Hold.Time <= 0 || g.Hold.Time > maxHoldTime) {
		r.wrong("gate.hold.time", "%s is out of range: want more than 0 and at most %s", g.Hold.Time, maxHoldTime)
	}
	if len(g.Routes) == 0 && r.sound("gate.routes") {
		r.wrong("gate.routes", "there is no route: add one for each service, with name, source and target")
	}
	names, places := map[string]string{}, map[string]string{}
	for i := range g.Routes {
		path := fmt.Sprintf("gate.routes[%d]", i)
		route := &g.Routes[i]
		route.check(r, path)
		r.unique(names, path+".name", route.Name)
		if !r.sound(path+".host") || !r.sound(path+".path") {
			continue
		}
		place := route.Host + route.Path
		if first, twice := places[place]; twice {
			r.wrong(path, "has the same host and path as %s (line %d), so no request would ever take it: change one", first, r.at[first].line)
			continue
		}
		places[place] = path
	}
}

// listener checks an address to listen on, with a port from the least on (0
// lets the system choose), and that nothing else listens there.
func (r *reading) listener(seen map[string]string, path, address string, least int) {
	if !r.sound(path) {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		hint := `want host:port, for example 127.0.0.1:8080 or ":8080" for every address of this machine`
		if _, err := strconv.ParseUint(address, 10, 16); err == nil {
			hint = fmt.Sprintf(`did you mean ":%s"? (%s)`, address, hint)
		}
		r.wrong(path, "%q is no address to listen on: %s", address, hint)
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || int(n) < least {
		r.wrong(path, "%q has no valid port: want %d to 65535", address, least)
		return
	}
	if host != "" && net.ParseIP(zoneless(host)) == nil && !hostPattern.MatchString(strings.ToLower(host)) {
		r.wrong(path, "%q has no valid host: want an address of this machine, or none for all of them", address)
		return
	}
	if n == 0 {
		return
	}
	for other, first := range seen {
		otherHost, otherPort, _ := net.SplitHostPort(other)
		if otherPort == port && (otherHost == host || anyAddress(otherHost) || anyAddress(host)) {
			r.wrong(path, "%q is taken by %s (line %d): choose another port", address, first, r.at[first].line)
			return
		}
	}
	seen[address] = path
}

// anyAddress says whether a listener's host means every address of the machine.
func anyAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func (g *Gate) checkControl(r *reading, listeners map[string]string) {
	const path = "gate.control"
	if !r.sound(path) {
		return
	}
	if !isAddress(g.Control) {
		if n := len(g.Control); n > maxSocketPath {
			r.wrong(path, "the socket's path, %s, is %d bytes long and a Unix socket takes %d: set gate.control to a shorter one, for example /run/dhow/gate.sock", g.Control, n, maxSocketPath)
		}
		return
	}
	r.listener(listeners, path, g.Control, 1)
	host, _, _ := net.SplitHostPort(g.Control)
	if !r.sound(path) {
		return
	}
	if !isLoopback(host) {
		r.wrong(path, "%q can be reached from other machines, and who reaches it moves the traffic: use 127.0.0.1 or the path of a Unix socket", g.Control)
		return
	}
	if g.Token.IsZero() && r.sound("gate.token") && !r.given("gate.token") {
		r.wrong("gate.token", "is missing: every user of this machine can reach %s, so add a token, as %s", g.Control, placesToKeep)
	}
}

func (t *Route) check(r *reading, path string) {
	r.name(path+".name", t.Name, "how this route is called")
	if at := path + ".host"; t.Host != "" && r.sound(at) && !hostPattern.MatchString(t.Host) && net.ParseIP(t.Host) == nil {
		r.wrong(at, "%q is not a host: want a name such as api.example.com, without scheme, port or path", t.Host)
	}
	if at := path + ".path"; r.sound(at) {
		switch {
		case !strings.HasPrefix(t.Path, "/"):
			r.wrong(at, "%q does not begin with a slash: did you mean /%s?", t.Path, t.Path)
		case strings.ContainsAny(t.Path, "?#*% "):
			r.wrong(at, "%q is not a plain path: want a prefix such as /accounts, without a pattern, a query or an escape", t.Path)
		case strings.Contains(t.Path, "//") || strings.Contains(t.Path+"/", "/./") || strings.Contains(t.Path+"/", "/../"):
			r.wrong(at, "%q is not a clean path: want no empty segment, no . and no ..", t.Path)
		}
	}
	for _, upstream := range []struct{ key, url string }{{"source", t.Source}, {"target", t.Target}} {
		at := path + "." + upstream.key
		if !r.required(at, upstream.url, "the URL of the service on that side, for example http://127.0.0.1:9001") {
			continue
		}
		if fault := upstreamFault(upstream.url, t.H2C); fault != "" {
			r.wrong(at, "%s", fault)
		}
	}
}

// upstreamFault says why a text is not the URL of an upstream; empty when it is
// one. It quotes nothing, for a URL can hold a password.
func upstreamFault(text string, h2c bool) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "is not the URL of an upstream: want http:// or https:// and a host, for example http://127.0.0.1:9001"
	case u.User != nil:
		return "holds a user or a password: remove them, for the gate passes on what the client sends"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "has a query or a fragment: end it with the host, the port or a path"
	case h2c && u.Scheme == "https":
		return "h2c is HTTP/2 in the clear, but the URL is https: remove h2c, for https speaks HTTP/2 by itself"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has no valid port: want 1 to 65535"
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return "has a colon but no port: want 1 to 65535"
	}
	return ""
}
