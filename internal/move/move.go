// Package move says what every engine's mover does: keep one target database
// identical to its source, online, and hand the writes over at the cutover. It
// holds the contract and the words (issue, progress, difference, marker), and the
// little that all movers do alike; each engine lives in a folder of its own below.
package move

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Mover keeps one target database identical to its source, online, and takes
// part in the cutover. The same type with the ends swapped is the way back.
//
// The cutover calls, in this order: Prepare, Fence, CatchUp, then stops
// Replicate, then Pin, Seal, and only when every mover of the estate has
// sealed, Open. Until Seal, all is undone by Unfence or by the death of the
// process; between Seal and Open by Unfence alone; after Open there is no undo
// but a cutover of the mover with the ends swapped.
type Mover interface {
	// Name is the database's name in the estate.
	Name() string
	// Preflight names everything that would lose data or fail later, with the
	// statement that fixes it. It changes nothing and may be called at any time.
	Preflight(ctx context.Context) ([]Issue, error)
	// Replicate copies what is not copied yet, then streams changes until ctx
	// ends (it returns ctx's error) or something stops it. Called again, also
	// after a crash, it resumes.
	Replicate(ctx context.Context, report func(Progress)) error
	// Verify compares both sides chunk by chunk, on moving data too while
	// Replicate runs in this process, and names every differing row.
	Verify(ctx context.Context, o VerifyOptions, report func(Progress)) (Comparison, error)
	// Prepare does all that the promotion needs and that can be done before the
	// fence, so that it costs no stall. It may be called again.
	Prepare(ctx context.Context) error
	// Rehearse times what the fence will cost, without fencing. Replicate must be running.
	Rehearse(ctx context.Context) (Rehearsal, error)
	// Fence stops writes at the source, by every role, in a way that vanishes
	// when this process dies, and returns the marker that ends the source's history.
	Fence(ctx context.Context) (Marker, error)
	// CatchUp returns once the target has applied the marker. Replicate must be running.
	CatchUp(ctx context.Context, m Marker) error
	// Pin keeps, on both sides, a snapshot of the data as it stands under the
	// fence, for Verify to compare later while both sides move on. It needs
	// Fence and CatchUp before, and lasts until Unpin or the process ends.
	Pin(ctx context.Context) error
	// Unpin gives the pinned snapshots back. Safe to call at any time.
	Unpin(ctx context.Context)
	// Seal completes the target (sequences, large objects) and makes the fence
	// durable, in one transaction of the source. Replicate must have returned.
	Seal(ctx context.Context) error
	// Open lets the target take writes. It refuses unless the source is sealed. It may be called again.
	Open(ctx context.Context) error
	// Retire removes the slot of this direction's stream, once the target is open
	// and traffic has moved, so that the source keeps no log. It may be called again.
	Retire(ctx context.Context) error
	// Unfence lets the source take writes again, whether fenced or sealed. It
	// refuses once the target is open. It may be called again.
	Unfence(ctx context.Context) error
	// State asks both servers where the move stands; the servers' word, not a memory of it.
	State(ctx context.Context) (State, error)
	// Finish removes every slot, publication, trigger and schema that the move
	// left behind, on both sides. It may be called again.
	Finish(ctx context.Context) error
	// Close ends the mover's sessions.
	Close(ctx context.Context)
}

// State is where a move stands, as both servers say.
type State struct {
	// Started: the target holds this move's state.
	Started bool `json:"started"`
	// Copied: the copy and the indexes are complete, and the stream runs or can run.
	Copied bool `json:"copied"`
	// Sealed: the source refuses writes, durably.
	Sealed bool `json:"sealed"`
	// Open: the target takes writes.
	Open bool `json:"open"`
}

// Severity orders issues.
type Severity string

// The severities of a preflight issue.
const (
	// Loses would lose data or stop the move: it must be fixed before.
	Loses Severity = "error"
	// Warns costs time or needs a look; the move goes on.
	Warns Severity = "warning"
)

// Issue is one thing that preflight found.
type Issue struct {
	Severity Severity `json:"severity"`
	// Rule is the finding's stable id, for example "no-replica-identity".
	Rule string `json:"rule"`
	// Side is "source" or "target".
	Side string `json:"side"`
	// Object is what it is about, for example a table's qualified name.
	Object string `json:"object"`
	// Consequence says what would happen.
	Consequence string `json:"consequence"`
	// Fix is the statement, or the action, that mends it.
	Fix string `json:"fix"`
}

// Phase is what a mover is busy with.
type Phase string

// The phases of a move, in order.
const (
	PhaseSchema Phase = "schema"
	PhaseCopy   Phase = "copy"
	PhaseIndex  Phase = "index"
	// PhaseGuard: the copy is whole, and the target is being closed to all but the stream.
	PhaseGuard  Phase = "guard"
	PhaseStream Phase = "stream"
	PhaseVerify Phase = "verify"
)

