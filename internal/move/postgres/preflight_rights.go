package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// rightRules are about what the move's users may do.
var rightRules = []rule{
	{
		id: "dump-tool", severity: move.Loses, on: onSource, fresh: true, find: dumpTool,
		title:       "There is no pg_dump here that can read the source.",
		consequence: "the schema is moved by pg_dump, and {found}",
		fix:         "install the package postgresql-client-{major}, or a newer one",
	},
	{
		id: "replication-right", severity: move.Loses, on: onEither,
		title: "The user may not read a change stream.",
		sql: `SELECT 'role ' || rolname AS object FROM pg_roles r WHERE rolname = current_user AND NOT rolsuper AND NOT rolreplication
			AND NOT EXISTS (SELECT FROM pg_roles m WHERE m.rolname IN ('rds_replication', 'rds_superuser') AND pg_has_role(m.oid, 'MEMBER'))`,
		consequence: "the {side} gives the user no slot and no stream (the target's is needed for the way back)",
		fix:         "ALTER ROLE {role} REPLICATION; -- on RDS and Aurora: GRANT rds_replication TO {role}",
	},
	{
		id: "create-right", severity: move.Loses, on: onEither,
		title:       "The user may create nothing in the database.",
		sql:         `SELECT current_database() AS object WHERE NOT has_database_privilege(current_database(), 'CREATE')`,
		consequence: "the move keeps its state in a schema of its own on both sides, and publishes tables: both need the right to create",
		fix:         "GRANT CREATE ON DATABASE {database} TO {role}",
	},
	{
		id: "replica-right", severity: move.Loses, on: onEither, find: replicaRight,
		title:       "The user may not apply changes as a replica does.",
		consequence: "without session_replication_role the {side}'s triggers and foreign keys would act a second time on changes that are applied (the source's is needed for the way back)",
		fix:         "{grant}",
		example:     "`GRANT SET ON PARAMETER session_replication_role TO <role>`; before version 15 `ALTER ROLE <role> SUPERUSER`; on RDS and Aurora `GRANT rds_superuser TO <role>`",
	},
	{
		id: "identity-hidden", severity: move.Loses, on: onEither,
		title:       "The user may not ask which server this is.",
		sql:         `SELECT 'pg_control_system()' AS object WHERE NOT has_function_privilege('pg_control_system()', 'EXECUTE')`,
		consequence: "the move can not tell whether it is still the same server, and refuses to begin",
		fix:         "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {role}",
	},
	{
		id: "not-owner", severity: move.Loses, on: onSource,
		title: "Tables belong to roles that the user does not stand for.",
		sql: `SELECT 'role ' || pg_get_userbyid(relowner) AS object, quote_ident(pg_get_userbyid(relowner)) AS owner, count(*) AS tables, min(object) AS first FROM rel
			WHERE relkind IN ('r', 'p') AND NOT pg_has_role(relowner, 'USAGE') GROUP BY relowner`,
		consequence: "{tables} of its tables ({first} for one) could neither be published nor fenced",
		fix:         "GRANT {owner} TO {role}",
	},
	{
		id: "schema-right", severity: move.Loses, on: onSource,
		title:       "The user may not use a schema.",
		sql:         `SELECT nspname AS object, quote_ident(nspname) AS name FROM nsp WHERE NOT has_schema_privilege(oid, 'USAGE')`,
		consequence: "nothing of schema {object} could be read",
		fix:         "GRANT USAGE ON SCHEMA {name} TO {role}",
	},
	{
		id: "table-right", severity: move.Loses, on: onSource,
		title: "The user may not read and write a table or a sequence, though it stands for its owner.",
		sql: `SELECT object, name, CASE relkind WHEN 'S' THEN 'SELECT, UPDATE ON SEQUENCE ' ELSE 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON ' END AS rights FROM rel WHERE pg_has_role(relowner, 'USAGE') AND
			CASE WHEN relkind = 'S' THEN NOT (has_sequence_privilege(oid, 'SELECT') AND has_sequence_privilege(oid, 'UPDATE'))
				WHEN relkind IN ('r', 'p') THEN EXISTS (SELECT FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) p WHERE NOT has_table_privilege(rel.oid, p)) END`,
		consequence: "it could not be copied, fenced or, since grants move with it, written on the target",
		fix:         "GRANT {rights}{name} TO {role}",
	},
	{
		id: "row-security", severity: move.Loses, on: onSource,
		title:       "Row security would hide rows from the user.",
		sql:         `SELECT object FROM rel WHERE relkind IN ('r', 'p') AND row_security_active(oid)`,
		consequence: "rows that the policies hide would not be copied; the move asks for an error instead, and stops",
		fix:         "ALTER ROLE {role} BYPASSRLS",
	},
	{
		id: "row-security-target", severity: move.Loses, on: onTarget, fresh: true, find: targetRowSecurity,
		title:       "Row security would refuse the rows on the target.",
		consequence: "the table has row security, which on the target holds for the user too: its rows could not be written",
		fix:         "ALTER ROLE {role} BYPASSRLS",
	},
	{
		id: "large-object-right", severity: move.Loses, on: onEither,
		title: "The user may not compare large objects.",
		sql: `SELECT 'pg_largeobject' AS object, 'SELECT ON pg_catalog.pg_largeobject' AS what FROM given WHERE objects > 0 AND NOT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')
			UNION SELECT 'large objects of ' || pg_get_userbyid(lomowner), quote_ident(pg_get_userbyid(lomowner)) FROM pg_largeobject_metadata, given
				WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(lomowner, 'USAGE')`,
		consequence: "the database holds large objects, and what the user may not read can neither be copied nor compared",
		fix:         "GRANT {what} TO {role}",
	},
	{
		id: "hidden-sessions", severity: move.Warns, on: onSource,
		title:       "The user does not see other roles' sessions.",
		sql:         `SELECT 'role ' || current_user AS object WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')`,
		consequence: "transactions that are open for long are not found here, and who holds up the fence can not be named",
		fix:         "GRANT pg_read_all_stats TO {role}",
	},
	{
		id: "session-end-right", severity: move.Warns, on: onSource,
		title:       "The user may not end other roles' sessions.",
		sql:         `SELECT 'role ' || current_user AS object FROM given WHERE terminate AND NOT pg_has_role('pg_signal_backend', 'USAGE')`,
		consequence: "cutover.stragglers is terminate, but sessions that hold writes open can not be ended: the cutover would be given up instead",
		fix:         "GRANT pg_signal_backend TO {role}",
	},
}

