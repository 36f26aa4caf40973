package mariadb

import (
	"context"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// perTable makes the find of a rule about each of the source's tables.
func perTable(hit func(*inspection, *Table) bool) func(context.Context, *inspection, *end) ([]finding, error) {
	return func(_ context.Context, x *inspection, e *end) ([]finding, error) {
		var found []finding
		for _, t := range e.catalog.Tables {
			if hit(x, t) {
				found = append(found, finding{"object": t.String(), "name": t.SQL(), "engine": t.Engine, "rows": strconv.FormatInt(t.Rows, 10)})
			}
		}
		return found, nil
	}
}

// tableRules are about the tables that move.
func tableRules() []rule {
	return []rule{
		{
			id: "engine", severity: move.Loses, on: onSource,
			title:       "A table's engine knows no snapshots.",
			find:        perTable(func(_ *inspection, t *Table) bool { return !t.Transactional() }),
			consequence: "{object} is of engine {engine}: what is written to it during the copy would be copied twice or not at all, so the copy refuses it (of MEMORY nothing outlives a restart, and FEDERATED, CONNECT or SPIDER keep their rows elsewhere)",
			fix:         "ALTER TABLE {name} ENGINE = InnoDB; -- or name it under exclude in the estate",
		},
		{
			id: "no-key", severity: move.Warns, on: onSource,
			title: "A table has no key.",
			find: perTable(func(x *inspection, t *Table) bool {
				return len(t.Key) == 0 && t.Bytes >= x.limits.keyless
			}),
			consequence: "{object} has no primary key and no unique index of columns that are never null: each change of a row has to search the whole table on the target, and a copy that is cut off in it begins anew",
			fix:         "ALTER TABLE {name} ADD COLUMN dhow_key BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY; -- or a key of its own",
		},
		{
			id: "history-lost", severity: move.Loses, on: onSource, pair: true,
			title: "The target can not take over a table's history.",
			find: perTable(func(x *inspection, t *Table) bool {
				return t.Versioned && x.target.version.before(serverVersion{10, 11})
			}),
			consequence: "{object} keeps its history (WITH SYSTEM VERSIONING), which a server before 10.11 writes itself and takes from nobody",
			fix:         "move to 10.11 or later, or name the table under exclude in the estate",
		},
		{
			id: "history-by-transaction", severity: move.Loses, on: onSource,
			title: "A table's history is told by numbers of transactions.",
			find: perTable(func(_ *inspection, t *Table) bool {
				c := t.Column(t.RowStart)
				return t.Versioned && c != nil && strings.EqualFold(c.DataType, "bigint")
			}),
			consequence: "{object} counts transactions, whose numbers are each server's own: what AS OF finds there after the move is not what it found before",
			fix:         "keep its history by time (TIMESTAMP(6) columns AS ROW START and ROW END), or name it under exclude in the estate",
		},
		{
			id: "parent-stays", severity: move.Loses, on: onSource,
			title: "A foreign key refers to a table that does not move.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				var found []finding
				for _, t := range e.catalog.Tables {
					for _, f := range t.ForeignKeys {
						if e.catalog.Table(f.Parent) == nil {
							found = append(found, finding{"object": t.String(), "name": t.SQL(), "key": quote(f.Name), "parent": f.Parent.String()})
						}
					}
				}
				return found, nil
			},
			consequence: "{object} refers to {parent}, which would not be on the target: rows would be refused there, and what the key changes by ON DELETE or ON UPDATE fires no trigger, so it would pass by the guard and is in no log",
			fix:         "ALTER TABLE {name} DROP FOREIGN KEY {key}; -- or let {parent} move too (schemas and exclude, in the estate)",
		},
		{
			id: "child-stays", severity: move.Warns, on: onSource,
			title:       "A foreign key from a table that stays behind.",
			find:        childrenBehind,
			consequence: "{object} stays behind and refers to {parent}, which moves: after the cutover nobody checks that any more",
			fix:         "let {object} move too (schemas and exclude, in the estate)",
		},
	}
}

// childrenBehind finds tables that refer to one that moves and do not move themselves.
func childrenBehind(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
	all, err := e.rows(ctx, `SELECT constraint_schema AS schema_name, table_name, unique_constraint_schema AS parent_schema, referenced_table_name AS parent_name
		FROM information_schema.referential_constraints WHERE unique_constraint_schema `+e.in)
	var found []finding
	for _, r := range all {
		child, parent := Name{r["schema_name"], r["table_name"]}, Name{r["parent_schema"], r["parent_name"]}
		if e.catalog.Table(parent) != nil && e.catalog.Table(child) == nil {
			found = append(found, finding{"object": child.String(), "parent": parent.String()})
		}
	}
	return found, err
}

// objectRules are about what is no table.
func objectRules() []rule {
	return []rule{
		{
			id: "our-names", severity: move.Loses, on: onSource, fresh: true,
			title: "A trigger has a name of ours.",
			find: func(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
				return e.rows(ctx, "SELECT CONCAT(trigger_schema, '.', trigger_name) AS object, CONCAT('`', REPLACE(trigger_schema, '`', '``'), '`.`', REPLACE(trigger_name, '`', '``'), '`') AS name FROM information_schema.triggers WHERE trigger_schema "+
					e.in+" AND LEFT(trigger_name, ?) = ?", len(ourPrefix), ourPrefix)
			},
			consequence: "triggers whose names begin with dhow_ are taken for those of a move: {object} would stay behind, and finish would drop it",
			fix:         "DROP TRIGGER {name}; -- and make it anew under another name, if it is not what an earlier move left behind",
		},
		{
			id: "hidden-routine", severity: move.Loses, on: onSource,
			title: "Our account does not see what a routine does.",
			find: func(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
				return e.rows(ctx, "SELECT CONCAT(routine_schema, '.', routine_name) AS object FROM information_schema.routines WHERE routine_schema "+e.in+" AND routine_definition IS NULL")
			},
			consequence: "the body of {object} is shown to its definer and to who may read the server's own tables: it could not be made on the target",
			fix:         "GRANT SELECT ON mysql.* TO {role}",
		},
		{
			id: "broken-view", severity: move.Loses, on: onSource,
			title:       "A view does not work.",
			find:        brokenViews,
			consequence: "{object} can not be read ({why}): it could not be made on the target",
			fix:         "DROP VIEW {name}; -- or make what it refers to",
		},
	}
}

// brokenViews finds views whose tables or columns are gone.
func brokenViews(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
	var found []finding
	for _, n := range e.catalog.Views {
		said, err := e.rows(ctx, "CHECK TABLE "+n.SQL())
		if err != nil {
			return nil, err
		}
		for _, r := range said {
			if strings.EqualFold(r["Msg_type"], "Error") {
				found = append(found, finding{"object": n.String(), "name": n.SQL(), "why": r["Msg_text"]})
				break
			}
		}
	}
	return found, nil
}
