// Package manualtest holds pages of the manual to what they tell of.
package manualtest

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const end = "<!-- end of what is made -->"

// Section holds that the part of a page that the TestManual of a package, as
// internal/region, makes is what it makes; update writes it anew.
func Section(t *testing.T, page, pkg, made string, update bool) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin := "<!-- made by `go test ./" + pkg + " -run TestManual -update` -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for what %s makes: it is between %q and %q", page, pkg, begin, end)
	}
	want := before + begin + made + end + after
	if update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), want); diff != "" {
		t.Errorf("%s is not what %s makes (-update writes it anew):\n%s", page, pkg, diff)
	}
}
