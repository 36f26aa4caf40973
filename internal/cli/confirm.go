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
		fmt.Fprintln(a.Out)
		return ctx.Err()
	case line := <-answered:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return errDeclined
	}
}
