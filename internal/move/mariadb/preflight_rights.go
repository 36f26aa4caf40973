package mariadb

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"dhow/internal/move"
)

// rights are what our account may do, with its active roles.
type rights struct {
	global map[string]bool
	// on are the rights on databases, by their pattern.
	on map[string]map[string]bool
}

// granted matches a line of SHOW GRANTS that gives rights on all or on a database.
var granted = regexp.MustCompile("^GRANT (.+) ON (?:\\*|`((?:[^`]|``)+)`)\\.\\* TO ")

func readRights(ctx context.Context, q querier) (rights, error) {
	r := rights{global: map[string]bool{}, on: map[string]map[string]bool{}}
	err := scan(ctx, q, "SHOW GRANTS", func(row func(...any) error) error {
		var line string
		if err := row(&line); err != nil {
			return err
		}
		r.add(line)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("read the account's rights: %w", err)
	}
	return r, nil
}

// add reads a line of SHOW GRANTS.
func (r rights) add(line string) {
	found := granted.FindStringSubmatch(line)
	if found == nil {
		return
	}
	set := r.global
	if found[2] != "" {
		pattern := strings.ReplaceAll(found[2], "``", "`")
		if r.on[pattern] == nil {
			r.on[pattern] = map[string]bool{}
		}
		set = r.on[pattern]
	}
	for name := range strings.SplitSeq(found[1], ", ") {
		set[plainRight(name)] = true
	}
}

// plainRight is a right by the name that servers since 10.5 give it.
func plainRight(name string) string {
	switch name {
	case "REPLICATION CLIENT":
		return "BINLOG MONITOR"
	case "REPLICA MONITOR":
		return "SLAVE MONITOR"
	case "REPLICATION REPLICA":
		return "REPLICATION SLAVE"
	case "REPLICATION REPLICA ADMIN":
		return "REPLICATION SLAVE ADMIN"
	}
	return name
}

// has says whether a right is there on the whole server.
func (r rights) has(name string) bool {
	return r.global[name] || r.global["ALL PRIVILEGES"]
}

// admin says whether one of the rights that SUPER was split into is there: until a
// version, SUPER stands for it.
func (r rights) admin(name string, version, until serverVersion) bool {
	return r.has(name) || r.global["SUPER"] && version.before(until)
}

// hasOn says whether a right is there on a database.
func (r rights) hasOn(name, database string) bool {
	if r.has(name) {
		return true
	}
	for pattern, set := range r.on {
		if (set[name] || set["ALL PRIVILEGES"]) && covers(pattern, database) {
			return true
		}
	}
	return false
}

// What our account needs on databases.
var (
	neededAtSource = []string{"SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"}                                                                                                                                                                //nolint:gochecknoglobals // a constant in all but syntax
	neededAtTarget = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", "LOCK TABLES", "CREATE VIEW", "SHOW VIEW", "TRIGGER", "EVENT", "CREATE ROUTINE", "ALTER ROUTINE", "EXECUTE", "DELETE HISTORY"} //nolint:gochecknoglobals // likewise
	neededOnOurs   = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "LOCK TABLES", "CREATE ROUTINE", "ALTER ROUTINE", "EXECUTE"}                                                                                 //nolint:gochecknoglobals // likewise
)

// beforeEleven: until then SUPER stands for the rights that it was split into.
var beforeEleven = serverVersion{11, 0} //nolint:gochecknoglobals // a constant in all but syntax

// adminRule is about a right on the whole server.
func adminRule(id string, severity move.Severity, on place, name, title, consequence string, when func(*inspection, *end) bool) rule {
	return rule{
		id: id, severity: severity, on: on, title: title,
		find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
			until := beforeEleven
			switch name {
			case "READ_ONLY ADMIN":
				until = serverVersion{10, 11}
			case "PROCESS", "REPLICATION SLAVE":
				until = serverVersion{}
			}
			if when != nil && !when(x, e) || e.rights.admin(name, e.version, until) {
				return nil, nil
			}
			return one("object", name), nil
		},
		consequence: consequence, fix: "GRANT " + name + " ON *.* TO {role}",
	}
}

