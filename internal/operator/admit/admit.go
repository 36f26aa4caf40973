// Package admit completes a pod, when it is made, with what lets a rollout lose no request:
// a sleep before it ends, a grace period that covers it, a readiness probe, and a spread over
// zones and nodes. It changes nothing that somebody has set, and says in an annotation what
// it set and why. It asks nobody: which Exposures a pod belongs to, and what they need, is
// its caller's to know; the numbers are package render's, by which load balancers wait too.
// It also holds a pod's images at the digests with which its revision began.
package admit

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// How the API server finds the webhook.
const (
	// Configuration is the name of the MutatingWebhookConfiguration, Hook that of the webhook in it.
	Configuration = "dhow-operator"
	Hook          = "pods." + v1alpha1.Group
	// Path is what is called.
	Path = "/pods"
	// Service leads to the operators that answer.
	Service = "dhow-operator-webhook"
)

// SetNote is the annotation that says what was set and why, a Report as JSON.
const SetNote = v1alpha1.Group + "/pods-set"

// Need is what one Exposure needs of its pods.
type Need struct {
	Exposure string
	Pod      render.Pod
	// Times are the reasons of the pod's times, as render.Pods gives them.
	Times []v1alpha1.Setting
}

// Report is what the annotation says.
type Report struct {
	// Exposures are those for which it was done.
	Exposures []string `json:"exposures,omitempty"`
	Set       []Change `json:"set"`
	// Left is what was not set although it would help, and why.
	Left []Change `json:"left,omitempty"`
}

// Change is a field of the pod.
type Change struct {
	Field string `json:"field"`
	Value string `json:"value,omitempty"`
	Why   string `json:"why"`
}

// Complete gives a pod what its Exposures need and nobody has set, and says whether that
// changed it. It may be called again for a pod that it has completed, as where another
// program has put a container in meanwhile. Of several Exposures the longest times count. An
// error leaves the pod as it was.
func Complete(pod *corev1.Pod, needs []Need) (bool, error) {
	if len(needs) == 0 {
		return false, nil
	}
	needs = slices.Clone(needs)
	slices.SortFunc(needs, func(a, b Need) int { return strings.Compare(a.Exposure, b.Exposure) })
	done := pod.DeepCopy()
	c := completion{pod: done, join: joined(needs)}
	c.sleep()
	c.grace()
	c.probe()
	c.spread()
	if len(c.report.Set) == 0 {
		return false, nil
	}
	for _, n := range needs {
		c.report.Exposures = append(c.report.Exposures, n.Exposure)
	}
	c.report.Set = append(reported(pod).Set, c.report.Set...)
	if err := c.report.note(done); err != nil {
		return false, err
	}
	*pod = *done
	return true, nil
}

// reported is what the annotation says already.
func reported(pod *corev1.Pod) Report {
	var r Report
	if err := json.Unmarshal([]byte(pod.Annotations[SetNote]), &r); err != nil {
		return Report{} // there is none, or not one of this program
	}
	return r
}

// note writes a report into a pod's annotation.
func (r Report) note(pod *corev1.Pod) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write what was set in a pod: %w", err)
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[SetNote] = string(text)
	return nil
}

// join is what several Exposures need together.
type join struct {
	render.Pod
	// after is how long a pod must be there after its sleep, in seconds.
	after int64
	// sleepWhy and graceWhy are the reasons of the longest.
	sleepWhy, graceWhy string
}

func joined(needs []Need) join {
	var j join
	for _, n := range needs {
		why := func(name string) string {
			for _, s := range n.Times {
				if s.Name == name {
					return s.Why
				}
			}
			return "a rollout is to lose no request"
		}
		if n.Pod.PreStop > j.PreStop || j.sleepWhy == "" {
			j.PreStop, j.sleepWhy = n.Pod.PreStop, why(render.PreStopSetting)
		}
		if n.Pod.Grace > j.Grace || j.graceWhy == "" {
			j.Grace, j.graceWhy = n.Pod.Grace, why(render.GraceSetting)
		}
		j.after = max(j.after, n.Pod.Grace-n.Pod.PreStop)
		if j.Readiness == nil {
			j.Readiness = n.Pod.Readiness
		}
		if len(j.Spread) == 0 {
			j.Spread = n.Pod.Spread
		}
	}
	return j
}

// completion is the work on one pod.
type completion struct {
	join
	pod    *corev1.Pod
	report Report
}

func (c *completion) set(field, value, why string) {
	c.report.Set = append(c.report.Set, Change{field, value, why})
}

func (c *completion) left(field, why string, args ...any) {
	c.report.Left = append(c.report.Left, Change{Field: field, Why: fmt.Sprintf(why, args...)})
}

func fieldOf(container, field string) string {
	return fmt.Sprintf("spec.containers[%s].%s", container, field)
}

