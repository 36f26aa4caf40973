package redis

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"dhow/internal/redisserver"
)

// startWithACLFile runs a server that keeps its users in a file of their own.
func startWithACLFile(t *testing.T) *redisserver.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Redis server: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "users.acl")
	must(t, os.WriteFile(filepath.Join(dir, "password"), []byte("secret\n"), 0o600))
	must(t, os.WriteFile(file, []byte("user default on >secret ~* &* +@all\n"), 0o600))
	s, err := redisserver.Start(t.Context(), redisserver.Options{Dir: dir, Settings: map[string]string{"aclfile": file, "requirepass": `""`}})
	must(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}
