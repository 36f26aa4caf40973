// Package pgtest gives tests a real PostgreSQL server that is stopped when the
// test ends.
package pgtest

import (
	"context"
	"testing"
	"time"

	"dhow/internal/pgserver"
)

// stopTimeout bounds the shutdown at a test's end.
const stopTimeout = 30 * time.Second

// Start runs a server of a major version for one test, tuned for tests (no
// fsync). Pairs of settings ("name", "value") override. Skipped under -short.
func Start(tb testing.TB, version int, settings ...string) *pgserver.Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs a PostgreSQL server: not with -short (testing.Short)")
	}
	set := map[string]string{"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_wal_size": "2GB", "wal_sender_timeout": "20s"}
	for i := 0; i+1 < len(settings); i += 2 {
		set[settings[i]] = settings[i+1]
	}
	s, err := pgserver.Start(context.Background(), pgserver.Options{Version: version, Settings: set})
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
func Database(tb testing.TB, s *pgserver.Server, name string) string {
	tb.Helper()
	if err := s.CreateDatabase(context.Background(), name); err != nil {
		tb.Fatal(err)
	}
	return s.URL(name)
}
