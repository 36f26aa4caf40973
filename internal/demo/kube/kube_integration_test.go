package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"dhow/internal/demo/kube/kubetest"
)

// ownerDir makes the test's binary the owner of a cluster in that folder, which gets killed.
const ownerDir = "KUBE_TEST_OWNER"

// patience bounds every wait, on a loaded machine too.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDir); dir != "" {
		own(dir)
	}
	goleak.VerifyTestMain(m)
}

// own runs a cluster with a pod until it is killed.
func own(dir string) {
	ctx := context.Background()
	c, err := Up(ctx, Options{Name: "killed", Dir: dir})
	if err == nil {
		err = Apply(ctx, c.Kubeconfig(), []byte(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: pause}, spec: {replicas: 2, selector: {matchLabels: {app: pause}}, template: {
			metadata: {labels: {app: pause}}, spec: {containers: [{name: pause, image: "`+pauseImage+`", imagePullPolicy: Never}]}}}}`))
	}
	if err == nil {
		_, err = AwaitReady(ctx, c.Kubeconfig(), "default")
	}
	fmt.Println("up:", err)
	select {}
}

// shop is the application that runs on both clusters: a Deployment with a Service
// inside and one outside, a pod with a port of the node's, and one in its network.
const shop = `
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop}
spec: {type: NodePort, selector: {app: answer}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: answer, namespace: shop}
spec: {selector: {app: answer}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: answer, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: answer}}
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  template:
    metadata: {labels: {app: answer}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: answer
          image: IMAGE
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          resources: {requests: {cpu: 10m, memory: 16Mi}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: answer, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: answer}
  minReplicas: 2
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: port, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: answer, image: IMAGE, ports: [{containerPort: 8080, hostPort: 8081}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: network, namespace: shop}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: answer, image: IMAGE}]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`

// shopPods is how many pods the shop has.
const shopPods = 4

const broken = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: broken, namespace: broken}
spec:
  selector: {matchLabels: {app: broken}}
  template:
    metadata: {labels: {app: broken}}
    spec: {containers: [{name: broken, image: IMAGE, args: [fail]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: broken}
`

