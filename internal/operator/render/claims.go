package render

import (
	"encoding/json"
	"fmt"
	"slices"

	"dhow/api/v1alpha1"
)

// Claim is something of which there is one for all Exposures: a path of a host, a port of a
// load balancer of connections, a setting of a shared load balancer. Who claimed it first
// has it; another has it too if it claims the same Value.
type Claim struct {
	Key, Value string
	// What is it in words.
	What string
}

// Claims are an Exposure's, in the order of its fields.
func Claims(e *v1alpha1.Exposure, p Policy) []Claim {
	s := &e.Spec
	if s.Visibility != v1alpha1.Public && s.Visibility != v1alpha1.Private {
		return nil
	}
	me := e.Namespace + "/" + e.Name
	scope := Scope{Public: s.Visibility == v1alpha1.Public}.Name()
	var all []Claim
	requests := len(s.Ports) == 0
	for _, x := range s.Ports {
		one := port{number: x.Port, protocol: x.Protocol}
		if one.requests() {
			requests = true
			continue
		}
		all = append(all, Claim{fmt.Sprintf("%s %s", scope, listenerOf(one)), me, fmt.Sprintf("port %d of the %s load balancer of connections", x.Port, scope)})
	}
	if requests {
		paths := s.Paths
		if len(paths) == 0 {
			paths = []v1alpha1.Path{{Path: "/"}}
		}
		for _, h := range Hosts(e, p) {
			for _, x := range paths {
				all = append(all, Claim{fmt.Sprintf("%s %s%s %t", scope, h, x.Path, x.Type == "Exact"), me, h + x.Path})
			}
		}
		if s.TLS != nil && s.TLS.Policy != "" {
			all = append(all, Claim{scope + " tls", s.TLS.Policy, "the security policy of the " + scope + " load balancer"})
		}
		if s.Access != nil && s.Access.WebACL != "" {
			all = append(all, Claim{scope + " acl", s.Access.WebACL, "the web ACL of the " + scope + " load balancer"})
		}
	}
	targets := func(service, value string) {
		all = append(all, Claim{"targets " + e.Namespace + "/" + service, value, "how load balancers treat Service " + service})
	}
	targets(ServiceName(e), treatment(e))
	for _, service := range otherServices(e) {
		targets(service, me)
	}
	return all
}

// treatment is what an Exposure says of how load balancers treat its pods. Several that say
// the same, as a public and a private one of a workload, share it.
func treatment(e *v1alpha1.Exposure) string {
	s := &e.Spec
	t := struct {
		Workload  v1alpha1.Workload
		Ports     []string
		Routing   *v1alpha1.Routing
		Health    *v1alpha1.Health
		CrossZone *bool
	}{Workload: s.Workload, Routing: s.Routing, Health: s.Health}
	for _, p := range s.Ports {
		if p.Protocol != "" && p.Protocol != v1alpha1.HTTP {
			t.Ports = append(t.Ports, fmt.Sprintf("%d %s", p.Port, p.Protocol))
		}
	}
	slices.Sort(t.Ports)
	if a := s.Availability; a != nil {
		t.CrossZone = a.CrossZone
	}
	text, err := json.Marshal(t)
	if err != nil {
		return e.Namespace + "/" + e.Name // shared with nobody
	}
	return string(text)
}
