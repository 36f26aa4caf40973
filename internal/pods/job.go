package pods

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// MaxParts bounds the parts of a copy: each opens sessions to both servers.
	MaxParts = 64
	// partComponent is the label of the pods that help with a copy.
	partComponent = "copy"
	// partTries is how often a part that fails is started again; the pauses between
	// double, from ten seconds on.
	partTries = 6
	// keptSeconds is how long a Job that has ended is kept, whoever started it
	// having died: to be looked at.
	keptSeconds = 3600
	// badUsage is dhow's exit code when it was called wrongly: trying again is no use.
	badUsage = 2
)

// What pods get, in Kubernetes' notation. Each takes what it finds of the processors
// up to its limit, by which Go also chooses how many threads it runs.
const (
	moverCPU, moverCPULimit       = "100m", "2"
	moverMemory, moverMemoryLimit = "128Mi", "768Mi"
	gateCPU, gateCPULimit         = "100m", "2"
	gateMemory, gateMemoryLimit   = "64Mi", "512Mi"
	// scratchSize is for pg_dump's archive of a schema, without rows.
	scratchSize = "64Mi"
)

// Job is an Indexed Job of parts that help with an estate's copy.
type Job struct {
	Place
	// Parts are how many pods help, 1 to MaxParts.
	Parts int
}

func (j Job) check() error {
	if j.Parts < 1 || j.Parts > MaxParts {
		return fmt.Errorf("a job of %d parts: want 1 to %d", j.Parts, MaxParts)
	}
	return j.Place.check()
}

// JobName is what the Job that helps with an estate's copy is called, and its Secret.
func (p *Pack) JobName() string { return Name(p.estate) + "-" + partComponent }

// Job is the object. Its pods are told which part they are by the index that
// Kubernetes gives them.
func (p *Pack) Job(j Job) *batchv1.Job {
	name := p.JobName()
	pod := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		ServiceAccountName:            j.ServiceAccount,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(int64(graceSeconds)),
		SecurityContext:               podSecurity(),
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: choosing(p.estate, partComponent)},
		}},
		Containers: []corev1.Container{{
			Name: partComponent, Image: j.Image, ImagePullPolicy: corev1.PullIfNotPresent,
			Args:                     []string{"replicate", "--file", EstateFile, "--part", fmt.Sprintf("$(JOB_COMPLETION_INDEX)/%d", j.Parts), "--output", "json", "--verbose", "--log-format", "json"},
			Env:                      []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: memoryTarget}},
			Resources:                takes(moverCPU, moverCPULimit, moverMemory, moverMemoryLimit),
			SecurityContext:          containerSecurity(),
			VolumeMounts:             []corev1.VolumeMount{estateMount()},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}},
		Volumes: []corev1.Volume{estateVolume(name)},
	}
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: meta(p.estate, name, j.Namespace, partComponent),
		Spec: batchv1.JobSpec{
			CompletionMode: new(batchv1.IndexedCompletion), Completions: new(int32(j.Parts)), Parallelism: new(int32(j.Parts)),
			BackoffLimitPerIndex: new(int32(partTries)), TTLSecondsAfterFinished: new(int32(keptSeconds)),
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
				{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
				{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{ContainerName: new(partComponent), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{badUsage}}},
			}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(p.estate, partComponent)}, Spec: pod},
		},
	}
}

// takes are a container's requests and limits.
func takes(cpu, cpuLimit, memory, memoryLimit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpuLimit), corev1.ResourceMemory: resource.MustParse(memoryLimit)},
	}
}

func parseQuantity(text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		return q, fmt.Errorf("%q is no size: want one as %s", text, DefaultStorage)
	}
	return q, nil
}

// quantity is one of this package's own.
func quantity(text string) *resource.Quantity { return new(resource.MustParse(text)) }
