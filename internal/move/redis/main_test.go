package redis

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if source := os.Getenv(childSource); source != "" {
		os.Exit(asProcess(source, os.Getenv(childTarget), os.Getenv(childPace)))
	}
	goleak.VerifyTestMain(m)
}
