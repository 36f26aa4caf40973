package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dhow/internal/gate"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

func (a *app) gateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Run the traffic gate: the proxy that holds, drains and switches",
		Long: `Runs the estate's gate in front of the application until Ctrl-C: an HTTP/1.1 and
HTTP/2 proxy whose routes lead to the side that serves. During a cutover it holds
new requests, lets those in flight end, and sends them all to the other side. Which
side serves is on the disk: killed and started again, it serves the same side.

Stopped with Ctrl-C or SIGTERM it lets the requests in flight end first.`,
		Example: `  dhow gate

  # what it holds and how fast it answers
  dhow gate status`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.gate(cmd.Context()) },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "status",
		Short: "Say what the running gate serves, holds and how fast it answers",
		Long: `Asks the estate's running gate how it stands: which side every route leads to, the
requests that are held and in flight, and how long the last minute's took.`,
		Example: `  dhow gate status

  # the requests that failed since the gate was started
  dhow gate status -o json | jq .failures`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.gateStatus(cmd.Context()) },
	})
	return cmd
}

func (a *app) gate(ctx context.Context) error {
	e, err := a.load()
	if err != nil {
		return err
	}
	if e.Gate == nil {
		return noGate(e.File)
	}
	token, err := e.Gate.Token.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("the gate's token: %w", err)
	}
	cfg, err := gate.FromEstate(e, token, a.log)
	if err != nil {
		return err
	}
	g, err := gate.New(cfg)
	if err != nil {
		return err
	}
	run, runCtx := errgroup.WithContext(ctx)
	run.Go(func() error { return g.Serve(runCtx) })
	run.Go(func() error {
		select {
		case <-g.Ready():
			a.gateServes(g)
		case <-runCtx.Done():
		}
		return nil
	})
	return run.Wait()
}

// gateServes says where a gate that has begun to serve can be reached.
func (a *app) gateServes(g *gate.Gate) {
	at := g.Addrs()
	if a.json() {
		_ = json.NewEncoder(a.Out).Encode(struct { // nobody has to read it
			Event   string `json:"event"`
			Listen  string `json:"listen"`
			Control string `json:"control"`
			Metrics string `json:"metrics,omitempty"`
		}{"serving", at.Data, at.Control, at.Metrics})
		return
	}
	a.printf("the gate serves clients on %s and takes commands on %s", at.Data, at.Control)
	if at.Metrics != "" {
		a.printf("metrics are on http://%s/metrics", at.Metrics)
	}
	for _, r := range g.Status().Routes {
		a.printf("%sroute %s, %s%s, leads to the %s", indent, r.Name, r.Host, r.Path, r.Side)
	}
}

func noGate(file string) error {
	return &move.Refused{Reason: "the estate has no gate", Fix: "add the key gate to " + file + ", with listen and routes"}
}

func (a *app) gateStatus(ctx context.Context) error {
	e, err := a.load()
	if err != nil {
		return err
	}
	if e.Gate == nil {
		return noGate(e.File)
	}
	token, err := e.Gate.Token.Resolve(ctx) // and no credential of a database: the gate has none
	if err != nil {
		return fmt.Errorf("the gate's token: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	s, err := gate.Dial(e.Gate.Control, token).Status(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(s)
	}
	a.printGate(&gateStatus{Status: &s})
	t := &table{head: []string{"ROUTE", "HOST", "PATH", "SIDE", "STATE", "HELD", "IN FLIGHT", "REQUESTS", "FAILED", "P50", "P99"}}
	for _, r := range s.Routes {
		host := r.Host
		if host == "" {
			host = "any"
		}
		t.add(plain(r.Name), plain(host), plain(r.Path), plain(string(r.Side)), cell{text: string(r.State), paint: paintIf(r.State != gate.StateOpen, a.out.yellow)},
			number(rows(int64(r.Held))), number(rows(int64(r.InFlight+r.LongLived))), number(rows(r.Requests)),
			cell{text: rows(r.Failures), paint: paintIf(r.Failures > 0, a.out.red), right: true}, number(millis(r.Latency.P50)), number(millis(r.Latency.P99)))
	}
	return a.printTable(t)
}

// gateStatus is what the gate says, or why it does not.
type gateStatus struct {
	*gate.Status
	Error string `json:"error,omitempty"`
}

// askGate asks the gate; nil where the estate has none.
func askGate(ctx context.Context, v *voyage.Voyage, fail func(err error, inPlace bool)) *gateStatus {
	if v.Gate == nil {
		return nil
	}
	s, err := v.Gate.Status(ctx)
	if err != nil {
		fail(fmt.Errorf("the gate: %w", err), true)
		return &gateStatus{Error: err.Error()}
	}
	return &gateStatus{Status: &s}
}

func (a *app) printGate(s *gateStatus) {
	if s.Error != "" {
		a.printf("gate: %s", a.out.red(s.Error))
		return
	}
	leads := "routes lead to both sides"
	if s.Side != "" {
		leads = "leads to the " + string(s.Side)
	}
	a.printf("gate: on %s since %s, %s, %s held, %s in flight, p50 %s and p99 %s in the last minute, %s of %s failed", s.Listen, s.Started.Format(time.DateTime), leads,
		rows(s.Held), rows(int64(s.InFlight)), millis(s.Latency.P50), millis(s.Latency.P99), rows(s.Failures), counted(s.Requests, "request"))
}

func millis(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
