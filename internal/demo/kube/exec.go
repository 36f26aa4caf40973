package kube

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// Container is one of the running pod that a selector of labels finds.
type Container struct {
	Kubeconfig, Namespace string
	// Labels select the pod, as kubectl's --selector does.
	Labels string
	Name   string
}

// open makes a client without a bound on how long a request may last, and finds the pod.
func (c Container) open(ctx context.Context) (*rest.Config, *kubernetes.Clientset, string, error) {
	conf, err := clientConfig(c.Kubeconfig)
	if err != nil {
		return nil, nil, "", err
	}
	conf.Timeout = 0 // ctx bounds it
	client, err := kubernetes.NewForConfig(conf)
	if err != nil {
		return nil, nil, "", fmt.Errorf("make a client of the cluster: %w", err)
	}
	list, err := client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: c.Labels})
	if err != nil {
		return nil, nil, "", fmt.Errorf("find the pod %s in namespace %s: %w", c.Labels, c.Namespace, err)
	}
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			return conf, client, p.Name, nil
		}
	}
	return nil, nil, "", fmt.Errorf("no pod %s runs in namespace %s", c.Labels, c.Namespace)
}

// Exec runs a program in the container, as kubectl exec does, and returns when it has
// ended. An exit code other than 0 is an error of k8s.io/client-go/util/exec.
func (c Container) Exec(ctx context.Context, stdout, stderr io.Writer, program ...string) error {
	conf, client, pod, err := c.open(ctx)
	if err != nil {
		return err
	}
	request := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.Namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: c.Name, Command: program, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	run, err := remotecommand.NewWebSocketExecutor(conf, "GET", request.URL().String())
	if err != nil {
		return fmt.Errorf("reach container %s of pod %s: %w", c.Name, pod, err)
	}
	if err := run.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout, Stderr: stderr}); err != nil {
		return fmt.Errorf("run %s in container %s of pod %s: %w", program[0], c.Name, pod, err)
	}
	return nil
}

// Log is all that the container says, until it ends or ctx does. The caller closes it.
func (c Container) Log(ctx context.Context) (io.ReadCloser, error) {
	_, client, pod, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	log, err := client.CoreV1().Pods(c.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: c.Name, Follow: true}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log of container %s of pod %s: %w", c.Name, pod, err)
	}
	return log, nil
}
