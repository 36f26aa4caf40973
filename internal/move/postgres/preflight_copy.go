package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// copyRules are about what the target must have beforehand, and what is moved
// by nobody: roles, extensions and their rows, settings.
var copyRules = []rule{
	{
		id: "role-missing", severity: move.Loses, on: onTarget, fresh: true, find: rolesMissing,
		title:       "A role that owns or may use what moves is not on the target.",
		consequence: "the schema can not be made without it",
		fix:         "CREATE ROLE {name}{options}; -- or map it to another one under databases[].roles in the estate; passwords do not move",
	},
	{
		id: "owner-right", severity: move.Loses, on: onTarget, find: ownersForeign,
		title:       "The target's user does not stand for a role that owns what moves.",
		consequence: "what belongs to it on the source could neither be given to it on the target nor be fenced and published there",
		fix:         "GRANT {name} TO {role}",
	},
	{
		id: "schema-create-right", severity: move.Loses, on: onTarget, fresh: true, find: ownersApart,
		title:       "A role may create nothing in the schema in which it will own something.",
		consequence: "role {name} will own what is in schema {object}, but may create nothing there: the target gives it nothing, unless a superuser does so",
		fix:         "{grant}",
		example:     "`GRANT CREATE ON SCHEMA public TO <name>`; for another schema, give it and what is in it to one role on the source",
	},
	{
		id: "extension-missing", severity: move.Loses, on: onTarget, find: extensionsMissing,
		title:       "An extension of the source can not be had on the target.",
		consequence: "its types and functions (version {version}) can not be made, nor the tables that use them",
		fix:         "install the package of extension {object} on the target's host (a managed server: choose a version that offers it), or DROP EXTENSION {name} on the source",
	},
	{
		id: "extension-not-made", severity: move.Loses, on: onTarget, fresh: true, find: extensionsNotMade,
		title:       "An extension must be made on the target by hand.",
		consequence: "{why}: what uses it can not be made",
		fix:         "{create}",
		example:     "`CREATE EXTENSION <name>`, as a superuser where it takes one",
	},
	{
		id: "extension-older", severity: move.Warns, on: onTarget, find: extensionsOlder,
		title:       "An extension is older on the target.",
		consequence: "it is version {found} on the target and {version} on the source: what uses something newer, or a type whose binary form has changed, can not move",
		fix:         "{update}",
		example:     "`ALTER EXTENSION <name> UPDATE`, or a newer package of it on the target's host",
	},
	{
		id: "extension-data", severity: move.Loses, on: onTarget, fresh: true, find: extensionRows,
		title:       "An extension's table holds rows of the application's.",
		consequence: "rows in the own tables of extension {extension} are not moved: {rows} of them differ or are missing on the target",
		fix:         "copy them by hand, after CREATE EXTENSION {name} on the target: psql SOURCE -c 'COPY (SELECT * FROM {table} {where}) TO STDOUT' | psql TARGET -c 'COPY {table} FROM STDIN'",
	},
	{
		id: "role-settings", severity: move.Warns, on: onTarget, find: settingsOfRoles,
		title:       "Settings of the database or of its roles are not on the target.",
		consequence: "{setting} is set for {object} on the source; such settings do not move, and sessions behave otherwise after the cutover",
		fix:         "{alter}",
		example:     "`ALTER DATABASE <database> SET ...` or `ALTER ROLE <role> IN DATABASE <database> SET ...`, as on the source",
	},
}

// roleThere is what a role of the source is called on the target.
func (m *Mover) roleThere(name string) string {
	if !m.cfg.Back {
		if to, ok := m.cfg.Roles[name]; ok {
			return to
		}
		return name
	}
	for from, to := range m.cfg.Roles {
		if to == name {
			return from
		}
	}
	return name
}

// roles are a server's roles, and whether each is a superuser.
func (e *end) roles(ctx context.Context) (map[string]bool, error) {
	rows, err := e.conn.Query(ctx, "SELECT rolname, rolsuper FROM pg_roles")
	if err != nil {
		return nil, err
	}
	roles := map[string]bool{}
	var name string
	var super bool
	_, err = pgx.ForEachRow(rows, []any{&name, &super}, func() error { roles[name] = super; return nil })
	return roles, err
}

