package main

import (
	"strings"
	"testing"

	"dhow/superapp/fleet"
)

// What the table of services says of one is what its command takes.
func TestFleetIsWhatTheCommandsAre(t *testing.T) {
	schemas := migrations()
	for _, s := range fleet.Services() {
		cmd, _, err := root().Find([]string{s.Name})
		if err != nil || cmd.Name() != s.Name {
			t.Errorf("there is no command %s: %v", s.Name, err)
			continue
		}
		for _, asked := range s.Asks {
			if cmd.Flags().Lookup(asked+"-url") == nil {
				t.Errorf("%s has no flag --%s-url", s.Name, asked)
			}
		}
		if _, has := schemas[s.Name]; has != (s.Database != fleet.None) {
			t.Errorf("%s has a schema: %v; its database is kept by %q", s.Name, has, s.Database)
		}
		delete(schemas, s.Name)
	}
	for name := range schemas {
		t.Errorf("%s has a schema and is no service", name)
	}
}

// What services ask of each other is no customer's to ask for.
func TestWhatIsNotForCustomers(t *testing.T) {
	for _, s := range fleet.Services() {
		for _, inside := range []string{"/system", "/holds", "/events"} {
			for _, path := range s.Paths {
				if s.Name != fleet.Site && strings.HasPrefix(inside+"/", strings.TrimSuffix(path, "/")+"/") {
					t.Errorf("%s of %s leads to %s", path, s.Name, inside)
				}
			}
		}
	}
}
