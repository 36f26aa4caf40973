package apitest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
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

const (
	// answerers are the objects of a kind that are answered for at once, backlog those
	// that wait for each.
	answerers, backlog = 4, 64
	// answerTime bounds all attempts at one answer, answerTry one of them.
	answerTime, answerTry = 2 * time.Minute, 10 * time.Second
	// watchAgain is between attempts at an answer, and at a watch that was lost.
	watchAgain = 100 * time.Millisecond
)

// Balancers play AWS's controller: they answer for routes, Gateways, Ingresses and
// Services, and make no load balancer.
type Balancers struct {
	client client.WithWatch
	log    *slog.Logger
	group  sync.WaitGroup
	mu     sync.Mutex
	// refuse is what is said of an object, by its name; nothing accepts it.
	refuse map[string]string
}

// PlayBalancers lets load balancers be played until ctx ends, which must be before the test
// does.
func PlayBalancers(ctx context.Context, t testing.TB, conf *rest.Config) *Balancers {
	t.Helper()
	b, err := StartBalancers(ctx, conf, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wait)
	return b
}

// StartBalancers answers until ctx ends; Wait waits for the end. Whatever becomes of the
// API server meanwhile, what is there when it is back is answered.
func StartBalancers(ctx context.Context, conf *rest.Config, log *slog.Logger) (*Balancers, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		return nil, fmt.Errorf("learn the kinds: %w", err)
	}
	c, err := client.NewWithWatch(conf, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	b := &Balancers{client: c, log: log, refuse: map[string]string{}}
	for _, l := range []client.ObjectList{&gatewayv1.GatewayList{}, &gatewayv1.HTTPRouteList{}, &gatewayv1.GRPCRouteList{}, &gatewayv1.TCPRouteList{}, &gatewayv1.UDPRouteList{}, &networkingv1.IngressList{}, &corev1.ServiceList{}} {
		b.group.Go(func() { b.follow(ctx, l) })
	}
	return b, nil
}

// Wait returns when everything has ended, after ctx has.
func (b *Balancers) Wait() { b.group.Wait() }

// Say changes what is answered for objects of that name, "" being that all is well, and
// answers for this one at once. o is read anew.
func (b *Balancers) Say(ctx context.Context, t testing.TB, o client.Object, refusal string) {
	t.Helper()
	b.mu.Lock()
	b.refuse[o.GetName()] = refusal
	b.mu.Unlock()
	if err := b.client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	if err := b.answer(ctx, o); err != nil {
		t.Fatal(err)
	}
}

// follow answers for all objects of a kind until ctx ends. Those of one name are answered
// one after the other, so that the newest answer stays.
func (b *Balancers) follow(ctx context.Context, l client.ObjectList) {
	var lines [answerers]chan client.Object
	var group sync.WaitGroup
	for i := range lines {
		lines[i] = make(chan client.Object, backlog)
		group.Go(func() {
			for o := range lines[i] {
				b.insist(ctx, o)
			}
		})
	}
	defer group.Wait()
	defer func() {
		for _, line := range lines {
			close(line)
		}
	}()
	for ctx.Err() == nil {
		w, err := b.client.Watch(ctx, l)
		if err != nil {
			pause(ctx, watchAgain)
			continue
		}
		for e := range w.ResultChan() {
			if e.Type != watch.Added && e.Type != watch.Modified {
				continue
			}
			if o, ok := e.Object.(client.Object); ok {
				lines[lineOf(o)] <- o
			}
		}
		w.Stop()
	}
}

// lineOf is the line that an object waits in.
func lineOf(o client.Object) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(o.GetNamespace() + "/" + o.GetName())) // it never fails
	return int(h.Sum32() % answerers)
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// insist answers until the API server has taken it: a watch that goes on brings no object twice.
func (b *Balancers) insist(ctx context.Context, o client.Object) {
	for until := time.Now().Add(answerTime); ; {
		err := b.answer(ctx, o)
		if err == nil || ctx.Err() != nil {
			return
		}
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || time.Now().After(until) {
			b.log.Error("the load balancers have no answer taken", "object", o.GetNamespace()+"/"+o.GetName(), "error", err)
			return
		}
		pause(ctx, watchAgain)
	}
}

// answer writes the status of an object. What is gone needs none.
func (b *Balancers) answer(ctx context.Context, was client.Object) error {
	b.mu.Lock()
	refusal := b.refuse[was.GetName()]
	b.mu.Unlock()
	if was.GetDeletionTimestamp() != nil {
		return nil
	}
	o := was.DeepCopyObject().(client.Object)
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
			return nil
		}
		x.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: x.Name + ".elb.example"}}
	}
	patch := client.MergeFrom(was)
	if data, err := patch.Data(o); err != nil || string(data) == "{}" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTry)
	defer cancel()
	if err := b.client.Status().Patch(ctx, o, patch, client.FieldOwner("aws")); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("answer for %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	}
	return nil
}
