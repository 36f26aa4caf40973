// Package cli is the dhow command: one file a command, each of which reads
// flags, calls the packages that do the work, and prints what they say. Nothing
// is decided here that another program would have to decide again.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9/logging"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dhow/internal/cutover"
	"dhow/internal/estate"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	// exitPartial says that not everything could be read, and the rest was well.
	exitPartial = 3
)

// IO is what a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// AfterStep is told of each step of a cutover or a rollback, when it stands in
	// the journal and before it acts; nil tells nobody. It is for programs that
	// stop a run at a certain step, as tests do: Main sets none.
	AfterStep func(cutover.Step)
}

// Main runs the command line of this process and returns its exit code. The
// first interrupt ends the command cleanly, the second kills it.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// What the clients of Redis and MariaDB say by themselves comes back as errors too; what the
	// reader of Compose files says is of no use to whoever assesses somebody's.
	logging.Disable()
	logrus.SetOutput(io.Discard)
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it fails only without one
	return Run(ctx, os.Args[1:], IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Run runs one command and returns its exit code. The end of ctx is an interrupt.
func Run(ctx context.Context, args []string, std IO) int {
	a := &app{IO: std}
	root := a.root() //nolint:contextcheck // each command takes the context that it is executed with
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
	a.screen.close()
	if err == nil {
		return exitDone
	}
	if a.screen == nil && wantsJSON(args) { // the flags were not read to their end
		a.output = outputJSON
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

	// engines are those of the databases of the estate that was opened.
	engines map[string]estate.Engine

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

// wantsJSON says whether arguments that can not be read whole ask for JSON, so
// that their error comes in the form that was asked for.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == outputJSON {
				return true
			}
		}
	}
	return false
}

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
		Version:           readVersion().Version,
		Args:              noArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(formsOf(cmd)...) },
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.file, "file", "f", estate.FileName, "the estate `file`")
	f.StringVarP(&a.output, "output", "o", outputTable, "the `form` of what is printed: table or json")
	f.BoolVar(&a.noColor, "no-color", false, "print without colours, as NO_COLOR does")
	f.CountVarP(&a.verbose, "verbose", "v", "log what is done; twice for details")
	f.StringVar(&a.logFormat, "log-format", logText, "the `form` of log lines on standard error: text or json")
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		a.demoCommand(),
		a.initCommand(),
		a.preflightCommand(),
		a.replicateCommand(),
		a.verifyCommand(),
		a.cutoverCommand(),
		a.rollbackCommand(),
		a.finishCommand(),
		a.gateCommand(),
		a.manifestCommand(),
		a.statusCommand(),
		a.assessCommand(),
		a.planCommand(),
		a.deployCommand(),
		a.drCommand(),
		a.operatorCommand(),
		a.exposeCommand(),
		a.regionsCommand(),
		a.completionCommand(),
		a.versionCommand(),
	)
	for name, values := range map[string][]string{"output": {outputTable, outputJSON}, "log-format": {logText, logJSON}} {
		_ = root.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag alone
	}
	_ = root.MarkPersistentFlagFilename("file", "yaml", "yml") // likewise
	return root
}

// moreForms is the annotation of a command that prints in more forms than others.
const moreForms = "forms"

// formsOf are the forms of a command beside table and json.
func formsOf(cmd *cobra.Command) []string { return list(cmd.Annotations[moreForms]) }

// prepare checks the flags that every command has, once they are read; more are the
// command's own forms of output.
func (a *app) prepare(more ...string) error {
	for _, f := range []struct {
		name, value string
		known       []string
	}{{"--output", a.output, append([]string{outputTable, outputJSON}, more...)}, {"--log-format", a.logFormat, []string{logText, logJSON}}} {
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

// helpCommand is cobra's, but for a command that does not exist it is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		Long:  "Prints what a command does, its flags and examples of it, as its flag --help does.",
		Example: `  dhow help cutover

  # the same
  dhow cutover --help`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			of, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range of.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil { // cobra's own words name no next step
				of, rest = cmd.Root(), args
			}
			if len(rest) > 0 {
				return noArgs(of, rest)
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
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
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, f.Name)
			}
		})
		if found := near(unknown.GetSpecifiedName(), known); len(found) > 0 && unknown.GetSpecifiedShortnames() == "" {
			u.text += ", did you mean --" + strings.Join(found, " or --") + "?"
		}
	}
	return u
}
