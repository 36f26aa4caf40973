package inquire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/inventory"
)

// TestModes: a connection is as secure as its string says, by the engine's habits.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		engine inventory.Engine
		says   string
		want   []string
	}{
		{inventory.PostgreSQL, "", []string{"require", "disable"}},
		{inventory.PostgreSQL, "prefer", []string{"require", "disable"}},
		{inventory.PostgreSQL, "disable", []string{"disable"}},
		{inventory.PostgreSQL, "require", []string{"require"}},
		{inventory.PostgreSQL, "verify-ca", []string{"verify-ca"}},
		{inventory.PostgreSQL, "verify-full", []string{"verify-full"}},
		{inventory.PostgreSQL, "who knows", []string{"verify-full"}},
		{inventory.MySQL, "", []string{"disable"}},
		{inventory.MySQL, "PREFERRED", []string{"require", "disable"}},
		{inventory.MariaDB, "VERIFY_CA", []string{"verify-ca"}},
		{inventory.MySQL, "VERIFY_IDENTITY", []string{"verify-full"}},
		{inventory.MySQL, "skip-verify", []string{"require"}},
		{inventory.MySQL, "true", []string{"verify-full"}},
		{inventory.Redis, "", []string{"disable"}},
		{inventory.Redis, "tls", []string{"verify-full"}},
	} {
		if got := modes(c.engine, c.says); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %v", c.engine, c.says, got)
		}
	}
}

// TestAsksNobody: what can not be asked, and an end that comes before.
func TestAsksNobody(t *testing.T) {
	inv := deployments(t, env("KAFKA_BROKERS", "kafka.example.com:9092"), envOf("DATABASE_URL", "pg", "url"))
	ask(t, inv, Options{})
	if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0].What, "its password is in a Secret, and no cluster is read") {
		t.Error(inv.Problems)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Databases(ctx, inv, Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestClusterSecrets reads one Secret, and says which right lacks for another.
func TestClusterSecrets(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/api/v1/namespaces/shop/secrets/db":
			fmt.Fprint(w, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop"},"data":{"password":"aHVzaA=="}}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"no"}`)
		}
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {server: %q}\nusers:\n- name: a\n  user: {}\ncontexts:\n- name: a\n  context: {cluster: a, user: a}\n", s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := NewClusterSecrets(path, "a")
	if err != nil {
		t.Fatal(err)
	}
	values, err := secrets.Values(t.Context(), inventory.Ref{Kind: "Secret", Namespace: "shop", Name: "db"})
	if err != nil || values["password"] != "hush" {
		t.Error(values, err)
	}
	if _, err := secrets.Values(t.Context(), inventory.Ref{Kind: "Secret", Namespace: "shop", Name: "other"}); err == nil || !strings.Contains(err.Error(), "not allowed to get Secret/shop/other: grant") {
		t.Error(err)
	}
	if _, err := NewClusterSecrets("nowhere", ""); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}
