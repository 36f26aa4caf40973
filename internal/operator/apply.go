package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

const (
	// byHand is what the names of people's own tools begin with: what somebody changed by
	// hand is set right, where a program is left to itself.
	byHand = "kubectl"
	// trustTime is for how long what was written is taken to be there although the cache has
	// not shown it: where a watch was lost, it may have been deleted again and nobody told.
	trustTime = 20 * time.Second
)

// The reasons why an object is not as it should be.
const (
	reasonConflict    = "Conflict"
	reasonNotOwned    = "NotOwned"
	reasonTerminating = "Terminating"
	reasonRefused     = "Refused"
)

// objectError says why one object could not be made as it should be.
type objectError struct {
	reason, text string
	cause        error
}

func (e *objectError) Error() string { return e.text }
func (e *objectError) Unwrap() error { return e.cause }

// applier makes objects what they should be, and writes nothing where they are.
type applier struct {
	client client.Client
	// live reads past the cache, which knows of what Exposures share nothing that others made,
	// and of the rest nothing that was made just now.
	live client.Reader
	// seen are the newest versions that the caches have shown, by kind.
	seen sync.Map // of schema.GroupVersionKind to *atomic.Uint64
	// written is what the cache has not shown yet of what was written last.
	written sync.Map // of string to writing
}

// writing is a version that was written.
type writing struct {
	version uint64
	at      time.Time
}

func keyOf(o client.Object) string {
	k := o.GetObjectKind().GroupVersionKind()
	return k.Kind + "." + k.Group + " " + o.GetNamespace() + "/" + o.GetName()
}

// forget is to be told of objects that are gone.
func (a *applier) forget(key string) { a.written.Delete(key) }

// wrote remembers the version that was written.
func (a *applier) wrote(key, version string) {
	if number, err := strconv.ParseUint(version, 10, 64); err == nil {
		a.written.Store(key, writing{number, time.Now()})
	}
}

// see remembers what the cache of a kind has come to.
func (a *applier) see(k schema.GroupVersionKind, o client.Object) {
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	found, ok := a.seen.Load(k)
	if !ok {
		found, _ = a.seen.LoadOrStore(k, &atomic.Uint64{})
	}
	newest, _ := found.(*atomic.Uint64)
	for was := newest.Load(); was < version && !newest.CompareAndSwap(was, version); was = newest.Load() {
	}
}

// covers says that the cache of a kind has everything that was there when an object was
// written, for versions count all writes of a cluster.
func (a *applier) covers(k schema.GroupVersionKind, o client.Object) bool {
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	found, ok := a.seen.Load(k)
	if err != nil || !ok {
		return false
	}
	newest, _ := found.(*atomic.Uint64)
	return newest.Load() >= version
}

// stale says that the cache is behind what this process wrote itself.
func (a *applier) stale(key string, cached client.Object) bool {
	found, ok := a.written.Load(key)
	if !ok {
		return false
	}
	wrote, _ := found.(writing)
	seen := false
	if cached != nil {
		version, err := strconv.ParseUint(cached.GetResourceVersion(), 10, 64)
		seen = err != nil || version >= wrote.version
	}
	if seen || time.Since(wrote.at) >= trustTime {
		a.written.CompareAndDelete(key, found)
		return false
	}
	return true
}

// lookAfter is when to look whether the cache has shown by then what was written of an
// object, 0 where it has.
func (a *applier) lookAfter(key string) time.Duration {
	if _, ok := a.written.Load(key); ok {
		return trustTime
	}
	return 0
}

// owner is for whom an object is made: an Exposure, or nobody for what Exposures share.
type owner struct {
	exposure *v1alpha1.Exposure
	adopt    bool
}

func (o owner) reference() []metav1.OwnerReference {
	if o.exposure == nil {
		return nil
	}
	// It blocks nothing: a namespace goes whatever the order in which its objects do.
	yes, no := true, false
	return []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Exposure", Name: o.exposure.Name, UID: o.exposure.UID, Controller: &yes, BlockOwnerDeletion: &no}}
}

