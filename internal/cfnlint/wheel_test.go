package cfnlint

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestLocked(t *testing.T) {
	text := "# a comment\nattrs==26.1.0 \\\n    --hash=sha256:aa\ncfn-lint==1.2.3 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\nboto3==1 \\\n    --hash=sha256:dd\nbare==1\n"
	locks := fstest.MapFS{"lock.txt": {Data: []byte(text)}}
	entry, version, err := lockedEntry(locks, "lock.txt", "cfn-lint")
	if want := "cfn-lint==1.2.3 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"; err != nil || version != "1.2.3" || entry != want {
		t.Errorf("%q, %q, %v", entry, version, err)
	}
	for _, name := range []string{"bare", "other"} {
		if _, _, err := lockedEntry(locks, "lock.txt", name); err == nil || !strings.Contains(err.Error(), "locks no "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