// owners are the roles that own what moves.
const owners = `SELECT relowner AS role FROM rel UNION SELECT nspowner FROM nsp
	UNION SELECT p.proowner FROM pg_proc p JOIN nsp ON nsp.oid = p.pronamespace WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
	UNION SELECT t.typowner FROM pg_type t JOIN nsp ON nsp.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r') AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
	UNION SELECT srvowner FROM pg_foreign_server`

// grantees are the roles that may use it, or will by default.
const grantees = `SELECT grantee FROM rel, aclexplode(relacl) g (grantor, grantee, privilege, grantable) UNION SELECT grantee FROM nsp, aclexplode(nspacl) g (grantor, grantee, privilege, grantable)
	UNION SELECT g.grantee FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid, aclexplode(a.attacl) g (grantor, grantee, privilege, grantable)
	UNION SELECT g.grantee FROM pg_proc p JOIN nsp ON nsp.oid = p.pronamespace, aclexplode(p.proacl) g (grantor, grantee, privilege, grantable)
	UNION SELECT g.grantee FROM pg_type t JOIN nsp ON nsp.oid = t.typnamespace, aclexplode(t.typacl) g (grantor, grantee, privilege, grantable)
	UNION SELECT defaclrole FROM pg_default_acl UNION SELECT g.grantee FROM pg_default_acl, aclexplode(defaclacl) g (grantor, grantee, privilege, grantable)
	UNION SELECT unnest(polroles) FROM pg_policy p JOIN rel ON rel.oid = p.polrelid UNION SELECT umuser FROM pg_user_mappings`

func rolesMissing(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	needed, err := x.source.look(ctx, `SELECT rolname AS object, CASE WHEN rolcanlogin THEN ' LOGIN' ELSE '' END AS options FROM (`+owners+` UNION `+grantees+`) q JOIN pg_roles r ON r.oid = q.role WHERE rolname NOT LIKE 'pg\_%'`)
	if err != nil {
		return nil, err
	}
	there, err := e.roles(ctx)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, f := range needed {
		name := x.m.roleThere(f["object"])
		if _, has := there[name]; !has && !slices.ContainsFunc(found, func(old finding) bool { return old["object"] == name }) {
			found = append(found, finding{"object": name, "name": ident(name), "options": f["options"]})
		}
	}
	return found, nil
}

func ownersForeign(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	needed, err := x.source.look(ctx, `SELECT DISTINCT rolname AS object FROM (`+owners+`) q JOIN pg_roles r ON r.oid = q.role WHERE rolname NOT LIKE 'pg\_%'`)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range needed {
		names = append(names, x.m.roleThere(f["object"]))
	}
	rows, err := e.conn.Query(ctx, "SELECT rolname FROM pg_roles WHERE rolname = ANY ($1) AND NOT pg_has_role(oid, 'USAGE')", nonNil(names))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (finding, error) {
		var name string
		err := row.Scan(&name)
		return finding{"object": "role " + name, "name": ident(name)}, err
	})
}

