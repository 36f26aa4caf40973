package gate

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// releaseWindow is how many held requests are let go at once. It is more than
	// an upstream works on at a time, and less than its queue of connections takes.
	releaseWindow = 256
	// releaseGrowth is after how long the window doubles: an upstream that answers
	// sets the pace by its answers, and one that does not can not keep ten thousand
	// requests back for longer than a third of a second.
	releaseGrowth = 50 * time.Millisecond
)

// Errors of a valve.
var (
	// ErrNotHeld says that a route was to be drained that takes new requests.
	ErrNotHeld = errors.New("new requests are not held, so those in flight never end: hold first")
	// ErrHoldOver says that a hold ended before the drain did.
	ErrHoldOver = errors.New("the hold ended before the requests in flight did")
	// ErrStopping says that the gate is being stopped.
	ErrStopping = errors.New("the gate is stopping")

	errFull = errors.New("as many requests are held as may be")
)

// bounds are what all routes together may keep back.
type bounds struct {
	requests, bytes int64 // the most of each

	held, heldMost atomic.Int64
	ahead          atomic.Int64 // bytes of bodies that are read ahead
}

// take counts one more held request, if there is room.
func (b *bounds) take() bool {
	n := b.held.Add(1)
	if n > b.requests {
		b.held.Add(-1)
		return false
	}
	for {
		most := b.heldMost.Load()
		if n <= most || b.heldMost.CompareAndSwap(most, n) {
			return true
		}
	}
}

func (b *bounds) give() { b.held.Add(-1) }

// takeBytes reserves memory for a body that is read ahead, if there is room.
func (b *bounds) takeBytes(n int64) bool {
	if b.ahead.Add(n) > b.bytes {
		b.ahead.Add(-n)
		return false
	}
	return true
}

func (b *bounds) giveBytes(n int64) { b.ahead.Add(-n) }

// valve lets the requests of a route through to the side that is served, or
// holds them back, and knows which are in flight. One lock guards it all, so
// that between the last request let through and the hold there is nothing.
//
// It is in one of three states: open (no hold, nobody queues), holding, and
// releasing (no hold, but the queue is not empty yet). Who comes while it
// releases queues behind the others, so that the order of arrival is kept.
type valve struct {
	bounds *bounds
	time   time.Duration // a hold's most
	// ended is told of each hold's end, outside of the lock.
	ended func(held time.Duration, expired bool)

	mu       sync.Mutex
	side     Side
	hold     *hold      // nil unless holding
	queue    *list.List // of *pass, in order of arrival
	inFlight int        // ordinary requests that were let through and are not answered
	long     map[*pass]struct{}
	stopping bool
	refusing bool          // the gate stops in the middle of a hold: nothing goes to either side any more
	idle     chan struct{} // closed when nothing is in flight any more; nil when nobody waits for it
	paced    int           // requests that came out of the queue and are not answered yet
	window   int           // how many of those there may be
	growth   *time.Timer   // lets the window grow; nil unless releasing
}

// hold is one time of holding.
type hold struct {
	since time.Time
	timer *time.Timer
	over  chan struct{} // closed at its end
	more  chan struct{} // holds a token when requests came since it was taken
	most  int           // how many a release will let go, as far as is known
}

// pass is a request's way through the valve.
type pass struct {
	valve *valve
	// side is valid once the pass was let through.
	side Side
	// cut ends a long-lived request when its side is served no more.
	cut func()

	ready chan struct{} // closed when a held request is let go, or refused
	err   error         // of a refused one; valid once ready is closed

	// Guarded by the valve.
	stage stage
	long  bool          // long-lived whatever the answer
	paced bool          // counts in the window
	place *list.Element // in the queue
}

type stage int

const (
	outside  stage = iota // not let in, or gone
	queued                // held
	ordinary              // in flight
	lasting               // in flight, and not waited for
)

func newValve(side Side, b *bounds, most time.Duration, ended func(time.Duration, bool)) *valve {
	return &valve{bounds: b, time: most, ended: ended, side: side, queue: list.New(), long: map[*pass]struct{}{}}
}