// made says that the operator made an object for this owner: it is its controller, or the
// object was left over when an Exposure of that name was deleted without its objects.
func (o owner) made(x client.Object, fields bool) bool {
	c := metav1.GetControllerOf(x)
	if o.exposure == nil {
		return c == nil && fields && x.GetLabels()[render.ManagedLabel] == render.Manager
	}
	if c != nil {
		return c.UID == o.exposure.UID
	}
	return fields && x.GetLabels()[render.ExposureLabel] == o.exposure.Name
}

// ensure makes an object what it should be, and returns what is to be remembered of it.
// before is what was remembered. It may be called again at any time.
func (a *applier) ensure(ctx context.Context, by owner, want *unstructured.Unstructured, cached client.Object, before v1alpha1.Object) (v1alpha1.Object, bool, error) {
	want = want.DeepCopy()
	want.SetOwnerReferences(by.reference())
	now := v1alpha1.Object{APIVersion: want.GetAPIVersion(), Kind: want.GetKind(), Name: want.GetName()}
	hash, err := render.Hash(want)
	if err != nil {
		return now, false, err
	}
	now.Hash = hash
	key := keyOf(want)
	stale := a.stale(key, cached)
	if before.Hash == hash && before.Fields != "" && (stale || cached != nil && fieldsOf(cached) == before.Fields && cached.GetDeletionTimestamp() == nil) {
		return before, false, nil
	}
	// In a cluster where much is made, what is not there needs no question of its own.
	absent := cached == nil && !stale && by.exposure != nil && a.covers(want.GroupVersionKind(), by.exposure)
	if !absent {
		err = a.mayWrite(ctx, by, want, cached, stale)
	}
	if err != nil {
		return now, false, err
	}
	name := describe(want)
	err = a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(render.Manager))
	if apierrors.IsConflict(err) && absent { // somebody has made it just now
		if no := a.mayWrite(ctx, by, want, nil, false); no != nil {
			return now, false, no
		}
	}
	if apierrors.IsConflict(err) && handsOnly(err) || by.adopt && apierrors.IsConflict(err) {
		err = a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(render.Manager), client.ForceOwnership)
	}
	if err != nil {
		return now, false, failed(name, err)
	}
	a.wrote(key, want.GetResourceVersion())
	now.Fields = ownFields(want.GetManagedFields())
	return now, true, nil
}

// failed says in words what the API server says.
func failed(name string, err error) error {
	switch {
	case apierrors.IsConflict(err):
		return &objectError{reasonConflict, fmt.Sprintf("%s: %s: leave those fields to dhow, or change the Exposure so that it does not need them", name, rivals(err)), err}
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		return &objectError{reasonRefused, fmt.Sprintf("%s: the API server refuses it: %v", name, err), err}
	}
	return fmt.Errorf("apply %s: %w", name, err)
}

// mayWrite says whether an object may be written: what is there and is not the operator's
// is left alone, unless the Exposure says otherwise.
func (a *applier) mayWrite(ctx context.Context, by owner, want *unstructured.Unstructured, cached client.Object, stale bool) error {
	there, fields := cached, false
	if cached != nil {
		fields = fieldsOf(cached) != ""
	} else if !stale {
		found := &metav1.PartialObjectMetadata{}
		found.SetGroupVersionKind(want.GroupVersionKind())
		err := a.live.Get(ctx, client.ObjectKeyFromObject(want), found)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("look for %s: %w", describe(want), err)
		}
		there, fields = found, ownFields(found.GetManagedFields()) != ""
	}
	if there == nil {
		return nil
	}
	if there.GetDeletionTimestamp() != nil {
		return &objectError{reason: reasonTerminating, text: describe(want) + " is being deleted: it is made again when it is gone"}
	}
	if by.made(there, fields) {
		return nil
	}
	if c := metav1.GetControllerOf(there); c != nil {
		if by.exposure != nil && c.Kind == "Exposure" && c.Name == by.exposure.Name {
			return a.inherit(ctx, by.exposure, want)
		}
		return &objectError{reason: reasonNotOwned, text: fmt.Sprintf("%s is there already, and is of %s %s: choose another name", describe(want), c.Kind, c.Name)}
	}
	if by.adopt {
		return nil
	}
	return &objectError{reason: reasonNotOwned, text: describe(want) + " is there already, and dhow did not make it: set adopt to take it over, remove it, or choose another name"}
}

