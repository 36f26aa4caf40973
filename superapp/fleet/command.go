package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dhow/superapp/service"
)

// defaultDir takes the logs.
const defaultDir = ".dhow/superapp"

// Command is `superapp run`.
func Command() *cobra.Command {
	cfg := Config{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Start the whole application on this machine, with its servers and data",
		Long: `Starts PostgreSQL, MariaDB, Redis and all services of the application, loads its
data, prints the addresses and runs until Ctrl-C. Nothing is kept then but the logs.`,
		Example: `  superapp run
  superapp run --scale 100000 --listen 127.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Customers < 1 {
				return service.Usagef("--scale is %d: give the number of customers, at least 1", cfg.Customers)
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			cfg.Superapp = self
			cfg.Say = func(text string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), text) }
			ctx := cmd.Context()
			f, err := Launch(ctx, cfg)
			if err != nil {
				return err
			}
			if err := f.print(cmd); err != nil {
				return fmt.Errorf("%w, and %w", err, f.Close())
			}
			select {
			case name := <-f.Ended(ctx):
				err = fmt.Errorf("%s ended by itself: see its log in %s", name, cfg.Dir)
			case <-ctx.Done():
			}
			cfg.Say("stopping")
			if closed := f.Close(); closed != nil {
				err = closed
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&cfg.Customers, "scale", DefaultCustomers, "`number` of customers")
	fl.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "`address` of all services together; port 0 lets the kernel choose")
	fl.StringVar(&cfg.Dir, "dir", defaultDir, "`folder` of the logs")
	fl.IntVar(&cfg.Pool, "pool", DefaultPool, "connections of each service to each store")
	return cmd
}

// print says where everything is.
func (f *Fleet) print(cmd *cobra.Command) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	row := func(what, where string) { _, _ = fmt.Fprintf(w, "%s\t%s\n", what, where) } // Flush tells
	row("for customers", "http://"+f.Address+"/app/")
	row("sign in as", "customer1@example.com, with the PIN of SEED_PIN, or 2468")
	row("the public website", "http://"+f.Address+"/")
	row("all interfaces", "http://"+f.Address)
	for _, s := range Services() {
		row(s.Name, "http://"+f.Addresses[s.Name])
	}
	row("PostgreSQL", f.Stores.Postgres)
	row("MariaDB", f.Stores.MariaDB)
	row("Redis", f.Stores.Redis)
	row("logs", f.cfg.Dir)
	row("to check a history", ". "+filepath.Join(f.cfg.Dir, checkingFile)+" && superapp check --history FILE")
	return w.Flush()
}
