package expose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
)

func (r *run) tellWeigh() []string {
	if r.conv.ByHand != "" {
		return []string{"the names are moved by hand: " + r.conv.ByHand, "tell the weights to set, " + r.ladder() + ", one a call"}
	}
	return []string{
		fmt.Sprintf("give %s the annotations %s=%s and %s=%d, and the new routes %s=%s and %s=0, then let external-dns publish both", r.from(), identifierNote, oldIdentifier, weightOfNote, allWeight, identifierNote, newIdentifier, weightOfNote),
		fmt.Sprintf("shift the weights, old/new %s, every %s, as long as the new way is ready", r.ladder(), r.Every),
	}
}

// ladder are the weights as old/new.
func (r *run) ladder() string {
	var parts []string
	for _, w := range r.Weights {
		parts = append(parts, fmt.Sprintf("%d/%d", w, allWeight-w))
	}
	return strings.Join(parts, ", ")
}

// weigh shifts the weights of names from the old way to the new.
func (r *run) weigh(ctx context.Context) error {
	if r.passed(StepWeigh) {
		return nil
	}
	if r.conv.ByHand != "" {
		return r.weighByHand(ctx)
	}
	if r.step != StepWeigh {
		// Both names are told apart before the new one is heard of at all.
		if err := r.setWeights(ctx, allWeight); err != nil {
			return err
		}
		if err := r.keep(ctx, StepWeigh, allWeight); err != nil {
			return err
		}
		r.say(StepWeigh, "weights are %d/0 of old/new", allWeight)
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	for _, w := range r.Weights {
		if w >= r.weight {
			continue
		}
		if r.weight < allWeight {
			if err := r.stay(ctx, r.since.Add(r.Every)); err != nil {
				return err
			}
		}
		if err := r.ready(ctx); err != nil {
			return err
		}
		if err := r.setWeights(ctx, w); err != nil {
			return err
		}
		if err := r.keep(ctx, StepWeigh, w); err != nil {
			return err
		}
		r.say(StepWeigh, "weights are %d/%d of old/new", w, allWeight-w)
	}
	return r.weighed(ctx)
}

// weighed goes on where the old way has nothing left.
func (r *run) weighed(ctx context.Context) error {
	if r.weight > 0 {
		return pause("the weights end at %d/%d: call again with others in --weights, down to 0", r.weight, allWeight-r.weight)
	}
	return r.keep(ctx, StepDrain, 0)
}

// publish lets external-dns hear of the new way, whose weight is told already.
func (r *run) publish(ctx context.Context) error {
	for _, e := range r.conv.Exposures {
		if err := r.makeOne(ctx, e); err != nil {
			return err
		}
		if err := r.await(ctx, e.Name); err != nil {
			return err
		}
		// A route that was made anew meanwhile has lost its weight.
		if err := r.weighNew(ctx, r.have[e.Name], allWeight-r.weight); err != nil {
			return err
		}
	}
	return nil
}

// setWeights sets the old way's weight, and the new one's to the rest: first the one that grows.
func (r *run) setWeights(ctx context.Context, old int) error {
	grows := func() error {
		for _, name := range r.names() {
			if err := r.weighNew(ctx, r.have[name], allWeight-old); err != nil {
				return err
			}
		}
		return nil
	}
	if old < r.weight {
		if err := grows(); err != nil {
			return err
		}
		return r.weighOld(ctx, old)
	}
	if err := r.weighOld(ctx, old); err != nil {
		return err
	}
	return grows()
}

// weighOld sets the old way's weight.
func (r *run) weighOld(ctx context.Context, weight int) error {
	version, kind, o := r.old()
	return r.note(ctx, version, kind, o, Manager, map[string]string{identifierNote: oldIdentifier, weightOfNote: strconv.Itoa(weight)})
}

func (r *run) old() (version, kind string, o client.Object) {
	if r.source.Ingress != nil {
		return "networking.k8s.io/v1", "Ingress", r.source.Ingress
	}
	return "v1", "Service", r.source.Service
}

// weighNew sets the weight of what the operator made of an Exposure and external-dns looks at.
func (r *run) weighNew(ctx context.Context, e *v1alpha1.Exposure, weight int) error {
	notes := map[string]string{identifierNote: newIdentifier, weightOfNote: strconv.Itoa(weight)}
	return r.eachNamed(ctx, e, func(x v1alpha1.Object, o *metav1.PartialObjectMetadata) error {
		return r.note(ctx, x.APIVersion, x.Kind, o, Manager, notes)
	})
}

// eachNamed goes through what the operator made of an Exposure and external-dns looks at.
func (r *run) eachNamed(ctx context.Context, e *v1alpha1.Exposure, do func(v1alpha1.Object, *metav1.PartialObjectMetadata) error) error {
	for _, x := range e.Status.Objects {
		if !strings.HasSuffix(x.Kind, "Route") && x.Kind != "Ingress" && x.Kind != "Service" {
			continue
		}
		o := &metav1.PartialObjectMetadata{}
		o.APIVersion, o.Kind = x.APIVersion, x.Kind
		if err := r.c.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: x.Name}, o); err != nil {
			return fmt.Errorf("read %s %s: %w", x.Kind, x.Name, err)
		}
		if err := do(x, o); err != nil {
			return err
		}
	}
	return nil
}

