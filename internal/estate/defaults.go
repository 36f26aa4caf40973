package estate

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// What holds where the file says nothing.
const (
	// DefaultState is the folder of the journal, the lock, the socket and the reports.
	DefaultState = ".dhow"
	// DefaultControl is the gate's socket, in the state's folder.
	DefaultControl = "gate.sock"
	// DefaultPort is PostgreSQL's, DefaultMariaDBPort and DefaultRedisPort the others'.
	DefaultPort        = 5432
	DefaultMariaDBPort = 3306
	DefaultRedisPort   = 6379
	// DefaultPath routes all of a host's requests.
	DefaultPath = "/"

	// DefaultHoldRequests bounds the requests that the gate keeps back, in number:
	// ten seconds of a thousand requests a second, a few KiB of memory each.
	DefaultHoldRequests = 10_000
	// DefaultHoldBytes bounds the bodies that the gate reads ahead, in bytes.
	DefaultHoldBytes Size = 64 << 20
	// DefaultHoldTime is after how long a hold ends by itself: long over any
	// stall budget, short of the time after which clients give up.
	DefaultHoldTime = 5 * time.Second

	// DefaultCopies are the parallel COPY streams: as many as keep two small servers busy.
	DefaultCopies = 4
	// DefaultLanes are the parallel lanes of the change stream.
	DefaultLanes = 4
	// DefaultChunk is the size of a piece of a large table, in bytes: large enough
	// to stream well, small enough that a crash repeats little.
	DefaultChunk Size = 64 << 20
	// DefaultWALWarn and DefaultWALStop bound the log, in bytes, that a slot makes
	// the source keep: a source whose disk fills up is an outage.
	DefaultWALWarn Size = 4 << 30
	DefaultWALStop Size = 16 << 30

	// DefaultStallBudget is how long requests may be held: below what a user notices.
	DefaultStallBudget = 300 * time.Millisecond
)

// The TLS modes, as libpq names them.
const (
	TLSDisable    = "disable"     // in the clear
	TLSRequire    = "require"     // encrypted, but to whoever answers
	TLSVerifyCA   = "verify-ca"   // the certificate's chain is checked
	TLSVerifyFull = "verify-full" // and its name
)

var tlsModes = []string{TLSVerifyFull, TLSVerifyCA, TLSRequire, TLSDisable}

// What to do with transactions that hold writes open under the fence.
const (
	StragglersAbort     = "abort"
	StragglersTerminate = "terminate"
)

var stragglers = []string{StragglersAbort, StragglersTerminate}

var engines = []string{string(PostgreSQL), string(MariaDB), string(Redis)}

// DefaultPort is where an engine's servers listen when nobody says otherwise.
func (e Engine) DefaultPort() int {
	switch e {
	case MariaDB:
		return DefaultMariaDBPort
	case Redis:
		return DefaultRedisPort
	}
	return DefaultPort
}

// fill sets what the file leaves out, and makes paths absolute. A value that
// the file gives is left as it is, also where it is wrong.
func (e *Estate) fill(r *reading) {
	orDefault(r, "state", &e.State, DefaultState)
	e.State = r.absolute(e.State)
	e.Limits.fill(r, "limits", Limits{Copies: DefaultCopies, Lanes: DefaultLanes, Chunk: DefaultChunk, WALWarn: DefaultWALWarn, WALStop: DefaultWALStop})
	for i := range e.Databases {
		d, path := &e.Databases[i], fmt.Sprintf("databases[%d]", i)
		orDefault(r, path+".engine", &d.Engine, PostgreSQL)
		d.Limits.fill(r, path+".limits", d.Engine.limits(e.Limits))
		d.Source.fill(r, path+".source", d.Engine)
		d.Target.fill(r, path+".target", d.Engine)
		if d.Replication != nil {
			d.Replication.Password.File = r.absolute(d.Replication.Password.File)
		}
	}
	if e.Gate != nil {
		e.Gate.fill(r, e.State)
	}
	if e.Landing != nil {
		e.Landing.fill(r, e.Name)
	}
	orDefault(r, "cutover.stall_budget", &e.Cutover.StallBudget, DefaultStallBudget)
	orDefault(r, "cutover.stragglers", &e.Cutover.Stragglers, StragglersAbort)
	if e.Cutover.Verify == nil {
		e.Cutover.Verify = new(true)
	}
	if e.Cutover.Proof == nil {
		e.Cutover.Proof = new(true)
	}
}

