package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// oldestVersion and newestMajor bound the versions that are supported.
var oldestVersion = serverVersion{10, 5} //nolint:gochecknoglobals // a constant in all but syntax

const newestMajor = 11

// comparedSettings are those of which applications see a difference.
var comparedSettings = []string{ //nolint:gochecknoglobals // a constant in all but syntax
	"auto_increment_increment", "auto_increment_offset", "character_set_server", "collation_server", "default_week_format", "div_precision_increment", "explicit_defaults_for_timestamp",
	"group_concat_max_len", "innodb_strict_mode", "lc_time_names", "old_mode", "sql_mode", "time_zone", "tx_isolation",
}

// pairRules are about what both ends are to each other.
func pairRules() []rule {
	return []rule{
		{
			id: "unsupported-version", severity: move.Loses, on: onEither,
			title: "The server is none that is supported.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				if strings.Contains(strings.ToLower(e.text), "mariadb") && !e.version.before(oldestVersion) && e.version.major <= newestMajor {
					return nil, nil
				}
				return one("object", e.text), nil
			},
			consequence: "the move was made for MariaDB 10.5 to 11: others (MySQL too) write another log and know other statements",
			fix:         "upgrade the {side}, or use a newer dhow",
		},
		{
			id: "same-server", severity: move.Loses, on: onTarget, pair: true,
			title:       "Both ends are the same server.",
			find:        sameServer,
			consequence: "the databases would be copied onto themselves",
			fix:         "name another server under databases[].target in the estate",
		},
		{
			id: "server-id", severity: move.Loses, on: onTarget, pair: true,
			title: "Both servers have the same server_id, or one has none.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				ours, theirs := e.settings["server_id"], x.source.settings["server_id"]
				if ours != theirs && ours != "0" {
					return nil, nil
				}
				n, err := strconv.ParseUint(theirs, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("read the source's server_id: %w", err)
				}
				return one("object", "server_id", "found", ours, "want", strconv.FormatUint(n%4294967295+1, 10)), nil
			},
			consequence: "server_id is {found} on the target and the same at the source, or 0: a server leaves out what it takes for its own, so nothing would be replicated, and the fence could not tell the sides apart",
			fix:         "SET GLOBAL server_id = {want}" + inConfig,
		},
		{
			id: "source-newer", severity: move.Loses, on: onTarget, pair: true,
			title: "The target is older than the source.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				return versionOrder(e, x.source), nil
			},
			consequence: "the target is {found}, the source {want}: an older server does not understand all that a newer one writes to its log",
			fix:         "move to version {want} or later",
		},
		{
			id: "target-newer", severity: move.Warns, on: onTarget, pair: true,
			title: "The target is newer than the source.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				return versionOrder(x.source, e), nil
			},
			consequence: "the way there is what servers are made for; on the way back the older source has to read the log of the newer target (here version {want}), which works as long as nobody uses there what only that version has",
			fix:         "use nothing new on the target until there is no way back any more",
		},
		{
			id: "letter-case", severity: move.Loses, on: onTarget, pair: true,
			title: "The servers take letters in names of tables for different ones, or not.",
			find: setting("lower_case_table_names", func(x *inspection, _ *end, value string) bool {
				return value != x.source.settings["lower_case_table_names"]
			}),
			consequence: "lower_case_table_names is {found} on the target and another at the source: tables would not be found, or two would become one",
			fix:         "make the target's data anew with lower_case_table_names as the source has it; it can not be changed later",
		},
		{
			id: "target-not-empty", severity: move.Loses, on: onTarget, fresh: true,
			title: "There is something in the target's databases.",
			find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
				counts := map[string]int{}
				for _, t := range e.catalog.Tables {
					counts[t.Schema]++
				}
				for _, n := range slices.Concat(e.catalog.Views, e.catalog.Sequences) {
					counts[n.Schema]++
				}
				for _, r := range e.catalog.Routines {
					counts[r.Schema]++
				}
				var found []finding
				for _, s := range e.catalog.Schemas {
					if n := counts[s.Name]; n > 0 {
						found = append(found, finding{"object": s.Name, "name": quote(s.Name), "count": strconv.Itoa(n)})
					}
				}
				return found, nil
			},
			consequence: "database {object} holds {count} tables, views, sequences or routines: the copy refuses to mix its rows with others",
			fix:         "DROP DATABASE {name}; -- if nobody needs it",
		},
		{
			id: "unknown-name", severity: move.Loses, on: onSource,
			title:       "The estate names a database or a table that the source does not have.",
			find:        unknownNames,
			consequence: "{what} {object} is not on the source (or our account may not see it): a typing error here leaves something behind, or moves too much",
			fix:         "correct {key} in the estate",
		},
		{
			id: "settings-differ", severity: move.Warns, on: onTarget, pair: true,
			title: "A setting that applications notice is another on the target.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				var found []finding
				for _, name := range comparedSettings {
					value, here := e.settings[name]
					want, there := x.source.settings[name]
					if here && there && value != want {
						found = append(found, finding{"object": name, "found": value, "want": want, "text": settingText(want)})
					}
				}
				return found, nil
			},
			consequence: "{object} is \"{found}\" on the target and \"{want}\" at the source: after the cutover statements may give other results, or fail",
			fix:         "SET GLOBAL {object} = {text}" + inConfig,
		},
		{
			id: "max-packet", severity: move.Loses, on: onTarget, pair: true,
			title: "The target takes smaller packets than the source.",
			find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
				if e.number("max_allowed_packet") >= x.source.number("max_allowed_packet") {
					return nil, nil
				}
				return one("object", "max_allowed_packet", "found", e.settings["max_allowed_packet"], "want", x.source.settings["max_allowed_packet"]), nil
			},
			consequence: "max_allowed_packet is {found} there and {want} at the source: a large row stops the copy or the stream",
			fix:         "SET GLOBAL max_allowed_packet = {want}" + inConfig,
		},
		{
			id: "collation-missing", severity: move.Loses, on: onTarget, pair: true,
			title:       "The target does not know a collation that the source uses.",
			find:        missingCollations,
			consequence: "{object} is used at the source: its tables or databases can not be made",
			fix:         "move to a version that has it (11.4 and later have the newest), or give them a collation that both have",
		},
		{
			id: "engine-missing", severity: move.Loses, on: onTarget, pair: true,
			title:       "The target has no engine that the source uses.",
			find:        missingEngines,
			consequence: "tables of engine {object} ({table} for one) can not be made",
			fix:         "INSTALL SONAME 'ha_{lower}'; -- or ALTER the source's tables to ENGINE = InnoDB",
		},
		{
			id: "time-zones", severity: move.Warns, on: onTarget, pair: true,
			title:       "The target's table of time zones is empty.",
			find:        missingZones,
			consequence: "the source knows time zones by name and the target does not: CONVERT_TZ() gives NULL, and SET time_zone = 'Europe/Berlin' fails",
			fix:         "run `mariadb-tzinfo-to-sql /usr/share/zoneinfo | mariadb mysql` for the target (a managed server has them)",
		},
	}
}

