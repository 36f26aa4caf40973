package postgres

import "dhow/internal/move"

// columnsOf lists columns of what moves, with their types looked through domains and arrays, for the rules below.
const columnsOf = `FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p') AND NOT r.relispartition
	JOIN pg_type own ON own.oid = a.atttypid JOIN pg_type t ON t.oid = CASE WHEN own.typtype = 'd' THEN own.typbasetype WHEN own.typelem <> 0 AND own.typlen = -1 THEN own.typelem ELSE own.oid END `

// columnRules are about values that mean something on their own server only.
var columnRules = []rule{
	{
		id: "oid-column", severity: move.Warns, on: onSource,
		title:       "A column holds numbers of the server's own objects.",
		sql:         `SELECT r.object || '.' || a.attname AS object, r.name, quote_ident(a.attname) AS column ` + columnsOf + `WHERE t.oid = 'oid'::regtype AND own.oid = t.oid AND a.attgenerated = ''`,
		consequence: "its numbers move as they are: large objects keep theirs, but tables, types and roles have others on the target",
		fix:         "ALTER TABLE {name} ALTER COLUMN {column} TYPE bigint USING {column}::bigint; -- unless it names large objects alone",
	},
	{
		id: "name-column", severity: move.Warns, on: onSource,
		title: "A column holds references to objects of the database.",
		sql: `SELECT r.object || '.' || a.attname AS object, r.name, quote_ident(a.attname) AS column, format_type(own.oid, NULL) AS type ` + columnsOf +
			`WHERE t.typname LIKE 'reg%' AND t.typnamespace = 'pg_catalog'::regnamespace AND a.attgenerated = ''`,
		consequence: "values of type {type} move by name: one whose object is not on the target yet stops the copy or the stream",
		fix:         "ALTER TABLE {name} ALTER COLUMN {column} TYPE text USING {column}::text",
	},
	{
		id: "transaction-column", severity: move.Warns, on: onSource,
		title: "A column holds transaction numbers or log positions.",
		sql: `SELECT r.object || '.' || a.attname AS object, format_type(own.oid, NULL) AS type ` + columnsOf +
			`WHERE t.oid IN ('xid'::regtype, 'xid8'::regtype, 'cid'::regtype, 'tid'::regtype, 'txid_snapshot'::regtype, 'pg_snapshot'::regtype, 'pg_lsn'::regtype)`,
		consequence: "values of type {type} move as they are, but the target counts by itself: code that compares them with the server's present ones (an outbox, a change feed) skips or repeats rows after the cutover",
		fix:         "let that code begin anew on the target after the cutover",
	},
	{
		id: "generated-column", severity: move.Warns, on: onSource,
		title: "A generated column is computed by a function of the database's own.",
		sql: `SELECT r.object || '.' || a.attname AS object, string_agg(DISTINCT d.refobjid::regprocedure::text, ', ') AS function ` + columnsOf +
			`JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384
			WHERE a.attgenerated <> '' GROUP BY 1`,
		consequence: "the target computes it anew: the values are the same only if {function} gives the same for the same row, always",
		fix:         "compare with `dhow verify`, which covers generated columns; make the function really immutable",
	},
	{
		id: "base-type", severity: move.Warns, on: onSource,
		title: "A type of the database's own is made of C functions.",
		sql: `SELECT format_type(t.oid, NULL) AS object FROM pg_type t JOIN nsp ON nsp.oid = t.typnamespace WHERE t.typtype = 'b' AND t.typelem = 0 AND t.typarray <> 0
			AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')`,
		consequence: "its values move in their binary form, which the same version of its library must read on the target",
		fix:         "install the same version of its library on the target",
	},
}
