package redis

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

// Rules about the two ends and how we reach them.

const (
	// roomPercent is how much of the source's memory the target must have at least.
	roomPercent = 120
	// clockMost is by how much the servers' clocks may differ: keys end by the
	// clock of the server that holds them.
	clockMost = time.Second
	// ownScanMost bounds the pages that are looked through for keys with our prefix.
	ownScanMost = 20_000
)

var pairRules = []rule{
	{
		id: "same-server", severity: move.Loses, on: onTarget, fresh: true, pair: true, title: "Source and target are the same server.",
		find: whenever(func(x *inspection, e *end) finding {
			if x.source.info["run_id"] == e.info["run_id"] {
				return finding{"object": e.options.Addr}
			}
			return nil
		}),
		consequence: "both ends lead to one server: there is nothing to move, and its keys would be overwritten by themselves",
		fix:         "name another target in the estate",
	},
	{
		id: "target-not-empty", severity: move.Loses, on: onTarget, fresh: true, title: "The target holds keys.",
		find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
			var found []finding
			for db, n := range e.keys {
				found = append(found, finding{"object": keySpace(db), "keys": strconv.FormatInt(n, 10), "db": strconv.Itoa(db)})
			}
			return found, nil
		},
		consequence: "database {db} of the target holds {keys} keys: they would be mixed with the source's",
		fix:         "look at them; if nobody needs them: SELECT {db}, then FLUSHDB",
	},
	{
		id: "older-target", severity: move.Loses, on: onTarget, pair: true, title: "The target's version can not read the source's values.",
		find: whenever(func(x *inspection, e *end) finding {
			if !reads(e.info, x.source.info) {
				return finding{"object": versionOf(e.info), "source": versionOf(x.source.info)}
			}
			return nil
		}),
		consequence: "the source ({source}) writes values in a format that the target ({object}) does not know: RESTORE refuses them, and the copy fails",
		fix:         "install a target of the source's version or a later one; Valkey 9 and Redis from 7.4 on do not read each other's",
	},
	{
		id: "older-source", severity: move.Warns, on: onSource, pair: true, title: "The way back would not be readable for the source.",
		find: whenever(func(x *inspection, e *end) finding {
			if formatOf(e.info) < formatOf(x.target.info) {
				return finding{"object": versionOf(e.info), "target": versionOf(x.target.info)}
			}
			return nil
		}),
		consequence: "commands and values that only the target ({target}) knows can not come back to the source ({object}): a way back ends at the first of them",
		fix:         "use nothing new of the target's version until the move is finished",
	},
	{
		id: "fewer-databases", severity: move.Loses, on: onTarget, pair: true, title: "The target has fewer databases than the source uses.",
		find: whenever(func(x *inspection, e *end) finding {
			have := number(e.settings, "databases")
			highest := -1
			for db := range x.source.keys {
				highest = max(highest, db)
			}
			if have == 0 || int64(highest) < have {
				return nil
			}
			return finding{"object": keySpace(highest), "have": strconv.FormatInt(have, 10), "want": strconv.Itoa(highest + 1)}
		}),
		consequence: "the source holds keys in {object}, and the target has {have} databases: SELECT fails, and the copy with it",
		fix:         "databases {want} in the target's configuration, then restart it",
	},
	{
		id: "little-memory", severity: move.Loses, on: onTarget, pair: true, title: "The target's maxmemory is too small.",
		find: whenever(func(x *inspection, e *end) finding {
			most, used := number(e.info, "maxmemory"), number(x.source.info, "used_memory")
			if want := used * roomPercent / 100; most > 0 && most < want {
				return finding{"object": "maxmemory", "have": strconv.FormatInt(most, 10), "want": strconv.FormatInt(want, 10), "used": strconv.FormatInt(used, 10)}
			}
			return nil
		}),
		consequence: "the source uses {used} bytes and the target may use {have}: it refuses writes, or evicts keys, before all is copied",
		fix:         "CONFIG SET maxmemory {want}",
	},
	{
		id: "missing-user", severity: move.Warns, on: onTarget, pair: true, title: "The target lacks a user of the source.",
		find: func(_ context.Context, x *inspection, e *end) ([]finding, error) {
			if x.source.users == nil || e.users == nil {
				return nil, nil
			}
			var found []finding
			for _, u := range x.source.users.users {
				if !slices.ContainsFunc(e.users.users, func(o aclUser) bool { return o.name == u.name }) {
					found = append(found, finding{"object": u.name})
				}
			}
			return found, nil
		},
		consequence: "user {object} can not log in at the target: users are not data, and are not moved",
		fix:         "make it at the target with ACL SETUSER {object}, with the rules that ACL LIST shows at the source",
	},
	{
		id: "missing-functions", severity: move.Loses, on: onTarget, pair: true, title: "The source has functions, and the target knows none.",
		find: func(ctx context.Context, x *inspection, e *end) ([]finding, error) {
			there, err := libraries(ctx, x.source.session)
			if err != nil || len(there) == 0 {
				return nil, err
			}
			here, err := libraries(ctx, e.session)
			if err != nil || here != nil {
				return nil, err
			}
			return []finding{{"object": strconv.Itoa(len(there)) + " libraries"}}, nil
		},
		consequence: "{object} of functions can not be loaded at the target, and FCALL fails there",
		fix:         "install a target of version 7 or later, or let the user call FUNCTION there",
	},
	{
		id: "other-time", severity: move.Warns, on: onTarget, pair: true, title: "The servers' clocks differ.",
		find: whenever(func(x *inspection, e *end) finding {
			if e.clock.IsZero() || x.source.clock.IsZero() {
				return nil
			}
			off := e.clock.Sub(x.source.clock) - e.asked.Sub(x.source.asked)
			if off.Abs() <= clockMost {
				return nil
			}
			return finding{"object": off.Abs().Round(time.Millisecond).String()}
		}),
		consequence: "the clocks differ by {object}: keys with an expiry end that much earlier or later once the target serves",
		fix:         "let both servers keep their time by NTP",
	},
	{
		id: "our-prefix", severity: move.Loses, on: onSource, fresh: true, title: "The application has keys that begin as ours do.",
		find:        othersWithOurPrefix,
		consequence: "keys that begin with dhow: are taken for the move's own, and are neither moved nor compared; {object} of {space} is one that is not",
		fix:         "rename them (RENAME) before the move",
	},
	{
		id: "in-the-clear", severity: move.Warns, on: onEither, title: "The connection is not encrypted.",
		find: whenever(func(_ *inspection, e *end) finding {
			if host, _, err := net.SplitHostPort(e.options.Addr); e.options.TLSConfig == nil && err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
				return finding{"object": e.options.Addr}
			}
			return nil
		}),
		consequence: "all keys and the password travel in the clear to {object}",
		fix:         "let the server take TLS (tls-port) and set databases[].{side}.tls.mode to verify-full",
	},
	{
		id: "not-verified", severity: move.Warns, on: onEither, title: "The server's certificate is not checked.",
		find: whenever(func(_ *inspection, e *end) finding {
			if c := e.options.TLSConfig; c != nil && c.InsecureSkipVerify && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil {
				return finding{"object": e.options.Addr}
			}
			return nil
		}),
		consequence: "whoever answers at {object} gets the password and all keys",
		fix:         "set databases[].{side}.tls.mode to verify-full, and tls.ca to the authority's file",
	},
}

