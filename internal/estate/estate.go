// Package estate holds the one declarative file of a move, dhow.yaml: which
// databases go where, how the traffic is routed, what the move may take and how
// it is cut over. It reads the file, fills in defaults and checks it, with
// errors that name the file and the line; it connects to nothing.
package estate

import (
	"time"
)

// Side is an end of the voyage, as the estate names it.
type Side string

// The sides: the application moves from the source to the target, and back to
// the source in a rollback.
const (
	Source Side = "source"
	Target Side = "target"
)

// Other is the opposite side.
func (s Side) Other() Side {
	if s == Source {
		return Target
	}
	return Source
}

// Estate is the whole file.
type Estate struct {
	// Name names the estate; slots, publications and locks are named after it.
	Name string `yaml:"name"`
	// State is the folder of the journal, the lock, the sockets and the reports;
	// relative to the file's folder. Default ".dhow".
	State string `yaml:"state,omitempty"`
	// Databases are moved together, under one fence; there may be none beside a landing zone.
	Databases []Database `yaml:"databases,omitempty"`
	// Gate is the traffic gate; nil when something else moves the traffic.
	Gate    *Gate   `yaml:"gate,omitempty"`
	Limits  Limits  `yaml:"limits,omitempty"`
	Cutover Cutover `yaml:"cutover,omitempty"`
	// Landing is where the application goes in AWS; nil when that exists already.
	Landing *Landing `yaml:"landing,omitempty"`

	// File is where the estate was read from.
	File string `yaml:"-"`
}

// Engine is a kind of database server.
type Engine string

// The engines.
const (
	PostgreSQL Engine = "postgresql" // versions 13 to 17
	MariaDB    Engine = "mariadb"    // versions 10.5 to 11
	Redis      Engine = "redis"      // versions 6.2 to 7, and Valkey
)

// Database is one database that moves: of PostgreSQL one database of a server, of
// MariaDB and Redis a whole server, for its changes are one stream.
type Database struct {
	Name   string   `yaml:"name"`
	Engine Engine   `yaml:"engine,omitempty"` // default postgresql
	Source Endpoint `yaml:"source"`
	Target Endpoint `yaml:"target"`
	// Schemas are those that move, of MariaDB its databases; empty means all but the system's.
	Schemas []string `yaml:"schemas,omitempty"`
	// Exclude are tables, as schema.table, that stay behind.
	Exclude []string `yaml:"exclude,omitempty"`
	// Replication says how MariaDB's servers reach each other; nil means as we reach them.
	Replication *Replication `yaml:"replication,omitempty"`
	// Roles maps the source's role names to the target's; others keep their names.
	Roles map[string]string `yaml:"roles,omitempty"`
	// Limits override the estate's for this database.
	Limits Limits `yaml:"limits,omitempty"`
}

// Endpoint is where one end of a database is and how to sign in.
type Endpoint struct {
	Host     string `yaml:"host"`
	Port     int    `yaml:"port,omitempty"`     // default the engine's
	Database string `yaml:"database,omitempty"` // of PostgreSQL alone
	User     string `yaml:"user,omitempty"`     // of Redis it may be empty: its user is then default
	Password Secret `yaml:"password,omitempty"`
	TLS      TLS    `yaml:"tls,omitempty"`
	// Cluster says that the server is one of a Redis cluster, which all moves.
	Cluster bool `yaml:"cluster,omitempty"`
}

// Replication says how one server of MariaDB reaches the other as its replica.
type Replication struct {
	// User needs REPLICATION SLAVE on both servers; empty means each endpoint's own, with its password.
	User     string `yaml:"user,omitempty"`
	Password Secret `yaml:"password,omitempty"`
	// TLS encrypts and verifies; nil means wherever our own connection does.
	TLS *bool `yaml:"tls,omitempty"`
	// Source is how the target reaches the source, Target the other way round.
	Source Reach `yaml:"source,omitempty"`
	Target Reach `yaml:"target,omitempty"`
}

// Reach is where a server is as the other server sees it.
type Reach struct {
	Host string `yaml:"host,omitempty"` // empty means the endpoint's
	Port int    `yaml:"port,omitempty"` // 0 means the endpoint's
	// CA is a file of the authorities to trust, on the other server's machine; empty means its own trust.
	CA string `yaml:"ca,omitempty"`
}