// rightRules are about what our account, and that of the replication, may do.
func rightRules() []rule {
	plain := func(_ *inspection, e *end) bool { return !e.rds }
	return []rule{
		{
			id: "right-databases", severity: move.Loses, on: onEither,
			title: "Our account lacks rights on a database that moves.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				needed := neededAtSource
				if e.side == target {
					needed = neededAtTarget
				}
				names := x.m.cfg.Schemas
				if len(names) == 0 && x.source != nil {
					for _, s := range x.source.catalog.Schemas {
						names = append(names, s.Name)
					}
				}
				var found []finding
				for _, name := range names {
					found = append(found, e.lacking(name, needed)...)
				}
				return found, nil
			},
			consequence: "it lacks {missing} on database {object}: the move would stop where it needs them, or would not see what is there",
			fix:         "GRANT {missing} ON {name}.* TO {role}",
		},
		{
			id: "right-state", severity: move.Loses, on: onEither,
			title: "Our account can not keep the move's state.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				return e.lacking(stateDatabase, neededOnOurs), nil
			},
			consequence: "it lacks {missing} on database {object}, where the move keeps its state on both servers",
			fix:         "GRANT {missing} ON {name}.* TO {role}",
		},
		adminRule("right-replicate", move.Loses, onEither, "REPLICATION SLAVE ADMIN", "Our account can not set up replication.",
			"the {side}'s replication could not be started or stopped (at the source that is for the way back)", plain),
		adminRule("right-watch", move.Loses, onEither, "SLAVE MONITOR", "Our account can not watch replication.",
			"it could not be seen how far the {side} is, when it follows the other", nil),
		adminRule("right-log", move.Loses, onEither, "BINLOG MONITOR", "Our account can not watch the binary log.",
			"the log's position and its filters could not be seen", nil),
		adminRule("right-definers", move.Loses, onTarget, "SET USER", "Our account can not make what belongs to others.",
			"the views, routines, triggers and events of other definers could not be made there", func(x *inspection, e *end) bool {
				return x.source != nil && !e.rds && len(x.source.definers(e.role)) > 0
			}),
		adminRule("right-unlogged", move.Warns, onEither, "BINLOG ADMIN", "Our account can not keep its own writes out of the log.",
			"what the move writes on the {side} is in its log too: that takes room there, and other replicas of it get it", plain),
		adminRule("right-transactions", move.Warns, onEither, "PROCESS", "Our account does not see others' transactions.",
			"who holds the fence up could not be named, and rows that change fast could not be looked at for long", nil),
		adminRule("right-end", move.Loses, onSource, "CONNECTION ADMIN", "Our account can not end others' sessions.",
			"the estate wants those that hold up the fence to be ended (stragglers: terminate), and it may not", func(x *inspection, e *end) bool {
				return x.m.cfg.Stragglers == TerminateSessions && !e.rds
			}),
		adminRule("right-read-only", move.Warns, onEither, "READ_ONLY ADMIN", "Our account can not make the server read-only.",
			"the seal stops every write to tables, but not TRUNCATE and changes of the schema", plain),
		adminRule("resume-anew", move.Warns, onTarget, "REPLICATION SLAVE ADMIN", "A copy that was cut off begins anew.",
			"our account may not set slave_exec_mode, so a copy can not go on under a second snapshot: after a crash of dhow during the copy it begins again", func(_ *inspection, e *end) bool { return e.rds }),
		{
			id: "right-replica", severity: move.Loses, on: onEither,
			title:       "The account of the replication may not read the log.",
			find:        replicaRight,
			consequence: "{object} lacks REPLICATION SLAVE on the {side}: the other side could not follow it",
			fix:         "GRANT REPLICATION SLAVE ON *.* TO {name}",
		},
		{
			id: "account-missing", severity: move.Warns, on: onTarget, pair: true,
			title:       "An account of the source is not on the target.",
			find:        missingAccounts,
			consequence: "{object} has rights on what moves, and could not log in after the cutover; the rights themselves move with the databases",
			fix:         "run on the target what SHOW CREATE USER {object} prints at the source, and what SHOW GRANTS prints of the whole server",
		},
		{
			id: "definer-missing", severity: move.Loses, on: onTarget, pair: true,
			title:       "The definer of a view, routine, trigger or event is not on the target.",
			find:        missingDefiners,
			consequence: "{object} is the definer of {of}, which would fail there: writes to a table with such a trigger too",
			fix:         "CREATE USER {name} ACCOUNT LOCK; -- its rights on what moves come with the databases; give it what else it needs",
		},
		{
			id: "writes-although-read-only", severity: move.Warns, on: onSource,
			title: "An account writes although the server is read-only.",
			find: func(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
				rows, err := e.rows(ctx, "SELECT DISTINCT grantee AS object FROM information_schema.user_privileges WHERE privilege_type = 'READ_ONLY ADMIN' OR privilege_type = 'SUPER' AND "+sqlBool(e.version.before(serverVersion{10, 11})))
				var found []finding
				for _, r := range rows {
					if name := r["object"]; name != textRole(e.role) && !ownAccount(name) {
						found = append(found, r)
					}
				}
				return found, err
			},
			consequence: "{object} is not stopped by read_only: after the seal its writes to tables are refused all the same, but it can still TRUNCATE or change the schema",
			fix:         "REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM {object}; -- or see that nobody uses it during the cutover",
		},
	}
}

