package operator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

// nodePage is how many nodes are asked for at once.
const nodePage = 500

// cluster is what the cluster knows.
type cluster struct {
	render.Cluster
	rollouts bool
	// scheduled says that it knows ScheduledScales.
	scheduled bool
}

// discover asks the API server which kinds it knows, and in how many zones it has nodes.
func discover(ctx context.Context, conf *rest.Config) (cluster, error) {
	c := cluster{}
	d, err := discovery.NewDiscoveryClientForConfig(conf)
	if err != nil {
		return c, fmt.Errorf("reach the API server: %w", err)
	}
	known := func(version string) (map[string]bool, error) {
		list, err := d.ServerResourcesForGroupVersionWithContext(ctx, version)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ask the API server for the kinds of %s: %w", version, err)
		}
		all := map[string]bool{}
		for _, r := range list.APIResources {
			all[r.Kind] = true
		}
		return all, nil
	}
	gateway, err := known(gatewayv1.GroupName + "/v1")
	if err != nil {
		return c, err
	}
	c.Gateway, c.GRPC = gateway["Gateway"] && gateway["HTTPRoute"], gateway["GRPCRoute"]
	c.TCP, c.UDP = gateway["TCPRoute"], gateway["UDPRoute"]
	for _, version := range []string{"v1", elb.ControlVersion} {
		control, err := known(elb.ControlGroup + "/" + version)
		if err != nil {
			return c, err
		}
		if control[elb.TargetGroupKind] && control[elb.LoadBalancerKind] && control[elb.ListenerRuleKind] {
			c.ControlVersion = version
			break
		}
	}
	argo, err := known(rolloutKind.GroupVersion().String())
	if err != nil {
		return c, err
	}
	c.rollouts = argo[rolloutKind.Kind]
	ours, err := known(v1alpha1.GroupVersion.String())
	if err != nil {
		return c, err
	}
	c.scheduled = ours["ScheduledScale"]
	c.Zones, err = zones(ctx, conf)
	return c, err
}

// zones counts those in which there are nodes.
func zones(ctx context.Context, conf *rest.Config) (int, error) {
	m, err := metadata.NewForConfig(conf)
	if err != nil {
		return 0, fmt.Errorf("reach the API server: %w", err)
	}
	seen := map[string]bool{}
	next := ""
	for {
		list, err := m.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, metav1.ListOptions{Limit: nodePage, Continue: next})
		if apierrors.IsForbidden(err) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("count the zones of the nodes: %w", err)
		}
		for i := range list.Items {
			if z := list.Items[i].Labels[corev1.LabelTopologyZone]; z != "" {
				seen[z] = true
			}
		}
		if next = list.Continue; next == "" {
			return len(seen), nil
		}
	}
}
