package images

import (
	"testing"

	"dhow/superapp/fleet"
)

// largest is what an image may have, in bytes: nodes load it while customers wait.
const largest = 20 << 20

// The whole application, built twice: the second time only links.
func TestSuperapp(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the whole application: -short")
	}
	first := build(t, Options{}, Superapp()...)
	again := build(t, Options{}, Superapp()...)
	if len(first) != len(fleet.Services())+1 {
		t.Errorf("%d images of %d services and the tools", len(first), len(fleet.Services()))
	}
	for i := range first {
		if a, b := digest(t, first[i]), digest(t, again[i]); a != b {
			t.Errorf("%s has the digests %s and %s", first[i].Name, a, b)
		}
		size, err := first[i].LoadSize()
		if err != nil {
			t.Fatal(err)
		}
		if size > largest {
			t.Errorf("%s has %d bytes, more than %d", first[i].Name, size, largest)
		}
	}
}
