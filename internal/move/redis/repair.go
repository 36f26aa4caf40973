package redis

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// repair makes the target's keys equal to what the source holding when it was
// watched, in one transaction that fails when the stream changed one of them
// meanwhile. What the source did since comes by the stream, on top of this.
func (v *moving) repair(ctx context.Context, keys []string, from []holding, differ []int, atTarget *redis.Tx) error {
	answers, err := atTarget.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range differ {
			if from[i].gone() {
				p.Del(ctx, keys[i])
				continue
			}
			end := from[i].expiry
			if end != 0 && v.padded {
				end += expiryPad
			}
			p.Do(ctx, "RESTORE", keys[i], end, from[i].payload, "REPLACE", "ABSTTL")
		}
		return nil
	})
	return firstError(answers, err)
}

// repairFunctions makes the target's libraries equal to the source's.
func (v *moving) repairFunctions(ctx context.Context, to *session, want map[string]string, differ []string) error {
	if !v.o.Repair {
		return nil
	}
	for _, name := range differ {
		var err error
		if code, is := want[name]; is {
			err = to.FunctionLoadReplace(ctx, code).Err()
		} else {
			err = to.FunctionDelete(ctx, name).Err()
		}
		if err != nil {
			return to.fails("repair the functions", err)
		}
	}
	return nil
}
