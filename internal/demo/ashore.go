package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/cutover"
	"dhow/internal/demo/kube"
	"dhow/internal/estate"
	"dhow/internal/image"
	"dhow/internal/move"
	"dhow/internal/pods"
	"dhow/superapp/fleet"
	"dhow/superapp/images"
)

const (
	// moveNamespace is where dhow's own pods live, in the target's cluster.
	moveNamespace = "dhow"
	// gateNodePort is where clients reach the gate: below those of the application,
	// in the range from which Kubernetes gives out none by itself.
	gateNodePort = 30070
	// copyParts are the pods that help with the copies.
	copyParts = 2
	// askEvery is the pause between two questions to the movers.
	askEvery = 2 * time.Second
	// answersWithin is how long the movers get to answer, after they were handed the estate back.
	answersWithin = 45 * time.Second
	// maxLine bounds a line of what dhow says, in bytes: the report of a copy names every table.
	maxLine = 1 << 20
	// maxSaid bounds what is kept of what a command says, in bytes.
	maxSaid = 64 << 10
)

// moveNamespaceManifest lets pods in that meet the strictest of Kubernetes' standards, and no others.
const moveNamespaceManifest = `apiVersion: v1
kind: Namespace
metadata:
  name: ` + moveNamespace + `
  labels:
    pod-security.kubernetes.io/enforce: restricted
`

// Provision builds dhow's own image and puts it into the target's registry, for the
// gate, the movers and the operator in its pods.
func (h *Harbour) Provision(ctx context.Context) error {
	return h.docks[estate.Target].provision(ctx)
}

func (d *dock) provision(ctx context.Context) error {
	built, err := image.Build(ctx, images.Options{}, "/")
	if err != nil {
		return fmt.Errorf("build the image of dhow; it takes the sources and Go, run it in the project's folder: %w", err)
	}
	refs, err := images.Push(ctx, images.Target{Prefix: d.registry, Tag: imageTag, Insecure: true}, built)
	if err != nil {
		return fmt.Errorf("fill the %s's registry: %w", d.side, err)
	}
	d.dhow = refs[image.Name]
	return nil
}

// gateAddress is where clients reach the gate.
func (h *Harbour) gateAddress() string {
	return fmt.Sprintf("%s:%d", h.docks[estate.Target].cluster.Address(), gateNodePort)
}

// startMove runs the gate and the movers in the target's pods, and returns once the gate serves.
func (h *Harbour) startMove(ctx context.Context, e *estate.Estate) error {
	d := h.docks[estate.Target]
	pack, err := pods.NewPack(ctx, e)
	if err != nil {
		return err
	}
	place := pods.Place{Namespace: moveNamespace, Image: d.dhow}
	objects, err := pack.Objects(pods.Workload{Place: place, Parts: copyParts, Volatile: true, NodePort: gateNodePort})
	if err != nil {
		return err
	}
	secret, err := pods.YAML(pack.Secret(pods.Name(e), moveNamespace))
	if err != nil {
		return err
	}
	rest, err := pods.YAML(objects...)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, podsReady)
	defer cancel()
	if err := kube.Apply(within, d.cluster.Kubeconfig(), bytes.Join([][]byte{[]byte(moveNamespaceManifest), secret, rest}, []byte("\n"))); err != nil {
		return fmt.Errorf("deploy the gate and the movers: %w", err)
	}
	// The clients are to be there while the movers copy, so nothing else is waited for.
	for err = fleet.Answers(within, "gate", "http://"+h.gateAddress()+"/accounts/1"); err != nil && within.Err() == nil; {
		err = fleet.Answers(within, "gate", "http://"+h.gateAddress()+"/accounts/1") // an image takes a while to come
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	why, enough := context.WithTimeout(ctx, askEvery)
	defer enough()
	_, unready := kube.AwaitReady(why, d.cluster.Kubeconfig(), moveNamespace)
	return errors.Join(err, unready)
}

// ashore steers by the commands of dhow, in the container of the movers.
type ashore struct {
	say       func(format string, args ...any)
	container kube.Container
	databases []string
}

func newAshore(h *Harbour, e *estate.Estate, say func(string, ...any)) *ashore {
	a := &ashore{say: say, container: kube.Container{Kubeconfig: h.Kubeconfig(estate.Target), Namespace: moveNamespace, Labels: pods.Selector(e), Name: pods.MoverContainer}}
	for _, d := range e.Databases {
		a.databases = append(a.databases, d.Name)
	}
	return a
}

func (*ashore) close(context.Context) {}

