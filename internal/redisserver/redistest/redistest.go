// Package redistest gives tests a real Redis server that is stopped when the test
// ends.
package redistest

import (
	"context"
	"testing"
	"time"

	"dhow/internal/redisserver"
)

// stopTimeout bounds the shutdown at a test's end.
const stopTimeout = 30 * time.Second

// Start runs a server for one test. Pairs of settings ("name", "value") override.
// Skipped under -short.
func Start(tb testing.TB, settings ...string) *redisserver.Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs a Redis server: not with -short (testing.Short)")
	}
	set := map[string]string{}
	for i := 0; i+1 < len(settings); i += 2 {
		set[settings[i]] = settings[i+1]
	}
	s, err := redisserver.Start(context.Background(), redisserver.Options{Settings: set})
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
