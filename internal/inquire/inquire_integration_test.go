package inquire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dhow/internal/estate"
	"dhow/internal/inventory"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver/pgtest"
	"dhow/internal/redisserver/redistest"
)

// vault are Secrets by name.
type vault map[string]map[string]string

func (v vault) Values(_ context.Context, secret inventory.Ref) (map[string]string, error) {
	if values, ok := v[secret.Name]; ok {
		return values, nil
	}
	return nil, errors.New("there is none")
}

// env is a variable of the Deployment that the tests' manifests have.
func env(name, value string) string {
	return fmt.Sprintf("        - {name: %s, value: %q}\n", name, value)
}

func envOf(name, secret, key string) string {
	return fmt.Sprintf("        - {name: %s, valueFrom: {secretKeyRef: {name: %s, key: %s}}}\n", name, secret, key)
}

// deployments are an inventory of Deployments, each with its environment.
func deployments(t *testing.T, envs ...string) *inventory.Inventory {
	t.Helper()
	var text strings.Builder
	for n, e := range envs {
		fmt.Fprintf(&text, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app-%d, namespace: shop}\nspec:\n  selector: {matchLabels: {app: app-%[1]d}}\n  template:\n    metadata: {labels: {app: app-%[1]d}}\n    spec:\n      containers:\n      - name: app\n        image: app:1\n        env:\n%[2]s---\n", n, e)
	}
	path := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.FromFiles(t.Context(), inventory.FileOptions{}, path)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func ask(t *testing.T, inv *inventory.Inventory, o Options) {
	t.Helper()
	if err := Databases(t.Context(), inv, o); err != nil {
		t.Fatal(err)
	}
}

// answersOf are those of the only database of an engine.
func answersOf(t *testing.T, inv *inventory.Inventory, e inventory.Engine) *inventory.Answers {
	t.Helper()
	var found []*inventory.Answers
	for _, d := range inv.Databases {
		if d.Engine == e {
			found = append(found, d.Answers)
		}
	}
	if len(found) != 1 || found[0] == nil {
		t.Fatalf("of %s there are %v: %v", e, found, inv.Problems)
	}
	return found[0]
}

// TestDatabasesAnswer asks real servers with passwords of Secrets: one with the whole
// connection string, one with the password alone, and one with the user beside it.
func TestDatabasesAnswer(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the servers'
	pg := pgtest.Start(t, 15)
	pgtest.Database(t, pg, "shop")
	if err := pg.Exec(t.Context(), "shop", "CREATE EXTENSION hstore; CREATE TABLE a AS SELECT generate_series(1, 10000) AS n; CREATE TABLE b (n int)"); err != nil {
		t.Fatal(err)
	}
	maria := mariadbtest.Start(t)
	if err := maria.CreateDatabase(t.Context(), "cards"); err != nil {
		t.Fatal(err)
	}
	if err := maria.Exec(t.Context(), "cards", "CREATE TABLE c (n INT PRIMARY KEY); CREATE TABLE old (n INT) ENGINE=MyISAM"); err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(t)
	passwords := []string{pg.Password(), maria.Password(), redis.Password()}
	inv := deployments(t,
		envOf("DATABASE_URL", "postgres-url", "url"),
		env("MARIADB_HOST", "127.0.0.1")+env("MARIADB_PORT", fmt.Sprint(maria.Port))+env("MARIADB_DATABASE", "cards")+envOf("MARIADB_PASSWORD", "cards", "password"),
		envOf("REDIS_URL", "redis", "url"))
	ask(t, inv, Options{Secrets: vault{
		"postgres-url": {"url": pg.URL("shop")},
		"cards":        {"password": maria.Password() + "\n", "username": maria.User()},
		"redis":        {"url": redis.URL()},
	}})
	if inv.Partial {
		t.Error(inv.Problems)
	}
	if a := answersOf(t, inv, inventory.PostgreSQL); a.Product != "PostgreSQL" || !strings.HasPrefix(a.Version, "15.") || a.Bytes < 1<<20 || a.Items != 2 || len(a.Extensions) != 1 || !strings.HasPrefix(a.Extensions[0], "hstore 1.") || a.MaxConnections == 0 || a.Replica {
		t.Errorf("%+v", a)
	}
	if a := answersOf(t, inv, inventory.MariaDB); a.Product != "MariaDB" || !strings.HasPrefix(a.Version, "10.") || a.Bytes == 0 || a.Items != 2 || !strings.Contains(fmt.Sprint(a.Extensions), "engine myisam") || a.MaxConnections == 0 {
		t.Errorf("%+v", a)
	}
	if a := answersOf(t, inv, inventory.Redis); a.Product != "Redis" || a.Version == "" || a.MaxConnections == 0 || a.Items != 0 {
		t.Errorf("%+v", a)
	}
	silent(t, inv, passwords...)
}

// silent says that no secret is in what an inventory tells.
func silent(t *testing.T, inv *inventory.Inventory, secrets ...string) {
	t.Helper()
	raw, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(string(raw), s) {
			t.Error("a password is in the inventory")
		}
	}
}

