// Mortal is dhow up to a step of a cutover: when that is in the journal, it dies, or
// pauses until the file that it made then is gone.
//
//	mortal STEP FILE ARGUMENTS...
//
// FILE is "" for who dies, and ARGUMENTS are dhow's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"dhow/internal/cli"
	"dhow/internal/cutover"
)

// poll is between two looks at the file.
const poll = 5 * time.Millisecond

func main() {
	const own = 3
	if len(os.Args) < own {
		fmt.Fprintln(os.Stderr, "mortal STEP FILE ARGUMENTS...")
		os.Exit(2)
	}
	at, file := cutover.Step(os.Args[1]), os.Args[2]
	os.Exit(cli.Run(context.Background(), os.Args[own:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, AfterStep: func(s cutover.Step) {
		if s != at {
			return
		}
		if file == "" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			panic(err)
		}
		for _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist); _, err = os.Stat(file) {
			time.Sleep(poll)
		}
	}}))
}
