package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/operator/orphan"
	"dhow/internal/operator/render"
)

const (
	// orphanKey is the report's in its ConfigMap.
	orphanKey = "report.yaml"
	// orphansEvery is how often they are looked for: well below the gap after which their time
	// begins anew. A fifth of it is left to chance, so that clusters of an account do not ask at once.
	orphansEvery = 10 * time.Minute
	// ownerPage is how many objects are asked for at once.
	ownerPage = 500
	// groupNote ends the annotations by which an Ingress names its group.
	groupNote = "/group.name"
)

// +kubebuilder:rbac:groups=elbv2.k8s.aws,resources=targetgroupbindings;ingressclassparams,verbs=list
// +kubebuilder:rbac:groups="",namespace=dhow-system,resources=configmaps,resourceNames=dhow-orphans,verbs=get;patch

// Balancers are AWS's load balancers and target groups. All may be called again at any time.
type Balancers interface {
	// Look are those with the tag of a cluster, and the target groups that they lead to, whole
	// or not at all.
	Look(ctx context.Context, cluster string) ([]orphan.Resource, error)
	// Facts are what one is asked for.
	Facts(ctx context.Context, r orphan.Resource) (orphan.Facts, error)
	// Delete deletes one; that it is gone already is no error.
	Delete(ctx context.Context, r orphan.Resource) error
}

// orphanKeeper looks for load balancers and target groups that nothing owns, and deletes them
// where it is told to. Whenever something could not be read whole, it does nothing.
type orphanKeeper struct {
	client client.Client
	// live reads past the cache: what was made a moment ago is an owner.
	live      client.Reader
	events    events.EventRecorder
	balancers Balancers
	policy    render.Policy
	every     time.Duration
	now       func() time.Time
	log       *slog.Logger

	found           prometheus.Gauge
	deleted, failed prometheus.Counter
}

func newOrphanKeeper(m manager.Manager, o Options) *orphanKeeper {
	return &orphanKeeper{client: m.GetClient(), live: m.GetAPIReader(), events: m.GetEventRecorder(leaseName), balancers: o.Balancers, policy: o.Policy, every: cmp.Or(o.OrphansEvery, orphansEvery), now: o.Now, log: o.Log,
		found:   gauge("orphans", "Load balancers and target groups that no object of the cluster owns any more."),
		deleted: counter("orphans_deleted_total", "Load balancers and target groups without an owner that were deleted."),
		failed:  counter("orphan_looks_failed_total", "Looks for orphans that failed.")}
}

