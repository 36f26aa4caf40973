package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const (
	// toldPods, toldEvents and toldLines bound what an error tells of pods that are
	// not ready: the first few say why all are not.
	toldPods, toldEvents = 5, 4
	toldLines            = 8
	// tellTimeout bounds the search for the reasons.
	tellTimeout = 15 * time.Second
	// steadyFor is how long everything must be ready without a break: a container that
	// falls over at once, and has no probe, counts as ready until the kubelet has seen
	// it, which looks once a second.
	steadyFor = 2 * time.Second
	// restartedAt is the annotation by which kubectl restarts a rollout.
	restartedAt = "kubectl.kubernetes.io/restartedAt"
)

// AwaitReady waits until every Deployment, StatefulSet and DaemonSet of the namespace
// is rolled out and every pod that is to stay is ready, and all of it stays so for a
// moment; it says how many pods that are. Old pods may still be ending. When ctx ends before, the error says which are not, and why: what the cluster
// tells of them and the last lines of their logs.
func AwaitReady(ctx context.Context, kubeconfig, namespace string) (int, error) {
	client, err := newClient(kubeconfig)
	if err != nil {
		return 0, err
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
		return 0, fmt.Errorf("wait for the pods of namespace %s: %w", namespace, err)
	}
	var pods int
	var since time.Time // when all was ready; zero while it is not
	before := errors.New("all pods have only just become ready")
	err = poll(ctx, askEvery, func() error {
		n, err := rolledOut(ctx, client, namespace)
		switch {
		case err != nil:
			since, before = time.Time{}, err
		case since.IsZero() || n != pods:
			since, pods = time.Now(), n
		}
		if since.IsZero() || time.Since(since) < steadyFor {
			return before // what was missing until now
		}
		return nil
	})
	if err != nil {
		tell, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
		defer cancel()
		return 0, fmt.Errorf("wait for the pods of namespace %s: %w%s", namespace, err, reasons(tell, client, namespace))
	}
	return pods, nil
}

// Restart replaces a Deployment's pods as its strategy says, like `kubectl rollout
// restart`; AwaitReady waits for the new ones.
func Restart(ctx context.Context, kubeconfig, namespace, deployment string) error {
	client, err := newClient(kubeconfig)
	if err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, restartedAt, time.Now().Format(time.RFC3339Nano))
	_, err = client.AppsV1().Deployments(namespace).Patch(ctx, deployment, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("restart deployment %s/%s: %w", namespace, deployment, err)
	}
	return nil
}

func newClient(kubeconfig string) (*kubernetes.Clientset, error) {
	conf, err := clientConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	return client, nil
}

// rolledOut is the number of pods when everything in the namespace is as it should be.
func rolledOut(ctx context.Context, client kubernetes.Interface, namespace string) (int, error) {
	deployments, err := client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list deployments: %w", err)
	}
	for i := range deployments.Items {
		if err := deployed(&deployments.Items[i]); err != nil {
			return 0, err
		}
	}
	sets, err := client.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list stateful sets: %w", err)
	}
	for _, s := range sets.Items {
		want := replicas(s.Spec.Replicas)
		if st := s.Status; st.ObservedGeneration < s.Generation || st.UpdatedReplicas < want || st.ReadyReplicas < want {
			return 0, fmt.Errorf("stateful set %s has %d of %d pods ready", s.Name, st.ReadyReplicas, want)
		}
	}
	daemons, err := client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list daemon sets: %w", err)
	}
	for _, d := range daemons.Items {
		want := d.Status.DesiredNumberScheduled
		if st := d.Status; st.ObservedGeneration < d.Generation || st.UpdatedNumberScheduled < want || st.NumberAvailable < want {
			return 0, fmt.Errorf("daemon set %s has %d of %d pods ready", d.Name, st.NumberReady, want)
		}
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list pods: %w", err)
	}
	ready := 0
	for i := range pods.Items {
		p := &pods.Items[i]
		switch {
		case p.DeletionTimestamp != nil, p.Status.Phase == corev1.PodSucceeded: // it ends, or is a job's
		case !podReady(p):
			return 0, fmt.Errorf("pod %s is not ready", p.Name)
		default:
			ready++
		}
	}
	return ready, nil
}

