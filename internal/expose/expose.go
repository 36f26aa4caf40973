// Package expose shows and makes Exposures from a terminal: those that automatic exposure
// would deduce for the workloads that run in a cluster, and those that Ingresses and Services
// become, side by side with what leads there today. What is deduced and what an Exposure takes
// is the operator's to say, and asked of its own code; here it is compared with what is there,
// applied, and waited for. Load balancers and names are others' to make: the operator's, the
// AWS Load Balancer Controller's, external-dns'.
package expose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator"
	"dhow/internal/operator/render"
)

const (
	// Manager owns the fields of the Exposures that are applied from here.
	Manager = "dhow-expose"
	// pollEvery is how often an Exposure is looked at that is waited for.
	pollEvery = 250 * time.Millisecond
	// DefaultWait bounds the wait for an Exposure: a load balancer takes AWS a minute or two.
	DefaultWait = 2 * time.Minute
)

// Cluster is what is read and written of a cluster; a client of controller-runtime is one.
type Cluster interface {
	client.Reader
	// Apply writes on the server's side, as the field manager that the options name.
	Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error
	// Patch changes an object.
	Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error
	// Delete removes an object.
	Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error
}

// Operator says what the operator would make; *operator.Look does, by the operator's code.
type Operator interface {
	Policy() render.Policy
	Workloads(ctx context.Context, namespace string) ([]client.Object, error)
	Deduce(o client.Object, notes map[string]string, services []corev1.Service) (operator.Deduced, error)
	Render(ctx context.Context, e *v1alpha1.Exposure) (render.Output, error)
	Shared(ctx context.Context, asked []render.Demand) (missing []*unstructured.Unstructured, there []string, err error)
	MayMake(ctx context.Context, e *v1alpha1.Exposure, o *unstructured.Unstructured) (string, error)
}

// WrongError says that something was asked for that can not be done as it was, and what to
// do instead.
type WrongError struct{ Text string }

func (e *WrongError) Error() string { return e.Text }

func wrong(format string, args ...any) error { return &WrongError{fmt.Sprintf(format, args...)} }

// Want is which workloads are looked at, and what is said of their exposure besides.
type Want struct {
	Namespace string
	// Names are those of workloads, as cart or statefulset/cart; none are all of the namespace.
	Names []string
	// Visibility and Hosts go before what the workloads' annotations say; "" and none do not.
	Visibility v1alpha1.Visibility
	Hosts      []string
	// Objects asks for the objects as well that the operator would make.
	Objects bool
}

