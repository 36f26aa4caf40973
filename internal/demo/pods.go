package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/demo/kube"
	"dhow/internal/estate"
	"dhow/superapp/deploy"
	"dhow/superapp/fleet"
	"dhow/superapp/images"
)

const (
	// podsReady bounds the wait for all pods of a side.
	podsReady = 5 * time.Minute
	// clusterDown bounds the end of a cluster.
	clusterDown = time.Minute
	// imageTag is what the old deployment asks for.
	imageTag = "latest"
	// servicePort is that of the services in the new deployment.
	servicePort = 8080
	// imagePrefix comes before the images' names in a registry.
	imagePrefix = "superapp"
)

// Harbour is a cluster for each side, each with a registry of its own that holds the
// application's images: where the services run in pods.
type Harbour struct {
	// UpSeconds is how long the clusters took to come up, side by side.
	UpSeconds float64
	docks     map[estate.Side]*dock
}

// dock is one side's cluster: it is a Place.
type dock struct {
	side     estate.Side
	dir      string // of the harbour
	cluster  kube.Cluster
	registry string // host and port
	images   map[string]string
	dhow     string             // its own image, once it is provisioned
	end      context.CancelFunc // of the registry
	served   chan error
	pods     int // that stood ready
	// exposures are those of which the operator has made what they take.
	exposures int
}

// OpenHarbour starts the clusters and registries of some sides and builds the
// application's images into them. Close ends all of it.
func OpenHarbour(ctx context.Context, dir string, say func(string, ...any), sides ...estate.Side) (_ *Harbour, err error) {
	h := &Harbour{docks: map[estate.Side]*dock{}}
	for _, side := range sides {
		h.docks[side] = &dock{side: side, dir: dir}
	}
	defer func() { //nolint:contextcheck // also when ctx has ended
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	var built []images.Image
	g, gctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, side := range sides {
		g.Go(func() error {
			c, err := kube.Up(gctx, kube.Options{Name: string(side), Dir: filepath.Join(dir, "cluster-"+string(side))})
			if err != nil {
				return err
			}
			h.docks[side].cluster = c
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	h.UpSeconds = time.Since(began).Seconds()
	say("up after %.1f s; building the application's images", h.UpSeconds)
	if built, err = images.Build(ctx, images.Options{}, images.Superapp()...); err != nil {
		return nil, fmt.Errorf("build the images; it takes the sources and Go, run it in the project's folder: %w", err)
	}
	for _, side := range sides {
		if err := h.docks[side].stock(ctx, built); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// stock starts the side's registry, where its pods reach it, and fills it.
func (d *dock) stock(ctx context.Context, built []images.Image) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(d.cluster.Host(), "0"))
	if err != nil {
		return fmt.Errorf("listen for the %s's registry: %w", d.side, err)
	}
	d.registry, d.served = l.Addr().String(), make(chan error, 1)
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end = end
	go func() { d.served <- images.Registry(serving, l, "") }()
	if c, ours := d.cluster.(interface{ TrustRegistry(string) error }); ours {
		if err := c.TrustRegistry(d.registry); err != nil {
			return err
		}
	}
	d.images, err = images.Push(ctx, images.Target{Prefix: d.registry + "/" + imagePrefix, Tag: imageTag, Insecure: true}, built...)
	if err != nil {
		return fmt.Errorf("fill the %s's registry: %w", d.side, err)
	}
	return nil
}

// pullFrom lets the target's pods take their images from a registry that is called so: the
// name, the tag and the digest of each stay what they were pushed as.
func (h *Harbour) pullFrom(registry string) {
	d := h.docks[estate.Target]
	from := func(ref string) string {
		if path, pushed := strings.CutPrefix(ref, d.registry+"/"); pushed {
			return registry + "/" + path
		}
		return ref // there is none
	}
	for name, ref := range d.images {
		d.images[name] = from(ref)
	}
	d.dhow = from(d.dhow)
}

// Close ends the clusters and the registries. It may be called again.
func (h *Harbour) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), clusterDown)
	defer cancel()
	var errs []error
	for _, d := range h.docks {
		if d.cluster != nil {
			errs = append(errs, d.cluster.Down(ctx))
		}
		if d.end != nil {
			d.end()
			errs = append(errs, <-d.served)
			d.end = nil
		}
	}
	return errors.Join(errs...)
}

// Places are where the services of each side run.
func (h *Harbour) Places() map[estate.Side]Place {
	places := map[estate.Side]Place{}
	for side, d := range h.docks {
		places[side] = d
	}
	return places
}

// Plan is the folder of the plan from which the target's pods run.
func (h *Harbour) Plan() string { return filepath.Join(h.docks[estate.Target].dir, planFolder) }

// Kubeconfig is the file that gives full rights in a side's cluster.
func (h *Harbour) Kubeconfig(side estate.Side) string { return h.docks[side].cluster.Kubeconfig() }

// Pods are how many stood ready at a side.
func (h *Harbour) Pods(side estate.Side) int { return h.docks[side].pods }

// Exposures are those of the target, of which the operator has made what they take.
func (h *Harbour) Exposures() int { return h.docks[estate.Target].exposures }

// Host is where the pods reach this machine.
func (d *dock) Host() string { return d.cluster.Host() }

// Address is the service's NodePort.
func (d *dock) Address(service string) string {
	return net.JoinHostPort(d.cluster.Address(), strconv.Itoa(deploy.NodePorts()[service]))
}

// Route is how the gate in the target's pods reaches a service: by its name in the
// same cluster, and from outside of the other one.
func (d *dock) Route(service string) string {
	if d.side == estate.Target {
		return fmt.Sprintf("%s.%s.svc.cluster.local:%d", service, deploy.Namespace, servicePort)
	}
	return d.Address(service)
}

// Stop leaves the pods to the end of their cluster.
func (d *dock) Stop() error { return nil }

// Start applies the old deployment at the source, and at the target what a plan of the
// old one has in its place.
func (d *dock) Start(ctx context.Context, services []fleet.Service, stores fleet.Stores) error {
	manifests, err := d.manifests(ctx, services, stores)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, podsReady)
	defer cancel()
	if err := kube.Apply(ctx, d.cluster.Kubeconfig(), manifests); err != nil {
		return fmt.Errorf("deploy the application at the %s: %w", d.side, err)
	}
	if d.pods, err = kube.AwaitReady(ctx, d.cluster.Kubeconfig(), deploy.Namespace); err != nil {
		return fmt.Errorf("wait for the application's pods at the %s: %w", d.side, err)
	}
	if d.side == estate.Target {
		if d.exposures, err = d.awaitExposed(ctx); err != nil {
			return err
		}
	}
	// The old deployment's pods call themselves ready before they are.
	return d.await(ctx, services)
}

