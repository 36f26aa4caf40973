package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/demo"
	"dhow/internal/demo/kube"
	"dhow/internal/estate"
	"dhow/internal/pgserver"
	"dhow/internal/process"
)

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{Connections: demo.DefaultConnections}
	var clean bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Move a live application on this machine, and measure what its clients notice",
		Long: `Starts two servers each of PostgreSQL, MariaDB and Redis, a financial application
with eight services, the gate and clients that pay, send, use cards and read, all on
free ports of this machine, and deploys a landing zone to a double of AWS, whose stacks
tell where the target is. Then it moves all databases from the one servers to the
others under one fence, and the traffic to services beside them, while the clients go
on, and says what they noticed: failed requests, the longest wait, lost or doubled
writes, and whether every row and key is equal. A report is left in ` + demoDir + `.

With --kubernetes the services run in the pods of two real clusters of one node: at
the source as they were deployed carelessly, at the target as they should be. There
the gate and the movers are pods too, and a Job of more pods helps with the copies.
That takes root, some packages and a build of Kubernetes: ` + "`hack/setup --kube`" + `.

Ctrl-C stops everything that it started.`,
		Example: `  dhow demo

  # there and back, with more traffic; and there once more, with nothing copied again
  dhow demo --rollback --rate 800
  dhow demo --rollback --again

  # look around afterwards
  dhow demo --keep

  # in the pods of two clusters; and what to run if such a run was killed
  dhow demo --kubernetes
  dhow demo --kubernetes --clean

  # the figures for programs
  dhow demo -o json | jq '{failed_requests, lost_writes, longest_stall_ms}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if clean {
				return a.demoClean(cmd.Context(), o)
			}
			if o.Kubernetes && !cmd.Flags().Changed("rate") {
				o.Rate = demo.KubernetesRate
			}
			return a.demo(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Kubernetes, "kubernetes", false, "run the application, the gate and the movers in the pods of two clusters")
	f.BoolVar(&clean, "clean", false, "remove what killed clusters left, and do nothing else; with --kubernetes")
	f.IntVar(&o.Rate, "rate", demo.DefaultRate, fmt.Sprintf("operations a `second`; some are several requests; with --kubernetes %d unless given", demo.KubernetesRate))
	f.IntVar(&o.Accounts, "accounts", demo.DefaultAccounts, "accounts in the ledger, with five entries each")
	f.DurationVar(&o.Duration, "duration", demo.DefaultDuration, "how long the traffic runs around the cutover, half before and half behind")
	f.BoolVar(&o.Rollback, "rollback", false, "go there and back again")
	f.BoolVar(&o.Again, "again", false, "go there once more after the way back; with --rollback")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running until Ctrl-C, and say how to look")
	f.IntVar(&o.From, "from", demo.DefaultFrom, "the source's PostgreSQL `version`")
	f.IntVar(&o.To, "to", demo.DefaultTo, "the target's PostgreSQL `version`")
	f.DurationVar(&o.StallBudget, "stall-budget", estate.DefaultStallBudget, "how long requests may be held, or the cutover is undone")
	return cmd
}

// demoDir is the folder of the demo, below the state folder.
const demoDir = ".dhow/demo"

// Bounds of the demo's flags.
const (
	mostRate     = 20_000
	mostAccounts = 50_000_000
	leastTime    = 2 * time.Second
	mostTime     = time.Hour
)

func checkDemo(o demo.Options) error {
	var text string
	switch {
	case o.Rate < 1 || o.Rate > mostRate:
		text = fmt.Sprintf("--rate %d: want 1 to %d", o.Rate, mostRate)
	case o.Accounts < demo.MinimumAccounts || o.Accounts > mostAccounts:
		text = fmt.Sprintf("--accounts %d: want %d to %d", o.Accounts, demo.MinimumAccounts, mostAccounts)
	case o.Duration < leastTime || o.Duration > mostTime:
		text = fmt.Sprintf("--duration %s: want %s to %s", o.Duration, leastTime, mostTime)
	case o.StallBudget <= 0:
		text = fmt.Sprintf("--stall-budget %s: want more than 0", o.StallBudget)
	case o.Again && !o.Rollback:
		text = "--again: there is no way back to go there again from: give --rollback too"
	case o.To < o.From:
		text = fmt.Sprintf("--from %d --to %d: the target's version may not be lower", o.From, o.To)
	}
	if text != "" {
		return &usageError{text: text, see: "dhow demo"}
	}
	for _, v := range []int{o.From, o.To} {
		if _, err := pgserver.Binaries(v); err != nil {
			return &usageError{text: err.Error(), see: "dhow demo"}
		}
	}
	return nil
}

// demoClean removes what the clusters of killed demos left.
func (a *app) demoClean(ctx context.Context, o demo.Options) error {
	if !o.Kubernetes {
		return &usageError{text: "--clean is for clusters: give --kubernetes too", see: "dhow demo"}
	}
	if err := kube.Clean(ctx); err != nil {
		return err
	}
	if err := process.Forgotten(); err != nil {
		return err
	}
	a.printf("nothing of killed clusters is left")
	return nil
}

// superappName is the program of the application, which is built beside dhow.
const superappName = "superapp"

func (a *app) demo(ctx context.Context, o demo.Options) error {
	if err := checkDemo(o); err != nil {
		return err
	}
	if o.Kubernetes {
		if err := kube.Check(); err != nil {
			return fmt.Errorf("%w; `dhow demo` without --kubernetes needs none of that", err)
		}
	}
	dhow, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program dhow: %w", err)
	}
	o.Dhow, o.Superapp = dhow, filepath.Join(filepath.Dir(dhow), superappName)
	if _, err := os.Stat(o.Superapp); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the application %s is not there: run `make build`, which puts it beside dhow", o.Superapp)
	}
	o.Dir, o.Out, o.Log = demoDir, a.Out, a.log
	if a.json() {
		o.Out = a.Err // standard output is the figures' alone
	}
	o.Show = func(r *demo.Report) error {
		if a.json() {
			return a.printJSON(r)
		}
		a.printf("")
		if err := r.Table(a.Out); err != nil {
			return err
		}
		a.printf("\nreport: %s", filepath.Join(demoDir, "report.html"))
		return nil
	}
	r, err := demo.Run(ctx, o)
	if err != nil {
		return err
	}
	if !r.Sound() {
		return errors.New("the voyage did not keep its promise: see the figures above and the logs in " + demoDir)
	}
	return nil
}
