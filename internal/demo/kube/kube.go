// Package kube runs Kubernetes clusters of one's own for the demo and the tests: one
// node each, with every part that a real one has (etcd, API server, controller
// manager, scheduler, kubelet, containerd, kube-proxy, DNS, metrics), several side by
// side on one machine, and nothing left of them when they end, however they end.
// It also applies manifests to a cluster and waits for its pods; for that any other
// cluster will do. It is not for production: one node, no storage, no upgrades, and
// it knows nothing of what runs in the pods.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// startTimeout bounds a cluster's start; on two idle cores it takes seconds.
	startTimeout = 2 * time.Minute
	// askEvery is how often a starting part is asked whether it is ready.
	askEvery = 100 * time.Millisecond
	// socket is containerd's, in the cluster's own /run.
	socket = "/run/containerd/containerd.sock"
	// apiPort is where the API server listens.
	apiPort = 6443
)

// Cluster is what the demo needs to know of a cluster, be it one of this package's or
// a user's own.
type Cluster interface {
	// Kubeconfig is the path of a file that gives full rights.
	Kubeconfig() string
	// Address is where the cluster's NodePorts answer.
	Address() string
	// Host is the address by which pods reach this machine.
	Host() string
	// Down ends the cluster if it is this process', and removes everything of it, also
	// when ctx has ended. It may be called again.
	Down(ctx context.Context) error
}

// Options say which cluster to run.
type Options struct {
	// Name is the node's name and the kubeconfig's context: a DNS label.
	Name string
	// Dir takes the cluster's state and logs. It must not exist, or be empty, and is
	// removed by Down.
	Dir string
	Log *slog.Logger
}

// Local is a running cluster of one node, in namespaces of its own on this machine.
type Local struct {
	o          Options
	slot       *slot // nil once it is down
	space      *space
	kubeconfig string
	node, host netip.Addr
}

var _ Cluster = (*Local)(nil)

