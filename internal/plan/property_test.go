package plan

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dhow/internal/assess"
	"dhow/internal/inventory"
	"dhow/internal/region"
)

// TestWavesProperty: whoever calls whom, nobody comes before what it needs, and only what
// calls in a circle comes together with it.
func TestWavesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "workloads")
		m := &maker{plan: &Plan{}}
		db := &store{name: "db", engine: inventory.PostgreSQL, moves: true}
		m.stores = []*store{db}
		for i := range n {
			kind := rapid.SampledFrom([]string{"Deployment", "StatefulSet", "CronJob"}).Draw(t, "kind")
			place := rapid.SampledFrom([]Place{EKS, EKS, ECS, EC2, Left}).Draw(t, "place")
			u := &unit{w: &inventory.Workload{Ref: inventory.Ref{Kind: kind}}, namespace: "n", name: fmt.Sprintf("w%02d", i), place: place}
			if rapid.Bool().Draw(t, "data") {
				u.stores = append(u.stores, db)
				db.clients = append(db.clients, u)
			}
			m.units = append(m.units, u)
		}
		for _, u := range m.units {
			for _, c := range m.units {
				if u != c && rapid.IntRange(0, 4).Draw(t, "calls") == 0 {
					u.calls, c.callers = append(u.calls, c), append(c.callers, u)
				}
			}
		}
		if err := m.orderWaves(); err != nil {
			t.Fatal(err)
		}
		reaches := func(from, to *unit) bool {
			seen := map[*unit]bool{}
			var walk func(*unit) bool
			walk = func(u *unit) bool {
				if u == to {
					return true
				}
				seen[u] = true
				return slices.ContainsFunc(u.calls, func(c *unit) bool { return c.moves() && !seen[c] && walk(c) })
			}
			return walk(from)
		}
		for _, u := range m.units {
			if !u.moves() {
				if u.wave != 0 {
					t.Fatalf("%s stays behind and is in wave %d", u.name, u.wave)
				}
				continue
			}
			if u.wave <= db.wave && len(u.stores) > 0 {
				t.Fatalf("%s is in wave %d, its database in %d", u.name, u.wave, db.wave)
			}
			for _, c := range u.calls {
				if c.moves() && (c.wave > u.wave || c.wave == u.wave && !reaches(c, u)) {
					t.Fatalf("%s (wave %d) calls %s (wave %d)", u.name, u.wave, c.name, c.wave)
				}
			}
		}
		for i, w := range m.plan.Waves {
			if w.Number != i+1 || len(w.Risks) == 0 || w.Undo == "" || len(w.Workloads)+len(w.Databases) == 0 {
				t.Fatalf("wave %d is not whole: %+v", i+1, w)
			}
		}
	})
}

// TestNetworksProperty: whatever is taken, no network overlaps with it or with another,
// and the parts of one lie in it and apart from each other.
func TestNetworksProperty(t *testing.T) {
	catalog, err := region.Load()
	if err != nil {
		t.Fatal(err)
	}
	o := standard(t)
	regions := catalog.Regions()
	rapid.Check(t, func(t *rapid.T) {
		m := &maker{inv: &inventory.Inventory{}, o: o, plan: &Plan{}, primary: rapid.SampledFrom(regions).Draw(t, "primary"), dr: rapid.SampledFrom(regions).Draw(t, "dr")}
		o.Network.Taken = nil
		for range rapid.IntRange(0, 20).Draw(t, "taken") {
			bits := rapid.IntRange(12, 30).Draw(t, "bits")
			base := rapid.SampledFrom(private).Draw(t, "base").Addr().As4()
			a := netip.AddrFrom4([4]byte{base[0], base[1] + byte(rapid.IntRange(0, 255).Draw(t, "second")), byte(rapid.IntRange(0, 255).Draw(t, "third")), 0})
			o.Network.Taken = append(o.Network.Taken, netip.PrefixFrom(a, bits).Masked())
		}
		if err := m.layNetworks(); err != nil {
			if _, ok := err.(*InvalidError); ok { //nolint:errorlint // it is the error itself
				return // everything is taken
			}
			t.Fatal(err)
		}
		var all []netip.Prefix
		for _, n := range m.plan.Networks {
			for _, p := range slices.Concat(all, o.Network.Taken) {
				if n.CIDR.Overlaps(p) {
					t.Fatalf("%s overlaps with %s", n.CIDR, p)
				}
			}
			for _, p := range o.Network.Taken {
				if n.Services.Overlaps(p) && slices.ContainsFunc(private, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
					t.Fatalf("the Services' %s overlap with %s", n.Services, p)
				}
			}
			all = append(all, n.CIDR)
			var parts []netip.Prefix
			for _, z := range n.Zones {
				for _, role := range []struct{ of, part netip.Prefix }{{n.Edge, z.Edge}, {n.Inner, z.Inner}, {n.Stores, z.Stores}} {
					if !role.of.Contains(role.part.Addr()) || role.part.Bits() < role.of.Bits() {
						t.Fatalf("%s is not within %s", role.part, role.of)
					}
				}
				parts = append(parts, z.Pods, z.Edge, z.Inner, z.Stores)
			}
			for i, p := range parts {
				if !n.CIDR.Contains(p.Addr()) || p != p.Masked() {
					t.Fatalf("%s is not within %s", p, n.CIDR)
				}
				for _, q := range parts[:i] {
					if p.Overlaps(q) {
						t.Fatalf("%s overlaps with %s", p, q)
					}
				}
			}
		}
	})
}

