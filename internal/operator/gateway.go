package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

const (
	// gatherTime is how long demands are gathered before a Gateway is looked at, so that a
	// thousand new Exposures write it a few times and not a thousand.
	gatherTime = 200 * time.Millisecond
	// keepEmpty is for how long a Gateway stays that nobody asks for any more: with it goes a
	// load balancer, and the name by which others know it.
	keepEmpty = 10 * time.Minute
)

// demands are what all Exposures ask of the shared Gateways.
type demands struct {
	mu sync.Mutex
	of map[types.NamespacedName][]render.Demand
	// empty is since when nobody has been seen to ask for a Gateway.
	empty   map[render.Scope]time.Time
	changed func(render.Scope)
}

func newDemands(changed func(render.Scope)) *demands {
	return &demands{of: map[types.NamespacedName][]render.Demand{}, empty: map[render.Scope]time.Time{}, changed: changed}
}

// keep remembers what an Exposure asks for now.
func (d *demands) keep(e *v1alpha1.Exposure, now []render.Demand) {
	d.mu.Lock()
	was, known := d.of[demandKey(e)]
	d.of[demandKey(e)] = now
	d.mu.Unlock()
	if !known || !reflect.DeepEqual(was, now) {
		d.tell(append(slices.Clone(was), now...))
	}
}

// drop forgets an Exposure that is gone.
func (d *demands) drop(e types.NamespacedName) {
	d.mu.Lock()
	was := d.of[e]
	delete(d.of, e)
	d.mu.Unlock()
	d.tell(was)
}

func (d *demands) tell(all []render.Demand) {
	scopes := map[render.Scope]bool{}
	for _, x := range all {
		scopes[x.Scope] = true
	}
	for s := range scopes {
		d.changed(s)
	}
}

// asked are those of a scope, and whether every Exposure that could ask has been looked at.
func (d *demands) asked(s render.Scope, all []v1alpha1.Exposure) ([]render.Demand, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range all {
		if _, known := d.of[demandKey(&all[i])]; !known && all[i].DeletionTimestamp == nil {
			return nil, false
		}
	}
	var some []render.Demand
	for _, k := range slices.SortedFunc(maps.Keys(d.of), func(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) }) {
		for _, x := range d.of[k] {
			if x.Scope == s {
				some = append(some, x)
			}
		}
	}
	if len(some) > 0 {
		delete(d.empty, s)
	} else if _, known := d.empty[s]; !known {
		d.empty[s] = time.Now()
	}
	return some, true
}

// emptyFor is for how long nobody has been seen to ask for a Gateway.
func (d *demands) emptyFor(s render.Scope) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, known := d.empty[s]
	if !known {
		return 0
	}
	return time.Since(since)
}

// gatewayReconciler makes the shared Gateways of what Exposures ask for.
type gatewayReconciler struct {
	client  client.Client
	apply   *applier
	events  events.EventRecorder
	cluster cluster
	policy  render.Policy
	kinds   []kind
	demands *demands
	count   *counters
	// keepEmpty is for how long a Gateway stays that nobody asks for.
	keepEmpty time.Duration

	mu sync.Mutex
	// last is what was written, by kind and name.
	last map[string]v1alpha1.Object
}

// Reconcile makes one Gateway, which the request names, what it should be.
func (r *gatewayReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	i := slices.IndexFunc(render.Scopes, func(s render.Scope) bool { return s.Name() == at.Name })
	if i < 0 || !r.cluster.Gateway || r.cluster.ControlVersion == "" {
		return reconcile.Result{}, nil
	}
	scope := render.Scopes[i]
	all := &v1alpha1.ExposureList{}
	if err := r.client.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Exposures: %w", err)
	}
	asked, whole := r.demands.asked(scope, all.Items)
	if !whole {
		// What is not looked at yet may need what would be taken away now.
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	if len(asked) == 0 {
		return r.unused(ctx, scope)
	}
	objects, err := render.Gateway(scope, asked, r.cluster.Cluster, r.policy)
	if err != nil {
		return reconcile.Result{}, err
	}
	var again time.Duration
	for _, want := range objects {
		name := want.GetKind() + "/" + want.GetName()
		cached, err := r.cached(ctx, want)
		if err != nil {
			return reconcile.Result{}, err
		}
		r.mu.Lock()
		before := r.last[name]
		r.mu.Unlock()
		now, wrote, err := r.apply.ensure(ctx, owner{}, want, cached, before)
		if wrote {
			r.count.writes.Inc()
		}
		var wrong *objectError
		if errors.As(err, &wrong) {
			if g, ok := cached.(*gatewayv1.Gateway); ok {
				r.events.Eventf(g, nil, corev1.EventTypeWarning, wrong.reason, "Reconcile", "%s", wrong.text)
			}
			r.count.refusals.Inc()
			log.FromContext(ctx).Info("a shared Gateway can not be made as it should be", "why", wrong.text)
			return reconcile.Result{RequeueAfter: againAfter}, nil
		}
		if err != nil {
			return reconcile.Result{}, err
		}
		r.mu.Lock()
		r.last[name] = now
		r.mu.Unlock()
		again = max(again, r.apply.lookAfter(keyOf(want)))
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// cached is an object as the cache has it, nil if it has not.
func (r *gatewayReconciler) cached(ctx context.Context, o client.Object) (client.Object, error) {
	for _, k := range r.kinds {
		if k.Kind != o.GetObjectKind().GroupVersionKind().Kind {
			continue
		}
		x := k.empty()
		err := r.client.Get(ctx, client.ObjectKeyFromObject(o), x)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", describe(o), err)
		}
		x.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
		return x, nil
	}
	return nil, nil
}

// unused removes a Gateway, with what belongs to it, that nobody has asked for in a while.
func (r *gatewayReconciler) unused(ctx context.Context, s render.Scope) (reconcile.Result, error) {
	gateway := &gatewayv1.Gateway{}
	gateway.SetGroupVersionKind(schema.GroupVersion(gatewayv1.GroupVersion).WithKind("Gateway"))
	gateway.Namespace, gateway.Name = r.policy.Namespace, s.Name()
	cached, err := r.cached(ctx, gateway)
	if err != nil || cached == nil || cached.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, err
	}
	if left := r.keepEmpty - r.demands.emptyFor(s); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if fieldsOf(cached) == "" || metav1.GetControllerOf(cached) != nil {
		return reconcile.Result{}, nil // it is another's
	}
	objects, err := render.Gateway(s, []render.Demand{{Scope: s, Namespace: r.policy.Namespace}}, r.cluster.Cluster, r.policy)
	if err != nil {
		return reconcile.Result{}, err
	}
	for _, o := range objects {
		if o.GetKind() == "GatewayClass" { // the other scope has it too, and it costs nothing
			continue
		}
		x, err := r.cached(ctx, o)
		if err != nil {
			return reconcile.Result{}, err
		}
		if x == nil || fieldsOf(x) == "" {
			continue
		}
		if err := r.apply.remove(ctx, x); err != nil {
			return reconcile.Result{}, err
		}
		r.count.writes.Inc()
	}
	return reconcile.Result{}, nil
}
