package plan

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The times of probes, in seconds, and how often they may fail. A pod is taken out within
// ten seconds, and ended only after a minute: what hangs for a moment comes back by itself,
// and a restart in a storm makes it worse.
const (
	startupPeriod, startupFailures                    = 1, 60
	readinessPeriod, readinessTimeout, readinessFails = 5, 3, 2
	livenessPeriod, livenessTimeout, livenessFails    = 10, 5, 6
)

// The times of a pod's end, in seconds.
const (
	// preStop is until every proxy and load balancer has heard that the pod leaves, beside
	// none; drainStop is that with a load balancer, which takes longer to hear it.
	preStop, drainStop = 5, 15
	// longestRequest is what a request is given where nothing is known of it.
	longestRequest = 15
	// stopMargin is what a program has to write and close when all requests are done.
	stopMargin = 10
	// mostGrace is what a source may have asked for and gets.
	mostGrace = 600
)

// dependent are the last parts of paths that answer by what a service depends on too.
//
//nolint:gochecknoglobals // a constant list
var dependent = []string{"ready", "readyz", "readiness", "health/ready", "deep", "full"}

// probesOf says how a container is asked. What the source knows is kept; a liveness probe
// that asks what the service depends on becomes its readiness.
func (m *maker) probesOf(u *unit, b *box) probes {
	if b.c.Init || u.runsJobs() {
		return probes{}
	}
	given, ok := m.o.Probes[u.id()]
	if !ok {
		given, ok = m.o.Probes[u.name]
	}
	if !ok {
		given = m.o.Probes[other]
	}
	var p probes
	var why []string
	port := mainPort(b)
	switch {
	case given.Readiness != "" && port != "":
		p.readiness = httpProbe(given.Readiness, port)
		why = append(why, "readiness: the options name "+given.Readiness)
	case b.c.ReadinessProbe != nil:
		p.readiness = copied(b.c.ReadinessProbe)
		why = append(why, "readiness as at the source")
	case asksDependencies(b.c.LivenessProbe):
		p.readiness = copied(b.c.LivenessProbe)
		why = append(why, "readiness: what the source asks for liveness answers by what the service depends on")
		u.change("livenessProbe of "+b.name, b.c.LivenessProbe.HTTPGet.Path, "readinessProbe", "a pod whose database is away is not mended by ending it: all would be ended at once")
	case port != "":
		p.readiness = tcpProbe(port)
		why = append(why, "readiness: the port answers; the source names no path that says more")
		m.unprobed = append(m.unprobed, u.name)
	}
	switch {
	case given.Liveness != "" && port != "":
		p.liveness = httpProbe(given.Liveness, port)
		why = append(why, "liveness: the options name "+given.Liveness)
	case b.c.LivenessProbe != nil && !asksDependencies(b.c.LivenessProbe):
		p.liveness = copied(b.c.LivenessProbe)
		why = append(why, "liveness as at the source")
	case port != "":
		p.liveness = tcpProbe(port)
		why = append(why, "liveness: the port answers")
	}
	if p.liveness != nil {
		p.startup = copied(p.liveness)
	} else if p.readiness != nil {
		p.startup = copied(p.readiness)
	}
	if s := b.c.StartupProbe; s != nil {
		p.startup = copied(s)
		why = append(why, "startup as at the source")
		times(p.startup, max(1, s.PeriodSeconds), s.TimeoutSeconds, max(startupFailures, s.FailureThreshold))
	} else if p.startup != nil {
		slow := int32(0)
		if l := b.c.LivenessProbe; l != nil {
			slow = l.InitialDelaySeconds
		}
		times(p.startup, startupPeriod, 0, max(startupFailures, 2*slow))
	}
	if p.readiness != nil {
		times(p.readiness, readinessPeriod, readinessTimeout, readinessFails)
	}
	if p.liveness != nil {
		times(p.liveness, livenessPeriod, livenessTimeout, livenessFails)
	}
	for _, one := range []*corev1.Probe{p.startup, p.readiness, p.liveness} {
		named(one, b)
	}
	p.why = strings.Join(why, "; ")
	return p
}

// mainPort is the name of the port that requests come to, "" without one.
func mainPort(b *box) string {
	for _, p := range b.ports {
		if strings.HasPrefix(p.Name, "http") || strings.HasPrefix(p.Name, "web") {
			return p.Name
		}
	}
	for _, p := range b.ports {
		if !strings.Contains(p.Name, "metrics") {
			return p.Name
		}
	}
	return ""
}

func httpProbe(path, port string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port)}}}
}

func tcpProbe(port string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(port)}}}
}

// copied is what a probe asks, without its times.
func copied(p *corev1.Probe) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: *p.ProbeHandler.DeepCopy()}
}

func times(p *corev1.Probe, period, timeout, failures int32) {
	p.PeriodSeconds, p.TimeoutSeconds, p.FailureThreshold = period, timeout, failures
}

// named lets a probe name its port where that has a name.
func named(p *corev1.Probe, b *box) {
	if p == nil {
		return
	}
	name := func(port *intstr.IntOrString) {
		if i := slices.IndexFunc(b.ports, func(x Port) bool { return port.IntVal != 0 && x.Port == port.IntVal }); i >= 0 {
			*port = intstr.FromString(b.ports[i].Name)
		}
	}
	if p.HTTPGet != nil {
		name(&p.HTTPGet.Port)
	}
	if p.TCPSocket != nil {
		name(&p.TCPSocket.Port)
	}
}

func asksDependencies(p *corev1.Probe) bool {
	if p == nil || p.HTTPGet == nil {
		return false
	}
	path := strings.Trim(strings.ToLower(p.HTTPGet.Path), "/")
	return slices.ContainsFunc(dependent, func(d string) bool { return path == d || strings.HasSuffix(path, "/"+d) })
}

// asked is a probe as a text.
func asked(p *corev1.Probe) string {
	if p == nil {
		return ""
	}
	how := ""
	switch {
	case p.HTTPGet != nil:
		how = "GET " + p.HTTPGet.Path + " on " + p.HTTPGet.Port.String()
	case p.TCPSocket != nil:
		how = "connects to " + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		how = "gRPC health on " + strconv.Itoa(int(p.GRPC.Port))
	case p.Exec != nil:
		how = "runs a command"
	}
	return fmt.Sprintf("%s every %ds, fails after %d", how, p.PeriodSeconds, p.FailureThreshold)
}

// healthPath is the path that a load balancer asks, and what counts as healthy: where
// no path is known, any answer of the service's own does.
func (u *unit) healthPath() (path, codes string) {
	for _, b := range u.containers {
		if r := b.probes.readiness; r != nil && r.HTTPGet != nil {
			return r.HTTPGet.Path, "200"
		}
	}
	return unknownPath, "200-499"
}

// unknownPath is asked where no path is known: any answer below 500 says that the program serves.
const unknownPath = "/"

// joined is host:port.
func joined(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
