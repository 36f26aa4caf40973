package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// generate writes a number of objects, as a cluster of that size has them: of every ten
// four workloads, three Services, and each one ConfigMap, policy and budget.
func generate(tb testing.TB, objects int) string {
	tb.Helper()
	dir := tb.TempDir()
	const perFile = 100
	var b strings.Builder
	for n := range objects {
		id, namespace := n/10, fmt.Sprintf("team-%d", n/200)
		switch n % 10 {
		case 0, 1, 2, 3:
			fmt.Fprintf(&b, `apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-%[1]d-%[2]d
  namespace: %[3]s
  labels:
    app: app-%[1]d-%[2]d
spec:
  replicas: 2
  selector:
    matchLabels:
      app: app-%[1]d-%[2]d
  template:
    metadata:
      labels:
        app: app-%[1]d-%[2]d
    spec:
      serviceAccountName: app
      containers:
      - name: app # what serves
        image: registry.example.com/team/app-%[1]d:1.%[2]d
        args:
        - --listen=:8080
        - --accounts-url=http://app-%[1]d-0:8080
        env:
        - name: DATABASE_URL
          value: postgres://app:secret-%[1]d@db-%[1]d.example.com:5432/app?sslmode=require
        - name: CACHE_HOST
          value: "cache"
        envFrom:
        - configMapRef:
            name: config-%[1]d
        ports:
        - name: http
          containerPort: 8080
        readinessProbe:
          httpGet:
            path: /readyz
            port: http
        resources:
          requests:
            cpu: 50m
            memory: 64Mi
          limits:
            memory: 128Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop: ["ALL"]
---
`, id, n%10, namespace)
		case 4, 5, 6:
			fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata:\n  name: app-%[1]d-%[2]d\n  namespace: %[3]s\nspec:\n  selector:\n    app: app-%[1]d-%[2]d\n  ports:\n  - name: http\n    port: 8080\n    targetPort: http\n---\n", id, n%10-4, namespace)
		case 7:
			fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-%[1]d\n  namespace: %[2]s\ndata:\n  LOG_LEVEL: info\n  app.properties: |\n    pool=8\n    url=http://app-%[1]d-1:8080\n---\n", id, namespace)
		case 8:
			fmt.Fprintf(&b, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: app-%[1]d\n  namespace: %[2]s\nspec:\n  podSelector:\n    matchLabels:\n      app: app-%[1]d-0\n  ingress:\n  - from:\n    - podSelector:\n        matchLabels:\n          app: app-%[1]d-1\n  egress:\n  - to:\n    - ipBlock:\n        cidr: 10.0.0.0/16\n    ports:\n    - port: 5432\n---\n", id, namespace)
		case 9:
			fmt.Fprintf(&b, "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: app-%[1]d\n  namespace: %[2]s\nspec:\n  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app: app-%[1]d-0\n---\n", id, namespace)
		}
		if n%perFile == perFile-1 || n == objects-1 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.yaml", n)), []byte(b.String()), 0o600); err != nil {
				tb.Fatal(err)
			}
			b.Reset()
		}
	}
	return dir
}

func BenchmarkFiles(b *testing.B) {
	for _, objects := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			if objects > 10_000 && testing.Short() {
				b.Skip("takes a while: not with -short (testing.Short)")
			}
			dir := generate(b, objects)
			b.ReportAllocs()
			for b.Loop() {
				inv, err := FromFiles(b.Context(), FileOptions{}, dir)
				if err != nil {
					b.Fatal(err)
				}
				if len(inv.Objects) != objects || inv.Partial {
					b.Fatal(len(inv.Objects), inv.Problems)
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
				b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-sys")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(objects)/1e3, "µs/object")
		})
	}
}