// ownersApart are the roles that could not be given what they own on the
// source, because the target's user is no superuser. The schema public is there
// already; the others come with their owners, and their grants come too late.
func ownersApart(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	if e.super {
		return nil, nil
	}
	needed, err := x.source.look(ctx, `SELECT nspname AS object, pg_get_userbyid(owner) AS role, pg_get_userbyid(nspowner) AS of FROM nsp JOIN (SELECT relnamespace AS id, relowner AS owner FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
			UNION SELECT pronamespace, proowner FROM pg_proc p WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')) o ON o.id = nsp.oid`)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, f := range needed {
		for _, name := range []string{x.m.roleThere(f["role"]), e.role} {
			var may bool
			grant := "GRANT CREATE ON SCHEMA public TO " + ident(name)
			sql := "SELECT has_schema_privilege(oid, 'public', 'CREATE') FROM pg_roles WHERE rolname = $1"
			args := []any{name}
			if f["object"] != "public" {
				if name == e.role { // it stands for the schema's owner, or rule owner-right tells
					continue
				}
				sql = "SELECT coalesce((SELECT pg_has_role(r.oid, o.oid, 'USAGE') FROM pg_roles o WHERE o.rolname = $2), true) FROM pg_roles r WHERE r.rolname = $1"
				args = append(args, x.m.roleThere(f["of"]))
				grant = "give schema " + f["object"] + " and what is in it to one role on the source (ALTER SCHEMA ... OWNER TO), or let a superuser move it"
			}
			err := e.conn.QueryRow(ctx, sql, args...).Scan(&may)
			if errors.Is(err, pgx.ErrNoRows) { // rule role-missing tells
				continue
			}
			if err != nil {
				return nil, err
			}
			if !may && !slices.ContainsFunc(found, func(h finding) bool { return h["object"] == f["object"] && h["name"] == name }) {
				found = append(found, finding{"object": f["object"], "name": name, "grant": grant})
			}
		}
	}
	return found, nil
}

// extension is one as a server has it or could have it.
type extension struct {
	installed string // its version; empty: not made in the database
	offered   string // the version that CREATE EXTENSION would make; empty: none
	trusted   bool   // the session's user may make it
}

func (e *end) extensions(ctx context.Context) (map[string]extension, error) {
	rows, err := e.conn.Query(ctx, `SELECT name, coalesce(extversion, ''), coalesce(default_version, ''), coalesce(r.rolsuper OR v.trusted OR NOT v.superuser, false)
			OR EXISTS (SELECT FROM pg_roles m WHERE m.rolname = 'rds_superuser' AND pg_has_role(m.oid, 'MEMBER'))
		FROM (SELECT name, default_version FROM pg_available_extensions) a FULL JOIN (SELECT extname AS name, extversion FROM pg_extension) x USING (name)
		LEFT JOIN (SELECT name, version, trusted, superuser FROM pg_available_extension_versions) v USING (name) CROSS JOIN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) r WHERE v.version IS NULL OR v.version = default_version`)
	if err != nil {
		return nil, err
	}
	list := map[string]extension{}
	var name string
	var ex extension
	_, err = pgx.ForEachRow(rows, []any{&name, &ex.installed, &ex.offered, &ex.trusted}, func() error { list[name] = ex; return nil })
	return list, err
}

// eachExtension calls found for each extension of the source with the target's one of that name.
func eachExtension(ctx context.Context, x *inspection, e *end, look func(name, version string, there extension) finding) ([]finding, error) {
	here, err := x.source.extensions(ctx)
	if err != nil {
		return nil, err
	}
	there, err := e.extensions(ctx)
	if err != nil {
		return nil, err
	}
	var found []finding
	for name, ex := range here {
		if ex.installed == "" || name == "plpgsql" {
			continue
		}
		if f := look(name, ex.installed, there[name]); f != nil {
			f["object"], f["name"], f["version"] = name, ident(name), ex.installed
			found = append(found, f)
		}
	}
	return found, nil
}

func extensionsMissing(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return eachExtension(ctx, x, e, func(_, _ string, there extension) finding {
		if there.installed == "" && there.offered == "" {
			return finding{}
		}
		return nil
	})
}

func extensionsNotMade(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return eachExtension(ctx, x, e, func(name, _ string, there extension) finding {
		create := "CREATE EXTENSION " + ident(name)
		switch {
		case there.installed != "" || there.offered == "":
			return nil
		case !there.trusted:
			return finding{"why": "only a superuser may make it on the target", "create": create + "; -- as a superuser"}
		case len(x.m.cfg.Schemas) > 0:
			return finding{"why": "where databases[].schemas names what moves, extensions do not", "create": create}
		}
		return nil
	})
}

