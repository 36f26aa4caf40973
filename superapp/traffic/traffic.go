// Package traffic is a client that pays and reads at a set rate over many
// connections and writes down what it was told. It is open-loop: operations are
// due by the clock, whether or not the last ones were answered, so a server that
// stalls is seen to stall. It retries nothing. It does not judge: that is the
// checker's, by the history.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"dhow/superapp/history"
)

// Defaults and limits.
const (
	// DefaultRate is in operations a second.
	DefaultRate = 500
	// maxRate is what one process can still schedule on time, in operations a second.
	maxRate = 50_000
	// DefaultConnections is enough for the default rate at 100 ms an answer.
	DefaultConnections = 64
	// maxConnections bounds file descriptors and goroutines.
	maxConnections = 4096
	// DefaultAccounts is what the seed makes by default: ids 1 to this.
	DefaultAccounts = 200_000
	// DefaultActive is how many accounts take part: each is asked for once at the start.
	DefaultActive = 2000
	// DefaultCards is how many of them pay by card.
	DefaultCards = 200
	// DefaultRhythmDay is a day.
	DefaultRhythmDay = 24 * time.Hour
	// leastRhythmDay is where an hour still takes longer than a tick of the clock.
	leastRhythmDay = time.Second
	// DefaultHotShare is the share of choices that go to the hottest hundredth of the accounts.
	DefaultHotShare = 0.2
	// DefaultTimeout is how long an answer may take, and how long an operation may wait to be sent.
	DefaultTimeout = 10 * time.Second
	// maxQueue bounds the operations that wait to be sent, whatever the rate and the time-out.
	maxQueue = 1 << 16
	// closing is how long what is in flight may take to be written down once its time is over.
	closing = time.Second
	// tickEvery is the pause between two reports of progress.
	tickEvery = time.Second
)

// Shares are the weights of what is done; only their proportions count. What
// takes several steps has one place in the schedule.
type Shares struct {
	Pay, Transfer float64
	// Request is a request for money and then its acceptance.
	Request float64
	// Split is the splitting of a bill and then each payer's acceptance.
	Split float64
	// Send is a quote and then the sending of money abroad at its price.
	Send float64
	// Card is a payment by card: authorised, then captured or reversed, some refunded.
	Card                      float64
	Read, Statement           float64
	Insights, Rates, Corridor float64
}

// DefaultShares is what people do with such an application: who pays looks at the
// balance before and at the statement behind it, and many only look. With all the
// steps, 100 operations are some 108 requests, of which one in five is a write. Each
// kind still happens several times a second at 1,000 requests a second, so that the
// checker has of each enough to judge; a run that is to be all writes sets the shares.
func DefaultShares() Shares {
	return Shares{Pay: 0.06, Transfer: 0.015, Request: 0.012, Split: 0.005, Send: 0.012, Card: 0.04,
		Read: 0.47, Statement: 0.18, Insights: 0.06, Rates: 0.1, Corridor: 0.046}
}

// LedgerShares is the same of an application that has accounts and payments only.
func LedgerShares() Shares {
	return Shares{Pay: 0.25, Transfer: 0.1, Request: 0.05, Read: 0.45, Statement: 0.15}
}

// Config says what to do.
type Config struct {
	// URL is where the application answers: the gate, or what serves in its place.
	URL string
	// Rate is in operations a second; with a rhythm, at its peak.
	Rate float64
	// RhythmDay, if set, lets the rate follow the hours of the day and the days of
	// the week; it is how long a day takes.
	RhythmDay   time.Duration
	Connections int
	// Duration is how long operations are scheduled; 0: until the context ends.
	Duration time.Duration
	// History is the file that is written; it must not hold anything yet.
	History string
	// Seed determines which accounts take part and what they do.
	Seed uint64
	// Run begins every idempotency key; empty: a random one, so that no two runs share a key.
	Run string
	// Accounts says that accounts have the ids 1 to this, as far as they exist.
	Accounts int64
	// Active is how many of them take part.
	Active int
	// Cards bounds how many accounts pay by card; each has one.
	Cards int
	// HotShare is the share of choices, 0 to 1, that go to the hottest hundredth of the active accounts.
	HotShare float64
	// Shares left zero are the default ones.
	Shares Shares
	// Timeout bounds each operation from its sending, and its wait to be sent.
	Timeout time.Duration
	// Started, if set, is called with the instant at which the schedule begins,
	// once all connections are warm.
	Started func(time.Time)
	// Progress, if set, is called each second, and never by two goroutines at once.
	Progress func(Tick)
}

