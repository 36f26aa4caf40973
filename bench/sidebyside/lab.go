package sidebyside

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// StopTimeout bounds the end of the servers, and of what a benchmark left on them.
const StopTimeout = time.Minute

// Server is one end of a move.
type Server interface {
	Pid() int
	Stop(ctx context.Context) error
}

// Lab is a source and a target server.
type Lab[S Server] struct {
	Source, Target S
	log            io.Writer
	began          time.Time
}

// OpenLab starts both servers; log hears what goes on.
func OpenLab[S Server](ctx context.Context, log io.Writer, start func(context.Context) (S, error)) (*Lab[S], error) {
	l := &Lab[S]{log: log, began: time.Now()}
	var err error
	if l.Source, err = start(ctx); err != nil {
		return nil, err
	}
	if l.Target, err = start(ctx); err != nil {
		l.stop(ctx, l.Source)
		return nil, err
	}
	return l, nil
}

// Close stops both servers.
func (l *Lab[S]) Close(ctx context.Context) { l.stop(ctx, l.Source, l.Target) }

func (l *Lab[S]) stop(ctx context.Context, servers ...S) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	for _, s := range servers {
		if err := s.Stop(ctx); err != nil {
			l.Say("stop a server: %v", err)
		}
	}
}

// Say tells what goes on, with the time since the start.
func (l *Lab[S]) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.log, "%6.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...)) // whoever is gone reads no progress
}

// Race is what two rivals do in turns: the peer first, then ours; who begins takes turns too.
type Race struct {
	// Name is for the log.
	Name string
	// Ready makes the servers ready for a turn.
	Ready func(context.Context) error
	Turns [2]func(context.Context) (Turn, error)
	// Check says whether the target holds what it should after the turn of a rival.
	Check func(ctx context.Context, who int) error
}

// Pair lets each rival have its turn, for the n-th time from 0. The ratio is left to the caller.
func (l *Lab[S]) Pair(ctx context.Context, n int, r Race) (Pair, error) {
	var t [2]Turn
	for _, who := range []int{n % 2, 1 - n%2} {
		if err := r.Ready(ctx); err != nil {
			return Pair{}, err
		}
		source, target := cpu(l.Source.Pid()), cpu(l.Target.Pid())
		var err error
		if t[who], err = r.Turns[who](ctx); err != nil {
			return Pair{}, err
		}
		t[who].SourceCPU, t[who].TargetCPU = cpu(l.Source.Pid())-source, cpu(l.Target.Pid())-target
		if err := r.Check(ctx, who); err != nil {
			return Pair{}, fmt.Errorf("after %s: %w", t[who].Who, err)
		}
		l.Say("%s: %s", r.Name, t[who])
	}
	return Pair{Peer: t[0], Ours: t[1]}, nil
}

// Content is a database's rows: of each table its number of rows, then a blank and
// a checksum.
type Content map[string]string

// Rows counts them all.
func (c Content) Rows() (n int64) {
	for _, sum := range c {
		count, _, _ := strings.Cut(sum, " ")
		of, _ := strconv.ParseInt(count, 10, 64) // whoever read it wrote it
		n += of
	}
	return n
}

// Same says what differs.
func (c Content) Same(other Content) error {
	if len(c) != len(other) {
		return fmt.Errorf("%d tables became %d", len(c), len(other))
	}
	for name, sum := range c {
		if other[name] != sum {
			return fmt.Errorf("table %s differs: rows and checksum %s became %s", name, sum, other[name])
		}
	}
	return nil
}
