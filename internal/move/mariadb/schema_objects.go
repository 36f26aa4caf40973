package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"dhow/internal/move"
)

// object is a view, routine, trigger or event: what is made of a statement of the
// source, under the settings with which it was made there.
type object struct {
	name Name
	kind string // as after SHOW CREATE
	text string
	// settings of the session that makes it: its sql_mode, character set and so on.
	settings []string
}

// objects reads what is made after the rows, in an order in which most can be made.
func objects(ctx context.Context, q querier, c *Catalog) ([]object, error) {
	var list []object
	add := func(n Name, kind, column string, settings ...string) error {
		if _, err := q.ExecContext(ctx, "USE "+quote(n.Schema)); err != nil {
			return err
		}
		columns := append([]string{column, "character_set_client", "collation_connection"}, settings...)
		values, err := show(ctx, q, "SHOW CREATE "+kind+" "+quote(n.Name), columns...)
		if err != nil {
			return fmt.Errorf("read the definition of %s %s: %w", strings.ToLower(kind), n, err)
		}
		o := object{name: n, kind: kind, text: values[0], settings: []string{"character_set_client = " + values[1], "collation_connection = " + values[2]}}
		for i, s := range settings {
			o.settings = append(o.settings, s+" = "+quoteText(values[3+i]))
		}
		list = append(list, o)
		return nil
	}
	for _, r := range c.Routines {
		column := "Create " + r.Kind
		if strings.HasPrefix(r.Kind, "PACKAGE") {
			column = "Create " + strings.ToLower(r.Kind[:1]) + r.Kind[1:]
		}
		if err := add(r.Name, r.Kind, column, "sql_mode"); err != nil {
			return nil, err
		}
	}
	for _, n := range c.Views {
		if err := add(n, "VIEW", "Create View"); err != nil {
			return nil, err
		}
	}
	for _, t := range c.Triggers {
		if err := add(t.Name, "TRIGGER", "SQL Original Statement", "sql_mode"); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Events {
		if err := add(e.Name, "EVENT", "Create Event", "sql_mode", "time_zone"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// eventStatus is an event's status in its definition.
var eventStatus = regexp.MustCompile(`(ON COMPLETION (?:NOT )?PRESERVE) (?:ENABLE|DISABLE ON SLAVE|DISABLE)\b`)

// notExists are the words of a trigger's definition that do not go with OR REPLACE.
var notExists = regexp.MustCompile(`(?is)^(CREATE\b.*?\bTRIGGER\s+)IF\s+NOT\s+EXISTS\s+`)

// statement is what makes the object, also where it is already. Events come disabled:
// they run on one side only, and this is not yet the one.
func (o object) statement() string {
	text := o.text
	if o.kind == "TRIGGER" { // which keeps the words it was made with
		text = notExists.ReplaceAllString(text, "$1")
	}
	if rest, ok := strings.CutPrefix(text, "CREATE "); ok && !strings.HasPrefix(rest, "OR REPLACE ") {
		text = "CREATE OR REPLACE " + rest
	}
	if o.kind == "EVENT" {
		if at := eventStatus.FindStringSubmatchIndex(text); at != nil {
			text = text[:at[0]] + text[at[2]:at[3]] + " DISABLE" + text[at[1]:]
		}
	}
	return text
}

// Numbers of errors that say that something an object needs is not there yet, or
// that our account may not make it.
const (
	errNoSuchTable     = 1146
	errNoSuchRoutine   = 1305
	errViewInvalid     = 1356
	errNoSuchTrigger   = 4031
	errUnknownVariable = 1193
	errNeedsSuper      = 1419
	errUnsafeRoutine   = 1418
	errEventGone       = 1588
)

// makeObjects makes the views, routines, triggers and events on the target. Those
// that need one another are tried again until all are there.
func (l *loader) makeObjects(ctx context.Context) error {
	src, err := l.m.session(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(src)
	// A body's text is in its own session's character set, and goes on as it is.
	if _, err := src.ExecContext(ctx, "SET SESSION character_set_results = NULL"); err != nil {
		return fmt.Errorf("prepare a session of the source: %w", err)
	}
	todo, err := objects(ctx, src, l.catalog)
	if err != nil {
		return err
	}
	conn, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	l.board.Begin(move.PhaseIndex, len(todo))
	for len(todo) > 0 {
		var again []object
		var last error
		for _, o := range todo {
			err := makeObject(ctx, conn, o)
			switch {
			case isNumber(err, errNoSuchTable, errNoSuchRoutine, errViewInvalid, errNoSuchTrigger):
				again, last = append(again, o), err
			case isNumber(err, errAccessDenied, errNeedsSuper, errUnsafeRoutine):
				return &move.Refused{Reason: fmt.Sprintf("our account may not make %s %s on the target: %v", strings.ToLower(o.kind), o.name, err),
					Fix: "grant it SET USER there, and set log_bin_trust_function_creators = 1"}
			case err != nil:
				return err
			default:
				l.board.StepDone()
			}
		}
		if len(again) == len(todo) {
			return last
		}
		todo = again
	}
	return nil
}

func makeObject(ctx context.Context, conn *sql.Conn, o object) error {
	set := append([]string{"USE " + quote(o.name.Schema)}, "SET SESSION "+strings.Join(o.settings, ", "))
	for _, sql := range set {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("prepare to make %s %s: %w", strings.ToLower(o.kind), o.name, err)
		}
	}
	_, err := conn.ExecContext(ctx, o.statement())
	if o.kind == "EVENT" && isNumber(err, errEventGone) {
		return nil // its time is over, and it would not stay
	}
	if err != nil {
		return fmt.Errorf("make %s %s: %w", strings.ToLower(o.kind), o.name, err)
	}
	return nil
}
