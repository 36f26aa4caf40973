package assess

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/internal/inventory"
)

// rolloutRules are about pods that come and go: rollouts, drains, restarts, scaling.
func rolloutRules() []Rule {
	const g = GroupRollout
	return []Rule{
		{ID: "scales-nothing", Group: g, Severity: High, Title: "An autoscaler names a workload that does not exist.",
			Why: "It never scales, which is noticed on the busiest day.", Fix: "Name the workload.", check: scalesNothing},
		{ID: "scales-without-requests", Group: g, Severity: High, Title: "An autoscaler goes by utilisation, and its pods ask for nothing.",
			Why: "Utilisation is use divided by request: it can not be reckoned, and nothing is scaled.",
			Fix: "Set requests for every container, or scale by an average value.", check: scalesWithoutRequests},
		{ID: "rollout-takes-all-away", Group: g, Severity: High, Title: "A rollout ends the old pods before the new ones are there.",
			Why: "Each deployment of a new version fails requests.", Fix: "Use RollingUpdate with maxUnavailable 0 and maxSurge 1.", check: takesAllAway},
		{ID: "no-readiness", Group: g, Severity: High, Title: "No probe says when a pod can serve.",
			Why: "Requests go to pods that do not listen yet, and to those whose database is away.",
			Fix: "Give the container a readinessProbe at a path that answers once it can serve.", check: noReadiness},
		{ID: "killed-at-once", Group: g, Severity: High, Title: "Pods are killed seconds after they were asked to end.",
			Why: "Requests in flight are cut, and their clients do not know whether they were done.",
			Fix: "Give terminationGracePeriodSeconds the preStop time and the longest request.", check: killedAtOnce},
		{ID: "killed-before-stopping", Group: g, Severity: High, Title: "The preStop hook takes all the time that a pod has to end.",
			Why: "The program is killed before it is even told to stop.", Fix: "Make terminationGracePeriodSeconds longer than the hook by the longest request.", check: killedBeforeStopping},
		{ID: "budget-allows-nothing", Group: g, Severity: High, Title: "A PodDisruptionBudget allows no pod to leave.",
			Why: "Nodes can not be drained: upgrades of the cluster hang, and are then done by force.",
			Fix: "Allow one pod to be away: maxUnavailable 1.", check: budgetAllowsNothing},
		{ID: "budgets-overlap", Group: g, Severity: High, Title: "Several PodDisruptionBudgets select the same pods.",
			Why: "The eviction API refuses such pods with an error: nodes can not be drained.", Fix: "Leave one budget for each pod.", check: budgetsOverlap},
		{ID: "crashing", Group: g, Severity: High, Live: true, Title: "Containers end and are started again and again.",
			Why: "Requests that they had are lost each time, and the pauses between starts grow to five minutes.", Fix: "See the log of its last end: `kubectl logs --previous`.", check: crashing},
		{ID: "not-starting", Group: g, Severity: High, Live: true, Title: "Containers can not start.",
			Why: "The workload has fewer pods than it should, or none.", Fix: "See the reason: `kubectl describe pod`.", check: notStarting},
		{ID: "out-of-memory", Group: g, Severity: High, Live: true, Title: "Containers were ended because they took more memory than they may.",
			Why: "Whatever they were doing is lost, and it happens again under the same load.", Fix: "Raise the memory limit above what it needs, or find the leak.", check: outOfMemory},
		{ID: "not-ready", Group: g, Severity: High, Live: true, Title: "Pods run and are not ready.",
			Why: "They get no requests: the others carry their share.", Fix: "See what its readiness probe answers.", check: notReady},
		{ID: "unschedulable", Group: g, Severity: High, Live: true, Title: "Pods find no node, or were put off theirs.",
			Why: "The workload has fewer pods than it should.", Fix: "Make room, or lower the requests; see the pod's events.", check: unschedulable},
		{ID: "scaled-to-the-end", Group: g, Severity: Medium, Live: true, Title: "An autoscaler has reached its most.",
			Why: "More load is no longer met by more pods.", Fix: "Raise maxReplicas, or give each pod more.", check: scaledToTheEnd},
		{ID: "all-on-one-node", Group: g, Severity: Medium, Live: true, Title: "All pods of a workload stand on one node.",
			Why: "That node's end is the service's.", Fix: "Spread the pods by topologySpreadConstraints.", check: allOnOneNode},
		{ID: "different-images", Group: g, Severity: Medium, Live: true, Title: "Pods of one workload run different images under one name.",
			Why: "The tag was moved: which program answers depends on the pod.", Fix: "Name the image by its digest.", check: differentImages},
		{ID: "one-replica", Group: g, Severity: Medium, Title: "A single pod serves.",
			Why: "Whatever ends it, a rollout, a node or a mistake, is an outage.", Fix: "Run two pods or more.", check: oneReplica},
		{ID: "no-time-to-leave", Group: g, Severity: Medium, Title: "A pod that is to end stops at once taking connections.",
			Why: "Proxies that have not heard yet send requests to it, which fail.",
			Fix: "Add a preStop sleep of the time that proxies need to hear, some five seconds.", check: noTimeToLeave},
		{ID: "no-budget", Group: g, Severity: Medium, Title: "No PodDisruptionBudget covers the pods.",
			Why: "When nodes are drained all pods of a service may go together.", Fix: "Add a PodDisruptionBudget with maxUnavailable 1.", check: noBudget},
		{ID: "liveness-asks-database", Group: g, Severity: Medium, Title: "The liveness probe asks what the pod depends on too.",
			Why: "When the database is away for half a minute every pod is restarted, and all come back at once.",
			Fix: "Probe a path that only says that the program runs.", check: livenessAsksDatabase},
		{ID: "liveness-is-readiness", Group: g, Severity: Medium, Title: "Liveness and readiness are the same probe, and give up after the same time.",
			Why: "A pod that is too busy to be ready is restarted instead of rested: overload becomes an outage.",
			Fix: "Give the liveness probe a path of its own, and more failures.", check: livenessIsReadiness},
		{ID: "liveness-too-eager", Group: g, Severity: Medium, Title: "The liveness probe gives up within ten seconds.",
			Why: "A pause for garbage or a busy processor restarts the pod, and with it the requests that it has.",
			Fix: "Allow at least half a minute: failureThreshold times periodSeconds.", check: livenessTooEager},
		{ID: "liveness-before-start", Group: g, Severity: Low, Title: "A slow start is waited for by the liveness probe's delay.",
			Why: "On a slower day the start takes longer, and the pod is killed before it ever runs; later it is found late.",
			Fix: "Use a startupProbe, and no initialDelaySeconds.", check: livenessBeforeStart},
		{ID: "scale-range-is-empty", Group: g, Severity: Low, Title: "An autoscaler's least and most are the same.",
			Why: "It can not scale.", Fix: "Raise maxReplicas, or remove the autoscaler.", check: scaleRangeIsEmpty},
		{ID: "replicas-outside-range", Group: g, Severity: Medium, Title: "A manifest's number of replicas is outside of its autoscaler's range.",
			Why: "Each time the manifest is applied the pods' number jumps, and the autoscaler takes it back: pods with requests are ended.",
			Fix: "Leave spec.replicas out of the manifest.", check: replicasOutsideRange},
		{ID: "no-way-back", Group: g, Severity: Medium, Title: "No earlier revision is kept.",
			Why: "A bad version can not be rolled back.", Fix: "Leave revisionHistoryLimit at its default, 10.", check: noWayBack},
		{ID: "image-without-digest", Group: g, Severity: Medium, Title: "An image is named by latest or a tag, not by its digest.",
			Why: "Nobody knows what runs, a restart may bring another program, and there is nothing to go back to.",
			Fix: "Name the image by its digest: NAME@sha256:...", check: imageWithoutDigest},
		{ID: "volume-of-one-node", Group: g, Severity: Medium, Title: "Pods that may stand side by side want a volume of one node.",
			Why: "The new pod of a rollout waits for a volume that the old one has: on another node it never comes up.",
			Fix: "Use a StatefulSet, the Recreate strategy, or a volume that several nodes can mount.", check: volumeOfOneNode},
		{ID: "no-liveness", Group: g, Severity: Low, Title: "No probe finds a pod that hangs.",
			Why: "It stays, and keeps its share of the requests, until somebody looks.", Fix: "Give the container a livenessProbe that asks only whether the program runs.", check: noLiveness},
		{ID: "not-spread", Group: g, Severity: Low, Title: "Nothing spreads a service's pods over zones and nodes.",
			Why: "All may stand on the node or in the zone that fails.", Fix: "Add topologySpreadConstraints for zones and for nodes.", check: notSpread},
		{ID: "tolerates-everything", Group: g, Severity: Low, Title: "Pods tolerate every taint.",
			Why: "They are put on nodes that are full, broken or kept for others, and are not moved away from them.", Fix: "Name the taints that are meant.", check: toleratesEverything},
		{ID: "image-always-pulled", Group: g, Severity: Low, Title: "Every start of a pod asks the registry.",
			Why: "When the registry is away, no pod that ends comes back.", Fix: "Name the image by its digest, and set imagePullPolicy to IfNotPresent.", check: imageAlwaysPulled},
		{ID: "job-without-end", Group: g, Severity: Low, Title: "A Job has no time by which it must be done.",
			Why: "One that hangs stays for ever, with its locks and its share of the cluster.", Fix: "Set activeDeadlineSeconds.", check: jobWithoutEnd},
		{ID: "jobs-side-by-side", Group: g, Severity: Low, Title: "Runs of a CronJob may overlap.",
			Why: "A run that takes longer than its interval is joined by the next: they get in each other's way.", Fix: "Set concurrencyPolicy to Forbid or Replace.", check: jobsSideBySide},
		{ID: "jobs-pile-up", Group: g, Severity: Low, Title: "A Job that is done is never cleaned away.",
			Why: "Done Jobs and their pods pile up, and a Job of the same name can not be applied again.", Fix: "Set ttlSecondsAfterFinished.", check: jobsPileUp},
	}
}

