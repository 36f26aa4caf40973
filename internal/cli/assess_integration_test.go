package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dhow/internal/cli"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver/pgtest"
	"dhow/internal/redisserver/redistest"
)

// TestAssessEstate: what the movers find is a finding, and what the databases say of
// themselves is told, both of real servers.
func TestAssessEstate(t *testing.T) {
	pg := pgtest.Start(t, 15, "wal_level", "replica") // which its mover minds
	pgtest.Database(t, pg, "shop")
	pgtest.Database(t, pg, "target")
	maria, redis := mariadbtest.Start(t), redistest.Start(t)
	mariaTarget, redisTarget := mariadbtest.Start(t), redistest.Start(t, "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	if err := maria.CreateDatabase(t.Context(), "cards"); err != nil {
		t.Fatal(err)
	}
	if err := maria.Exec(t.Context(), "cards", "CREATE TABLE old (n INT PRIMARY KEY) ENGINE=MyISAM"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PG_SECRET", pg.Password())
	t.Setenv("MARIA_SECRET", maria.Password())
	t.Setenv("REDIS_SECRET", redis.Password())
	t.Setenv("MARIA_TARGET_SECRET", mariaTarget.Password())
	t.Setenv("REDIS_TARGET_SECRET", redisTarget.Password())
	dir := t.TempDir()
	file := filepath.Join(dir, "dhow.yaml")
	text := fmt.Sprintf(`name: bank
databases:
- name: shop
  source: {host: 127.0.0.1, port: %[1]d, database: shop, user: %[2]s, password: {env: PG_SECRET}}
  target: {host: 127.0.0.1, port: %[1]d, database: target, user: %[2]s, password: {env: PG_SECRET}}
- name: cards
  engine: mariadb
  source: {host: 127.0.0.1, port: %[3]d, user: %[4]s, password: {env: MARIA_SECRET}}
  target: {host: 127.0.0.1, port: %[6]d, user: %[4]s, password: {env: MARIA_TARGET_SECRET}}
- name: sessions
  engine: redis
  source: {host: 127.0.0.1, port: %[5]d, password: {env: REDIS_SECRET}}
  target: {host: 127.0.0.1, port: %[7]d, password: {env: REDIS_TARGET_SECRET}}
`, pg.Port, pg.User(), maria.Port, maria.User(), redis.Port, mariaTarget.Port, redisTarget.Port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	assess := func(args ...string) (code int, out, said string) {
		var o, e bytes.Buffer
		code = cli.Run(t.Context(), append([]string{"assess", "--estate", file}, args...), cli.IO{In: strings.NewReader(""), Out: &o, Err: &e})
		for _, secret := range []string{pg.Password(), maria.Password(), redis.Password(), mariaTarget.Password(), redisTarget.Password()} {
			if strings.Contains(o.String()+e.String(), secret) {
				t.Error("a password was printed")
			}
		}
		return code, o.String(), e.String()
	}
	code, out, said := assess("--ask-databases", "-o", "json")
	if code != 0 {
		t.Errorf("the exit code is %d: %s", code, said)
	}
	var report struct {
		Findings []struct {
			Rule, Group, Severity, File, Fix string
			Evidence                         []string
		}
		Databases []struct {
			Engine  string
			Answers *struct {
				Product, Version string
				MaxConnections   int
			}
		}
		Partial bool
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err, out)
	}
	found := map[string]string{}
	for _, f := range report.Findings {
		if f.Group != "data" || f.File != file || f.Fix == "" || len(f.Evidence) == 0 {
			t.Errorf("%+v", f)
		}
		found[f.Rule] = f.Severity
	}
	for rule, severity := range map[string]string{"preflight-postgresql-wal-level": "high", "preflight-postgresql-same-server": "medium", "preflight-mariadb-engine": "high", "preflight-redis-evicts": "high"} {
		if found[rule] != severity {
			t.Errorf("%s is %q, not %s", rule, found[rule], severity)
		}
	}
	if len(report.Databases) != 3 || report.Partial {
		t.Fatalf("%+v", report.Databases)
	}
	for _, d := range report.Databases {
		if d.Answers == nil || !strings.EqualFold(d.Answers.Product, d.Engine) || d.Answers.Version == "" || d.Answers.MaxConnections == 0 {
			t.Errorf("%s: %+v", d.Engine, d.Answers)
		}
	}
	if code, out, said = assess("--ask-databases", "--fail-on", "high"); code != 1 || !strings.Contains(out, "shop at 127.0.0.1") || !strings.Contains(out, "fix: ") {
		t.Errorf("the exit code is %d: %s%s", code, out, said)
	}
	// A server that is away, and a password that is not set: the rest is told all the same.
	text = strings.Replace(text, fmt.Sprintf("source: {host: 127.0.0.1, port: %d, password", redis.Port), "source: {host: 127.0.0.1, port: 1, password", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, said = assess("--ask-databases"); code != 3 || !strings.Contains(out, "preflight-mariadb-engine") || !strings.Contains(out, "redis at 127.0.0.1:1 was not asked") || !strings.Contains(out, "the preflight is not whole") {
		t.Errorf("the exit code is %d: %s%s", code, out, said)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "PG_SECRET", "NOBODYS_SECRET")), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, said = assess("--ask-databases"); code != 3 || !strings.Contains(out, "the preflight could not begin") || !strings.Contains(out, "NOBODYS_SECRET is not set") || !strings.Contains(out, "MariaDB 10.") {
		t.Errorf("the exit code is %d: %s%s", code, out, said)
	}
	if code, _, said = assess("--estate", filepath.Join(dir, "none.yaml")); code != 2 {
		t.Errorf("the exit code is %d: %s", code, said)
	}
}
