package cli

import (
	"github.com/spf13/cobra"

	"dhow/internal/cutover"
)

func (a *app) rollbackCommand() *cobra.Command {
	var f moveFlags
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Move the traffic back to the source, with all that was written since",
		Long: `The cutover in the other direction: the streams back bring the source up to date
with all that was written at the target, the target is fenced, and the held
requests go on at the source. The same budget, the same proof, the same undoing.
It needs the way back, which stays open from the cutover to dhow finish.`,
		Example: `  dhow rollback --dry-run

  # and keep the target fresh for another try
  dhow rollback --yes --stay`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.moveTraffic(cmd.Context(), cutover.Source, f) },
	}
	f.add(cmd)
	return cmd
}