func scalers(p *pass, look func(o *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, w *inventory.Workload)) {
	of := map[*inventory.Object]*inventory.Workload{}
	for _, w := range p.inv.Workloads {
		for _, o := range w.Scalers {
			of[o] = w
		}
	}
	for o, h := range inventory.Of[*autoscalingv2.HorizontalPodAutoscaler](p.inv) {
		look(o, h, of[o])
	}
}

func scalesNothing(p *pass) {
	scalers(p, func(o *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, w *inventory.Workload) {
		t := h.Spec.ScaleTargetRef
		if w == nil && slices.Contains([]string{"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"}, t.Kind) {
			p.at(o, "spec.scaleTargetRef.name", "there is no "+t.Kind+" "+t.Name+" in the namespace "+o.Namespace)
		}
	})
}

func scalesWithoutRequests(p *pass) {
	scalers(p, func(o *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, w *inventory.Workload) {
		if w == nil {
			return
		}
		for n, m := range h.Spec.Metrics {
			if m.Resource == nil || m.Resource.Target.Type != autoscalingv2.UtilizationMetricType {
				continue
			}
			name := m.Resource.Name
			have := p.defaults[o.Namespace]
			if name == corev1.ResourceCPU && have.cpu || name == corev1.ResourceMemory && have.memory {
				continue
			}
			var bare []string
			for i := range w.Containers {
				c := &w.Containers[i]
				request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
				if !c.Init && request.IsZero() && limit.IsZero() {
					bare = append(bare, fmt.Sprintf("container %s of %s asks for no %s", c.Name, w.Ref, name))
				}
			}
			if len(bare) > 0 {
				p.at(o, index("spec.metrics", n)+".resource", bare...)
			}
		}
	})
}