// enter lets a request through, or queues it; then held is true and the caller
// has to wait. long says that the request is not one to wait for, whatever its answer.
func (v *valve) enter(p *pass, long bool) (held bool, err error) {
	p.valve, p.long = v, long
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.refusing || v.stopping && long:
		return false, ErrStopping
	case v.hold == nil && v.queue.Len() == 0:
		v.let(p)
		return false, nil
	case v.bounds.take():
		p.ready = make(chan struct{})
		p.stage = queued
		p.place = v.queue.PushBack(p)
		v.hold.tell()
		return true, nil
	case v.hold == nil: // the queue is full but moves: nobody is refused for that
		v.let(p)
		return false, nil
	}
	return false, errFull
}

// let sends a request on its way. The lock is held.
func (v *valve) let(p *pass) {
	p.side = v.side
	if p.long {
		p.stage = lasting
		v.long[p] = struct{}{}
		return
	}
	p.stage = ordinary
	v.inFlight++
}

// wait returns when a held request is let go. When ctx ends first, its place is free.
func (p *pass) wait(ctx context.Context) error {
	select {
	case <-p.ready:
		return p.err
	case <-ctx.Done():
	}
	v := p.valve
	v.mu.Lock()
	defer v.mu.Unlock()
	if p.stage != queued { // let go at this very moment
		return p.err
	}
	v.unqueue(p)
	return ctx.Err()
}

// unqueue takes a request out of the queue. The lock is held.
func (v *valve) unqueue(p *pass) {
	v.queue.Remove(p.place)
	p.place, p.stage = nil, outside
	v.bounds.give()
}

// leave says that the request is answered, or given up. It may be called again.
func (p *pass) leave() {
	v := p.valve
	v.mu.Lock()
	defer v.mu.Unlock()
	switch p.stage {
	case ordinary:
		v.landed()
	case lasting:
		delete(v.long, p)
	}
	p.stage = outside
	v.unpace(p)
}

// lasts says that the answer is a long-lived one: it is not waited for from now
// on, and cut when its side is served no more.
func (p *pass) lasts() {
	v := p.valve
	v.mu.Lock()
	left := false
	if p.stage == ordinary {
		v.landed()
		p.stage = lasting
		v.long[p] = struct{}{}
		left = p.side != v.side || v.stopping
	}
	v.unpace(p)
	v.mu.Unlock()
	if left {
		p.cut()
	}
}

// landed counts a request out of those in flight. The lock is held.
func (v *valve) landed() {
	v.inFlight--
	if v.inFlight == 0 && v.idle != nil {
		close(v.idle)
		v.idle = nil
	}
}

// unpace makes room in the window. The lock is held.
func (v *valve) unpace(p *pass) {
	if p.paced {
		p.paced = false
		v.paced--
		v.pump()
	}
}

// pump lets queued requests go, as many as the window has room for. The lock is held.
func (v *valve) pump() {
	if v.hold != nil {
		return
	}
	for v.queue.Len() > 0 && v.paced < v.window {
		p := v.queue.Front().Value.(*pass)
		v.unqueue(p)
		v.let(p)
		p.paced = true
		v.paced++
		close(p.ready)
	}
	if v.queue.Len() > 0 && v.growth == nil {
		v.growth = time.AfterFunc(releaseGrowth, v.grow)
	}
}

// grow widens the window.
func (v *valve) grow() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.growth = nil
	v.window *= 2
	v.pump()
}

// keep begins a hold. It gives none when one is under way already, whose time
// runs on: a hold that is asked for twice lasts no longer.
func (v *valve) keep() (*hold, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopping {
		return nil, ErrStopping
	}
	if v.hold != nil {
		return nil, nil //nolint:nilnil // none was begun, and that is no error
	}
	// Those in flight now will be followed by others: mostly as many.
	h := &hold{since: time.Now(), over: make(chan struct{}), more: make(chan struct{}, 1), most: v.inFlight}
	h.timer = time.AfterFunc(v.time, func() { v.expire(h) })
	v.hold = h
	return h, nil
}

// tell wakes who waits for more held requests; a nil hold has nobody.
func (h *hold) tell() {
	if h == nil {
		return
	}
	select {
	case h.more <- struct{}{}:
	default: // it is awake already
	}
}

