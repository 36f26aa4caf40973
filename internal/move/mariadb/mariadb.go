// Package mariadb moves the databases of a MariaDB server, versions 10.5 to 11,
// while applications write to them. A Mover owns one server: it copies under
// snapshots proved to stand at one position of the binary log, lets the target
// follow by the servers' own GTID replication, fences the source, promotes the
// target and proves both equal. With the ends swapped it is the way back. It does
// not decide when to cut over; that is the cutover's.
package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/move"
)

// Defaults of the limits; each can be set in the estate.
const (
	// DefaultCopies are the parallel sessions of the copy: as many as keep two small servers busy.
	DefaultCopies = 4
	// DefaultChunkBytes is the size of a piece of a large table: large enough to
	// stream well, small enough that a crash repeats little.
	DefaultChunkBytes = 64 << 20
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 10 * time.Second
	// partingTime bounds a last word to a server: a rollback, a goodbye.
	partingTime = 2 * time.Second
)

// Stragglers says what the fence does to sessions that hold writes open.
type Stragglers string

// What to do with transactions that the gate does not know and that do not end.
const (
	AbortCutover      Stragglers = "abort"     // give up the cutover; nobody is harmed
	TerminateSessions Stragglers = "terminate" // end the sessions
)

// Limits bound what a move takes from both servers. Zero values mean the defaults.
type Limits struct {
	Copies        int   // parallel sessions of the copy, and of a comparison
	ChunkBytes    int64 // size of a piece of a large table
	RowsPerSecond int   // of the copy, and of a comparison, in all; 0 is unlimited
}

func (l Limits) withDefaults() Limits {
	if l.Copies <= 0 {
		l.Copies = DefaultCopies
	}
	if l.ChunkBytes <= 0 {
		l.ChunkBytes = DefaultChunkBytes
	}
	return l
}

// Replica says how one server reaches the other for replication, and as whom.
type Replica struct {
	// Host and Port are the address by which the other server reaches it.
	Host string
	Port int
	// User needs REPLICATION SLAVE.
	User, Password string
	// TLS makes the replica encrypt and verify.
	TLS bool
	// CA is a file of certificates on the replica's machine; empty means its own trust.
	CA string
}

// Config is what a Mover needs to know.
type Config struct {
	// Estate and Name name the move.
	Estate, Name string
	// Source and Target are how we connect. Their DBName is empty.
	Source, Target *mysql.Config
	// SourceReplica is how the target reaches the source, TargetReplica the other way round.
	SourceReplica, TargetReplica Replica
	// Schemas are the databases that move; empty means all but the system's and ours.
	Schemas []string
	// Exclude are tables, as database.table, that stay behind.
	Exclude    []string
	Limits     Limits
	Stragglers Stragglers
	// Back says that this mover is the way back: its ends are given swapped, its
	// target was the estate's source. It only streams; there is nothing to copy.
	Back bool
	Log  *slog.Logger
}

// Mover moves the databases of one server. Its methods may be called from several
// goroutines, but only one Replicate runs at a time.
type Mover struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	// stream and back name this direction's and the other direction's change
	// stream: of its rows in our database, of the replication's connection.
	stream, back string

	mu      sync.Mutex
	dbs     map[string]*sql.DB // pools, by side
	running *running           // the change stream while Replicate is in its last phase
	fence   *fence             // the open fence, if any
	pins    *pins              // the pinned snapshots, if any

	spares spares // sessions for the steps of the cutover
}

