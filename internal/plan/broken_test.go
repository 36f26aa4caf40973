package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sourceOf writes files and gives their folder.
func sourceOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// workloadOf is one of a plan's, by its name.
func workloadOf(t *testing.T, p *Plan, name string) *Workload {
	t.Helper()
	for i := range p.Workloads {
		if p.Workloads[i].Name == name {
			return &p.Workloads[i]
		}
	}
	t.Fatalf("there is no workload %s", name)
	return nil
}

const soundSource = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, ports: [{containerPort: 8080}]}
`

// TestBrokenSources: what can not be read is told, and the rest is planned.
func TestBrokenSources(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		partial bool
		want    string
	}{
		"invalid YAML":       {"apiVersion: v1\nkind: [Service\n", true, "broken.yaml"},
		"a field's type":     {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: many}\n", true, "broken.yaml"},
		"unknown kind":       {"apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\nspec: {a: 1}\n", false, ""},
		"the same name":      {soundSource, false, ""},
		"no selector":        {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: shop}\nspec: {template: {spec: {containers: []}}}\n", false, ""},
		"a service of none":  {"apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: shop}\nspec: {type: LoadBalancer}\n", false, ""},
		"an empty container": {"apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop}\nspec: {containers: [{}]}\n", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := planned(t, standard(t), sourceOf(t, map[string]string{"broken.yaml": c.text, "sound.yaml": soundSource}))
			if workloadOf(t, p, "web").Place == Left {
				t.Error("the sound workload is left behind")
			}
			if p.Partial != c.partial {
				t.Errorf("partial is %t, want %t: %v", p.Partial, c.partial, p.Problems)
			}
			if !strings.Contains(strings.Join(p.Problems, "\n"), c.want) {
				t.Errorf("the problems do not name %s: %v", c.want, p.Problems)
			}
			files := written(t, p)
			if files["plan.yaml"] == "" || files["manifests/00-namespaces.yaml"] == "" {
				t.Error("it is not written whole")
			}
		})
	}
}

// TestNothing: a source without workloads has a plan too.
func TestNothing(t *testing.T) {
	p := planned(t, standard(t), sourceOf(t, map[string]string{"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"}))
	files := written(t, p)
	if len(p.Workloads) != 0 || p.Estate != nil || len(p.Manifests) != 0 || files["plan.md"] == "" {
		t.Errorf("there is something: %v", p.Workloads)
	}
}

// TestDecisions: the rules of places, exposure and settings, one each.
func TestDecisions(t *testing.T) {
	source := sourceOf(t, map[string]string{"a.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: shop
        image: registry.example.com/shop:1
        args: [--token=abcdefghijklmnop0123456789, --log-level=trace, "--cart=http://cart.shop.svc:7070"]
        ports: [{name: http, containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec: {type: LoadBalancer, selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cart, namespace: shop}
spec:
  serviceName: cart
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - {name: cart, image: "registry.example.com/cart:1", ports: [{containerPort: 7070}], env: [{name: DB, value: "mysql://root@mysql:3306/cart"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 7070}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mysql, namespace: shop}
spec:
  serviceName: mysql
  selector: {matchLabels: {app: mysql}}
  template:
    metadata: {labels: {app: mysql}}
    spec:
      containers:
      - {name: mysql, image: "mysql:8.0.36", ports: [{containerPort: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: mysql, namespace: shop}
spec: {selector: {app: mysql}, ports: [{port: 3306}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: agent, image: agent, volumeMounts: [{name: n, mountPath: /n}]}]
      volumes: [{name: n, hostPath: {path: /var}}]
`})
	p := planned(t, standard(t), source)
	for name, want := range map[string]Place{"shop": ECS, "cart": EKS, "mysql": Managed, "agent": Left} {
		if got := workloadOf(t, p, name).Place; got != want {
			t.Errorf("%s goes to %s, want %s: %s", name, got, want, workloadOf(t, p, name).Why)
		}
	}
	shop := workloadOf(t, p, "shop")
	if shop.Exposure.Scope != Public {
		t.Errorf("shop is %s", shop.Exposure.Scope)
	}
	args := strings.Join(shop.Containers[0].Args, " ")
	if !strings.Contains(args, "--token=$(TOKEN)") || !strings.Contains(args, "--log-level=info") || !strings.Contains(args, "https://cart.internal.") {
		t.Errorf("its arguments are %s", args)
	}
	if workloadOf(t, p, "cart").Exposure.Scope != Private {
		t.Error("cart is called from another place, and is not private")
	}
	if len(p.Databases) != 1 || p.Databases[0].Version != "8.0.36" || !strings.Contains(p.Databases[0].Method, "no mover for MySQL") {
		t.Errorf("the databases are %+v", p.Databases)
	}
	if p.Estate != nil {
		t.Error("there is an estate without a database that dhow moves")
	}
	for _, s := range p.Secrets {
		if s.Name == "shop/shop-token" && s.Renew && len(s.Keys) == 1 && s.Keys[0] == "token" {
			return
		}
	}
	t.Errorf("the token is no secret: %+v", p.Secrets)
}
