package expose

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
)

// The kinds of what is converted, as they are typed.
const (
	FromIngress      = "ingress"
	FromNodePort     = "nodeport"
	FromLoadBalancer = "loadbalancer"
)

// Froms are all of them.
func Froms() []string { return []string{FromIngress, FromNodePort, FromLoadBalancer} }

// Read reads an object that is to be converted, and what it leads to. The Source is nil where
// there is no such object any more.
func Read(ctx context.Context, c Cluster, o Operator, from, namespace, name string) (*Source, error) {
	s := &Source{Policy: o.Policy(), Services: map[string]*corev1.Service{}, Workloads: map[string]v1alpha1.Workload{}}
	at := client.ObjectKey{Namespace: namespace, Name: name}
	switch from {
	case FromIngress:
		s.Ingress = &networkingv1.Ingress{}
		if err := c.Get(ctx, at, s.Ingress); err != nil {
			return nil, absent(err, "Ingress", name)
		}
		var err error
		if s.Controller, err = controllerOf(ctx, c, s.Ingress); err != nil {
			return nil, err
		}
	case FromNodePort, FromLoadBalancer:
		s.Service = &corev1.Service{}
		if err := c.Get(ctx, at, s.Service); err != nil {
			return nil, absent(err, "Service", name)
		}
	default:
		return nil, wrong("%q can not be converted: want one of %s", from, strings.Join(Froms(), ", "))
	}
	if s.Service != nil {
		var err error
		if s.ByNodes, err = byNodes(ctx, c, s.Service); err != nil {
			return nil, err
		}
	}
	services := &corev1.ServiceList{}
	if err := c.List(ctx, services, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the Services of namespace %s: %w", namespace, err)
	}
	all, err := o.Workloads(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for i := range services.Items {
		x := &services.Items[i]
		s.Services[x.Name] = x
		if w := behind(x, all); w != nil {
			s.Workloads[x.Name] = *w
		}
	}
	return s, nil
}

// byNodes are the Ingresses of ALBs that reach a Service's pods by the ports of nodes, which
// is what their controller does where nothing else is said.
func byNodes(ctx context.Context, c Cluster, s *corev1.Service) ([]string, error) {
	all := &networkingv1.IngressList{}
	if err := c.List(ctx, all, client.InNamespace(s.Namespace)); err != nil {
		return nil, fmt.Errorf("list the Ingresses of namespace %s: %w", s.Namespace, err)
	}
	var names []string
	for i := range all.Items {
		in := &all.Items[i]
		if in.Annotations[albPrefix+"target-type"] == "ip" || !leadsTo(in, s.Name) {
			continue
		}
		by, err := controllerOf(ctx, c, in)
		if err != nil {
			return nil, err
		}
		if by == ALB {
			names = append(names, in.Name)
		}
	}
	return names, nil
}

func leadsTo(in *networkingv1.Ingress, service string) bool {
	is := func(b *networkingv1.IngressBackend) bool {
		return b != nil && b.Service != nil && b.Service.Name == service
	}
	return is(in.Spec.DefaultBackend) || slices.ContainsFunc(in.Spec.Rules, func(r networkingv1.IngressRule) bool {
		return r.HTTP != nil && slices.ContainsFunc(r.HTTP.Paths, func(p networkingv1.HTTPIngressPath) bool { return is(&p.Backend) })
	})
}

// absent makes nothing of what is not there.
func absent(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("read %s %s: %w", kind, name, err)
}

// behind is the one workload to whose pods a Service leads, nil where there is none or several.
func behind(s *corev1.Service, all []client.Object) *v1alpha1.Workload {
	if len(s.Spec.Selector) == 0 {
		return nil
	}
	var found []v1alpha1.Workload
	for _, o := range all {
		var pods map[string]string
		w := v1alpha1.Workload{Name: o.GetName()}
		switch x := o.(type) {
		case *appsv1.Deployment:
			w.Kind, pods = "Deployment", x.Spec.Template.Labels
		case *appsv1.StatefulSet:
			w.Kind, pods = "StatefulSet", x.Spec.Template.Labels
		}
		if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pods)) {
			found = append(found, w)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return &found[0]
}

// The controllers by what their classes name.
const (
	albController   = "ingress.k8s.aws/alb"
	autoController  = "eks.amazonaws.com/alb" // of clusters that EKS runs by itself
	nginxController = "k8s.io/ingress-nginx"
	classNote       = "kubernetes.io/ingress.class"
	defaultClass    = "ingressclass.kubernetes.io/is-default-class"
)

// controllerOf is what serves an Ingress: by its class, or by the class' name where that may
// not be read.
func controllerOf(ctx context.Context, c Cluster, in *networkingv1.Ingress) (Controller, error) {
	classes := &networkingv1.IngressClassList{}
	if err := c.List(ctx, classes); err != nil && !apierrors.IsForbidden(err) {
		return "", fmt.Errorf("list the classes of Ingresses: %w", err)
	}
	return controllerAmong(in, classes.Items), nil
}

func controllerAmong(in *networkingv1.Ingress, classes []networkingv1.IngressClass) Controller {
	name := ptr.Deref(in.Spec.IngressClassName, in.Annotations[classNote])
	at := slices.IndexFunc(classes, func(k networkingv1.IngressClass) bool {
		return k.Name == name || name == "" && k.Annotations[defaultClass] == yes
	})
	serves := name
	if at >= 0 {
		serves = classes[at].Spec.Controller
	}
	switch serves {
	case albController, autoController, string(ALB):
		return ALB
	case nginxController, string(NGINX):
		return NGINX
	}
	return Other
}

// Names are those that could be named: of workloads, or where from says so of what could be
// converted.
func Names(ctx context.Context, c client.Reader, from, namespace string) ([]string, error) {
	var names []string
	var lists []client.ObjectList
	switch from {
	case FromIngress:
		lists = append(lists, &networkingv1.IngressList{})
	case FromNodePort, FromLoadBalancer:
		lists = append(lists, &corev1.ServiceList{})
	default:
		lists = append(lists, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{})
	}
	for _, l := range lists {
		if err := c.List(ctx, l, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list what namespace %s has: %w", namespace, err)
		}
		err := meta.EachListItem(l, func(x runtime.Object) error {
			if s, ok := x.(*corev1.Service); ok && !strings.EqualFold(string(s.Spec.Type), from) {
				return nil
			}
			if o, ok := x.(client.Object); ok {
				names = append(names, o.GetName())
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list what namespace %s has: %w", namespace, err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
