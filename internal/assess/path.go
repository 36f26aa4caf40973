package assess

import (
	"strings"

	"dhow/internal/inventory"
)

// Way is how something from outside comes in.
type Way string

// The ways in.
const (
	ByLoadBalancer Way = "load balancer"
	ByNodePort     Way = "node port"
	ByHostPort     Way = "host port"
	ByHostNetwork  Way = "host network"
	ByExternalIP   Way = "external address"
	ByIngress      Way = "ingress"
	ByGateway      Way = "gateway"
)

// From is who stands outside.
type From string

// Who may come.
const (
	// FromInternet is anybody.
	FromInternet From = "internet"
	// FromNodes is whoever reaches a node's address: anybody, where nodes have public ones.
	FromNodes From = "network of the nodes"
)

// Over is what the first part of the way is encrypted with.
type Over string

// What a path goes over.
const (
	OverTLS   Over = "TLS"
	OverClear Over = "clear"
	// OverUnknown is a port whose protocol nothing tells.
	OverUnknown Over = "unknown"
)

// Hop is one step of a path.
type Hop struct {
	// Kind is Ingress, Gateway, HTTPRoute, Service, Node, NetworkPolicy or the workload's.
	Kind string `json:"kind"`
	// Object is nil for what is no object of the cluster.
	Object *inventory.Ref `json:"object,omitempty"`
	// Text says what happens there: "port 80", "host www.example.com, path /".
	Text string `json:"text,omitempty"`
}

// String is such as "Service/shop/web port 80".
func (h Hop) String() string {
	name := h.Kind
	if h.Object != nil {
		name = h.Object.String()
	}
	return strings.TrimSpace(name + " " + h.Text)
}

// Exposure is one path from outside to the pods of a workload.
type Exposure struct {
	Workload inventory.Ref `json:"workload"`
	From     From          `json:"from"`
	Way      Way           `json:"way"`
	// Entry is the object that opens the way, Port the port there, PodPort the one that
	// the pods listen on: 0 if it is not known.
	Entry   inventory.Ref `json:"entry"`
	Port    int32         `json:"port,omitempty"`
	PodPort int32         `json:"podPort,omitempty"`
	// PortName is the pod's port's name, and the Service's if that has none.
	PortName string `json:"portName,omitempty"`
	Over     Over   `json:"over"`
	Hosts    string `json:"hosts,omitempty"`
	// Path are all steps, from outside to the pods.
	Path []Hop `json:"path"`
}

// Steps is the path as a line.
func (e *Exposure) Steps() string {
	parts := make([]string, 0, len(e.Path)+1)
	parts = append(parts, string(e.From))
	for _, h := range e.Path {
		parts = append(parts, h.String())
	}
	return strings.Join(parts, " -> ")
}
