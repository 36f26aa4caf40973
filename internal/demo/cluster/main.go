// Command cluster runs a Kubernetes cluster of one node until it is interrupted, with
// the application in its pods as it was deployed carelessly, its databases beside it,
// and a registry of its images. It is for looking around: the demo starts clusters of
// its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"dhow/internal/demo"
	"dhow/superapp/fleet"
)

const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	var o demo.MooringOptions
	self, err := os.Executable()
	if err != nil {
		self = "cluster"
	}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&o.Dir, "dir", ".dhow/cluster", "the `folder` of the cluster and the logs, which must not exist")
	flags.StringVar(&o.Superapp, "superapp", filepath.Join(filepath.Dir(self), "superapp"), "the application's `program`")
	flags.IntVar(&o.Customers, "scale", fleet.DefaultCustomers, "`number` of customers")
	flags.BoolVar(&o.Empty, "empty", false, "a cluster and a registry of the images, without the application")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(exitUsage)
	}
	if flags.NArg() > 0 || o.Customers < 1 {
		fmt.Fprintf(os.Stderr, "cluster: no arguments, and at least one customer: see cluster -h\n")
		os.Exit(exitUsage)
	}
	o.Say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = demo.Moor(ctx, o, func(m demo.Mooring) {
		fmt.Printf("export KUBECONFIG=%s\nregistry    %s\nNodePorts   http://%s:<port>, 30080 for the accounts\nCtrl-C ends the cluster.\n", m.Kubeconfig, m.Registry, m.Address)
	})
	stop()
	if err != nil && !errors.Is(err, context.Canceled) { // Ctrl-C is how it ends
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(exitFailure)
	}
}
