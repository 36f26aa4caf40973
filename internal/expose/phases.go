package expose

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

func (r *run) tellMake() []string {
	var all []string
	for _, e := range r.conv.Exposures {
		all = append(all, fmt.Sprintf("apply Exposure %s beside %s: %s %s by Service %s, %s, external-dns told nothing yet", e.Name, r.from(), e.Spec.Workload.Kind, e.Spec.Workload.Name, e.Spec.Service.Existing, e.Spec.Visibility))
	}
	return append(all, "where no NetworkPolicy holds the pods yet, one that keeps them as open as they are")
}

// make makes the Exposures beside the old object.
func (r *run) make(ctx context.Context) error {
	for _, e := range r.conv.Exposures {
		if err := r.makeOne(ctx, e); err != nil {
			return err
		}
		if r.step == "" { // what a person has said is not to be said again
			if err := r.keep(ctx, StepMake, allWeight); err != nil {
				return err
			}
		}
	}
	if r.step == StepMake {
		return r.keep(ctx, StepReady, allWeight)
	}
	return nil
}

func (r *run) makeOne(ctx context.Context, e *v1alpha1.Exposure) error {
	e = r.marked(e)
	out, err := r.op.Render(ctx, e)
	var refused *render.WrongError
	if errors.As(err, &refused) {
		return fmt.Errorf("the operator would not accept the Exposure %s: %s", e.Name, refused.Text)
	}
	if err != nil {
		return err
	}
	for _, o := range out.Objects {
		against, err := r.op.MayMake(ctx, e, o)
		if err != nil {
			return err
		}
		if against != "" {
			return fmt.Errorf("the Exposure %s would need a name that is taken: %s", e.Name, against)
		}
	}
	if err := r.keepOpen(ctx, e, out.Objects); err != nil {
		return err
	}
	want, err := plain(e)
	if err != nil {
		return err
	}
	if err := Apply(ctx, r.c, want.Object); err != nil {
		return err
	}
	now := &v1alpha1.Exposure{}
	if err := r.c.Get(ctx, client.ObjectKeyFromObject(e), now); err != nil {
		return fmt.Errorf("read Exposure %s: %w", e.Name, err)
	}
	if r.have[e.Name] == nil {
		r.say(StepMake, "made Exposure %s beside %s", e.Name, r.from())
	}
	r.have[e.Name] = now
	return nil
}

func (r *run) tellReady() []string {
	return []string{fmt.Sprintf("wait %s at most until they are ready and their load balancers answer", r.Wait)}
}

