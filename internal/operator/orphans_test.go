package operator

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"dhow/internal/operator/orphan"
	"dhow/internal/operator/render"
)

// tagged is what the AWS Load Balancer Controller makes for an object.
func tagged(kind, name, prefix, stack string, balancers ...string) orphan.Resource {
	return orphan.Resource{Kind: kind, Name: name, ARN: "arn:" + name, LoadBalancers: balancers, Tags: map[string]string{orphan.ClusterTag: "bank", prefix + "/stack": stack, prefix + "/resource": "LoadBalancer"}}
}

// sky plays AWS.
type sky struct {
	mu      sync.Mutex
	all     []orphan.Resource
	facts   map[string]orphan.Facts
	deleted []string
	looks   int
	// fails is what the calls answer; onLook and onDelete happen after them.
	fails            map[string]error
	onLook, onDelete func()
}

func newSky(all ...orphan.Resource) *sky {
	return &sky{all: all, facts: map[string]orphan.Facts{}, fails: map[string]error{}}
}

func (s *sky) gone() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deleted)
}

func (s *sky) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *sky) Look(_ context.Context, cluster string) ([]orphan.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if cluster != "bank" {
		return nil, errors.New("another cluster's")
	}
	all := slices.Clone(s.all)
	for i := range all {
		all[i].LoadBalancers = slices.Clone(all[i].LoadBalancers)
	}
	if s.onLook != nil {
		s.onLook()
	}
	return all, s.fails["Look"]
}

func (s *sky) Facts(_ context.Context, r orphan.Resource) (orphan.Facts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts[r.ARN], s.fails["Facts"]
}

func (s *sky) Delete(_ context.Context, r orphan.Resource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails["Delete"]; err != nil {
		return err
	}
	s.deleted = append(s.deleted, r.ARN)
	s.all = slices.DeleteFunc(s.all, func(x orphan.Resource) bool { return x.ARN == r.ARN })
	for i := range s.all {
		s.all[i].LoadBalancers = slices.DeleteFunc(slices.Clone(s.all[i].LoadBalancers), func(lb string) bool { return lb == r.ARN })
	}
	if s.onDelete != nil {
		s.onDelete()
	}
	return nil
}

// alone is a keeper without a cluster, and what the API server is made to answer.
type alone struct {
	*orphanKeeper
	sky     *sky
	place   *corev1.ConfigMap
	at      time.Time
	lists   map[string]error // by kind
	applies error
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{lists: map[string]error{}, at: time.Date(2026, 12, 7, 9, 0, 0, 0, time.UTC),
		sky:   newSky(tagged(orphan.TargetGroup, "proof", "service.k8s.aws", "superapp/proof"), tagged(orphan.LoadBalancer, "old", "gateway.k8s.aws.alb", "superapp/gone")),
		place: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "dhow-system", Name: render.OrphanReport}}}
	binding := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": map[string]any{"namespace": "superapp", "name": "proof"}, "spec": map[string]any{"targetGroupARN": "arn:proof"}}}
	params := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "IngressClassParams", "metadata": map[string]any{"name": "inner"}}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(a.place, binding, params, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "proof"}}).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			if err := a.lists[strings.TrimSuffix(l.GetObjectKind().GroupVersionKind().Kind, "List")]; err != nil {
				return err
			}
			return c.List(ctx, l, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return cmp.Or(ctx.Err(), a.applies, c.Apply(ctx, o, opts...))
		}}).Build()
	p := render.Policy{Orphans: &render.Orphans{Cluster: "bank", Mode: render.OrphansDelete, AfterHours: 1}}.WithDefaults()
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "test"})
	a.orphanKeeper = &orphanKeeper{client: c, live: c, events: events.NewFakeRecorder(100), balancers: a.sky, policy: p, now: func() time.Time { return a.at }, log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		found: prometheus.NewGauge(prometheus.GaugeOpts{Name: "test"}), deleted: count, failed: count}
	return a
}

// wait looks until the orphan is due at the next look.
func (a *alone) wait(t *testing.T) {
	t.Helper()
	for range 3 {
		if err := a.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.at = a.at.Add(25 * time.Minute)
	}
	if gone := a.sky.gone(); len(gone) > 0 {
		t.Fatalf("%v are deleted too early", gone)
	}
}

func (a *alone) report(t *testing.T) orphan.Report {
	t.Helper()
	if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(a.place), a.place); err != nil {
		t.Fatal(err)
	}
	r, err := orphan.Read(a.place.Data[orphanKey])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOrphansClosed: whatever could not be read, written or believed, nothing is deleted, and