func (c *Config) defaults() {
	set(&c.Rate, DefaultRate)
	set(&c.Connections, DefaultConnections)
	set(&c.Accounts, DefaultAccounts)
	set(&c.Active, DefaultActive)
	set(&c.Cards, DefaultCards)
	set(&c.Timeout, DefaultTimeout)
	set(&c.Shares, DefaultShares())
	if c.Run == "" {
		c.Run = uuid.NewString()
	}
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Validate says what of a configuration can not be, naming the flag that sets it.
func (c *Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return errors.New("no address: give --url http://HOST:PORT")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("--url %q is not an address: give http://HOST:PORT", c.URL)
	case u.User != nil:
		return errors.New("--url holds a user's name or password: the application takes none")
	case c.History == "":
		return errors.New("no history: give --history FILE")
	case !(c.Rate > 0 && c.Rate <= maxRate):
		return fmt.Errorf("--rate %v is not above 0 and at most %d a second", c.Rate, maxRate)
	case c.Connections < 1 || c.Connections > maxConnections:
		return fmt.Errorf("--connections %d is not between 1 and %d", c.Connections, maxConnections)
	case c.Duration < 0:
		return fmt.Errorf("--duration %s is below 0: 0 runs until it is stopped", c.Duration)
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout %s is not above 0", c.Timeout)
	case c.Accounts < 2:
		return fmt.Errorf("--accounts %d: it takes two to pay", c.Accounts)
	case c.Active < 2:
		return fmt.Errorf("--active %d: it takes two to pay", c.Active)
	case c.Cards < 1:
		return fmt.Errorf("--cards %d is below 1: leave cards out with --card-share 0", c.Cards)
	case c.RhythmDay < 0 || c.RhythmDay > 0 && c.RhythmDay < leastRhythmDay:
		return fmt.Errorf("--rhythm-day %s is below %s", c.RhythmDay, leastRhythmDay)
	case !(c.HotShare >= 0 && c.HotShare <= 1):
		return fmt.Errorf("--hot-share %v is not between 0 and 1", c.HotShare)
	}
	var sum float64
	for _, w := range c.Shares.weights() {
		if !(w.share >= 0) || math.IsInf(w.share, 1) {
			return fmt.Errorf("--%s-share %v is not 0 or more", w.name, w.share)
		}
		sum += w.share
	}
	if !(sum > 0) {
		return errors.New("all shares are 0: give at least one, for example --read-share 1")
	}
	return nil
}

// clock gives nanoseconds since 1970 that never go back, as a history needs.
type clock struct{ start time.Time }

func (c clock) now() int64 { return c.at(time.Since(c.start)) }

func (c clock) at(d time.Duration) int64 { return c.start.UnixNano() + int64(d) }

// Run warms the connections, then does operations until the duration is over or
// ctx ends, finishes those in flight and writes them down. That operations fail
// is no error; that it could not run, or not write its history, is.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	cfg.defaults()
	if err := cfg.Validate(); err != nil {
		return Summary{}, err
	}
	h, err := history.Create(cfg.History)
	if err != nil {
		return Summary{}, err
	}
	summary, err := run(ctx, cfg, h)
	return summary, errors.Join(err, h.Close())
}

func run(ctx context.Context, cfg Config, h *history.Writer) (Summary, error) {
	r := &runner{cfg: cfg, history: h, clock: clock{time.Now()}, stats: newStats()}
	workers := make([]*worker, cfg.Connections)
	for i := range workers {
		workers[i] = &worker{number: i, runner: r, client: newClient(cfg.URL, r.clock)}
		defer workers[i].client.close()
	}
	known, err := discover(ctx, cfg, workers)
	if err != nil {
		return Summary{}, err
	}
	p, err := newPlan(cfg, known)
	if err != nil {
		return Summary{}, err
	}
	if err := p.prepare(ctx, cfg, workers, known); err != nil {
		return Summary{}, err
	}
	r.queue = make(chan operation, min(int(cfg.Rate*cfg.Timeout.Seconds()), maxQueue)+cfg.Connections)

	// What is in flight outlives ctx, for a bounded time.
	flight, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var working, reporting sync.WaitGroup
	r.begun = r.clock.now()
	for _, w := range workers {
		working.Go(func() { w.work(flight) })
	}
	reported := make(chan struct{})
	reporting.Go(func() { r.report(reported) })
	if cfg.Started != nil {
		cfg.Started(time.Unix(0, r.begun))
	}
	r.schedule(ctx, p)
	close(r.queue)
	end := time.AfterFunc(cfg.Timeout+closing, cancel)
	defer end.Stop()
	working.Wait()
	close(reported)
	reporting.Wait()
	// A history that could not be written is told by its Close.
	return r.stats.summary(time.Duration(r.clock.now() - r.begun)), nil
}

// runner is what the schedule and the workers share.
type runner struct {
	cfg     Config
	clock   clock
	history *history.Writer
	stats   *stats
	queue   chan operation
	begun   int64
}

// schedule puts every operation into the queue when it is due, and never waits
// for anything but the clock. A full queue makes the operation late.
func (r *runner) schedule(ctx context.Context, p *plan) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	when := newSchedule(r.cfg, time.Unix(0, r.begun))
	for n := int64(0); ; n++ {
		due := when.next()
		if r.cfg.Duration > 0 && due >= r.cfg.Duration {
			return
		}
		op := p.next(r.cfg.Run + "-" + strconv.FormatInt(n, 10))
		op.due = r.begun + int64(due)
		timer.Reset(time.Duration(op.due - r.clock.now())) // at once when that is over
		select {
		case <-ctx.Done():
			return
		case <-r.history.Failed():
			return
		case <-timer.C:
		}
		select {
		case r.queue <- op:
		default:
			r.late(0, op, "the queue is full")
		}
	}
}

// late writes down an operation that was never sent.
func (r *runner) late(client int, op operation, why string) {
	rec := op.record(client)
	rec.Outcome, rec.Done, rec.Error = history.Late, r.clock.now(), why
	r.end(&rec)
}

// end writes down an operation that has ended.
func (r *runner) end(rec *history.Record) {
	r.stats.add(rec)
	_ = r.history.Append(rec) // its first failure ends the schedule and is told by Close
}

// report calls the progress function each second until done.
func (r *runner) report(done <-chan struct{}) {
	if r.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			r.cfg.Progress(r.stats.tick(time.Duration(r.clock.now() - r.begun)))
		}
	}
}
