package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// On moving data a key that is not the same on both sides is a suspect, since the
// target is always a little behind. It is judged so: the source's key is watched
// (WATCH) and read; once the stream has brought the target to that point its key
// is read; and if the source then says that the key was not touched all the
// time, the target must hold the very same. If it was touched, the two are looked
// at again, some times; then it is undecided, never different.

const (
	// judgeTries is how often a key that changes all the time is looked at.
	judgeTries = 6
	// judgeTogether is how many suspects are watched at once.
	judgeTogether = 64
)

// moving is one comparison of moving data.
type moving struct {
	*look
	o move.VerifyOptions
	f *findings
	// pass returns once the target has applied all that the source had done at the call.
	pass func(context.Context) error
	// padded: the target's keys end later by the pad, until it opens.
	padded bool
}

func (m *Mover) verifyMoving(ctx context.Context, o move.VerifyOptions, f *findings) error {
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return err
	}
	defer from.hangUp()
	defer to.hangUp()
	st, err := m.stands(ctx, from, to)
	if err != nil {
		return err
	}
	v := &moving{o: o, f: f, pass: func(context.Context) error { return nil }}
	switch {
	case st.phase != string(move.PhaseStream):
		return &move.Refused{Reason: fmt.Sprintf("database %s is not copied whole yet: there is nothing to compare", m.cfg.Name), Fix: "run `dhow replicate` until it streams"}
	case !st.targetClosed:
		return &move.Refused{Reason: fmt.Sprintf("the target of database %s takes writes of its own, so its keys are not those of the source any more", m.cfg.Name), Fix: "compare the way back, after the cutover, with `dhow verify`; the cutover itself compared what it had pinned"}
	case !st.sourceClosed:
		pass, stop, err := m.following(ctx, from, to)
		if err != nil {
			return err
		}
		defer stop()
		v.pass = pass
	}
	pos, err := readPosition(ctx, to, m.stream)
	if err != nil {
		return to.fails("compare", err)
	}
	v.padded = pos.expiry != expiriesExact
	if v.padded && o.Repair {
		if err := to.HSet(ctx, stateKey(m.stream), fieldRepaired, "1").Err(); err != nil {
			return to.fails("note that keys are repaired", err)
		}
	}
	counters, _, err := m.precision(ctx)
	if err != nil {
		return err
	}
	v.look = m.newLook(counters)
	defer v.hangUp()
	spaces := map[int]int64{}
	for _, s := range []*session{to, from} { // the source's count is told
		here, err := keySpaces(ctx, s)
		if err != nil {
			return err
		}
		maps.Copy(spaces, here)
	}
	for db, n := range spaces {
		if v.asked(keySpace(db)) {
			f.expect(keySpace(db), n)
		}
	}
	for _, db := range slices.Sorted(maps.Keys(spaces)) {
		if !v.asked(keySpace(db)) {
			continue
		}
		if err := v.compareSpace(ctx, db); err != nil {
			return fmt.Errorf("compare %s: %w", keySpace(db), err)
		}
		f.finished(keySpace(db))
	}
	if v.asked(functionsTable) {
		return v.compareFunctions(ctx, from, to)
	}
	return nil
}

func (v *moving) asked(table string) bool {
	return len(v.o.Tables) == 0 || slices.Contains(v.o.Tables, table)
}

// compareSpace compares a database: what the source holds, then what only the target does.
func (v *moving) compareSpace(ctx context.Context, db int) error {
	if err := v.pages(ctx, 0, db, func(page []string) error {
		return v.chunks(ctx, 0, db, page, func(keys []string) error { return v.compareKeys(ctx, db, keys) })
	}); err != nil {
		return err
	}
	there, err := v.session(ctx, 0, db)
	if err != nil {
		return err
	}
	return v.pages(ctx, 1, db, func(page []string) error {
		known := make([]*redis.IntCmd, len(page))
		answers, err := there.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, k := range page {
				known[i] = p.Exists(ctx, k)
			}
			return nil
		})
		if err = firstError(answers, err); err != nil {
			return there.fails("look for keys", err)
		}
		var suspects []string
		for i, k := range page {
			if known[i].Val() == 0 {
				suspects = append(suspects, k)
			}
		}
		return v.judge(ctx, db, suspects)
	})
}

func (v *moving) compareKeys(ctx context.Context, db int, keys []string) error {
	from, to, err := v.fetchBoth(ctx, db, keys)
	if err != nil {
		return err
	}
	var suspects []string
	for i, k := range keys {
		same, err := from[i].same(to[i], v.counters)
		if err != nil {
			return fmt.Errorf("key %s: %w", keyText(k), err)
		}
		if !same {
			suspects = append(suspects, k)
		}
	}
	v.f.compared(keySpace(db), int64(len(keys)))
	return v.judge(ctx, db, suspects)
}

