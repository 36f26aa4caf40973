package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// An event must fire on one side only. The source's are disabled when it is sealed,
// and the names of those that were enabled are kept there, in the fence's row; Open
// enables the same ones at the target, Unfence enables them at the source again.
// Replication itself never enables an event at its end.

// errEventPast is the number of the error of an event whose one moment has passed.
const errEventPast = 1589

// timed is an event that was enabled.
type timed struct {
	Schema  string `json:"schema"`
	Event   string `json:"event"`
	Definer string `json:"definer"`
}

func (e timed) name() Name { return Name{e.Schema, e.Event} }

// enabledEvents lists the moving events that fire.
func (m *Mover) enabledEvents(ctx context.Context, q querier) ([]timed, error) {
	list := []timed{}
	err := scan(ctx, q, "SELECT event_schema, event_name, definer FROM information_schema.events WHERE status = 'ENABLED' ORDER BY event_schema, event_name", func(row func(...any) error) error {
		var e timed
		if err := row(&e.Schema, &e.Event, &e.Definer); err != nil {
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

// errNoEvent is the number of the error of an event that is not there.
const errNoEvent = 1539

// alterEvent keeps the event's owner, who would otherwise be us from then on.
func alterEvent(ctx context.Context, q querier, e timed, definer, change string) error {
	owner := ""
	if definer != "" {
		owner = "DEFINER = " + ownerName(definer) + " "
	}
	_, err := q.ExecContext(ctx, "ALTER "+owner+"EVENT "+e.name().SQL()+" "+change)
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

// disableEvents keeps events from firing. One that is gone meanwhile was a single one.
func disableEvents(ctx context.Context, q querier, list []timed) error {
	for _, e := range list {
		if err := alterEvent(ctx, q, e, e.Definer, "DISABLE"); err != nil && !isNumber(err, errNoEvent) {
			return fmt.Errorf("disable event %s: %w", e.name(), err)
		}
	}
	return nil
}

// enableEvents lets events fire, with the owners that they have on this server. A
// single one whose moment passed while no side fired is fired at once.
func enableEvents(ctx context.Context, q querier, list []timed) error {
	for _, e := range list {
		var definer string
		err := q.QueryRowContext(ctx, "SELECT definer FROM information_schema.events WHERE event_schema = ? AND event_name = ?", e.Schema, e.Event).Scan(&definer)
		if err == sql.ErrNoRows { //nolint:errorlint // Scan returns it bare
			continue // dropped since
		}
		if err == nil {
			err = alterEvent(ctx, q, e, definer, "ENABLE")
		}
		if isNumber(err, errEventPast) {
			err = alterEvent(ctx, q, e, definer, "ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 1 SECOND ENABLE")
		}
		if err != nil && !isNumber(err, errNoEvent) {
			return fmt.Errorf("enable event %s: %w", e.name(), err)
		}
	}
	return nil
}
