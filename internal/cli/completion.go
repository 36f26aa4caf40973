package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands in your shell",
		Long: `Prints a script that lets your shell complete the commands and flags of dhow.
Nothing is installed: load the script, or put it where your shell looks.`,
		Example: `  # in this bash
  source <(dhow completion bash)

  # in every zsh from now on
  dhow completion zsh > "${fpath[1]}/_dhow"`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return &usageError{text: "name one shell: bash, zsh, fish or powershell", see: cmd.CommandPath()}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			var err error
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				err = root.GenZshCompletion(a.Out)
			case "fish":
				err = root.GenFishCompletion(a.Out, true)
			case "powershell":
				err = root.GenPowerShellCompletionWithDesc(a.Out)
			}
			if err != nil {
				return fmt.Errorf("write the completion script: %w", err)
			}
			return nil
		},
	}
}