// dumpTool looks for a pg_dump that is new enough.
func dumpTool(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	_, major, err := pgDump(ctx)
	var refused *move.Refused
	what := fmt.Sprintf("the newest one on this machine is %d, the source is %d", major, e.version.major)
	switch {
	case errors.As(err, &refused):
		what = refused.Reason
	case err != nil:
		return nil, err
	case major >= x.source.version.major:
		return nil, nil
	}
	return []finding{{"object": "pg_dump", "found": what, "major": fmt.Sprint(e.version.major)}}, nil
}

// replicaRight tries what the applier does first. It concerns this session alone.
func replicaRight(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
	_, err := e.conn.Exec(ctx, "SET session_replication_role = replica")
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == insufficientPrivilege {
		grant := "ALTER ROLE " + ident(e.role) + " SUPERUSER"
		if e.version.setParameterGrant() {
			grant = "GRANT SET ON PARAMETER session_replication_role TO " + ident(e.role)
		}
		return []finding{{"object": "role " + e.role, "grant": grant + "; -- on RDS and Aurora: GRANT rds_superuser TO " + ident(e.role)}}, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = e.conn.Exec(ctx, "RESET session_replication_role")
	return nil, err
}

// targetRowSecurity are the source's tables with row security, when it would hold for us on the target.
func targetRowSecurity(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	var bypass bool
	if err := e.conn.QueryRow(ctx, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").Scan(&bypass); err != nil || bypass {
		return nil, err
	}
	return x.source.look(ctx, "SELECT object FROM rel WHERE relkind IN ('r', 'p') AND relrowsecurity")
}
