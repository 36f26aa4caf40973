package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dhow/superapp/service"
)

// Wrong is the error of a check that found faults; the report names them.
type Wrong struct{ Faults int64 } //nolint:errname // callers read it as check.Wrong

func (w *Wrong) Error() string { return fmt.Sprintf("the check found %d faults", w.Faults) }

// Command is `superapp check`.
func Command() *cobra.Command {
	var cfg Config
	var output string
	var switches int
	cmd := &cobra.Command{
		Use:   "check",
		Short: "say whether what clients were told agrees with what the databases hold",
		Long: `Reads the histories that "superapp traffic" wrote and the databases of the side
that serves now, and names what disagrees: acknowledged writes that are missing,
writes that were done twice, money made or lost, reads that went back in time.

The environment names the databases, since connection strings hold passwords.

  ACCOUNTS_URL, PAYMENTS_URL    the databases that serve now
  TRANSFERS_URL                 that of sends abroad, if the application has them
  CARDS_URL, ANALYTICS_URL      those of cards and of spending, at MariaDB, if it has them

With the databases of both sides it also proves that the two never took writes at
once. That needs track_commit_timestamp = on, on both servers, and --switches.

  ACCOUNTS_SOURCE_URL, PAYMENTS_SOURCE_URL, and TRANSFERS_SOURCE_URL with TRANSFERS_URL
  ACCOUNTS_TARGET_URL, PAYMENTS_TARGET_URL, and TRANSFERS_TARGET_URL with TRANSFERS_URL

It changes nothing. Exit status: 0 when nothing is wrong, 1 when something is, or
when it could not look, 2 for a mistake in how it was called.`,
		Example: `  superapp check --history run1.jsonl
  superapp check --history run1.jsonl --history run2.jsonl --switches 1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := configure(cmd, &cfg, switches, output); err != nil {
				return service.Usagef("%w", err)
			}
			errs := cmd.ErrOrStderr()
			cfg.Progress = func(text string) { _, _ = fmt.Fprintln(errs, text) }
			report, err := Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if output == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(report)
			} else {
				err = report.Print(cmd.OutOrStdout())
			}
			if err == nil && !report.OK {
				err = &Wrong{report.Faults()}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&cfg.Histories, "history", nil, "a history that traffic wrote; may be given several times (required)")
	f.IntVar(&switches, "switches", 0, "how often the serving side may have changed: 1 after a cutover, 2 after the way back")
	f.DurationVar(&cfg.Settle, "settle", DefaultSettle, "how long pending payments may take to be resolved before they are judged; 0 for no wait")
	f.IntVar(&cfg.Most, "most", DefaultMost, "how many faults of each kind are listed; all are counted")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// configure completes the configuration from the environment.
func configure(cmd *cobra.Command, cfg *Config, switches int, output string) error {
	switch {
	case len(cfg.Histories) == 0:
		return errors.New("no history: give --history FILE")
	case output != "text" && output != "json":
		return fmt.Errorf("-o %q: there are text and json", output)
	case cfg.Most < 1:
		return fmt.Errorf("--most %d is below 1", cfg.Most)
	case cfg.Settle < 0:
		return fmt.Errorf("--settle %s is below 0", cfg.Settle)
	case switches < 0:
		return fmt.Errorf("--switches %d is below 0", switches)
	}
	if cfg.Settle == 0 {
		cfg.Settle = -1
	}
	cfg.Serving = fromEnvironment("")
	if missing := unset(cfg.Serving, "", false); len(missing) > 0 {
		return fmt.Errorf("set %s: the databases of the side that serves now", strings.Join(missing, " and "))
	}
	sides := Sides{Source: fromEnvironment(source), Target: fromEnvironment(target), Switches: switches}
	given := cmd.Flags().Changed("switches")
	sends := cfg.Serving.Transfers != ""
	switch missing := append(unset(sides.Source, source, sends), unset(sides.Target, target, sends)...); {
	case sides.Source == Databases{} && sides.Target == Databases{} && !given:
		return nil
	case len(missing) > 0:
		return fmt.Errorf("set %s too: the audit of both sides needs the PostgreSQL databases of both", strings.Join(missing, " and "))
	case !given:
		return errors.New("say --switches N: how often the serving side may have changed")
	}
	cfg.Sides = &sides
	return nil
}

// fromEnvironment are the databases that the environment names for a side; with none, of the one that serves now.
func fromEnvironment(side string) Databases {
	var d Databases
	for _, s := range stores {
		*s.url(&d) = os.Getenv(s.variable(side))
	}
	return d
}

// unset are the variables of the databases that a side must have and has not.
func unset(d Databases, side string, sends bool) []string {
	var names []string
	for _, s := range stores {
		if (!s.optional || sends && s.name == "transfers") && *s.url(&d) == "" {
			names = append(names, s.variable(side))
		}
	}
	return names
}
