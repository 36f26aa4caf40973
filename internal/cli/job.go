package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/pods"
	"dhow/internal/voyage"
)

// copiesPoll is the pause between two looks whether the copies are over.
const copiesPoll = time.Second

// jobFlags spread a copy over the pods of a Job.
type jobFlags struct {
	parts   int
	image   string
	account string
	cluster pods.ClusterOptions
}

func (f *jobFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.parts, "job", 0, "help with the copies in so `many` pods of an Indexed Job")
	cmd.Flags().StringVar(&f.image, "image", "", "the `image` of dhow that the pods run; with --job")
	cmd.Flags().StringVarP(&f.cluster.Namespace, "namespace", "n", "", "the `namespace` of the Job (default: the context's, or that of the pod that this runs in)")
	cmd.Flags().StringVar(&f.cluster.Kubeconfig, "kubeconfig", "", "the `file` that says where the cluster is (default: as kubectl finds it, or the cluster of the pod that this runs in)")
	cmd.Flags().StringVar(&f.cluster.Context, "context", "", "the `context` of the kubeconfig (default: its current one)")
	cmd.Flags().StringVar(&f.account, "service-account", "", "the `account` of the Job's pods, where secrets are kept in AWS (default: the namespace's)")
	_ = cmd.MarkFlagFilename("kubeconfig") // fails for an unknown flag alone
}

// check refuses flags that do not go together.
func (f *jobFlags) check() error {
	var text string
	switch {
	case f.parts < 0 || f.parts > pods.MaxParts:
		text = fmt.Sprintf("--job %d: want 1 to %d pods", f.parts, pods.MaxParts)
	case f.parts > 0 && f.image == "":
		text = "--job needs --image: the image of dhow that the cluster's nodes can pull"
	case f.parts == 0 && (f.image != "" || f.account != "" || f.cluster != pods.ClusterOptions{}):
		text = "--image, --namespace, --kubeconfig, --context and --service-account are for --job: give it too"
	default:
		return nil
	}
	return &usageError{text: text, see: "dhow replicate"}
}

// helpers are the pods that a copy is spread over.
type helpers struct {
	app     *app
	flags   jobFlags
	cluster *pods.Cluster
	// pack is what the pods need of the estate: nothing but the databases that they help with.
	pack *pods.Pack
	// shared are those databases.
	shared []string
}

// newHelpers prepares the pods; whole is the estate before its limits were shared out.
func (a *app) newHelpers(ctx context.Context, whole *estate.Estate, v *voyage.Voyage, f jobFlags) (*helpers, error) {
	h := &helpers{app: a, flags: f, shared: v.Shared()}
	if len(h.shared) == 0 {
		return nil, &move.Refused{Reason: "--job: " + voyage.ErrUnshared.Error() + ": only PostgreSQL lets several processes see one snapshot", Fix: "run it without --job"}
	}
	part := *whole
	part.Gate = nil
	part.Databases = slices.DeleteFunc(slices.Clone(whole.Databases), func(d estate.Database) bool { return !slices.Contains(h.shared, d.Name) })
	var err error
	if h.pack, err = pods.NewPack(ctx, &part); err != nil {
		return nil, err
	}
	if h.cluster, err = pods.NewCluster(f.cluster); err != nil {
		return nil, err
	}
	return h, nil
}

// muster starts the Job.
func (h *helpers) muster(ctx context.Context) (*pods.Crew, error) {
	return h.cluster.Muster(ctx, h.pack, pods.Job{Parts: h.flags.parts, Place: pods.Place{Namespace: h.cluster.Namespace, Image: h.flags.image, ServiceAccount: h.flags.account}})
}

// accompany tells how the pods stand until the copies are over or ctx ends, then
// removes them.
func (h *helpers) accompany(ctx context.Context, crew *pods.Crew, repl *voyage.Replication, rep *reporter) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	told := make(chan struct{})
	go func() {
		defer close(told)
		crew.Follow(following, func(s pods.Standing) { h.tell(s, rep) })
	}()
	for tick := time.NewTicker(copiesPoll); ; {
		select {
		case <-told: // all parts have ended: the copies are over, or they can not help
		case <-ctx.Done():
		case <-tick.C:
			if !repl.Copied(h.shared) {
				continue
			}
		}
		tick.Stop()
		break
	}
	stop()
	<-told
	return crew.Dismiss(ctx)
}

// tell prints how the pods stand.
func (h *helpers) tell(s pods.Standing, rep *reporter) {
	if h.app.json() {
		rep.event(struct {
			Event string `json:"event"`
			pods.Standing
		}{"job", s})
		return
	}
	text := fmt.Sprintf("job %s: %d of %d parts run", s.Job, s.Running, s.Parts)
	if s.Done > 0 {
		text += fmt.Sprintf(", %d done", s.Done)
	}
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d failed", s.Failed)
	}
	if s.Trouble != "" {
		text += "; " + s.Trouble
	}
	h.app.printf("%s  %s", time.Now().Format(clock), text)
}

// indexed is which one of how many a process of a Job is.
type indexed struct{ index, of int }

// parseIndexed reads 2/8: the third of eight.
func parseIndexed(text string) (indexed, error) {
	var p indexed
	if _, err := fmt.Sscanf(text, "%d/%d", &p.index, &p.of); err != nil || text != fmt.Sprintf("%d/%d", p.index, p.of) || p.index < 0 || p.of > pods.MaxParts || p.index >= p.of {
		return indexed{}, &usageError{text: fmt.Sprintf("--part %q: want INDEX/PARTS, as 0/4", text), see: "dhow replicate"}
	}
	return p, nil
}

// assist is what a process of the Job does: it helps, and owns nothing.
func (a *app) assist(ctx context.Context, text string, databases []string) error {
	p, err := parseIndexed(text)
	if err != nil {
		return err
	}
	e, err := a.chosen(databases...)
	if err != nil {
		return err
	}
	voyage.Share(e, p.of+1)
	v, err := voyage.Open(ctx, e, voyage.Options{Log: a.log})
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	shared := v.Shared()
	rep := a.newReporter(ctx, shared, a.Out, true)
	defer rep.close(true)
	if !a.json() {
		a.printf("part %d of %d helps to copy %s", p.index, p.of, strings.Join(shared, ", "))
	}
	err = v.Assist(ctx, p.index, p.of, rep.report)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // whoever told it to end knows why
	}
	return err
}
