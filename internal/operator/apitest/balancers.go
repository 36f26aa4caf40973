package apitest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/elb"
)

// Balancers play AWS's controller: they answer for routes, Gateways, Ingresses and Services.
type Balancers struct {
	client client.WithWatch
	group  sync.WaitGroup
	mu     sync.Mutex
	// refuse is what is said of a route, by its name; nothing accepts it.
	refuse map[string]string
	// quiet answers nothing.
	quiet bool
}

// PlayBalancers lets load balancers be played until ctx ends, which must be before the test
// does.
func PlayBalancers(ctx context.Context, t testing.TB, conf *rest.Config) *Balancers {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(conf, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancers{client: c, refuse: map[string]string{}}
	for _, l := range []client.ObjectList{&gatewayv1.GatewayList{}, &gatewayv1.HTTPRouteList{}, &gatewayv1.GRPCRouteList{}, &gatewayv1.TCPRouteList{}, &gatewayv1.UDPRouteList{}, &networkingv1.IngressList{}, &corev1.ServiceList{}} {
		b.group.Go(func() { b.follow(ctx, l) })
	}
	t.Cleanup(b.group.Wait)
	return b
}

// follow answers for all objects of a kind until ctx ends.
func (b *Balancers) follow(ctx context.Context, l client.ObjectList) {
	for ctx.Err() == nil {
		w, err := b.client.Watch(ctx, l)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		for e := range w.ResultChan() {
			if e.Type != watch.Added && e.Type != watch.Modified {
				continue
			}
			if o, ok := e.Object.(client.Object); ok {
				b.answer(ctx, o)
			}
		}
	}
}

func (b *Balancers) answer(ctx context.Context, o client.Object) {
	b.mu.Lock()
	refusal, quiet := b.refuse[o.GetName()], b.quiet
	b.mu.Unlock()
	if quiet || o.GetDeletionTimestamp() != nil {
		return
	}
	was := o.DeepCopyObject().(client.Object)
	conditions := func(all *[]metav1.Condition, kinds ...string) {
		for _, k := range kinds {
			c := metav1.Condition{Type: k, Status: metav1.ConditionTrue, Reason: k, ObservedGeneration: o.GetGeneration()}
			if refusal != "" {
				c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Wrong", refusal
			}
			meta.SetStatusCondition(all, c)
		}
	}
	parents := func(all *[]gatewayv1.RouteParentStatus, refs []gatewayv1.ParentReference, controller gatewayv1.GatewayController) {
		if len(refs) == 0 || refs[0].Kind != nil && *refs[0].Kind != "Gateway" {
			return
		}
		if len(*all) == 0 {
			*all = []gatewayv1.RouteParentStatus{{ParentRef: refs[0], ControllerName: controller}}
		}
		conditions(&(*all)[0].Conditions, "Accepted", "ResolvedRefs")
	}
	switch x := o.(type) {
	case *gatewayv1.Gateway:
		conditions(&x.Status.Conditions, "Accepted", "Programmed")
		kind := gatewayv1.HostnameAddressType
		x.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: x.Name + ".elb.example"}}
	case *gatewayv1.HTTPRoute:
		parents(&x.Status.Parents, x.Spec.ParentRefs, elb.ALBController)
	case *gatewayv1.GRPCRoute:
		parents(&x.Status.Parents, x.Spec.ParentRefs, elb.ALBController)
	case *gatewayv1.TCPRoute:
		parents(&x.Status.Parents, x.Spec.ParentRefs, elb.NLBController)
	case *gatewayv1.UDPRoute:
		parents(&x.Status.Parents, x.Spec.ParentRefs, elb.NLBController)
	case *networkingv1.Ingress:
		x.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{Hostname: "group.elb.example"}}
	case *corev1.Service:
		if x.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return
		}
		x.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: x.Name + ".elb.example"}}
	}
	patch := client.MergeFrom(was)
	if data, err := patch.Data(o); err != nil || string(data) == "{}" {
		return
	}
	if err := b.client.Status().Patch(ctx, o, patch, client.FieldOwner("aws")); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		fmt.Println("play the load balancers:", err)
	}
}

// Say changes what is answered for a route of that name.
func (b *Balancers) Say(ctx context.Context, t testing.TB, o client.Object, refusal string) {
	t.Helper()
	b.mu.Lock()
	b.refuse[o.GetName()] = refusal
	b.mu.Unlock()
	if err := b.client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	b.answer(ctx, o)
}
