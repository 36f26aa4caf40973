package redis

import (
	"context"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// Rules about each server by itself.

// sessionsNeeded are the connections that a move opens at one end.
const sessionsNeeded = 24

// builtIn are modules that come with a server and hold no data.
var builtIn = []string{"lua"}

var serverRules = []rule{
	{
		id: "replica", severity: move.Loses, on: onEither, title: "The server is a replica.",
		find: whenever(func(_ *inspection, e *end) finding {
			if e.info["role"] != "slave" {
				return nil
			}
			return finding{"object": e.options.Addr, "primary": e.info["master_host"] + ":" + e.info["master_port"]}
		}),
		consequence: "writes go to its primary, {primary}: here they can neither be fenced nor taken",
		fix:         "name the primary in databases[].{side}.host",
	},
	{
		id: "cluster", severity: move.Loses, on: onEither, title: "The server is part of a cluster.",
		find: whenever(func(_ *inspection, e *end) finding {
			switch is := e.info["cluster_enabled"] == "1"; {
			case is:
				return finding{"object": e.options.Addr, "what": "is part of a cluster, whose keys are spread over its servers, and a move takes one server", "fix": "move it with tools of its own (valkey-cli --cluster import, or the provider's migration), and leave it out of the estate"}
			case e.cluster:
				return finding{"object": e.options.Addr, "what": "is no cluster, though the estate says so", "fix": "set databases[]." + e.side + ".cluster to false"}
			}
			return nil
		}),
		consequence: "{object} {what}",
		fix:         "{fix}",
	},
	{
		id: "replicas", severity: move.Warns, on: onEither, title: "The server has replicas.",
		find: whenever(func(_ *inspection, e *end) finding {
			n := number(e.info, "connected_slaves")
			if e.info["role"] != "master" || n <= ownReplicas(e.info) {
				return nil
			}
			return finding{"object": strconv.FormatInt(n, 10) + " replicas"}
		}),
		consequence: "users' rights are not replicated: a replica that takes over during or after the cutover takes writes although the {side} is sealed",
		fix:         "let no failover happen while the move is under way, and close the replicas' users by hand once it is sealed (ACL SETUSER <user> -@write)",
	},
	{
		id: "modules", severity: move.Loses, on: onSource, title: "A module is loaded.",
		find: func(ctx context.Context, _ *inspection, e *end) ([]finding, error) {
			list, err := e.Do(ctx, "MODULE", "LIST").Slice()
			if err != nil {
				return nil, err
			}
			var found []finding
			for _, m := range list {
				fields, _ := m.([]any)
				for i := 0; i+1 < len(fields); i += 2 {
					name, _ := fields[i+1].(string)
					if fields[i] == "name" && name != builtIn[0] {
						found = append(found, finding{"object": name})
					}
				}
			}
			return found, nil
		},
		consequence: "values of module {object} can not be moved: the copy stops at the first of them, and its commands may pass the users' rights by",
		fix:         "move that data with the module's own tools, then MODULE UNLOAD {object}",
	},
	{
		id: "evicts", severity: move.Loses, on: onTarget, title: "The target evicts keys.",
		find:        whenever(func(_ *inspection, e *end) finding { return evicting(e, "allkeys-") }),
		consequence: "with maxmemory-policy {object} the target throws keys away that the source still has, without a word",
		fix:         "CONFIG SET maxmemory-policy noeviction",
	},
	{
		id: "evicts-expiring", severity: move.Warns, on: onTarget, title: "The target evicts keys that have an expiry.",
		find:        whenever(func(_ *inspection, e *end) finding { return evicting(e, "volatile-") }),
		consequence: "with maxmemory-policy {object} the target throws keys with an expiry away once its memory is full",
		fix:         "CONFIG SET maxmemory-policy noeviction; or raise maxmemory well above what the keys need",
	},
	{
		id: "source-evicts", severity: move.Warns, on: onSource, title: "The source evicts keys.",
		find: whenever(func(_ *inspection, e *end) finding {
			if f := evicting(e, "allkeys-"); f != nil {
				return f
			}
			return evicting(e, "volatile-")
		}),
		consequence: "keys that the source evicts are deleted at the target too; a snapshot and the log of commands count as memory there, so the move itself can make it evict",
		fix:         "raise maxmemory at the source for the time of the move",
	},
	{
		id: "no-persistence", severity: move.Loses, on: onTarget, pair: true, title: "The source keeps its data on disk, and the target does not.",
		find: whenever(func(x *inspection, e *end) finding {
			if persists(x.source) && !persists(e) {
				return finding{"object": "appendonly"}
			}
			return nil
		}),
		consequence: "when the target is restarted all keys are gone, and how far the move is with them",
		fix:         "CONFIG SET appendonly yes, and the same in its configuration file",
	},
	{
		id: "no-persistence-either", severity: move.Warns, on: onSource, pair: true, title: "Neither server keeps its data on disk.",
		find: whenever(func(x *inspection, e *end) finding {
			if !persists(e) && !persists(x.target) {
				return finding{"object": "appendonly"}
			}
			return nil
		}),
		consequence: "a server that is restarted is empty: the move begins anew, and behind the cutover there is no way back to an empty source",
		fix:         "CONFIG SET appendonly yes on both sides; nothing, if the data may be lost at any time",
	},
	{
		id: "replicas-wanted", severity: move.Loses, on: onEither, title: "The server refuses writes while it has too few replicas.",
		find: whenever(func(_ *inspection, e *end) finding {
			want, have := number(e.settings, "min-replicas-to-write"), number(e.info, "min_slaves_good_slaves")
			if want == 0 || have >= want {
				return nil
			}
			return finding{"object": "min-replicas-to-write", "want": strconv.FormatInt(want, 10), "have": strconv.FormatInt(have, 10)}
		}),
		consequence: "the server wants {want} replicas and has {have}: it refuses every write with NOREPLICAS, ours too",
		fix:         "CONFIG SET min-replicas-to-write 0, or start the replicas",
	},
	{
		id: "few-connections", severity: move.Loses, on: onEither, title: "The server has too few free connections.",
		find: whenever(func(_ *inspection, e *end) finding {
			most, used := number(e.info, "maxclients"), number(e.info, "connected_clients")
			if most == 0 || used+sessionsNeeded <= most {
				return nil
			}
			return finding{"object": "maxclients", "used": strconv.FormatInt(used, 10), "most": strconv.FormatInt(most, 10), "want": strconv.FormatInt(used+sessionsNeeded, 10)}
		}),
		consequence: "{used} of {most} connections are in use, and the move needs " + strconv.Itoa(sessionsNeeded) + " more",
		fix:         "CONFIG SET maxclients {want}",
	},
}

// ownReplicas counts our own connections among a server's replicas: they give no port.
func ownReplicas(info map[string]string) int64 {
	var n int64
	for name, value := range info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, ",port=0,") {
			n++
		}
	}
	return n
}

// evicting says which policy of a kind a server has, if its memory is bounded.
func evicting(e *end, kind string) finding {
	if policy := e.info["maxmemory_policy"]; number(e.info, "maxmemory") > 0 && strings.HasPrefix(policy, kind) {
		return finding{"object": policy}
	}
	return nil
}

// persists says whether a server keeps its data on disk, as far as it can be seen.
func persists(e *end) bool {
	return e.info["aof_enabled"] == "1" || e.settings == nil || e.settings["save"] != ""
}
