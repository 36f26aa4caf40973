package redis

import (
	"context"
	"crypto/tls"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
	"dhow/internal/process"
	"dhow/internal/redisserver/redistest"
)

// sound are settings of a server in which no rule finds anything.
func sound(more ...string) []string {
	return append([]string{"repl-backlog-size", "64mb"}, more...)
}

// planted are the rules whose traps a test here plants, or feeds to the rule.
var planted = map[string]bool{
	"same-server": true, "target-not-empty": true, "older-target": true, "older-source": true, "fewer-databases": true, "little-memory": true, "missing-user": true,
	"missing-functions": true, "other-time": true, "our-prefix": true, "in-the-clear": true, "not-verified": true, "replica": true, "cluster": true, "replicas": true,
	"modules": true, "evicts": true, "evicts-expiring": true, "source-evicts": true, "no-persistence": true, "no-persistence-either": true, "replicas-wanted": true,
	"few-connections": true, "no-replication": true, "no-replication-back": true, "small-backlog": true, "backlog-forgotten": true, "small-output-buffer": true,
	"short-timeout": true, "slow-fork": true, "missing-command": true, "no-seal": true, "open-target": true, "forgetful-seal": true, "user-without-password": true,
	"default-replays": true, "source-default-replays": true,
}

// findingsOf runs the preflight and gives what it found, as rule/side/object.
func findingsOf(t *testing.T, m *Mover) []string {
	t.Helper()
	issues, err := m.Preflight(t.Context())
	must(t, err)
	var found []string
	for _, i := range issues {
		found = append(found, i.Rule+"/"+i.Side+"/"+i.Object)
		if strings.ContainsAny(i.Consequence+i.Fix, "{}") {
			t.Errorf("%s has placeholders left: %s / %s", i.Rule, i.Consequence, i.Fix)
		}
	}
	slices.Sort(found)
	return found
}

// expect compares findings; a want that ends in / matches any object.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && (got[i] == want[i] || strings.HasSuffix(want[i], "/") && strings.HasPrefix(got[i], want[i]))
	}
	if !ok {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPreflight(t *testing.T) {
	e := startEnds(t, sound()...)
	from, to := as(t, e.source, "", ""), as(t, e.target, "", "")
	fill(t, from, 100)
	expect(t, findingsOf(t, e.m))

	// Traps that can be set in running servers, all at once.
	must(t, to.Set(t.Context(), "k", "1", 0).Err())
	for _, s := range [][]string{{"repl-backlog-size", "1048576"}, {"repl-backlog-ttl", "60"}, {"repl-timeout", "11"}, {"client-output-buffer-limit", "replica 1048576 0 0"},
		{"min-replicas-to-write", "1"}, {"maxclients", "20"}} {
		must(t, from.ConfigSet(t.Context(), s[0], s[1]).Err())
	}
	for _, s := range [][]string{{"maxmemory", "1000000"}, {"maxmemory-policy", "volatile-lru"}, {"appendonly", "no"}} {
		must(t, to.ConfigSet(t.Context(), s[0], s[1]).Err())
	}
	do(t, from, "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")
	expect(t, findingsOf(t, e.m),
		"small-backlog/source/repl-backlog-size", "backlog-forgotten/source/repl-backlog-ttl", "short-timeout/source/repl-timeout", "small-output-buffer/source/client-output-buffer-limit",
		"replicas-wanted/source/min-replicas-to-write", "few-connections/source/maxclients", "little-memory/target/maxmemory", "evicts-expiring/target/volatile-lru",
		"no-persistence/target/appendonly", "missing-user/target/app", "target-not-empty/target/db0")
	for _, s := range [][]string{{"repl-backlog-size", "67108864"}, {"repl-backlog-ttl", "3600"}, {"repl-timeout", "60"}, {"client-output-buffer-limit", "replica 268435456 67108864 60"},
		{"min-replicas-to-write", "0"}, {"maxclients", "1000"}, {"appendonly", "no"}, {"maxmemory", "100000000"}, {"maxmemory-policy", "allkeys-lru"}} {
		must(t, from.ConfigSet(t.Context(), s[0], s[1]).Err())
	}
	must(t, to.ConfigSet(t.Context(), "maxmemory", "200000000").Err())
	must(t, to.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-random").Err())
	do(t, from, "ACL", "DELUSER", "app")
	do(t, to, "FLUSHALL")
	must(t, from.Set(t.Context(), "dhow:of the application", "1", 0).Err())
	expect(t, findingsOf(t, e.m), "source-evicts/source/allkeys-lru", "evicts/target/allkeys-random", "no-persistence-either/source/appendonly", `our-prefix/source/"dhow:of the application"`)
}

func TestPreflightSeesTheServersKinds(t *testing.T) {
	primary := redistest.Start(t, sound()...)
	replica := redistest.Start(t, sound("replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port), "masterauth", primary.Password())...)
	client := as(t, replica, "", "")
	until(t, "the replica is up", func() bool {
		return strings.Contains(client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	e := &ends{source: replica, target: primary}
	found := findingsOf(t, e.mover(t))
	if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "replica/source/") }) || !slices.Contains(found, "replicas/target/1 replicas") {
		t.Errorf("found %v", found)
	}
	same := &ends{source: primary, target: primary}
	if found := findingsOf(t, same.mover(t)); !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "same-server/target/") }) {
		t.Errorf("found %v", found)
	}
	bus, err := process.ReservePort() // by itself it would be 10,000 above the server's, which may be no port
	must(t, err)
	t.Cleanup(bus.Release)
	cluster := &ends{source: primary, target: redistest.Start(t, sound("cluster-enabled", "yes", "cluster-port", strconv.Itoa(bus.Number()))...)}
	if found := findingsOf(t, cluster.mover(t)); !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "cluster/target/") }) {
		t.Errorf("found %v", found)
	}
}

