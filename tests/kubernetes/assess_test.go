package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/demo"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/kubetest"
)

const (
	// source is the old deployment's folder.
	source = "../../superapp/deploy/source"
	// shown bounds the wait for what a cluster shows after a while: metrics and restarts.
	shown = 4 * time.Minute
	// assessEvery is the pause between two looks.
	assessEvery = 5 * time.Second
)

// troubled is what only a running cluster shows. IMAGE is one of the application's.
const troubled = `apiVersion: v1
kind: Namespace
metadata: {name: troubled}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: crashing, namespace: troubled}
spec:
  selector: {matchLabels: {app: crashing}}
  template:
    metadata: {labels: {app: crashing}}
    spec:
      containers:
      - {name: main, image: IMAGE, args: [--no-such-flag]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: not-ready, namespace: troubled}
spec:
  selector: {matchLabels: {app: not-ready}}
  template:
    metadata: {labels: {app: not-ready}}
    spec:
      containers:
      - name: main
        image: IMAGE
        args: ["--listen=:8080", --instance=troubled]
        readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: not-ready, namespace: troubled}
spec:
  selector: {app: not-ready}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: unschedulable, namespace: troubled}
spec:
  selector: {matchLabels: {app: unschedulable}}
  template:
    metadata: {labels: {app: unschedulable}}
    spec:
      containers:
      - {name: main, image: IMAGE, resources: {requests: {cpu: 500}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sized, namespace: troubled}
spec:
  selector: {matchLabels: {app: sized}}
  template:
    metadata: {labels: {app: sized}}
    spec:
      containers:
      - name: main
        image: IMAGE
        args: ["--listen=:8080", --instance=troubled]
        resources: {requests: {cpu: 600m, memory: 1Mi}}
`

// found is a finding as far as it is the same of files and of a cluster.
type found struct{ rule, object string }

// finding is one as the command tells it.
type finding struct {
	Rule, Group string
	Object      struct{ Kind, Namespace, Name string }
	File        string
	Path        string
	Evidence    []string
	Patch       json.RawMessage
}

func (f *finding) found() found {
	return found{f.Rule, f.Object.Kind + "/" + f.Object.Namespace + "/" + f.Object.Name}
}

// assessment is what the command says.
type assessment struct {
	all      []finding
	findings map[found]string
	problems []string
	partial  bool
}

