// Package operator has the tests of the operator that need the whole house: it is killed,
// cut off and fought by hand while it makes many Exposures, and real pods are replaced
// behind a stand-in for a load balancer while clients call them.
package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"dhow/api/v1alpha1"
	"dhow/internal/cli"
	"dhow/internal/operator"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/render"
	"dhow/tests/wire"
)

// asDhow makes this program dhow itself.
const asDhow = "OPERATOR_TEST_DHOW"

//nolint:gochecknoglobals // flags
var (
	alone     = flag.Bool("alone", false, "run these tests, for which the machine must do nothing else: operators would lose their leases, and clients their time")
	whole     = flag.Bool("whole", false, "with -alone, all that is to be shown, which takes an hour")
	exposures = flag.Int("exposures", 0, "Exposures that are made during the chaos; 0 is 40, or 1,000 with -whole")
	lasts     = flag.Duration("lasts", 0, "how long people make them, with one round of all faults at least; 0 is 15s, or 5m with -whole")
	seed      = flag.Uint64("seed", 0, "begins the random numbers; 0 takes the time")
)

// form is what a flag says, and otherwise what the form of the tests takes.
func form[T comparable](given, short, long T) T {
	var none T
	switch {
	case given != none:
		return given
	case *whole:
		return long
	}
	return short
}

// needsAlone leaves a test out that other tests beside it would disturb.
func needsAlone(t *testing.T) {
	t.Helper()
	if !*alone {
		t.Skip("it needs a machine that does nothing else: `make test-operator` runs it; left out as with testing.Short()")
	}
}

const (
	// chaosTime bounds the test beside the chaos itself, settleTime what follows it until all is
	// as it should be.
	chaosTime, settleTime = 3 * time.Minute, 4 * time.Minute
	// restTime is for how long the operators must write nothing in the end.
	restTime = 5 * time.Second
	// again is between attempts at something.
	again = 100 * time.Millisecond
	// request bounds one request of the test's own: who waits for a store that stands still
	// learns nothing by it.
	request = 5 * time.Second
	// mostGap is between two faults at most, gaps how often it fits into the chaos at least.
	mostGap, gaps = 3 * time.Second, 30
	// handsEvery is how often somebody edits or deletes an object by hand.
	handsEvery = 400 * time.Millisecond
	// teams are the namespaces.
	teams = 5
)

func TestMain(m *testing.M) {
	if os.Getenv(asDhow) != "" {
		os.Exit(cli.Main())
	}
	log.SetLogger(logr.Discard()) // the clients' own, which otherwise complain that there is none
	os.Exit(m.Run())
}

// world is an API server with two operators that may be cut off from it.
type world struct {
	*testing.T
	ctx       context.Context
	plane     *apitest.Plane
	admin     client.Client
	policy    render.Policy
	wires     []*wire.Wire
	operators []*keeper
	count     counts
	// many Exposures are made in a time of lasts.
	many  int
	lasts time.Duration
}

// counts are what was done, by its name.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[what]++
}

func (c *counts) get(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[what]
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		all = append(all, fmt.Sprintf("%s %d times", what, c.of[what]))
	}
	return strings.Join(all, ", ")
}

// TestChaos: whatever happens while Exposures are made, changed and deleted, in the end
// all that there is equals what package render says, and nothing is left over.
func TestChaos(t *testing.T) {
	needsAlone(t)
	begin := *seed
	if begin == 0 {
		begin = uint64(time.Now().UnixNano())
	}
	many, last := form(*exposures, 40, 1000), form(*lasts, 15*time.Second, 5*time.Minute)
	t.Logf("the same random numbers again: -seed %d -exposures %d -lasts %s", begin, many, last)
	ctx, cancel := context.WithTimeout(t.Context(), last+chaosTime+settleTime)
	defer cancel()
	w := newWorld(ctx, t)
	w.many, w.lasts = many, last
	w.storm(begin)
	w.calm()
	t.Logf("%s; the operators lived %d and %d times", w.count.String(), w.operators[0].lived(), w.operators[1].lived())
}

