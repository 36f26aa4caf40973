package kube

import (
	"context"
	"errors"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// existing is a user's own cluster.
type existing struct{ kubeconfig, address, host string }

// Existing takes a cluster that is there, such as one of kind or EKS. Its NodePorts
// are sought at a node's external address, or else its internal one; its pods reach
// this machine by the address from which this machine reaches that node.
func Existing(ctx context.Context, kubeconfig string) (Cluster, error) {
	client, err := newClient(kubeconfig)
	if err != nil {
		return nil, err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes of the cluster in %s: %w", kubeconfig, err)
	}
	e := &existing{kubeconfig: kubeconfig}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		for _, n := range nodes.Items {
			for _, a := range n.Status.Addresses {
				if e.address == "" && a.Type == kind {
					e.address = a.Address
				}
			}
		}
	}
	if e.address == "" {
		return nil, errors.New("no node of the cluster in " + kubeconfig + " has an address: see `kubectl get nodes -o wide`")
	}
	// Nothing is sent: the kernel only says which way it would go.
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(e.address, "9"))
	if err != nil {
		return nil, fmt.Errorf("find the way to the node %s: %w", e.address, err)
	}
	defer c.Close()
	e.host, _, err = net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("find the way to the node %s: %w", e.address, err)
	}
	return e, nil
}

func (e *existing) Kubeconfig() string         { return e.kubeconfig }
func (e *existing) Address() string            { return e.address }
func (e *existing) Host() string               { return e.host }
func (e *existing) Down(context.Context) error { return nil } // it is not ours to end