func unknownNames(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	var found []finding
	for _, name := range x.m.cfg.Schemas {
		if !slices.ContainsFunc(e.catalog.Schemas, func(s Schema) bool { return s.Name == name }) {
			found = append(found, finding{"object": name, "what": "database", "key": "schemas"})
		}
	}
	for _, name := range x.m.cfg.Exclude {
		var n int
		if err := e.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE CONCAT(table_schema, '.', table_name) = ?", name).Scan(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			found = append(found, finding{"object": name, "what": "table", "key": "exclude"})
		}
	}
	return found, nil
}

// sameServer looks on one server for a lock that was taken on the other.
func sameServer(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	name := "dhow_preflight_" + x.m.stream
	if len(name) > 64 {
		name = name[:64]
	}
	var got bool
	if err := x.source.conn.QueryRowContext(ctx, "SELECT COALESCE(GET_LOCK(?, 5), 0)", name).Scan(&got); err != nil || !got {
		return nil, err
	}
	var held bool
	err := e.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?) IS NOT NULL", name).Scan(&held)
	if _, e := x.source.conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", name); err == nil {
		err = e
	}
	if err != nil || !held {
		return nil, err
	}
	return one("object", x.m.addr(target)), nil
}

// versionOrder finds that a server is older than another.
func versionOrder(older, newer *end) []finding {
	if !older.version.before(newer.version) {
		return nil
	}
	return one("object", older.version.String(), "found", older.version.String(), "want", newer.version.String())
}

// settingText is a setting's value as SET takes it.
func settingText(value string) string {
	if _, err := strconv.ParseFloat(value, 64); err == nil || value == "ON" || value == "OFF" {
		return value
	}
	return quoteText(value)
}

func missingCollations(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	known := map[string]bool{"": true}
	if err := scan(ctx, e.conn, "SELECT collation_name FROM information_schema.collations", func(row func(...any) error) error {
		var name string
		err := row(&name)
		known[name] = true
		return err
	}); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	c := x.source.catalog
	for _, s := range c.Schemas {
		used[s.Collation] = true
	}
	for _, t := range c.Tables {
		used[t.Collation] = true
		for _, col := range t.Columns {
			used[col.Collation] = true
		}
	}
	var found []finding
	for name := range used {
		if !knownCollation(known, name) {
			found = append(found, finding{"object": name})
		}
	}
	return found, nil
}

// knownCollation says whether a server knows a collation: utf8 was given another name
// in 10.6, and the newest are listed without their character set.
func knownCollation(known map[string]bool, name string) bool {
	if known[name] {
		return true
	}
	if rest, is := strings.CutPrefix(name, "utf8mb3_"); is && known["utf8_"+rest] {
		return true
	}
	if rest, is := strings.CutPrefix(name, "utf8_"); is && known["utf8mb3_"+rest] {
		return true
	}
	_, bare, _ := strings.Cut(name, "_")
	return known[bare]
}

func missingEngines(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	known := map[string]bool{"": true}
	if err := scan(ctx, e.conn, "SELECT engine FROM information_schema.engines WHERE support IN ('YES', 'DEFAULT')", func(row func(...any) error) error {
		var name string
		err := row(&name)
		known[strings.ToLower(name)] = true
		return err
	}); err != nil {
		return nil, err
	}
	var found []finding
	for _, t := range x.source.catalog.Tables {
		engine := strings.ToLower(t.Engine)
		if !known[engine] {
			known[engine] = true // once is enough
			found = append(found, finding{"object": t.Engine, "lower": engine, "table": t.String()})
		}
	}
	return found, nil
}

func missingZones(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	const known = "SELECT CONVERT_TZ('2024-01-01', 'Europe/London', '+00:00') IS NOT NULL"
	var there, here bool
	if err := x.source.conn.QueryRowContext(ctx, known).Scan(&there); err != nil {
		return nil, err
	}
	if err := e.conn.QueryRowContext(ctx, known).Scan(&here); err != nil || here || !there {
		return nil, err
	}
	return one("object", "mysql.time_zone_name"), nil
}
