package double

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/manualtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestManual keeps the table of the page as the timings are, and of types that there are.
func TestManual(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| type | make | change | delete | why |\n|---|---|---|---|---|\n")
	short := func(d time.Duration) string {
		s := d.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		return s
	}
	for _, kind := range slices.Sorted(maps.Keys(timings)) {
		one := timings[kind]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", kind, short(one.create), short(one.update), short(one.remove), one.why)
	}
	manualtest.Section(t, "../../../docs/double.md", "internal/landing/double", b.String(), *update)
	if testing.Short() {
		t.Skip("fetches a release of cfn-lint to look whether the types are there: not with -short (testing.Short)")
	}
	s := testSchemas(t)
	for _, kind := range slices.Sorted(maps.Keys(timings)) {
		if _, err := s.typeOf("us-east-1", kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