// storm makes Exposures while everything else happens.
func (w *world) storm(begin uint64) {
	w.Helper()
	ctx, end := context.WithCancel(w.ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer end()
	others.Go(func() { w.faults(ctx, rand.New(rand.NewPCG(begin, 1))) })
	others.Go(func() { w.hands(ctx, rand.New(rand.NewPCG(begin, 2))) })
	w.people(rand.New(rand.NewPCG(begin, 3)))
	end()
	others.Wait()
}

// calm waits until everything is as it should be, and stays so.
func (w *world) calm() {
	w.Helper()
	for _, x := range w.wires {
		x.Heal()
	}
	w.plane.KillCollector()
	began := time.Now()
	deadline := began.Add(settleTime)
	var g goldens
	for {
		wrong, err := g.compare(w)
		if err != nil {
			w.Fatal(err)
		}
		if len(wrong) == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d things are not as they should be after %s:\n%s", len(wrong), settleTime, strings.Join(wrong[:min(len(wrong), toldWrong)], "\n"))
		}
		time.Sleep(compareAgain)
	}
	w.Logf("%d objects of %d Exposures were as they should be %s after the chaos", g.objects, g.exposures, time.Since(began).Round(100*time.Millisecond))
	// Nobody has a reason to write any more.
	_, at, err := w.plane.Requests(apitest.Operator, 0)
	if err != nil {
		w.Fatal(err)
	}
	time.Sleep(restTime)
	some, _, err := w.plane.Requests(apitest.Operator, at)
	if err != nil {
		w.Fatal(err)
	}
	for what, n := range some.Writes() {
		if !strings.HasSuffix(what, " leases") && !strings.HasSuffix(what, " events") {
			w.Errorf("%d times %s when all was as it should be", n, what)
		}
	}
}

// newWorld starts everything.
func newWorld(ctx context.Context, t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ctx: ctx, policy: render.Policy{Name: "bank", Domain: "bank.example", Edge: []string{"10.0.0.0/22"}, Inner: []string{"10.0.0.0/16"}}.WithDefaults()}
	dir := t.TempDir()
	state := filepath.Join(dir, "plane")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	w.plane, err = apitest.NewPlane(ctx, apitest.PlaneOptions{Dir: state, Audited: []string{apitest.Operator}, Collector: true})
	if errors.Is(err, apitest.ErrNoPrograms) {
		t.Skip(err.Error() + "; left out as with testing.Short()")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.plane.Close(); err != nil {
			t.Error(err)
		}
	})
	roles, err := os.ReadFile("../../deploy/operator/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.plane.Permit(ctx, roles); err != nil {
		t.Fatal(err)
	}
	conf, err := w.plane.Config(apitest.Admin)
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := operator.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if w.admin, err = client.New(conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	for n := range teams {
		if err := w.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	asAWS, err := w.plane.Config(apitest.Balancer)
	if err != nil {
		t.Fatal(err)
	}
	playing, stop := context.WithCancel(context.WithoutCancel(ctx))
	balancers, err := apitest.StartBalancers(playing, asAWS, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); balancers.Wait() })
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: bank\ndomain: bank.example\nedge: [10.0.0.0/22]\ninner: [10.0.0.0/16]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		x := wire.New(t, w.plane.Address())
		kubeconfig, err := w.plane.Kubeconfig(apitest.Operator, x.Address())
		if err != nil {
			t.Fatal(err)
		}
		w.wires = append(w.wires, x)
		w.operators = append(w.operators, keep(t, dir, fmt.Sprintf("operator-%d", n), "operator", "--leader-elect", "--kubeconfig", kubeconfig, "--policy", policy, "-v"))
	}
	return w
}

func team(n int) string { return fmt.Sprintf("team-%d", n%teams) }

// try calls until it succeeds; what can never succeed fails the test.
func (w *world) try(what string, do func(context.Context) error) {
	w.Helper()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, request)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		if w.ctx.Err() != nil || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			w.Fatalf("%s: %v", what, err)
		}
		time.Sleep(again)
	}
}