// Start looks until ctx ends, which it does when another operator leads.
func (k *orphanKeeper) Start(ctx context.Context) error {
	for {
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.failed.Inc()
			k.log.Error("orphans could not be looked for: nothing is deleted", "error", err)
		}
		pause := k.every - time.Duration(rand.Float64()*float64(k.every)/5)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// look looks once. What it is about to delete is written down before, so that it is told also
// by who comes after an operator that was killed.
func (k *orphanKeeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	place := &corev1.ConfigMap{}
	if err := k.live.Get(ctx, client.ObjectKey{Namespace: k.policy.Namespace, Name: render.OrphanReport}, place); err != nil {
		return fmt.Errorf("read the ConfigMap %s, which is installed with the operator: %w", render.OrphanReport, err)
	}
	before, err := orphan.Read(place.Data[orphanKey])
	if err != nil {
		k.log.Warn("the report of orphans is not as it was written: their time begins anew", "error", err)
		before = orphan.Report{}
	}
	seen, err := k.survey(ctx)
	if err != nil {
		return err
	}
	o := k.policy.Orphans
	report, due := before.Next(orphan.Settings{Cluster: o.Cluster, Delete: o.Mode == render.OrphansDelete, After: time.Duration(o.AfterHours) * time.Hour}, k.now(), seen)
	if err := k.write(ctx, place, report); err != nil {
		return err
	}
	k.found.Set(float64(len(report.Orphans)))
	if len(report.Orphans) > len(before.Orphans) {
		k.events.Eventf(place, nil, corev1.EventTypeWarning, "OrphansFound", "LookForOrphans", "%d load balancers and target groups have no owner any more: %s of this ConfigMap names them", len(report.Orphans), orphanKey)
	}
	if report.Refused != "" && before.Refused == "" {
		k.events.Eventf(place, nil, corev1.EventTypeWarning, "OrphansRefused", "LookForOrphans", "nothing is deleted: %s", report.Refused)
	}
	if len(due) == 0 {
		return nil
	}
	return k.remove(ctx, place, report, due)
}

// remove deletes what is due and is an orphan still, when all is looked at again.
func (k *orphanKeeper) remove(ctx context.Context, place *corev1.ConfigMap, report orphan.Report, due []string) error {
	seen, err := k.survey(ctx)
	if err != nil {
		return err
	}
	for _, arn := range due {
		f := seen.Orphan(arn)
		if f == nil {
			report.Settle(arn, k.now(), errors.New("looked at again, it was no orphan any more"))
			continue
		}
		err := k.balancers.Delete(ctx, f.Resource)
		if ctx.Err() != nil {
			return fmt.Errorf("delete orphans: %w", ctx.Err())
		}
		report.Settle(arn, k.now(), err)
		if err != nil {
			k.log.Warn("an orphan could not be deleted", "kind", f.Kind, "arn", arn, "error", err)
			continue
		}
		k.deleted.Inc()
		k.log.Info("an orphan was deleted", "kind", f.Kind, "arn", arn, "owner", f.Owner)
		k.events.Eventf(place, nil, corev1.EventTypeNormal, "OrphanDeleted", "DeleteOrphan", "the %s %s was deleted: %s", f.Kind, arn, f.Why)
	}
	k.found.Set(float64(len(report.Orphans)))
	return k.write(ctx, place, report)
}

// survey judges what AWS has by what the cluster has. The cluster is read after AWS: what has
// a load balancer by then was there before, or is gone.
func (k *orphanKeeper) survey(ctx context.Context) (orphan.Judgement, error) {
	all, err := k.balancers.Look(ctx, k.policy.Orphans.Cluster)
	if err != nil {
		return orphan.Judgement{}, err
	}
	owners, err := k.owners(ctx)
	if err != nil {
		return orphan.Judgement{}, err
	}
	for _, i := range orphan.Suspects(all, owners) {
		facts, err := k.balancers.Facts(ctx, all[i])
		if err != nil {
			return orphan.Judgement{}, err
		}
		all[i].Facts = &facts
	}
	return orphan.Judge(all, owners), nil
}

// owners are the objects that can own load balancers, read whole.
func (k *orphanKeeper) owners(ctx context.Context) (orphan.Cluster, error) {
	c := orphan.Cluster{Name: k.policy.Orphans.Cluster, Ingresses: map[string]bool{}, Services: map[string]bool{}, Gateways: map[string]bool{}, Groups: map[string]bool{}, Bound: map[string]bool{}}
	of := func(all map[string]bool) func(client.Object) {
		return func(o client.Object) { all[o.GetNamespace()+"/"+o.GetName()] = true }
	}
	err := k.each(ctx, corev1.SchemeGroupVersion.WithKind("Service"), named, of(c.Services))
	if err != nil {
		return c, err
	}
	err = k.each(ctx, networkingv1.SchemeGroupVersion.WithKind("Ingress"), named, func(o client.Object) {
		of(c.Ingresses)(o)
		for key, value := range o.GetAnnotations() {
			if strings.HasSuffix(key, groupNote) {
				c.Groups[value] = true
			}
		}
	})
	if err != nil {
		return c, err
	}
	err = k.each(ctx, schema.GroupVersionKind{Group: gatewayv1.GroupName, Version: "v1", Kind: "Gateway"}, named, of(c.Gateways))
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		c.NoGateways, err = true, nil
	}
	if err != nil {
		return c, err
	}
	control := schema.GroupVersion{Group: "elbv2.k8s.aws", Version: "v1beta1"}
	text := func(o client.Object, all map[string]bool, fields ...string) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			if s, _, _ := unstructured.NestedString(u.Object, fields...); s != "" {
				all[s] = true
			}
		}
	}
	err = k.each(ctx, control.WithKind("IngressClassParams"), whole, func(o client.Object) { text(o, c.Groups, "spec", "group", "name") })
	if err != nil {
		return c, err
	}
	return c, k.each(ctx, control.WithKind("TargetGroupBinding"), whole, func(o client.Object) {
		text(o, c.Bound, "spec", "targetGroupARN")
		text(o, c.Bound, "spec", "targetGroupName")
	})
}

// named and whole are how objects are read.
func named(gvk schema.GroupVersionKind) client.ObjectList {
	l := &metav1.PartialObjectMetadataList{}
	l.SetGroupVersionKind(gvk)
	return l
}

func whole(gvk schema.GroupVersionKind) client.ObjectList {
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(gvk)
	return l
}

// each goes through all objects of a kind, a page after the other, as they were at one moment.
func (k *orphanKeeper) each(ctx context.Context, gvk schema.GroupVersionKind, list func(schema.GroupVersionKind) client.ObjectList, do func(client.Object)) error {
	next := ""
	for {
		page := list(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		err := k.live.List(ctx, page, client.Limit(ownerPage), client.Continue(next))
		if err == nil {
			err = metaEach(page, do)
		}
		if err != nil {
			return fmt.Errorf("list all of kind %s: %w", gvk.Kind, err)
		}
		if next = page.GetContinue(); next == "" {
			return nil
		}
	}
}

// write keeps the report. A look that finds nothing new, and no orphan whose time goes on,
// writes nothing.
func (k *orphanKeeper) write(ctx context.Context, place *corev1.ConfigMap, r orphan.Report) error {
	text, err := r.Text()
	if err != nil {
		return err
	}
	if before, err := orphan.Read(place.Data[orphanKey]); err == nil && len(r.Orphans) == 0 {
		same := r
		same.Looked = before.Looked
		if was, err := same.Text(); err == nil && was == place.Data[orphanKey] {
			return nil
		}
	}
	o := applycorev1.ConfigMap(place.Name, place.Namespace).WithData(map[string]string{orphanKey: text})
	if err := k.client.Apply(ctx, o, client.FieldOwner(render.Manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("write the ConfigMap %s: %w", place.Name, err)
	}
	place.Data = map[string]string{orphanKey: text}
	return nil
}
