package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move/redis/resp"
)

// A target whose expiries were exact for a while may have ended keys that the
// source still has: between the cutover and the start of the way back, or when
// an approach was over and nobody streamed. Such keys are fetched from the source
// again, each with the place in the source's log up to which its value holds
// everything; until the stream is there, commands about the key are dropped. What
// a command makes of such a key for another one is fetched as well.

const (
	// fieldMissed begins the names of the fields that keep those places; database and key follow.
	fieldMissed = "missed:"
	// fetchPage is how many keys are fetched at once.
	fetchPage = 64
	// forgetPage is how many fields are removed at once.
	forgetPage = 1000
)

// missed are the keys that were fetched.
type missed struct {
	until map[place]int64
	// last is the greatest place: behind it all is as usual.
	last int64
}

func newMissed() *missed { return &missed{until: map[place]int64{}} }

func (ms *missed) note(at place, offset int64) {
	ms.until[at] = offset
	ms.last = max(ms.last, offset)
}

// missedField is the field that keeps a key's place.
func missedField(at place) string { return fieldMissed + strconv.Itoa(at.db) + ":" + at.key }

// parseMissed reads a field of a position.
func parseMissed(field string) (place, bool) {
	rest, ok := strings.CutPrefix(field, fieldMissed)
	if !ok {
		return place{}, false
	}
	db, key, ok := strings.Cut(rest, ":")
	n, err := strconv.Atoi(db)
	return place{n, key}, ok && err == nil
}

// fetched is a key of the source; without a payload there is none.
type fetched struct {
	at      place
	payload string
	end     int64 // Unix milliseconds; 0 is never
}

// fetch reads keys of a database from the source, all at one place of its log.
func fetch(ctx context.Context, from *session, db int, keys []string) ([]fetched, int64, error) {
	ask := func(name string) (dumps []*redis.StringCmd, ends []*redis.Cmd, clock *redis.TimeCmd, info *redis.StringCmd, err error) {
		tx := from.TxPipeline()
		tx.Do(ctx, "SELECT", db)
		clock = tx.Time(ctx)
		for _, key := range keys {
			dumps = append(dumps, tx.Dump(ctx, key))
			ends = append(ends, tx.Do(ctx, name, key))
		}
		info = tx.Info(ctx, "replication")
		answers, err := tx.Exec(ctx)
		for _, a := range answers {
			if e := a.Err(); e != nil && !isNil(e) {
				return nil, nil, nil, nil, e
			}
		}
		if isNil(err) {
			err = nil
		}
		return dumps, ends, clock, info, err
	}
	dumps, ends, _, info, err := ask("PEXPIRETIME")
	base := int64(0)
	if refusal(err) { // Redis 6.2
		var clock *redis.TimeCmd
		if dumps, ends, clock, info, err = ask("PTTL"); err == nil {
			base = clock.Val().UnixMilli()
		}
	}
	if err != nil {
		return nil, 0, from.fails("fetch keys", err)
	}
	at, err := placeOf(parseInfo(info.Val()))
	if err != nil {
		return nil, 0, from.fails("fetch keys", err)
	}
	all := make([]fetched, len(keys))
	for i, key := range keys {
		all[i] = fetched{at: place{db, key}, payload: dumps[i].Val()}
		if end, err := ends[i].Int64(); err == nil && end > 0 {
			all[i].end = end + base
		}
	}
	return all, at.offset, nil
}

