package inventory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/kubetest"
)

const (
	// within bounds the cluster's start and all that is asked of it.
	within = 8 * time.Minute
	// many is more ConfigMaps than one page has.
	many = pageSize + 20
)

// A real API server gives what its manifests say, to an account that has the printed role
// and no other right; what an account may not list is told of, and the rest is read.
func TestLiveCluster(t *testing.T) {
	kubetest.Require(t, kube.Check)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	dir, err := os.MkdirTemp("", "inventory") //nolint:usetesting // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cluster, err := kube.Up(ctx, kube.Options{Name: "inventory", Dir: filepath.Join(dir, "cluster")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	liveCluster(ctx, t, cluster.Kubeconfig())
	livePods(ctx, t, cluster.Kubeconfig())
}

// liveCluster holds what is read of a cluster against the manifests that it was given.
func liveCluster(ctx context.Context, t *testing.T, kubeconfig string) {
	t.Helper()
	const source = "../../superapp/deploy/source"
	text, err := kube.Files(os.DirFS(source))
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.NewBuffer(text)
	all.WriteString("\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: many}\n")
	for n := range many {
		fmt.Fprintf(all, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m-%d, namespace: many}\n", n)
	}
	if err := kube.Apply(ctx, kubeconfig, all.Bytes()); err != nil {
		t.Fatal(err)
	}
	role, err := Role(Options{})
	if err != nil {
		t.Fatal(err)
	}
	reader := signIn(ctx, t, kubeconfig, "reader", role, "dhow-inventory")
	live, err := FromCluster(ctx, Options{Kubeconfig: reader})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range live.Problems {
		if !strings.Contains(p.What, "what the pods take") { // the metrics come a minute after the pods
			t.Error(p)
		}
	}
	maps := 0
	for _, o := range live.Kind("ConfigMap") {
		if o.Namespace == "many" {
			maps++
		}
	}
	if maps != many {
		t.Errorf("of %d ConfigMaps %d were read", many, maps)
	}
	files := readPaths(t, FileOptions{}, source)
	for _, o := range files.Objects {
		if live.Get(o.Ref) == nil {
			t.Errorf("%s was not read", o.Ref)
		}
	}
	for _, w := range files.Workloads {
		l := live.Workload(w.Ref)
		if l == nil || len(l.Services) != len(w.Services) || l.Replicas != w.Replicas {
			t.Errorf("%s: %+v", w.Ref, l)
		}
	}
	if len(live.Databases) != len(files.Databases) || len(live.Calls) != len(files.Calls) {
		t.Errorf("%d databases and %d calls, in the files %d and %d", len(live.Databases), len(live.Calls), len(files.Databases), len(files.Calls))
	}
	if missing := slices.DeleteFunc(slices.Clone(live.Uses), func(u Use) bool { return u.Found || !strings.HasPrefix(u.By.Namespace, "superapp") }); len(missing) != 4 {
		t.Errorf("%d references lead nowhere: %+v", len(missing), missing)
	}
	raw, err := json.Marshal(live)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Sup3rApp2019", "R00t-2018", "UjAwdC0yMDE4", "4b1d7c0e9a", "ci-Pull-2019", "6f1c0a5be27d"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s is in the inventory", secret)
		}
	}
	both, err := Merge(ctx, files, live)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range both.Drift {
		if d.Object.Namespace == "superapp" {
			t.Errorf("it drifted: %+v", d)
		}
	}
	keys, err := FromCluster(ctx, Options{Kubeconfig: reader, Secrets: SecretsKeys, Namespaces: []string{"superapp"}})
	if err != nil {
		t.Fatal(err)
	}
	if o := keys.Find("Secret", "superapp", "mysql-root"); o == nil || !keys.has(o.Ref, "password") || keys.has(o.Ref, "other") {
		t.Errorf("%+v", o)
	}
	limited := signIn(ctx, t, kubeconfig, "limited", []byte("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: limited}\nrules:\n- apiGroups: [apps]\n  resources: [deployments]\n  verbs: [list]\n"), "limited")
	part, err := FromCluster(ctx, Options{Kubeconfig: limited})
	if err != nil {
		t.Fatal(err)
	}
	if !part.Partial || len(part.Workloads) != 8 || !slices.Contains(part.Cluster.Unread, "secrets") || slices.Contains(part.Cluster.Unread, "apps/deployments") || !strings.Contains(fmt.Sprint(part.Problems), "not allowed to list configmaps") {
		t.Errorf("%d workloads, %v", len(part.Workloads), part.Problems)
	}
}

// signIn makes a role, and an account that has it, and gives a kubeconfig for it.
func signIn(ctx context.Context, t *testing.T, kubeconfig, name string, role []byte, roleName string) string {
	t.Helper()
	if err := kube.Apply(ctx, kubeconfig, role); err != nil {
		t.Fatal(err)
	}
	return kubetest.SignIn(ctx, t, kubeconfig, kubetest.Account{Namespace: "default", Name: name, Role: roleName, Binding: name})
}

// livePods waits until the pods of the old deployment are there, whose images nobody has,
// and looks at how they are told of.
func livePods(ctx context.Context, t *testing.T, kubeconfig string) {
	t.Helper()
	var last string
	for {
		inv, err := FromCluster(ctx, Options{Kubeconfig: kubeconfig, Namespaces: []string{"superapp"}})
		if err != nil {
			t.Fatalf("%v; last: %s", err, last)
		}
		w := inv.Workload(Ref{"apps", "Deployment", "superapp", "accounts"})
		if w != nil && len(w.Pods) == 1 && len(w.Pods[0].Containers) == 1 && strings.Contains(w.Pods[0].Containers[0].Waiting, "Image") {
			if w.Pods[0].Owner != w.Ref || w.Pods[0].Ready || w.Pods[0].Node != "inventory" || inv.Workload(w.Pods[0].Ref) != nil {
				t.Errorf("%+v", w.Pods[0])
			}
			return
		}
		last = fmt.Sprintf("%+v", w)
		select {
		case <-ctx.Done():
			t.Fatalf("no pod waits for its image: %s", last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