func TestPreflightSeesWhatIsRefused(t *testing.T) {
	e := startEnds(t, sound("rename-command", "RESTORE \"\"")...)
	for _, s := range []*redis.Client{as(t, e.source, "", ""), as(t, e.target, "", "")} {
		do(t, s, "ACL", "SETUSER", "mover", "on", ">pw", "~*", "&*", "+@all", "-acl", "+acl|whoami", "+acl|dryrun", "-psync", "-watch", "-config")
		must(t, s.ConfigSet(t.Context(), forkDelay, "5").Err())
	}
	from, to := optionsOf(t, e.source), optionsOf(t, e.target)
	from.Username, from.Password, to.Username, to.Password = "mover", "pw", "mover", "pw"
	m, err := New(Config{Estate: "test", Name: "cache", Source: from, Target: to})
	must(t, err)
	expect(t, findingsOf(t, m),
		"no-replication/source/PSYNC", "no-replication-back/target/PSYNC", "no-seal/source/ACL SETUSER", "open-target/target/ACL SETUSER",
		"missing-command/source/RESTORE", "missing-command/target/RESTORE", "missing-command/source/WATCH", "missing-command/target/WATCH")
	do(t, as(t, e.source, "", ""), "ACL", "SETUSER", "mover", "+config|get")
	if found := findingsOf(t, m); !slices.Contains(found, "slow-fork/source/"+forkDelay) {
		t.Errorf("found %v", found)
	}
}

func TestPreflightSeesWhatTheDefaultUserMayNotReplay(t *testing.T) {
	e := startEnds(t, sound()...)
	for _, s := range []*redis.Client{as(t, e.source, "", ""), as(t, e.target, "", "")} {
		do(t, s, "ACL", "SETUSER", "mover", "on", ">pw", "~*", "&*", "+@all")
	}
	from, to := optionsOf(t, e.source), optionsOf(t, e.target)
	from.Username, from.Password, to.Username, to.Password = "mover", "pw", "mover", "pw"
	m, err := New(Config{Estate: "test", Name: "cache", Source: from, Target: to})
	must(t, err)
	source, target := as(t, e.source, "mover", "pw"), as(t, e.target, "mover", "pw")
	expect(t, findingsOf(t, m))
	do(t, target, "ACL", "SETUSER", "default", "-@dangerous")
	do(t, source, "ACL", "SETUSER", "default", "resetkeys", "~app:*")
	expect(t, findingsOf(t, m), "default-replays/target/default", "source-default-replays/source/default")
	do(t, target, "ACL", "SETUSER", "default", "off", "allkeys", "allcommands") // the fix
	do(t, source, "ACL", "SETUSER", "default", "off", "allkeys", "allcommands")
	expect(t, findingsOf(t, m))
}

// TestPreflightSeesAServerWithoutFiles plants what a server that was started by
// hand is like: no password, no configuration file, few databases.
func TestPreflightSeesAServerWithoutFiles(t *testing.T) {
	e := &ends{source: redistest.Start(t, sound()...)}
	fifth := optionsOf(t, e.source)
	fifth.DB = 5
	c := redis.NewClient(fifth)
	defer c.Close()
	must(t, c.Set(t.Context(), "k", "1", 0).Err())
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd := exec.CommandContext(t.Context(), "redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--databases", "2", "--appendonly", "yes", "--repl-backlog-size", "64mb")
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	to := &redis.Options{Network: "unix", Addr: socket}
	bare := redis.NewClient(to)
	defer bare.Close()
	until(t, "it is up", func() bool { return bare.Ping(t.Context()).Err() == nil })
	m, err := New(Config{Estate: "test", Name: "cache", Source: optionsOf(t, e.source), Target: to})
	must(t, err)
	expect(t, findingsOf(t, m), "fewer-databases/target/db5", "forgetful-seal/target/aclfile", "user-without-password/target/default")
}

