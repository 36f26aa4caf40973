package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

// The reasons of the condition Programmed.
const (
	reasonPending  = "Pending"
	reasonRejected = "Rejected"
)

// ask reads what AWS's controller says of the routes, and of the load balancers before them.
func (r *reconciler) ask(ctx context.Context, s *state) error {
	s.programmed = metav1.Condition{Type: v1alpha1.Programmed}
	say := func(status metav1.ConditionStatus, reason, text string) {
		s.programmed.Status, s.programmed.Reason, s.programmed.Message = status, reason, text
	}
	if !s.out.Gated {
		say(metav1.ConditionTrue, "NotNeeded", "no load balancer leads to it")
		s.Status.LoadBalancers = nil
		return nil
	}
	have, err := r.there(ctx, s)
	if err != nil {
		return err
	}
	var names []string
	for _, want := range s.out.Objects {
		o := have[want.GetKind()+"/"+want.GetName()]
		var parents []gatewayv1.RouteParentStatus
		switch x := o.(type) {
		case *gatewayv1.HTTPRoute:
			parents = x.Status.Parents
		case *gatewayv1.GRPCRoute:
			parents = x.Status.Parents
		case *gatewayv1.TCPRoute:
			parents = x.Status.Parents
		case *gatewayv1.UDPRoute:
			parents = x.Status.Parents
		case *networkingv1.Ingress:
			found := hostsOfIngress(x.Status.LoadBalancer.Ingress)
			if len(found) == 0 {
				say(metav1.ConditionFalse, reasonPending, "the AWS Load Balancer Controller has made no load balancer of the Ingress yet: its events say why")
				return nil
			}
			names = append(names, found...)
			continue
		case *corev1.Service:
			if x.Spec.Type != corev1.ServiceTypeLoadBalancer {
				continue
			}
			if len(x.Status.LoadBalancer.Ingress) == 0 {
				say(metav1.ConditionFalse, reasonPending, "the AWS Load Balancer Controller has made no load balancer of the Service yet: its events say why")
				return nil
			}
			for _, i := range x.Status.LoadBalancer.Ingress {
				names = append(names, i.Hostname+i.IP)
			}
			continue
		case nil:
			if strings.HasSuffix(want.GetKind(), "Route") {
				say(metav1.ConditionFalse, reasonPending, want.GetKind()+" "+want.GetName()+" has only just been made")
				return nil
			}
			continue
		default:
			continue
		}
		if reason, text := routeState(parents, o); reason != "" {
			say(metav1.ConditionFalse, reason, text)
			return nil
		}
	}
	for _, d := range s.out.Demands {
		found, reason, text, err := r.gatewayState(ctx, d.Scope)
		if err != nil {
			return err
		}
		if reason != "" {
			say(metav1.ConditionFalse, reason, text)
			return nil
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	s.Status.LoadBalancers = names
	if s.Status.Address == "" && len(names) > 0 {
		s.Status.Address = names[0]
	}
	say(metav1.ConditionTrue, "Programmed", "the load balancer is "+strings.Join(names, ", "))
	return nil
}

func hostsOfIngress(all []networkingv1.IngressLoadBalancerIngress) []string {
	var names []string
	for _, i := range all {
		names = append(names, i.Hostname+i.IP)
	}
	return names
}

// routeState says what is wrong with a route; "" is nothing.
func routeState(parents []gatewayv1.RouteParentStatus, o client.Object) (reason, text string) {
	mine := slices.DeleteFunc(slices.Clone(parents), func(p gatewayv1.RouteParentStatus) bool {
		return p.ControllerName != elb.ALBController && p.ControllerName != elb.NLBController
	})
	if len(mine) == 0 {
		return reasonPending, fmt.Sprintf("the AWS Load Balancer Controller has not answered for %s yet", describe(o))
	}
	for _, p := range mine {
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			c := meta.FindStatusCondition(p.Conditions, string(kind))
			switch {
			case c == nil || c.ObservedGeneration < o.GetGeneration() && c.ObservedGeneration != 0 || c.Status == metav1.ConditionUnknown:
				return reasonPending, fmt.Sprintf("the AWS Load Balancer Controller has not answered for %s yet", describe(o))
			case c.Status == metav1.ConditionFalse:
				return reasonRejected, fmt.Sprintf("AWS's controller says of %s: %s: %s", describe(o), c.Reason, c.Message)
			}
		}
	}
	return "", ""
}

// gatewayState are a shared Gateway's addresses, or why it has none.
func (r *reconciler) gatewayState(ctx context.Context, s render.Scope) (names []string, reason, text string, err error) {
	g := &gatewayv1.Gateway{}
	if err := r.client.Get(ctx, client.ObjectKey{Namespace: r.policy.Namespace, Name: s.Name()}, g, client.UnsafeDisableDeepCopy); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, reasonPending, fmt.Sprintf("the Gateway %s is not made yet", s.Name()), nil
		}
		return nil, "", "", fmt.Errorf("read the Gateway %s: %w", s.Name(), err)
	}
	for _, kind := range []gatewayv1.GatewayConditionType{gatewayv1.GatewayConditionAccepted, gatewayv1.GatewayConditionProgrammed} {
		c := meta.FindStatusCondition(g.Status.Conditions, string(kind))
		switch {
		case c == nil || c.Status == metav1.ConditionUnknown:
			return nil, reasonPending, fmt.Sprintf("the AWS Load Balancer Controller has not answered for the Gateway %s yet", s.Name()), nil
		case c.Status == metav1.ConditionFalse && c.Reason == string(gatewayv1.GatewayReasonPending):
			return nil, reasonPending, fmt.Sprintf("the load balancer of the Gateway %s is being made: %s", s.Name(), c.Message), nil
		case c.Status == metav1.ConditionFalse:
			return nil, reasonRejected, fmt.Sprintf("AWS's controller says of the Gateway %s: %s: %s", s.Name(), c.Reason, c.Message), nil
		}
	}
	for _, a := range g.Status.Addresses {
		names = append(names, a.Value)
	}
	if len(names) == 0 {
		return nil, reasonPending, fmt.Sprintf("the Gateway %s has no address yet", s.Name()), nil
	}
	return names, "", "", nil
}
