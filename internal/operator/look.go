package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// Look says what the operator would make in a cluster, by the operator's own code. It reads
// past any cache, and writes nothing.
type Look struct {
	work   *reconciler
	apply  *applier
	policy render.Policy
}

// NewLook asks the cluster which kinds it knows.
func NewLook(ctx context.Context, conf *rest.Config, c client.Client, p render.Policy) (*Look, error) {
	known, err := discover(ctx, conf)
	if err != nil {
		return nil, err
	}
	p = p.WithDefaults()
	return &Look{work: &reconciler{client: unindexed{c}, cluster: known, policy: p, guards: true}, apply: &applier{client: c, live: c}, policy: p}, nil
}

// unindexed lists more than is asked for where the operator asks its cache's indexes, which
// the API server does not have: what is found is looked at one by one all the same.
type unindexed struct{ client.Client }

func (u unindexed) List(ctx context.Context, l client.ObjectList, all ...client.ListOption) error {
	return u.Client.List(ctx, l, slices.DeleteFunc(slices.Clone(all), func(o client.ListOption) bool {
		_, index := o.(client.MatchingFields)
		return index
	})...)
}

// Policy is what holds for all Exposures, with its defaults.
func (l *Look) Policy() render.Policy { return l.policy }

// Workloads are those of a namespace that automatic exposure looks at, by kind and name.
func (l *Look) Workloads(ctx context.Context, namespace string) ([]client.Object, error) {
	deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	if err := l.work.client.List(ctx, deployments, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the Deployments of namespace %s: %w", namespace, err)
	}
	if err := l.work.client.List(ctx, sets, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the StatefulSets of namespace %s: %w", namespace, err)
	}
	var all []client.Object
	for i := range deployments.Items {
		all = append(all, &deployments.Items[i])
	}
	for i := range sets.Items {
		all = append(all, &sets.Items[i])
	}
	slices.SortStableFunc(all, func(a, b client.Object) int {
		return cmp.Or(cmp.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b)), cmp.Compare(a.GetName(), b.GetName()))
	})
	return all, nil
}

// Deduced is the Exposure that a workload gets by itself.
type Deduced struct {
	Kind, Name string
	// Spec is nil where it gets none, for the reason Why.
	Spec *v1alpha1.ExposureSpec
	Why  string
}

// Deduce says which Exposure automatic exposure gives to a workload, notes being its
// annotations and services those of its namespace.
func (l *Look) Deduce(o client.Object, notes map[string]string, services []corev1.Service) (Deduced, error) {
	f, err := factsOf(o)
	d := Deduced{Kind: f.Kind, Name: f.Name}
	if errors.Is(err, errNoWorkload) {
		d.Why = err.Error()
		return d, nil
	}
	if err != nil {
		return d, err
	}
	d.Spec, d.Why = deduced(o, f, notes, services, l.policy)
	return d, nil
}

// Render says what an Exposure, which need not be there, would take. Its error is a
// *render.WrongError where the operator would not accept it.
func (l *Look) Render(ctx context.Context, e *v1alpha1.Exposure) (render.Output, error) {
	e = e.DeepCopy()
	if e.CreationTimestamp.IsZero() { // it would be the youngest
		e.CreationTimestamp = metav1.Now()
	}
	s := &state{Exposure: e}
	var err error
	if s.facts, err = l.work.workload(ctx, e); err != nil {
		if errors.Is(err, errNoWorkload) {
			return render.Output{}, &render.WrongError{Reason: "WorkloadNotFound", Text: err.Error()}
		}
		return render.Output{}, err
	}
	in, err := l.work.input(ctx, s)
	if err != nil {
		return render.Output{}, err
	}
	taken, err := l.work.taken(ctx, e)
	switch {
	case apierrors.IsForbidden(err), meta.IsNoMatchError(err): // others are not this reader's to know, or there are none
	case err != nil:
		return render.Output{}, err
	case taken != "":
		return render.Output{}, &render.WrongError{Reason: "Taken", Text: taken}
	}
	return render.Render(in)
}

// Shared are the Gateways that Exposures ask for and that are not there yet, and the names
// of those that are: others' demands, which this does not know, shape them too.
func (l *Look) Shared(ctx context.Context, asked []render.Demand) (missing []*unstructured.Unstructured, there []string, err error) {
	if known := l.work.cluster; !known.Gateway || known.ControlVersion == "" {
		return nil, nil, nil
	}
	for _, s := range render.Scopes {
		var mine []render.Demand
		for _, d := range asked {
			if d.Scope == s {
				mine = append(mine, d)
			}
		}
		if len(mine) == 0 {
			continue
		}
		err := l.work.client.Get(ctx, client.ObjectKey{Namespace: l.policy.Namespace, Name: s.Name()}, &gatewayv1.Gateway{})
		switch {
		case err == nil, apierrors.IsForbidden(err): // what may not be read is not shown
			there = append(there, s.Name())
		case apierrors.IsNotFound(err):
			some, err := render.Gateway(s, mine, l.work.cluster.Cluster, l.policy)
			if err != nil {
				return nil, nil, err
			}
			missing = append(missing, some...)
		default:
			return nil, nil, fmt.Errorf("read the Gateway %s: %w", s.Name(), err)
		}
	}
	return missing, there, nil
}

// MayMake says why the operator would leave an object of an Exposure alone: something else
// has its name, or it is being deleted. The text is "" where nothing is in the way.
func (l *Look) MayMake(ctx context.Context, e *v1alpha1.Exposure, o *unstructured.Unstructured) (string, error) {
	by := owner{}
	if e != nil {
		by = owner{exposure: e, adopt: e.Spec.Adopt}
	}
	err := l.apply.mayWrite(ctx, by, o, nil, false)
	var wrong *objectError
	if errors.As(err, &wrong) {
		return wrong.text, nil
	}
	return "", err
}

// Conflict says with which field managers an error of the API server is a conflict, sorted,
// and about which fields; nobody where it is none.
func Conflict(err error) (managers []string, text string) {
	if !apierrors.IsConflict(err) {
		return nil, ""
	}
	for _, c := range causes(err) {
		managers = append(managers, c[0])
	}
	slices.Sort(managers)
	return slices.Compact(managers), rivals(err)
}