// waiting is how many requests the hold's release will let go, as far as is known.
func (v *valve) waiting(h *hold) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	h.most = max(h.most, v.queue.Len())
	return h.most
}

// release ends the hold. It reports false when there is none.
func (v *valve) release() bool {
	v.mu.Lock()
	h := v.unhold()
	v.mu.Unlock()
	v.tell(h, false)
	return h != nil
}

// expire ends a hold whose time is over.
func (v *valve) expire(h *hold) {
	v.mu.Lock()
	if v.hold != h {
		v.mu.Unlock()
		return
	}
	v.unhold()
	v.mu.Unlock()
	v.tell(h, true)
}

// unhold ends the hold and begins to release. The lock is held.
func (v *valve) unhold() *hold {
	h := v.hold
	if h == nil {
		return nil
	}
	v.hold = nil
	h.timer.Stop()
	close(h.over)
	v.window = releaseWindow
	v.pump()
	return h
}

func (v *valve) tell(h *hold, expired bool) {
	if h != nil {
		v.ended(time.Since(h.since), expired)
	}
}

// turn serves a side from now on, ends the hold, and cuts the long-lived requests
// of the other side. It returns whether the side is another, and how many were cut.
func (v *valve) turn(to Side) (changed bool, cut int) {
	v.mu.Lock()
	changed = v.side != to
	v.side = to
	var left []*pass
	for p := range v.long {
		if p.side != to {
			left = append(left, p)
		}
	}
	h := v.unhold()
	v.mu.Unlock()
	for _, p := range left {
		p.cut()
	}
	v.tell(h, false)
	return changed, len(left)
}

// drain returns once no ordinary request is in flight. It needs a hold that lasts so long.
func (v *valve) drain(ctx context.Context) error {
	v.mu.Lock()
	h := v.hold
	v.mu.Unlock()
	if h == nil {
		return ErrNotHeld
	}
	for {
		idle, err := v.awaitIdle(h)
		if idle == nil {
			return err
		}
		select {
		case <-idle:
		case <-h.over:
			return ErrHoldOver
		case <-ctx.Done():
			return fmt.Errorf("%d requests are still in flight: %w", v.count().InFlight, context.Cause(ctx))
		}
	}
}

// awaitIdle returns what is closed once nothing is in flight; nil when that is so already.
func (v *valve) awaitIdle(h *hold) (<-chan struct{}, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.hold != h:
		return nil, ErrHoldOver
	case v.inFlight == 0:
		return nil, nil //nolint:nilnil // nothing to wait for, and no error
	case v.idle == nil:
		v.idle = make(chan struct{})
	}
	return v.idle, nil
}

// drained says whether the valve still holds and nothing is in flight.
func (v *valve) drained() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hold != nil && v.inFlight == 0
}

// stop refuses who is held, cuts what is long-lived, and lets no hold begin.
// Requests that come while nothing is held are served until the end.
func (v *valve) stop() {
	v.mu.Lock()
	v.stopping = true
	h := v.hold
	if h != nil {
		v.hold, v.refusing = nil, true
		h.timer.Stop()
		close(h.over)
		for v.queue.Len() > 0 {
			p := v.queue.Front().Value.(*pass)
			v.unqueue(p)
			p.err = ErrStopping
			close(p.ready)
		}
	}
	left := make([]*pass, 0, len(v.long))
	for p := range v.long {
		left = append(left, p)
	}
	v.mu.Unlock()
	for _, p := range left {
		p.cut()
	}
	v.tell(h, false)
}

// count is the valve's part of the status.
func (v *valve) count() counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := counts{Side: v.side, State: StateOpen, Held: v.queue.Len(), InFlight: v.inFlight, LongLived: len(v.long)}
	switch {
	case v.hold != nil:
		c.State, c.Since, c.Until = StateHolding, v.hold.since, v.hold.since.Add(v.time)
	case v.queue.Len() > 0:
		c.State = StateReleasing
	}
	return c
}

// counts are a valve's figures of one moment.
type counts struct {
	Side                      Side
	State                     State
	Since, Until              time.Time // of the hold
	Held, InFlight, LongLived int
}
