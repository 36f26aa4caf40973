package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"dhow/internal/inventory"
	"dhow/internal/window"
)

// describe writes what was decided of workloads and databases into the document.
func (m *maker) describe() error {
	for _, u := range m.units {
		m.notePods(u)
		w := Workload{Source: u.w.String(), Name: u.name, Namespace: u.namespace, Place: u.place, Why: u.why, Kind: u.kind, Wave: u.wave, Balancing: u.balancing}
		for _, c := range u.calls {
			w.Calls = append(w.Calls, c.id())
		}
		for _, c := range u.callers {
			w.CalledBy = append(w.CalledBy, c.id())
		}
		for _, s := range u.stores {
			w.Databases = append(w.Databases, s.name)
		}
		for _, o := range u.outside {
			text := o.host
			if o.port != 0 {
				text = joined(o.host, o.port)
			}
			w.Outside = append(w.Outside, text)
		}
		if u.moves() {
			w.Exposure = &Exposure{Scope: u.scope, Why: u.scopeWhy, Was: m.ways(u), Hosts: u.hosts, Paths: u.paths}
			scaling := u.scaling
			if !u.runsJobs() {
				w.Scaling = &scaling
			}
			if u.rollout.Grace > 0 {
				rollout := u.rollout
				w.Rollout = &rollout
			}
		}
		for _, b := range u.containers {
			w.Containers = append(w.Containers, b.describe())
		}
		w.Changes = u.changes
		slices.SortFunc(w.Changes, func(a, b Change) int {
			return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Before, b.Before), strings.Compare(a.After, b.After))
		})
		m.plan.Workloads = append(m.plan.Workloads, w)
	}
	for _, s := range m.stores {
		if s.moves {
			m.plan.Databases = append(m.plan.Databases, m.describeStore(s))
		}
	}
	slices.SortFunc(m.plan.Databases, func(a, b Database) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (b *box) describe() Container {
	c := Container{Name: b.name, Init: b.c.Init, Image: b.image, Ports: b.ports, Args: append(slices.Clone(b.command), b.args...), Size: document(b.size)}
	for _, e := range b.env {
		switch {
		case e.ValueFrom == nil:
			c.Environment = append(c.Environment, e.Name+"="+e.Value)
		case e.ValueFrom.SecretKeyRef != nil:
			c.Secrets = append(c.Secrets, e.Name+"="+e.ValueFrom.SecretKeyRef.Name+"#"+e.ValueFrom.SecretKeyRef.Key)
		case e.ValueFrom.FieldRef != nil:
			c.Environment = append(c.Environment, e.Name+" from "+e.ValueFrom.FieldRef.FieldPath)
		case e.ValueFrom.ResourceFieldRef != nil:
			c.Environment = append(c.Environment, e.Name+" from "+e.ValueFrom.ResourceFieldRef.Resource)
		}
	}
	for _, f := range b.envFrom {
		c.Secrets = append(c.Secrets, "*="+f.SecretRef.Name)
	}
	if p := b.probes; p.readiness != nil || p.liveness != nil || p.startup != nil {
		c.Probes = &Probes{asked(p.startup), asked(p.readiness), asked(p.liveness), p.why}
	}
	return c
}

// notePods notes what of the pods is not as it was, beside their containers.
func (m *maker) notePods(u *unit) {
	if !u.moves() {
		return
	}
	spec := &u.w.Template.Spec
	if spec.HostNetwork {
		u.change("hostNetwork", "true", "false", "pods on the node's network listen past every policy")
	}
	if spec.HostPID || spec.HostIPC {
		u.change("the node's processes", "shared", "not shared", "who gets into the pod has the node")
	}
	if slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Operator == corev1.TolerationOpExists && t.Key == "" }) {
		u.change("tolerations", "every taint", "none", "pods stayed on nodes that were to be emptied")
	}
	if spec.NodeName != "" || len(spec.NodeSelector) > 0 {
		u.change("nodes", "named by label or name", "any", "the labels are of the old cluster's nodes")
	}
	for _, v := range spec.Volumes {
		if v.HostPath != nil {
			u.change("volume "+v.Name, "hostPath "+v.HostPath.Path, "an empty folder of the pod", "a folder of the node is a way to the node; what is written there ends with the pod")
		}
	}
	for _, b := range u.containers {
		s := b.c.SecurityContext
		if s != nil && s.Privileged != nil && *s.Privileged {
			u.change("privileged "+b.name, "true", "false", "a privileged container has the node")
		}
		if s != nil && s.RunAsUser != nil && *s.RunAsUser == 0 {
			u.change("user of "+b.name, "root", fmt.Sprint(podUser), "no service needs root; see that its image's files are readable by others")
		}
	}
	for _, x := range u.w.Scalers {
		if len(u.w.Scalers) > 1 {
			u.change("autoscaler "+x.Name, "there", "one", "several scale the same pods")
		}
	}
	for _, s := range u.services {
		if u.place == EKS && s.Spec.ClusterIP != corev1.ClusterIPNone && u.pins(s) {
			u.change("Service "+s.Name, "an address of its own", "headless", "a Service spreads connections, and gRPC keeps one for hours: clients see all pods now, and spread by themselves if told to (round_robin)")
		}
	}
	m.noteRights(u)
	if u.w.Kind == "DaemonSet" {
		m.decide(Decision{Object: u.w.String(), What: "it runs on every node", Do: "see whether an add-on of EKS does that already"})
	}
}

