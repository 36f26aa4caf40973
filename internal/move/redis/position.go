package redis

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// The fields of a stream's state, see stateKey. A batch of changes and the
// position behind it are written in one transaction, so the data and the position
// of a target agree at any instant, whoever dies.
const (
	fieldPhase  = "phase"  // a move.Phase: copy or stream
	fieldReplid = "replid" // the source's history
	fieldOffset = "offset" // bytes of the history that the target holds
	fieldDB     = "db"     // the database that the next command is about
	// fieldExpiry says how the target's expiries stand, see expiry.go. A position
	// without it was written by Seal: the data was in use, no copy of ours.
	fieldExpiry = "expiry"
	// fieldRepaired says that keys were written beside the stream: settle looks at all keys then.
	fieldRepaired = "repaired"
	// fieldBroken tells why the target can no longer be streamed to.
	fieldBroken = "broken"
)

// position is how far a stream is, as its target holds it.
type position struct {
	phase  move.Phase // empty: there is none
	replid string
	offset int64
	db     int
	expiry expiries
	broken string
	missed *missed // see refetch.go; nil in general
	// repaired is true once keys were written beside the stream.
	repaired bool
}

// readPosition reads a stream's position at its target.
func readPosition(ctx context.Context, c redis.Cmdable, stream string) (position, error) {
	var p position
	f, err := c.HGetAll(ctx, stateKey(stream)).Result()
	if err != nil {
		return p, fmt.Errorf("read how far the stream is: %w", err)
	}
	if len(f) == 0 {
		return p, nil
	}
	p.phase, p.replid, p.broken = move.Phase(f[fieldPhase]), f[fieldReplid], f[fieldBroken]
	p.expiry = expiries(f[fieldExpiry])
	p.repaired = f[fieldRepaired] != ""
	for field, n := range map[string]*int64{fieldOffset: &p.offset} {
		if *n, err = strconv.ParseInt(f[field], 10, 64); err != nil && p.phase == move.PhaseStream {
			return p, fmt.Errorf("read how far the stream is: field %s of %s is no number", field, stateKey(stream))
		}
	}
	p.db, err = strconv.Atoi(f[fieldDB])
	if err != nil && p.phase == move.PhaseStream {
		return p, fmt.Errorf("read how far the stream is: field %s of %s is no number", fieldDB, stateKey(stream))
	}
	for field, value := range f {
		at, ok := parseMissed(field)
		n, err := strconv.ParseInt(value, 10, 64)
		if !ok && field != fieldCautious || err != nil {
			continue
		}
		if p.missed == nil {
			p.missed = newMissed()
		}
		p.missed.last = max(p.missed.last, n)
		if ok {
			p.missed.note(at, n)
		}
	}
	return p, nil
}

// fields are the position's fields and values, for HSET.
func (p position) fields() []string {
	return []string{
		fieldPhase, string(p.phase), fieldReplid, p.replid, fieldOffset, strconv.FormatInt(p.offset, 10),
		fieldDB, strconv.Itoa(p.db), fieldExpiry, string(p.expiry),
	}
}

// writePosition writes a stream's position at its target, whole.
func writePosition(ctx context.Context, c redis.Cmdable, stream string, p position) error {
	key := stateKey(stream)
	_, err := c.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, key)
		tx.HSet(ctx, key, p.fields())
		return nil
	})
	if err != nil {
		return fmt.Errorf("write how far the stream is: %w", err)
	}
	return nil
}

// ownKeys are the keys of ours that a target may hold, all in database 0. They
// outlive a FLUSHALL and a SWAPDB that the source's clients send.
func (m *Mover) ownKeys() []string {
	return []string{stateKey(m.stream), stateKey(m.back), m.noteKey(), m.turnKey()}
}
