// Package redis moves a Redis server's keys, versions 6.2 to 7 and Valkey, while
// applications write to them. A Mover owns one server or cluster: it takes the
// source's snapshot and command stream as a replica would, applies them to the
// target with its position in the same transaction, fences the source, promotes
// the target and proves both equal. With the ends swapped it is the way back. It
// does not decide when to cut over; that is the cutover's.
package redis

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// Defaults of the limits; each can be set in the estate.
const (
	// DefaultPipeline is how many commands are on their way to the target at once.
	DefaultPipeline = 1024
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 10 * time.Second
	// partingTime bounds a last word to a server.
	partingTime = 2 * time.Second
)

// Limits bound what a move takes from both servers. Zero values mean the defaults.
type Limits struct {
	Pipeline      int // commands on their way to the target at once
	KeysPerSecond int // of the copy; 0 is unlimited
}

// Config is what a Mover needs to know.
type Config struct {
	// Estate and Name name the move.
	Estate, Name string
	// Source and Target are how we connect. Their DB is 0: all databases move.
	Source, Target *redis.Options
	// SourceCluster and TargetCluster say that an end is a cluster with slots.
	SourceCluster, TargetCluster bool
	Limits                       Limits
	// Back says that this mover is the way back: its ends are given swapped, its
	// target was the estate's source. It only streams; there is nothing to copy.
	Back bool
	Log  *slog.Logger
}

// Mover moves the keys of one server. Its methods may be called from several
// goroutines, but only one Replicate runs at a time.
type Mover struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	// stream and back name this direction's and the other direction's change stream.
	stream, back string

	mu      sync.Mutex
	running *running              // the change stream while Replicate is in its last phase
	fence   *fence                // the open fence, if any
	pins    *pins                 // the pinned snapshots, if any
	near    *nearKeys             // the keys whose expiries settle makes exact, if they are known
	spares  map[string][]*session // open sessions by side, for the cutover
	keeper  *logKeeper            // makes the target keep its log

	// pauseTime is how long a pause holds; tests shorten it.
	pauseTime time.Duration
	// onDial is told of each session; tests let it fail.
	onDial func(*session)
	// pinPatience and rememberMost bound what pinning and comparing the pinned take; likewise.
	pinPatience  time.Duration
	rememberMost int
}

// New makes a Mover; it connects to nothing yet.
func New(cfg Config) (*Mover, error) {
	if cfg.Source == nil || cfg.Target == nil {
		return nil, fmt.Errorf("database %s: source and target are both needed", cfg.Name)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Limits.Pipeline <= 0 {
		cfg.Limits.Pipeline = DefaultPipeline
	}
	name := cfg.Estate + "/" + cfg.Name
	m := &Mover{cfg: cfg, limits: cfg.Limits, pauseTime: pauseTime, pinPatience: pinPatience, rememberMost: rememberMost, log: cfg.Log.With("database", cfg.Name), stream: name, back: name + "/back"}
	if cfg.Back {
		m.stream, m.back = m.back, m.stream
	}
	return m, nil
}

// Name is the database's name in the estate.
func (m *Mover) Name() string { return m.cfg.Name }

// Reverse is the mover with the ends swapped: the way back.
func (m *Mover) Reverse() (*Mover, error) {
	cfg := m.cfg
	cfg.Source, cfg.Target, cfg.Back = m.cfg.Target, m.cfg.Source, !m.cfg.Back
	cfg.SourceCluster, cfg.TargetCluster = m.cfg.TargetCluster, m.cfg.SourceCluster
	return New(cfg)
}

// sides of a Mover, as its own direction names them.
const (
	source = "source"
	target = "target"
)

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

var _ move.Mover = (*Mover)(nil)
