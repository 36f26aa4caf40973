package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/mattn/go-runewidth"
)

// screen shares the terminal between a live view, which is drawn over and over
// at the bottom, and lines that are printed once, which go above it.
type screen struct {
	out, err io.Writer
	// live says that the output is a terminal; one of standard error shows on the
	// same screen.
	live, both bool

	mu    sync.Mutex
	shown []viewLine
	drawn int // lines of the view that stand on the terminal
	// asking hides the view while a question stands on the last line.
	asking bool
}

// viewLine is a line of a view, and how it is painted.
type viewLine struct {
	text  string
	paint func(string) string
}

func newScreen(out, err io.Writer) *screen {
	return &screen{out: out, err: err, live: isTerminal(out), both: isTerminal(out) && isTerminal(err)}
}

// printf prints a line above the view; a reader that is gone stops nothing.
func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
	s.redraw()
}

// draw replaces the view.
func (s *screen) draw(lines []viewLine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = lines
	s.erase()
	s.redraw()
}

// clear removes the view.
func (s *screen) clear() { s.draw(nil) }

// close leaves the view as it stands; what is printed later goes below it.
func (s *screen) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.shown, s.drawn = nil, 0
	s.mu.Unlock()
}

// ask prints a question, and keeps the view away until answered is called.
func (s *screen) ask(question string) (answered func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.asking = true
	_, _ = io.WriteString(s.out, question) // a terminal that is gone gives no answer
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking = false
		s.redraw()
	}
}

func (s *screen) erase() {
	if s.drawn > 0 {
		_, _ = fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J", s.drawn)
		s.drawn = 0
	}
}

func (s *screen) redraw() {
	if !s.live || s.asking || len(s.shown) == 0 {
		return
	}
	width, _ := size(s.out)
	var b strings.Builder
	for _, l := range s.shown {
		text := l.text
		if width > 0 { // a line that the terminal wraps would be counted as one
			text = runewidth.Truncate(text, width-1, "…")
		}
		if l.paint != nil {
			text = l.paint(text)
		}
		b.WriteString(text + "\n")
	}
	_, _ = io.WriteString(s.out, b.String()) // a terminal that is gone has nobody to tell
	s.drawn = len(s.shown)
}

// errors is standard error, which does not write into the view.
func (s *screen) errors() io.Writer { return (*aboveView)(s) }

type aboveView screen

func (w *aboveView) Write(p []byte) (int, error) {
	s := (*screen)(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.both {
		return s.err.Write(p)
	}
	s.erase()
	n, err := s.err.Write(p)
	s.redraw()
	return n, err
}
