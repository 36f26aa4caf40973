package cli

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"dhow/internal/move"
)

const (
	// drawEvery is how often the live view is drawn.
	drawEvery = 500 * time.Millisecond
	// lineEvery is how often a line is printed of each database where nobody looks
	// at a terminal: often enough to see it move, seldom enough for a log.
	lineEvery = 5 * time.Second
	// fewTables is how many tables, the busiest, follow the line of a database.
	fewTables = 3
)

// clock is the time in front of a line.
const clock = "15:04:05"

// reporter shows progress: as a live view on a terminal, as a line now and then
// elsewhere, as JSON lines for programs.
type reporter struct {
	screen *screen
	view   *view
	// lines gets plain lines, nil on a terminal; objects gets JSON lines.
	lines   io.Writer
	objects io.Writer

	mu   sync.Mutex
	told map[string]told
	// summed is when a line about all databases was printed last.
	summed time.Time
	stop   context.CancelFunc
	done   chan struct{}
}

// told is what was printed of a database last.
type told struct {
	at    time.Time
	phase move.Phase
	note  string
}

// newReporter starts a reporter; close ends it. plain gets the lines where the
// output is not a terminal. With -o json, objects says whether progress is
// printed too, as lines of its own.
func (a *app) newReporter(ctx context.Context, databases []string, plain io.Writer, objects bool) *reporter {
	r := &reporter{screen: a.screen, view: newView(a.out, databases, a.engineOf), told: map[string]told{}, summed: time.Now(), done: make(chan struct{})}
	switch {
	case a.json() && objects:
		r.objects = a.Out
	case a.json():
	case !a.screen.live:
		r.lines = plain
	}
	// It goes on when the work is told to end, and shows how it does.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	if a.json() || !a.screen.live {
		close(r.done)
		return r
	}
	go func() {
		defer close(r.done)
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		for {
			r.draw()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return r
}

// report takes a report in; it may be called from several goroutines.
func (r *reporter) report(p move.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view.note(p)
	last := r.told[p.Database]
	if last.phase == p.Phase && time.Since(last.at) < lineEvery {
		return
	}
	now := told{at: time.Now(), phase: p.Phase, note: p.Note}
	switch {
	case r.objects != nil:
		r.object(struct {
			Event string `json:"event"`
			move.Progress
		}{"progress", p})
	case r.lines != nil:
		r.line("%s  %s  %s", p.Database, p.Phase, describe(r.view.engine(p.Database), p))
		if p.Note != "" && p.Note != last.note {
			r.line("%s  %s", p.Database, p.Note)
		}
		if p.Phase == move.PhaseCopy || p.Phase == move.PhaseVerify {
			for _, l := range r.view.busiest(noun(r.view.engine(p.Database)), r.view.inWork(p), fewTables) {
				r.line("%s%s", p.Database, l.text)
			}
		}
		if len(r.view.order) > 1 && time.Since(r.summed) >= lineEvery {
			r.summed = time.Now()
			r.line("%s", r.view.all())
		}
	}
	r.told[p.Database] = now
}

// fail shows that a database's replication ended.
func (r *reporter) fail(database string, err error) {
	r.mu.Lock()
	r.view.ended[database] = err.Error()
	r.mu.Unlock()
}

func (r *reporter) draw() {
	_, height := size(r.screen.out)
	r.mu.Lock()
	lines := r.view.lines(height)
	r.mu.Unlock()
	r.screen.draw(lines)
}

func (r *reporter) line(format string, args ...any) {
	stamped(r.lines, time.Now(), format, args...)
}

// event prints a line of JSON from another goroutine than those that report.
func (r *reporter) event(v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.object(v)
}

func (r *reporter) object(v any) {
	out := json.NewEncoder(r.objects)
	out.SetEscapeHTML(false)
	_ = out.Encode(v) // a reader that is gone has nobody to tell
}

// close ends the reporter. keep leaves the view on the terminal.
func (r *reporter) close(keep bool) {
	r.stop()
	<-r.done
	if !r.screen.live {
		return
	}
	if keep {
		r.screen.close()
	} else {
		r.screen.clear()
	}
}