// ready waits until the new way serves.
func (r *run) ready(ctx context.Context) error {
	for _, name := range r.names() {
		if err := r.await(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// names are the Exposures' of the conversion.
func (r *run) names() []string {
	var all []string
	for _, e := range r.conv.Exposures {
		all = append(all, e.Name)
	}
	return all
}

// await waits until one Exposure is ready, and answers.
func (r *run) await(ctx context.Context, name string) error {
	e, err := Await(ctx, r.c, r.Namespace, name, r.Wait, nil)
	if err != nil {
		return err
	}
	r.have[name] = e
	if r.Probe == nil {
		return nil
	}
	for _, t := range targets(e) {
		var last error
		err := until(ctx, r.Wait, func(ctx context.Context) (bool, error) {
			last = r.Probe(ctx, t)
			return last == nil, nil
		})
		if errors.Is(err, errTime) {
			return fmt.Errorf("wait for Exposure %s: it does not answer: %w: mend that, or call with --skip-health where its load balancer can not be reached from here", name, last)
		}
		if err != nil {
			return err
		}
		if r.step == StepReady {
			r.say(StepReady, "%s answers", t)
		}
	}
	return nil
}

func (r *run) tellDrain() []string {
	text := fmt.Sprintf("wait %s, for which names are remembered", r.conv.TTL)
	if r.Traffic != nil {
		return []string{text, fmt.Sprintf("wait until nobody comes the old way any more, %s at most", r.Wait)}
	}
	return []string{text}
}

// drain waits until the old way is forgotten.
func (r *run) drain(ctx context.Context) error {
	if r.passed(StepDrain) {
		return nil
	}
	end := r.since.Add(r.conv.TTL)
	if time.Now().Before(end) {
		r.say(StepDrain, "names are remembered for %s: waiting until %s", r.conv.TTL, end.Format(time.TimeOnly))
	}
	if err := r.stay(ctx, end); err != nil {
		return err
	}
	if r.Traffic != nil {
		var last float64
		err := until(ctx, r.Wait, func(ctx context.Context) (bool, error) {
			n, err := r.Traffic(ctx)
			last = n
			return err == nil && n < quiet, err
		})
		if errors.Is(err, errTime) {
			return fmt.Errorf("wait for the end of traffic to %s: %.2f requests a second still come after %s: find out who they are, and call again", r.from(), last, r.Wait)
		}
		if err != nil {
			return err
		}
		r.say(StepDrain, "nobody comes by %s any more", r.from())
	}
	return r.keep(ctx, StepRemove, 0)
}

func (r *run) tellRemove() []string {
	what := "delete " + r.from()
	if r.source.Service != nil {
		what = fmt.Sprintf("make %s one of type ClusterIP, by which it is still called inside of the cluster", r.from())
	}
	if r.Remove == "" {
		return []string{what + ": only with --remove " + strings.ToLower(r.kind()) + "/" + r.Name}
	}
	return []string{what}
}

// remove takes the old way away.
func (r *run) remove(ctx context.Context) error {
	if r.Remove == "" {
		looks := "see that nobody comes that way any more, and "
		if r.Traffic != nil {
			looks = ""
		}
		return pause("everybody is led the new way: %sremove the old one with --remove %s/%s, or go back with --undo", looks, strings.ToLower(r.kind()), r.Name)
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	if err := r.led(ctx); err != nil {
		return err
	}
	if r.source.Ingress != nil {
		uid := r.source.Ingress.UID
		if err := r.c.Delete(ctx, r.source.Ingress, client.Preconditions{UID: &uid}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove %s: %w", r.from(), err)
		}
	} else if err := r.closeService(ctx); err != nil {
		return err
	}
	r.say(StepRemove, "removed the old way, %s", r.from())
	return r.keep(ctx, StepDone, 0)
}

// led waits until the DNS leads the names to the new way: who sets it may have been told, and
// not have done it.
func (r *run) led(ctx context.Context) error {
	if r.Leads == nil {
		return nil
	}
	for _, name := range r.names() {
		e := r.have[name]
		for _, h := range e.Spec.Hosts {
			host := strings.Replace(string(h), "*", anyLabel, 1)
			var last error
			err := until(ctx, r.Wait, func(ctx context.Context) (bool, error) {
				last = r.Leads(ctx, host, e.Status.LoadBalancers)
				return last == nil, nil
			})
			if errors.Is(err, errTime) {
				return fmt.Errorf("wait until names lead the new way: %w: see that external-dns sets them, or call with --skip-health where they can not be looked up from here", last)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// closeService leaves a Service to the inside of the cluster alone.
func (r *run) closeService(ctx context.Context) error {
	s := &corev1.Service{}
	if err := r.c.Get(ctx, client.ObjectKeyFromObject(r.source.Service), s); err != nil {
		return fmt.Errorf("read %s: %w", r.from(), err)
	}
	was := s.DeepCopy()
	s.Spec.Type = corev1.ServiceTypeClusterIP
	s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts, s.Spec.LoadBalancerSourceRanges = nil, nil, nil
	s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = "", 0
	s.Spec.LoadBalancerIP = ""
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = 0
	}
	for k := range s.Annotations {
		if strings.HasPrefix(k, dnsPrefix) || strings.HasPrefix(k, elb.NLBPrefix) {
			delete(s.Annotations, k)
		}
	}
	if err := r.c.Patch(ctx, s, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{}), client.FieldOwner(Manager)); err != nil {
		return fmt.Errorf("make %s one of type ClusterIP: %w", r.from(), err)
	}
	return nil
}