// identityAnnotations tie an account of the cluster to an identity of a cloud.
//
//nolint:gochecknoglobals // a constant list
var identityAnnotations = []string{"azure.workload.identity/client-id", "eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account"}

// noteRights says which rights a unit's account has: in the new place it has none until
// somebody gives them.
func (m *maker) noteRights(u *unit) {
	name := cmp.Or(u.w.Template.Spec.ServiceAccountName, "default")
	if o := m.inv.Find("ServiceAccount", u.w.Namespace, name); o != nil {
		for _, key := range identityAnnotations {
			if identity := o.Content.GetAnnotations()[key]; identity != "" {
				m.decide(Decision{Object: u.w.String(), What: fmt.Sprintf("it has the rights of %s, by its account %s", identity, name), Do: fmt.Sprintf("make a role with what it needs of them, and a Pod Identity association for ServiceAccount %s/%s", u.namespace, u.name)})
				u.change("identity of the cloud", identity, "none", "a role of the old account or cloud means nothing in the new one")
			}
		}
	}
	bound := func(kind string, subjects []rbacv1.Subject, role string) {
		for _, s := range subjects {
			if s.Kind == rbacv1.ServiceAccountKind && s.Name == name && s.Namespace == u.w.Namespace {
				u.change("rights in the cluster", kind+" to "+role, "none", "no rights are taken over unseen: most services call no API of the cluster")
				if name != "default" {
					m.decide(Decision{Object: u.w.String(), What: fmt.Sprintf("its account %s has rights in the cluster, by %s", name, role), Do: fmt.Sprintf("if it calls the cluster's API, bind a Role with just that to ServiceAccount %s/%s, and mount its token", u.namespace, u.name)})
				}
			}
		}
	}
	for _, b := range inventory.Of[*rbacv1.RoleBinding](m.inv) {
		bound("RoleBinding "+b.Name, b.Subjects, b.RoleRef.Kind+" "+b.RoleRef.Name)
	}
	for _, b := range inventory.Of[*rbacv1.ClusterRoleBinding](m.inv) {
		bound("ClusterRoleBinding "+b.Name, b.Subjects, b.RoleRef.Kind+" "+b.RoleRef.Name)
	}
}

// findWindow says when the traffic moves.
func (m *maker) findWindow() error {
	c := &m.plan.Cutover
	requests := "the requests are held, all databases are promoted as one, and the requests go on at the new side"
	if p := m.o.Window; p != nil {
		c.At, c.Until, c.Held = p.Best.At.Format(time.RFC3339), p.Best.Until.Format(time.RFC3339), p.Best.Held
		c.Text = fmt.Sprintf("%s: %s; by the history of %.1f weeks about %s requests are held, in the busiest quarter of an hour they would be %s. How sure that is: %s.",
			p.Best.At.Format("Monday 2006-01-02 15:04 -07:00"), requests, p.Weeks, humanize.FormatFloat("#,###.#", p.Best.Held), humanize.FormatFloat("#,###.#", p.Busiest), p.Sure.Word())
		for _, r := range p.Runners {
			c.Others = append(c.Others, r.At.Format(time.RFC3339))
		}
		c.How = "dhow cutover --at auto --history " + m.o.History
		return nil
	}
	c.Text = "no history of requests was given, so the quietest moment is not known; at the cutover " + requests + "."
	c.How = "dhow plan --history WHERE, and dhow cutover --at auto --history WHERE: " + m.historyHint()
	return nil
}

// historyHint says where a history may be had.
func (m *maker) historyHint() string {
	if h := m.inv.History; h != nil && h.At != "" {
		text := "WHERE may be " + h.At
		if h.Kind == string(window.Prometheus) && h.Metric != "" {
			text += ", asked with --query 'sum(rate(" + h.Metric + "[5m]))'"
		}
		return text
	}
	return "WHERE is the URL of a Prometheus server, or a folder of a load balancer's or nginx' access logs, of two weeks at least"
}