// sleep lets all containers go on after the pod is told to end: also one that stands beside
// the one that serves is missed by it. Side-cars that are init containers end last anyway.
func (c *completion) sleep() {
	seconds := c.PreStop
	if g := c.pod.Spec.TerminationGracePeriodSeconds; render.OwnGrace(g) {
		seconds = c.Within(*g)
	}
	for i := range c.pod.Spec.Containers {
		x := &c.pod.Spec.Containers[i]
		field := fieldOf(x.Name, "lifecycle.preStop")
		if x.Lifecycle != nil && x.Lifecycle.PreStop != nil {
			if has, known := Slept(x.Lifecycle.PreStop); known && has < seconds {
				c.left(field, "it sleeps for %d s, where %d s are needed, and is the author's", has, seconds)
			}
			continue
		}
		if seconds <= 0 {
			c.left(field, "the grace period, which is the author's, leaves no time for a sleep")
			continue
		}
		if x.Lifecycle == nil {
			x.Lifecycle = &corev1.Lifecycle{}
		}
		x.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
		c.set(field, fmt.Sprintf("sleep %d", seconds), c.sleepWhy)
	}
}

// grace covers the longest sleep, and what a container takes to end after it.
func (c *completion) grace() {
	const field = "spec.terminationGracePeriodSeconds"
	want := c.Grace
	for i := range c.pod.Spec.Containers {
		if l := c.pod.Spec.Containers[i].Lifecycle; l != nil && l.PreStop != nil {
			if has, known := Slept(l.PreStop); known {
				want = max(want, has+c.after)
			}
		}
	}
	has := c.pod.Spec.TerminationGracePeriodSeconds
	switch {
	case render.OwnGrace(has):
		if *has < want {
			c.left(field, "it is %d s, where %d s are needed, and is the author's", *has, want)
		}
	case has == nil || *has < want:
		c.pod.Spec.TerminationGracePeriodSeconds = &want
		why := c.graceWhy
		if want > c.Grace {
			why = fmt.Sprintf("the preStop of a container of %d s, which is the author's, and %d s to end", want-c.after, c.after)
		}
		c.set(field, fmt.Sprint(want), why)
	}
}

// probe asks the container that serves whether it is ready.
func (c *completion) probe() {
	if c.Readiness == nil {
		return
	}
	port, asked := askedAt(c.Readiness)
	i := slices.IndexFunc(c.pod.Spec.Containers, func(x corev1.Container) bool { return declares(&x, port) })
	if i < 0 && len(c.pod.Spec.Containers) == 1 && port.Type == intstr.Int {
		i = 0 // a port may be served without being declared
	}
	if i < 0 {
		c.left("spec.containers[*].readinessProbe", "no container declares the port %s that the Exposure leads to", port.String())
		return
	}
	x := &c.pod.Spec.Containers[i]
	if x.ReadinessProbe != nil {
		return
	}
	x.ReadinessProbe = c.Readiness.DeepCopy()
	c.set(fieldOf(x.Name, "readinessProbe"), asked, "it had none, so that a rollout would go on before it serves: it is asked at the port that the Exposure leads to")
}

// askedAt is where a probe asks, also in words.
func askedAt(p *corev1.Probe) (intstr.IntOrString, string) {
	if h := p.HTTPGet; h != nil {
		return h.Port, fmt.Sprintf("httpGet %s at port %s", h.Path, h.Port.String())
	}
	if t := p.TCPSocket; t != nil {
		return t.Port, "tcpSocket at port " + t.Port.String()
	}
	return intstr.IntOrString{}, ""
}

func declares(x *corev1.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(x.Ports, func(p corev1.ContainerPort) bool {
		return port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal
	})
}

// spread keeps pods of one workload from standing in one zone or on one node, where nobody
// has said how they should stand.
func (c *completion) spread() {
	const field = "spec.topologySpreadConstraints"
	if len(c.Spread) == 0 || len(c.pod.Spec.TopologySpreadConstraints) > 0 {
		return
	}
	if a := c.pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		c.left(field, "the pod's own anti-affinity says how pods stand")
		return
	}
	var words []string
	for i := range c.Spread {
		s := c.Spread[i].DeepCopy()
		c.pod.Spec.TopologySpreadConstraints = append(c.pod.Spec.TopologySpreadConstraints, *s)
		words = append(words, fmt.Sprintf("%s %s", s.TopologyKey, s.WhenUnsatisfiable))
	}
	c.set(field, strings.Join(words, ", "), "there was none: the loss of a zone or a node should not take all pods")
}

// shells run a command that is given as text.
//
//nolint:gochecknoglobals // a constant list
var shells = []string{"sh", "bash", "ash", "dash"}

// mostSlept bounds what is believed of a command, in seconds.
const mostSlept = 24 * 3600

// Slept is for how many seconds a container sleeps before it is told to end, at least; known
// is false where what it does then takes a time that nobody can tell.
func Slept(h *corev1.LifecycleHandler) (seconds int64, known bool) {
	if h.Sleep != nil {
		return h.Sleep.Seconds, true
	}
	if h.Exec == nil {
		return 0, false
	}
	words := h.Exec.Command
	if len(words) == 3 && slices.Contains(shells, path.Base(words[0])) && words[1] == "-c" {
		words = strings.Fields(strings.NewReplacer(";", " ", "&&", " ").Replace(words[2]))
	}
	if len(words) < 2 || path.Base(words[0]) != "sleep" {
		return 0, false
	}
	text := words[1]
	if !strings.HasSuffix(text, "s") && !strings.HasSuffix(text, "m") && !strings.HasSuffix(text, "h") {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > mostSlept*time.Second {
		return 0, false
	}
	return int64((d + time.Second - 1) / time.Second), true
}
