package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// codeRules are about functions.
var codeRules = []rule{
	{
		id: "function-search-path", severity: move.Loses, on: onSource, find: brokenExpressions,
		title:       "An index, a constraint or a generated column calls a function that works under one search_path only.",
		consequence: "{function}, which table {table} needs for {what}, fails where search_path is not the application's ({error}): so do the copy, the making of the index or the stream",
		fix:         "ALTER FUNCTION {function} SET search_path = {schema}, pg_catalog, pg_temp",
	},
	{
		id: "untrusted-language", severity: move.Loses, on: onTarget, fresh: true, find: untrusted,
		title:       "A function needs a superuser to be made.",
		consequence: "it is written in the untrusted language {language}: the target's user is no superuser, and the schema can not be made",
		fix:         "drop it or write it anew in a trusted language, or put it into an extension of the target; a superuser may move the schema: ALTER ROLE {role} SUPERUSER",
	},
	{
		id: "c-function", severity: move.Warns, on: onSource,
		title: "A function is in a library on the server's disk.",
		sql: `SELECT p.oid::regprocedure::text AS object, p.probin AS library FROM pg_proc p JOIN nsp ON nsp.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c'
			WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')`,
		consequence: "the schema can be made only where the library {library} is on the target's disk too, for its version of PostgreSQL",
		fix:         "install the library on the target, or drop the function",
	},
	{
		id: "security-definer", severity: move.Warns, on: onTarget, find: powerful,
		title:       "A function runs with the rights of a superuser, who is none on the target.",
		consequence: "it runs as {owner}, who is a superuser on the source and not on the target: what it needs those rights for fails after the cutover",
		fix:         "give it to a role with just the rights that it needs, on the source: ALTER FUNCTION {object} OWNER TO that role",
	},
}

// expression is one that the target will compute, as a statement that tries it.
type expression struct{ Table, What, Function, Schema, SQL string }

// unresolved are the SQLSTATEs of a name that was not found: a table, a
// function, a type or operator, a schema.
var unresolved = []string{"42P01", "42883", "42704", "3F000"}

// brokenExpressions tries, under the search_path under which the target computes
// them, all expressions that call functions of the database's own, on a row of
// their table. The functions are immutable by their own word, the session is read-only.
func brokenExpressions(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	// The rows of a table, or one of nulls where it is empty.
	const try = `format('SELECT %s FROM (SELECT * FROM ONLY %s UNION ALL SELECT (NULL::%s).* LIMIT 1) q', x.expr, r.name, r.name)`
	rows, err := e.conn.Query(ctx, prelude+`SELECT DISTINCT ON (p.oid) r.object, x.what, p.oid::regprocedure::text, quote_ident(n.nspname), `+try+`
		FROM (SELECT i.indrelid AS of, 'index ' || c.relname AS what, 'pg_class'::regclass AS class, c.oid AS id, concat_ws(', ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)) AS expr
				FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
			UNION ALL SELECT adrelid, 'generated column ' || a.attname, 'pg_attrdef'::regclass, d.oid, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attgenerated <> ''
			UNION ALL SELECT conrelid, 'constraint ' || conname, 'pg_constraint'::regclass, oid, pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0) x
		JOIN rel r ON r.oid = x.of AND r.relkind IN ('r', 'p')
		JOIN pg_depend d ON d.classid = x.class AND d.objid = x.id AND d.refclassid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.refobjid AND p.oid >= 16384 JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AND has_table_privilege(r.oid, 'SELECT')`, e.args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[expression])
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, ex := range list {
		_, err := e.conn.Exec(ctx, ex.SQL)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) {
			if err != nil {
				return nil, fmt.Errorf("try %s of table %s: %w", ex.What, ex.Table, err)
			}
			continue
		}
		if slices.Contains(unresolved, pg.Code) { // its message names an object; any other may hold a row's values
			found = append(found, finding{"object": ex.Function, "function": ex.Function, "schema": ex.Schema, "table": ex.Table, "what": ex.What, "error": pg.Message})
		}
	}
	return found, nil
}

func untrusted(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	if e.super {
		return nil, nil
	}
	return x.source.look(ctx, `SELECT p.oid::regprocedure::text AS object, l.lanname AS language FROM pg_proc p JOIN nsp ON nsp.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang AND NOT l.lanpltrusted
		WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') AND l.lanname <> 'sql'`)
}

// powerful are the functions whose owner has lost its power on the target.
func powerful(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	all, err := x.source.look(ctx, `SELECT p.oid::regprocedure::text AS object, o.rolname AS owner FROM pg_proc p JOIN nsp ON nsp.oid = p.pronamespace JOIN pg_roles o ON o.oid = p.proowner
		WHERE p.prosecdef AND o.rolsuper AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')`)
	if err != nil {
		return nil, err
	}
	roles, err := e.roles(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f finding) bool { super, there := roles[x.m.roleThere(f["owner"])]; return super || !there }), nil
}
