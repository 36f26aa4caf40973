package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// listen subscribes to the notifications, which it turns on where that is allowed.
func (s *scanning) listen(ctx context.Context, c *redis.Client) error {
	now, err := s.from.ConfigGet(ctx, "notify-keyspace-events").Result()
	flags := now["notify-keyspace-events"]
	if err == nil && (!strings.Contains(flags, "E") || !strings.Contains(flags, "A")) {
		err = s.from.ConfigSet(ctx, "notify-keyspace-events", flags+notifyFlags).Err()
	}
	if err != nil && !refusal(err) {
		return s.from.fails("turn on its notifications", err)
	}
	s.events = c.PSubscribe(ctx, "__keyevent@*__:*")
	if _, err := s.events.Receive(ctx); err != nil {
		return s.from.fails("subscribe to its notifications", err)
	}
	// Whether they come is known when one has come.
	probe := ourPrefix + "probe:" + s.m.moveID()
	if err := s.from.Set(ctx, probe, "1", probeWait).Err(); err != nil {
		return s.from.fails("try its notifications", err)
	}
	wait, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	for {
		got, err := s.events.ReceiveTimeout(wait, probeWait)
		if wait.Err() != nil && ctx.Err() == nil || err != nil && !lost(err) {
			return &move.Refused{
				Reason: fmt.Sprintf("the %s takes no replica and sends no notifications", s.from.side),
				Fix:    "set notify-keyspace-events to " + notifyFlags + " there (in its parameter group, if it is a managed server)",
			}
		}
		if err != nil {
			return s.from.fails("try its notifications", err)
		}
		if message, ok := got.(*redis.Message); ok && message.Payload == probe {
			return nil
		}
	}
}

// hear notes what the notifications tell of.
func (s *scanning) hear(ctx context.Context) error {
	for {
		got, err := s.events.ReceiveTimeout(ctx, silence)
		var late interface{ Timeout() bool }
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &late) && late.Timeout():
			continue
		case err != nil: // what was missed is not known
			return s.from.fails("listen to its notifications", err)
		}
		s.mu.Lock()
		switch e := got.(type) {
		case *redis.Pong:
			s.pongs++
			s.notify()
		case *redis.Message:
			if at, ok := placeOfEvent(e); ok {
				s.taint(at)
			}
		}
		s.mu.Unlock()
	}
}

// placeOfEvent reads "__keyevent@3__:set" and the key.
func placeOfEvent(e *redis.Message) (place, bool) {
	rest, ok := strings.CutPrefix(e.Channel, "__keyevent@")
	if !ok || strings.HasPrefix(e.Payload, ourPrefix) {
		return place{}, false
	}
	number, _, _ := strings.Cut(rest, "__:")
	db, err := strconv.Atoi(number)
	return place{db, e.Payload}, err == nil
}

// look finds out what no notification tells of.
func (s *scanning) look(ctx context.Context) error {
	counts, err := s.counts(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if counts != s.commands {
		s.again = true
	}
	for at := range s.streams {
		s.taint(at)
	}
	s.mu.Unlock()
	return s.carryFunctions(ctx)
}

// counts are how often commands were used of which no notification tells.
func (s *scanning) counts(ctx context.Context) (string, error) {
	stats, err := s.from.info(ctx, "commandstats")
	if err != nil {
		return "", err
	}
	server, err := s.from.info(ctx, "server")
	if err != nil {
		return "", err
	}
	text := server["run_id"] // a restart forgets the counts
	for _, name := range []string{"flushall", "flushdb", "swapdb"} {
		calls, _, _ := strings.Cut(stats["cmdstat_"+name], ",")
		text += " " + calls
	}
	return text, nil
}

// carryFunctions makes the target's functions the source's.
func (s *scanning) carryFunctions(ctx context.Context) error {
	dump, err := s.from.FunctionDump(ctx).Result()
	if refusal(err) {
		return nil // Redis 6.2 has none
	}
	if err != nil {
		return s.from.fails("read its functions", err)
	}
	if dump == s.functions {
		return nil
	}
	if err := s.to.Do(ctx, "FUNCTION", "RESTORE", dump, "FLUSH").Err(); err != nil {
		return s.to.fails("restore functions", err)
	}
	s.functions = dump
	return nil
}