// Progress is a mover's report; it is a value, complete in itself.
type Progress struct {
	Database string    `json:"database"`
	Phase    Phase     `json:"phase"`
	At       time.Time `json:"at"`
	// Rows and Bytes are done so far; the totals are estimates until the end. Bytes are as sent.
	Rows       int64 `json:"rows"`
	RowsTotal  int64 `json:"rows_total"`
	Bytes      int64 `json:"bytes"`
	BytesTotal int64 `json:"bytes_total"`
	// RowsPerSecond and BytesPerSecond are over the last seconds.
	RowsPerSecond  float64 `json:"rows_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// ETA is the time that is left of this phase; zero when unknown.
	ETA time.Duration `json:"eta_ns"`
	// Steps are the phase's pieces of work (chunks, indexes), done and in all.
	Steps      int `json:"steps"`
	StepsTotal int `json:"steps_total"`
	// LagBytes and LagSeconds say how far the stream is behind; Retained is the WAL that its slot holds, in bytes.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
	Retained   int64   `json:"retained_bytes"`
	// Tables are the tables in work or done, by name.
	Tables []TableProgress `json:"tables,omitempty"`
	// Note is a warning for people, or empty.
	Note string `json:"note,omitempty"`
}

// TableProgress is one table's share of a Progress.
type TableProgress struct {
	Table     string `json:"table"`
	Rows      int64  `json:"rows"`
	RowsTotal int64  `json:"rows_total"`
	Bytes     int64  `json:"bytes"`
	Done      bool   `json:"done"`
}

// VerifyOptions say how Verify works.
type VerifyOptions struct {
	// Pinned compares the snapshots that Pin keeps, exactly, rather than the moving data.
	Pinned bool
	// Repair makes the target's differing rows equal to the source's. Not with Pinned.
	Repair bool
	// Most bounds the differing rows named for each table; 0 means DefaultMostDifferences.
	Most int
	// Tables are those that are compared, by qualified name; empty means all, and
	// with them what is in no table: sequences and large objects. Not with Pinned.
	Tables []string
}

// DefaultMostDifferences is how many differing rows of a table are named, so
// that a table that differs whole does not fill the memory.
const DefaultMostDifferences = 1000

// Kind says how a row differs.
type Kind string

// The kinds of a difference.
const (
	Missing Kind = "missing" // only at the source
	Extra   Kind = "extra"   // only at the target
	Changed Kind = "changed" // on both sides, with other values
)

// Difference is one row (or object) that is not the same on both sides.
type Difference struct {
	Table string `json:"table"`
	// Key is the row's key as column=value pairs, or the whole row's text for a table without a key.
	Key  string `json:"key"`
	Kind Kind   `json:"kind"`
	// Repaired says that the target's row was made equal.
	Repaired bool `json:"repaired,omitempty"`
}

// Comparison is what Verify found.
type Comparison struct {
	// Tables counts the tables, or key spaces, that were compared.
	Tables int `json:"tables"`
	Chunks int `json:"chunks"`
	// Rows are the source's rows that were compared.
	Rows int64 `json:"rows"`
	// Different counts the differing rows, also those beyond VerifyOptions.Most.
	Different int64 `json:"different"`
	// Repaired counts those of them that were made equal.
	Repaired    int64        `json:"repaired,omitempty"`
	Differences []Difference `json:"differences"`
	// Undecided counts rows of moving data that changed too fast to be judged.
	// They are not among the different; the pinned comparison judges every row.
	Undecided int64 `json:"undecided,omitempty"`
	// ByTable are the tables, or key spaces, one by one, sorted by name.
	ByTable []TableComparison `json:"by_table,omitempty"`
	// Took is how long the comparison took in all; who asked for it notes it.
	Took time.Duration `json:"took_ns,omitempty"`
}

// TableComparison is what Verify found in one table or key space.
type TableComparison struct {
	Table     string `json:"table"`
	Rows      int64  `json:"rows"`
	Different int64  `json:"different"`
	// Took is from when its first chunk began until its last one was compared, beside other tables.
	Took time.Duration `json:"took_ns"`
}

// Rehearsal says how long the parts of a cutover that clients wait for will take.
type Rehearsal struct {
	// Lag is how long a marker took from the source to the target.
	Lag time.Duration `json:"lag_ns"`
	// Seal is what completing the target and making the fence durable is expected to take.
	Seal time.Duration `json:"seal_ns"`
}

// FollowsWithin is how fast a marker passes through a stream that is said to
// follow closely.
const FollowsWithin = 2 * time.Second

// Marker ends a source's history: the target that has applied it has applied
// everything that was acknowledged before.
type Marker struct {
	// N is the marker's number in its stream.
	N int64 `json:"n"`
	// Position is the source's log position after it, for people.
	Position string `json:"position"`
}

// Leftover is something of a move's own that stands on a server beside the data.
type Leftover struct {
	// Kind is what it is in the engine's words: slot, trigger, schema, replication, user, key.
	Kind string `json:"kind"`
	// Name finds it on the server; of a trigger it is its table's.
	Name string `json:"name"`
}

// Refused is an error that a person must act upon; Fix says how.
type Refused struct { //nolint:errname // it reads as what it is: move.Refused
	Reason string
	Fix    string
}

func (r *Refused) Error() string {
	if r.Fix == "" {
		return r.Reason
	}
	return fmt.Sprintf("%s: %s", r.Reason, strings.TrimSuffix(r.Fix, "."))
}
