package mariadb

import (
	"context"
	"fmt"
	"strings"

	"dhow/internal/move"
)

// Leftovers lists what moves have left behind on a side, "source" or "target" as
// this direction names them; those of another estate on the same server too.
func (m *Mover) Leftovers(ctx context.Context, side string) ([]move.Leftover, error) {
	conn, err := m.session(ctx, side)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	list := []move.Leftover{}
	add := func(kind string) func(func(...any) error) error {
		return func(row func(...any) error) error {
			var name string
			if err := row(&name); err != nil {
				return err
			}
			list = append(list, move.Leftover{Kind: kind, Name: name})
			return nil
		}
	}
	if err := m.leftReplications(ctx, conn, side, &list); err != nil {
		return nil, err
	}
	err = scan(ctx, conn, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'dhow'", add("schema"))
	if err != nil {
		return nil, fmt.Errorf("look for what is left at the %s: %w", m.named(side), err)
	}
	err = scan(ctx, conn, "SELECT CONCAT(event_object_schema, '.', event_object_table) FROM information_schema.triggers WHERE trigger_name LIKE 'dhow\\_%' ORDER BY 1", add("trigger"))
	if err != nil {
		return nil, fmt.Errorf("look for what is left at the %s: %w", m.named(side), err)
	}
	return list, nil
}

// leftReplications lists the replications of ours that end at a side. A managed
// server's has no name of its own.
func (m *Mover) leftReplications(ctx context.Context, q querier, side string, list *[]move.Leftover) error {
	of := m
	if side == source {
		of = m.reversed()
	}
	r, err := of.replication(ctx, q)
	if err != nil {
		return err
	}
	if _, managed := r.(*rdsReplication); managed {
		s, err := r.status(ctx, q)
		if err == nil && s != nil && s.host == of.cfg.SourceReplica.Host {
			*list = append(*list, move.Leftover{Kind: "replication", Name: s.host})
		}
		return err
	}
	rows, err := q.QueryContext(ctx, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return fmt.Errorf("ask the %s for its replications: %w", m.named(side), err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("ask the %s for its replications: %w", m.named(side), err)
	}
	var name string
	values := make([]any, len(columns))
	for i, c := range columns {
		values[i] = new(any)
		if c == "Connection_name" {
			values[i] = &name
		}
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return fmt.Errorf("ask the %s for its replications: %w", m.named(side), err)
		}
		if strings.HasPrefix(name, ourPrefix) {
			*list = append(*list, move.Leftover{Kind: "replication", Name: name})
		}
	}
	return rows.Err()
}
