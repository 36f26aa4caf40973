package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/inventory"
)

// interfaces are what others must know of a deployment: the Secrets and keys that it
// refers to, its Services with their ports, and its workloads.
func interfaces(t *testing.T, path string) map[string]bool {
	t.Helper()
	inv, err := inventory.FromFiles(t.Context(), inventory.FileOptions{}, path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, w := range inv.Workloads {
		all[w.String()] = true
		for i := range w.Containers {
			for _, s := range w.Containers[i].Env {
				if s.Secret != nil {
					all[w.Name+": "+s.Name+" from "+s.Secret.String()+" "+s.Key] = true
				}
			}
		}
	}
	for _, s := range inv.Services {
		for _, p := range s.Spec.Ports {
			all[fmt.Sprintf("Service %s of %s, port %d, of %d workload", s.Name, s.Namespace, p.Port, len(s.Workloads))] = true
		}
	}
	return all
}

// TestInPlaceOfTheHandWritten: with what no source can tell in the options, the manifests
// have the same workloads, Services and Secrets as those written by hand, and so run where
// those do.
func TestInPlaceOfTheHandWritten(t *testing.T) {
	o := standard(t)
	o.Placement = map[string]Place{other: EKS}
	o.Probes = map[string]Paths{other: {Readiness: "/readyz", Liveness: "/healthz"}}
	o.Replace = map[string]string{"--instance=source": "--instance=target"}
	o.Network.Edge, o.Network.Stores = netip.MustParsePrefix("10.40.0.0/20"), netip.MustParsePrefix("10.40.64.0/20")
	o.Images = map[string]string{"accounts": "127.0.0.1:5000/accounts@sha256:" + strings.Repeat("b", 64)}
	o.Goals.MostReplicas = 3
	o.Databases = map[string]Facts{"superapp-postgres": {Port: 40001}, "superapp-redis": {Port: 40002}}
	files := written(t, planned(t, o, "../../superapp/deploy/source"))
	dir := t.TempDir()
	for path, text := range files {
		if !strings.HasPrefix(path, manifestFolder) {
			continue
		}
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "--instance=source") {
			t.Errorf("%s has the source's instance", path)
		}
	}
	got, want := interfaces(t, dir), interfaces(t, "../../superapp/deploy/aws")
	for _, missing := range slices.Sorted(maps.Keys(want)) {
		if strings.Contains(missing, "migrate") || strings.Contains(missing, "-edge ") {
			continue // what prepares databases, and what stands in for a load balancer
		}
		if !got[missing] {
			t.Errorf("there is no %s", missing)
		}
	}
	accounts := files["manifests/superapp/accounts.yaml"]
	for _, text := range []string{"127.0.0.1:5000/accounts@sha256:" + strings.Repeat("b", 64), "path: /readyz", "path: /healthz", "cidr: 10.40.0.0/20", "cidr: 10.40.64.0/20"} {
		if !strings.Contains(accounts, text) {
			t.Errorf("accounts has no %q", text)
		}
	}
	transfers := files["manifests/superapp/transfers.yaml"]
	for _, text := range []string{"port: 40001", "port: 40002", "maxReplicas: 3"} {
		if !strings.Contains(transfers, text) {
			t.Errorf("transfers has no %q", text)
		}
	}
	if estate := files["dhow.yaml"]; !strings.Contains(estate, "port: 40001") || !strings.Contains(estate, "port: 40002") || !strings.Contains(estate, "port: 5432") {
		t.Error("the estate has not the servers' new ports beside the old ones")
	}
	if web := files["manifests/superapp/web.yaml"]; !strings.Contains(web, "--accounts-url=http://accounts:8080") || strings.Contains(web, "10.20.30.11") {
		t.Error("web does not call the services by their names")
	}
	if !strings.Contains(transfers, "--fx-url=http://fx:8080") {
		t.Error("transfers does not call fx by its name")
	}
}

// TestNoSecret: no secret of the source is in anything that is written.
func TestNoSecret(t *testing.T) {
	for path, text := range written(t, planned(t, standard(t), "../../superapp/deploy/source")) {
		for _, secret := range []string{"Sup3rApp2019", "6f1c0a5be27d4938b1a4c6d2e8f07193a5b4c3d2e1f0987654321fedcba98765", "R00t-2018", "ci-Pull-2019", "4b1d7c0e9a", inventory.Masked} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s", path, secret)
			}
		}
	}
}

// TestRegions: the plan warns of its own regions, and says what another would change.
func TestRegions(t *testing.T) {
	p := planned(t, standard(t), "../../superapp/deploy/source")
	warned := strings.Join(p.Regions.Primary.Warnings, "\n")
	if !strings.Contains(warned, "notice of 2026-04-30 (leave)") {
		t.Errorf("it does not warn: %s", warned)
	}
	if len(p.Regions.PrimaryAlternatives) != mostAlternatives || len(p.Regions.PrimaryAlternatives[0].Changes) == 0 {
		t.Errorf("the alternatives are %+v", p.Regions.PrimaryAlternatives)
	}
	o := standard(t)
	o.Residency = []string{"EU"}
	o.Instead = []Instead{{"me-south-1", "eu-central-1"}}
	p = planned(t, o, "../../superapp/deploy/source")
	if p.Regions.DR.Region != "eu-central-1" || len(p.Regions.Instead) != 1 || len(p.Regions.Instead[0].Changes) == 0 {
		t.Errorf("another region changes %+v", p.Regions.Instead)
	}
	if !slices.ContainsFunc(p.Decide, func(d Decision) bool {
		return d.Object == "me-central-1" && d.Blocks && strings.Contains(d.What, "residency rule")
	}) {
		t.Error("a broken residency rule is not told")
	}
	for _, a := range p.Regions.PrimaryAlternatives {
		if !a.Allowed {
			t.Errorf("%s is not allowed, and stands before others that are", a.Region)
		}
	}
}
