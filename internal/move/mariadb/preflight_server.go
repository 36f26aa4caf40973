package mariadb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

const (
	// keptLeast is how long a server must keep its log: over a night and a weekend's morning.
	keptLeast = 24 * time.Hour
	// keptSeconds and keptHours are what the fixes set: a week.
	keptSeconds, keptHours, keptDays = 604800, 168, 7
	// sessionsBeside are a move's sessions at one end beside its copies.
	sessionsBeside = 8
)

// serverRules are about the servers themselves: their logs, settings, capacity.
func serverRules() []rule {
	return []rule{
		{
			id: "no-log", severity: move.Loses, on: onEither,
			title:       "The server writes no binary log.",
			find:        setting("log_bin", func(_ *inspection, _ *end, value string) bool { return value == "OFF" || value == "0" }),
			consequence: "no change can be read from the {side} (the target's log is needed for the way back)",
			fix:         "set log_bin and binlog_format = ROW in the server's configuration, then restart it (RDS: give the instance a backup retention of one day or more)",
		},
		{
			id: "log-format", severity: move.Loses, on: onEither,
			title:       "The log holds statements rather than rows.",
			find:        setting("binlog_format", func(_ *inspection, _ *end, value string) bool { return value != "ROW" }),
			consequence: "binlog_format is {found}: a statement that runs again on the other side can do something else there, and fires triggers a second time; sessions that are open keep the old format until they end",
			fix:         "SET GLOBAL binlog_format = 'ROW'" + inConfig,
		},
		{
			id: "row-image", severity: move.Loses, on: onEither,
			title:       "The log holds parts of rows only.",
			find:        setting("binlog_row_image", func(_ *inspection, _ *end, value string) bool { return !strings.HasPrefix(value, "FULL") }),
			consequence: "binlog_row_image is {found}: a row of a table without a key can not be found again, and what is repeated after a crash can not be made whole; sessions that are open keep the old value until they end",
			fix:         "SET GLOBAL binlog_row_image = 'FULL'" + inConfig,
		},
		{
			id: "log-kept", severity: move.Warns, on: onEither,
			title:       "The server keeps its log for too short a time.",
			find:        logKept,
			consequence: "{object} keeps {found} of it: where the other side can not read for longer than that, the move has to begin anew",
			fix:         "{statement}",
			example:     "`SET GLOBAL binlog_expire_logs_seconds = 604800` (before 10.6 `SET GLOBAL expire_logs_days = 7`), and in the server's configuration; RDS: `CALL mysql.rds_set_configuration('binlog retention hours', 168)`",
		},
		{
			id: "log-filter", severity: move.Loses, on: onEither,
			title:       "The server leaves databases out of its log.",
			find:        logFilter,
			consequence: "{object} is {found}: changes of a database that moves are in no log",
			fix:         "remove binlog_do_db and binlog_ignore_db" + thenRestart,
		},
		{
			id: "replica-filter", severity: move.Loses, on: onEither,
			title: "The server leaves databases or tables out of what it replicates.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				var found []finding
				for _, name := range []string{"replicate_do_db", "replicate_ignore_db", "replicate_do_table", "replicate_ignore_table", "replicate_wild_do_table", "replicate_wild_ignore_table", "replicate_rewrite_db"} {
					if value := e.settings[name]; value != "" {
						found = append(found, finding{"object": name, "found": value})
					}
				}
				return found, nil
			},
			consequence: "{object} is \"{found}\": the {side}, when it follows the other, would leave changes out (unless the filter is for another replication alone)",
			fix:         "SET GLOBAL {object} = ''" + inConfig,
		},
		{
			id: "replicas-log", severity: move.Loses, on: onEither,
			title: "What the server replicates is not in its own log.",
			find: setting("log_slave_updates", func(_ *inspection, e *end, value string) bool {
				return value == "OFF" || value == "0"
			}),
			consequence: "log_slave_updates is off: changes that reach the {side} from another server are in no log of its, and its numbers of transactions can fall behind theirs",
			fix:         "set log_slave_updates = ON" + thenRestart,
		},
		{
			id: "durability", severity: move.Warns, on: onSource,
			title: "A crash of the source can lose the end of its log.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				var found []finding
				for _, name := range []string{"sync_binlog", "innodb_flush_log_at_trx_commit"} {
					if e.settings[name] != "1" {
						found = append(found, finding{"object": name, "found": e.settings[name]})
					}
				}
				return found, nil
			},
			consequence: "{object} is {found}: after a crash of the machine the source may hold rows that its log, and so the target, does not, or the other way round",
			fix:         "SET GLOBAL {object} = 1" + inConfig,
		},
		{
			id: "read-only", severity: move.Loses, on: onTarget,
			title: "The target takes no writes of ours.",
			find: setting("read_only", func(x *inspection, e *end, _ string) bool {
				return !x.begun && e.isOn("read_only") && !e.rights.admin("READ_ONLY ADMIN", e.version, serverVersion{10, 11})
			}),
			consequence: "read_only is on, and our account has not the right to write all the same",
			fix:         "SET GLOBAL read_only = OFF" + inConfig,
		},
		{
			id: "local-infile", severity: move.Loses, on: onTarget,
			title:       "The target refuses LOAD DATA LOCAL.",
			find:        setting("local_infile", func(_ *inspection, e *end, _ string) bool { return !e.isOn("local_infile") }),
			consequence: "local_infile is off: rows could not be loaded",
			fix:         "SET GLOBAL local_infile = ON" + inConfig,
		},
		{
			id: "trust-creators", severity: move.Loses, on: onEither,
			title: "The server refuses triggers and functions of accounts that are no administrators.",
			find: setting("log_bin_trust_function_creators", func(_ *inspection, e *end, _ string) bool {
				return e.isOn("log_bin") && !e.isOn("log_bin_trust_function_creators") && !e.rights.global["SUPER"] && !e.rights.global["ALL PRIVILEGES"]
			}),
			consequence: "log_bin_trust_function_creators is off, and our account has no SUPER: the triggers of the fence can not be made, nor the functions and triggers that move",
			fix:         "SET GLOBAL log_bin_trust_function_creators = ON" + inConfig,
		},
		{
			id: "event-scheduler", severity: move.Warns, on: onTarget, pair: true,
			title: "The target runs no events.",
			find: setting("event_scheduler", func(x *inspection, _ *end, value string) bool {
				for _, ev := range x.source.catalog.Events {
					if ev.Status == "ENABLED" && value != "ON" {
						return true
					}
				}
				return false
			}),
			consequence: "event_scheduler is {found} there: the source's events would not run after the cutover",
			fix:         "SET GLOBAL event_scheduler = ON" + inConfig,
		},
		{
			id: "connections", severity: move.Warns, on: onEither,
			title: "The server has too few free connections.",
			find: func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
				var used int
				if err := e.conn.QueryRowContext(ctx, "SELECT CAST(variable_value AS INT) FROM information_schema.global_status WHERE variable_name = 'THREADS_CONNECTED'").Scan(&used); err != nil {
					return nil, err
				}
				most, needed := int(e.number("max_connections")), 2*x.m.limits.Copies+sessionsBeside
				if most-used >= needed {
					return nil, nil
				}
				return one("object", "max_connections", "most", strconv.Itoa(most), "used", strconv.Itoa(used), "needed", strconv.Itoa(needed), "want", strconv.Itoa(used+needed)), nil
			},
			consequence: "{used} of {most} are taken and the move needs up to {needed}: it, or the application, would be turned away",
			fix:         "SET GLOBAL max_connections = {want}" + inConfig,
		},
	}
}