// dhow runs a command in the movers' container and reads the JSON that it prints,
// also of one that fails. heard gets what it logs, line by line.
func (a *ashore) dhow(ctx context.Context, into any, heard func([]byte), args ...string) error {
	var out, errs bytes.Buffer
	said, logged := io.Pipe()
	var g errgroup.Group
	g.Go(func() error {
		defer func() { _ = said.Close() }() // whoever writes on is told
		lines := bufio.NewScanner(said)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			if errs.Len() < maxSaid {
				errs.Write(append(lines.Bytes(), '\n'))
			}
			if heard != nil {
				heard(lines.Bytes())
			}
		}
		return lines.Err()
	})
	line := append([]string{"/" + image.Name}, args...)
	line = append(line, "--file", pods.EstateFile, "--output", "json")
	err := a.container.Exec(ctx, &out, logged, line...)
	_ = logged.Close() // it never fails
	if failed := g.Wait(); failed != nil && err == nil {
		err = fmt.Errorf("read what dhow %s says: %w", args[0], failed)
	}
	if out.Len() > 0 && into != nil {
		if bad := json.Unmarshal(out.Bytes(), into); bad != nil {
			err = errors.Join(err, fmt.Errorf("read what dhow %s prints: %w", args[0], bad))
		}
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return err
}

// replicate follows the movers, which began to copy when their pod did.
func (a *ashore) replicate(ctx context.Context, hear func(move.Progress)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	log, err := a.container.Log(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := a.listen(log, hear); ctx.Err() == nil {
			return err
		}
		return nil // enough was heard
	})
	g.Go(func() error {
		defer stop()
		return a.follow(gctx)
	})
	err = g.Wait()
	return err
}

// listen reads the movers' log until it ends.
func (a *ashore) listen(log io.Reader, hear func(move.Progress)) error {
	last := ""
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var of struct {
			Event string `json:"event"`
		}
		if json.Unmarshal(lines.Bytes(), &of) != nil || of.Event == "" {
			last = lines.Text()
			continue
		}
		switch of.Event {
		case "progress":
			var p move.Progress
			if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
				return fmt.Errorf("read the movers' report: %w", err)
			}
			hear(p)
		case "job":
			var s pods.Standing
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				return fmt.Errorf("read the movers' report: %w", err)
			}
			a.say("job %s: %d of %d parts run, %d done%s", s.Job, s.Running, s.Parts, s.Done, strings.TrimRight("; "+s.Trouble, "; "))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the movers' log: %w", err)
	}
	return fmt.Errorf("%w: %s", errEnded, last)
}

// standing is what dhow status says.
type standing struct {
	Databases []struct {
		Database string         `json:"database"`
		Progress *move.Progress `json:"progress"`
	} `json:"databases"`
	Replicate *struct {
		PeakRSS int64 `json:"peak_rss_bytes"`
	} `json:"replicate"`
}

// follow returns once every stream follows closely.
func (a *ashore) follow(ctx context.Context) error {
	for {
		var s standing
		if err := a.dhow(ctx, &s, nil, "status"); err == nil && s.follow() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askEvery):
		}
	}
}

func (s *standing) follow() bool {
	for _, d := range s.Databases {
		if p := d.Progress; p == nil || p.Phase != move.PhaseStream || p.LagSeconds > move.FollowsWithin.Seconds() {
			return false
		}
	}
	return len(s.Databases) > 0
}

func (a *ashore) move(ctx context.Context, to estate.Side, verify bool) (cutover.Result, error) {
	args := []string{"cutover", "--yes", "--verbose", "--log-format", "json"}
	if to == estate.Source {
		args[0] = "rollback"
	}
	if !verify {
		args = append(args, "--no-verify")
	}
	var said struct {
		cutover.Result
		OverBudget bool   `json:"over_budget"`
		Error      string `json:"error"`
	}
	err := a.dhow(ctx, &said, a.hearSteps, args...)
	if err != nil && said.OverBudget {
		err = fmt.Errorf("%w: %s", cutover.ErrOverBudget, said.Error)
	}
	return said.Result, err
}

// hearSteps passes on what a cutover logs of itself.
func (a *ashore) hearSteps(line []byte) {
	var said struct {
		Msg  string        `json:"msg"`
		Step cutover.Step  `json:"step"`
		Took time.Duration `json:"took"`
		// Slowest is the database that the step waited for longest.
		Slowest string `json:"slowest"`
		Text    string `json:"text"`
	}
	switch err := json.Unmarshal(line, &said); {
	case err != nil || said.Msg != "cutover":
	case said.Text != "":
		a.say("%s", said.Text)
	case said.Step != "":
		a.say("%s", stepLine(said.Step, said.Took, said.Slowest))
	}
}

func (a *ashore) memory(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	for {
		var s standing
		if err := a.dhow(ctx, &s, nil, "status"); err == nil && s.Replicate != nil {
			return float64(s.Replicate.PeakRSS) / 1e6
		}
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(askEvery):
		}
	}
}

func (a *ashore) finish(ctx context.Context, serving estate.Side) error {
	args := []string{"finish", "--yes"}
	if serving == estate.Source {
		args = append(args, "--abandon")
	}
	return a.dhow(ctx, nil, nil, args...)
}
