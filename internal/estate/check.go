package estate

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Bounds of what an estate may say.
const (
	// maxName bounds a name, in bytes: slots and publications are named after the
	// estate and the database, and have 63.
	maxName = 40
	// maxDatabases bounds the databases that are cut over as one: each takes
	// sessions and a share of one stall budget.
	maxDatabases = 64
	// maxParallel bounds copies and lanes; each is a session on both servers.
	maxParallel = 256
	// minConnections are what a database's move needs at each end at least: the
	// exported snapshot, the change stream, two copies, three lanes, the state and the fence.
	minConnections = 10
	// maxPort is the largest port there is.
	maxPort = 65535
	// minChunk is a page of a table, the smallest piece there is.
	minChunk Size = 8 << 10
)

var (
	namePattern = regexp.MustCompile(nameForm)
	envPattern  = regexp.MustCompile(envForm)
)

// check notes all that is wrong with an estate whose defaults are filled in.
func (e *Estate) check(r *reading) {
	r.name("name", e.Name, "how this move is called, for example bank-to-aws")
	if len(e.Databases) == 0 && r.sound("databases") && (e.Landing == nil || r.given("databases")) {
		r.wrong("databases", "there is no database: name at least one, with its source and target")
	}
	if n := len(e.Databases); n > maxDatabases {
		r.wrong("databases", "%d databases are more than %d, which one cutover can not hold in its stall budget: split them over several estates", n, maxDatabases)
	} else {
		e.checkDatabases(r)
	}
	e.Limits.check(r, "limits")
	if e.Gate != nil {
		e.Gate.check(r)
	}
	e.checkCutover(r)
	if e.Landing != nil {
		e.Landing.check(r)
	}
}

func (e *Estate) checkDatabases(r *reading) {
	names := map[string]string{}
	for i := range e.Databases {
		path := fmt.Sprintf("databases[%d]", i)
		e.Databases[i].check(r, path)
		r.unique(names, path+".name", e.Databases[i].Name)
	}
	e.checkOverlap(r)
}

// name checks a name of the estate's own.
func (r *reading) name(path, name, what string) {
	switch {
	case !r.required(path, name, what):
	case !namePattern.MatchString(name):
		r.wrong(path, "%q is not a name here: want small letters, digits, - and _, beginning with a letter", name)
	case len(name) > maxName:
		r.wrong(path, "is %d letters long: want at most %d", len(name), maxName)
	}
}

// required notes a value that is missing; it says whether there is one to check.
func (r *reading) required(path, value, what string) bool {
	if !r.sound(path) {
		return false
	}
	if value == "" {
		key := path[strings.LastIndex(path, ".")+1:]
		r.wrong(path, "is missing: add %s, %s", key, what)
		return false
	}
	return true
}

// unique notes a name that another path has already.
func (r *reading) unique(seen map[string]string, path, value string) {
	if value == "" || !r.sound(path) {
		return
	}
	if first, twice := seen[value]; twice {
		r.wrong(path, "%q is the name of %s too (line %d): give each its own", value, parent(first), r.at[first].line)
		return
	}
	seen[value] = path
}

// choice notes a value that is none of those known.
func (r *reading) choice(path, value string, known []string) {
	if r.sound(path) && !slices.Contains(known, value) {
		r.wrong(path, "%q is unknown: %s", value, oneOf(value, known))
	}
}

