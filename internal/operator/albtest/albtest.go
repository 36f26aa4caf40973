// Package albtest stands for an Application Load Balancer with targets by IP, and for the
// AWS Load Balancer Controller that tells it what to do, in tests with real pods. It reads
// what the operator made: a Gateway, the HTTPRoutes to it, the TargetGroupConfigurations of
// their Services, and the EndpointSlices that Kubernetes makes of those. It registers pods,
// checks their health, lets them count by their readiness gates, sends requests to them, and
// lets them drain.
//
// It is as slow as AWS where that is what hurts: each of its nodes hears of a change by
// itself, one to three seconds after it, and until then goes on sending to a pod that has
// been told to end. It tries no request twice, as an ALB does not. It knows no TLS, no
// stickiness, no slow start and no listener rules beyond hosts and paths.
package albtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// defaultNodes is how many nodes an ALB has at least, one a zone.
	defaultNodes = 2
	// leastSpread and mostSpread are how long a change takes to a node.
	leastSpread, mostSpread = time.Second, 3 * time.Second
	// lookEvery is how often the cluster is looked at: the controller is told at once.
	lookEvery = 250 * time.Millisecond
	// lookTime bounds one look.
	lookTime = 10 * time.Second
)

// Options say which Gateway the load balancer is of.
type Options struct {
	// Client reads the cluster, and writes the pods' readiness gates.
	Client client.Client
	// Gateway is the one whose routes are served.
	Gateway types.NamespacedName
	// Nodes is how many nodes serve, 0 for 2.
	Nodes int
	// LeastSpread and MostSpread are the times until a node hears of a change, 0 for 1 and 3 s.
	LeastSpread, MostSpread time.Duration
	Log                     *slog.Logger
}

// Balancer is a load balancer at work.
type Balancer struct {
	o     Options
	nodes []*node
	group sync.WaitGroup

	// version counts what was published; last is it, and due when each node hears of it.
	version int
	last    view
	due     []time.Time
}

// Start serves until ctx ends; Wait waits for the end.
func Start(ctx context.Context, o Options) (*Balancer, error) {
	if o.Nodes == 0 {
		o.Nodes = defaultNodes
	}
	if o.MostSpread == 0 {
		o.LeastSpread, o.MostSpread = leastSpread, mostSpread
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Balancer{o: o, due: make([]time.Time, o.Nodes)}
	for range o.Nodes {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			for _, n := range b.nodes {
				_ = n.listener.Close()
			}
			return nil, fmt.Errorf("listen as a load balancer: %w", err)
		}
		b.nodes = append(b.nodes, newNode(l))
	}
	for _, n := range b.nodes {
		b.group.Go(func() { n.serve(ctx) })
	}
	b.group.Go(func() { b.control(ctx) })
	return b, nil
}

// Wait returns when everything has ended, after ctx has.
func (b *Balancer) Wait() { b.group.Wait() }

// Addresses are the nodes', host and port, which clients call in turns as the name server
// gives them.
func (b *Balancer) Addresses() []string {
	all := make([]string, 0, len(b.nodes))
	for _, n := range b.nodes {
		all = append(all, n.listener.Addr().String())
	}
	return all
}

// control looks at the cluster until ctx ends, and tells the nodes and the pods.
func (b *Balancer) control(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			b.o.Log.Warn("the load balancer can not be told what to do", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look brings the nodes, and then the pods' readiness gates, to what there is now.
func (b *Balancer) look(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	now, pods, err := b.read(short)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(now, b.last) {
		b.publish(ctx, now)
	}
	var all []error
	for _, p := range pods {
		all = append(all, b.open(short, p))
	}
	return errors.Join(all...)
}

// publish tells each node in its time, and none of them an older state after a newer one.
func (b *Balancer) publish(ctx context.Context, v view) {
	b.version++
	b.last = v
	version := b.version
	for i, n := range b.nodes {
		spread := b.o.LeastSpread + time.Duration(rand.Int64N(int64(b.o.MostSpread-b.o.LeastSpread)+1))
		due := time.Now().Add(spread)
		if due.Before(b.due[i]) {
			due = b.due[i]
		}
		b.due[i] = due
		b.group.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(due)):
				n.apply(ctx, version, v)
			}
		})
	}
}

// healthy says that every node has found a target healthy.
func (b *Balancer) healthy(group, address string) bool {
	for _, n := range b.nodes {
		if n.state(group, address) != healthy {
			return false
		}
	}
	return true
}
