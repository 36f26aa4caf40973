package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	batchclient "k8s.io/client-go/kubernetes/typed/batch/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// fieldManager is the owner of the fields that are applied.
	fieldManager = "dhow"
	// requestTimeout bounds one request to the API server.
	requestTimeout = 30 * time.Second
	// removeTime bounds the removal of a Job and its pods.
	removeTime = time.Minute
	// followEvery is the pause between two looks at a Job.
	followEvery = 2 * time.Second
	// removePoll is the pause between two looks whether it is gone.
	removePoll = 250 * time.Millisecond
)

// ClusterOptions say which cluster is meant; the zero value is what kubectl would
// take, or in a pod the cluster that it runs in.
type ClusterOptions struct {
	// Kubeconfig is a file's path, Context one of its contexts.
	Kubeconfig, Context string
	// Namespace overrides the context's, or the pod's own.
	Namespace string
}

// Cluster is a cluster, with the namespace that is worked in.
type Cluster struct {
	// Namespace is where objects go.
	Namespace string
	client    kubernetes.Interface
}

// NewCluster makes a client; it connects to nothing yet.
func NewCluster(o ClusterOptions) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context, Context: clientcmdapi.Context{Namespace: o.Namespace}})
	conf, err := config.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, errors.New("no cluster is named: give --kubeconfig, or set KUBECONFIG")
		}
		return nil, fmt.Errorf("read which cluster is meant: %w", err)
	}
	namespace, _, err := config.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read which namespace is meant: %w", err)
	}
	conf.Timeout = requestTimeout
	conf.WarningHandler = rest.NoWarnings{} // what is out of fashion is for who makes the objects
	client, err := kubernetes.NewForConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	return &Cluster{Namespace: namespace, client: client}, nil
}

// Crew is the Job that helps with a copy, in its cluster.
type Crew struct {
	cluster *Cluster
	name    string
	parts   int
}

// Standing is how the parts of a Job stand.
type Standing struct {
	// Job is the Job's namespace and name, with a slash between.
	Job   string `json:"job"`
	Parts int    `json:"parts"`
	// Running, Done and Failed are how many of them are so; the others wait to be started.
	Running int `json:"running"`
	Done    int `json:"done"`
	Failed  int `json:"failed"`
	// Trouble is what keeps a part from running, as the cluster says; empty where nothing does.
	Trouble string `json:"trouble,omitempty"`
}

// Over says that no part will go on.
func (s Standing) Over() bool { return s.Done+s.Failed >= s.Parts }

// Muster starts the Job of a pack, in the place of one that an earlier run left. It
// returns before its pods run; Dismiss ends it.
func (c *Cluster) Muster(ctx context.Context, p *Pack, j Job) (*Crew, error) {
	if j.Namespace == "" {
		j.Namespace = c.Namespace
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	crew := &Crew{cluster: &Cluster{Namespace: j.Namespace, client: c.client}, name: p.JobName(), parts: j.Parts}
	if err := crew.makeWay(ctx, p); err != nil {
		return nil, err
	}
	if err := crew.start(ctx, p, j); err != nil {
		return nil, errors.Join(err, crew.Dismiss(context.WithoutCancel(ctx)))
	}
	return crew, nil
}

// makeWay removes the Job of an earlier run: its pods have read what may not hold any more.
func (c *Crew) makeWay(ctx context.Context, p *Pack) error {
	found, err := c.jobs().Get(ctx, c.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for the job of an earlier run: %w", err)
	case found.Annotations[estateAnnotation] != p.estate.Name:
		return fmt.Errorf("there is a job %s that is not this estate's: remove it, or give the estate another name", c.path())
	}
	return c.Dismiss(ctx)
}

func (c *Crew) start(ctx context.Context, p *Pack, j Job) error {
	secrets := func(ctx context.Context, name string, text []byte, o metav1.PatchOptions) (*corev1.Secret, error) {
		return c.cluster.client.CoreV1().Secrets(j.Namespace).Patch(ctx, name, types.ApplyPatchType, text, o)
	}
	secret := p.Secret(c.name, j.Namespace)
	if _, err := apply(ctx, secret, secrets); err != nil {
		return fmt.Errorf("apply the secret %s, which the parts of the copy read: %w", c.path(), err)
	}
	job, err := apply(ctx, p.Job(j), func(ctx context.Context, name string, text []byte, o metav1.PatchOptions) (*batchv1.Job, error) {
		return c.jobs().Patch(ctx, name, types.ApplyPatchType, text, o)
	})
	if err != nil {
		return fmt.Errorf("apply the job %s: %w", c.path(), err)
	}
	// Should nobody be left to remove it, it goes with the Job.
	secret.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID}}
	if _, err := apply(ctx, secret, secrets); err != nil {
		return fmt.Errorf("give the secret %s to its job: %w", c.path(), err)
	}
	return nil
}

