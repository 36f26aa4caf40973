package redis

import (
	"context"
	"slices"
	"strings"

	"dhow/internal/move"
)

// Rules about what we may do, and about the fence.

var rightRules = []rule{
	{
		id: "missing-command", severity: move.Loses, on: onEither, title: "The server does not know a command, or does not let us use it.",
		find: func(_ context.Context, _ *inspection, e *end) ([]finding, error) {
			var found []finding
			for _, name := range needed {
				why, lacks := e.missing[name]
				if !lacks {
					continue
				}
				f := finding{"object": name, "why": "the server knows no such command (rename-command)", "fix": "take rename-command for it out of the server's configuration, and restart it"}
				if why == "refused" {
					f["why"], f["fix"] = "the user may not use it", "ACL SETUSER <user> +"+strings.ToLower(name)
				}
				found = append(found, f)
			}
			return found, nil
		},
		consequence: "the move needs {object}, and {why}",
		fix:         "{fix}",
	},
	{
		id: "no-seal", severity: move.Warns, on: onSource, title: "The source's users can not be changed.",
		find:        whenever(func(_ *inspection, e *end) finding { return noACL(e) }),
		consequence: "behind the cutover the source can not be made to refuse writes: it is paused until the way back runs, and from then on takes what still reaches it, which is lost",
		fix:         "ACL SETUSER <user> +acl; on ElastiCache take the right to write from its users there (aws elasticache modify-user) as soon as the cutover is done",
	},
	{
		id: "open-target", severity: move.Warns, on: onTarget, title: "The target's users can not be changed.",
		find:        whenever(func(_ *inspection, e *end) finding { return noACL(e) }),
		consequence: "nothing keeps the application from writing at the target before the cutover; such keys would differ",
		fix:         "ACL SETUSER <user> +acl; or see to it that nothing but dhow reaches the target yet",
	},
	{
		id: "forgetful-seal", severity: move.Warns, on: onEither, title: "The server keeps its users in no file.",
		find: whenever(func(_ *inspection, e *end) finding {
			if e.users == nil || e.info["config_file"] != "" || e.settings["aclfile"] != "" {
				return nil
			}
			return finding{"object": "aclfile"}
		}),
		consequence: "the {side} was started without a configuration file and has no ACL file: when it is restarted it forgets which users may not write",
		fix:         "start it with a configuration file that it may write, or with aclfile; else do not restart it until the move is finished",
	},
	{
		id: "default-replays", severity: move.Loses, on: onTarget, title: "The user default may not do all, and the target has an append-only file.",
		find:        whenever(func(_ *inspection, e *end) finding { return replaysInPart(e) }),
		consequence: "a server that starts works its append-only file off with the rights of {object}, and drops the transactions that these do not cover: when the target is restarted, changes of the move are gone, without a word",
		fix:         "ACL SETUSER default off allkeys allcommands, and the same in its configuration file: nobody can log in as it",
	},
	{
		id: "source-default-replays", severity: move.Warns, on: onSource, title: "The user default may not do all, and the source has an append-only file.",
		find:        whenever(func(_ *inspection, e *end) finding { return replaysInPart(e) }),
		consequence: "a server that starts works its append-only file off with the rights of {object}, and drops the transactions that these do not cover: when the source is restarted, changes of the application and of the way back are gone, without a word",
		fix:         "ACL SETUSER default off allkeys allcommands, and the same in its configuration file: nobody can log in as it",
	},
	{
		id: "user-without-password", severity: move.Warns, on: onEither, title: "The move's user has no password.",
		find: whenever(func(_ *inspection, e *end) finding {
			if e.users == nil || e.options.Password != "" {
				return nil
			}
			name := e.options.Username
			if name == "" {
				name = "default"
			}
			i := slices.IndexFunc(e.users.users, func(u aclUser) bool { return u.name == name })
			if i < 0 || !slices.Contains(e.users.users[i].flags, "nopass") {
				return nil
			}
			return finding{"object": name}
		}),
		consequence: "the user that the move makes for itself, which may write although the {side} is sealed, has no password either: whoever knows its name can use it",
		fix:         "give user {object} a password (ACL SETUSER {object} resetpass ><password>), or the move a user of its own, and name it in the estate",
	},
}

// noACL says whether a server's users can not be changed by us.
func noACL(e *end) finding {
	if e.users != nil && e.missing["ACL|SETUSER"] == "" {
		return nil
	}
	return finding{"object": "ACL SETUSER"}
}

// replaysInPart finds a user default that bounds what an append-only file brings back.
func replaysInPart(e *end) finding {
	if e.users == nil || e.info["aof_enabled"] != "1" {
		return nil
	}
	if _, closed := e.users.shadows[defaultUser]; closed {
		return nil // by us, and saved otherwise
	}
	i := slices.IndexFunc(e.users.users, func(u aclUser) bool { return u.name == defaultUser })
	if i < 0 || e.users.users[i].unbounded() {
		return nil
	}
	return finding{"object": defaultUser}
}
