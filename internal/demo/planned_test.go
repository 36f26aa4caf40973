package demo

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dhow/internal/estate"
	"dhow/superapp/deploy"
	"dhow/superapp/fleet"
)

// What the target's pods run from has this cluster's values, and is in the folder as it
// was applied, with all it takes to make the same plan again.
func TestPlanned(t *testing.T) {
	d := &dock{side: estate.Target, dir: t.TempDir(), images: map[string]string{}, dhow: "198.18.0.1:5000/superapp/dhow@sha256:" + strings.Repeat("b", 64)}
	for _, s := range fleet.Services() {
		d.images[s.Name] = "198.18.0.1:5000/superapp/" + s.Name + "@sha256:" + strings.Repeat("a", 64)
	}
	stores := fleet.Stores{Postgres: "198.18.0.1:40001", MariaDB: "198.18.0.1:40002", Redis: "198.18.0.1:40003", Secrets: fleet.NewSecrets()}
	around := netip.MustParsePrefix("198.18.0.0/15")
	applied, err := d.planned(t.Context(), stores, around)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kind: CustomResourceDefinition", "kind: HTTPRoute", "kind: TargetGroupConfiguration", "--instance=target", "path: /readyz", "path: /healthz",
		"cidr: 198.18.0.0/15", "port: 40001", "port: 40002", "port: 40003",
		"image: " + d.dhow,
	} {
		if !strings.Contains(string(applied), want) {
			t.Errorf("there is no %q", want)
		}
	}
	for _, s := range fleet.Services() {
		text, err := os.ReadFile(filepath.Join(d.dir, planFolder, "manifests", deploy.Namespace, s.Name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(applied), string(text)) || !strings.Contains(string(text), "image: "+d.images[s.Name]+"\n") || strings.Contains(string(text), "--instance=source") {
			t.Errorf("%s is not in the plan as it runs:\n%s", s.Name, text)
		}
	}
	for _, name := range []string{optionsFile, deploymentFolder + "/accounts.yaml", planFolder + "/plan.html", planFolder + "/" + estate.FileName} {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err != nil {
			t.Error(err)
		}
	}
	again, err := d.planned(t.Context(), stores, around)
	if err != nil || string(again) != string(applied) {
		t.Errorf("the plan differs when it is made again: %v", err)
	}
	delete(d.images, fleet.Web)
	if _, err := d.planned(t.Context(), stores, around); err == nil || !strings.Contains(err.Error(), "images.web") {
		t.Errorf("without an image the error is %v", err)
	}
}