// Proposal is the Exposure that one workload would get.
type Proposal struct {
	// Workload as Kind/name.
	Workload string `json:"workload"`
	// Exposure is nil where it gets none, for the reason Why.
	Exposure map[string]any `json:"exposure,omitempty"`
	Why      string         `json:"why,omitempty"`
	Change   Change         `json:"change,omitempty"`
	Diff     string         `json:"diff,omitempty"`
	// Address is where it will be called, "" as long as only AWS knows.
	Address string `json:"address,omitempty"`
	// Against are what stands in its way.
	Against []string `json:"against,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Objects []Made   `json:"objects,omitempty"`
}

// Made is an object that the operator would make.
type Made struct {
	Kind      string         `json:"kind"`
	Namespace string         `json:"namespace,omitempty"`
	Name      string         `json:"name"`
	Change    Change         `json:"change"`
	Diff      string         `json:"diff,omitempty"`
	Against   []string       `json:"against,omitempty"`
	Manifest  map[string]any `json:"manifest"`
}

// Propose says which Exposures workloads would get, and what of that is other than what is
// there. It changes nothing.
func Propose(ctx context.Context, c Cluster, o Operator, w Want) ([]Proposal, error) {
	space := &corev1.Namespace{}
	if err := c.Get(ctx, client.ObjectKey{Name: w.Namespace}, space); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, wrong("there is no namespace %s in the cluster: name another with --namespace", w.Namespace)
		}
		if !apierrors.IsForbidden(err) {
			return nil, fmt.Errorf("read namespace %s: %w", w.Namespace, err)
		}
	}
	all, err := o.Workloads(ctx, w.Namespace)
	if err != nil {
		return nil, err
	}
	if all, err = chosen(all, w); err != nil {
		return nil, err
	}
	services := &corev1.ServiceList{}
	if err := c.List(ctx, services, client.InNamespace(w.Namespace)); err != nil {
		return nil, fmt.Errorf("list the Services of namespace %s: %w", w.Namespace, err)
	}
	there, err := exposures(ctx, c, w.Namespace)
	if err != nil {
		return nil, err
	}
	proposals := make([]Proposal, 0, len(all))
	var asked []render.Demand
	for _, x := range all {
		p, more, err := propose(ctx, c, o, w, x, services.Items, there)
		if err != nil {
			return nil, err
		}
		asked = append(asked, more...)
		proposals = append(proposals, *p)
	}
	if w.Objects && len(asked) > 0 {
		return proposals, addShared(ctx, c, o, proposals, asked)
	}
	return proposals, nil
}

// chosen are the workloads that were named.
func chosen(all []client.Object, w Want) ([]client.Object, error) {
	if len(w.Names) == 0 {
		return all, nil
	}
	var some []client.Object
	for _, typed := range w.Names {
		kind, name, ok := strings.Cut(typed, "/")
		if !ok {
			kind, name = "", typed
		}
		long, known := map[string]string{"": "", "deploy": "deployment", "deployment": "deployment", "deployments": "deployment", "sts": "statefulset", "statefulset": "statefulset", "statefulsets": "statefulset"}[strings.ToLower(kind)]
		if !known {
			return nil, wrong("%s: %q is no kind of workload that automatic exposure knows: want deployment or statefulset", typed, kind)
		}
		var found []client.Object
		for _, o := range all {
			if o.GetName() == name && (long == "" || long == kindOf(o)) {
				found = append(found, o)
			}
		}
		switch {
		case len(found) == 0:
			return nil, wrong("there is no Deployment and no StatefulSet %s in namespace %s%s", name, w.Namespace, others(all))
		case len(found) > 1:
			return nil, wrong("%s is a Deployment and a StatefulSet in namespace %s: say deployment/%s or statefulset/%s", name, w.Namespace, name, name)
		case !slices.Contains(some, found[0]):
			some = append(some, found[0])
		}
	}
	return some, nil
}

// mostNamed is how many names an error lists.
const mostNamed = 10

// others tells which workloads there are.
func others(all []client.Object) string {
	if len(all) == 0 {
		return ": it has no workloads at all"
	}
	var names []string
	for _, o := range all[:min(len(all), mostNamed)] {
		names = append(names, kindOf(o)+"/"+o.GetName())
	}
	text := ": it has " + strings.Join(names, ", ")
	if more := len(all) - mostNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// kindOf is a workload's kind as it is typed.
func kindOf(o client.Object) string {
	text := fmt.Sprintf("%T", o)
	return strings.ToLower(text[strings.LastIndex(text, ".")+1:])
}

// exposures are a namespace's; none where the cluster does not know the kind yet.
func exposures(ctx context.Context, c Cluster, namespace string) ([]v1alpha1.Exposure, error) {
	all := &v1alpha1.ExposureList{}
	if err := c.List(ctx, all, client.InNamespace(namespace)); err != nil && !meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("list the Exposures of namespace %s: %w", namespace, err)
	}
	slices.SortFunc(all.Items, func(a, b v1alpha1.Exposure) int { return cmp.Compare(a.Name, b.Name) })
	return all.Items, nil
}

// mine says that an Exposure was applied from here.
func mine(e *v1alpha1.Exposure) bool {
	return slices.ContainsFunc(e.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == Manager && m.Operation == metav1.ManagedFieldsOperationApply
	})
}

// propose looks at one workload.
func propose(ctx context.Context, c Cluster, o Operator, w Want, x client.Object, services []corev1.Service, there []v1alpha1.Exposure) (*Proposal, []render.Demand, error) {
	notes := maps.Clone(x.GetAnnotations())
	if notes == nil {
		notes = map[string]string{}
	}
	if w.Visibility != "" {
		notes[render.VisibilityNote] = string(w.Visibility)
	}
	if len(w.Hosts) > 0 {
		notes[render.HostsNote] = strings.Join(w.Hosts, ",")
	}
	d, err := o.Deduce(x, notes, services)
	if err != nil {
		return nil, nil, err
	}
	p := &Proposal{Workload: cmp.Or(d.Kind, kindOf(x)) + "/" + x.GetName(), Why: d.Why}
	if d.Spec == nil {
		return p, nil, nil
	}
	e := &v1alpha1.Exposure{Spec: *d.Spec}
	e.Namespace, e.Name = x.GetNamespace(), x.GetName()
	for i := range there {
		of := there[i].Spec.Workload
		switch {
		case of.Name == d.Name && of.Kind == d.Kind && there[i].Labels[render.DeducedLabel] == "" && !mine(&there[i]):
			p.Why = fmt.Sprintf("somebody has made the Exposure %s of it, which is left as it is", there[i].Name)
			return p, nil, nil
		case of.Name == d.Name && of.Kind == d.Kind && there[i].Annotations[FromNote] != "":
			p.Why = fmt.Sprintf("it has the Exposure %s, which %s becomes", there[i].Name, there[i].Annotations[FromNote])
			return p, nil, nil
		case there[i].Name == e.Name && (of.Name != d.Name || of.Kind != d.Kind):
			p.Why = fmt.Sprintf("the Exposure of its name is of %s %s", of.Kind, of.Name)
			return p, nil, nil
		case there[i].Name == e.Name:
			e.UID, e.CreationTimestamp = there[i].UID, there[i].CreationTimestamp
		}
	}
	want, err := plain(e)
	if err != nil {
		return nil, nil, err
	}
	p.Exposure = want.Object
	found, err := compare(ctx, c, want, Manager)
	if err != nil {
		return nil, nil, err
	}
	p.Change, p.Diff, p.Against = found.change, found.diff, found.against
	demands, err := p.render(ctx, c, o, e, w.Objects)
	return p, demands, err
}

// render adds what the operator would make of the Exposure.
func (p *Proposal) render(ctx context.Context, c Cluster, o Operator, e *v1alpha1.Exposure, objects bool) ([]render.Demand, error) {
	out, err := o.Render(ctx, e)
	var refused *render.WrongError
	if errors.As(err, &refused) {
		p.Against = append(p.Against, "the operator would not accept it: "+refused.Text)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p.Address, p.Notes = out.Address, out.Notes
	if !objects {
		return nil, nil
	}
	for _, want := range out.Objects {
		m, err := made(ctx, c, o, e, want)
		if err != nil {
			return nil, err
		}
		p.Objects = append(p.Objects, m)
	}
	return out.Demands, nil
}

func made(ctx context.Context, c Cluster, o Operator, e *v1alpha1.Exposure, want *unstructured.Unstructured) (Made, error) {
	m := Made{Kind: want.GetKind(), Namespace: want.GetNamespace(), Name: want.GetName(), Manifest: want.Object}
	found, err := compare(ctx, c, want, render.Manager)
	if err != nil {
		return m, err
	}
	m.Change, m.Diff, m.Against = found.change, found.diff, found.against
	against, err := o.MayMake(ctx, e, want)
	if err != nil {
		return m, err
	}
	if against != "" {
		m.Against = append(m.Against, against)
	}
	return m, nil
}

// addShared adds the shared Gateways that nobody has asked for before to the first that does.
func addShared(ctx context.Context, c Cluster, o Operator, all []Proposal, asked []render.Demand) error {
	missing, there, err := o.Shared(ctx, asked)
	if err != nil {
		return err
	}
	first := slices.IndexFunc(all, func(p Proposal) bool { return len(p.Objects) > 0 })
	if first < 0 {
		return nil
	}
	seen := map[string]bool{}
	for _, want := range missing {
		if key := want.GetKind() + "/" + want.GetName(); !seen[key] {
			seen[key] = true
			m, err := made(ctx, c, o, nil, want)
			if err != nil {
				return err
			}
			all[first].Objects = append(all[first].Objects, m)
		}
	}
	for _, name := range there {
		all[first].Notes = append(all[first].Notes, fmt.Sprintf("the load balancer of the Gateway %s is there already, and shared", name))
	}
	return nil
}

// plain is an Exposure as it is applied.
func plain(e *v1alpha1.Exposure) (*unstructured.Unstructured, error) {
	e = e.DeepCopy()
	e.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Exposure"}
	e.ObjectMeta = metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name, Labels: e.Labels, Annotations: e.Annotations}
	return render.Plain(e)
}

// Apply applies an Exposure as it was proposed. What the operator deduced in it gives way;
// what anybody else has set is a conflict. It may be repeated.
func Apply(ctx context.Context, c Cluster, exposure map[string]any) error {
	u := (&unstructured.Unstructured{Object: exposure}).DeepCopy()
	name := u.GetNamespace() + "/" + u.GetName()
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner(Manager))
	if rivals, _ := operator.Conflict(err); len(rivals) == 1 && rivals[0] == operator.Deducer {
		err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Manager), client.ForceOwnership)
	}
	return failed("Exposure "+name, err)
}

// failed says in words what the API server says of an object that is applied.
func failed(what string, err error) error {
	rivals, fields := operator.Conflict(err)
	switch {
	case err == nil:
		return nil
	case meta.IsNoMatchError(err):
		return fmt.Errorf("apply %s: the cluster does not know its kind: install the operator, whose definitions are in deploy/crd: %w", what, err)
	case len(rivals) > 0:
		return fmt.Errorf("apply %s: %s: leave those fields to dhow, or change them there: %w", what, fields, err)
	}
	return fmt.Errorf("apply %s: %w", what, err)
}

// NotReadyError says that an Exposure was not ready in time.
type NotReadyError struct {
	Name string
	// Why is the operator's own sentence, "" if it said nothing.
	Why    string
	Waited time.Duration
}

func (e *NotReadyError) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("wait for Exposure %s: nobody has answered for it within %s: see that the operator runs, as `dhow operator` or by deploy/operator", e.Name, e.Waited)
	}
	return fmt.Sprintf("wait for Exposure %s: it is not ready after %s: %s: mend that, and call again to go on waiting", e.Name, e.Waited, e.Why)
}

// Await waits until an Exposure is ready as it stands now, at most so long; tell, if it is
// not nil, hears of each change of its conditions. What it returns is as it was last seen.
func Await(ctx context.Context, c client.Reader, namespace, name string, within time.Duration, tell func(*v1alpha1.Exposure)) (*v1alpha1.Exposure, error) {
	e := &v1alpha1.Exposure{}
	said := ""
	err := until(ctx, within, func(ctx context.Context) (bool, error) {
		now := &v1alpha1.Exposure{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, now); err != nil {
			return false, fmt.Errorf("read Exposure %s/%s: %w", namespace, name, err)
		}
		e = now
		text := ""
		for _, x := range e.Status.Conditions {
			text += fmt.Sprintln(x.Type, x.Status, x.Reason, x.Message)
		}
		if tell != nil && text != said {
			tell(e)
		}
		said = text
		return ready(e), nil
	})
	if errors.Is(err, errTime) {
		late := &NotReadyError{Name: namespace + "/" + name, Waited: within.Round(time.Second)}
		if x := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready); x != nil && x.ObservedGeneration >= e.Generation {
			late.Why = x.Message
		}
		return e, late
	}
	return e, err
}

// ready says that the operator has seen an Exposure as it stands, and that it serves.
func ready(e *v1alpha1.Exposure) bool {
	x := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready)
	return x != nil && x.Status == metav1.ConditionTrue && x.ObservedGeneration >= e.Generation
}

// errTime says that the time is over.
var errTime = errors.New("the time is over")

// until looks again and again, at once and then every so often, until the answer is yes.
func until(ctx context.Context, within time.Duration, look func(context.Context) (bool, error)) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		done, err := look(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return errTime
		case <-tick.C:
		}
	}
}

// TurnOn labels a namespace so that its workloads get Exposures by themselves. It says
// whether the label was there already.
func TurnOn(ctx context.Context, c Cluster, namespace string) (already bool, err error) {
	space := &corev1.Namespace{}
	if err := c.Get(ctx, client.ObjectKey{Name: namespace}, space); err != nil {
		if apierrors.IsNotFound(err) {
			return false, wrong("there is no namespace %s in the cluster: name another with --namespace", namespace)
		}
		return false, fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	if space.Labels[render.ExposeLabel] == render.ExposeAuto {
		return true, nil
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": namespace, "uid": string(space.UID), "labels": map[string]any{render.ExposeLabel: render.ExposeAuto}}}}
	return false, failed("the label "+render.ExposeLabel+" of namespace "+namespace, c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Manager)))
}