// people make Exposures for as long as the chaos lasts, and change and delete some.
func (w *world) people(r *rand.Rand) {
	w.Helper()
	began := time.Now()
	var there []int
	for n := range w.many {
		w.workload(n)
		w.expose(n, n%len(variants))
		if n >= len(variants) { // the first of each kind stay, so that each Gateway has its reason
			there = append(there, n)
		}
		if len(there) > 1 && r.IntN(4) == 0 {
			i := r.IntN(len(there))
			switch x := there[i]; r.IntN(3) {
			case 0:
				w.conceal(x)
				there = slices.Delete(there, i, i+1)
			case 1: // the same name again, while the collector may still be at the first one's objects
				w.conceal(x)
				w.expose(x, r.IntN(len(variants)))
			default:
				w.change(x, r.IntN(len(variants)))
			}
		}
		due := began.Add(w.lasts * time.Duration(n+1) / time.Duration(w.many))
		time.Sleep(time.Until(due))
	}
}

// variants are kinds of Exposures, all of whose names are their own.
//
//nolint:gochecknoglobals // a table of tests
var variants = []func(name string, n int) v1alpha1.ExposureSpec{
	func(string, int) v1alpha1.ExposureSpec { return v1alpha1.ExposureSpec{Visibility: v1alpha1.Private} },
	func(name string, _ int) v1alpha1.ExposureSpec {
		return v1alpha1.ExposureSpec{Visibility: v1alpha1.Public, Hosts: []v1alpha1.Host{v1alpha1.Host(name + ".example.com")}, Paths: []v1alpha1.Path{{Path: "/api", Type: "Prefix"}}}
	},
	func(string, int) v1alpha1.ExposureSpec { return v1alpha1.ExposureSpec{Visibility: v1alpha1.None} },
	func(string, int) v1alpha1.ExposureSpec {
		return v1alpha1.ExposureSpec{Visibility: v1alpha1.Private, Scaling: &v1alpha1.Scaling{Min: 2, Max: 9, CPU: &v1alpha1.CPUTarget{Percent: ptr.To(int32(65))}}}
	},
	func(name string, _ int) v1alpha1.ExposureSpec {
		return v1alpha1.ExposureSpec{Visibility: v1alpha1.Public, Hosts: []v1alpha1.Host{v1alpha1.Host(name + ".example.com")}, Access: &v1alpha1.Access{SourceRanges: []v1alpha1.CIDR{"203.0.113.0/24", "198.51.100.0/24"}}}
	},
	func(name string, _ int) v1alpha1.ExposureSpec {
		return v1alpha1.ExposureSpec{Visibility: v1alpha1.Private, Routing: &v1alpha1.Routing{Canaries: []v1alpha1.Canary{{Service: name + "-next", Weight: 10}}}}
	},
	// A Gateway has at most 64 listeners, so there are at most as many ports.
	func(_ string, n int) v1alpha1.ExposureSpec {
		const first, most, kinds = 20_000, 40, 7
		if n >= most*kinds {
			return v1alpha1.ExposureSpec{Visibility: v1alpha1.Private}
		}
		return v1alpha1.ExposureSpec{Visibility: v1alpha1.Private, Ports: []v1alpha1.Port{{Name: "pg", Port: int32(first + n), TargetPort: ptr.To(intstr.FromString("http")), Protocol: v1alpha1.TCP}}}
	},
}

func nameOf(n int) string { return fmt.Sprintf("service-%04d", n) }

func (w *world) workload(n int) {
	w.Helper()
	labels := map[string]string{"app": nameOf(n)}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: team(n), Name: nameOf(n)}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/" + nameOf(n), Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}}}}}}}}
	w.try("make a Deployment", func(ctx context.Context) error {
		one := d.DeepCopy()
		if err := w.admin.Create(ctx, one); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := w.admin.Get(ctx, client.ObjectKeyFromObject(d), one); err != nil {
			return err
		}
		one.Status.Replicas, one.Status.ReadyReplicas, one.Status.AvailableReplicas = 2, 2, 2
		return w.admin.Status().Update(ctx, one)
	})
}