func scaleRangeIsEmpty(p *pass) {
	scalers(p, func(o *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, _ *inventory.Workload) {
		least := int32(1)
		if h.Spec.MinReplicas != nil {
			least = *h.Spec.MinReplicas
		}
		if least >= h.Spec.MaxReplicas {
			p.at(o, "spec.maxReplicas", fmt.Sprintf("the least is %d, the most %d", least, h.Spec.MaxReplicas))
		}
	})
}

func replicasOutsideRange(p *pass) {
	scalers(p, func(_ *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, w *inventory.Workload) {
		if w == nil || !w.ReplicasSet || w.Replicas == 0 || w.Object.Source.File == "" {
			return
		}
		least := int32(1)
		if h.Spec.MinReplicas != nil {
			least = *h.Spec.MinReplicas
		}
		if w.Replicas < least || w.Replicas > h.Spec.MaxReplicas {
			p.at(w.Object, "spec.replicas", fmt.Sprintf("the manifest has %d, the autoscaler %d to %d", w.Replicas, least, h.Spec.MaxReplicas)).set("spec.replicas", nil)
		}
	})
}

func scaledToTheEnd(p *pass) {
	scalers(p, func(o *inventory.Object, h *autoscalingv2.HorizontalPodAutoscaler, _ *inventory.Workload) {
		if l, ok := o.Live.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			h = l
		}
		if h.Status.CurrentReplicas >= h.Spec.MaxReplicas && h.Spec.MaxReplicas > 1 && h.Status.DesiredReplicas >= h.Spec.MaxReplicas {
			p.at(o, "spec.maxReplicas", fmt.Sprintf("it has %d pods, and may have %d", h.Status.CurrentReplicas, h.Spec.MaxReplicas))
		}
	})
}

