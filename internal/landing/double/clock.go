package double

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"
)

// clock is the double's time, and what happens in it. Everything that takes time is an
// event of a queue, so that whatever the machine is busy with, things happen in their
// order and at their time. It runs at a multiple of the wall's clock, at once from event
// to event, or as far as it is driven.
type clock struct {
	mu     *sync.Mutex // the double's own: events run under it
	speed  float64     // 0: driven by hand
	origin time.Time   // what it told when the wall's clock told wall
	wall   time.Time
	now    time.Time // of the latest event, or as far as it was driven
	queue  events
	seq    int
	wake   chan struct{} // has one place: the queue has changed
	idle   chan struct{} // closed and renewed whenever the queue runs empty
}

// event is something to do at a time.
type event struct {
	at  time.Time
	seq int // those of one time happen in the order in which they were asked for
	do  func()
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func newClock(mu *sync.Mutex, start time.Time, speed float64) *clock {
	return &clock{mu: mu, speed: speed, origin: start, now: start, wall: time.Now(), wake: make(chan struct{}, 1), idle: make(chan struct{})}
}

// tell is the time. The lock is held.
func (c *clock) tell() time.Time {
	if c.speed == 0 || math.IsInf(c.speed, 1) {
		return c.now
	}
	if at := c.origin.Add(time.Duration(float64(time.Since(c.wall)) * c.speed)); at.After(c.now) {
		return at
	}
	return c.now
}

// after lets do happen once d has passed since from. The lock is held.
func (c *clock) after(from time.Time, d time.Duration, do func()) {
	c.seq++
	heap.Push(&c.queue, &event{at: from.Add(d), seq: c.seq, do: do})
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// happen lets everything happen that is due until then. The lock is held.
func (c *clock) happen(until time.Time) {
	for len(c.queue) > 0 && !c.queue[0].at.After(until) {
		e := heap.Pop(&c.queue).(*event)
		if e.at.After(c.now) {
			c.now = e.at
		}
		e.do()
	}
	if len(c.queue) == 0 {
		close(c.idle)
		c.idle = make(chan struct{})
	}
}

// run lets things happen until ctx ends.
func (c *clock) run(ctx context.Context) {
	for {
		wait := time.Duration(math.MaxInt64)
		c.mu.Lock()
		switch {
		case math.IsInf(c.speed, 1):
			c.happen(farAway)
		case c.speed > 0:
			c.happen(c.tell())
			if len(c.queue) > 0 {
				wait = time.Duration(float64(c.queue[0].at.Sub(c.tell()))/c.speed) + time.Microsecond
			}
		}
		c.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// farAway is later than anything.
var farAway = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// advance drives the clock by hand.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.now.Add(d)
	c.happen(until)
	c.now = until
}

// settle waits until nothing is left to happen; a clock driven by hand is driven there.
func (c *clock) settle(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.speed == 0 {
			c.happen(farAway)
		}
		if len(c.queue) == 0 {
			c.mu.Unlock()
			return nil
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle:
		}
	}
}
