package pods

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"dhow/internal/estate"
)

// crewOf is a Job of three parts in a cluster that is made up.
func crewOf(t *testing.T, status batchv1.JobStatus, more ...runtime.Object) (*Crew, *fake.Clientset) {
	t.Helper()
	head := metav1.ObjectMeta{Name: "dhow-bank-copy", Namespace: "moves", Annotations: map[string]string{estateAnnotation: "bank"}}
	client := fake.NewClientset(append(more, &batchv1.Job{ObjectMeta: head, Status: status}, &corev1.Secret{ObjectMeta: head})...)
	return &Crew{cluster: &Cluster{Namespace: "moves", client: client}, name: head.Name, parts: 3}, client
}

// podOf is a pod of the Job.
func podOf(name string, conditions []corev1.PodCondition, states ...corev1.ContainerState) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "moves", Labels: map[string]string{batchv1.JobNameLabel: "dhow-bank-copy"}}}
	p.Status.Conditions = conditions
	for _, s := range states {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{State: s})
	}
	return p
}

// TestLook takes apart what a cluster says of the parts.
func TestLook(t *testing.T) {
	waits := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "back-off pulling\nimage"}}
	begins := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1, Message: strings.Repeat("no way to the source ", 50)}}
	for name, c := range map[string]struct {
		status batchv1.JobStatus
		pods   []runtime.Object
		want   Standing
	}{
		"all run":     {batchv1.JobStatus{Ready: new(int32(3))}, nil, Standing{Running: 3}},
		"some done":   {batchv1.JobStatus{Ready: new(int32(1)), Succeeded: 2}, nil, Standing{Running: 1, Done: 2}},
		"begin":       {batchv1.JobStatus{}, []runtime.Object{podOf("a", nil, begins)}, Standing{}},
		"no image":    {batchv1.JobStatus{}, []runtime.Object{podOf("a", nil, waits)}, Standing{Trouble: "pod a: ImagePullBackOff back-off pulling image"}},
		"no node":     {batchv1.JobStatus{}, []runtime.Object{podOf("a", []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}})}, Standing{Trouble: "pod a: 0/1 nodes are available"}},
		"some failed": {batchv1.JobStatus{FailedIndexes: new("0-1"), Ready: new(int32(1))}, []runtime.Object{podOf("a", nil, ended)}, Standing{Running: 1, Failed: 2, Trouble: "pod a: " + ("Error, exit code 1: " + strings.Repeat("no way to the source ", 50))[:maxTrouble] + "..."}},
		"given up": {batchv1.JobStatus{Succeeded: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Message: "called wrongly"}}}, nil,
			Standing{Done: 1, Failed: 2, Trouble: "called wrongly"}},
	} {
		t.Run(name, func(t *testing.T) {
			crew, _ := crewOf(t, c.status, c.pods...)
			c.want.Job, c.want.Parts = "moves/dhow-bank-copy", 3
			got, err := crew.look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("it stands otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIndexes(t *testing.T) {
	for text, want := range map[string]int{"": 0, "0": 1, "0,2": 2, "1,3-5": 4, "0-63": 64, "x": 0, "5-3": 0} {
		if got := indexes(text); got != want {
			t.Errorf("%q are %d, want %d", text, got, want)
		}
	}
}

// TestFollow ends with the last part, and tells nothing twice.
func TestFollow(t *testing.T) {
	crew, _ := crewOf(t, batchv1.JobStatus{Succeeded: 3})
	var told []Standing
	crew.Follow(t.Context(), func(s Standing) { told = append(told, s) })
	if len(told) != 1 || told[0].Done != 3 || !told[0].Over() {
		t.Errorf("it told %+v", told)
	}
	// A Job that somebody removed helps no more.
	crew, client := crewOf(t, batchv1.JobStatus{})
	if err := client.BatchV1().Jobs("moves").Delete(t.Context(), crew.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	told = nil
	crew.Follow(t.Context(), func(s Standing) { told = append(told, s) })
	if len(told) != 1 || told[0].Failed != 3 || told[0].Trouble != "the job was removed" {
		t.Errorf("it told %+v", told)
	}
	// One that does not answer is asked until it is told to end.
	crew, client = crewOf(t, batchv1.JobStatus{})
	ctx, stop := context.WithCancel(t.Context())
	client.PrependReactor("get", "jobs", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("away") })
	crew.Follow(ctx, func(s Standing) {
		if !strings.Contains(s.Trouble, "away") || s.Parts != 3 {
			t.Errorf("it told %+v", s)
		}
		stop()
	})
}

// TestDismiss removes both, also with nothing there and with a context that has ended.
func TestDismiss(t *testing.T) {
	crew, client := crewOf(t, batchv1.JobStatus{})
	ended, stop := context.WithCancel(t.Context())
	stop()
	for range 2 {
		if err := crew.Dismiss(ended); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.CoreV1().Secrets("moves").Get(t.Context(), crew.name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the secret is there: %v", err)
	}
}

// TestMusterMakesWay: what an earlier run left is replaced, and a stranger's is not touched.
func TestMusterMakesWay(t *testing.T) {
	crew, client := crewOf(t, batchv1.JobStatus{Succeeded: 3})
	p := &Pack{estate: &estate.Estate{Name: "bank"}, files: map[string][]byte{"a": []byte("b")}}
	again, err := crew.cluster.Muster(t.Context(), p, Job{Parts: 2, Place: Place{Image: "dhow"}})
	if err != nil {
		t.Fatal(err)
	}
	job, err := client.BatchV1().Jobs("moves").Get(t.Context(), again.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := client.CoreV1().Secrets("moves").Get(t.Context(), again.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *job.Spec.Completions != 2 || job.Status.Succeeded != 0 || len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].Name != job.Name {
		t.Errorf("it is %+v of %+v", job.Spec, secret.OwnerReferences)
	}
	job.Annotations[estateAnnotation] = "other"
	if _, err := client.BatchV1().Jobs("moves").Update(t.Context(), job, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.estate = &estate.Estate{Name: "bank"}
	if _, err := crew.cluster.Muster(t.Context(), p, Job{Parts: 2, Place: Place{Image: "dhow"}}); err == nil || !strings.Contains(err.Error(), "is not this estate's") {
		t.Errorf("a stranger's job is replaced: %v", err)
	}
}