func ownsVolume(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil })
}

func takesAllAway(p *pass) {
	for _, w := range p.inv.Workloads {
		d, ok := w.Object.Content.(*appsv1.Deployment)
		if !ok || len(w.Services) == 0 || w.Replicas == 0 {
			continue
		}
		mend := func(f *Finding) {
			f.set("spec.strategy.type", string(appsv1.RollingUpdateDeploymentStrategyType)).set("spec.strategy.rollingUpdate.maxUnavailable", 0).set("spec.strategy.rollingUpdate.maxSurge", 1)
		}
		s := d.Spec.Strategy
		if s.Type == appsv1.RecreateDeploymentStrategyType {
			if !ownsVolume(&w.Template.Spec) { // a volume of one node has to be let go first
				mend(p.at(w.Object, "spec.strategy.type", "the strategy is Recreate"))
			}
			continue
		}
		if s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable == nil {
			continue
		}
		away, err := intstr.GetScaledValueFromIntOrPercent(s.RollingUpdate.MaxUnavailable, int(w.Replicas), false)
		if err == nil && away >= int(w.Replicas) {
			mend(p.at(w.Object, "spec.strategy.rollingUpdate.maxUnavailable", fmt.Sprintf("maxUnavailable %s of %d pods", s.RollingUpdate.MaxUnavailable, w.Replicas)))
		}
	}
}

func noReadiness(p *pass) {
	p.servers(func(w *inventory.Workload, c *inventory.Container) {
		if c.ReadinessProbe == nil {
			p.at(w.Object, c.Path+".readinessProbe", "the container has no readinessProbe", servedBy(w))
		}
	})
}

// servedBy is the Service that leads to a workload, as evidence.
func servedBy(w *inventory.Workload) string {
	return w.Services[0].Object.Ref.String() + " sends requests to it"
}

func noLiveness(p *pass) {
	p.servers(func(w *inventory.Workload, c *inventory.Container) {
		if c.LivenessProbe == nil {
			p.at(w.Object, c.Path+".livenessProbe", "the container has no livenessProbe")
		}
	})
}

// leastGrace is how many seconds a pod that serves needs to end well: a preStop sleep of
// five, and requests that take as long.
const leastGrace = 10

func grace(spec *corev1.PodSpec) int64 {
	if t := spec.TerminationGracePeriodSeconds; t != nil {
		return *t
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func killedAtOnce(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		if g := grace(spec); w.Serves && len(w.Services) > 0 && g < leastGrace {
			path := w.SpecPath + ".terminationGracePeriodSeconds"
			p.at(w.Object, path, fmt.Sprintf("it has %d s to end", g), servedBy(w)).set(path, 30)
		}
	})
}

var sleeps = regexp.MustCompile(`\bsleep\s+(\d+)\b`)