// Up starts a cluster and returns once its node is ready and names and metrics are
// served. It ends with Down and when this process dies, however it dies; what a
// process that died left is removed first.
func Up(ctx context.Context, o Options) (_ *Local, err error) {
	t, err := tools()
	if err != nil {
		return nil, err
	}
	if wrong := validation.IsDNS1123Label(o.Name); len(wrong) > 0 {
		return nil, fmt.Errorf("the cluster's name %q: %s", o.Name, wrong[0])
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("find the cluster's folder: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := Clean(ctx); err != nil {
		return nil, err
	}
	if found, err := os.ReadDir(o.Dir); err == nil && len(found) > 0 {
		return nil, fmt.Errorf("the cluster's folder %s is not empty: remove it, or choose another", o.Dir)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	c := &Local{o: o}
	if c.slot, err = claim(record{Name: o.Name, Dir: o.Dir}); err != nil {
		return nil, err
	}
	c.node, c.host = c.slot.node(), c.slot.host()
	if err := c.start(ctx, t); err != nil {
		err = fmt.Errorf("start cluster %s: %w", o.Name, err)
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	o.Log.Info("the cluster is up", "name", o.Name, "node", c.Address(), "took", time.Since(began).Round(time.Millisecond))
	return c, nil
}

// Kubeconfig is the path of the administrator's file.
func (c *Local) Kubeconfig() string { return c.kubeconfig }

// Address is the node's.
func (c *Local) Address() string { return c.node.String() }

// Host is this machine's end of the link to the node.
func (c *Local) Host() string { return c.host.String() }

// Down ends everything that runs in the cluster and removes all that it left. What can
// not be removed is named in the error, and left to the next Clean.
func (c *Local) Down(ctx context.Context) error {
	if c.space != nil {
		c.space.close()
		c.space = nil
	}
	if c.slot == nil {
		return nil
	}
	s := c.slot
	c.slot = nil // what could not be removed is the next Clean's
	return s.sweep(ctx)
}

// TrustRegistry lets pods have images from a registry that speaks plain HTTP at the
// address, host:port, as the images' names begin. It holds for the next pull.
func (c *Local) TrustRegistry(address string) error {
	if _, err := name.NewRegistry(address); err != nil {
		return fmt.Errorf("the registry's address: %w", err)
	}
	dir := filepath.Join(c.registries(), address)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("trust the registry %s: %w", address, err)
	}
	text := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+address, "http://"+address)
	_, err := write(dir, "hosts.toml", []byte(text))
	return err
}

func (c *Local) registries() string { return filepath.Join(c.o.Dir, "registries") }

// start brings up one part after the other, and those that can at the same time.
func (c *Local) start(ctx context.Context, t toolbox) error {
	if err := c.makeFolder(); err != nil {
		return err
	}
	f, err := c.furnish(t)
	if err != nil {
		return err
	}
	if err := createCgroups(c.slot.id()); err != nil {
		return err
	}
	r := c.slot.record
	c.space, err = newSpace(c.o.Dir, c.logs(), t, func(pid int) error {
		r.Init = pid
		r.Began, _ = birth(pid)
		return c.slot.write(r)
	})
	if err != nil {
		return err
	}
	if err := c.space.connect(c.slot); err != nil {
		return err
	}
	if err := c.startAll(ctx, f); err != nil {
		return err
	}
	return c.ready(ctx)
}

// startAll starts every process: those that the kubelet and the others need at the
// start first.
func (c *Local) startAll(ctx context.Context, f *furniture) error {
	for _, p := range f.first {
		if err := c.space.start(p[0], p[1:]...); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.await(gctx, "containerd", func() error { return c.loadPause(gctx, f.pause) }) })
	g.Go(func() error {
		return c.await(gctx, "the API server", func() error { return healthy(gctx, c.kubeconfig) })
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range f.then {
		if err := c.space.start(p[0], p[1:]...); err != nil {
			return err
		}
	}
	// The roles that Kubernetes itself brings may still be in the making.
	if err := c.await(ctx, "the system's objects", func() error { return Apply(ctx, c.kubeconfig, f.system) }); err != nil {
		return err
	}
	if err := c.await(ctx, "the rights of metrics-server", func() error { return mayReadAuthentication(ctx, c.kubeconfig, metricsUser) }); err != nil {
		return err
	}
	return c.space.start(f.last[0], f.last[1:]...)
}

// ready returns once the cluster can run pods that find each other.
func (c *Local) ready(ctx context.Context) error {
	if err := c.await(ctx, "the node", func() error { return nodeReady(ctx, c.kubeconfig, c.o.Name) }); err != nil {
		return err
	}
	if err := c.await(ctx, "CoreDNS", func() error { return answers(ctx, fmt.Sprintf("http://%s:8181/ready", c.node)) }); err != nil {
		return err
	}
	return c.await(ctx, "metrics-server", func() error { return metricsReady(ctx, c.kubeconfig) })
}

// await tries until it succeeds. It fails with the last error when ctx ends, and with
// a process' last words when one falls.
func (c *Local) await(ctx context.Context, what string, try func() error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := poll(ctx, askEvery, func() error {
		err := try()
		if fallen := c.space.fallen(); err != nil && fallen != nil {
			stop(fallen)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}

// makeFolder makes the cluster's folder, marked as this one's: the mark is made whole
// or not at all, and by one of two who want the same folder.
func (c *Local) makeFolder() error {
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return fmt.Errorf("create the cluster's folder: %w", err)
	}
	if err := os.Symlink(c.slot.id(), filepath.Join(c.o.Dir, markerName)); err != nil {
		return fmt.Errorf("mark the cluster's folder: %w", err)
	}
	for _, dir := range []string{c.logs(), c.registries(), filepath.Join(c.o.Dir, "cni"), filepath.Join(c.o.Dir, "pki")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("create the cluster's folder: %w", err)
		}
	}
	return nil
}

func (c *Local) logs() string { return filepath.Join(c.o.Dir, "logs") }

// loadPause hands the sandbox' image to containerd; repeating it changes nothing.
func (c *Local) loadPause(ctx context.Context, image string) error {
	return c.space.run(ctx, c.space.tools.found["ctr"], "--address", socket, "--namespace", "k8s.io", "images", "import", image)
}