// New makes a Mover; it connects to nothing yet.
func New(cfg Config) (*Mover, error) {
	if cfg.Source == nil || cfg.Target == nil {
		return nil, fmt.Errorf("database %s: source and target are both needed", cfg.Name)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Stragglers == "" {
		cfg.Stragglers = AbortCutover
	}
	there, back := move.StreamNames(cfg.Estate, cfg.Name, maxName)
	m := &Mover{cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Log.With("database", cfg.Name), stream: there, back: back, dbs: map[string]*sql.DB{}}
	if cfg.Back {
		m.stream, m.back = back, there
	}
	return m, nil
}

// Name is the database's name in the estate.
func (m *Mover) Name() string { return m.cfg.Name }

// Reverse is the mover with the ends swapped: the way back.
func (m *Mover) Reverse() (*Mover, error) {
	cfg := m.cfg
	cfg.Source, cfg.Target, cfg.Back = m.cfg.Target, m.cfg.Source, !m.cfg.Back
	cfg.SourceReplica, cfg.TargetReplica = m.cfg.TargetReplica, m.cfg.SourceReplica
	return New(cfg)
}

// sides of a Mover, as its own direction names them.
const (
	source = "source"
	target = "target"
)

// pool is the pool of sessions to a side. It is made at the first call.
func (m *Mover) pool(side string) (*sql.DB, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if db := m.dbs[side]; db != nil {
		return db, nil
	}
	cfg := m.cfg.Source
	if side == target {
		cfg = m.cfg.Target
	}
	connector, err := mysql.NewConnector(prepared(cfg))
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to the %s of database %s: %w", m.named(side), m.cfg.Name, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0) // sessions carry settings and locks: each is closed by who opened it
	m.dbs[side] = db
	return db, nil
}

// prepared is a configuration with what all our sessions need: text output that
// is the same on every server, and no settings of the user's.
func prepared(cfg *mysql.Config) *mysql.Config {
	c := cfg.Clone()
	if c.Timeout == 0 {
		c.Timeout = connectTimeout
	}
	c.Params = map[string]string{}
	for k, v := range sessionSettings {
		c.Params[k] = v
	}
	c.Collation = "utf8mb4_bin"
	c.InterpolateParams = true
	c.MultiStatements = false
	c.ParseTime = false
	return c
}

// sessionSettings make sessions read and write the same text on every server.
var sessionSettings = map[string]string{ //nolint:gochecknoglobals // a constant in all but syntax
	"sql_mode":              "'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'",
	"time_zone":             "'+00:00'",
	"max_statement_time":    "0",
	"net_write_timeout":     "600",
	"net_read_timeout":      "600",
	"sql_quote_show_create": "1",
	"sql_safe_updates":      "0",
	"sql_select_limit":      "18446744073709551615",
}

// session opens a session to a side. Give it back with hangUp.
func (m *Mover) session(ctx context.Context, side string) (*sql.Conn, error) {
	db, err := m.pool(side)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the %s of database %s at %s: %w", m.named(side), m.cfg.Name, m.addr(side), err)
	}
	return conn, nil
}

// hangUp closes a session; its locks and transaction end with it.
func hangUp(conn *sql.Conn) {
	_ = conn.Close() // the session is done with; the server notices in any case
}

// addr is where a side is, for people.
func (m *Mover) addr(side string) string {
	if side == target {
		return m.cfg.Target.Addr
	}
	return m.cfg.Source.Addr
}

// named is what the estate calls a side of this mover: on the way back the ends are swapped.
func (m *Mover) named(side string) string {
	switch {
	case !m.cfg.Back:
		return side
	case side == source:
		return target
	}
	return source
}

// parting is the time for a last word to a server once the work's context has
// ended: little, for the server may be what ended it.
func parting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), partingTime)
}

// moves says whether a database moves.
func (m *Mover) moves(database string) bool {
	switch database {
	case "mysql", "sys", "information_schema", "performance_schema", stateDatabase:
		return false
	}
	return len(m.cfg.Schemas) == 0 || slices.Contains(m.cfg.Schemas, database)
}

// Close ends the mover's sessions.
func (m *Mover) Close(ctx context.Context) {
	m.closeSpares()
	m.Unpin(ctx)
	m.dropFence(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for side, db := range m.dbs {
		errs = append(errs, db.Close())
		delete(m.dbs, side)
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Warn("close the sessions", "error", err)
	}
}

var _ move.Mover = (*Mover)(nil)