// expose makes an Exposure of that kind.
func (w *world) expose(n, kind int) {
	w.Helper()
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: team(n), Name: nameOf(n)}, Spec: variants[kind](nameOf(n), n)}
	e.Spec.Workload = v1alpha1.Workload{Kind: "Deployment", Name: nameOf(n)}
	w.try("make an Exposure", func(ctx context.Context) error {
		if err := w.admin.Create(ctx, e.DeepCopy()); !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
	w.count.add("an Exposure was made")
}

func (w *world) change(n, kind int) {
	w.Helper()
	w.try("change an Exposure", func(ctx context.Context) error {
		e := &v1alpha1.Exposure{}
		if err := w.admin.Get(ctx, types.NamespacedName{Namespace: team(n), Name: nameOf(n)}, e); err != nil {
			return err
		}
		e.Spec = variants[kind](nameOf(n), n)
		e.Spec.Workload = v1alpha1.Workload{Kind: "Deployment", Name: nameOf(n)}
		return w.admin.Update(ctx, e)
	})
	w.count.add("an Exposure was changed")
}

// conceal deletes an Exposure, and waits until it is gone.
func (w *world) conceal(n int) {
	w.Helper()
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: team(n), Name: nameOf(n)}}
	w.try("delete an Exposure", func(ctx context.Context) error {
		return client.IgnoreNotFound(w.admin.Delete(ctx, e.DeepCopy()))
	})
	w.count.add("an Exposure was deleted")
}

// fault is something that happens, until it is over.
type fault struct {
	name string
	do   func(ctx context.Context, r *rand.Rand)
}

// nap waits for a random time.
func nap(ctx context.Context, r *rand.Rand, least, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(least + time.Duration(r.Int64N(int64(most-least)+1))):
	}
}

// allFaults are those that happen, in turns of a random order.
func (w *world) allFaults() []fault {
	return []fault{
		{"an operator was killed", func(_ context.Context, r *rand.Rand) { w.operators[r.IntN(2)].kill() }},
		{"both operators were killed", func(_ context.Context, _ *rand.Rand) {
			for _, o := range w.operators {
				o.kill()
			}
		}},
		{"the API server was killed", func(ctx context.Context, r *rand.Rand) {
			w.plane.KillServer()
			nap(ctx, r, 0, 2*time.Second)
			for err := w.plane.StartServer(w.ctx); err != nil; err = w.plane.StartServer(w.ctx) { // a busy machine may take more than one attempt
				if w.ctx.Err() != nil {
					w.Errorf("start the API server again: %v", err)
					return
				}
			}
		}},
		{"the store stood still", func(ctx context.Context, r *rand.Rand) {
			w.signalStore(w.plane.PauseStore)
			nap(ctx, r, time.Second, 5*time.Second)
			w.signalStore(w.plane.ResumeStore)
		}},
		{"the store was slow", func(ctx context.Context, r *rand.Rand) {
			for until := time.Now().Add(4 * time.Second); time.Now().Before(until) && ctx.Err() == nil; {
				w.signalStore(w.plane.PauseStore)
				nap(ctx, r, 100*time.Millisecond, 400*time.Millisecond)
				w.signalStore(w.plane.ResumeStore)
				nap(ctx, r, 10*time.Millisecond, 60*time.Millisecond)
			}
		}},
		{"an operator's watches were cut", func(ctx context.Context, r *rand.Rand) {
			x := w.wires[r.IntN(2)]
			x.Cut()
			nap(ctx, r, 0, 2*time.Second)
			x.Heal()
		}},
		{"both operators' watches were cut", func(ctx context.Context, r *rand.Rand) {
			for _, x := range w.wires {
				x.Cut()
			}
			nap(ctx, r, 0, time.Second)
			for _, x := range w.wires {
				x.Heal()
			}
		}},
		// Beyond ten seconds it loses the lease, and ends.
		{"an operator was cut off and not told", func(ctx context.Context, r *rand.Rand) {
			x := w.wires[r.IntN(2)]
			x.Partition()
			nap(ctx, r, time.Second, 13*time.Second)
			x.Heal()
		}},
	}
}

func (w *world) signalStore(do func() error) {
	if err := do(); err != nil {
		w.Error(err)
	}
}

// faults lets one thing after the other happen until ctx ends, and each be over. All happen
// once at least.
func (w *world) faults(ctx context.Context, r *rand.Rand) {
	all := w.allFaults()
	gap := min(mostGap, w.lasts/gaps)
	for first := true; first || ctx.Err() == nil; first = false {
		for _, i := range r.Perm(len(all)) {
			if !first && ctx.Err() != nil {
				return
			}
			nap(w.ctx, r, 0, gap)
			all[i].do(w.ctx, r)
			w.count.add(all[i].name)
		}
	}
}