// judge decides about suspects, together while none of them is touched.
func (v *moving) judge(ctx context.Context, db int, suspects []string) error {
	for some := range slices.Chunk(suspects, judgeTogether) {
		err := v.judgeThese(ctx, db, some)
		if errors.Is(err, redis.TxFailedErr) {
			for _, k := range some {
				if err = v.judgeOne(ctx, db, k); err != nil {
					return err
				}
			}
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *moving) judgeOne(ctx context.Context, db int, key string) error {
	for range judgeTries {
		err := v.judgeThese(ctx, db, []string{key})
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
		same, err := v.sameNow(ctx, db, key)
		if err != nil || same {
			return err
		}
	}
	v.f.undecide(1)
	return nil
}

func (v *moving) sameNow(ctx context.Context, db int, key string) (bool, error) {
	both, err := v.at(ctx, keyAt{db, key})
	if err != nil {
		return false, err
	}
	return both[0].same(both[1], v.counters)
}

// judgeThese judges keys for good, or returns redis.TxFailedErr when one of them was touched.
func (v *moving) judgeThese(ctx context.Context, db int, keys []string) error {
	there, err := v.session(ctx, 0, db)
	if err != nil {
		return err
	}
	here, err := v.session(ctx, 1, db)
	if err != nil {
		return err
	}
	return here.Watch(ctx, func(atTarget *redis.Tx) error {
		var from, to []holding
		err := there.Watch(ctx, func(atSource *redis.Tx) error {
			var before, after int64
			var err error
			if from, before, err = v.fetch(ctx, atSource, 0, keys); err != nil {
				return there.fails("read keys", err)
			}
			if err = v.pass(ctx); err != nil {
				return err
			}
			// From now on a change by the stream is noticed, before a repair covers it.
			if err = atTarget.Watch(ctx, keys...).Err(); err != nil {
				return here.fails("watch keys", err)
			}
			if to, after, err = v.fetch(ctx, atTarget, 1, keys); err != nil {
				return here.fails("read keys", err)
			}
			v.bury(max(before, after), from, to)
			_, err = atSource.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
			return err
		}, keys...)
		if err != nil {
			return err
		}
		return v.decide(ctx, db, keys, from, to, atTarget)
	})
}

// decide tells the differences, and repairs them if asked.
func (v *moving) decide(ctx context.Context, db int, keys []string, from, to []holding, atTarget *redis.Tx) error {
	var differ []int
	for i, k := range keys {
		same, err := from[i].same(to[i], v.counters)
		if err != nil {
			return fmt.Errorf("key %s: %w", keyText(k), err)
		}
		if !same {
			differ = append(differ, i)
		}
	}
	if v.o.Repair && len(differ) > 0 {
		if err := v.repair(ctx, keys, from, differ, atTarget); err != nil {
			return err
		}
	}
	for _, i := range differ {
		what, err := inWhat(from[i], to[i], v.counters)
		if err != nil {
			return fmt.Errorf("key %s: %w", keyText(keys[i]), err)
		}
		v.f.differs(move.Difference{Table: keySpace(db), Key: differenceText(keys[i], what), Kind: kindOf(from[i], to[i]), Repaired: v.o.Repair})
	}
	return nil
}

// compareFunctions compares the libraries of functions by their code.
func (v *moving) compareFunctions(ctx context.Context, from, to *session) error {
	var differ []string
	var kinds map[string]move.Kind
	for range judgeTries {
		there, err := libraries(ctx, from)
		if err != nil || there == nil {
			return err
		}
		if err := v.pass(ctx); err != nil {
			return err
		}
		here, err := libraries(ctx, to)
		if err != nil {
			return err
		}
		v.f.expect(functionsTable, int64(len(there)))
		kinds = map[string]move.Kind{}
		for name, code := range there {
			other, has := here[name]
			if !has {
				kinds[name] = move.Missing
			} else if other != code {
				kinds[name] = move.Changed
			}
		}
		for name := range here {
			if _, has := there[name]; !has {
				kinds[name] = move.Extra
			}
		}
		if differ = slices.Sorted(maps.Keys(kinds)); len(differ) == 0 {
			v.f.compared(functionsTable, int64(len(there)))
			break
		}
		again, err := libraries(ctx, from)
		if err != nil {
			return err
		}
		if maps.Equal(there, again) {
			v.f.compared(functionsTable, int64(len(there)))
			if err := v.repairFunctions(ctx, to, there, differ); err != nil {
				return err
			}
			break
		}
	}
	for _, name := range differ {
		v.f.differs(move.Difference{Table: functionsTable, Key: keyText(name), Kind: kinds[name], Repaired: v.o.Repair})
	}
	v.f.finished(functionsTable)
	return nil
}

// libraries are a server's functions, the code by the library's name; nil where it knows none.
func libraries(ctx context.Context, s *session) (map[string]string, error) {
	list, err := s.FunctionList(ctx, redis.FunctionListQuery{WithCode: true}).Result()
	if refusal(err) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fails("list the functions", err)
	}
	byName := make(map[string]string, len(list))
	for _, l := range list {
		byName[l.Name] = l.Code
	}
	return byName, nil
}