// deployed says what a Deployment still waits for.
func deployed(d *appsv1.Deployment) error {
	want, st := replicas(d.Spec.Replicas), d.Status
	switch {
	case st.ObservedGeneration < d.Generation:
		return fmt.Errorf("deployment %s was not looked at yet", d.Name)
	case st.UpdatedReplicas < want || st.AvailableReplicas < want:
		return fmt.Errorf("deployment %s has %d of %d pods ready", d.Name, st.AvailableReplicas, want)
	case st.Replicas > st.UpdatedReplicas:
		return fmt.Errorf("deployment %s still has %d old pods", d.Name, st.Replicas-st.UpdatedReplicas)
	}
	return nil
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// podReady says whether a pod serves.
func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// reasons tells why pods of the namespace are not ready, a line for each thing known.
func reasons(ctx context.Context, client kubernetes.Interface, namespace string) string {
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf(" (and the reasons can not be had: %v)", err)
	}
	var told strings.Builder
	count := 0
	for i := range pods.Items {
		p := &pods.Items[i]
		if podReady(p) && !fallen(p) || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		if count++; count > toldPods {
			continue
		}
		fmt.Fprintf(&told, "\n  pod %s: %s", p.Name, strings.ToLower(string(p.Status.Phase)))
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
				fmt.Fprintf(&told, "\n    not scheduled: %s", c.Message)
			}
		}
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			tellContainer(ctx, &told, client, p, s)
		}
		tellEvents(ctx, &told, client, "Pod", p.Name, namespace)
	}
	if count > toldPods {
		fmt.Fprintf(&told, "\n  and %d more", count-toldPods)
	}
	if count == 0 { // pods that could not even be made
		tellEvents(ctx, &told, client, "ReplicaSet", "", namespace)
	}
	return told.String()
}

// fallen says whether a container of the pod has ended before, and may again.
func fallen(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.LastTerminationState.Terminated != nil })
}

func tellContainer(ctx context.Context, told *strings.Builder, client kubernetes.Interface, p *corev1.Pod, s corev1.ContainerStatus) {
	last := s.LastTerminationState.Terminated
	if s.Ready && last == nil {
		return
	}
	switch {
	case s.State.Waiting != nil:
		fmt.Fprintf(told, "\n    container %s waits: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message)
	case s.State.Terminated != nil:
		fmt.Fprintf(told, "\n    container %s ended: %s, exit code %d", s.Name, s.State.Terminated.Reason, s.State.Terminated.ExitCode)
	case s.State.Running != nil && s.Ready:
		fmt.Fprintf(told, "\n    container %s is ready", s.Name)
	case s.State.Running != nil:
		fmt.Fprintf(told, "\n    container %s runs and is not ready", s.Name)
	}
	if last != nil {
		fmt.Fprintf(told, "\n    before, it ended %d times, with exit code %d last", s.RestartCount, last.ExitCode)
	}
	if s.State.Running == nil && s.RestartCount == 0 && s.State.Terminated == nil {
		return // it has not said anything yet
	}
	lines := int64(toldLines)
	previous := last != nil && s.State.Terminated == nil // what it said before it ended
	log, err := client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: s.Name, TailLines: &lines, Previous: previous}).DoRaw(ctx)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(log)) {
		fmt.Fprintf(told, "\n    | %s", strings.TrimRight(line, "\n"))
	}
}

// tellEvents tells the last warnings about an object, or about all of its kind.
func tellEvents(ctx context.Context, told *strings.Builder, client kubernetes.Interface, kind, name, namespace string) {
	selector := "type=Warning,involvedObject.kind=" + kind
	if name != "" {
		selector += ",involvedObject.name=" + name
	}
	events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return
	}
	items := events.Items
	sort.SliceStable(items, func(i, j int) bool { return items[i].LastTimestamp.After(items[j].LastTimestamp.Time) })
	for _, e := range items[:min(len(items), toldEvents)] {
		fmt.Fprintf(told, "\n    %s: %s", e.Reason, strings.TrimSpace(e.Message))
	}
}

// healthy asks the API server whether it is ready.
func healthy(ctx context.Context, kubeconfig string) error {
	client, err := newClient(kubeconfig)
	if err != nil {
		return err
	}
	_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// mayReadAuthentication is nil when a user may read how the API server knows who asks,
// and there is something to read.
func mayReadAuthentication(ctx context.Context, kubeconfig, user string) error {
	client, err := newClient(kubeconfig)
	if err != nil {
		return err
	}
	const where = "extension-apiserver-authentication"
	if _, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, where, metav1.GetOptions{}); err != nil {
		return err
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: metav1.NamespaceSystem, Verb: "get", Resource: "configmaps", Name: where}}}
	if review, err = client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{}); err != nil {
		return err
	}
	if !review.Status.Allowed {
		return fmt.Errorf("%s may not read %s yet", user, where)
	}
	return nil
}

// nodeReady is nil when the node can run pods.
func nodeReady(ctx context.Context, kubeconfig, node string) error {
	client, err := newClient(kubeconfig)
	if err != nil {
		return err
	}
	n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node %s is not ready: %s", node, c.Message)
		}
	}
	return fmt.Errorf("node %s has not told how it is", node)
}

// metricsReady is nil when the API server passes requests for metrics on.
func metricsReady(ctx context.Context, kubeconfig string) error {
	conf, err := clientConfig(kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(conf)
	if err != nil {
		return fmt.Errorf("make a client of the cluster: %w", err)
	}
	services := schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	o, err := client.Resource(services).Get(ctx, "v1beta1.metrics.k8s.io", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return condition(o, "Available")
}

// answers is nil when a GET of the address is answered with 200.
func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}