// stopping is how many seconds a container's preStop hook takes, as far as it tells.
func stopping(c *inventory.Container) int64 {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return 0
	}
	switch h := c.Lifecycle.PreStop; {
	case h.Sleep != nil:
		return h.Sleep.Seconds
	case h.Exec != nil:
		if m := sleeps.FindStringSubmatch(strings.Join(h.Exec.Command, " ")); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

func killedBeforeStopping(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if t, g := stopping(c), grace(&w.Template.Spec); t > 0 && t >= g {
			path := w.SpecPath + ".terminationGracePeriodSeconds"
			p.at(w.Object, path, fmt.Sprintf("container %s takes %d s before it is told to stop", c.Name, t), fmt.Sprintf("it has %d s to end", g)).set(path, t+25).about(c.Name)
		}
	})
}

func noTimeToLeave(p *pass) {
	p.servers(func(w *inventory.Workload, c *inventory.Container) {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			path := c.Path + ".lifecycle.preStop"
			p.at(w.Object, path, "the container has no preStop hook", servedBy(w)).set(path, map[string]any{"sleep": map[string]any{"seconds": 5}})
		}
	})
}

func budgets(p *pass, look func(o *inventory.Object, b *policyv1.PodDisruptionBudget, all []*inventory.Workload)) {
	of := map[*inventory.Object][]*inventory.Workload{}
	for _, w := range p.inv.Workloads {
		for _, o := range w.Budgets {
			of[o] = append(of[o], w)
		}
	}
	for o, b := range inventory.Of[*policyv1.PodDisruptionBudget](p.inv) {
		look(o, b, of[o])
	}
}

func budgetAllowsNothing(p *pass) {
	budgets(p, func(o *inventory.Object, b *policyv1.PodDisruptionBudget, all []*inventory.Workload) {
		pods := 0
		for _, w := range all {
			n := int(w.Replicas)
			for _, s := range w.Scalers {
				if h, ok := s.Content.(*autoscalingv2.HorizontalPodAutoscaler); ok && h.Spec.MinReplicas != nil {
					n = max(n, int(*h.Spec.MinReplicas))
				}
			}
			pods += n
		}
		if pods == 0 {
			return
		}
		mend := func(f *Finding) { f.set("spec.minAvailable", nil).set("spec.maxUnavailable", 1) }
		if m := b.Spec.MaxUnavailable; m != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(m, pods, true); err == nil && n == 0 {
				mend(p.at(o, "spec.maxUnavailable", "maxUnavailable is "+m.String()))
			}
		}
		if m := b.Spec.MinAvailable; m != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(m, pods, true); err == nil && n >= pods {
				mend(p.at(o, "spec.minAvailable", fmt.Sprintf("minAvailable %s of %d pods", m, pods)))
			}
		}
	})
}

func budgetsOverlap(p *pass) {
	for _, w := range p.inv.Workloads {
		if len(w.Budgets) > 1 {
			var names []string
			for _, o := range w.Budgets {
				names = append(names, o.Ref.String()+" selects the pods")
			}
			p.at(w.Object, w.MetaPath+".labels", names...)
		}
	}
}

func noBudget(p *pass) {
	for _, w := range p.inv.Workloads {
		if (w.Kind == "Deployment" || w.Kind == "StatefulSet") && len(w.Budgets) == 0 && len(w.Services) > 0 && w.Replicas > 0 {
			p.at(w.Object, w.MetaPath+".labels", "no PodDisruptionBudget selects the pods")
		}
	}
}

func oneReplica(p *pass) {
	for _, w := range p.inv.Workloads {
		if w.Kind != "Deployment" || w.Replicas != 1 || len(w.Services) == 0 || ownsVolume(&w.Template.Spec) || p.databases[w.Ref] != "" {
			continue
		}
		if slices.ContainsFunc(w.Scalers, func(o *inventory.Object) bool {
			h, ok := o.Content.(*autoscalingv2.HorizontalPodAutoscaler)
			return ok && h.Spec.MinReplicas != nil && *h.Spec.MinReplicas > 1
		}) {
			continue
		}
		fact := "replicas is 1"
		if !w.ReplicasSet {
			fact = "replicas is not set, which means 1"
		}
		p.at(w.Object, "spec.replicas", fact, servedBy(w)).set("spec.replicas", 2)
	}
}