// apply sends an object as it should be; what others own of it is taken over.
func apply[T interface {
	runtime.Object
	metav1.Object
}](ctx context.Context, o T, patch func(context.Context, string, []byte, metav1.PatchOptions) (T, error)) (T, error) {
	fields, err := plain(o)
	if err != nil {
		return o, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return o, fmt.Errorf("write %s: %w", o.GetName(), err)
	}
	return patch(ctx, o.GetName(), text, metav1.PatchOptions{FieldManager: fieldManager, Force: new(true)})
}

// Follow tells how the parts stand, each time that it changes, until none goes on or
// ctx ends; neither is an error. A cluster that does not answer is asked again, for
// the copy goes on without it.
func (c *Crew) Follow(ctx context.Context, said func(Standing)) {
	var last Standing
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		now, err := c.look(ctx)
		if err != nil {
			now = last
			now.Job, now.Parts, now.Trouble = c.path(), c.parts, err.Error()
		}
		if now != last && ctx.Err() == nil {
			said(now)
			last = now
		}
		if err == nil && now.Over() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks how the parts stand.
func (c *Crew) look(ctx context.Context) (Standing, error) {
	s := Standing{Job: c.path(), Parts: c.parts}
	job, err := c.jobs().Get(ctx, c.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		s.Failed, s.Trouble = c.parts, "the job was removed"
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("look at the job %s: %w", c.path(), err)
	}
	s.Done = int(job.Status.Succeeded)
	if job.Status.Ready != nil {
		s.Running = int(*job.Status.Ready)
	}
	if job.Status.FailedIndexes != nil {
		s.Failed = indexes(*job.Status.FailedIndexes)
	}
	for _, one := range job.Status.Conditions {
		if one.Type == batchv1.JobFailed && one.Status == corev1.ConditionTrue {
			s.Failed, s.Trouble = c.parts-s.Done, one.Message
		}
	}
	if s.Running+s.Done == c.parts {
		return s, nil
	}
	pods, err := c.cluster.client.CoreV1().Pods(c.cluster.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + c.name})
	if err != nil {
		return s, fmt.Errorf("look at the pods of the job %s: %w", c.path(), err)
	}
	for i := range pods.Items {
		if t := trouble(&pods.Items[i]); t != "" {
			s.Trouble = t
			break
		}
	}
	return s, nil
}

// indexes counts what Kubernetes writes as 1,3-5.
func indexes(text string) int {
	n := 0
	for one := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(one, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err == nil && err2 == nil && last >= first {
			n += last - first + 1
		}
	}
	return n
}

// maxTrouble bounds what is told of a pod, in bytes: a container's last lines may be long.
const maxTrouble = 300

// trouble is why a pod does not run; empty where it does, or has only just begun.
func trouble(p *corev1.Pod) string {
	why := ""
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			why = c.Message
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		switch w, t := s.State.Waiting, s.State.Terminated; {
		case w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing":
			why = strings.TrimSpace(w.Reason + " " + w.Message)
		case t != nil && t.ExitCode != 0:
			why = strings.TrimSpace(fmt.Sprintf("%s, exit code %d: %s", t.Reason, t.ExitCode, strings.TrimSpace(t.Message)))
		}
	}
	if why == "" {
		return ""
	}
	why = strings.Join(strings.Fields(why), " ")
	if len(why) > maxTrouble {
		why = why[:maxTrouble] + "..."
	}
	return "pod " + p.Name + ": " + why
}

// Dismiss removes the Job, its pods and its Secret, and returns once the Job is gone,
// also when ctx has ended. It may be called again.
func (c *Crew) Dismiss(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	// The pods first: the Job stands until they have ended.
	err := gone(c.jobs().Delete(ctx, c.name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}))
	for err == nil {
		_, err = c.jobs().Get(ctx, c.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			err = nil
			break
		}
		if err == nil {
			select {
			case <-ctx.Done():
				err = fmt.Errorf("its pods do not end: %w", ctx.Err())
			case <-time.After(removePoll):
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("remove the job %s: %w", c.path(), err)
	}
	if failed := gone(c.cluster.client.CoreV1().Secrets(c.cluster.Namespace).Delete(ctx, c.name, metav1.DeleteOptions{})); failed != nil {
		err = errors.Join(err, fmt.Errorf("remove the secret %s: %w", c.path(), failed))
	}
	return err
}

// gone takes what is not there for removed.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Crew) path() string { return c.cluster.Namespace + "/" + c.name }

func (c *Crew) jobs() batchclient.JobInterface {
	return c.cluster.client.BatchV1().Jobs(c.cluster.Namespace)
}
