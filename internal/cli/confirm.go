package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

// errDeclined says that a person did not want it.
var errDeclined = errors.New("given up: nothing was changed")

// mayAsk refuses a command that asks before it acts where nobody can answer: a
// script says that it means it.
func (a *app) mayAsk(what string, yes bool) error {
	if yes || isTerminal(a.In) && a.screen.live && !a.json() {
		return nil
	}
	return &usageError{text: fmt.Sprintf("%s asks before it acts, and there is nobody here to answer: add --yes", what), see: "dhow " + what}
}

// confirm asks on the terminal; anything but yes declines.
func (a *app) confirm(ctx context.Context, question string) error {
	done := a.screen.ask(a.out.bold(question) + " [y/N] ")
	defer done()
	answered := make(chan string, 1)
	go func() { // reading a terminal can not be interrupted; the process ends soon after
		line, _ := bufio.NewReader(a.In).ReadString('\n') // no answer declines
		answered <- line
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(a.Out) // a terminal that is gone has nobody to tell
		return ctx.Err()
	case line := <-answered:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return errDeclined
	}
}
