// Package mariadbtest gives tests a real MariaDB server that is stopped when the
// test ends.
package mariadbtest

import (
	"context"
	"testing"
	"time"

	"dhow/internal/mariadbserver"
)

// stopTimeout bounds the shutdown at a test's end.
const stopTimeout = 30 * time.Second

// Start runs a server for one test, tuned for tests: nothing is synced to disk, and
// yet what was committed outlives Kill.
// Pairs of settings ("name", "value") override. Skipped under -short.
func Start(tb testing.TB, settings ...string) *mariadbserver.Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs a MariaDB server: not with -short (testing.Short)")
	}
	set := map[string]string{"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0", "innodb_doublewrite": "OFF"}
	for i := 0; i+1 < len(settings); i += 2 {
		set[settings[i]] = settings[i+1]
	}
	s, err := mariadbserver.Start(context.Background(), mariadbserver.Options{Settings: set})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Database creates a database on a server and returns its connection string.
func Database(tb testing.TB, s *mariadbserver.Server, name string) string {
	tb.Helper()
	if err := s.CreateDatabase(context.Background(), name); err != nil {
		tb.Fatal(err)
	}
	return s.URL(name)
}