// asksMore are paths that are known to look at what a program depends on.
var asksMore = regexp.MustCompile(`(?i)(^|[/_-])(ready|readyz|readiness|deep|db|database|dependencies|deps)($|[/_?-])`)

func livenessAsksDatabase(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if l := c.LivenessProbe; l != nil && l.HTTPGet != nil && asksMore.MatchString(l.HTTPGet.Path) {
			p.at(w.Object, c.Path+".livenessProbe.httpGet.path", "the liveness probe asks "+l.HTTPGet.Path)
		}
	})
}

func livenessIsReadiness(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		l, r := c.LivenessProbe, c.ReadinessProbe
		if l == nil || r == nil || l.HTTPGet == nil || r.HTTPGet == nil || l.HTTPGet.Path != r.HTTPGet.Path || l.HTTPGet.Port != r.HTTPGet.Port {
			return
		}
		if patience(l) <= patience(r) {
			p.at(w.Object, c.Path+".livenessProbe", "both ask "+l.HTTPGet.Path, fmt.Sprintf("liveness gives up after %s, readiness after %s", patience(l), patience(r)))
		}
	})
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// patience is how long a probe may fail.
func patience(p *corev1.Probe) time.Duration {
	return time.Duration(or(p.PeriodSeconds, 10)) * time.Duration(or(p.FailureThreshold, 3)) * time.Second
}

func livenessTooEager(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if l := c.LivenessProbe; l != nil && patience(l) < 10*time.Second {
			p.at(w.Object, c.Path+".livenessProbe", fmt.Sprintf("it gives up after %s", patience(l)))
		}
	})
}

// slowStart is from how many seconds on a delay says that a start is slow.
const slowStart = 30

func livenessBeforeStart(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if l := c.LivenessProbe; l != nil && l.InitialDelaySeconds >= slowStart && c.StartupProbe == nil {
			p.at(w.Object, c.Path+".livenessProbe.initialDelaySeconds", fmt.Sprintf("initialDelaySeconds is %d", l.InitialDelaySeconds), "there is no startupProbe")
		}
	})
}

func noWayBack(p *pass) {
	for _, w := range p.inv.Workloads {
		if d, ok := w.Object.Content.(*appsv1.Deployment); ok && d.Spec.RevisionHistoryLimit != nil && *d.Spec.RevisionHistoryLimit == 0 {
			p.at(w.Object, "spec.revisionHistoryLimit", "revisionHistoryLimit is 0").set("spec.revisionHistoryLimit", 10)
		}
	}
}

func imageWithoutDigest(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		if c.Image.Text == "" || c.Image.Digest != "" {
			return
		}
		f := p.at(w.Object, c.Path+".image", "the image is "+c.Image.Text)
		if digests := w.Digests[c.Name]; len(digests) == 1 && w.Kind != inventory.KindCompose {
			name := strings.TrimSuffix(c.Image.Text, ":"+c.Image.Tag)
			f.Evidence = append(f.Evidence, "the pods run "+digests[0])
			f.set(c.Path+".image", name+"@"+digests[0])
		}
	})
}

func imageAlwaysPulled(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if c.ImagePullPolicy == corev1.PullAlways {
			path := c.Path + ".imagePullPolicy"
			p.at(w.Object, path, "imagePullPolicy is Always").set(path, string(corev1.PullIfNotPresent))
		}
	})
}

