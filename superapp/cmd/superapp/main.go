// Superapp is the application that is moved in the demo and in the tests: the
// accounts and the payments service, each a process of its own, and the tools
// that fill, load and check them.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"dhow/superapp/accounts"
	"dhow/superapp/analytics"
	"dhow/superapp/cards"
	"dhow/superapp/check"
	"dhow/superapp/fleet"
	"dhow/superapp/fx"
	"dhow/superapp/payments"
	"dhow/superapp/seed"
	"dhow/superapp/service"
	"dhow/superapp/site"
	"dhow/superapp/traffic"
	"dhow/superapp/transfers"
	"dhow/superapp/web"
)

// exitFailure is the code of an error that names no other; one of usage names 2.
const exitFailure = 1

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks for a graceful end; the second ends the process as signals do.
	context.AfterFunc(ctx, stop)
	err := root().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "superapp: %v\n", err)
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailure
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "superapp",
		Short:         "A small financial application: accounts, payments, and what tests them",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(accounts.Command(), payments.Command(), cards.Command(), analytics.Command(), fx.Command(), transfers.Command(), web.Command(), site.Command())
	cmd.AddCommand(migrate(), fleet.Command(), seed.Command(), traffic.Command(), check.Command())
	cmd.SetFlagErrorFunc(usage)
	for _, c := range append(cmd.Commands(), cmd) {
		args := c.Args
		c.Args = func(cmd *cobra.Command, given []string) error { return usage(cmd, args(cmd, given)) }
	}
	return cmd
}

// usage tells who called a command wrongly where to look.
func usage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return service.Usagef("%w: see `%s --help`", err, cmd.CommandPath())
}

// migration creates the schema of one service in its store.
type migration struct {
	schema service.Schema
	run    func(context.Context, service.Schema) error
}

// migrations are those of the services that have a schema.
func migrations() map[string]migration {
	return map[string]migration{
		accounts.Name:  {accounts.Schema(), service.Migrate},
		transfers.Name: {transfers.Schema(), service.Migrate},
		payments.Name:  {payments.Schema(), service.Migrate},
		cards.Name:     {cards.Schema(), service.MigrateMariaDB},
		analytics.Name: {analytics.Schema(), service.MigrateMariaDB},
	}
}

// migrate creates the schema of one of the services.
func migrate() *cobra.Command {
	all := migrations()
	names := slices.Sorted(maps.Keys(all))
	var role string
	cmd := &cobra.Command{
		Use:   "migrate {" + strings.Join(names, "|") + "}",
		Short: "Create what is missing of a service's schema",
		Long: `Creates what is missing of a service's schema in the database that DATABASE_URL,
or MARIADB_URL, names. With --role it also grants that role what the service needs,
and no more. It may be run again.`,
		Example:   "  DATABASE_URL=postgres://owner@localhost/accounts superapp migrate accounts --role accounts",
		ValidArgs: names,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := all[args[0]]
			return m.run(cmd.Context(), m.schema.For(role))
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "the existing `role` that the service connects as")
	return cmd
}