func extensionsOlder(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	return eachExtension(ctx, x, e, func(name, version string, there extension) finding {
		found, update := there.installed, "ALTER EXTENSION "+ident(name)+" UPDATE; -- on the target"
		if found == "" {
			found = there.offered
		}
		if found == "" || !older(found, version) {
			return nil
		}
		if !older(there.installed, there.offered) || older(there.offered, version) {
			update = "install a newer package of extension " + name + " on the target's host"
		}
		return finding{"found": found, "update": update}
	})
}

// older compares versions as people write them: 1.9 is older than 1.10.
func older(a, b string) bool {
	as, bs := strings.FieldsFunc(a, notDigit), strings.FieldsFunc(b, notDigit)
	for i := range min(len(as), len(bs)) {
		x, y := strings.TrimLeft(as[i], "0"), strings.TrimLeft(bs[i], "0")
		if len(x) != len(y) {
			return len(x) < len(y)
		}
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// schedulers are extensions whose rows are jobs, which rule scheduled-jobs tells.
var schedulers = []string{"pg_cron", "pgagent", "pg_timetable"}

// extensionRows compares the rows that extensions keep for the application
// (those that they mark as configuration) on both sides.
func extensionRows(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	tables, err := x.source.look(ctx, `SELECT c.oid::regclass::text AS object, c.oid::regclass::text AS table, e.extname AS extension, quote_ident(e.extname) AS name, coalesce(u.condition, '') AS where
		FROM pg_extension e, unnest(e.extconfig, e.extcondition) u (oid, condition) JOIN pg_class c ON c.oid = u.oid AND c.relkind = 'r'`)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, f := range tables {
		if slices.Contains(schedulers, f["extension"]) {
			continue
		}
		sum := fmt.Sprintf("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM ONLY %s t %s", f["table"], f["where"])
		var n, have int64
		var want, got string
		if err := x.source.conn.QueryRow(ctx, sum).Scan(&n, &want); err != nil {
			return found, err
		}
		var there bool
		if err := e.conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", f["table"]).Scan(&there); err != nil {
			return found, err
		}
		if there {
			if err := e.conn.QueryRow(ctx, sum).Scan(&have, &got); err != nil {
				return found, err
			}
		}
		if n > 0 && (n != have || want != got) {
			f["rows"] = fmt.Sprint(n)
			found = append(found, f)
		}
	}
	return found, nil
}

// settingsOfRoles are what ALTER DATABASE and ALTER ROLE have set on the source and not on the target.
func settingsOfRoles(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	const sql = `SELECT coalesce(r.rolname, '') AS role, setdatabase <> 0 AS here, split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value
		FROM pg_db_role_setting s CROSS JOIN unnest(setconfig) c LEFT JOIN pg_roles r ON r.oid = setrole
		WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND (setrole = 0 OR r.rolname <> current_user)`
	want, err := x.source.look(ctx, sql)
	if err != nil {
		return nil, err
	}
	have, err := e.look(ctx, sql)
	if err != nil {
		return nil, err
	}
	there, err := e.roles(ctx)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, f := range want {
		f["role"] = x.m.roleThere(f["role"])
		if _, known := there[f["role"]]; f["role"] != "" && !known || f["role"] == "" && slices.Contains(meaningful, f["name"]) {
			continue // told by another rule
		}
		if slices.ContainsFunc(have, func(h finding) bool {
			return h["role"] == f["role"] && h["here"] == f["here"] && h["name"] == f["name"] && h["value"] == f["value"]
		}) {
			continue
		}
		object, alter := "database "+e.database, "ALTER DATABASE "+ident(e.database)
		if f["role"] != "" {
			object, alter = "role "+f["role"], "ALTER ROLE "+ident(f["role"])
			if f["here"] == "true" {
				alter += " IN DATABASE " + ident(e.database)
			}
		}
		value := strings.TrimSpace(quote(f["value"]))
		if f["name"] == "search_path" {
			value = f["value"]
		}
		found = append(found, finding{"object": object, "setting": f["name"], "alter": alter + " SET " + f["name"] + " = " + value})
	}
	return found, nil
}
