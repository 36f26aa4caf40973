package expose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// Undo leads everybody the old way again, and removes what was made. It may be killed and
// called again at any time.
func Undo(ctx context.Context, c Cluster, op Operator, o Options) (*Progress, error) {
	r, err := open(ctx, c, op, o, true)
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.have) == 0:
		if swept, err := r.sweep(ctx); err != nil || swept {
			return r.progress(), err
		}
		return nil, wrong("no conversion of %s has begun: there is nothing to take back", r.from())
	case r.source == nil, r.step == StepDone:
		return nil, fmt.Errorf("%s is removed already, so that there is no way back to it: make it anew from where it is kept, before you remove its Exposures", r.from())
	}
	r.Wish = r.wish
	r.conv = &Conversion{Kind: r.kind(), Namespace: r.Namespace, Name: r.Name, Carried: []Item{}, Lost: []Item{}, TTL: defaultTTL, ByHand: r.hand}
	for _, name := range sorted(r.have) {
		e := r.have[name]
		r.conv.Exposures = append(r.conv.Exposures, e)
		if d := e.Spec.DNS; d != nil && d.TTL != nil {
			r.conv.TTL = d.TTL.Duration
		}
	}
	if r.step == StepWeigh || r.step == StepDrain || r.step == StepRemove {
		if r.hand == "" {
			if err := r.allOld(ctx); err != nil {
				return r.progress(), err
			}
			r.say(StepUndo, "weights are %d/0 of old/new", allWeight)
		}
		if err := r.keep(ctx, StepUndo, allWeight); err != nil {
			return r.progress(), err
		}
		if r.hand != "" {
			p := r.progress()
			p.Next = r.byHand(allWeight) + " with --undo"
			return p, nil
		}
	}
	err = r.takeBack(ctx)
	if err == nil {
		r.state = state{weight: allWeight}
	}
	return r.progress(), err
}

// takeBack removes what was made, once nobody comes that way any more.
func (r *run) takeBack(ctx context.Context) error {
	if r.step == StepUndo {
		end := r.since.Add(r.conv.TTL)
		if time.Now().Before(end) {
			r.say(StepUndo, "names are remembered for %s: waiting until %s", r.conv.TTL, end.Format(time.TimeOnly))
		}
		if err := sleep(ctx, time.Until(end)); err != nil {
			return err
		}
	}
	if r.hand == "" {
		// The new way's names go first, so that the old one's is never one of two alike.
		for _, e := range r.conv.Exposures {
			if r.step != StepUndo { // it has never been told
				break
			}
			if err := r.unpublish(ctx, e); err != nil {
				return err
			}
		}
		version, kind, o := r.old()
		if err := r.note(ctx, version, kind, o, Manager, nil); err != nil {
			return err
		}
	}
	names := sorted(r.have)
	slices.Reverse(names) // the first holds where it stands
	for _, name := range names {
		if err := r.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// unpublish lets external-dns forget one Exposure.
func (r *run) unpublish(ctx context.Context, e *v1alpha1.Exposure) error {
	want, err := plain(r.marked(e)) // whose step is none of those that are told
	if err != nil {
		return err
	}
	if err := Apply(ctx, r.c, want.Object); err != nil {
		return err
	}
	err = until(ctx, r.Wait, func(ctx context.Context) (bool, error) {
		now := &v1alpha1.Exposure{}
		if err := r.c.Get(ctx, client.ObjectKeyFromObject(e), now); err != nil {
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		}
		silent := true
		err := r.eachNamed(ctx, now, func(_ v1alpha1.Object, o *metav1.PartialObjectMetadata) error {
			silent = silent && o.Annotations[controllerNote] != ""
			return nil
		})
		if apierrors.IsNotFound(err) {
			return false, nil // it is being made anew
		}
		return silent, err
	})
	if errors.Is(err, errTime) {
		return fmt.Errorf("wait until the names of Exposure %s are told no more: its routes still tell them after %s: see that the operator runs, and call again", e.Name, r.Wait)
	}
	return err
}

// drop removes one Exposure, with which goes all that was made of it. Its policy goes before
// the one that keeps the pods open does, so that they are never shut.
func (r *run) drop(ctx context.Context, name string) error {
	e := r.have[name]
	uid := e.UID
	if err := r.c.Delete(ctx, e, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove Exposure %s: %w", name, err)
	}
	if err := r.dropPolicies(ctx, name); err != nil {
		return err
	}
	r.say(StepUndo, "removed Exposure %s", name)
	delete(r.have, name)
	return nil
}

// dropPolicies removes the policy of an Exposure that is gone, and then the one beside it.
func (r *run) dropPolicies(ctx context.Context, exposure string) error {
	for _, name := range []string{exposure, exposure + openSuffix} {
		p := &networkingv1.NetworkPolicy{}
		err := r.c.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, p)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read NetworkPolicy %s: %w", name, err)
		}
		if p.Labels[render.ExposureLabel] != exposure && p.Annotations[FromNote] != r.from() {
			continue
		}
		uid := p.UID
		if err := r.c.Delete(ctx, p, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove NetworkPolicy %s: %w", name, err)
		}
	}
	return nil
}