func volumeOfOneNode(p *pass) {
	for _, w := range p.inv.Workloads {
		d, ok := w.Object.Content.(*appsv1.Deployment)
		if !ok || d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && w.Replicas < 2 {
			continue
		}
		for n, v := range w.Template.Spec.Volumes {
			if v.PersistentVolumeClaim == nil {
				continue
			}
			ref := inventory.Ref{Kind: "PersistentVolumeClaim", Namespace: w.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
			c, ok := contentOf[*corev1.PersistentVolumeClaim](p.inv, ref)
			if !ok || !slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOnce) && !slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) || len(c.Spec.AccessModes) > 1 {
				continue
			}
			how := "a rollout starts the new pod beside the old one"
			if w.Replicas > 1 {
				how = fmt.Sprintf("%d pods share it", w.Replicas)
			}
			p.at(w.Object, index(w.SpecPath+".volumes", n), ref.String()+" is "+string(c.Spec.AccessModes[0]), how)
		}
	}
}

func spread(spec *corev1.PodSpec) bool {
	return len(spec.TopologySpreadConstraints) > 0 || spec.Affinity != nil && spec.Affinity.PodAntiAffinity != nil
}

func notSpread(p *pass) {
	for _, w := range p.inv.Workloads {
		if (w.Kind != "Deployment" && w.Kind != "StatefulSet") || len(w.Services) == 0 || spread(&w.Template.Spec) {
			continue
		}
		path := w.SpecPath + ".topologySpreadConstraints"
		f := p.at(w.Object, path, "there is no topologySpreadConstraints and no anti-affinity")
		if w.Selector != nil && len(w.Selector.MatchLabels) > 0 && len(w.Selector.MatchExpressions) == 0 {
			labels := map[string]any{}
			for k, v := range w.Selector.MatchLabels {
				labels[k] = v
			}
			var all []any
			for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
				all = append(all, map[string]any{"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": map[string]any{"matchLabels": labels}})
			}
			f.set(path, all)
		}
	}
}

func toleratesEverything(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		for n, t := range spec.Tolerations {
			if t.Key == "" && t.Operator == corev1.TolerationOpExists && t.Effect == "" && w.Kind != "DaemonSet" {
				path := index(w.SpecPath+".tolerations", n)
				p.at(w.Object, path, "a toleration with no key and no effect").operate("remove", path, nil)
			}
		}
	})
}

// jobs gives the specifications of Jobs and of CronJobs' Jobs.
func jobs(p *pass, look func(o *inventory.Object, path string, j *batchv1.JobSpec, cron *batchv1.CronJobSpec)) {
	for _, w := range p.inv.Workloads {
		switch c := w.Object.Content.(type) {
		case *batchv1.Job:
			look(w.Object, "spec", &c.Spec, nil)
		case *batchv1.CronJob:
			look(w.Object, "spec.jobTemplate.spec", &c.Spec.JobTemplate.Spec, &c.Spec)
		}
	}
}

func jobWithoutEnd(p *pass) {
	jobs(p, func(o *inventory.Object, path string, j *batchv1.JobSpec, _ *batchv1.CronJobSpec) {
		if j.ActiveDeadlineSeconds == nil && j.Template.Spec.ActiveDeadlineSeconds == nil {
			p.at(o, path+".activeDeadlineSeconds", "there is no activeDeadlineSeconds")
		}
	})
}

func jobsSideBySide(p *pass) {
	jobs(p, func(o *inventory.Object, _ string, _ *batchv1.JobSpec, cron *batchv1.CronJobSpec) {
		if cron != nil && !isTrue(cron.Suspend) && (cron.ConcurrencyPolicy == "" || cron.ConcurrencyPolicy == batchv1.AllowConcurrent) {
			p.at(o, "spec.concurrencyPolicy", "concurrencyPolicy is Allow", "the schedule is "+cron.Schedule).set("spec.concurrencyPolicy", string(batchv1.ForbidConcurrent))
		}
	})
}

func jobsPileUp(p *pass) {
	jobs(p, func(o *inventory.Object, path string, j *batchv1.JobSpec, cron *batchv1.CronJobSpec) {
		if cron == nil && j.TTLSecondsAfterFinished == nil && o.Content.GetAnnotations()["helm.sh/hook"] == "" {
			p.at(o, path+".ttlSecondsAfterFinished", "there is no ttlSecondsAfterFinished").set(path+".ttlSecondsAfterFinished", 86400)
		}
	})
}

