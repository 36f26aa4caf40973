package demo

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dhow/internal/estate"
	"dhow/internal/landing/double"
)

// testLander deploys faster than the demo, which has the time.
func testLander(t *testing.T) (*lander, *[]string) {
	t.Helper()
	if testing.Short() {
		t.Skip("AWS's resource schemas are read and many stacks deployed: left out under testing.Short")
	}
	var said []string
	l, err := newLander(t.Context(), func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	l.speed, l.poll = 3000, 20*time.Millisecond
	return l, &said
}

// TestLand: the demo's landing zone is deployed whole, and its targets are what the
// double answers, whatever the stage knows.
func TestLand(t *testing.T) {
	l, said := testLander(t)
	s := emptyStage(t)
	answers := map[string]map[string]any{
		"AWS::RDS::DBInstance postgres":             {"Endpoint.Address": "192.0.2.7", "Endpoint.Port": "6001"},
		"AWS::RDS::DBInstance mariadb":              {"Endpoint.Address": "192.0.2.8", "Endpoint.Port": "6002"},
		"AWS::ElastiCache::ReplicationGroup valkey": {"PrimaryEndPoint.Address": "192.0.2.9", "PrimaryEndPoint.Port": "6003"},
	}
	if err := s.writeLanding(); err != nil {
		t.Fatal(err)
	}
	var err error
	s.Landed, err = l.land(t.Context(), s.EstateFile, func(r double.Resource) map[string]any {
		if _, ours := s.made(r)["RepositoryUri"]; ours {
			t.Errorf("without pods %s has a registry", r.Logical)
		}
		return answers[fmt.Sprint(r.Type, " ", r.Properties["Engine"])]
	})
	if err != nil {
		t.Fatal(err)
	}
	holdTargets(t, s, elsewhere)
	e, err := estate.Load(s.EstateFile)
	if err != nil {
		t.Fatal(err)
	}
	// What nobody answers for is as the schemas have it.
	if want := e.Landing.Accounts.Production + ".dkr.ecr." + e.Landing.Regions.Main + ".amazonaws.com"; s.Landed.Registry != want {
		t.Errorf("images are pulled from %s, want %s", s.Landed.Registry, want)
	}
	if n := len(s.Landed.Timeline.Spans); n != s.Landed.Stacks || n < 20 || s.Landed.Resources <= n || s.Landed.Took <= 0 || s.Landed.Timeline.Took < s.Landed.Timeline.CriticalTook {
		t.Errorf("it is %d stacks with %d resources in %s, of which the timeline has %d", s.Landed.Stacks, s.Landed.Resources, s.Landed.Took, n)
	}
	drawn := strings.Join(*said, "\n")
	for _, want := range []string{"deploying the landing zone", "stacks stand after", "  main/postgresql ", "  main/mariadb ", "  main/cache ", "  production/registry ", "postgresql at 192.0.2.7:6001"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("it does not say %q:\n%s", want, drawn)
		}
	}
	t.Logf("\n%s", drawn)
}

// TestLandFails: a stack that can not be made ends the demo, with its reason.
func TestLandFails(t *testing.T) {
	l, _ := testLander(t)
	s := emptyStage(t)
	if err := s.writeLanding(); err != nil {
		t.Fatal(err)
	}
	_, err := l.land(t.Context(), s.EstateFile, func(r double.Resource) map[string]any {
		if r.Type == "AWS::RDS::DBInstance" {
			return map[string]any{"Endpoint.Name": "192.0.2.7"}
		}
		return nil
	})
	for _, want := range []string{"deploy the landing zone", "main/postgresql", "main/mariadb", "Endpoint.Name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it ends without %q: %v", want, err)
		}
	}
	if _, err := l.land(t.Context(), filepath.Join(t.TempDir(), estate.FileName), nil); err == nil {
		t.Error("it deploys an estate that is not there")
	}
}