func (d *Database) check(r *reading, path string) {
	r.name(path+".name", d.Name, "how this database is called in the move")
	r.choice(path+".engine", string(d.Engine), engines)
	for _, end := range []struct {
		side string
		at   *Endpoint
	}{{"source", &d.Source}, {"target", &d.Target}} {
		below := path + "." + end.side
		if !r.given(below) {
			if r.sound(below) {
				r.wrong(below, "is missing: add %s, with %s", end.side, endpointKeys(d.Engine))
			}
			continue
		}
		end.at.check(r, below, d.Engine)
	}
	d.checkEngine(r, path)
	for i, s := range d.Schemas {
		at := fmt.Sprintf("%s.schemas[%d]", path, i)
		switch {
		case !r.sound(at):
		case d.Engine.ownSchema(s):
			r.wrong(at, "%q is the system's own or dhow's: remove it, for it never moves", s)
		case slices.Index(d.Schemas, s) < i:
			r.wrong(at, "%q stands in the list already: remove it", s)
		}
	}
	for i, t := range d.Exclude {
		at := fmt.Sprintf("%s.exclude[%d]", path, i)
		schema, table, ok := strings.Cut(t, ".")
		switch {
		case !r.sound(at):
		case !ok || schema == "" || table == "":
			r.wrong(at, "%q is not a table: want schema.table, for example public.sessions", t)
		case slices.Index(d.Exclude, t) < i:
			r.wrong(at, "%q stands in the list already: remove it", t)
		case len(d.Schemas) > 0 && !slices.Contains(d.Schemas, schema):
			r.wrong(at, "schema %q does not move, so there is nothing to exclude: %s", schema, oneOf(schema, d.Schemas))
		}
	}
	d.Limits.check(r, path+".limits")
}

func (e *Endpoint) check(r *reading, path string, engine Engine) {
	if r.required(path+".host", e.Host, "the server's name or address, for example db.example.com") {
		if fault := hostFault(e.Host); fault != "" {
			r.wrong(path+".host", "%s", fault)
		}
	}
	e.checkEngine(r, path, engine)
	if r.sound(path+".port") && (e.Port < 1 || e.Port > maxPort) {
		r.wrong(path+".port", "%d is no port: want 1 to %d (%d is the default)", e.Port, maxPort, engine.DefaultPort())
	}
	e.Password.check(r, path+".password")
	mode := path + ".tls.mode"
	r.choice(mode, e.TLS.Mode, tlsModes)
	if !r.sound(mode) {
		return
	}
	if e.isSocket() && e.TLS.Mode != TLSDisable {
		r.wrong(mode, "a Unix socket takes no TLS: remove tls")
	}
	if e.TLS.CA != "" && r.sound(path+".tls.ca") && (e.TLS.Mode == TLSDisable || e.TLS.Mode == TLSRequire) {
		r.wrong(path+".tls.ca", "mode %s checks no certificate, so the CA would do nothing: set mode to %s or %s", e.TLS.Mode, TLSVerifyFull, TLSVerifyCA)
	}
}

// hostFault says why a text is not a host; empty when it is one. It quotes
// nothing that may hold a password.
func hostFault(host string) string {
	switch {
	case strings.HasPrefix(host, "/"):
		return ""
	case strings.ContainsAny(host, "/@?="):
		return "is not a host: give the server's name alone, with the port, the database, the user and the password each in a key of its own"
	case strings.Contains(host, ","):
		return fmt.Sprintf("%q names several hosts: name the one that takes writes", host)
	case strings.ContainsFunc(host, unicode.IsSpace):
		return fmt.Sprintf("%q has a space in it: give a name or an address", host)
	case net.ParseIP(strings.Trim(host, "[]")) != nil && strings.HasPrefix(host, "["):
		return fmt.Sprintf("%q: write the address without brackets", host)
	case strings.Contains(host, ":") && net.ParseIP(zoneless(host)) == nil:
		return fmt.Sprintf("%q has a port in it: write it under port", host)
	}
	return ""
}

// zoneless is an IPv6 address without its zone.
func zoneless(host string) string {
	address, _, _ := strings.Cut(host, "%")
	return address
}

