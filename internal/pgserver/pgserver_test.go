package pgserver_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

func TestServerKeepsWhatWasCommittedOverCrashAndRestart(t *testing.T) {
	for _, version := range []int{13, 15, 17} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			ctx := context.Background()
			s := pgtest.Start(t, version)
			db := pgtest.Database(t, s, "app")
			if err := s.Exec(ctx, "app", "CREATE TABLE t (a int); INSERT INTO t VALUES (41), (1)"); err != nil {
				t.Fatal(err)
			}
			s.Kill()
			if err := s.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, db)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			var sum, number int
			if err := conn.QueryRow(ctx, "SELECT sum(a), current_setting('server_version_num')::int / 10000 FROM t").Scan(&sum, &number); err != nil {
				t.Fatal(err)
			}
			if sum != 42 || number != version {
				t.Errorf("sum %d in version %d, want 42 in %d", sum, number, version)
			}
			if err := s.Stop(ctx); err != nil {
				t.Fatal(err)
			}
			if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))); err == nil {
				c.Close()
				t.Error("the port still answers after Stop")
			}
		})
	}
}

// A server that listens for other namespaces lets their clients in by password only.
func TestServerListensOnAFurtherAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a PostgreSQL server: not with -short (testing.Short)")
	}
	s, err := pgserver.Start(t.Context(), pgserver.Options{Version: 15, Listen: "127.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	there := strings.Replace(s.URL("postgres"), "127.0.0.1", "127.0.0.2", 1)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if conn, err := pgx.Connect(t.Context(), strings.Replace(there, s.Password(), "wrong", 1)); err == nil {
		t.Error("a wrong password was taken")
		_ = conn.Close(t.Context())
	}
}