// limits are those of the estate's that an engine has a use for.
func (e Engine) limits(l Limits) Limits {
	switch e {
	case MariaDB:
		return Limits{Copies: l.Copies, Chunk: l.Chunk, RowsPerSecond: l.RowsPerSecond, Connections: l.Connections}
	case Redis:
		return Limits{RowsPerSecond: l.RowsPerSecond, Connections: l.Connections}
	}
	return l
}

func (l *Limits) fill(r *reading, path string, from Limits) {
	orDefault(r, path+".copies", &l.Copies, from.Copies)
	orDefault(r, path+".lanes", &l.Lanes, from.Lanes)
	orDefault(r, path+".chunk", &l.Chunk, from.Chunk)
	orDefault(r, path+".rows_per_second", &l.RowsPerSecond, from.RowsPerSecond)
	orDefault(r, path+".connections", &l.Connections, from.Connections)
	orDefault(r, path+".wal_warn", &l.WALWarn, from.WALWarn)
	orDefault(r, path+".wal_stop", &l.WALStop, from.WALStop)
}

func (e *Endpoint) fill(r *reading, path string, engine Engine) {
	orDefault(r, path+".port", &e.Port, engine.DefaultPort())
	orDefault(r, path+".tls.mode", &e.TLS.Mode, e.tlsMode())
	e.TLS.CA = r.absolute(e.TLS.CA)
	e.Password.File = r.absolute(e.Password.File)
	if e.TLS.origin == (origin{}) {
		e.TLS.origin = origin{file: r.file, line: r.at[path].line, path: path + ".tls"}
	}
}

func (g *Gate) fill(r *reading, state string) {
	switch {
	case g.Control == "" && !r.given("gate.control"):
		g.Control = filepath.Join(state, DefaultControl)
	case !isAddress(g.Control):
		g.Control = r.absolute(g.Control)
	}
	g.Token.File = r.absolute(g.Token.File)
	orDefault(r, "gate.hold.requests", &g.Hold.Requests, DefaultHoldRequests)
	orDefault(r, "gate.hold.bytes", &g.Hold.Bytes, DefaultHoldBytes)
	orDefault(r, "gate.hold.time", &g.Hold.Time, DefaultHoldTime)
	for i := range g.Routes {
		route := &g.Routes[i]
		orDefault(r, fmt.Sprintf("gate.routes[%d].path", i), &route.Path, DefaultPath)
		if trimmed := strings.TrimRight(route.Path, "/"); trimmed != "" {
			route.Path = trimmed // a prefix ends at a segment in either form
		}
		route.Host = strings.ToLower(route.Host)
	}
}

// orDefault sets a value that the file does not give.
func orDefault[T comparable](r *reading, path string, value *T, otherwise T) {
	var zero T
	if *value == zero && !r.given(path) {
		*value = otherwise
	}
}

// absolute is a path of the file, relative to its folder, as an absolute one.
func (r *reading) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}

// tlsMode is the mode of an endpoint that names none: verified, but in the clear
// where nobody else can listen. Who names a CA wants it checked, there too.
func (e *Endpoint) tlsMode() string {
	if e.TLS.Mode == "" && e.TLS.CA == "" && (e.isSocket() || isLoopback(e.Host)) {
		return TLSDisable
	}
	if e.TLS.Mode == "" {
		return TLSVerifyFull
	}
	return e.TLS.Mode
}

// isSocket says whether the host is the folder of a Unix socket.
func (e *Endpoint) isSocket() bool { return strings.HasPrefix(e.Host, "/") }

// isLoopback says whether a host names this machine to itself alone. A name
// other than localhost is none, whatever it resolves to.
func isLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isAddress says whether a control value is an address rather than a path.
func isAddress(control string) bool {
	if strings.ContainsRune(control, '/') {
		return false
	}
	_, _, err := net.SplitHostPort(control)
	return err == nil
}
