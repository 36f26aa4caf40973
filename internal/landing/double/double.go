// Package double stands for AWS CloudFormation, and for what a deployer asks of STS, IAM,
// EC2 and Service Quotas beside it: an HTTP server that AWS's own SDKs talk to. It knows
// every type that AWS's resource schemas list for a region, holds properties against
// them, gives Ref and GetAtt what they say, and lets things take the time that they
// would, on a clock that can be sped up or driven.
//
// It makes nothing: a resource is a row of a table. So it tells whether a deployment is
// put together rightly and how long it would take, not whether what was deployed works.
package double

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"dhow/internal/region"
)

// Options say what a double is.
type Options struct {
	// Accounts are those that there are at first.
	Accounts []Account
	// Schemas are shared with others; nil: the double opens its own, and Close closes them.
	Schemas *Schemas
	// Speed is how many times faster than the wall's its clock runs; 0 means 1, and
	// math.Inf(1) that nothing takes any time.
	Speed float64
	// Manual lets time pass by Advance and Settle alone.
	Manual bool
	// Start is what the clock tells first; zero: the wall's time.
	Start time.Time
	// Late leaves out the check of properties when a change set is made, so that they
	// fail where their resources are made, as before November 2025.
	Late bool
	// Attributes gives a resource that was just made attributes of its own, by the names
	// that GetAtt has for them, such as Endpoint.Address; the values are as in JSON. All
	// others follow from its schema, as all do where this is nil. One that its type does
	// not have makes the resource fail. It is called while the double stands still: it
	// must return at once, and not call the double.
	Attributes func(Resource) map[string]any
	// Log takes what the double has to say; nil: nothing is said.
	Log *slog.Logger
}

// Double is a double of AWS. Its methods may be called at any time, by many at once.
type Double struct {
	log        *slog.Logger
	early      bool
	regions    *region.Catalog
	attributes func(Resource) map[string]any

	mu       sync.Mutex // guards all below, and the clock
	clock    *clock
	accounts *accounts
	stacks   map[place]map[string]*stack // those that live, by name
	byID     map[string]*stack           // all, by id
	order    []*stack                    // all, the oldest first
	faults   []*Fault
	refusals []*Refusal
	pace     *rate.Limiter
	counts   map[string]int // of stacks of a name, and of resources that a stack made of one
	serial   int
	drifts   map[string]*detection

	preparing  sync.Mutex
	schemas    *Schemas
	ownSchemas bool

	actions, stsActions, iamActions map[string]handler

	stop    context.CancelFunc
	stopped chan struct{}
}

// New makes a double, whose clock runs until Close. Where the schemas are not given they
// are opened when the first request needs them.
func New(o Options) (*Double, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Speed < 0 || math.IsNaN(o.Speed) {
		return nil, fmt.Errorf("a double's speed is %v: want 0 or more", o.Speed)
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.Manual {
		o.Speed = 0
	}
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	catalog, err := region.Load()
	if err != nil {
		return nil, err
	}
	acc, err := newAccounts(o.Accounts)
	if err != nil {
		return nil, err
	}
	d := &Double{log: o.Log, early: !o.Late, regions: catalog, attributes: o.Attributes, accounts: acc, stacks: map[place]map[string]*stack{}, byID: map[string]*stack{},
		schemas: o.Schemas, actions: cloudformationActions(), stsActions: stsActions(), iamActions: iamActions(),
		counts: map[string]int{}, drifts: map[string]*detection{}, stopped: make(chan struct{})}
	d.clock = newClock(&d.mu, o.Start.UTC().Truncate(time.Millisecond), o.Speed)
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	go func() {
		defer close(d.stopped)
		d.clock.run(ctx)
	}()
	return d, nil
}

// Close stops the clock, and closes the schemas that are the double's own. Nothing
// happens any more; it may be called again.
func (d *Double) Close() error {
	d.stop()
	<-d.stopped
	d.preparing.Lock()
	defer d.preparing.Unlock()
	if !d.ownSchemas {
		return nil
	}
	d.ownSchemas = false
	return d.schemas.Close()
}

// prepare opens the schemas.
func (d *Double) prepare(ctx context.Context) error {
	d.preparing.Lock()
	defer d.preparing.Unlock()
	if d.schemas != nil {
		return nil
	}
	s, err := OpenSchemas(ctx)
	if err != nil {
		return err
	}
	d.schemas, d.ownSchemas = s, true
	return nil
}

// Handler answers AWS's clients at every path but /_double/, where the double is steered:
// see Control.
func (d *Double) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(controlPath, d.Control())
	mux.Handle("/", d)
	return mux
}

const (
	headerTime = 10 * time.Second
	stopTime   = 5 * time.Second
)

// Serve answers at a listener until ctx ends, and closes it. It opens the schemas first.
func (d *Double) Serve(ctx context.Context, l net.Listener) error {
	if err := d.prepare(ctx); err != nil {
		return errors.Join(err, l.Close())
	}
	s := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: headerTime, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the double at %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		return s.Shutdown(stop)
	})
	return group.Wait()
}

// Now is the double's time.
func (d *Double) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clock.tell()
}

// Advance lets time pass where it is driven by hand, and everything happen that is due.
func (d *Double) Advance(by time.Duration) { d.clock.advance(by) }

// Settle waits until nothing is left to happen; where time is driven by hand, it drives it.
func (d *Double) Settle(ctx context.Context) error { return d.clock.settle(ctx) }