// states gives the containers of live pods.
func states(p *pass, look func(w *inventory.Workload, pod *inventory.Pod, c *inventory.ContainerState) string) {
	for _, w := range p.inv.Workloads {
		facts := map[string][]string{}
		for i := range w.Pods {
			for n := range w.Pods[i].Containers {
				c := &w.Pods[i].Containers[n]
				if f := look(w, &w.Pods[i], c); f != "" {
					facts[c.Name] = append(facts[c.Name], w.Pods[i].Name+": "+f)
				}
			}
		}
		for _, name := range sortedKeys(facts) {
			path := w.SpecPath
			for n := range w.Containers {
				if w.Containers[n].Name == name {
					path = w.Containers[n].Path
				}
			}
			all := facts[name]
			slices.Sort(all)
			p.at(w.Object, path, all[:min(len(all), maxPaths)]...).about(name)
		}
	}
}

// manyRestarts is from how many on restarts are no accident.
const manyRestarts = 3

func crashing(p *pass) {
	states(p, func(_ *inventory.Workload, _ *inventory.Pod, c *inventory.ContainerState) string {
		if c.Waiting != "CrashLoopBackOff" && c.Restarts < manyRestarts {
			return ""
		}
		text := fmt.Sprintf("%d restarts", c.Restarts)
		if c.LastEnd != "" {
			text += fmt.Sprintf(", last with %s, exit code %d", c.LastEnd, c.LastExit)
		}
		return text
	})
}

func notStarting(p *pass) {
	states(p, func(_ *inventory.Workload, _ *inventory.Pod, c *inventory.ContainerState) string {
		switch c.Waiting {
		case "", "CrashLoopBackOff", "ContainerCreating", "PodInitializing":
			return ""
		}
		return "waits: " + c.Waiting
	})
}

func outOfMemory(p *pass) {
	states(p, func(_ *inventory.Workload, _ *inventory.Pod, c *inventory.ContainerState) string {
		if !c.OOM && c.LastEnd != "OOMKilled" {
			return ""
		}
		return "ended by the kernel for its memory"
	})
}

// settled is how long a pod may take to become ready.
const settled = 2 * time.Minute

func notReady(p *pass) {
	for _, w := range p.inv.Workloads {
		var facts []string
		for _, pod := range w.Pods {
			if w.Serves && !pod.Ready && pod.Phase == string(corev1.PodRunning) && pod.Age >= settled {
				facts = append(facts, pod.Name+" has not been ready, "+pod.Age.Round(time.Minute).String()+" after it was made")
			}
		}
		if len(facts) > 0 {
			p.at(w.Object, w.SpecPath, facts[:min(len(facts), maxPaths)]...)
		}
	}
}

func unschedulable(p *pass) {
	for _, w := range p.inv.Workloads {
		var facts []string
		for _, pod := range w.Pods {
			if pod.Reason == "Unschedulable" || pod.Reason == "Evicted" || pod.Reason == "OutOfcpu" || pod.Reason == "OutOfmemory" {
				facts = append(facts, pod.Name+": "+pod.Reason)
			}
		}
		if len(facts) > 0 {
			p.at(w.Object, w.SpecPath, facts[:min(len(facts), maxPaths)]...)
		}
	}
}

func allOnOneNode(p *pass) {
	nodes := len(p.inv.Kind("Node"))
	if nodes == 1 {
		return
	}
	for _, w := range p.inv.Workloads {
		on := map[string]bool{}
		for _, pod := range w.Pods {
			on[pod.Node] = true
		}
		if w.Serves && len(w.Pods) > 1 && len(on) == 1 && w.Pods[0].Node != "" {
			p.at(w.Object, w.SpecPath, fmt.Sprintf("%d pods stand on %s", len(w.Pods), w.Pods[0].Node))
		}
	}
}

func differentImages(p *pass) {
	for _, w := range p.inv.Workloads {
		for n := range w.Containers {
			c := &w.Containers[n]
			if d := w.Digests[c.Name]; len(d) > 1 && w.Serves && c.Image.Digest == "" {
				p.at(w.Object, c.Path+".image", append([]string{"the image is " + c.Image.Text}, d[:min(len(d), maxPaths)]...)...)
			}
		}
	}
}
