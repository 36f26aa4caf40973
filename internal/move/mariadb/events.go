package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"dhow/internal/move"
)

// An event must fire on one side only. The source's are disabled when it is sealed,
// and the names of those that were enabled are kept there, in the fence's row; Open
// enables the same ones at the target, Unfence enables them at the source again.
// Replication itself never enables an event at its end.

const (
	errNoEvent   = 1539
	errEventPast = 1589 // its one moment has passed
)

// timed names an event that was enabled.
type timed struct {
	Schema string `json:"schema"`
	Event  string `json:"event"`
}

// event is an event as a server has it. Its owner, and the character set that its
// text was written in, must not become ours when we change it.
type event struct {
	Name
	status, definer, charset, collation string
}

// events lists a server's moving events.
func (m *Mover) events(ctx context.Context, q querier) ([]event, error) {
	var list []event
	err := scan(ctx, q, "SELECT event_schema, event_name, status, definer, character_set_client, collation_connection FROM information_schema.events ORDER BY event_schema, event_name", func(row func(...any) error) error {
		var e event
		if err := row(&e.Schema, &e.Name.Name, &e.status, &e.definer, &e.charset, &e.collation); err != nil {
			return err
		}
		if m.moves(e.Schema) {
			list = append(list, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the events: %w", err)
	}
	return list, nil
}

// enabledEvents lists the moving events that fire.
func (m *Mover) enabledEvents(ctx context.Context, q querier) ([]timed, error) {
	all, err := m.events(ctx, q)
	list := []timed{}
	for _, e := range all {
		if e.status == "ENABLED" {
			list = append(list, timed{e.Schema, e.Name.Name})
		}
	}
	return list, err
}

// alter changes an event's state and nothing else of it.
func (e event) alter(ctx context.Context, q querier, change string) error {
	sql := "ALTER DEFINER = " + ownerName(e.definer) + " EVENT " + e.SQL() + " " + change
	foreign := e.charset != "utf8mb4" && strings.IndexFunc(sql, func(r rune) bool { return r > unicode.MaxASCII }) < 0
	if foreign {
		if _, err := q.ExecContext(ctx, "SET SESSION character_set_client = "+quoteText(e.charset)+", SESSION collation_connection = "+quoteText(e.collation)); err != nil {
			return err
		}
	}
	_, err := q.ExecContext(ctx, sql)
	if foreign {
		if _, back := q.ExecContext(ctx, "SET NAMES utf8mb4 COLLATE utf8mb4_bin"); err == nil {
			err = back
		}
	}
	if isNumber(err, errAccessDenied) {
		return &move.Refused{Reason: fmt.Sprintf("event %s belongs to %s, for whom the user may not act", e.Name, e.definer), Fix: "GRANT SET USER (before version 10.5: SUPER) to the user, or let it own the event"}
	}
	return err
}

// ownerName quotes an account as a server names it: user@host.
func ownerName(name string) string {
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return quote(name)
	}
	return quote(name[:at]) + "@" + quote(name[at+1:])
}

// disableTries bounds how often an event is disabled that its scheduler enables again.
const disableTries = 5

// disableEvents keeps events from firing. One that is gone meanwhile fired for the last
// time. A scheduler that lets an event fire notes its state as it knew it a moment ago:
// so it is seen whether they stay disabled.
func (m *Mover) disableEvents(ctx context.Context, q querier, which []timed) error {
	if len(which) == 0 {
		return nil
	}
	for try := 0; ; try++ {
		all, err := m.events(ctx, q)
		if err != nil {
			return err
		}
		done := true
		for _, e := range all {
			if !slices.Contains(which, timed{e.Schema, e.Name.Name}) || try > 0 && e.status != "ENABLED" {
				continue
			}
			done = false
			if try == disableTries {
				return fmt.Errorf("disable event %s: it was enabled again %d times", e.Name, try)
			}
			if err := e.alter(ctx, q, "DISABLE"); err != nil && !isNumber(err, errNoEvent) {
				return fmt.Errorf("disable event %s: %w", e.Name, err)
			}
		}
		if done {
			return nil
		}
	}
}

// enableEvents lets events fire, as far as they are there. A single one whose moment
// passed while no side fired is fired at once.
func (m *Mover) enableEvents(ctx context.Context, q querier, which []timed) error {
	if len(which) == 0 {
		return nil
	}
	all, err := m.events(ctx, q)
	if err != nil {
		return err
	}
	for _, e := range all {
		if !slices.Contains(which, timed{e.Schema, e.Name.Name}) || e.status == "ENABLED" {
			continue
		}
		err := e.alter(ctx, q, "ENABLE")
		if isNumber(err, errEventPast) {
			err = e.alter(ctx, q, "ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 1 SECOND ENABLE")
		}
		if err != nil && !isNumber(err, errNoEvent) {
			return fmt.Errorf("enable event %s: %w", e.Name, err)
		}
	}
	return nil
}

// ownEvents changes events that are disabled to what they are, so that a missing
// privilege shows before the fence and not behind it.
func (m *Mover) ownEvents(ctx context.Context, sides ...*worker) error {
	for _, w := range sides {
		all, err := m.events(ctx, w)
		if err != nil {
			return err
		}
		for _, e := range all {
			if e.status != "DISABLED" {
				continue
			}
			if err := e.alter(ctx, w, "DISABLE"); err != nil && !isNumber(err, errNoEvent) {
				return fmt.Errorf("at the %s: %w", m.named(w.side), err)
			}
		}
	}
	return nil
}