// logKept finds a log that is thrown away too soon.
func logKept(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
	if e.rds {
		var hours int64
		if err := e.conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(CAST(value AS INT)), 0) FROM mysql.rds_configuration WHERE name = 'binlog retention hours'").Scan(&hours); err != nil {
			return nil, err
		}
		if time.Duration(hours)*time.Hour >= keptLeast {
			return nil, nil
		}
		return one("object", "binlog retention hours", "found", fmt.Sprintf("%d hours", hours), "statement", fmt.Sprintf("CALL mysql.rds_set_configuration('binlog retention hours', %d)", keptHours)), nil
	}
	name, seconds := "binlog_expire_logs_seconds", e.number("binlog_expire_logs_seconds")
	statement := fmt.Sprintf("SET GLOBAL binlog_expire_logs_seconds = %d", keptSeconds)
	if _, knows := e.settings[name]; !knows { // before 10.6
		name, seconds = "expire_logs_days", e.number("expire_logs_days")*24*3600
		statement = fmt.Sprintf("SET GLOBAL expire_logs_days = %d", keptDays)
	}
	if seconds == 0 || seconds >= keptLeast.Seconds() {
		return nil, nil
	}
	return one("object", name, "found", (time.Duration(seconds) * time.Second).String(), "statement", statement+inConfig), nil
}

// logFilter finds databases that are left out of the log. Older servers tell the filter
// only to who may watch the log.
func logFilter(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	rows, err := e.rows(ctx, "SHOW MASTER STATUS")
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, r := range rows {
		only, without := r["Binlog_Do_DB"], r["Binlog_Ignore_DB"]
		hit := func(list string) bool {
			for name := range strings.SplitSeq(list, ",") {
				if name != "" && (x.m.moves(name) || name == stateDatabase) {
					return true
				}
			}
			return false
		}
		if only != "" {
			found = append(found, finding{"object": "binlog_do_db", "found": only})
		}
		if hit(without) {
			found = append(found, finding{"object": "binlog_ignore_db", "found": without})
		}
	}
	return found, nil
}
