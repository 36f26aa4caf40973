package inventory

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// owners makes what is kept of the live pods, each with the workload at the top of its
// chain of owners.
func (r *clusterReader) owners() {
	above := map[Ref]Ref{} // of a ReplicaSet its Deployment, of a Job its CronJob
	have := map[Ref]bool{}
	for _, o := range r.inv.Objects {
		have[o.Ref] = true
		if o.Kind != "Pod" {
			if up, ok := ownerOf(o.Content, o.Namespace); ok {
				above[o.Ref] = up
			}
		}
	}
	now := r.inv.Cluster.Read
	for _, o := range r.inv.Objects {
		p, ok := o.Content.(*corev1.Pod)
		if !ok {
			continue
		}
		owner := o.Ref
		if up, ok := ownerOf(p, o.Namespace); ok {
			owner = up
			// As far up as there are objects: custom controllers own Deployments, too.
			for range maxDepth {
				up, ok := above[owner]
				if !ok || !have[up] {
					break
				}
				owner = up
			}
		}
		one := Pod{Ref: o.Ref, Owner: owner, Phase: string(p.Status.Phase), Node: p.Spec.NodeName, Created: p.CreationTimestamp.UTC(), Age: now.Sub(p.CreationTimestamp.Time), Reason: p.Status.Reason}
		for _, c := range p.Status.Conditions {
			switch {
			case c.Type == corev1.PodReady:
				one.Ready = c.Status == corev1.ConditionTrue
			case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
				one.Reason = c.Reason
			}
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			one.Containers = append(one.Containers, containerState(s))
		}
		slices.SortFunc(one.Containers, func(a, b ContainerState) int { return strings.Compare(a.Name, b.Name) })
		r.inv.Pods = append(r.inv.Pods, one)
	}
}

const oomKilled = "OOMKilled"

func containerState(s corev1.ContainerStatus) ContainerState {
	one := ContainerState{Name: s.Name, Ready: s.Ready, Restarts: s.RestartCount, Digest: digestOf(s.ImageID)}
	if s.State.Waiting != nil {
		one.Waiting = s.State.Waiting.Reason
	}
	last := s.LastTerminationState.Terminated
	if last == nil && s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 {
		last = s.State.Terminated
	}
	if last != nil {
		one.LastEnd, one.LastExit, one.LastAt, one.OOM = last.Reason, last.ExitCode, last.FinishedAt.UTC(), last.Reason == oomKilled
	}
	return one
}

// digestOf is the digest in an image's id, such as docker.io/library/nginx@sha256:...
func digestOf(id string) string {
	if at := strings.LastIndex(id, "sha256:"); at >= 0 {
		return id[at:]
	}
	return ""
}