// when it is over what is due goes.
func TestOrphansClosed(t *testing.T) {
	no := errors.New("not today")
	owner := func(a *alone) error {
		return a.client.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": map[string]any{"namespace": "superapp", "name": "gone"}, "spec": map[string]any{}}})
	}
	unknown := func(kind string) error {
		return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: kind}}
	}
	for _, c := range []struct {
		name   string
		closes func(a *alone)
		// fails says that the look ends with an error; back that it goes when it is over.
		fails, back bool
	}{
		{"nothing is in the way", func(*alone) {}, false, false},
		{"AWS does not list", func(a *alone) { a.sky.fails["Look"] = no }, true, true},
		{"AWS tells no facts", func(a *alone) { a.sky.fails["Facts"] = no }, true, true},
		{"AWS does not delete", func(a *alone) { a.sky.fails["Delete"] = no }, false, true},
		{"Services can not be read", func(a *alone) { a.lists["Service"] = no }, true, true},
		{"Ingresses can not be read", func(a *alone) { a.lists["Ingress"] = no }, true, true},
		{"Gateways can not be read", func(a *alone) { a.lists["Gateway"] = no }, true, true},
		{"Gateways may not be read", func(a *alone) {
			a.lists["Gateway"] = apierrors.NewForbidden(schema.GroupResource{Resource: "gateways"}, "", no)
		}, true, true},
		{"classes can not be read", func(a *alone) { a.lists["IngressClassParams"] = no }, true, true},
		{"bindings can not be read", func(a *alone) { a.lists["TargetGroupBinding"] = no }, true, true},
		{"bindings are no kind any more", func(a *alone) { a.lists["TargetGroupBinding"] = unknown("TargetGroupBinding") }, true, true},
		{"Gateways are no kind any more", func(a *alone) { a.lists["Gateway"] = unknown("Gateway") }, false, false},
		{"a page is too old", func(a *alone) { a.lists["Service"] = apierrors.NewResourceExpired("too old") }, true, true},
		{"the report can not be written", func(a *alone) { a.applies = no }, true, true},
		{"the report is not there", func(a *alone) {
			if err := a.client.Delete(t.Context(), a.place.DeepCopy()); err != nil {
				t.Error(err)
			}
		}, true, false},
		{"the report is another text", func(a *alone) {
			a.place.Data = map[string]string{orphanKey: "{"}
			if err := a.client.Update(t.Context(), a.place); err != nil {
				t.Error(err)
			}
		}, false, false},
		{"the second look fails", func(a *alone) {
			n := 0
			a.sky.onLook = func() {
				if n++; n == 2 {
					a.lists["Service"] = no
				}
			}
		}, true, true},
		{"an owner comes back before", func(a *alone) {
			if err := owner(a); err != nil {
				t.Error(err)
			}
		}, false, false},
		{"an owner comes back between the two looks", func(a *alone) {
			n := 0
			a.sky.onLook = func() {
				if n++; n == 2 {
					if err := owner(a); err != nil {
						t.Error(err)
					}
				}
			}
		}, false, false},
		{"it is protected", func(a *alone) { a.sky.facts["arn:old"] = orphan.Facts{Protected: true} }, false, false},
		{"nothing shows whose cluster it is", func(a *alone) { a.sky.all = a.sky.all[1:] }, false, false},
		{"too many at once", func(a *alone) {
			for _, name := range []string{"a", "b", "c", "d"} {
				a.sky.all = append(a.sky.all, tagged(orphan.LoadBalancer, name, "service.k8s.aws", "superapp/"+name))
			}
		}, false, false},
		{"it is a rehearsal", func(a *alone) { a.policy.Orphans.Mode = render.OrphansDryRun }, false, false},
		{"nobody looked for two hours", func(a *alone) { a.at = a.at.Add(2 * time.Hour) }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAlone(t)
			a.wait(t)
			a.report(t)
			c.closes(a)
			if err := a.look(t.Context()); (err != nil) != c.fails {
				t.Fatalf("got %v", err)
			}
			if gone := a.sky.gone(); len(gone) > 0 != (c.name == "nothing is in the way") {
				t.Fatalf("it deleted %v", gone)
			}
			if !c.back {
				return
			}
			a.applies, a.sky.onLook = nil, nil
			clear(a.lists)
			clear(a.sky.fails)
			a.at = a.at.Add(10 * time.Minute)
			if err := a.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if gone := a.sky.gone(); !slices.Equal(gone, []string{"arn:old"}) {
				t.Errorf("it deleted %v", gone)
			}
		})
	}
}

// TestOrphansKilled: an operator that ends between the deletion and its record leaves who comes
// after it to tell; nothing is deleted twice.
func TestOrphansKilled(t *testing.T) {
	a := newAlone(t)
	a.wait(t)
	ctx, kill := context.WithCancel(t.Context())
	a.sky.onDelete = kill
	if err := a.look(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if r := a.report(t); len(r.Orphans) != 1 || !r.Orphans[0].Deleting || len(r.Deleted) > 0 {
		t.Fatalf("got %+v", r)
	}
	if err := a.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := a.report(t)
	if gone := a.sky.gone(); len(r.Orphans) > 0 || len(r.Deleted) != 1 || r.Deleted[0].ARN != "arn:old" || !slices.Equal(gone, []string{"arn:old"}) {
		t.Errorf("got %+v, and it deleted %v", r, gone)
	}
}