// assess runs the command; it exits with 0, or with 3 where something could not be read.
func assess(ctx context.Context, t *testing.T, program string, args ...string) assessment {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, append([]string{"assess", "-o", "json"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
		t.Fatalf("dhow assess: %v: %s", err, said.String())
	}
	var report struct {
		Findings []finding
		Problems []struct{ What string }
		Partial  bool
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	a := assessment{all: report.Findings, findings: map[found]string{}, partial: report.Partial}
	for _, f := range report.Findings {
		a.findings[f.found()] = f.Path + ": " + strings.Join(f.Evidence, "; ")
	}
	for _, p := range report.Problems {
		a.problems = append(a.problems, p.What)
	}
	return a
}

// The old deployment in its cluster: what is found there, and what becomes of it by the operator.
func TestOldDeployment(t *testing.T) {
	programs := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	dir, err := os.MkdirTemp("", "assess") //nolint:usetesting // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mooring := moor(ctx, t, demo.MooringOptions{Dir: filepath.Join(dir, "cluster"), Superapp: filepath.Join(programs, "superapp"), Customers: 500, Say: t.Logf})
	reader := signIn(ctx, t, filepath.Join(programs, "dhow"), mooring.Kubeconfig)
	t.Run("assessed", func(t *testing.T) { assessed(ctx, t, programs, mooring, reader) })
	image := push(ctx, t, filepath.Join(programs, "image"), mooring.Registry)
	t.Run("exposed", func(t *testing.T) { exposed(ctx, t, programs, mooring, reader, image) })
	t.Run("held", func(t *testing.T) { held(ctx, t, programs, mooring, reader, image) })
}

// assessed: read with the printed role and no other right, it is found to have what its files
// have, and what only a running cluster shows.
func assessed(ctx context.Context, t *testing.T, programs string, mooring demo.Mooring, reader string) {
	program := filepath.Join(programs, "dhow")
	if err := kube.Apply(ctx, mooring.Kubeconfig, []byte(strings.ReplaceAll(troubled, "IMAGE", mooring.Registry+"/superapp/site:latest"))); err != nil {
		t.Fatal(err)
	}
	files := assess(ctx, t, program, source)
	if files.partial || len(files.findings) == 0 {
		t.Fatalf("of the files: %v", files.problems)
	}
	want := map[found]string{
		{"crashing", "Deployment/troubled/crashing"}: "", {"not-ready", "Deployment/troubled/not-ready"}: "", {"no-endpoints", "Service/troubled/not-ready"}: "",
		{"unschedulable", "Deployment/troubled/unschedulable"}: "", {"larger-than-nodes", "Deployment/troubled/unschedulable"}: "",
		{"oversized", "Deployment/troubled/sized"}: "", {"undersized", "Deployment/troubled/sized"}: "",
	}
	var live assessment
	var missing []string
	for end := time.Now().Add(shown); ; {
		live = assess(ctx, t, program, "--kubeconfig", reader)
		missing = lacks(live.findings, want, nil)
		if len(missing) == 0 || time.Now().After(end) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(assessEvery):
		}
	}
	for _, m := range missing {
		t.Errorf("the cluster does not show %s", m)
	}
	if live.partial {
		t.Errorf("the role does not suffice: %v", live.problems)
	}
	rules := liveRules(ctx, t, program)
	for _, m := range lacks(live.findings, files.findings, ofFiles) {
		t.Errorf("of the files alone: %s", m)
	}
	for _, m := range lacks(files.findings, live.findings, func(f found) bool { return rules[f.rule] || ofCluster(f) }) {
		t.Errorf("of the cluster alone: %s", m)
	}
}

// ofFiles says that a finding is one of files alone, and why.
func ofFiles(f found) bool {
	switch f.rule {
	case "database-in-public": // the databases of this test have addresses of this machine
		return true
	case "secret-in-manifest": // in a cluster a Secret is where a secret belongs
		return true
	case "secret-reused": // values of Secrets are not read of a cluster
		return f.object == "Secret/superapp/mysql-root" || f.object == "CronJob/superapp/month-end-report"
	}
	return false
}

// ofCluster says that a finding is one of this cluster alone, and why.
func ofCluster(f found) bool {
	switch f {
	case found{"image-always-pulled", "CronJob/superapp/clean-sessions"}: // the server writes down what a tag of latest means
		return true
	case found{"role-reads-secrets", "ClusterRole//dhow-inventory"}: // the reader's own
		return true
	}
	return strings.Contains(f.object, "troubled")
}

// lacks are the findings that are wanted and not there, but for those that are left out.
func lacks(have, want map[found]string, out func(found) bool) []string {
	var all []string
	for f, text := range want {
		if _, ok := have[f]; !ok && (out == nil || !out(f)) {
			all = append(all, f.rule+" of "+f.object+" "+text)
		}
	}
	slices.Sort(all)
	return all
}

// liveRules are the ids of those that only a cluster shows.
func liveRules(ctx context.Context, t *testing.T, program string) map[string]bool {
	t.Helper()
	out, err := exec.CommandContext(ctx, program, "assess", "--rules", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var rules []struct {
		ID   string
		Live bool
	}
	if err := json.Unmarshal(out, &rules); err != nil {
		t.Fatal(err)
	}
	live := map[string]bool{}
	for _, r := range rules {
		live[r.ID] = r.Live
	}
	return live
}

// moor runs a cluster with the old deployment until the test ends.
func moor(ctx context.Context, t *testing.T, o demo.MooringOptions) demo.Mooring {
	t.Helper()
	ctx, end := context.WithCancel(ctx)
	ready, over := make(chan demo.Mooring, 1), make(chan error, 1)
	go func() { over <- demo.Moor(ctx, o, func(m demo.Mooring) { ready <- m }) }()
	select {
	case err := <-over:
		end()
		t.Fatal(err)
	case m := <-ready:
		t.Cleanup(func() {
			end()
			if err := <-over; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		return m
	}
	return demo.Mooring{}
}

// signIn makes an account that has the printed role, and gives a kubeconfig for it.
func signIn(ctx context.Context, t *testing.T, program, kubeconfig string) string {
	t.Helper()
	role, err := exec.CommandContext(ctx, program, "assess", "--role").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.Apply(ctx, kubeconfig, role); err != nil {
		t.Fatal(err)
	}
	// In a namespace of the cluster's own, so that it is no part of what is found.
	return kubetest.SignIn(ctx, t, kubeconfig, kubetest.Account{Namespace: "kube-system", Name: "dhow-reader", Role: "dhow-inventory", Binding: "system:dhow-reader"})
}
