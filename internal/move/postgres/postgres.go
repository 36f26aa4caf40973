// Package postgres moves a PostgreSQL database, versions 13 to 17, while its
// application writes to it. A Mover owns one database: it copies it under an
// exported snapshot, relays its changes with an applier of its own, fences the
// source, promotes the target and proves both equal. With the ends swapped it
// is the way back. It does not decide when to cut over; that is the cutover's.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// Defaults of the limits; each can be set in the estate.
const (
	// DefaultCopies are the parallel COPY streams: as many as keep two small servers busy.
	DefaultCopies = 4
	// DefaultLanes are the parallel lanes of the change stream.
	DefaultLanes = 4
	// DefaultChunkBytes is the size of a piece of a large table: large enough to
	// stream well, small enough that a crash repeats little.
	DefaultChunkBytes = 64 << 20
	// DefaultWALWarn and DefaultWALStop bound the WAL, in bytes, that our slot
	// makes the source keep: a source whose disk fills up is an outage.
	DefaultWALWarn = 4 << 30
	DefaultWALStop = 16 << 30
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
	Copies        int   // parallel COPY streams
	Lanes         int   // parallel lanes of the change stream
	ChunkBytes    int64 // size of a piece of a large table
	RowsPerSecond int   // of the copy, and of a comparison, in all; 0 is unlimited
	WALWarn       int64 // bytes of retained WAL that warn
	WALStop       int64 // bytes of retained WAL that stop the move
}

func (l Limits) withDefaults() Limits {
	if l.Copies <= 0 {
		l.Copies = DefaultCopies
	}
	if l.Lanes <= 0 {
		l.Lanes = DefaultLanes
	}
	if l.ChunkBytes <= 0 {
		l.ChunkBytes = DefaultChunkBytes
	}
	if l.WALWarn <= 0 {
		l.WALWarn = DefaultWALWarn
	}
	if l.WALStop <= 0 {
		l.WALStop = DefaultWALStop
	}
	return l
}

// Config is what a Mover needs to know.
type Config struct {
	// Estate and Name name the move; with the direction they name its slot and publication.
	Estate, Name string
	Source       *pgx.ConnConfig
	Target       *pgx.ConnConfig
	// SourceEnv is what pg_dump needs besides Source's own values, as libpq's
	// environment variables: PGSSLMODE=verify-full, PGSSLROOTCERT=...
	SourceEnv []string
	// Schemas are those that move; empty means all but the system's.
	Schemas []string
	// Exclude are tables, as schema.table, that stay behind.
	Exclude []string
	// Roles maps the source's role names to the target's; others keep their names.
	Roles      map[string]string
	Limits     Limits
	Stragglers Stragglers
	// Back says that this mover is the way back: its ends are given swapped, its
	// target was the estate's source. It only streams; there is nothing to copy.
	Back bool
	Log  *slog.Logger
}

// Mover moves one database. Its methods may be called from several goroutines,
// but only one Replicate runs at a time.
type Mover struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	// stream and back are the names of this direction's and the other
	// direction's change stream: of the slot, the publication, the rows in dhow's schema.
	stream, back string

	mu      sync.Mutex
	running *relay // the change stream while Replicate is in its last phase
	fence   *fence // the open fence, if any
	pins    *pins  // the pinned snapshots, if any
	// schemaNote names what the source's schema has and the target's lacks, without
	// harm to the rows; pulse is the source's when the two were last compared.
	schemaNote string
	pulse      string

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
	m := &Mover{cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Log.With("database", cfg.Name), stream: there, back: back}
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
	return New(cfg)
}

// connect opens a session with settings that make text output the same on every server.
func connect(ctx context.Context, cfg *pgx.ConnConfig, side string) (*pgx.Conn, error) {
	c := cfg.Copy()
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	c.DialFunc = dial
	for k, v := range sessionSettings {
		c.RuntimeParams[k] = v
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, explainConnect(ctx, c, side, err)
	}
	return conn, nil
}

func (m *Mover) source(ctx context.Context) (*pgx.Conn, error) {
	return connect(ctx, m.cfg.Source, m.named("source"))
}

func (m *Mover) target(ctx context.Context) (*pgx.Conn, error) {
	return connect(ctx, m.cfg.Target, m.named("target"))
}

// named is what the estate calls a side of this mover: on the way back the ends are swapped.
func (m *Mover) named(side string) string {
	switch {
	case !m.cfg.Back:
		return side
	case side == "source":
		return "target"
	}
	return "source"
}

// parting is the time for a last word to a server once the work's context has
// ended: little, for the server may be what ended it.
func parting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), partingTime)
}

// hangUp closes a session even when the work's context has ended.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := parting(ctx)
	defer cancel()
	_ = conn.Close(ctx) // the session is done with; the server notices in any case
}

var _ move.Mover = (*Mover)(nil)
