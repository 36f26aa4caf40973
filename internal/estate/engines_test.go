package estate

import (
	"strings"
	"testing"
)

func TestOtherEngines(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "bank")
	t.Setenv("DHOW_TEST_SECRET", hidden)
	for _, c := range []struct {
		name            string
		end             Endpoint
		network, maria  string // what the MariaDB endpoint connects to
		redis           string // and the Redis one; empty for a socket
		secure, checked bool
	}{
		{name: "far", end: Endpoint{Host: "db.example.com"}, network: "tcp", maria: "db.example.com:3306", redis: "db.example.com:6379", secure: true, checked: true},
		{name: "far on a port", end: Endpoint{Host: "db.example.com", Port: 7}, network: "tcp", maria: "db.example.com:7", redis: "db.example.com:7", secure: true, checked: true},
		{name: "by IPv6", end: Endpoint{Host: "fe80::1", TLS: TLS{CA: ca.file}}, network: "tcp", maria: "[fe80::1]:3306", redis: "[fe80::1]:6379", secure: true, checked: true},
		{name: "loopback", end: Endpoint{Host: "127.0.0.1"}, network: "tcp", maria: "127.0.0.1:3306", redis: "127.0.0.1:6379"},
		{name: "unverified", end: Endpoint{Host: "a", TLS: TLS{Mode: TLSRequire}}, network: "tcp", maria: "a:3306", redis: "a:6379", secure: true},
		{name: "chain alone", end: Endpoint{Host: "a", TLS: TLS{Mode: TLSVerifyCA, CA: ca.file}}, network: "tcp", maria: "a:3306", redis: "a:6379", secure: true},
		{name: "in the clear", end: Endpoint{Host: "a", TLS: TLS{Mode: TLSDisable}}, network: "tcp", maria: "a:3306", redis: "a:6379"},
		{name: "socket", end: Endpoint{Host: "/run/mysqld.sock", Port: 3306}, network: "unix", maria: "/run/mysqld.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.end.User, c.end.Password = "dhow", Secret{Env: "DHOW_TEST_SECRET"}
			m, err := c.end.MySQLConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Net != c.network || m.Addr != c.maria || m.User != "dhow" || m.Passwd != hidden || m.DBName != "" || m.AllowFallbackToPlaintext || m.AllowCleartextPasswords {
				t.Errorf("MariaDB: connects to %s %s as %s, clear text %t %t", m.Net, m.Addr, m.User, m.AllowFallbackToPlaintext, m.AllowCleartextPasswords)
			}
			if (m.TLS != nil) != c.secure || c.secure && (m.TLS.InsecureSkipVerify == c.checked || m.TLS.ServerName != c.end.Host) {
				t.Errorf("MariaDB: TLS is %+v", m.TLS)
			}
			if c.redis == "" {
				return
			}
			r, err := c.end.RedisOptions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Addr != c.redis || r.Username != "dhow" || r.Password != hidden || r.DB != 0 || (r.TLSConfig != nil) != c.secure || c.secure && r.TLSConfig.InsecureSkipVerify == c.checked {
				t.Errorf("Redis: connects to %s as %s, TLS is %+v", r.Addr, r.Username, r.TLSConfig)
			}
		})
	}
	for name, c := range map[string]struct {
		end  Endpoint
		want string
	}{
		"no host":     {Endpoint{}, "no host"},
		"no CA":       {Endpoint{Host: "a", TLS: TLS{CA: "/none.pem"}}, "find the certificates to trust"},
		"no password": {Endpoint{Host: "a", Password: Secret{Env: "DHOW_TEST_NONE"}}, "DHOW_TEST_NONE is not set"},
	} {
		if _, err := c.end.MySQLConfig(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("MariaDB, %s: %v", name, err)
		}
		if _, err := c.end.RedisOptions(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Redis, %s: %v", name, err)
		}
	}
}

func TestReplicas(t *testing.T) {
	t.Setenv("DHOW_TEST_SOURCE", "one")
	t.Setenv("DHOW_TEST_TARGET", "two")
	t.Setenv("DHOW_TEST_SECRET", hidden)
	far := Endpoint{Host: "a.example.com", Port: 7, User: "u", Password: Secret{Env: "DHOW_TEST_SOURCE"}}
	near := Endpoint{Host: "127.0.0.1", User: "v", Password: Secret{Env: "DHOW_TEST_TARGET"}}
	socket := Endpoint{Host: "/run/mysqld.sock", Port: 9, User: "w"}
	for _, c := range []struct {
		name           string
		d              Database
		source, target Replica
		fault          string
	}{
		{name: "as we reach them", d: Database{Source: far, Target: near},
			source: Replica{Host: "a.example.com", Port: 7, User: "u", Password: "one", TLS: true}, target: Replica{Host: "127.0.0.1", Port: 3306, User: "v", Password: "two"}},
		{name: "as the file says", d: Database{Source: far, Target: near, Replication: &Replication{User: "r", Password: Secret{Env: "DHOW_TEST_SECRET"}, TLS: new(true), Source: Reach{Host: "10.0.0.5"}, Target: Reach{Host: "b", Port: 8, CA: "/ca.pem"}}},
			source: Replica{Host: "10.0.0.5", Port: 7, User: "r", Password: hidden, TLS: true}, target: Replica{Host: "b", Port: 8, User: "r", Password: hidden, TLS: true, CA: "/ca.pem"}},
		{name: "in the clear", d: Database{Source: far, Target: near, Replication: &Replication{TLS: new(false)}},
			source: Replica{Host: "a.example.com", Port: 7, User: "u", Password: "one"}, target: Replica{Host: "127.0.0.1", Port: 3306, User: "v", Password: "two"}},
		{name: "a socket's port says nothing", d: Database{Source: socket, Target: near, Replication: &Replication{Source: Reach{Host: "10.0.0.5"}}},
			source: Replica{Host: "10.0.0.5", Port: 3306, User: "w"}, target: Replica{Host: "127.0.0.1", Port: 3306, User: "v", Password: "two"}},
		{name: "a socket alone", d: Database{Source: near, Target: socket}, fault: "can not reach the target by a Unix socket"},
		{name: "no password", d: Database{Source: near, Target: near, Replication: &Replication{User: "r", Password: Secret{Env: "DHOW_TEST_NONE"}}}, fault: "DHOW_TEST_NONE is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, target, err := c.d.Replicas(t.Context())
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("got %v, want %q", err, c.fault)
				}
				return
			}
			if err != nil || source != c.source || target != c.target {
				t.Errorf("the target reaches %+v, the source %+v, %v", source, target, err)
			}
		})
	}
}