// TestRulesThatNoServerHereCanShow feeds rules what other servers say.
func TestRulesThatNoServerHereCanShow(t *testing.T) {
	find := func(id string, x *inspection, e *end) []finding {
		for _, g := range groups() {
			for _, r := range g {
				if r.id == id {
					found, err := r.find(t.Context(), x, e)
					must(t, err)
					return found
				}
			}
		}
		t.Fatalf("no rule %s", id)
		return nil
	}
	version := func(redis, valkey string) *end {
		return &end{info: map[string]string{"redis_version": redis, "valkey_version": valkey}}
	}
	for _, c := range []struct {
		from, to *end
		rule     string
		is       bool
	}{
		{version("7.0.15", ""), version("6.2.14", ""), "older-target", true},
		{version("7.2.4", ""), version("7.0.15", ""), "older-target", true},
		{version("7.4.1", ""), version("7.2.4", "8.0.1"), "older-target", true},
		{version("7.2.4", "9.0.0"), version("8.0.0", ""), "older-target", true},
		{version("7.4.1", ""), version("7.2.4", "9.0.0"), "older-target", true},
		{version("7.2.4", "8.0.1"), version("7.2.4", "9.0.0"), "older-target", false},
		{version("6.2.14", ""), version("7.0.15", ""), "older-target", false},
		{version("7.2.4", ""), version("7.2.4", "8.0.1"), "older-target", false},
		{version("6.2.14", ""), version("7.0.15", ""), "older-source", true},
		{version("7.0.15", ""), version("7.0.15", ""), "older-source", false},
	} {
		e := c.to
		if c.rule == "older-source" {
			e = c.from
		}
		if got := len(find(c.rule, &inspection{source: c.from, target: c.to}, e)) > 0; got != c.is {
			t.Errorf("%s from %v to %v: %v", c.rule, c.from.info, c.to.info, got)
		}
	}
	now := time.Now()
	slow := &end{clock: now.Add(-3 * time.Second), asked: now}
	if found := find("other-time", &inspection{source: &end{clock: now, asked: now}}, slow); len(found) != 1 || found[0]["object"] != "3s" {
		t.Errorf("clocks: %v", found)
	}
	if found := find("other-time", &inspection{source: &end{clock: now, asked: now}}, &end{clock: now.Add(time.Minute), asked: now.Add(time.Minute)}); len(found) != 0 {
		t.Errorf("clocks that agree: %v", found)
	}
	for addr, want := range map[string]int{"10.0.0.1:6379": 1, "redis.example:6379": 1, "127.0.0.1:6379": 0, "localhost:6379": 0, "[::1]:6379": 0} {
		if found := find("in-the-clear", nil, &end{options: &redis.Options{Addr: addr}}); len(found) != want {
			t.Errorf("%s in the clear: %v", addr, found)
		}
	}
	for verified, c := range map[bool]*tls.Config{false: {InsecureSkipVerify: true}, true: {}} {
		e := &end{options: &redis.Options{Addr: "10.0.0.1:6379", TLSConfig: c}}
		if found := find("not-verified", nil, e); (len(found) == 0) != verified || len(find("in-the-clear", nil, e)) != 0 {
			t.Errorf("verified %v: %v", verified, found)
		}
	}
}

// TestPreflightSeesFunctionsAndModules asks servers that answer what is planted.
func TestPreflightSeesFunctionsAndModules(t *testing.T) {
	e := startEnds(t, sound()...)
	from, to := as(t, e.source, "", ""), as(t, e.target, "", "")
	do(t, from, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	do(t, to, "ACL", "SETUSER", "mover", "on", ">pw", "~*", "&*", "+@all", "-function")
	o := optionsOf(t, e.target)
	o.Username, o.Password = "mover", "pw"
	m, err := New(Config{Estate: "test", Name: "cache", Source: optionsOf(t, e.source), Target: o})
	must(t, err)
	m.onDial = func(s *session) {
		if s.side == source {
			s.AddHook(answering{"module": []any{[]any{"name", "search", "ver", int64(1)}, []any{"name", "lua", "ver", int64(1)}}})
		}
	}
	expect(t, findingsOf(t, m), "missing-functions/target/1 libraries", "modules/source/search")
}

// answering gives planted answers for commands.
type answering map[string]any

func (a answering) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a answering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a answering) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if answer, is := a[strings.ToLower(cmd.Name())]; is {
			cmd.(*redis.Cmd).SetVal(answer)
			return nil
		}
		return next(ctx, cmd)
	}
}

func TestPreflightLooksAtTheOtherServerWhenOneIsAway(t *testing.T) {
	e := startEnds(t, sound()...)
	e.target.Kill()
	must(t, as(t, e.source, "", "").ConfigSet(t.Context(), "repl-timeout", "11").Err())
	issues, err := e.m.Preflight(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connect to the target") || !strings.Contains(err.Error(), "nothing answers") {
		t.Errorf("the error is %v", err)
	}
	if len(issues) != 1 || issues[0].Rule != "short-timeout" || issues[0].Severity != move.Warns {
		t.Errorf("issues %+v", issues)
	}
}
