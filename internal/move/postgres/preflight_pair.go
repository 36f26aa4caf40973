package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"dhow/internal/move"
)

// pairRules are about whether these two databases may be the two ends of a move.
var pairRules = []rule{
	{
		id: "same-database", severity: move.Loses, on: onTarget, find: sameDatabase,
		title:       "Source and target are the same database.",
		consequence: "both ends lead to database {object} of one server: there is nothing to move, and its data would be emptied by itself",
		fix:         "name another target in the estate",
	},
	{
		id: "same-server", severity: move.Warns, on: onTarget, find: sameServer,
		title:       "Source and target are on the same server.",
		consequence: "databases {object} are on one server: the move works, but the server bears both sides' load, and an end of it is an end of both",
		fix:         "check databases[].source and databases[].target in the estate; nothing, if it is meant so",
	},
	{
		id: "cloned-server", severity: move.Loses, on: onTarget, find: clonedServer,
		title:       "The target's server is a physical copy of the source's.",
		consequence: "both say that they are database {object} of one server, and the move refuses to take one for the other",
		fix:         "make the target database under another name, or on a server that was made by initdb",
	},
	{
		id: "target-not-empty", severity: move.Loses, on: onTarget, fresh: true, find: notEmpty,
		title:       "The target is not empty.",
		consequence: "schema {object} of the target {what}: the move is refused rather than mixed with what is there",
		fix:         "{drop}; -- only if nothing in it is needed; else name an empty database in the estate",
		example:     "`DROP SCHEMA <object> CASCADE`, only if nothing in it is needed; else name an empty database in the estate",
	},
	{
		id: "other-move", severity: move.Loses, on: onTarget, find: otherMove,
		title:       "The target holds the state of another move.",
		consequence: "move {object} ends in this database already: two moves can not fill one target",
		fix:         "run `dhow finish` with the estate of that move first, or name another target",
	},
	{
		id: "source-refuses", severity: move.Loses, on: onSource, fresh: true, find: sourceRefuses,
		title:       "The source refuses writes, since another move has closed it.",
		consequence: "the data of database {object} is served elsewhere: this is not the side that takes writes",
		fix:         "name the side that is served as the source; or, if that move is over, run `dhow finish` with its estate",
	},
	{
		id: "unknown-name", severity: move.Loses, on: onSource, find: unknownNames,
		title:       "The estate names a schema, a table or a role that the source does not have.",
		consequence: "{what} {object} is not on the source: a typing error here leaves something behind, or moves too much",
		fix:         "correct {key} in the estate",
	},
	{
		id: "older-target", severity: move.Warns, on: onTarget, find: olderTarget,
		title:       "The target's version is lower than the source's.",
		consequence: "the source is PostgreSQL {want}, the target {found}: what uses anything newer than the target can not be made there",
		fix:         "move to version {want} or later, if nothing speaks against it",
	},
	{
		id: "encoding", severity: move.Loses, on: onTarget, fresh: true, find: encodings,
		title:       "The target's encoding can not hold every text of the source.",
		consequence: "the source is encoded in {want}, the target in {found}: a text that has no form there stops the copy or the stream",
		fix:         "{create}",
		example:     "`DROP DATABASE <database>; CREATE DATABASE <database> TEMPLATE template0 ENCODING ... LC_COLLATE ... LC_CTYPE ...`, as the source is, from another database of the target's server",
	},
	{
		id: "collation", severity: move.Warns, on: onTarget, fresh: true, find: collations,
		title:       "The target sorts or compares text by other rules.",
		consequence: "{object} is \"{found}\" on the target and \"{want}\" on the source: ORDER BY, ranges of text (partitions too), upper() and lower() give other results",
		fix:         "{create}",
		example:     "`DROP DATABASE <database>; CREATE DATABASE <database> TEMPLATE template0 ENCODING ... LC_COLLATE ... LC_CTYPE ...`, as the source is, from another database of the target's server",
	},
	{
		id: "collation-version", severity: move.Warns, on: onTarget, find: collationVersions,
		title:       "The target's library sorts text in another version.",
		consequence: "collation {object} is version {want} on the source and {found} on the target: some texts sort otherwise after the cutover; indexes are built anew and are sound",
		fix:         "look at what depends on the order of text: ranges, partitions by text, exports that are compared",
	},
	{
		id: "collation-changed", severity: move.Warns, on: onEither,
		title: "The server's library sorts text in another version than when its indexes were built.",
		sql: `SELECT 'database ' || current_database() AS object, to_jsonb(d)->>'datcollversion' AS recorded, format('REINDEX DATABASE %I; ALTER DATABASE %I REFRESH COLLATION VERSION', datname, datname) AS refresh FROM pg_database d
				WHERE datname = current_database() AND current_setting('server_version_num')::int >= 150000 AND to_jsonb(d)->>'datcollversion' IS DISTINCT FROM (SELECT pg_collation_actual_version(c.oid) FROM pg_collation c
					WHERE c.collcollate = d.datcollate AND c.collprovider = 'c' AND c.collencoding IN (-1, d.encoding) ORDER BY c.oid LIMIT 1) AND to_jsonb(d)->>'datcollversion' IS NOT NULL
			UNION ALL SELECT 'collation ' || c.oid::regcollation, c.collversion, format('ALTER COLLATION %s REFRESH VERSION', c.oid::regcollation) FROM pg_collation c
				WHERE c.collversion IS NOT NULL AND c.collversion <> pg_collation_actual_version(c.oid) AND (c.collnamespace <> 'pg_catalog'::regnamespace OR EXISTS (SELECT FROM pg_attribute a WHERE a.attcollation = c.oid))`,
		consequence: "{object} was {recorded} then: indexes on text may be out of order, so that rows are not found and unique keys hold duplicates, which the target would refuse",
		fix:         "{refresh}; -- and REINDEX what uses it",
		example:     "`REINDEX DATABASE <database>; ALTER DATABASE <database> REFRESH COLLATION VERSION`, or `ALTER COLLATION <name> REFRESH VERSION` and REINDEX what uses it",
	},
	{
		id: "collation-missing", severity: move.Loses, on: onTarget, find: collationsMissing,
		title:       "A column's collation is not on the target.",
		consequence: "columns ({column} for one) use it: their tables can not be made",
		fix:         "install that locale on the target's host, then SELECT pg_import_system_collations('pg_catalog'); or give the columns a collation that both have",
	},
	{
		id: "schema-changed", severity: move.Loses, on: onTarget, find: changedSchema(true),
		title:       "The source's schema was changed during the move, and the target's was not.",
		consequence: "{object} {what} on the source: the stream waits until the target has it too",
		fix:         "{make}",
		example:     "the statements that make the same change on the target",
	},
	{
		id: "schema-behind", severity: move.Warns, on: onTarget, find: changedSchema(false),
		title:       "Something without rows was changed on the source during the move, and is not on the target.",
		consequence: "{object} {what} on the source: it would be missing after the cutover",
		fix:         "{make}",
		example:     "the statements that make the same change on the target",
	},
}

