package traffic

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"dhow/superapp/service"
)

// oneProcessor is up to which rate, in operations a second, the clients make do with
// one processor, which is far below what it can do.
const oneProcessor = 4000

// Command is `superapp traffic`. It ends cleanly when its context does; turning
// signals into that is the program's.
func Command() *cobra.Command {
	cfg := Config{Shares: DefaultShares()}
	var output string
	var rhythm bool
	var day time.Duration
	cmd := &cobra.Command{
		Use:   "traffic",
		Short: "pay and read at a set rate, and write down what was answered",
		Long: `Pays, transfers, requests money, splits bills, pays by card, sends money abroad and
reads at a set rate over many connections, and writes each operation with its
outcome to the history, for "superapp check". Where the application lacks a
service, its share must be 0.

With --rhythm the rate goes with the hours of the day and the days of the week in
the Emirates, and --rate is its peak. A day that is pressed together with
--rhythm-day begins on a Monday at midnight.

The schedule goes by the clock: a slow server does not slow it, and waits count
from the instant at which an operation was due. What no connection could send in
time counts as late. Nothing is ever sent twice.

It ends when the duration is over or at SIGINT or SIGTERM: what is in flight is
finished and written. That operations failed does not make it fail; "superapp
check" judges.`,
		Example: `  superapp traffic --url http://127.0.0.1:8080 --rate 500 --duration 30s --history run1.jsonl
  superapp traffic --url http://gate:8080 --duration 0 --history run2.jsonl -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return service.Usagef("-o %q: there are text and json", output)
			}
			switch {
			case rhythm && day == 0:
				return service.Usagef("--rhythm-day 0s is below %s", leastRhythmDay)
			case rhythm:
				cfg.RhythmDay = day
			case cmd.Flags().Changed("rhythm-day"):
				return service.Usagef("--rhythm-day is for --rhythm: give that too")
			}
			if err := cfg.Validate(); err != nil {
				return service.Usagef("%w", err)
			}
			if _, chosen := os.LookupEnv("GOMAXPROCS"); !chosen && cfg.Rate <= oneProcessor {
				runtime.GOMAXPROCS(1) // with two, each answer would wake a second thread for nothing
			}
			errs := cmd.ErrOrStderr()
			before, after := "", "\n"
			if f, ok := errs.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
				before, after = "\r\x1b[K", ""
			}
			cfg.Progress = func(t Tick) { _, _ = fmt.Fprint(errs, before, t, after) }
			summary, err := Run(cmd.Context(), cfg)
			if before != "" {
				_, _ = fmt.Fprintln(errs)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(summary)
			}
			return summary.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.URL, "url", "", "where the application answers (required)")
	f.StringVar(&cfg.History, "history", "", "the file to write, one JSON line an operation; it must be new (required)")
	f.Float64Var(&cfg.Rate, "rate", DefaultRate, "operations a second; with --rhythm, at the peak")
	f.IntVar(&cfg.Connections, "connections", DefaultConnections, "HTTP connections")
	f.DurationVar(&cfg.Duration, "duration", 0, "how long operations are scheduled; 0 until it is stopped")
	f.DurationVar(&cfg.Timeout, "timeout", DefaultTimeout, "how long an answer may take, and an operation wait to be sent")
	f.Uint64Var(&cfg.Seed, "seed", 1, "determines the accounts and what they do")
	f.Int64Var(&cfg.Accounts, "accounts", DefaultAccounts, "accounts have the ids 1 to this")
	f.IntVar(&cfg.Active, "active", DefaultActive, "how many of the accounts take part")
	f.IntVar(&cfg.Cards, "cards", DefaultCards, "how many of them pay by card, at most")
	f.BoolVar(&rhythm, "rhythm", false, "let the rate follow the day and the week")
	f.DurationVar(&day, "rhythm-day", DefaultRhythmDay, "how long a day of the rhythm takes")
	f.Float64Var(&cfg.HotShare, "hot-share", DefaultHotShare, "share of choices, 0 to 1, that go to the hottest hundredth of the active accounts")
	f.Float64Var(&cfg.Shares.Pay, "pay-share", cfg.Shares.Pay, "weight of payments")
	f.Float64Var(&cfg.Shares.Transfer, "transfer-share", cfg.Shares.Transfer, "weight of transfers")
	f.Float64Var(&cfg.Shares.Request, "request-share", cfg.Shares.Request, "weight of requests for money, each then accepted")
	f.Float64Var(&cfg.Shares.Split, "split-share", cfg.Shares.Split, "weight of split bills, each then accepted by its payers")
	f.Float64Var(&cfg.Shares.Send, "send-share", cfg.Shares.Send, "weight of quotes, each then sent abroad")
	f.Float64Var(&cfg.Shares.Card, "card-share", cfg.Shares.Card, "weight of payments by card, each then captured or reversed, some refunded")
	f.Float64Var(&cfg.Shares.Read, "read-share", cfg.Shares.Read, "weight of reads of an account")
	f.Float64Var(&cfg.Shares.Statement, "statement-share", cfg.Shares.Statement, "weight of reads of an account's statement")
	f.Float64Var(&cfg.Shares.Insights, "insights-share", cfg.Shares.Insights, "weight of reads of an account's spending")
	f.Float64Var(&cfg.Shares.Rates, "rates-share", cfg.Shares.Rates, "weight of reads of an exchange rate")
	f.Float64Var(&cfg.Shares.Corridor, "corridor-share", cfg.Shares.Corridor, "weight of reads of what a country asks of a beneficiary")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// print writes the summary for people.
func (s Summary) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		value any
	}{
		{"requests", s.Requests}, {"acknowledged", s.Acknowledged}, {"of them writes", s.AcknowledgedWrites}, {"refused", s.Refused},
		{"failed", s.Failed}, {"unknown", s.Unknown}, {"late (never sent)", s.Late},
		{"requests a second", fmt.Sprintf("%.1f", s.Rate)},
		{"p50, from when it was due", fmt.Sprintf("%.1f ms", s.P50)}, {"p99", fmt.Sprintf("%.1f ms", s.P99)}, {"longest", fmt.Sprintf("%.1f ms", s.Max)},
		{"p50, from its sending", fmt.Sprintf("%.1f ms", s.SentP50)}, {"p99", fmt.Sprintf("%.1f ms", s.SentP99)}, {"longest", fmt.Sprintf("%.1f ms", s.SentMax)},
	} {
		_, _ = fmt.Fprintf(w, "%s\t%v\t\n", row.name, row.value) // Flush tells
	}
	return w.Flush()
}
