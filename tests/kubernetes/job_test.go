package kubernetes

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"dhow/internal/demo/kube"
	"dhow/internal/pgserver"
	"dhow/superapp/images"
)

const (
	// jobName is the Job of the estate that is called test, copied the one of its pods.
	jobName, copyNamespace = "dhow-test-copy", "moves"
	// copiedRows are enough to be copied for two minutes by one process, and for half
	// of one by four, at the rate of copiedPerSecond that each keeps to.
	copiedRows, copiedPerSecond = 600_000, 5_000
	// copyPods are the parts of the copy.
	copyPods = 3
)

// yard is a cluster beside two PostgreSQL servers, with an estate of one large table.
type yard struct {
	dhow, image, kubeconfig, estate string
	client                          *kubernetes.Clientset
	source, target                  *pgserver.Server
}

func newYard(ctx context.Context, t *testing.T) *yard {
	t.Helper()
	programs := build(t)
	y := &yard{dhow: filepath.Join(programs, "dhow")}
	dir, err := os.MkdirTemp("", "job") // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c, err := kube.Up(ctx, kube.Options{Name: "copy", Dir: filepath.Join(dir, "cluster")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	y.kubeconfig = c.Kubeconfig()
	conf, err := clientcmd.BuildConfigFromFlags("", y.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if y.client, err = kubernetes.NewForConfig(conf); err != nil {
		t.Fatal(err)
	}
	namespace := "{apiVersion: v1, kind: Namespace, metadata: {name: " + copyNamespace + ", labels: {pod-security.kubernetes.io/enforce: restricted}}}"
	if err := kube.Apply(ctx, y.kubeconfig, []byte(namespace)); err != nil {
		t.Fatal(err)
	}
	y.image = pushed(ctx, t, c, filepath.Join(programs, "image"))
	y.source, y.target = served(ctx, t, c.Host()), served(ctx, t, c.Host())
	fill := fmt.Sprintf(`CREATE TABLE big (id bigint PRIMARY KEY, v text NOT NULL);
		INSERT INTO big SELECT n, repeat('x', 100) || n FROM generate_series(1, %d) n`, copiedRows)
	if err := y.source.Exec(ctx, "app", fill); err != nil {
		t.Fatal(err)
	}
	y.estate = filepath.Join(dir, "dhow.yaml")
	text := "name: test\nlimits: {copies: 1, chunk: 1MiB, rows_per_second: " + strconv.Itoa(copiedPerSecond) + "}\ndatabases:\n  - name: app\n"
	for _, end := range []struct {
		side string
		at   *pgserver.Server
	}{{"source", y.source}, {"target", y.target}} {
		if err := os.WriteFile(filepath.Join(dir, end.side), []byte(end.at.Password()), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("    %s: {host: %s, port: %d, database: app, user: %s, password: {file: %[1]s}, tls: {mode: disable}}\n", end.side, c.Host(), end.at.Port, end.at.User())
	}
	if err := os.WriteFile(y.estate, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return y
}

// served is a server that the cluster's pods reach.
func served(ctx context.Context, t *testing.T, host string) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(ctx, pgserver.Options{Version: 15, Listen: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := s.Exec(ctx, "postgres", "CREATE DATABASE app"); err != nil {
		t.Fatal(err)
	}
	return s
}

// pushed builds dhow's image, by the program that does that, into a registry of the
// cluster's own.
func pushed(ctx context.Context, t *testing.T, c *kube.Local, program string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(c.Host(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- images.Registry(serving, l, "") }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := c.TrustRegistry(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return push(ctx, t, program, l.Addr().String())
}

// push builds dhow's image into a registry, and returns by what it is pulled from there.
func push(ctx context.Context, t *testing.T, program, registry string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, "--push", registry, "--tag", "test", "--insecure")
	cmd.Stderr = os.Stderr
	ref, err := cmd.Output()
	if err != nil {
		t.Fatalf("build and push dhow's image: %v", err)
	}
	return strings.TrimSpace(string(ref))
}

// copying is a dhow replicate that runs, or has ended.
type copying struct {
	cmd   *exec.Cmd
	out   *safeBuffer
	ended chan struct{}
	err   error // how it ended
	// before are the pods that the Job of an earlier one has left.
	before map[string]bool
}

// replicate starts dhow replicate with the help of the pods.
func (y *yard) replicate(ctx context.Context, t *testing.T, args ...string) *copying {
	t.Helper()
	c := &copying{out: &safeBuffer{}, ended: make(chan struct{}), before: map[string]bool{}}
	for _, p := range y.pods(ctx, t) {
		c.before[p.Name] = true
	}
	c.cmd = exec.CommandContext(ctx, y.dhow, append([]string{"replicate", "--file", y.estate, "--output", "json", "--job", strconv.Itoa(copyPods), "--image", y.image, "--kubeconfig", y.kubeconfig, "--namespace", copyNamespace}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		<-c.ended
	})
	return c
}

// wait waits until it has ended, and says how.
func (c *copying) wait() error {
	<-c.ended
	return c.err
}

// standings are what was printed of the Job.
func standings(text string) (most int) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		var s struct {
			Event   string `json:"event"`
			Running int    `json:"running"`
		}
		if json.Unmarshal(lines.Bytes(), &s) == nil && s.Event == "job" {
			most = max(most, s.Running)
		}
	}
	return most
}

// pods are those of the Job.
func (y *yard) pods(ctx context.Context, t *testing.T) []corev1.Pod {
	t.Helper()
	list, err := y.client.CoreV1().Pods(copyNamespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobName})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// helped waits until a pod of the Job says that it has copied, and names it.
func (y *yard) helped(ctx context.Context, t *testing.T, c *copying) string {
	t.Helper()
	for {
		for _, p := range y.pods(ctx, t) {
			if c.before[p.Name] {
				continue
			}
			log, err := y.client.CoreV1().Pods(copyNamespace).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			if err != nil {
				continue // it has not begun
			}
			for line := range bytes.Lines(log) {
				var s struct {
					Rows int64 `json:"rows"`
				}
				if json.Unmarshal(line, &s) == nil && s.Rows > 0 {
					return p.Name
				}
			}
		}
		select {
		case <-c.ended:
			t.Fatalf("it ends, with %v, before a pod has copied anything:\n%s", c.err, c.out.String())
		case <-ctx.Done():
			t.Fatalf("no pod has copied anything; dhow says:\n%s", c.out.String())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// gone fails the test if anything of the Job is left.
func (y *yard) gone(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := y.client.BatchV1().Jobs(copyNamespace).Get(ctx, jobName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the job is left: %v", err)
	}
	if _, err := y.client.CoreV1().Secrets(copyNamespace).Get(ctx, jobName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the secret is left: %v", err)
	}
}

// A copy is spread over the pods of a Job: interrupted, with its owner killed, and
// with a pod killed, it comes to its end with every row, and nothing is left in the cluster.
func TestCopyAsAJob(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	y := newYard(ctx, t)

	// Told to stop, it takes the Job along.
	c := y.replicate(ctx, t)
	y.helped(ctx, t, c)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err == nil {
		t.Error("interrupted in the copy, it ends as if that were done")
	}
	y.gone(ctx, t)

	// Killed, it leaves the Job; the next one replaces it and goes on.
	c = y.replicate(ctx, t)
	y.helped(ctx, t, c)
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.wait() // by the signal
	c = y.replicate(ctx, t, "--until-streaming")
	pod := y.helped(ctx, t, c)
	if err := y.client.CoreV1().Pods(copyNamespace).Delete(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		t.Fatalf("it ends with %v:\n%s", err, c.out.String())
	}
	if standings(c.out.String()) == 0 {
		t.Errorf("it told of no pod that ran:\n%s", c.out.String())
	}
	y.gone(ctx, t)
	verify := exec.CommandContext(ctx, y.dhow, "verify", "--file", y.estate)
	if said, err := verify.CombinedOutput(); err != nil {
		t.Errorf("the sides differ: %v\n%s", err, said)
	}
}

// safeBuffer is written by a command and read meanwhile.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