func sqlBool(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}

// textRole is an account as information_schema writes it.
func textRole(role string) string { return strings.ReplaceAll(role, "`", "'") }

// ownAccount says whether an account is the server's own.
func ownAccount(grantee string) bool {
	user, _, _ := strings.Cut(grantee, "@")
	switch strings.Trim(user, "'`") {
	case "root", "mariadb.sys", "mysql", "rdsadmin", "rdsrepladmin", "":
		return true
	}
	return false
}

// lacking finds rights that are missing on a database.
func (e *end) lacking(database string, needed []string) []finding {
	var missing []string
	for _, name := range needed {
		if !e.rights.hasOn(name, database) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return one("object", database, "name", quote(database), "missing", strings.Join(missing, ", "))
}

// replicaRight finds that the account as which the other side follows may not.
func replicaRight(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	replica := x.m.cfg.SourceReplica
	if e.side == target {
		replica = x.m.cfg.TargetReplica
	}
	if user, _, _ := strings.Cut(e.role, "@"); replica.User == "" || quote(replica.User) == user {
		if e.rights.has("REPLICATION SLAVE") {
			return nil, nil
		}
		return one("object", e.role, "name", e.role), nil
	}
	of, err := accounts(ctx, e.conn)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, a := range of {
		if a.user != replica.User || a.role {
			continue
		}
		given := rights{global: map[string]bool{}, on: map[string]map[string]bool{}}
		rows, err := e.rows(ctx, "SHOW GRANTS FOR "+a.String())
		if err != nil && !isNumber(err, noSuchGrant) {
			return nil, err
		}
		for _, r := range rows {
			for _, line := range r {
				given.add(line)
			}
		}
		if given.has("REPLICATION SLAVE") {
			return nil, nil
		}
		found = append(found, finding{"object": a.String(), "name": a.String()})
	}
	if len(found) == 0 {
		name := quote(replica.User) + "@'%'"
		return one("object", name, "name", name+"; -- after CREATE USER "+name+" IDENTIFIED BY the password in the estate"), nil
	}
	return found[:1], nil
}

// missingAccounts finds accounts with rights on what moves that the target lacks.
func missingAccounts(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	ours, err := accounts(ctx, x.source.conn)
	if err != nil {
		return nil, err
	}
	theirs, err := accounts(ctx, e.conn)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(x.source.catalog.Schemas))
	for i, s := range x.source.catalog.Schemas {
		names[i] = s.Name
	}
	var found []finding
	for name, a := range ours {
		if _, both := theirs[name]; both || name == x.source.role {
			continue
		}
		given, err := grants(ctx, x.source.conn, a, names)
		if err != nil {
			return nil, err
		}
		if len(given) > 0 {
			found = append(found, finding{"object": name})
		}
	}
	return found, nil
}

// definers are the accounts under which something of a server runs, with one such
// thing each; our own account and roles of the session are left out.
func (e *end) definers(role string) map[string]string {
	all := map[string]string{}
	add := func(definer string, n Name) {
		user, host, there := strings.Cut(definer, "@")
		if name := quote(user) + "@" + quote(host); there && name != role {
			all[name] = n.String()
		}
	}
	for _, r := range e.catalog.Routines {
		add(r.Definer, r.Name)
	}
	for _, t := range e.catalog.Triggers {
		add(t.Definer, t.Name)
	}
	for _, v := range e.catalog.Events {
		add(v.Definer, v.Name)
	}
	return all
}

func missingDefiners(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	of := x.source.definers("")
	rows, err := x.source.rows(ctx, "SELECT definer, CONCAT(table_schema, '.', table_name) AS name FROM information_schema.views WHERE table_schema "+x.source.in)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if user, host, there := strings.Cut(r["definer"], "@"); there {
			of[quote(user)+"@"+quote(host)] = r["name"]
		}
	}
	known := map[string]bool{}
	if err := scan(ctx, e.conn, "SELECT User, Host FROM mysql.user", func(row func(...any) error) error {
		var user, host string
		err := row(&user, &host)
		known[quote(user)+"@"+quote(host)] = true
		return err
	}); err != nil {
		return nil, err
	}
	var found []finding
	for name, object := range of {
		if !known[name] {
			found = append(found, finding{"object": name, "name": name, "of": object})
		}
	}
	return found, nil
}