// manifestsOf draws a source: workloads that call each other and databases, as well and
// as badly as people write them.
func manifestsOf(t *rapid.T) string {
	var b strings.Builder
	n := rapid.IntRange(1, 5).Draw(t, "workloads")
	chance := func(what string) bool { return rapid.Bool().Draw(t, what) }
	for i := range n {
		name := fmt.Sprintf("app-%d", i)
		kind := rapid.SampledFrom([]string{"Deployment", "Deployment", "StatefulSet", "DaemonSet"}).Draw(t, "kind")
		fmt.Fprintf(&b, "---\napiVersion: apps/v1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec:\n  selector: {matchLabels: {app: %s}}\n", kind, name, rapid.SampledFrom([]string{"one", "two"}).Draw(t, "namespace"), name)
		if kind == "StatefulSet" {
			fmt.Fprintf(&b, "  serviceName: %s\n", name)
		}
		fmt.Fprintf(&b, "  template:\n    metadata: {labels: {app: %s}}\n    spec:\n", name)
		if chance("host network") {
			b.WriteString("      hostNetwork: true\n")
		}
		fmt.Fprintf(&b, "      containers:\n      - name: main\n        image: %s\n", rapid.SampledFrom([]string{"nginx", "registry.example.com/shop/app:1.2", "ghcr.io/a/b@sha256:" + strings.Repeat("a", 64)}).Draw(t, "image"))
		b.WriteString("        args: [run")
		for j := range n {
			if j != i && chance("calls") {
				fmt.Fprintf(&b, ", '--peer-url=http://app-%d:%d'", j, 8080+j)
			}
		}
		b.WriteString("]\n")
		port := rapid.SampledFrom([]int{80, 8080 + i}).Draw(t, "port")
		if chance("port") {
			fmt.Fprintf(&b, "        ports: [{name: http, containerPort: %d}]\n", port)
		}
		if chance("data") {
			b.WriteString("        env: [{name: DATABASE_URL, value: 'postgres://u:secret-of-mine@db.example.com:5432/app'}]\n")
		}
		if chance("probe") {
			fmt.Fprintf(&b, "        livenessProbe: {httpGet: {path: /readyz, port: %d}}\n", port)
		}
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: one}\nspec:\n  type: %s\n  selector: {app: %s}\n  ports: [{port: %d, targetPort: %d}]\n", name,
			rapid.SampledFrom([]string{"ClusterIP", "LoadBalancer", "NodePort"}).Draw(t, "type"), name, 8080+i, port)
	}
	return b.String()
}

// TestSourcesProperty: whatever the source is, its plan is made, twice the same, without
// a secret in it, and the assessment finds nothing grave in its manifests.
func TestSourcesProperty(t *testing.T) {
	o := standard(t)
	dir := t.TempDir()
	// Each is read, assessed and planned twice, and its manifests assessed again.
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	if before == checks.DefValue {
		if err := checks.Value.Set("30"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = checks.Value.Set(before) })
	}
	rapid.Check(t, func(r *rapid.T) {
		text := manifestsOf(r)
		source := filepath.Join(dir, "source.yaml")
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			r.Fatal(err)
		}
		o.Placement = map[string]Place{other: rapid.SampledFrom([]Place{EKS, EKS, ECS}).Draw(r, "place")}
		if rapid.Bool().Draw(r, "placed") {
			o.Placement = nil
		}
		p, err := tryPlan(t.Context(), o, source)
		if err != nil {
			r.Fatalf("%v\n%s", err, text)
		}
		files := written(t, p)
		again, err := tryPlan(t.Context(), o, source)
		if err != nil {
			r.Fatal(err)
		}
		if !maps.Equal(files, written(t, again)) {
			r.Fatalf("the second plan is another\n%s", text)
		}
		out := filepath.Join(dir, "out")
		if err := os.RemoveAll(out); err != nil {
			r.Fatal(err)
		}
		for path, text := range files {
			if strings.Contains(text, "secret-of-mine") {
				r.Fatalf("%s has a secret in it", path)
			}
			if !strings.HasPrefix(path, manifestFolder) {
				continue
			}
			to := filepath.Join(out, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				r.Fatal(err)
			}
			if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
				r.Fatal(err)
			}
		}
		if _, err := os.Stat(out); err != nil {
			return // nothing goes to the cluster
		}
		inv, err := inventory.FromFiles(t.Context(), inventory.FileOptions{}, out)
		if err != nil {
			r.Fatal(err)
		}
		report, err := assess.Assess(t.Context(), inv, assess.Options{})
		if err != nil {
			r.Fatal(err)
		}
		for i := range report.Findings {
			f := &report.Findings[i]
			if f.Rule.Severity >= assess.High || f.Rule.Group == assess.GroupExposure || f.Rule.Group == assess.GroupLoadBalancing {
				r.Fatalf("%s at %s %s: %v\n%s", f.Rule.ID, f.Name(), f.Path, f.Evidence, text)
			}
		}
	})
}
