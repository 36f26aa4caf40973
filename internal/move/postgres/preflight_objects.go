package postgres

import "dhow/internal/move"

// objectRules are about what is no table.
var objectRules = []rule{
	{
		id: "large-objects", severity: move.Warns, on: onSource,
		title: "The database holds large objects.",
		sql: `SELECT current_database() AS object, objects, pg_size_pretty(pg_table_size('pg_catalog.pg_largeobject')) AS size,
				(SELECT string_agg(DISTINCT quote_ident(pg_get_userbyid(lomowner)), ', ') FROM pg_largeobject_metadata) AS owners FROM given WHERE objects > 0`,
		consequence: "no change stream carries its {objects} large objects ({size}): they are copied before the fence and compared under it, which costs stall; owners ({owners}) and grants do not move",
		fix:         "remove those that nobody refers to (vacuumlo), and after the cutover set owners on the target with ALTER LARGE OBJECT ... OWNER TO",
	},
	{
		id: "sequence-near-end", severity: move.Warns, on: onSource,
		title: "A sequence is close to its end, or to that of its column's type.",
		sql: `SELECT object, last, most, CASE WHEN small THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint; ', tab, col) ELSE '' END ||
				CASE WHEN most = seqmax AND NOT identity THEN format('ALTER SEQUENCE %s AS bigint NO MAXVALUE', name) WHEN most = seqmax THEN format('ALTER TABLE %s ALTER COLUMN %I SET NO MAXVALUE', tab, col) ELSE format('SELECT %L::regclass', name) END AS widen
			FROM (SELECT r.object, r.name, coalesce(pg_sequence_last_value(r.oid), s.seqstart) AS last, s.seqmax, s.seqincrement, coalesce(d.deptype = 'i', false) AS identity, d.refobjid::regclass::text AS tab, a.attname AS col, a.atttypid IN (21, 23) AS small,
					least(s.seqmax, CASE a.atttypid WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE s.seqmax END) AS most
				FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
				LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
				WHERE NOT s.seqcycle AND s.seqincrement > 0 AND CASE r.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, 'SELECT') END) q WHERE last > most * 0.9`,
		consequence: "it stands at {last} of {most}: soon the application's inserts fail, and no type may be changed in the middle of a move",
		fix:         "{widen}",
		example:     "`ALTER TABLE <table> ALTER COLUMN <column> TYPE bigint; ALTER SEQUENCE <name> AS bigint NO MAXVALUE`, which writes the table anew under a lock",
	},
	{
		id: "materialized-view", severity: move.Warns, on: onSource,
		title:       "There is a materialized view.",
		sql:         `SELECT object, name FROM rel WHERE relkind = 'm' AND relispopulated`,
		consequence: "it is computed anew on the target before the fence: until its next refresh there it may show more than the source's does, or less",
		fix:         "REFRESH MATERIALIZED VIEW {name} on the target after the cutover, where it matters",
	},
	{
		id: "security-label", severity: move.Warns, on: onSource,
		title:       "Objects carry security labels.",
		sql:         `SELECT provider AS object, count(*) AS labels FROM pg_seclabels GROUP BY provider`,
		consequence: "its {labels} labels do not move: what they protect is unprotected on the target",
		fix:         "set them on the target after the cutover with SECURITY LABEL",
	},
	{
		id: "tablespace", severity: move.Warns, on: onSource,
		title: "A table or an index has a tablespace of its own.",
		sql: `SELECT r.object, s.spcname AS space FROM rel r JOIN pg_tablespace s ON s.oid = r.reltablespace
			UNION SELECT format('%s.%s', n.nspname, c.relname), s.spcname FROM rel r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_tablespace s ON s.oid = c.reltablespace`,
		consequence: "it is made in the target database's own tablespace instead of {space}: the target's disk must have room for it",
		fix:         "give the target database the tablespace that is wanted, ALTER DATABASE ... SET TABLESPACE, while it is empty",
	},
}