// weighByHand tells the next weight; the call after says that it was set.
func (r *run) weighByHand(ctx context.Context) error {
	for _, w := range r.Weights {
		if w >= r.weight {
			continue
		}
		if err := r.ready(ctx); err != nil {
			return err
		}
		if err := r.keep(ctx, StepWeigh, w); err != nil {
			return err
		}
		return pause("%s", r.byHand(w))
	}
	return r.weighed(ctx)
}

// byHand says what a person sets.
func (r *run) byHand(weight int) string {
	var names []string
	var to []string
	for _, e := range r.conv.Exposures {
		for _, h := range e.Spec.Hosts {
			names = append(names, string(h))
		}
		if have := r.have[e.Name]; have != nil {
			to = append(to, have.Status.LoadBalancers...)
		}
	}
	slices.Sort(names)
	slices.Sort(to)
	who := strings.Join(slices.Compact(names), ", ")
	if who == "" {
		who = "whoever calls " + r.from()
	}
	return fmt.Sprintf("lead %s with weight %d to %s, and with weight %d to what leads to %s today (%s); when that is done, call again", who, allWeight-weight, strings.Join(slices.Compact(to), ", "), weight, r.from(), r.conv.ByHand)
}

// stay waits until a time, and puts the weights back if what is new is not well meanwhile.
func (r *run) stay(ctx context.Context, end time.Time) error {
	var since time.Time
	err := until(ctx, max(0, time.Until(end)), func(ctx context.Context) (bool, error) {
		if !time.Now().Before(end) {
			return true, nil
		}
		bad := ""
		for _, name := range r.names() {
			e := &v1alpha1.Exposure{}
			if err := r.c.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, e); err != nil {
				if apierrors.IsNotFound(err) {
					bad = "the Exposure " + name + " is gone"
				}
				continue // who does not answer now is asked again
			}
			if !ready(e) {
				bad = "the Exposure " + name + " is not ready"
			}
		}
		switch {
		case bad == "":
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= unwell:
			return false, r.fallBack(ctx, bad)
		}
		return false, nil
	})
	if errors.Is(err, errTime) {
		return nil
	}
	return err
}

// fallBack leads everybody the old way again.
func (r *run) fallBack(ctx context.Context, why string) error {
	if r.conv.ByHand != "" {
		return fmt.Errorf("%s: mend that, or lead everybody the old way again with --undo", why)
	}
	if err := r.allOld(ctx); err != nil {
		return fmt.Errorf("%s, and the weights can not be put back: %w", why, err)
	}
	if err := r.keep(ctx, StepWeigh, allWeight); err != nil {
		return fmt.Errorf("%s: the weights are %d/0 of old/new again, which can not be written down: %w", why, allWeight, err)
	}
	return fmt.Errorf("%s: the weights are %d/0 of old/new again: mend that and call again, or go back with --undo", why, allWeight)
}

// allOld gives the old way all of the weight, also where what is new is gone.
func (r *run) allOld(ctx context.Context) error {
	if err := r.weighOld(ctx, allWeight); err != nil {
		return err
	}
	for _, name := range r.names() {
		if e := r.have[name]; e != nil {
			if err := r.weighNew(ctx, e, 0); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
	}
	return nil
}
