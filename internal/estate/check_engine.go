package estate

import (
	"fmt"
	"slices"
	"strings"
)

// endpointKeys are what an endpoint of an engine takes to connect.
func endpointKeys(e Engine) string {
	switch e {
	case MariaDB:
		return "host, user and password"
	case Redis:
		return "host and password"
	}
	return "host, database, user and password"
}

// ownSchema says whether a schema is the engine's own or ours, and never moves.
func (e Engine) ownSchema(name string) bool {
	if name == "information_schema" || name == "dhow" {
		return true
	}
	if e == MariaDB {
		return slices.Contains([]string{"mysql", "sys", "performance_schema"}, name)
	}
	return strings.HasPrefix(name, "pg_")
}

// others notes the keys of a mapping that an engine has no use for.
func (r *reading) others(path string, of Engine, keys ...string) {
	for _, key := range keys {
		if at := path + "." + key; r.given(at) && r.sound(at) {
			r.wrong(at, "is of %s alone: remove it", of)
		}
	}
}

// checkEngine checks what only some engines take.
func (d *Database) checkEngine(r *reading, path string) {
	if !r.sound(path + ".engine") {
		return
	}
	if d.Engine != PostgreSQL {
		r.others(path, PostgreSQL, "roles")
		r.others(path+".limits", PostgreSQL, "lanes", "wal_warn", "wal_stop")
	}
	if d.Engine != MariaDB {
		r.others(path, MariaDB, "replication")
	} else {
		d.Replication.check(r, path+".replication")
		d.checkReach(r, path)
	}
	if d.Engine == Redis {
		for _, key := range []string{"schemas", "exclude"} {
			if at := path + "." + key; r.given(at) && r.sound(at) {
				r.wrong(at, "is not of redis, where all of a server's keys move: remove it")
			}
		}
		for _, key := range []string{"copies", "chunk"} {
			if at := path + ".limits." + key; r.given(at) && r.sound(at) {
				r.wrong(at, "is not of redis, whose snapshot is one stream: remove it")
			}
		}
	}
}

// checkEngine checks what an endpoint of an engine needs, and what it has no use for.
func (e *Endpoint) checkEngine(r *reading, path string, engine Engine) {
	switch engine {
	case PostgreSQL:
		r.required(path+".database", e.Database, "the database's name on the server")
		r.required(path+".user", e.User, "the role to sign in as")
	case MariaDB:
		r.required(path+".user", e.User, "the user to sign in as")
		if at := path + ".database"; r.given(at) && r.sound(at) {
			r.wrong(at, "is not of mariadb, of which a whole server is an end: remove it, and name the databases that move under schemas")
		}
	case Redis:
		if at := path + ".database"; r.given(at) && r.sound(at) {
			r.wrong(at, "is not of redis, where all databases of a server move: remove it")
		}
		if at := path + ".host"; r.sound(at) && e.isSocket() {
			r.wrong(at, "a Unix socket is not taken for redis: give the server's name or address")
		}
	}
	if engine != Redis && slices.Contains(engines, string(engine)) {
		r.others(path, Redis, "cluster")
	}
}

func (p *Replication) check(r *reading, path string) {
	if p == nil || !r.sound(path) {
		return
	}
	p.Password.check(r, path+".password")
	if r.given(path+".password") && p.User == "" && r.sound(path+".user") && r.sound(path+".password") {
		r.wrong(path+".password", "is the password of nobody: add user, or remove it for each server's own user and password")
	}
	for _, end := range []struct {
		side string
		at   Reach
	}{{"source", p.Source}, {"target", p.Target}} {
		below := path + "." + end.side
		if at := below + ".host"; end.at.Host != "" && r.sound(at) {
			if strings.HasPrefix(end.at.Host, "/") {
				r.wrong(at, "a server is reached by another over the network alone: give its name or address")
			} else if fault := hostFault(end.at.Host); fault != "" {
				r.wrong(at, "%s", fault)
			}
		}
		r.between(below+".port", int64(end.at.Port), 1, maxPort)
		if at := below + ".ca"; end.at.CA != "" && r.sound(at) && !strings.HasPrefix(end.at.CA, "/") {
			r.wrong(at, "%q is a file on the other server's machine: give its whole path, begun by a slash", end.at.CA)
		}
		if at := below + ".ca"; end.at.CA != "" && p.TLS != nil && !*p.TLS && r.sound(at) && r.sound(path+".tls") {
			r.wrong(at, "is of no use with tls: false: remove one of them")
		}
	}
}

// checkReach notes a server that we reach by a socket, where the other server can not.
func (d *Database) checkReach(r *reading, path string) {
	for _, side := range []Side{Source, Target} {
		at := fmt.Sprintf("%s.%s.host", path, side)
		if d.end(side).isSocket() && d.reach(side).Host == "" && r.sound(at) && r.sound(path+".replication") {
			r.wrong(at, "the other server can not reach this one by a Unix socket: add replication, with %s: {host: ...}", side)
		}
	}
}

// checkOverlap notes databases of which one end is an end of another, or its own other end.
func (e *Estate) checkOverlap(r *reading) {
	seen := map[string]string{}
	for i := range e.Databases {
		d := &e.Databases[i]
		for _, side := range []Side{Source, Target} {
			path, at := fmt.Sprintf("databases[%d].%s", i, side), d.end(side)
			if at.Host == "" || d.Engine == PostgreSQL && at.Database == "" || !r.sound(path+".host") || !r.sound(path+".port") || !r.sound(path+".database") {
				continue
			}
			id := at.identity()
			first, twice := seen[id]
			line := r.at[first].line
			switch {
			case !twice:
				seen[id] = path
			case parent(first) == parent(path) && d.Engine == PostgreSQL:
				r.wrong(path, "is the same database as the source (line %d): a move needs two, so name another server or database", line)
			case parent(first) == parent(path):
				r.wrong(path, "is the same server as the source (line %d): a move needs two, so name another", line)
			case d.Engine == PostgreSQL:
				r.wrong(path, "is the same database as %s (line %d): one database has one part in a move", first, line)
			case d.Engine == MariaDB:
				r.wrong(path, "is the same server as %s (line %d): a server's changes are one stream, there and back, so move its databases as one: list them under schemas of one entry", first, line)
			default:
				r.wrong(path, "is the same server as %s (line %d): a server's changes are one stream, there and back, so it has one part in a move", first, line)
			}
		}
	}
}

// identity is the same for two endpoints that name the same database of the
// same server, as far as names can tell.
func (e Endpoint) identity() string {
	host := strings.ToLower(strings.TrimSuffix(e.Host, "."))
	if isLoopback(host) {
		host = "localhost"
	}
	return fmt.Sprintf("%s %d %s", host, e.Port, e.Database)
}