// inherit lets an Exposure have what one of its name had that is gone, so that traffic does not
// stop until the garbage collector has removed it. That it is gone the API server must say: the
// cache may show the one that is gone.
func (a *applier) inherit(ctx context.Context, e *v1alpha1.Exposure, want *unstructured.Unstructured) error {
	now := &metav1.PartialObjectMetadata{}
	now.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Exposure"))
	if err := a.live.Get(ctx, client.ObjectKeyFromObject(e), now); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("look whose %s is: %w", describe(want), err)
	}
	if now.UID != e.UID {
		return &objectError{reason: reasonTerminating, text: describe(want) + " is of an Exposure of this name that was made since"}
	}
	return nil
}

// remove deletes an object that is no longer wanted, if it is still the one that was seen.
func (a *applier) remove(ctx context.Context, o client.Object) error {
	uid := o.GetUID()
	err := a.client.Delete(ctx, o, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove %s: %w", describe(o), err)
	}
	a.forget(keyOf(o))
	return nil
}

// causes are the conflicts that the API server names, as manager and field.
func causes(err error) [][2]string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var all [][2]string
	for _, c := range status.Status().Details.Causes {
		if c.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		_, rest, _ := strings.Cut(c.Message, `conflict with "`)
		manager, _, _ := strings.Cut(rest, `"`)
		all = append(all, [2]string{manager, c.Field})
	}
	return all
}

// handsOnly says that a conflict is with people's own tools alone.
func handsOnly(err error) bool {
	all := causes(err)
	return len(all) > 0 && !slices.ContainsFunc(all, func(c [2]string) bool { return !strings.HasPrefix(c[0], byHand) })
}

// rivals tells who else wants which fields, sorted.
func rivals(err error) string {
	of := map[string][]string{}
	var managers []string
	for _, c := range causes(err) {
		if of[c[0]] == nil {
			managers = append(managers, c[0])
		}
		of[c[0]] = append(of[c[0]], c[1])
	}
	slices.Sort(managers)
	var words []string
	for _, m := range managers {
		slices.Sort(of[m])
		words = append(words, fmt.Sprintf("%s has set %s", m, strings.Join(slices.Compact(of[m]), ", ")))
	}
	if len(words) == 0 {
		return "another manager has set its fields"
	}
	return strings.Join(words, "; ")
}

func describe(o client.Object) string {
	kind := o.GetObjectKind().GroupVersionKind().Kind
	if o.GetNamespace() == "" {
		return kind + " " + o.GetName()
	}
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// ownFields is a hash of the fields that are the operator's and of when it changed them last,
// "" if none are. While it stays, nobody has changed or removed one of them: who does takes
// it away, and an operator that has lost its lease, whose last request came late, is seen by
// the time.
func ownFields(all []metav1.ManagedFieldsEntry) string {
	for i := range all {
		m := &all[i]
		if m.Manager == render.Manager && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == "" && m.FieldsV1 != nil {
			var at string
			if m.Time != nil {
				at = m.Time.UTC().Format(time.RFC3339)
			}
			return render.HashOf([]byte(m.APIVersion + at + string(m.FieldsV1.GetRawBytes())))
		}
	}
	return ""
}

// fieldsOf is the hash of the fields that are the operator's, which the cache keeps in the place
// of all managed fields, where API servers no longer write anything. It never leaves the process.
func fieldsOf(o client.Object) string { return o.GetSelfLink() }