func TestTwoClustersSideBySide(t *testing.T) {
	kubetest.Require(t, Check)
	if err := Clean(t.Context()); err != nil { // what a test that was killed left
		t.Fatal(err)
	}
	before := snapshot(t)
	clusters := make([]*Local, 2)
	began := time.Now()
	var g errgroup.Group
	for i, name := range []string{"source", "target"} {
		g.Go(func() (err error) {
			clusters[i], err = Up(t.Context(), Options{Name: name, Dir: filepath.Join(t.TempDir(), name)})
			return err
		})
	}
	err := g.Wait()
	t.Cleanup(func() {
		for _, c := range clusters {
			if c != nil {
				_ = c.Down(context.Background())
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("two clusters were up in %s", time.Since(began).Round(time.Millisecond))
	if err := Clean(t.Context()); err != nil { // which leaves the living alone
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Name: "third", Dir: clusters[0].o.Dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder that is in use: %v", err)
	}
	image := serveImage(t, clusters[0].Host())
	for _, c := range clusters {
		g.Go(func() error { return install(t, c, image) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Run("both", func(t *testing.T) {
		for _, c := range clusters {
			t.Run(c.o.Name, func(t *testing.T) {
				t.Parallel()
				tryOut(t, c, image)
			})
		}
	})
	began = time.Now()
	for _, c := range clusters {
		g.Go(func() error { return c.Down(t.Context()) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("two clusters were down in %s", time.Since(began).Round(time.Millisecond))
	for _, c := range clusters {
		if err := c.Down(t.Context()); err != nil {
			t.Errorf("down again: %v", err)
		}
		if _, err := os.Stat(c.o.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of %s is still there: %v", c.o.Name, err)
		}
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the machine is not what it was (-before +after):\n%s", diff)
	}
}

// install applies the shop and waits for its pods.
func install(t *testing.T, c *Local, image string) error {
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		return err
	}
	if err := c.TrustRegistry(ref.Context().RegistryStr()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := Apply(ctx, c.Kubeconfig(), []byte(strings.ReplaceAll(shop, "IMAGE", image))); err != nil {
		return err
	}
	pods, err := AwaitReady(ctx, c.Kubeconfig(), "shop")
	if err == nil && pods != shopPods {
		err = fmt.Errorf("%d pods are ready, want %d", pods, shopPods)
	}
	return err
}

func tryOut(t *testing.T, c *Local, image string) {
	client, err := newClient(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	front := "http://" + c.Address() + ":30080"
	names := podNames(t, client)
	awaitAnswer(t, front+"/")
	if got := get(t, front+"/"); !strings.Contains(names, got) {
		t.Errorf("the NodePort's answer is %q, want one of the pods %s", got, names)
	}
	// Each pod meets itself, too, when it asks its own Service.
	for range 8 {
		if got := get(t, front+"/get?url="+url.QueryEscape("http://answer.shop.svc.cluster.local/")); !strings.Contains(names, got) {
			t.Errorf("from pod to pod by the Service's name: %q, want one of %s", got, names)
		}
	}
	service, err := client.CoreV1().Services("shop").Get(t.Context(), "answer", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for lookup, want := range map[string]string{"answer": service.Spec.ClusterIP, "answer.shop.svc": service.Spec.ClusterIP, "kubernetes.default": c.slot.apiService().String(), "example.com": "no such host"} {
		if got := get(t, front+"/resolve?name="+lookup); !strings.Contains(got, want) {
			t.Errorf("the name %s in a pod: %s, want %s", lookup, got, want)
		}
	}
	for _, port := range []string{"8080", "8081"} { // the node's own
		if got := get(t, "http://"+c.Address()+":"+port+"/"); got == "" {
			t.Errorf("nothing is said at the node's port %s", port)
		}
	}
	host := serve(t, c.Host(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the host") }))
	if got := get(t, front+"/get?url="+url.QueryEscape(host+"/")); got != "the host" {
		t.Errorf("from a pod to the host: %q", got)
	}
	pod, _, _ := strings.Cut(names, " ")
	text, err := client.CoreV1().Pods("shop").GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || !strings.Contains(string(text), "asked for its name") {
		t.Errorf("the log of %s is %q, %v", pod, text, err)
	}

	// Nobody gets in without a name.
	for address, want := range map[string]int{
		fmt.Sprintf("https://%s:%d/readyz", c.Address(), apiPort):            http.StatusOK,
		fmt.Sprintf("https://%s:%d/api/v1/namespaces", c.Address(), apiPort): http.StatusUnauthorized,
		fmt.Sprintf("https://%s:10250/pods", c.Address()):                    http.StatusUnauthorized,
	} {
		if got := status(t, address); got != want {
			t.Errorf("%s without a name: %d, want %d", address, got, want)
		}
	}

	if err := Restart(t.Context(), c.Kubeconfig(), "shop", "answer"); err != nil {
		t.Fatal(err)
	}
	ready, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if pods, err := AwaitReady(ready, c.Kubeconfig(), "shop"); err != nil || pods != shopPods {
		t.Errorf("after the restart: %d pods, %v", pods, err)
	}
	err = await(t, func(context.Context) error {
		for old := range strings.FieldsSeq(names) {
			if strings.Contains(podNames(t, client), old) {
				return fmt.Errorf("pod %s outlives the restart", old)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	if err := Apply(t.Context(), c.Kubeconfig(), []byte(strings.ReplaceAll(broken, "IMAGE", image))); err != nil {
		t.Fatal(err)
	}
	err = await(t, func(ctx context.Context) error { // until it has ended, and was started again
		pods, err := client.CoreV1().Pods("broken").List(ctx, metav1.ListOptions{})
		if err != nil || len(pods.Items) != 1 || len(pods.Items[0].Status.ContainerStatuses) != 1 {
			return fmt.Errorf("it was not started yet: %w", err)
		}
		if s := pods.Items[0].Status.ContainerStatuses[0]; s.LastTerminationState.Terminated == nil {
			return fmt.Errorf("it has not failed and come again: %+v", s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_, err = AwaitReady(short, c.Kubeconfig(), "broken")
	for _, want := range []string{"deployment broken has 0 of 1 pods ready", "pod broken-", "exit code 3", "| the store is not there"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}

	if _, err := AwaitReady(t.Context(), c.Kubeconfig(), "nowhere"); err == nil || !strings.Contains(err.Error(), `"nowhere" not found`) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	err = Apply(t.Context(), c.Kubeconfig(), []byte("{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: shop}, spec: {ports: [{port: 0}]}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: good, namespace: shop}}"))
	if err == nil || !strings.Contains(err.Error(), "apply Service shop/bad") {
		t.Errorf("an object that is wrong: %v", err)
	}
	if _, err := client.CoreV1().ConfigMaps("shop").Get(t.Context(), "good", metav1.GetOptions{}); err != nil {
		t.Errorf("the object beside it: %v", err)
	}
	own, err := Existing(t.Context(), c.Kubeconfig())
	if err != nil || own.Address() != c.Address() || own.Host() != c.Host() || own.Down(t.Context()) != nil {
		t.Errorf("taken as a user's own: %+v, %v", own, err)
	}
	awaitMetrics(t, client)
	err = await(t, func(ctx context.Context) error {
		a, err := client.AutoscalingV2().HorizontalPodAutoscalers("shop").Get(ctx, "answer", metav1.GetOptions{})
		if err == nil && len(a.Status.CurrentMetrics) == 0 {
			err = fmt.Errorf("the autoscaler sees nothing: %+v", a.Status.Conditions)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// awaitMetrics waits until the pods' memory is known, as `kubectl top` shows it.
func awaitMetrics(t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	err := await(t, func(ctx context.Context) error {
		text, err := client.RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods").DoRaw(ctx)
		if err != nil {
			return err
		}
		var all struct {
			Items []struct {
				Containers []struct {
					Usage struct{ Memory string }
				}
			}
		}
		if err := json.Unmarshal(text, &all); err != nil {
			return err
		}
		if len(all.Items) == 0 || len(all.Items[0].Containers) != 1 || all.Items[0].Containers[0].Usage.Memory == "" {
			return fmt.Errorf("no pod was measured yet: %s", text)
		}
		return nil
	})
	if err != nil {
		t.Errorf("metrics: %v", err)
	}
}

// TestKilled kills the owner of a cluster with SIGKILL, at moments of its start and
// while pods run.
func TestKilled(t *testing.T) {
	kubetest.Require(t, Check)
	const starts = 5
	before := snapshot(t)
	dir := filepath.Join(t.TempDir(), "cluster")
	var took time.Duration
	for round := range starts + 1 {
		began := time.Now()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), ownerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		moment := "when it was up"
		if round == 0 { // all is there that can be left behind
			line, err := bufio.NewReader(out).ReadString('\n')
			if line != "up: <nil>\n" {
				t.Errorf("the cluster did not come up: %s %v", line, err)
			}
			took = time.Since(began)
		} else {
			// One moment in each part of the start, at random within it.
			part := took / starts
			at := part*time.Duration(round-1) + rand.N(part)
			time.Sleep(at) // this is the moment, not a wait for anything
			moment = "after " + at.Round(time.Millisecond).String()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		began = time.Now()
		if err := Clean(t.Context()); err != nil {
			t.Fatalf("killed %s: %v", moment, err)
		}
		t.Logf("killed %s: clean in %s", moment, time.Since(began).Round(time.Millisecond))
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Fatalf("killed %s, something is left (-before +after):\n%s", moment, diff)
		}
	}
	// The next start finds what one that was killed left, and removes it.
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ownerDir+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(took / 3)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c, err := Up(t.Context(), Options{Name: "next", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the machine is not what it was (-before +after):\n%s", diff)
	}
}

func TestInterruptedStartLeavesNothing(t *testing.T) {
	kubetest.Require(t, Check)
	before := snapshot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "cluster")
	c, err := Up(ctx, Options{Name: "interrupted", Dir: dir})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the time", err)
	}
	if c != nil {
		_ = c.Down(context.Background())
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the machine is not what it was (-before +after):\n%s", diff)
	}
}

func TestFolderOfOthersIsNotTaken(t *testing.T) {
	kubetest.Require(t, Check)
	dir := t.TempDir()
	file := filepath.Join(dir, "mine")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Name: "others", Dir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// serveImage builds the tests' application, and serves its image at the address.
func serveImage(t *testing.T, host string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "answer")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./testdata/answer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the application: %v: %s", err, out)
	}
	image, err := pack(program, "answer")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(serve(t, host, registry.New(registry.Logger(log.New(io.Discard, "", 0)))), "http://")
	ref, err := name.ParseReference(address+"/answer:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithTransport(&http.Transport{DisableKeepAlives: true})); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// serve serves on a free port of the address until the test ends.
func serve(t *testing.T, host string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, address string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// awaitAnswer waits until kube-proxy has heard of the pods.
func awaitAnswer(t *testing.T, address string) {
	t.Helper()
	if err := await(t, func(ctx context.Context) error { return answers(ctx, address) }); err != nil {
		t.Fatal(err)
	}
}

// await tries until it succeeds. Each wait has a time of its own.
func await(t *testing.T, try func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return poll(ctx, askEvery, func() error { return try(ctx) })
}

// status asks without showing who asks.
func status(t *testing.T, address string) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func podNames(t *testing.T, client *kubernetes.Clientset) string {
	t.Helper()
	pods, err := client.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=answer"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range pods.Items {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// snapshot is everything on this machine of which a cluster could leave something.
func snapshot(t *testing.T) map[string][]string {
	t.Helper()
	s := map[string][]string{"processes in other namespaces": strangers(t)}
	s["mounts"] = kubetest.Mounts(t)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		s["links"] = append(s["links"], l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		s["routes"] = append(s["routes"], r.String())
	}
	v1, v2, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range append(v1, v2...) {
		_ = filepath.WalkDir(h, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				s["cgroups"] = append(s["cgroups"], path)
			}
			return nil
		})
	}
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if !strings.HasPrefix(line, "#") {
			s["firewall"] = append(s["firewall"], line)
		}
	}
	for _, group := range []string{"vm/*", "kernel/*", "kernel/keys/*", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"} {
		settings, err := filepath.Glob("/proc/sys/" + group)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range settings {
			value, err := os.ReadFile(file)
			if err == nil && filepath.Base(file) != "ns_last_pid" { // which is no setting
				s["settings"] = append(s["settings"], file+" "+string(value))
			}
		}
	}
	for _, place := range []string{"/run/*", "/run/dhow/kube/*", "/run/netns/*", "/var/lib/*", "/var/lib/cni/*", "/var/lib/containerd/*", "/var/lib/kubelet/*", "/var/log/*", "/var/log/pods/*", "/opt/*", "/etc/cni/*"} {
		found, err := filepath.Glob(place)
		if err != nil {
			t.Fatal(err)
		}
		s["files"] = append(s["files"], found...)
	}
	for _, lines := range s {
		sort.Strings(lines)
	}
	return s
}

// strangers are the processes that share not all of this process' namespaces.
func strangers(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, p := range all {
		for _, kind := range []string{"mnt", "net", "pid"} {
			mine, errMine := os.Readlink("/proc/self/ns/" + kind)
			its, errIts := os.Readlink(p + "/ns/" + kind)
			if errMine == nil && errIts == nil && mine != its {
				line, _ := os.ReadFile(p + "/cmdline")
				pid, _ := strconv.Atoi(filepath.Base(p))
				began, alive := birth(pid)
				if !alive { // and not collected yet by the machine's first process
					break
				}
				found = append(found, fmt.Sprintf("%d since %s: %s", pid, began, strings.ReplaceAll(string(line), "\x00", " ")))
				break
			}
		}
	}
	return found
}
