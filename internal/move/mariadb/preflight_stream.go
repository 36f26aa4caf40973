package mariadb

import (
	"context"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// streamRules are about replication: what else goes on, and what would be in its way.
func streamRules() []rule {
	return []rule{
		{
			id: "other-replication", severity: move.Loses, on: onTarget,
			title:       "The target follows another server.",
			find:        otherReplication,
			consequence: "replication {object} from {found} writes to the target: after the copy its rows are not the source's alone, and the move's own start can not be set while it runs",
			fix:         "STOP SLAVE {text}; RESET SLAVE {text} ALL; -- if nobody needs it",
		},
		{
			id: "replica-triggers", severity: move.Loses, on: onEither,
			title:       "Replication fires triggers.",
			find:        setting("slave_run_triggers_for_rbr", func(_ *inspection, _ *end, value string) bool { return value != "NO" }),
			consequence: "slave_run_triggers_for_rbr is {found}: what triggers did at one side they would do a second time on the other, and the fence's triggers would stop the replication",
			fix:         "SET GLOBAL slave_run_triggers_for_rbr = 'NO'" + inConfig,
		},
		{
			id: "forgiving-replication", severity: move.Warns, on: onEither,
			title: "Replication passes over rows that are not as they should be.",
			find: func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
				if e.settings["slave_exec_mode"] != "IDEMPOTENT" {
					return nil, nil
				}
				state, err := readStream(ctx, e.conn, x.m.stream)
				if err != nil || state != nil && state.Phase == phaseSettle { // that is ours
					return nil, err
				}
				return one("object", "slave_exec_mode", "found", e.settings["slave_exec_mode"]), nil
			},
			consequence: "slave_exec_mode is {found}: a row that is missing or there already is no error, so that faults are found by comparing only",
			fix:         "SET GLOBAL slave_exec_mode = 'STRICT'" + inConfig,
		},
		{
			id: "loose-numbers", severity: move.Warns, on: onEither,
			title:       "The server takes transactions in any order of their numbers.",
			find:        setting("gtid_strict_mode", func(_ *inspection, e *end, _ string) bool { return !e.isOn("gtid_strict_mode") }),
			consequence: "gtid_strict_mode is off: two servers that write under the same numbers are not noticed",
			fix:         "SET GLOBAL gtid_strict_mode = ON" + inConfig,
		},
		{
			id: "log-ahead", severity: move.Loses, on: onTarget, fresh: true, pair: true,
			title:       "The target's own log is ahead of the source's.",
			find:        logAhead,
			consequence: "its log holds transaction {found} of its own, and the source is at {want} in the same domain: under gtid_strict_mode the replication would stop",
			fix:         "RESET MASTER; -- on the target, if nobody reads its log; a managed server: SET GLOBAL gtid_strict_mode = OFF until the source is past it",
		},
		{
			id: "several-domains", severity: move.Warns, on: onSource,
			title: "The source's log has several GTID domains.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				domains := gtidDomains(e.settings["gtid_binlog_pos"])
				if len(domains) < 2 {
					return nil, nil
				}
				return one("object", "gtid_binlog_pos", "found", e.settings["gtid_binlog_pos"], "count", strconv.Itoa(len(domains))), nil
			},
			consequence: "it has {count} ({found}): transactions of different domains have no order among each other, so a table must be written in one of them alone",
			fix:         "see who writes with another gtid_domain_id: it may be a former primary's, and then it is harmless; else give all writers the same",
		},
		{
			id: "long-transaction", severity: move.Warns, on: onSource,
			title: "A transaction has been open for long.",
			find: func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
				ours := "" // a copy's snapshots last
				if x.begun {
					ours = " AND trx_mysql_thread_id NOT IN (SELECT id FROM information_schema.processlist WHERE user = SUBSTRING_INDEX(USER(), '@', 1))"
				}
				return e.rows(ctx, `SELECT CONCAT('connection ', trx_mysql_thread_id) AS object, trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds
					FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> CONNECTION_ID() AND trx_mysql_thread_id <> 0 AND TIMESTAMPDIFF(SECOND, trx_started, NOW()) >= `+
					strconv.FormatFloat(x.limits.patience.Seconds(), 'f', 0, 64)+ours)
			},
			consequence: "{object} holds a transaction open for {seconds} s: the triggers of the fence, and the fence itself, wait for it",
			fix:         "KILL {id}; -- or let it end",
		},
		{
			id: "prepared-transaction", severity: move.Loses, on: onSource,
			title: "A prepared XA transaction waits for its end.",
			find: func(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
				rows, err := e.rows(ctx, "XA RECOVER FORMAT = 'SQL'")
				for _, r := range rows {
					r["object"], r["id"] = r["data"], r["data"]
				}
				return rows, err
			},
			consequence: "{object} is prepared and belongs to no session: it holds its rows locked, so the fence would wait for it for ever",
			fix:         "XA ROLLBACK {id}; -- or XA COMMIT, as its coordinator says",
		},
		{
			id: "taken-triggers", severity: move.Loses, on: onTarget,
			title: "A repair was cut off and has left triggers out.",
			find: func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
				var there int
				if err := e.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'dhow' AND table_name = 'untriggered'").Scan(&there); err != nil || there == 0 {
					return nil, err
				}
				return e.rows(ctx, "SELECT CONCAT(schema_name, '.', name) AS object FROM dhow.untriggered WHERE stream = ?", x.m.stream)
			},
			consequence: "trigger {object} was taken away for a moment, and may not be back: it would not act after the cutover, or not guard the target until then",
			fix:         "run `dhow verify --repair`: it puts them back",
		},
	}
}

// otherReplication finds replications that are not this move's.
func otherReplication(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	rows, err := e.rows(ctx, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, r := range rows {
		name := r["Connection_name"]
		if name == x.m.stream || name == x.m.back || r["Slave_IO_Running"] == "No" && r["Slave_SQL_Running"] == "No" {
			continue
		}
		if e.rds && name == "" && x.begun { // the only one that a managed server has, and it is ours
			continue
		}
		object := name
		if object == "" {
			object = "(the default one)"
		}
		found = append(found, finding{"object": object, "text": quoteText(name), "found": r["Master_Host"] + ":" + r["Master_Port"]})
	}
	return found, nil
}

// gtidDomains are the domains of a position, with the number reached in each.
func gtidDomains(position string) map[string]uint64 {
	all := map[string]uint64{}
	for gtid := range strings.SplitSeq(position, ",") {
		parts := strings.Split(strings.TrimSpace(gtid), "-")
		if len(parts) != 3 {
			continue
		}
		if n, err := strconv.ParseUint(parts[2], 10, 64); err == nil {
			all[parts[0]] = n
		}
	}
	return all
}

// logAhead finds domains in which the target's log is ahead of the source's.
func logAhead(_ context.Context, x *inspection, e *end) ([]finding, error) {
	if !e.isOn("gtid_strict_mode") {
		return nil, nil
	}
	source := gtidDomains(x.source.settings["gtid_binlog_pos"])
	var found []finding
	for domain, n := range gtidDomains(e.settings["gtid_binlog_pos"]) {
		if at, shared := source[domain]; shared && n > at {
			found = append(found, finding{"object": "domain " + domain, "found": strconv.FormatUint(n, 10), "want": strconv.FormatUint(at, 10)})
		}
	}
	return found, nil
}