// kinship says how two ends are related.
type kinship int

const (
	strangers  kinship = iota
	oneServer          // two databases of it
	oneAndSame         // one database
	clones             // two servers that say that they are one
)

// related finds out whether both ends lead to the same server, by a sign that
// only the very same server shows: a session lock, which needs no right and
// changes nothing. What a server calls itself is asked too; a physical copy
// calls itself as its original does.
func (x *inspection) related(ctx context.Context) (kinship, error) {
	key := rand.Int64()
	if _, err := x.source.conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
		return strangers, err
	}
	defer func() {
		last, cancel := parting(ctx)
		defer cancel()
		_, _ = x.source.conn.Exec(last, "SELECT pg_advisory_unlock($1)", key) // it ends with the session too
	}()
	var seen, here bool
	err := x.target.conn.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_or(database = (SELECT oid FROM pg_database WHERE datname = current_database())), false)
		FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = $1::bigint AND objid::bigint = $2::bigint AND objsubid = 1`, key>>32, key&0xffffffff).Scan(&seen, &here)
	switch {
	case err != nil:
		return strangers, err
	case here:
		return oneAndSame, nil
	case seen:
		return oneServer, nil
	}
	var ids [2]string
	for i, e := range []*end{x.source, x.target} {
		if err := e.conn.QueryRow(ctx, "SELECT CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') THEN 'known' ELSE '' END").Scan(&ids[i]); err != nil {
			return strangers, err
		}
		if ids[i] == "" {
			return strangers, nil // rule identity-hidden tells
		}
		if ids[i], err = databaseID(ctx, e.conn); err != nil {
			return strangers, err
		}
	}
	if ids[0] == ids[1] {
		return clones, nil
	}
	return strangers, nil
}

func relatedAs(ctx context.Context, x *inspection, want kinship, object string) ([]finding, error) {
	is, err := x.related(ctx)
	if err != nil || is != want {
		return nil, err
	}
	return []finding{{"object": object}}, nil
}

func sameDatabase(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return relatedAs(ctx, x, oneAndSame, e.database)
}

func sameServer(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return relatedAs(ctx, x, oneServer, x.source.database+" and "+e.database)
}

func clonedServer(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return relatedAs(ctx, x, clones, e.database)
}

// notEmpty are the target's schemas that stand in the move's way.
func notEmpty(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	is, err := x.related(ctx)
	if err != nil || is == oneAndSame { // told already, and nobody should empty that
		return nil, err
	}
	coming, err := x.source.look(ctx, "SELECT nspname AS object FROM nsp")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range coming {
		names = append(names, f["object"])
	}
	rows, err := e.conn.Query(ctx, `SELECT nspname, coalesce((SELECT 'holds ' || c.relname || CASE count(*) OVER () WHEN 1 THEN '' ELSE format(' and %s more', count(*) OVER () - 1) END FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
				AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e') ORDER BY c.relname LIMIT 1),
			CASE WHEN nspname = ANY ($1) THEN (SELECT 'holds ' || p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = n.oid AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') LIMIT 1) END,
			CASE WHEN nspname = ANY ($1) THEN (SELECT 'holds type ' || t.typname FROM pg_type t WHERE t.typnamespace = n.oid AND t.typtype IN ('e', 'd', 'r', 'c') AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e') LIMIT 1) END,
			CASE WHEN nspname = ANY ($1) AND nspname <> 'public' THEN 'exists already' END, '')
		FROM pg_namespace n WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'dhow')
			AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')`, nonNil(names))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []finding
	for rows.Next() {
		var schema, what string
		if err := rows.Scan(&schema, &what); err != nil {
			return nil, err
		}
		drop := "DROP SCHEMA " + ident(schema) + " CASCADE"
		if schema == "public" {
			drop += "; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC"
		}
		if what != "" {
			found = append(found, finding{"object": schema, "what": what, "drop": drop})
		}
	}
	return found, rows.Err()
}

func otherMove(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	if has, err := hasState(ctx, e.conn); err != nil || !has {
		return nil, err
	}
	return e.look(ctx, "SELECT s.name AS object FROM dhow.stream s, given WHERE s.name NOT IN (stream, back)")
}

func sourceRefuses(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
	if has, err := hasState(ctx, e.conn); err != nil || !has {
		return nil, err
	}
	return e.look(ctx, "SELECT current_database() AS object FROM dhow.fence LIMIT 1")
}

// unknownNames holds the estate's names against the source.
func unknownNames(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	var found []finding
	cfg := x.m.cfg
	from := make([]string, 0, len(cfg.Roles))
	for name, to := range cfg.Roles {
		if cfg.Back {
			name = to
		}
		from = append(from, name)
	}
	for _, of := range []struct {
		what, key, sql string
		names          []string
	}{
		{"schema", "databases[].schemas", "SELECT nspname FROM pg_namespace", cfg.Schemas},
		{"table", "databases[].exclude", "SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace", cfg.Exclude},
		{"role", "databases[].roles", "SELECT rolname FROM pg_roles", from},
	} {
		rows, err := e.conn.Query(ctx, "SELECT n FROM unnest($1::text[]) n WHERE n NOT IN ("+of.sql+")", nonNil(of.names))
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				rows.Close()
				return nil, err
			}
			found = append(found, finding{"object": name, "what": of.what, "key": of.key})
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func olderTarget(_ context.Context, x *inspection, e *end) ([]finding, error) {
	if e.version.major >= x.source.version.major {
		return nil, nil
	}
	return []finding{{"object": "PostgreSQL " + fmt.Sprint(e.version.major), "found": fmt.Sprint(e.version.major), "want": fmt.Sprint(x.source.version.major)}}, nil
}

// locale is how a database encodes and sorts.
const locale = `SELECT pg_encoding_to_char(encoding) AS encoding, datcollate AS lc_collate, datctype AS lc_ctype,
		CASE coalesce(to_jsonb(d)->>'datlocprovider', 'c') WHEN 'i' THEN 'icu ' WHEN 'b' THEN 'builtin ' ELSE 'libc' END || coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', '') AS locale_provider
	FROM pg_database d WHERE datname = current_database()`

func (x *inspection) locales(ctx context.Context) (source, target finding, err error) {
	var both [2]finding
	for i, e := range []*end{x.source, x.target} {
		list, err := e.look(ctx, locale)
		if err != nil || len(list) != 1 {
			return nil, nil, err
		}
		both[i] = list[0]
	}
	return both[0], both[1], nil
}

// createDatabase makes the target database anew as the source's is.
func createDatabase(x *inspection, source finding) string {
	name := ident(x.target.database)
	sql := "DROP DATABASE " + name + "; CREATE DATABASE " + name + " TEMPLATE template0 ENCODING " + quote(source["encoding"]) + " LC_COLLATE " + quote(source["lc_collate"]) + " LC_CTYPE " + quote(source["lc_ctype"])
	if icu, is := strings.CutPrefix(source["locale_provider"], "icu "); is && x.target.version.icuDatabases() {
		sql += " LOCALE_PROVIDER icu ICU_LOCALE " + quote(icu)
	}
	return sql + "; -- from another database of the target's server"
}

const utf8 = "UTF8"

func encodings(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	source, target, err := x.locales(ctx)
	if err != nil {
		return nil, err
	}
	want, have := source["encoding"], target["encoding"]
	if want == have || have == utf8 && want != "SQL_ASCII" {
		return nil, nil
	}
	return []finding{{"object": e.database, "found": have, "want": want, "create": createDatabase(x, source)}}, nil
}

func collations(ctx context.Context, x *inspection, _ *end) ([]finding, error) {
	source, target, err := x.locales(ctx)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, what := range []string{"lc_collate", "lc_ctype", "locale_provider"} {
		if want, have := source[what], target[what]; localeName(want) != localeName(have) {
			found = append(found, finding{"object": what, "found": have, "want": want, "create": createDatabase(x, source)})
		}
	}
	return found, nil
}

// localeName makes names of one locale equal: en_US.UTF-8 and en_US.utf8, C and POSIX.
func localeName(name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "-", "")
	if name == "posix" {
		return "c"
	}
	return name
}

// sorts lists the collations in use with their versions: as recorded when indexes
// were built, and as the library says now.
const sorts = `SELECT 'of the database' AS object, pg_collation_actual_version(c.oid) AS now, coalesce(to_jsonb(d)->>'datcollversion', pg_collation_actual_version(c.oid)) AS recorded FROM pg_database d JOIN LATERAL (SELECT oid FROM pg_collation c
		WHERE c.collcollate = d.datcollate AND c.collprovider = 'c' AND c.collencoding IN (-1, d.encoding) ORDER BY oid LIMIT 1) c ON true WHERE datname = current_database()
	UNION SELECT DISTINCT format('%s.%s', n.nspname, c.collname), pg_collation_actual_version(c.oid), coalesce(c.collversion, pg_collation_actual_version(c.oid)) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.collname <> 'default'
		AND EXISTS (SELECT FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 WHERE a.attcollation = c.oid)`

func collationVersions(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	source, err := x.source.look(ctx, sorts)
	if err != nil {
		return nil, err
	}
	rows, err := e.conn.Query(ctx, `SELECT 'of the database', coalesce(pg_collation_actual_version(c.oid), '') FROM pg_database d JOIN LATERAL (SELECT oid FROM pg_collation c WHERE c.collcollate = d.datcollate AND c.collprovider = 'c'
			AND c.collencoding IN (-1, d.encoding) ORDER BY oid LIMIT 1) c ON true WHERE datname = current_database()
		UNION ALL SELECT format('%s.%s', n.nspname, c.collname), coalesce(pg_collation_actual_version(c.oid), '') FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	there := map[string]string{}
	for rows.Next() {
		var name, version string
		if err := rows.Scan(&name, &version); err != nil {
			return nil, err
		}
		there[name] = version
	}
	var found []finding
	for _, f := range source {
		if have := there[f["object"]]; have != "" && f["recorded"] != "" && have != f["recorded"] {
			found = append(found, finding{"object": f["object"], "found": have, "want": f["recorded"]})
		}
	}
	return found, rows.Err()
}

// collationsMissing are the system's collations that columns use and the target has not.
func collationsMissing(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	used, err := x.source.look(ctx, `SELECT c.collname AS object, min(r.object || '.' || a.attname) AS column FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_collation c ON c.oid = a.attcollation AND c.collnamespace = 'pg_catalog'::regnamespace GROUP BY c.collname`)
	if err != nil {
		return nil, err
	}
	have, err := e.look(ctx, "SELECT DISTINCT collname AS object FROM pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(used, func(f finding) bool {
		return slices.ContainsFunc(have, func(h finding) bool { return h["object"] == f["object"] })
	}), nil
}

// changedSchema tells what the watch of the schema has to say, statement by statement.
func changedSchema(harm bool) func(context.Context, *inspection, *end) ([]finding, error) {
	return func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
		if !x.begun {
			return nil, nil
		}
		s, err := x.m.survey(ctx, x.source.conn, e.conn)
		if err != nil || s == nil {
			return nil, err
		}
		var found []finding
		for _, c := range s.left(harm) {
			if c.inherited {
				continue
			}
			fix := strings.Join(c.make, "; ")
			if fix == "" {
				fix = "make the same change on the target by hand"
			}
			found = append(found, finding{"object": c.object, "what": c.what, "make": fix})
		}
		return found, nil
	}
}
