package admit

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write the golden files anew")

// need is what an Exposure of the usual workload needs, by package render itself.
func need(t interface{ Fatal(args ...any) }, name string, change func(*v1alpha1.ExposureSpec)) Need {
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: name}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: "cart"}, Visibility: v1alpha1.Private}}
	if change != nil {
		change(&e.Spec)
	}
	in := render.Input{Exposure: e, Policy: render.Policy{Domain: "bank.example"}, Workload: render.Workload{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", Selector: map[string]string{"app": "cart"}, Guarded: true,
		Containers: []render.Container{{Name: "cart", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}
	pod, times, err := render.Pods(in)
	if err != nil {
		t.Fatal(err)
	}
	return Need{Exposure: name, Pod: pod, Times: times}
}

// usual is a pod of the workload, of which nobody has set anything.
const usual = `
metadata: {generateName: cart-, namespace: superapp, labels: {app: cart}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - {name: cart, image: cart, ports: [{name: http, containerPort: 8080}]}
`

func connections(s *v1alpha1.ExposureSpec) {
	s.Ports = []v1alpha1.Port{{Name: "pg", Port: 5432, TargetPort: &intstr.IntOrString{Type: intstr.Int, IntVal: 5432}, Protocol: v1alpha1.TCP}}
}

func health(s *v1alpha1.ExposureSpec) { s.Health = &v1alpha1.Health{Path: "/well"} }

func podOf(t interface{ Fatal(args ...any) }, text string) *corev1.Pod {
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGolden compares what becomes of pods.
func TestGolden(t *testing.T) {
	cases := map[string]struct {
		pod   string
		needs []Need
	}{
		"nothing-set":     {pod: usual, needs: []Need{need(t, "cart", nil)}},
		"health-path":     {pod: usual, needs: []Need{need(t, "cart", health)}},
		"connections":     {pod: usual, needs: []Need{need(t, "cart", connections)}},
		"two-exposures":   {pod: usual, needs: []Need{need(t, "sql", connections), need(t, "cart", nil)}},
		"long-grace":      {pod: strings.Replace(usual, "Seconds: 30", "Seconds: 120", 1), needs: []Need{need(t, "cart", nil)}},
		"short-grace":     {pod: strings.Replace(usual, "Seconds: 30", "Seconds: 12", 1), needs: []Need{need(t, "cart", nil)}},
		"no-grace":        {pod: strings.Replace(usual, "Seconds: 30", "Seconds: 0", 1), needs: []Need{need(t, "cart", nil)}},
		"own-long-sleep":  {pod: strings.Replace(usual, "image: cart,", "image: cart, lifecycle: {preStop: {sleep: {seconds: 40}}},", 1), needs: []Need{need(t, "cart", nil)}},
		"own-short-sleep": {pod: strings.Replace(usual, "image: cart,", `image: cart, lifecycle: {preStop: {exec: {command: [/bin/sh, -c, "sleep 5; quit"]}}},`, 1), needs: []Need{need(t, "cart", nil)}},
		"own-hook":        {pod: strings.Replace(usual, "image: cart,", "image: cart, lifecycle: {postStart: {exec: {command: [warm-up]}}, preStop: {httpGet: {path: /quit, port: 8080}}},", 1), needs: []Need{need(t, "cart", nil)}},
		"own-probe":       {pod: strings.Replace(usual, "image: cart,", "image: cart, readinessProbe: {httpGet: {path: /readyz, port: http}},", 1), needs: []Need{need(t, "cart", health)}},
		"own-spread":      {pod: usual + "  topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]\n", needs: []Need{need(t, "cart", nil)}},
		"own-affinity":    {pod: usual + "  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname}]}}\n", needs: []Need{need(t, "cart", nil)}},
		"side-car":        {pod: usual + "  - {name: proxy, image: proxy, ports: [{name: admin, containerPort: 15000}]}\n  initContainers: [{name: logs, image: logs, restartPolicy: Always}]\n", needs: []Need{need(t, "cart", nil)}},
		"other-port":      {pod: strings.Replace(usual, "name: http", "name: web", 1), needs: []Need{need(t, "cart", nil)}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, c.pod)
			changed, err := Complete(pod, c.needs)
			if err != nil || !changed {
				t.Fatalf("got %v, %v: want it changed", changed, err)
			}
			have, err := yaml.Marshal(map[string]any{"pod": pod, "report": reportOf(t, pod)})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, have, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(have)); d != "" {
				t.Errorf("-want +have:\n%s", d)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != len(cases) {
		t.Errorf("%d golden files (%v) for %d cases: remove those that are left over", len(files), err, len(cases))
	}
}

func reportOf(t interface{ Fatal(args ...any) }, pod *corev1.Pod) Report {
	var r Report
	if err := json.Unmarshal([]byte(pod.Annotations[SetNote]), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAlone: a pod of no Exposure stays as it is, and so does one in which all is set.
func TestAlone(t *testing.T) {
	whole := strings.Replace(usual, "image: cart,", "image: cart, lifecycle: {preStop: {sleep: {seconds: 60}}}, readinessProbe: {tcpSocket: {port: http}},", 1)
	whole = strings.Replace(whole, "Seconds: 30", "Seconds: 90", 1) + "  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]\n"
	for name, c := range map[string]struct {
		pod   string
		needs []Need
	}{
		"no Exposure": {usual, nil},
		"all is set":  {whole, []Need{need(t, "cart", nil)}},
	} {
		pod := podOf(t, c.pod)
		changed, err := Complete(pod, c.needs)
		if d := cmp.Diff(podOf(t, c.pod), pod); err != nil || changed || d != "" {
			t.Errorf("%s: got %v, %v, -was +is:\n%s", name, changed, err, d)
		}
	}
}

// TestAgain: a container that another program puts in meanwhile is completed too, and what was
// told before stays told.
func TestAgain(t *testing.T) {
	pod, needs := podOf(t, usual), []Need{need(t, "cart", connections)}
	if changed, err := Complete(pod, needs); err != nil || !changed {
		t.Fatalf("got %v, %v", changed, err)
	}
	first := len(reportOf(t, pod).Set)
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "proxy"})
	if changed, err := Complete(pod, needs); err != nil || !changed {
		t.Fatalf("got %v, %v", changed, err)
	}
	one, two := pod.Spec.Containers[0].Lifecycle, pod.Spec.Containers[1].Lifecycle
	if d := cmp.Diff(one, two); d != "" || two == nil {
		t.Errorf("-first +second:\n%s", d)
	}
	if set := reportOf(t, pod).Set; len(set) != first+1 || set[first].Field != "spec.containers[proxy].lifecycle.preStop" {
		t.Errorf("got %+v", set)
	}
	if changed, err := Complete(pod, needs); err != nil || changed {
		t.Errorf("got %v, %v: want nothing more to do", changed, err)
	}
}

// TestKept: whatever somebody has set stays, a second time changes nothing, and who is given a
// sleep is there for longer than that.
func TestKept(t *testing.T) {
	needs := []Need{need(t, "cart", nil), need(t, "well", health), need(t, "sql", connections)}
	rapid.Check(t, func(t *rapid.T) {
		pod := podOf(t, usual)
		if rapid.Bool().Draw(t, "has a grace period") {
			grace := rapid.Int64Range(0, 400).Draw(t, "grace")
			pod.Spec.TerminationGracePeriodSeconds = &grace
		} else {
			pod.Spec.TerminationGracePeriodSeconds = nil
		}
		if rapid.Bool().Draw(t, "has a second container") {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "proxy"})
		}
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			switch rapid.IntRange(0, 3).Draw(t, "preStop") {
			case 1:
				c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: rapid.Int64Range(0, 100).Draw(t, "sleep")}}}
			case 2:
				c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"quit"}}}}
			case 3:
				c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"begin"}}}}
			}
			if rapid.Bool().Draw(t, "has a probe") {
				c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 7}
			}
		}
		if rapid.Bool().Draw(t, "has a spread") {
			pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "rack"}}
		}
		some := needs[:rapid.IntRange(1, len(needs)).Draw(t, "Exposures")]
		was := pod.DeepCopy()
		if _, err := Complete(pod, some); err != nil {
			t.Fatal(err)
		}
		if g := was.Spec.TerminationGracePeriodSeconds; render.OwnGrace(g) && *pod.Spec.TerminationGracePeriodSeconds != *g {
			t.Fatalf("the grace period of %d s became %d s", *g, *pod.Spec.TerminationGracePeriodSeconds)
		}
		for i := range was.Spec.Containers {
			a, b := was.Spec.Containers[i], pod.Spec.Containers[i]
			if a.ReadinessProbe != nil && !cmp.Equal(a.ReadinessProbe, b.ReadinessProbe) {
				t.Fatal("a probe was changed")
			}
			if a.Lifecycle != nil && (!cmp.Equal(a.Lifecycle.PostStart, b.Lifecycle.PostStart) || a.Lifecycle.PreStop != nil && !cmp.Equal(a.Lifecycle.PreStop, b.Lifecycle.PreStop)) {
				t.Fatal("a hook was changed")
			}
			if given := a.Lifecycle == nil || a.Lifecycle.PreStop == nil; given && b.Lifecycle != nil && b.Lifecycle.PreStop != nil {
				if seconds, _ := Slept(b.Lifecycle.PreStop); seconds < 1 || seconds >= *pod.Spec.TerminationGracePeriodSeconds {
					t.Fatalf("sleeps for %d s of %d s", seconds, *pod.Spec.TerminationGracePeriodSeconds)
				}
			}
		}
		if len(was.Spec.TopologySpreadConstraints) > 0 && !cmp.Equal(was.Spec.TopologySpreadConstraints, pod.Spec.TopologySpreadConstraints) {
			t.Fatal("a spread was changed")
		}
		second := pod.DeepCopy()
		if changed, err := Complete(second, some); err != nil || changed {
			t.Fatalf("a second time: got %v, %v, -first +second:\n%s", changed, err, cmp.Diff(pod, second))
		}
		if i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "" }); i >= 0 {
			t.Fatal("a container without a name")
		}
	})
}