// sweep removes what is left where the end of a conversion was killed after its Exposures
// were gone, and says whether there was anything.
func (r *run) sweep(ctx context.Context) (bool, error) {
	all := &networkingv1.NetworkPolicyList{}
	if err := r.c.List(ctx, all, client.InNamespace(r.Namespace)); err != nil {
		return false, fmt.Errorf("list the NetworkPolicies of namespace %s: %w", r.Namespace, err)
	}
	found := false
	for i := range all.Items {
		p := &all.Items[i]
		exposure, open := strings.CutSuffix(p.Name, openSuffix)
		if !open || p.Annotations[FromNote] != r.from() {
			continue
		}
		found = true
		if err := r.dropPolicies(ctx, exposure); err != nil {
			return found, err
		}
	}
	return found, nil
}

// keepOpen lets everybody come to pods that no NetworkPolicy holds yet, as before: the
// Exposure's own would keep out who comes by the old way. It stays, for nobody knows here who
// else calls; who does can remove it.
func (r *run) keepOpen(ctx context.Context, e *v1alpha1.Exposure, made []*unstructured.Unstructured) error {
	var pods map[string]string
	for _, o := range made {
		if o.GetKind() == "NetworkPolicy" {
			var err error
			if pods, _, err = unstructured.NestedStringMap(o.Object, "spec", "podSelector", "matchLabels"); err != nil {
				return fmt.Errorf("read NetworkPolicy %s: %w", o.GetName(), err)
			}
		}
	}
	if len(pods) == 0 {
		return nil
	}
	all := &networkingv1.NetworkPolicyList{}
	if err := r.c.List(ctx, all, client.InNamespace(e.Namespace)); err != nil {
		return fmt.Errorf("list the NetworkPolicies of namespace %s: %w", e.Namespace, err)
	}
	name := e.Name + openSuffix
	for i := range all.Items {
		p := &all.Items[i]
		switch {
		case p.Name == name && p.Annotations[FromNote] == r.from(), p.Labels[render.ExposureLabel] == e.Name:
			continue
		case p.Name == name:
			return fmt.Errorf("there is a NetworkPolicy %s already, which is not of this conversion: rename it", name)
		}
		in := len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if in && err == nil && selector.Matches(labels.Set(pods)) {
			return nil // who may come is said already, and the Exposure's policy adds to it
		}
	}
	u, err := render.Plain(&networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name, Annotations: map[string]string{FromNote: r.from()}},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: pods}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}})
	if err != nil {
		return err
	}
	return failed("NetworkPolicy "+name, r.c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Manager)))
}

// sleep waits.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
