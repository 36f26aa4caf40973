package fx

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// What is kept in Redis.
const (
	ratesKey  = "fx:rates"  // a hash: the rates by currency, and when they were made
	leaderKey = "fx:leader" // who writes them
	atField   = "at"        // in milliseconds since 1970
)

const (
	// leaseTicks is for how many ticks a leader that was not heard of stays one.
	leaseTicks = 4
	// leaveTime bounds a leader's farewell.
	leaveTime = time.Second
)

// market is the rates in Redis, and how old they may be.
type market struct {
	redis *redis.Client
	stale time.Duration
	now   func() time.Time
}

func staleRate(text string) *service.Refusal {
	return &service.Refusal{Status: http.StatusServiceUnavailable, Code: "stale_rate", Text: text}
}

func unknownCurrency(code string) *service.Refusal {
	if len(code) > len(Base) {
		code = code[:len(Base)] + "..."
	}
	return &service.Refusal{Status: http.StatusNotFound, Code: codeUnknownCurrency, Text: fmt.Sprintf("there is no rate of %q: give an ISO 4217 code of three capital letters", code)}
}

// all are the rates of the dollar.
func (m *market) all(ctx context.Context) (map[string]string, time.Time, error) {
	rates, err := m.redis.HGetAll(ctx, ratesKey).Result()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the rates: %w", err)
	}
	at, err := m.fresh(rates[atField])
	delete(rates, atField)
	return rates, at, err
}

// fresh reads when rates were made, and refuses those that are too old, or from a
// future that only a wrong clock can have written.
func (m *market) fresh(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, staleRate("there are no rates yet: ask again")
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, errors.New("read the rates: their time is no number")
	}
	at := time.UnixMilli(ms).UTC()
	if age := m.now().Sub(at); age > m.stale || age < -m.stale {
		return at, staleRate(fmt.Sprintf("the last rates are of %s: nothing is converted at rates older than %s", at.Format(time.RFC3339), m.stale))
	}
	return at, nil
}

// cross is an exact rate between two currencies.
type cross struct {
	from, to string
	rate     *big.Rat
	perBase  map[string]*big.Rat // what a dollar is in each
	at       time.Time
}

// cross reads what one unit of a currency is in another.
func (m *market) cross(ctx context.Context, from, to string) (cross, error) {
	c := cross{from: from, to: to, perBase: map[string]*big.Rat{}}
	for _, code := range []string{from, to} {
		if _, known := money.Digits(code); !known {
			return c, unknownCurrency(code)
		}
	}
	read, err := m.redis.HMGet(ctx, ratesKey, atField, from, to).Result()
	if err != nil {
		return c, fmt.Errorf("read two rates: %w", err)
	}
	at, _ := read[0].(string)
	if c.at, err = m.fresh(at); err != nil {
		return c, err
	}
	for i, code := range []string{from, to} {
		text, found := read[i+1].(string)
		if !found {
			return c, unknownCurrency(code)
		}
		if c.perBase[code], err = money.ParseRate(text); err != nil {
			return c, fmt.Errorf("read the rate of %s: %w", code, err)
		}
	}
	c.rate = new(big.Rat).Quo(c.perBase[to], c.perBase[from])
	return c, nil
}

// lead writes the rates if nobody else leads, and leads on. Redis runs it whole or
// not at all, so one who has lost the lead writes nothing.
const lead = `
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
return 1`

// leave lets somebody else lead at once.
const leave = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 0`

// generator writes new rates at each tick while it leads.
type generator struct {
	redis    *redis.Client
	feed     *feed
	every    time.Duration
	instance string
	log      *slog.Logger
	ticks    interface{ Inc() }
	now      func() time.Time
}

// run goes on until ctx ends.
func (g *generator) run(ctx context.Context) {
	name := g.instance + ":" + rand.Text() // two processes may share an instance's name
	script := redis.NewScript(lead)
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	leads, told := false, false
	for {
		now, err := g.write(ctx, script, name)
		switch {
		case ctx.Err() != nil:
			if leads {
				g.leave(ctx, name)
			}
			return
		case err != nil && !told:
			// That Redis is away is told once.
			g.log.Warn("new rates can not be written; trying again", "error", err)
		case err == nil && now != leads:
			g.log.Info("who writes the rates has changed", "leads", now)
		}
		told = err != nil
		if err == nil {
			leads = now
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (g *generator) write(ctx context.Context, script *redis.Script, name string) (leads bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	at := g.now()
	rates, err := g.feed.rates(at.UnixNano() / int64(g.every))
	if err != nil {
		return false, err
	}
	args := []any{name, (leaseTicks * g.every).Milliseconds(), atField, at.UnixMilli()}
	for currency, rate := range rates {
		args = append(args, currency, rate)
	}
	n, err := script.Run(ctx, g.redis, []string{leaderKey, ratesKey}, args...).Int()
	if err != nil {
		return false, fmt.Errorf("write the rates: %w", err)
	}
	if n == 1 {
		g.ticks.Inc()
	}
	return n == 1, nil
}

// leave is a courtesy: without it the next one leads when the lease has ended.
func (g *generator) leave(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := redis.NewScript(leave).Run(ctx, g.redis, []string{leaderKey}, name).Err(); err != nil {
		g.log.Warn("the lead could not be given up; it ends by itself", "error", err)
	}
}