func (s *Secret) check(r *reading, path string) {
	if !r.given(path) || !r.sound(path) {
		return
	}
	ways := 0
	for _, w := range []string{s.Env, s.File, s.ARN} {
		if w != "" {
			ways++
		}
	}
	below := func(key string) bool { return r.sound(path + "." + key) }
	switch {
	case !below("env") || !below("file") || !below("arn") || !below("field"):
	case ways == 0:
		r.wrong(path, "says nothing of where the secret is kept: give one of %s", placesToKeep)
	case ways > 1:
		r.wrong(path, "names more than one place: keep one of env, file and arn")
	case s.Env != "" && !envPattern.MatchString(s.Env):
		// The value may be the secret itself, so it is not shown.
		r.wrong(path+".env", "is not the name of an environment variable: want letters, digits and _, and not the secret itself")
	case s.ARN != "" && arnFault(s.ARN) != "":
		r.wrong(path+".arn", "%s", arnFault(s.ARN))
	case s.Field != "" && s.ARN == "":
		r.wrong(path+".field", "belongs to arn alone: remove it")
	}
}

// arnFault says why a text is not the ARN of a secret; empty when it is one.
func arnFault(text string) string {
	const want = "want arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, as the console shows it"
	a, err := arn.Parse(text)
	switch {
	case err != nil:
		return "is not an ARN: " + want
	case a.Service != "secretsmanager" || !strings.HasPrefix(a.Resource, "secret:") || a.Resource == "secret:":
		return "is not the ARN of a secret of Secrets Manager: " + want
	case a.Region == "" || a.AccountID == "":
		return "names no region or no account: " + want
	}
	return ""
}

func (l *Limits) check(r *reading, path string) {
	r.between(path+".copies", int64(l.Copies), 1, maxParallel)
	r.between(path+".lanes", int64(l.Lanes), 1, maxParallel)
	r.atLeast(path+".rows_per_second", int64(l.RowsPerSecond), 1, "1")
	r.atLeast(path+".connections", int64(l.Connections), minConnections, fmt.Sprintf("%d, which the snapshot, the change stream, two copies, three lanes, the state and the fence need", minConnections))
	r.atLeast(path+".chunk", int64(l.Chunk), int64(minChunk), minChunk.String())
	r.atLeast(path+".wal_warn", int64(l.WALWarn), 1, "1")
	r.atLeast(path+".wal_stop", int64(l.WALStop), 1, "1")
	warn, stop := path+".wal_warn", path+".wal_stop"
	if !r.sound(warn) || !r.sound(stop) || !r.given(warn) && !r.given(stop) || l.WALWarn < l.WALStop {
		return
	}
	at := stop
	if !r.given(stop) {
		at = warn
	}
	r.wrong(at, "wal_warn (%s) has to be less than wal_stop (%s), so that there is time between the warning and the stop: set both", l.WALWarn, l.WALStop)
}

// atLeast notes a given value that is below the least.
func (r *reading) atLeast(path string, value, least int64, text string) {
	if r.given(path) && r.sound(path) && value < least {
		r.wrong(path, "is too small: want at least %s, or remove the key for the default", text)
	}
}

// between notes a given value outside its range.
func (r *reading) between(path string, value, least, most int64) {
	if r.given(path) && r.sound(path) && (value < least || value > most) {
		r.wrong(path, "%d is out of range: want %d to %d, or remove the key for the default", value, least, most)
	}
}

func (e *Estate) checkCutover(r *reading) {
	const budget = "cutover.stall_budget"
	r.choice("cutover.stragglers", e.Cutover.Stragglers, stragglers)
	if !r.sound(budget) {
		return
	}
	if e.Cutover.StallBudget <= 0 {
		r.wrong(budget, "leaves no time to hold requests: want more than 0, for example %s", DefaultStallBudget)
		return
	}
	if e.Gate == nil || !r.sound("gate.hold.time") || e.Cutover.StallBudget <= e.Gate.Hold.Time {
		return
	}
	at := budget
	if !r.given(budget) {
		at = "gate.hold.time"
	}
	r.wrong(at, "the stall budget (%s) is longer than the gate holds requests (gate.hold.time, %s): lower the one or raise the other", e.Cutover.StallBudget, e.Gate.Hold.Time)
}