func (d *dock) manifests(ctx context.Context, services []fleet.Service, stores fleet.Stores) ([]byte, error) {
	v := deploy.Values{Registry: d.registry + "/" + imagePrefix, Images: d.images, Node: d.cluster.Address(), CardsKey: stores.Secrets.CardsKey,
		Postgres: map[string]string{}, MariaDB: map[string]string{}, Redis: map[string]string{}}
	for _, s := range services {
		role := s.Name
		if d.side == estate.Source {
			role = fleet.Owner // one account for all: a fault of the old deployment
		}
		switch s.Database {
		case fleet.Postgres:
			v.Postgres[s.Name] = stores.URL(s, role)
		case fleet.MariaDB:
			v.MariaDB[s.Name] = stores.URL(s, role)
		case fleet.None:
		}
		if s.Redis {
			v.Redis[s.Name] = stores.RedisURL()
		}
	}
	if d.side == estate.Source {
		return deploy.Source(v)
	}
	// All that is not a pod has an address of this machine: the gate and the stores.
	around, err := netip.ParsePrefix(d.cluster.Host() + "/15")
	if err != nil {
		return nil, fmt.Errorf("read the address by which pods reach this machine: %w", err)
	}
	all, err := d.planned(ctx, stores, around.Masked())
	if err != nil {
		return nil, fmt.Errorf("plan the %s's deployment: %w", d.side, err)
	}
	// What a plan leaves to others: the Secrets, and a way in where there is no load balancer.
	for _, part := range []func(deploy.Values) ([]byte, error){deploy.Secrets, deploy.Edge} {
		text, err := part(v)
		if err != nil {
			return nil, err
		}
		all = append(all, text...)
	}
	return all, nil
}

// await returns once every service answers at its NodePort.
func (d *dock) await(ctx context.Context, services []fleet.Service) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error {
			return fleet.Answers(ctx, s.Name+" at the "+string(d.side), "http://"+d.Address(s.Name)+"/readyz")
		})
	}
	return g.Wait()
}