// absent fetches the keys that the source has and the target has not.
func (m *Mover) absent(ctx context.Context, to *session) (*missed, error) {
	from, err := m.dial(ctx, source)
	if err != nil {
		return nil, err
	}
	defer from.hangUp()
	ms := newMissed()
	err = m.allKeys(ctx, source, func(_ *session, db int, keys []string) error {
		pipe := to.Pipeline()
		pipe.Do(ctx, "SELECT", db)
		there := make([]*redis.IntCmd, len(keys))
		for i, key := range keys {
			there[i] = pipe.Exists(ctx, key)
		}
		pipe.Do(ctx, "SELECT", 0)
		if _, err := pipe.Exec(ctx); err != nil {
			return to.fails("look for keys", err)
		}
		var gone []string
		for i, key := range keys {
			if there[i].Val() == 0 {
				gone = append(gone, key)
			}
		}
		for len(gone) > 0 {
			some := gone[:min(len(gone), fetchPage)]
			gone = gone[len(some):]
			if err := m.bring(ctx, from, to, db, some, ms); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Up to here a command may make something of a key that ended at both sides meanwhile.
	if ms.last, err = masterOffset(ctx, from); err != nil {
		return nil, err
	}
	return ms, nil
}

// bring fetches keys and writes them to a target to which nobody streams.
func (m *Mover) bring(ctx context.Context, from, to *session, db int, keys []string, ms *missed) error {
	all, offset, err := fetch(ctx, from, db, keys)
	if err != nil {
		return err
	}
	tx := to.TxPipeline()
	tx.Do(ctx, "SELECT", db)
	for _, f := range all {
		ms.note(f.at, offset)
		if f.payload == "" {
			continue
		}
		end := f.end
		if end > 0 {
			end += expiryPad
		}
		tx.Do(ctx, "RESTORE", f.at.key, end, f.payload, "REPLACE", "ABSTTL")
	}
	tx.Do(ctx, "SELECT", 0)
	for _, f := range all {
		tx.HSet(ctx, stateKey(m.stream), missedField(f.at), offset)
	}
	if _, err := tx.Exec(ctx); err != nil {
		return to.fails("restore keys", err)
	}
	return nil
}

// adopt makes a target whose expiries are exact ready for the stream.
func (m *Mover) adopt(ctx context.Context, to *session, pos position) (position, error) {
	if pos.phase != "stream" || pos.expiry == expiriesPadded {
		return pos, nil
	}
	if err := m.allKeys(ctx, target, func(s *session, db int, keys []string) error { return reExpire(ctx, s, db, keys, padded) }); err != nil {
		return pos, err
	}
	now, err := to.Time(ctx).Result()
	if err != nil {
		return pos, to.fails("read its clock", err)
	}
	if !now.Before(untilOf(pos.expiry)) {
		if pos.missed, err = m.absent(ctx, to); err != nil {
			return pos, err
		}
		if err := to.HSet(ctx, stateKey(m.stream), fieldCautious, pos.missed.last).Err(); err != nil {
			return pos, to.fails("note what was fetched", err)
		}
	}
	pos.expiry = expiriesPadded
	if err := to.HSet(ctx, stateKey(m.stream), fieldExpiry, string(pos.expiry)).Err(); err != nil {
		return pos, to.fails("note how the expiries stand", err)
	}
	return pos, nil
}

// fieldCautious is the place up to which a command about several keys is not
// believed: one of them may have ended at the target.
const fieldCautious = "cautious"

// overtaken says whether a command is about keys that hold it already; what else
// it is about is fetched then, so that it can be dropped.
func (t *translation) overtaken(ctx context.Context, what []byte, c resp.Command, offset int64) (bool, error) {
	switch string(what) {
	case "FLUSHALL", "FLUSHDB", "SWAPDB":
		return true, t.overturned(ctx, string(what), c)
	}
	places, err := t.keysOf(ctx, c)
	if err != nil {
		return false, err
	}
	hit := len(places) > 1 && offset <= t.cautious
	for _, at := range places {
		hit = hit || t.missed.until[at] >= offset
	}
	if !hit {
		return false, nil
	}
	for _, at := range places {
		if t.missed.until[at] < offset {
			if err := t.refetch(ctx, at); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// refetch fetches one key again, in the transaction that is being made.
func (t *translation) refetch(ctx context.Context, at place) error {
	if t.from == nil {
		var err error
		if t.from, err = t.m.dial(ctx, source); err != nil {
			return err
		}
	}
	all, offset, err := fetch(ctx, t.from, at.db, []string{at.key})
	if err != nil {
		return err
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if err := t.a.begin(at.db); err != nil {
		return err
	}
	f := all[0]
	if f.payload == "" {
		t.a.push("DEL", at.key)
	} else {
		if f.end > 0 {
			f.end = t.padding(f.end, []byte(at.key), at.db)
		}
		t.a.push("RESTORE", at.key, strconv.FormatInt(f.end, 10), f.payload, "REPLACE", "ABSTTL")
	}
	t.a.use(0)
	t.a.push("HSET", t.a.key, missedField(at), strconv.FormatInt(offset, 10))
	t.missed.note(at, offset)
	return nil
}

// overturned passes on a command that changes whole databases, and fetches anew
// what was fetched of them, in the same transaction.
func (t *translation) overturned(ctx context.Context, what string, c resp.Command) error {
	t.a.mu.Lock()
	err := t.keepOurs(ctx, what, c)
	t.a.held = true // until the caller says how far it is
	t.a.mu.Unlock()
	if err != nil {
		return err
	}
	again := map[place]struct{}{}
	for at := range t.missed.until {
		switch what {
		case "FLUSHALL":
			again[at] = struct{}{}
		case "FLUSHDB":
			if at.db == t.db {
				again[at] = struct{}{}
			}
		default:
			for _, arg := range c.Args[1:] {
				if db, err := strconv.Atoi(string(arg)); err == nil {
					again[place{db, at.key}] = struct{}{}
				}
			}
		}
	}
	for at := range again {
		if err := t.refetch(ctx, at); err != nil {
			return err
		}
	}
	// The state of the stream was removed with the rest, if it was database 0.
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if err := t.a.begin(0); err != nil {
		return err
	}
	t.a.push("HSET", t.a.key, fieldCautious, strconv.FormatInt(t.cautious, 10))
	for at, offset := range t.missed.until {
		t.a.push("HSET", t.a.key, missedField(at), strconv.FormatInt(offset, 10))
	}
	return nil
}

// past forgets what was fetched, once the stream is behind it.
func (t *translation) past(offset int64) error {
	if t.missed == nil || offset <= t.missed.last || t.tx {
		return nil
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	fields := make([]string, 0, len(t.missed.until)+1)
	fields = append(fields, fieldCautious)
	for at := range t.missed.until {
		fields = append(fields, missedField(at))
	}
	for len(fields) > 0 {
		some := fields[:min(len(fields), forgetPage)]
		fields = fields[len(some):]
		if err := t.a.begin(0); err != nil {
			return err
		}
		t.a.push(append([]string{"HDEL", t.a.key}, some...)...)
	}
	t.missed = nil
	return nil
}

// keysOf are the keys that a command is about.
func (t *translation) keysOf(ctx context.Context, c resp.Command) ([]place, error) {
	if t.table == nil {
		var err error
		if t.table, err = t.to.Command(ctx).Result(); err != nil {
			return nil, t.to.fails("read what its commands are about", err)
		}
	}
	name := strings.ToLower(string(c.Args[0]))
	info := t.table[name]
	movable := info == nil
	if info != nil {
		for _, flag := range info.Flags {
			movable = movable || flag == "movablekeys"
		}
	}
	var places []place
	add := func(db int, key string) { places = append(places, place{db, key}) }
	switch {
	case name == "move" && len(c.Args) == 3:
		db, err := strconv.Atoi(string(c.Args[2]))
		if err != nil {
			return nil, errStrange(c.Args[0])
		}
		add(t.db, string(c.Args[1]))
		add(db, string(c.Args[1]))
	case name == "copy" && len(c.Args) >= 3:
		db := t.db
		for i, arg := range c.Args[:len(c.Args)-1] {
			if i > 2 && strings.EqualFold(string(arg), "DB") {
				var err error
				if db, err = strconv.Atoi(string(c.Args[i+1])); err != nil {
					return nil, errStrange(c.Args[0])
				}
			}
		}
		add(t.db, string(c.Args[1]))
		add(db, string(c.Args[2]))
	case movable || strings.HasPrefix(name, "x"): // subcommands move them
		args := []any{"COMMAND", "GETKEYS"}
		for _, arg := range c.Args {
			args = append(args, arg)
		}
		keys, err := t.to.Do(ctx, args...).StringSlice()
		if err != nil {
			if strings.Contains(err.Error(), "no key arguments") {
				return nil, nil
			}
			return nil, t.to.fails(fmt.Sprintf("ask what %s is about", strings.ToUpper(name)), err)
		}
		for _, key := range keys {
			add(t.db, key)
		}
	case info.FirstKeyPos > 0:
		last := int(info.LastKeyPos)
		if last < 0 {
			last += len(c.Args)
		}
		for i := int(info.FirstKeyPos); i <= last && i < len(c.Args); i += max(int(info.StepCount), 1) {
			add(t.db, string(c.Args[i]))
		}
	}
	return places, nil
}