func TestSlept(t *testing.T) {
	exec := func(words ...string) corev1.LifecycleHandler {
		return corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: words}}
	}
	for _, c := range []struct {
		h     corev1.LifecycleHandler
		want  int64
		known bool
	}{
		{corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 7}}, 7, true},
		{exec("sleep", "15"), 15, true},
		{exec("/bin/sleep", "1m"), 60, true},
		{exec("sleep", "0.5"), 1, true},
		{exec("/bin/sh", "-c", "sleep 20 && nginx -s quit"), 20, true},
		{exec("bash", "-c", "sleep 20; quit"), 20, true},
		{exec("sh", "-c", "quit && sleep 20"), 0, false},
		{exec("sleep", "-5"), 0, false},
		{exec("sleep", "soon"), 0, false},
		{exec("sleep", "9999999"), 0, false},
		{exec("sleep"), 0, false},
		{exec(), 0, false},
		{corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/"}}, 0, false},
		{corev1.LifecycleHandler{}, 0, false},
	} {
		if got, known := Slept(&c.h); got != c.want || known != c.known {
			t.Errorf("%+v: got %d, %v: want %d, %v", c.h, got, known, c.want, c.known)
		}
	}
}

// FuzzSlept: no command makes a time that is out of bounds.
func FuzzSlept(f *testing.F) {
	for _, seed := range []string{"sleep 15", "sleep 1h && quit", "sleep -1", "sleep 1e9", "", "sleep 99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		for _, command := range [][]string{{"sh", "-c", script}, strings.Fields(script)} {
			got, known := Slept(&corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}})
			if got < 0 || got > mostSlept || !known && got != 0 {
				t.Errorf("%q: got %d, %v", command, got, known)
			}
		}
	})
}