// Secret says where a secret is kept; exactly one field is set. The file never
// holds the secret itself.
type Secret struct {
	// Env is the name of an environment variable.
	Env string `yaml:"env,omitempty"`
	// File is a path, relative to the estate file's folder; a trailing line end is dropped.
	File string `yaml:"file,omitempty"`
	// ARN is a secret of AWS Secrets Manager; Field is the field of a secret that
	// is a JSON object ("password" when the secret is one and Field is empty).
	ARN   string `yaml:"arn,omitempty"`
	Field string `yaml:"field,omitempty"`

	origin origin
}

// TLS says how a connection is secured.
type TLS struct {
	// Mode is libpq's: disable, require, verify-ca or verify-full. Default
	// verify-full, but disable for a loopback address.
	Mode string `yaml:"mode,omitempty"`
	// CA is a file of certificates to trust; empty means the system's.
	CA string `yaml:"ca,omitempty"`

	origin origin
}

// Gate is the traffic gate.
type Gate struct {
	// Listen is the address that clients are served on.
	Listen string `yaml:"listen"`
	// Control is a path of a Unix socket (default gate.sock in State) or a
	// loopback address host:port, which needs Token.
	Control string `yaml:"control,omitempty"`
	Token   Secret `yaml:"token,omitempty"`
	// Metrics is the address of the metrics page; empty means none.
	Metrics string  `yaml:"metrics,omitempty"`
	Routes  []Route `yaml:"routes"`
	Hold    Hold    `yaml:"hold,omitempty"`
}

// Route sends requests of a host and a path to an upstream on each side. The
// route with the longest path prefix among those of the request's host wins.
type Route struct {
	Name string `yaml:"name"`
	// Host is the request's host, without port; empty means any.
	Host string `yaml:"host,omitempty"`
	// Path is a prefix that ends at a path segment; default "/".
	Path   string `yaml:"path,omitempty"`
	Source string `yaml:"source"` // upstream URL
	Target string `yaml:"target"` // upstream URL
	// H2C speaks HTTP/2 in the clear to the upstreams.
	H2C bool `yaml:"h2c,omitempty"`
}

// Hold bounds what the gate keeps back during a cutover, in all.
type Hold struct {
	Requests int           `yaml:"requests,omitempty"` // default 10000
	Bytes    Size          `yaml:"bytes,omitempty"`    // of bodies read ahead; default 64MiB
	Time     time.Duration `yaml:"time,omitempty"`     // a hold ends by itself after this; default 5s
}

// Limits bound what a move takes from the servers. Zero values mean the defaults.
// An engine that has no use for a limit does not read it.
type Limits struct {
	Copies        int  `yaml:"copies,omitempty"`          // parallel COPY streams; default 4
	Lanes         int  `yaml:"lanes,omitempty"`           // parallel lanes of the change stream; default 4
	Chunk         Size `yaml:"chunk,omitempty"`           // size of a piece of a large table; default 64MiB
	RowsPerSecond int  `yaml:"rows_per_second,omitempty"` // of the copy, rows or keys, and of a comparison of rows; default unlimited
	Connections   int  `yaml:"connections,omitempty"`     // to each server for each database; default unlimited, at least 10
	WALWarn       Size `yaml:"wal_warn,omitempty"`        // retained log that warns; default 4GiB
	WALStop       Size `yaml:"wal_stop,omitempty"`        // retained log that stops the move; default 16GiB
}

// Size is a number of bytes; in the file as a number with an optional unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB).
type Size int64

// Cutover is the policy of the cutover.
type Cutover struct {
	// StallBudget is how long requests may be held, in all; default 300ms.
	StallBudget time.Duration `yaml:"stall_budget,omitempty"`
	// Stragglers: what to do with transactions that hold writes open under the
	// fence: "abort" gives the cutover up (default), "terminate" ends their sessions.
	Stragglers string `yaml:"stragglers,omitempty"`
	// Verify compares the moving data before, and refuses to cut over when it differs; default true.
	Verify *bool `yaml:"verify,omitempty"`
	// Proof compares all data as it stood at the cutover, after the traffic has moved; default true.
	Proof *bool `yaml:"proof,omitempty"`
}