// TestEstateAnswers: the estate says how to reach what the inventory knows, and what it
// does not know.
func TestEstateAnswers(t *testing.T) {
	pg := pgtest.Start(t, 15)
	pgtest.Database(t, pg, "shop")
	pgtest.Database(t, pg, "other")
	t.Setenv("DHOW_TEST_SECRET", pg.Password())
	end := estate.Endpoint{Host: "127.0.0.1", Port: pg.Port, Database: "shop", User: pg.User(), Password: estate.Secret{Env: "DHOW_TEST_SECRET"}, TLS: estate.TLS{Mode: estate.TLSDisable}}
	other := end
	other.Database = "other"
	inv := deployments(t, env("DATABASE_URL", fmt.Sprintf("postgres://shop:hush-hush@127.0.0.1:%d/shop?sslmode=disable", pg.Port)))
	ask(t, inv, Options{Estate: &estate.Estate{File: "dhow.yaml", Databases: []estate.Database{{Name: "shop", Source: end}, {Name: "other", Source: other}}}})
	if len(inv.Databases) != 2 || inv.Partial {
		t.Fatalf("%+v %v", inv.Databases, inv.Problems)
	}
	for n, name := range []string{"other", "shop"} {
		d := &inv.Databases[n]
		if d.Name != name || d.Answers == nil || (d.Evidence[0].By == inventory.ByEstate) != (name == "other") {
			t.Errorf("%+v", d)
		}
	}
	silent(t, inv, pg.Password())
}

// TestNoAnswer: whatever goes wrong is told of with its place, and without a secret.
func TestNoAnswer(t *testing.T) {
	pg := pgtest.Start(t, 15)
	redis := redistest.Start(t)
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	port := deaf.Addr().(*net.TCPAddr).Port
	began := time.Now()
	// Who never answers needs a short time, which the others might not be done in.
	silence := deployments(t, envOf("PG_URL", "deaf", "url"))
	ask(t, silence, Options{Timeout: time.Second, Secrets: vault{"deaf": {"url": fmt.Sprintf("postgres://a:s3cr3t-deaf@127.0.0.1:%d/a?sslmode=disable", port)}}})
	inv := deployments(t,
		envOf("POSTGRESQL_URL", "wrong", "url"),
		envOf("POSTGRES_URL", "clear", "url"),
		envOf("PGSQL_URL", "gone", "url"),
		env("DATABASE_URL", "postgres://shop:hush-hush@db.example.com/shop"),
		env("MYSQL_HOST", "127.0.0.1")+env("MYSQL_PORT", fmt.Sprint(port))+envOf("MYSQL_PASSWORD", "nobody", "password"),
		envOf("REDIS_URL", "redis", "url"))
	ask(t, inv, Options{Timeout: time.Minute, Secrets: vault{
		"wrong":  {"url": fmt.Sprintf("postgres://postgres:s3cr3t-wrong@127.0.0.1:%d/postgres?sslmode=disable", pg.Port)},
		"clear":  {"url": strings.Replace(pg.URL("template1"), "sslmode=disable", "sslmode=require", 1)},
		"nobody": {"password": "s3cr3t-nobody"},
		"redis":  {"url": fmt.Sprintf("redis://:s3cr3t-redis@127.0.0.1:%d/0", redis.Port)},
	}})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	inv.Databases, inv.Problems = append(inv.Databases, silence.Databases...), append(inv.Problems, silence.Problems...)
	for _, d := range inv.Databases {
		if d.Answers != nil {
			t.Errorf("%s answered", describe(&d))
		}
	}
	text := fmt.Sprint(inv.Problems)
	for _, part := range []string{"password authentication failed", "refused TLS", "no answer within 1s", "there is none", "stands in the open, and is not kept", "its user is not known", "WRONGPASS"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if len(inv.Problems) != len(inv.Databases) || !inv.Partial || !silence.Partial {
		t.Errorf("%d problems of %d databases: partial is %v, %v", len(inv.Problems), len(inv.Databases), inv.Partial, silence.Partial)
	}
	for _, p := range inv.Problems {
		if !strings.HasSuffix(p.File, "app.yaml") || p.Line == 0 || p.Do == "" || !p.Lost || strings.Contains(p.String(), "s3cr3t") || strings.Contains(p.String(), pg.Password()) || strings.Contains(p.String(), "hush") {
			t.Errorf("%+v", p)
		}
	}
	if t.Failed() {
		t.Log(strings.ReplaceAll(text, "} {", "}\n{"))
	}
}
