package double

import (
	"strings"
	"testing"

	"dhow/stacks"
)

// TestStacks: the templates that dhow carries are right by the schemas, in every region
// that an estate may name.
func TestStacks(t *testing.T) {
	s := newStand(t)
	for _, name := range stacks.Names() {
		body, err := stacks.Template(name)
		if err != nil {
			t.Fatal(err)
		}
		tpl, err := parseTemplate(string(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, region := range []string{"me-central-1", "me-south-1", "eu-central-1", "us-east-1"} {
			if err := s.validate(place{testAccount, region}, tpl); err != nil && !strings.Contains(err.Error(), "Unrecognized resource types") {
				t.Errorf("%s in %s: %v", name, region, err)
			} else if err != nil {
				t.Logf("%s in %s: %v", name, region, err)
			}
		}
	}
}
