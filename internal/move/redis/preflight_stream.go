package redis

import (
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

// Rules about the stream of changes, there and back.

const (
	// logLeast is the smallest log of commands that a move should rely upon, and
	// logHolds how long it should reach back at the present traffic.
	logLeast = 16 << 20
	logHolds = 2 * time.Minute
	// logKept is how long a server should keep its log when no replica reads it.
	logKept = 10 * time.Minute
	// silentLeast is the shortest repl-timeout that a busy machine's pauses do not exceed.
	silentLeast = 30
	// backlogOfCopy is what a server should be willing to hold back for a replica
	// while that one is copying.
	backlogOfCopy = 256 << 20
	// largeData is from where on a copy takes long enough for the soft limit to matter.
	largeData = 1 << 30
)

var streamRules = []rule{
	{
		id: "no-replication", severity: move.Loses, on: onSource, title: "The source takes no replica.",
		find: whenever(func(_ *inspection, e *end) finding {
			if why := e.missing["PSYNC"] + e.missing["REPLCONF"]; why != "" {
				return finding{"object": "PSYNC"}
			}
			return nil
		}),
		consequence: "the stream of changes comes by PSYNC, as to a replica. Without it keys can only be listed (SCAN) and watched by their notifications, which a server drops when a connection " +
			"breaks, and which tell nothing of FLUSHALL and FLUSHDB: such a copy could not promise that no write is lost, so it is not made",
		fix: "ACL SETUSER <user> +psync +replconf; on ElastiCache ask AWS to enable PSYNC for the move",
	},
	{
		id: "no-replication-back", severity: move.Warns, on: onTarget, title: "The target takes no replica.",
		find: whenever(func(_ *inspection, e *end) finding {
			if why := e.missing["PSYNC"] + e.missing["REPLCONF"]; why != "" {
				return finding{"object": "PSYNC"}
			}
			return nil
		}),
		consequence: "there is no way back with what was written at the target: its changes can not be streamed, and no snapshot of it can be pinned for the proof",
		fix:         "ACL SETUSER <user> +psync +replconf; on ElastiCache ask AWS to enable PSYNC for the move",
	},
	{
		id: "small-backlog", severity: move.Warns, on: onEither, title: "The log of commands is short.",
		find: whenever(func(_ *inspection, e *end) finding {
			size := number(e.info, "repl_backlog_size")
			rate, err := strconv.ParseFloat(e.info["instantaneous_input_kbps"], 64)
			if err != nil {
				rate = 0
			}
			want := max(logLeast, int64(rate*1024*logHolds.Seconds()))
			if size == 0 || size >= want {
				return nil
			}
			return finding{"object": "repl-backlog-size", "have": strconv.FormatInt(size, 10), "want": strconv.FormatInt(want, 10)}
		}),
		consequence: "the {side} keeps {have} bytes of its commands: when the stream is away for longer than they last, the copy begins anew, the way back's too",
		fix:         "CONFIG SET repl-backlog-size {want}",
	},
	{
		id: "backlog-forgotten", severity: move.Warns, on: onEither, title: "The log of commands is soon forgotten.",
		find: whenever(func(_ *inspection, e *end) finding {
			ttl := number(e.settings, "repl-backlog-ttl")
			if ttl == 0 || ttl >= int64(logKept.Seconds()) {
				return nil
			}
			return finding{"object": "repl-backlog-ttl", "have": strconv.FormatInt(ttl, 10)}
		}),
		consequence: "the {side} forgets its log {have} s after the last replica left: a stream that is away for longer can not go on where it was",
		fix:         "CONFIG SET repl-backlog-ttl 3600",
	},
	{
		id: "small-output-buffer", severity: move.Warns, on: onEither, title: "The server cuts replicas off that are slow.",
		find: whenever(func(_ *inspection, e *end) finding {
			hard, soft := replicaLimits(e.settings["client-output-buffer-limit"])
			tight := hard > 0 && hard < backlogOfCopy || soft > 0 && soft < backlogOfCopy && number(e.info, "used_memory") > largeData
			if !tight {
				return nil
			}
			return finding{"object": "client-output-buffer-limit", "hard": strconv.FormatInt(hard, 10), "soft": strconv.FormatInt(soft, 10)}
		}),
		consequence: "while the snapshot is copied, changes pile up at the server; above {hard} bytes, or for a while above {soft}, it ends the connection and the copy begins anew",
		fix:         `CONFIG SET client-output-buffer-limit "replica 1073741824 268435456 300"`,
	},
	{
		id: "short-timeout", severity: move.Warns, on: onEither, title: "The server gives replicas up quickly.",
		find: whenever(func(_ *inspection, e *end) finding {
			n := number(e.settings, "repl-timeout")
			if n == 0 || n >= silentLeast {
				return nil
			}
			return finding{"object": "repl-timeout", "have": strconv.FormatInt(n, 10)}
		}),
		consequence: "a stream, or a pinned snapshot, that is silent for {have} s is ended by the {side}",
		fix:         "CONFIG SET repl-timeout 60",
	},
	{
		id: "slow-fork", severity: move.Warns, on: onEither, title: "The server waits before it makes a snapshot.",
		find: whenever(func(_ *inspection, e *end) finding {
			n := number(e.settings, forkDelay)
			if n == 0 || e.settings["repl-diskless-sync"] != "yes" || e.missing["CONFIG|SET"] == "" {
				return nil
			}
			return finding{"object": forkDelay, "have": strconv.FormatInt(n, 10)}
		}),
		consequence: "a snapshot of the cutover's very instant would take {have} s to begin, and we may not change that: the proof compares the moving data instead",
		fix:         "CONFIG SET " + forkDelay + " 0",
	},
}

// replicaLimits reads the limits of replicas from client-output-buffer-limit, in bytes; 0 is none.
func replicaLimits(setting string) (hard, soft int64) {
	words := strings.Fields(setting)
	for i := 0; i+2 < len(words); i++ {
		if words[i] == "slave" || words[i] == "replica" {
			hard, _ = strconv.ParseInt(words[i+1], 10, 64) // a server gives numbers
			soft, _ = strconv.ParseInt(words[i+2], 10, 64)
		}
	}
	return hard, soft
}
