// Package cli is the dhow command: one file a command, each of which reads
// flags, calls the packages that do the work, and prints what they say. Nothing
// is decided here that another program would have to decide again.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dhow/internal/estate"
	"dhow/internal/voyage"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// IO is what a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs the command line of this process and returns its exit code. The
// first interrupt ends the command cleanly, the second kills it.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, os.Args[1:], IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Run runs one command and returns its exit code. The end of ctx is an interrupt.
func Run(ctx context.Context, args []string, std IO) int {
	a := &app{IO: std}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
	a.screen.close()
	if err == nil {
		return exitDone
	}
	var silent *exitError
	if !errors.As(err, &silent) {
		a.printError(err)
	}
	return exitCode(err)
}

// app is one run of the command: its flags, and where its output goes.
type app struct {
	IO
	file      string
	output    string
	noColor   bool
	verbose   int
	logFormat string

	// out and err know how to colour what is written to Out and Err.
	out, err style
	screen   *screen
	log      *slog.Logger
}

// The values of --output and --log-format.
const (
	outputTable = "table"
	outputJSON  = "json"
	logText     = "text"
	logJSON     = "json"
)

func (a *app) json() bool { return a.output == outputJSON }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dhow",
		Short: "Move a running application and its databases, with no failed request",
		Long: `dhow moves a live application's databases from one place to another while it
serves its users: it copies and streams every change, proves both sides equal,
and at the cutover holds requests for a moment, moves the writes, and lets the
requests go on at the new side. Nothing is lost, and the way back stays open.

A voyage, step by step:

  dhow init        write the estate file, dhow.yaml
  dhow preflight   find what would stop the move, and the statement that mends it
  dhow replicate   copy, then stream changes until told to stop
  dhow verify      compare both sides, row by row
  dhow cutover     move the traffic
  dhow rollback    move it back, with all that was written since
  dhow finish      remove everything that the move left behind

Every command exits with 0 when it did what it should, with 1 when it failed or
found something that must be mended, and with 2 when it was called wrongly or the
estate file is not valid.`,
		Example: `  # see a whole voyage on this machine
  dhow demo

  # begin one of your own
  dhow init && dhow preflight`,
		Args:              noArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.prepare() },
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.file, "file", "f", estate.FileName, "the estate `file`")
	f.StringVarP(&a.output, "output", "o", outputTable, "how results are printed: table or json")
	f.BoolVar(&a.noColor, "no-color", false, "print without colours, as NO_COLOR does")
	f.CountVarP(&a.verbose, "verbose", "v", "log what is done; twice for details")
	f.StringVar(&a.logFormat, "log-format", logText, "how log lines on standard error are written: text or json")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		a.initCommand(),
		a.preflightCommand(),
		a.replicateCommand(),
		a.verifyCommand(),
		a.cutoverCommand(),
		a.rollbackCommand(),
		a.finishCommand(),
		a.gateCommand(),
		a.statusCommand(),
		a.completionCommand(),
		a.versionCommand(),
	)
	for name, values := range map[string][]string{"output": {outputTable, outputJSON}, "log-format": {logText, logJSON}} {
		_ = root.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag alone
	}
	_ = root.MarkPersistentFlagFilename("file", "yaml", "yml") // likewise
	return root
}

// prepare checks the flags that every command has, once they are read.
func (a *app) prepare() error {
	for _, f := range []struct {
		name, value string
		known       []string
	}{{"--output", a.output, []string{outputTable, outputJSON}}, {"--log-format", a.logFormat, []string{logText, logJSON}}} {
		if !slices.Contains(f.known, f.value) {
			return &usageError{text: fmt.Sprintf("%s %q is not known: want %s", f.name, f.value, strings.Join(f.known, " or "))}
		}
	}
	a.out, a.err = newStyle(a.Out, a.noColor), newStyle(a.Err, a.noColor)
	a.screen = newScreen(a.Out, a.Err)
	level := slog.LevelWarn - slog.Level(4*min(a.verbose, 2)) // warn, info, debug
	options := &slog.HandlerOptions{Level: level}
	if a.logFormat == logJSON {
		a.log = slog.New(slog.NewJSONHandler(a.screen.errors(), options))
	} else {
		a.log = slog.New(slog.NewTextHandler(a.screen.errors(), options))
	}
	return nil
}

// load reads the estate file.
func (a *app) load() (*estate.Estate, error) {
	e, err := estate.Load(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingFile{err}
	}
	return e, err
}

// open reads the estate file and makes what it describes.
func (a *app) open(ctx context.Context) (*voyage.Voyage, error) {
	e, err := a.load()
	if err != nil {
		return nil, err
	}
	return voyage.Open(ctx, e, voyage.Options{Log: a.log})
}

// noArgs refuses arguments, and names the command that was probably meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return &usageError{text: fmt.Sprintf("%s takes no arguments, and got %q", cmd.Name(), args), see: cmd.CommandPath()}
	}
	cmd.SuggestionsMinimumDistance = suggestWithin
	return &usageError{text: fmt.Sprintf("unknown command %q for %s%s", args[0], cmd.CommandPath(), didYouMean(cmd.SuggestionsFor(args[0]))), see: cmd.CommandPath()}
}

// flagError adds the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	u := &usageError{text: err.Error(), see: cmd.CommandPath()}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		// Flags are compared as cobra compares commands.
		flags := &cobra.Command{SuggestionsMinimumDistance: suggestWithin}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
			}
		})
		if near := flags.SuggestionsFor(unknown.GetSpecifiedName()); len(near) > 0 && unknown.GetSpecifiedShortnames() == "" {
			u.text += ", did you mean --" + strings.Join(near, " or --") + "?"
		}
	}
	return u
}

// suggestWithin is how many letters a name may be away from what was typed.
const suggestWithin = 2

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}