// formats are the formats of values by version: the first of which a server is at least.
var formats = []struct {
	valkey       bool
	major, minor int
	format       int
}{
	{true, 9, 0, 80}, {true, 7, 2, 11},
	{false, 8, 0, 12}, {false, 7, 4, 12}, {false, 7, 2, 11}, {false, 7, 0, 10}, {false, 5, 0, 9},
}

// formatOf is the version of the format in which a server writes values (RDB).
func formatOf(info map[string]string) int {
	text, valkey := info["valkey_version"], true
	if text == "" {
		text, valkey = info["redis_version"], false
	}
	major, minor := 0, 0
	if n, err := fmt.Sscanf(text, "%d.%d", &major, &minor); n < 2 || err != nil {
		return 0
	}
	for _, f := range formats {
		if f.valkey == valkey && (major > f.major || major == f.major && minor >= f.minor) {
			return f.format
		}
	}
	return 0
}

// splitFormat is the first format since Redis and Valkey went apart.
const splitFormat = 12

// reads says whether a server reads the values that another one writes. Valkey
// takes none of Redis's formats since the two went apart.
func reads(reader, writer map[string]string) bool {
	there, here := formatOf(writer), formatOf(reader)
	foreign := reader["valkey_version"] != "" && writer["valkey_version"] == ""
	return there <= here && (!foreign || there < splitFormat)
}

func versionOf(info map[string]string) string {
	if v := info["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	return "Redis " + info["redis_version"]
}

// othersWithOurPrefix looks for keys with our prefix that are none of ours.
func othersWithOurPrefix(ctx context.Context, x *inspection, e *end) ([]finding, error) {
	l := x.m.newLook(false)
	defer l.hangUp()
	pages := 0
	var found []finding
	for db := range e.keys {
		s, err := l.session(ctx, 0, db)
		if err != nil {
			return nil, err
		}
		for cursor := uint64(0); pages < ownScanMost; pages++ {
			keys, next, err := s.Scan(ctx, cursor, ourPrefix+"*", pageKeys).Result()
			if err != nil {
				return nil, err
			}
			for _, k := range keys {
				if db != 0 || !slices.Contains(x.m.keysOfOurs(), k) && !strings.HasPrefix(k, ourPrefix+"{") {
					found = append(found, finding{"object": keyText(k), "space": keySpace(db)})
					break
				}
			}
			if cursor = next; cursor == 0 || len(found) > 0 {
				break
			}
		}
	}
	return found, nil
}
