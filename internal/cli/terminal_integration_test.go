package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dhow/internal/cli"
)

// terminal is a pseudo terminal: what a command writes is collected, and what a
// person types is sent to it.
type terminal struct {
	person, command *os.File
	shown           output
	ended           chan struct{}
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	command, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(int(command.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{person: person, command: command, ended: make(chan struct{})}
	go func() {
		defer close(term.ended)
		buf := make([]byte, 4096)
		for {
			n, err := person.Read(buf)
			_, _ = term.shown.Write(buf[:n])
			if err != nil { // EIO once the command's end is closed
				return
			}
		}
	}()
	return term
}

// runOn runs a command on a terminal; a person answers the first question.
func (p *place) runOn(t *testing.T, answer string, code int, args ...string) string {
	t.Helper()
	term := newTerminal(t)
	done := make(chan int)
	go func() {
		done <- cli.Run(context.Background(), append([]string{"--file", p.file()}, args...), cli.IO{In: term.command, Out: term.command, Err: term.command})
	}()
	if answer != "" {
		eventually(t, "it asks", func() bool { return strings.Contains(term.shown.String(), "[y/N]") })
		if _, err := term.person.WriteString(answer + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-done; got != code {
		t.Errorf("on a terminal dhow %s ends with %d, want %d: %s", strings.Join(args, " "), got, code, term.shown.String())
	}
	if err := errors.Join(term.command.Close(), term.drained(t)); err != nil {
		t.Error(err)
	}
	return term.shown.String()
}

// drained waits until all that was written is collected.
func (term *terminal) drained(t *testing.T) error {
	t.Helper()
	<-term.ended
	return term.person.Close()
}

// On a terminal the traffic moves only when a person says so, and what is drawn
// over again goes away.
func (s *stage) testTerminal(t *testing.T) {
	s.create(t, "seen")
	p := s.estateOf(t, roomy, nil, "seen")
	// A copy may be done before the first report of it: then it was seen to connect.
	if text := p.runOn(t, "", 0, "replicate", "--until-streaming"); !strings.Contains(text, "\x1b[1mseen") && !strings.Contains(text, "\x1b[2mseen  connecting") || !strings.Contains(text, "A\r\x1b[J") {
		t.Errorf("no view is drawn: %q", text)
	}
	before := s.look(t, "seen")
	if text := p.runOn(t, "", 0, "--no-color", "verify"); strings.Contains(text, "\x1b[3") || strings.Contains(text, "\x1b[1m") {
		t.Errorf("there are colours in %q", text)
	}
	text := p.runOn(t, "n", 1, "cutover")
	for _, want := range []string{"hold the traffic for about", "and move it to the target?", "[y/N] n", "given up: nothing was changed"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not show %q: %s", want, text)
		}
	}
	s.untouched(t, "seen", before)
	if text := p.runOn(t, "yes", 0, "cutover"); !strings.Contains(text, "the target serves") {
		t.Errorf("it does not say who serves: %s", text)
	}
	if err := s.source.Exec(context.Background(), "seen", "INSERT INTO log (line) VALUES ('too late')"); err == nil {
		t.Error("the source takes writes")
	}
	if text := p.runOn(t, "y", 0, "finish"); !strings.Contains(text, "close the way back, and remove what the move left behind?") || !strings.Contains(text, "finished") {
		t.Errorf("it does not ask: %s", text)
	}
}