// What hands do.
const edited, deleted = "an object was edited by hand", "an object was deleted by hand"

// edits are what somebody changes with kubectl, by kind.
//
//nolint:gochecknoglobals // a table of tests
var edits = map[string]func(*unstructured.Unstructured) error{
	"Service": func(u *unstructured.Unstructured) error {
		return inList(u, func(port map[string]any) { port["targetPort"] = int64(9) }, "spec", "ports")
	},
	"PodDisruptionBudget": func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, int64(7), "spec", "maxUnavailable")
	},
	"HorizontalPodAutoscaler": func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, int64(50), "spec", "maxReplicas")
	},
	// What the operator has set of the metadata is its own too.
	"NetworkPolicy": func(u *unstructured.Unstructured) error { u.SetLabels(nil); return nil },
	// The one that leads to HTTPS has no hosts, and what the operator does not set is anybody's.
	"HTTPRoute": func(u *unstructured.Unstructured) error {
		if _, found, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "hostnames"); !found {
			return inList(u, func(rule map[string]any) {
				rule["matches"] = []any{map[string]any{"path": map[string]any{"type": "Exact", "value": "/wrong"}}}
			}, "spec", "rules")
		}
		return unstructured.SetNestedStringSlice(u.Object, []string{"wrong.example.com"}, "spec", "hostnames")
	},
	"TargetGroupConfiguration": func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, int64(99), "spec", "defaultConfiguration", "healthCheckConfig", "healthCheckInterval")
	},
	"Gateway": func(u *unstructured.Unstructured) error {
		return inList(u, func(listener map[string]any) { listener["port"] = int64(8888) }, "spec", "listeners")
	},
}

// inList changes the first part of a list.
func inList(u *unstructured.Unstructured, change func(map[string]any), at ...string) error {
	list, found, err := unstructured.NestedSlice(u.Object, at...)
	if err != nil {
		return fmt.Errorf("read %s of %s %s: %w", strings.Join(at, "."), u.GetKind(), u.GetName(), err)
	}
	if !found || len(list) == 0 {
		return fmt.Errorf("%s %s has no %s", u.GetKind(), u.GetName(), strings.Join(at, "."))
	}
	part, ok := list[0].(map[string]any)
	if !ok {
		return fmt.Errorf("%s %s has another %s than expected", u.GetKind(), u.GetName(), strings.Join(at, "."))
	}
	change(part)
	return unstructured.SetNestedSlice(u.Object, list, at...)
}

// hands edit and delete objects until ctx ends, each once at least. What does not succeed is
// not tried again.
func (w *world) hands(ctx context.Context, r *rand.Rand) {
	tick := time.NewTicker(handsEvery)
	defer tick.Stop()
	for ctx.Err() == nil || w.count.get(edited) == 0 || w.count.get(deleted) == 0 {
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
		}
		what, err := w.hand(w.ctx, r)
		if err == nil && what != "" {
			w.count.add(what)
		}
	}
}

// hand takes any object, and edits or deletes it. It returns what it did.
func (w *world) hand(ctx context.Context, r *rand.Rand) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	kind := made[r.IntN(len(made))]
	all := &unstructured.UnstructuredList{}
	all.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := w.admin.List(ctx, all); err != nil {
		return "", err
	}
	some := slices.DeleteFunc(all.Items, func(u unstructured.Unstructured) bool { return !w.ours(&u) })
	if len(some) == 0 {
		return "", nil
	}
	u := &some[r.IntN(len(some))]
	if edit := edits[kind.Kind]; edit != nil && r.IntN(2) == 0 {
		if err := edit(u); err != nil {
			return "", err
		}
		return edited, w.admin.Update(ctx, u, client.FieldOwner("kubectl-edit"))
	}
	uid := u.GetUID()
	return deleted, w.admin.Delete(ctx, u, client.Preconditions{UID: &uid})
}

// ours says that an object is where only the operator makes any.
func (w *world) ours(u *unstructured.Unstructured) bool {
	if u.GetNamespace() == "" {
		return u.GetLabels()[render.ManagedLabel] == render.Manager
	}
	return u.GetNamespace() == w.policy.Namespace || strings.HasPrefix(u.GetNamespace(), "team-")
}
