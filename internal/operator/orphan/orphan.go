// Package orphan tells which load balancers and target groups of a cluster no object of the
// cluster owns any more. The AWS Load Balancer Controller tags what it makes with the cluster
// and with the Ingress, Service or Gateway that it made it for; by these tags alone is judged,
// and whatever they leave in doubt is kept. It looks at AWS and deletes there, but who says
// what the cluster has, and when something is deleted, is the operator.
package orphan

import (
	"fmt"
	"slices"
	"strings"
)

// The kinds of what AWS has.
const (
	LoadBalancer = "LoadBalancer"
	TargetGroup  = "TargetGroup"
)

// The tags of the AWS Load Balancer Controller.
const (
	// ClusterTag has the cluster's name on all that the controller makes.
	ClusterTag = "elbv2.k8s.aws/cluster"
	// stackEnd and resourceEnd end the tags that say for which object something was made, and
	// as which part of it.
	stackEnd, resourceEnd = "/stack", "/resource"
)

// The kinds of objects that own what AWS has.
const (
	ingress      = "Ingress"
	ingressGroup = "Ingress group"
	service      = "Service"
	gateway      = "Gateway"
)

// prefixes begin the tags of the objects' kinds.
func prefixes() map[string]string {
	return map[string]string{"ingress.k8s.aws": ingress, "service.k8s.aws": service, "gateway.k8s.aws.alb": gateway, "gateway.k8s.aws.nlb": gateway}
}

// fewOrphans may be all that there is; of more, more than half is no accident of single objects.
const fewOrphans = 3

// Resource is a load balancer or a target group.
type Resource struct {
	Kind, Name, ARN string
	Tags            map[string]string
	// LoadBalancers are the ARNs of those that lead to a target group.
	LoadBalancers []string
	// Facts are nil as long as nobody has asked for them.
	Facts *Facts
}

// Facts are what AWS is asked for of single resources.
type Facts struct {
	// Protected says that a load balancer is protected from deletion.
	Protected bool
	// Targets are registered in a target group, and Healthy of them are.
	Targets, Healthy int
}

// Cluster is what the API server has, read whole.
type Cluster struct {
	Name string
	// Ingresses, Services and Gateways are there, each as namespace/name, whatever they say.
	Ingresses, Services, Gateways map[string]bool
	// Groups are those that Ingresses name, or the parameters of their classes.
	Groups map[string]bool
	// NoGateways says that the API server does not know the kind.
	NoGateways bool
	// Bound are the ARNs and names of target groups that TargetGroupBindings name.
	Bound map[string]bool
}

// State is what a resource is.
type State int

// The states of a resource.
const (
	Owned State = iota
	Orphan
	// Kept has no owner, and is kept for another reason.
	Kept
	// NotUnderstood has tags that say nothing clear.
	NotUnderstood
)

// Finding is a resource with the cluster's tag, and what it is.
type Finding struct {
	Resource
	State
	// Owner is the object that it was made for, "" where that is not understood.
	Owner string
	Why   string
	kind  string
}

// Judgement is what all resources of a cluster are.
type Judgement struct {
	// Findings are sorted by kind and ARN.
	Findings []Finding
	// Refusal says why nothing may be deleted, "" where it may.
	Refusal string
}

// Suspects are the resources without an owner, whose Facts Judge needs.
func Suspects(all []Resource, c Cluster) []int {
	var some []int
	for i := range all {
		if all[i].Tags[ClusterTag] == c.Name && judge(&all[i], c).State == Orphan {
			some = append(some, i)
		}
	}
	return some
}

// Judge says what each resource with the cluster's tag is. Among all must be every target
// group that one of the load balancers leads to, whatever its tags.
func Judge(all []Resource, c Cluster) Judgement {
	var j Judgement
	at := map[string]int{}
	for i := range all {
		if all[i].Tags[ClusterTag] == c.Name {
			at[all[i].ARN] = len(j.Findings)
			j.Findings = append(j.Findings, judge(&all[i], c))
		}
	}
	// What a load balancer leads to must all be without an owner, whether it can be deleted or not.
	leads := map[string]string{}
	for i := range all {
		k, ours := at[all[i].ARN]
		why := ""
		switch {
		case !ours:
			why = "which is not the cluster's"
		case j.Findings[k].State != Orphan:
			why = "which is no orphan"
		case all[i].Facts == nil:
			why = "about which AWS was not asked"
		case all[i].Facts.Healthy > 0:
			why = fmt.Sprintf("which has %d healthy targets", all[i].Facts.Healthy)
		}
		for _, lb := range all[i].LoadBalancers {
			if why != "" {
				leads[lb] = fmt.Sprintf("it leads to the target group %s, %s", all[i].Name, why)
			}
		}
	}
	for i := range j.Findings {
		f := &j.Findings[i]
		switch {
		case f.State != Orphan:
		case f.Facts == nil:
			f.keep("AWS was not asked about it")
		case f.Facts.Protected:
			f.keep("it is protected from deletion: take the protection away if it is not needed")
		case f.Kind == LoadBalancer && leads[f.ARN] != "":
			f.keep(leads[f.ARN])
		}
	}
	for i := range j.Findings {
		f := &j.Findings[i]
		if f.Kind != TargetGroup || f.State != Orphan {
			continue
		}
		if f.Facts.Targets > 0 {
			f.keep(fmt.Sprintf("%d targets are registered in it: deregister them if nobody needs them", f.Facts.Targets))
			continue
		}
		for _, lb := range f.LoadBalancers {
			if k, ours := at[lb]; !ours || j.Findings[k].State != Orphan {
				f.keep("a load balancer leads to it that is no orphan: " + lb)
			}
		}
	}
	slices.SortFunc(j.Findings, func(a, b Finding) int {
		return strings.Compare(a.Kind+" "+a.ARN, b.Kind+" "+b.ARN)
	})
	j.Refusal = j.refuse(c)
	return j
}

func (f *Finding) keep(why string) { f.State, f.Why = Kept, f.Why+", but "+why }

// judge says what a resource is by its tags alone.
func judge(r *Resource, c Cluster) Finding {
	f := Finding{Resource: *r, State: NotUnderstood}
	var prefix, stack string
	for key, value := range r.Tags {
		if begin, ok := strings.CutSuffix(key, stackEnd); ok && strings.Contains(begin, "k8s.aws") {
			if prefix != "" {
				f.Why = "it has the tags of several objects"
				return f
			}
			prefix, stack = begin, value
		}
	}
	part := r.Tags[prefix+resourceEnd]
	names := strings.Split(stack, "/")
	f.kind = prefixes()[prefix]
	switch {
	case prefix == "":
		f.Why = "it has no tag that says for which object it was made"
	case f.kind == "":
		f.Why = fmt.Sprintf("dhow does not know the tag %s", prefix+stackEnd)
	case part == "" || r.Kind == LoadBalancer && part != "LoadBalancer" && part != "FrontendNlb":
		f.Why = fmt.Sprintf("its tag %s is %q", prefix+resourceEnd, part)
	case len(names) > 2 || slices.Contains(names, "") || len(names) == 1 && f.kind != ingress:
		f.Why = fmt.Sprintf("its tag %s is %q", prefix+stackEnd, stack)
	default:
		f.own(c, stack, len(names) == 1)
	}
	return f
}

// own says whether the object is there that a resource was made for.
func (f *Finding) own(c Cluster, stack string, group bool) {
	there, named := c.Services, f.kind
	switch {
	case group:
		there, named = c.Groups, ingressGroup
	case f.kind == ingress:
		there = c.Ingresses
	case f.kind == gateway:
		there = c.Gateways
	}
	f.Owner = named + " " + stack
	if there[stack] {
		f.State = Owned
		return
	}
	f.State, f.Why = Orphan, "the "+f.Owner+" is not there"
	switch {
	case f.kind == gateway && c.NoGateways:
		f.keep("nor is the kind any more, so that nobody can say what there was")
	case f.Kind == TargetGroup && f.bound(c):
		f.keep("a TargetGroupBinding names it")
	}
}

func (f *Finding) bound(c Cluster) bool { return c.Bound[f.ARN] || c.Bound[f.Name] }

// refuse says why what was seen is not to be trusted: the name may be another cluster's, and
// many owners do not go at once.
func (j *Judgement) refuse(c Cluster) string {
	const all = ""
	ours, orphans := map[string]int{}, map[string]int{}
	proof := false
	for i := range j.Findings {
		f := &j.Findings[i]
		proof = proof || f.Kind == TargetGroup && f.bound(c)
		for _, kind := range slices.Compact([]string{all, f.kind}) {
			ours[kind]++
			if f.State == Orphan {
				orphans[kind]++
			}
		}
	}
	if orphans[all] == 0 {
		return ""
	}
	if !proof {
		return fmt.Sprintf("nothing shows that this cluster's name is %s: no TargetGroupBinding names a target group whose tag %s says so", c.Name, ClusterTag)
	}
	for _, kind := range []string{all, ingress, service, gateway} {
		if n := orphans[kind]; n > fewOrphans && 2*n > ours[kind] {
			of := "all that is tagged with the cluster's name"
			if kind != all {
				of = "what was made for objects of kind " + kind
			}
			return fmt.Sprintf("%d of %d would be orphans, of %s: so it looks too where a cluster was restored, or is another", n, ours[kind], of)
		}
	}
	return ""
}

// Orphan is what was found of an ARN, nil where it is no orphan that may be deleted.
func (j *Judgement) Orphan(arn string) *Finding {
	i := slices.IndexFunc(j.Findings, func(f Finding) bool { return f.ARN == arn && f.State == Orphan })
	if i < 0 || j.Refusal != "" {
		return nil
	}
	return &j.Findings[i]
}
