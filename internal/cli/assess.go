package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"dhow/internal/assess"
	"dhow/internal/inventory"
)

// The forms of an assessment beside table and JSON.
const (
	outputSARIF = "sarif"
	outputHTML  = "html"
)

const (
	// mostPlaces is how many places of one rule a person reads; programs get all.
	mostPlaces = 10
	// mostProblems likewise of what could not be read.
	mostProblems = 50
	// uncollected is how much memory, in bytes, an assessment takes before Go's collector
	// first runs: that of some ten thousand objects, of which nothing is garbage until the end.
	uncollected = 512 << 20
	// thrifty is how much garbage, in percent of what is in use, there may be from then on:
	// half of Go's own measure, for a large cluster's objects take a gigabyte.
	thrifty = 50
)

// assessFlags are what is to be assessed, as it was typed.
type assessFlags struct {
	sourceFlags

	failOn       string
	suppressions string
	report       string
	rules, role  bool
}

// ruleRow is the JSON of a rule.
type ruleRow struct {
	ID       string          `json:"id"`
	Group    assess.Group    `json:"group"`
	Severity assess.Severity `json:"severity"`
	Title    string          `json:"title"`
	Why      string          `json:"why"`
	Fix      string          `json:"fix"`
	Live     bool            `json:"live"`
}

func (a *app) assessCommand() *cobra.Command {
	var f assessFlags
	cmd := &cobra.Command{
		Use:         "assess [path...]",
		Short:       "Find what is wrong with an application's deployment, and what can be reached from outside",
		Annotations: map[string]string{moreForms: outputSARIF + "," + outputHTML},
		Long: `Reads manifests (files, folders, Helm charts, kustomizations, Compose files), a running
cluster, or both, and says what is wrong: what can be reached from outside and by which
path, load balancing that fails, settings that drifted, rollouts that lose requests,
holes in security, waste, what ties it to one cloud, and data at risk. Each finding has
its place, the facts, why it hurts, what mends it, and a patch where one can be written.

Nothing is changed: a cluster is only listed. It is read where --context or --kubeconfig
is given; with paths as well, where both differ is a finding.

With --ask-databases the databases are asked for version, size, extensions and load, in
sessions that can not write, with passwords from the cluster's Secrets (which takes the
right to get them) or from where an estate file says. With --estate the movers look at
both ends of the estate's databases, as dhow preflight does.

It exits with 1 when a finding is at least as severe as --fail-on, and else with 3 when
something could not be read: the rest is assessed all the same.`,
		Example: `  dhow assess deploy/

  # a page to read and to hand on
  dhow assess deploy/ --context production -o html --report assessment.html

  # in a pipeline: findings for the code host, and an end at the first grave one
  dhow assess deploy/ -o sarif --report assess.sarif --fail-on high --suppressions assess.yaml

  # with what the databases say of themselves, and what would be in the way of their move
  dhow assess deploy/ --context production --ask-databases --estate dhow.yaml

  # what it looks for
  dhow assess --rules`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.assess(cmd, args, f) },
	}
	flags := cmd.Flags()
	f.register(flags)
	flags.StringVar(&f.failOn, "fail-on", "", "exit with 1 if a finding is this `severity` or worse: low, medium, high or critical")
	flags.StringVar(&f.suppressions, "suppressions", "", "a `file` of findings that somebody has taken responsibility for")
	flags.StringVar(&f.report, "report", "", "write the report into this `file`")
	flags.BoolVar(&f.role, "role", false, "print the least rights that reading a cluster takes, as a ClusterRole, and assess nothing")
	flags.BoolVar(&f.rules, "rules", false, "list the rules, and assess nothing")
	var severities []string
	for _, s := range assess.Severities() {
		severities = append(severities, s.String())
	}
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(severities, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag alone
	return cmd
}

func (a *app) assess(cmd *cobra.Command, paths []string, f assessFlags) error {
	wrong := func(text string) error { return &usageError{text: text, see: cmd.CommandPath()} }
	live := f.live()
	switch {
	case f.rules && (len(paths) > 0 || live || f.estate != ""):
		return wrong("--rules assesses nothing: leave paths and clusters out")
	case f.rules && f.role:
		return wrong("--rules or --role, not both")
	case f.rules:
		return a.printRules()
	case f.role && (len(paths) > 0 || f.estate != ""):
		return wrong("--role assesses nothing: leave paths and estates out")
	case f.role:
		return a.printRole()
	case len(paths) == 0 && !live && f.estate == "":
		return wrong("name manifests to assess, a cluster with --context or --kubeconfig, or databases with --estate")
	}
	if text := f.check(paths); text != "" {
		return wrong(text)
	}
	least := assess.Severity(0)
	if f.failOn != "" {
		var err error
		if least, err = assess.ParseSeverity(f.failOn); err != nil {
			return wrong("--fail-on: " + err.Error())
		}
	}
	var o assess.Options
	if f.suppressions != "" {
		s, err := assess.ReadSuppressions(f.suppressions)
		if err != nil {
			return usageOf(err)
		}
		o.Suppressions = s
	}
	defer collectLate()()
	inv, err := f.take(cmd.Context(), paths)
	if err != nil {
		return err
	}
	if o.Preflights, err = a.learnDatabases(cmd.Context(), inv, f.sourceFlags); err != nil {
		return err
	}
	report, err := assess.Assess(cmd.Context(), inv, o)
	if err != nil {
		return err
	}
	if err := a.writeAssessment(report, f.report); err != nil {
		return err
	}
	if n := report.Count(least); least > 0 && n > 0 {
		return &exitError{fmt.Sprintf("%d findings are %s or worse", n, least)}
	}
	if report.Partial {
		lost := int64(0)
		for _, p := range report.Problems {
			if p.Lost {
				lost++
			}
		}
		return &partialError{text: "not everything could be read: " + counted(lost, "problem"), next: "mend what the report lists as not read, and run it again"}
	}
	return nil
}

// collectLate lets Go's collector wait until there is much to collect, and be thrifty from
// then on. What the environment says of it goes before. The answer puts things back.
func collectLate() (undo func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(uncollected)
	var mu sync.Mutex
	over := false
	// What nothing holds is cleaned up at the first collection.
	runtime.AddCleanup(new([16]byte), func(limit int64) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			debug.SetGCPercent(thrifty)
			debug.SetMemoryLimit(limit)
		}
	}, limit)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// usageOf makes usage errors of what is wrong with a file of suppressions, one for each line.
func usageOf(err error) error {
	var invalid *assess.SuppressionsError
	if !errors.As(err, &invalid) {
		return &usageError{text: err.Error()}
	}
	all := make([]error, 0, len(invalid.Problems))
	for _, p := range invalid.Problems {
		all = append(all, &usageError{text: p})
	}
	return errors.Join(all...)
}

// writeAssessment prints a report, or writes it into a file and says so. It is not held
// as a whole: of a large cluster it is hundreds of megabytes.
func (a *app) writeAssessment(r *assess.Report, file string) error {
	if file == "" {
		if a.output == outputTable {
			return a.printAssessment(r)
		}
		return a.renderAssessment(a.Out, r)
	}
	// It names what is weak: it is for its owner to hand on.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := errors.Join(a.renderAssessment(f, r), f.Close()); err != nil {
		return fmt.Errorf("write the report into %s: %w", filepath.Clean(file), err)
	}
	if a.output == outputTable || a.output == outputHTML {
		a.printf("wrote %s: %s", filepath.Clean(file), summary(r))
	}
	return nil
}

// renderAssessment writes a report in the form that was asked for.
func (a *app) renderAssessment(w io.Writer, r *assess.Report) error {
	out := bufio.NewWriter(w)
	var err error
	switch a.output {
	case outputJSON:
		err = r.WriteJSON(out)
	case outputSARIF:
		err = r.WriteSARIF(out, readVersion().Version)
	case outputHTML:
		err = r.WriteHTML(out)
	default:
		to := &app{IO: IO{In: a.In, Out: out, Err: a.Err}, output: a.output, logFormat: a.logFormat, noColor: true}
		if err = to.prepare(); err == nil {
			err = to.printAssessment(r)
		}
	}
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// summary is how many findings there are, by severity.
func summary(r *assess.Report) string {
	text := counted(int64(len(r.Findings)), "finding")
	var parts []string
	all := assess.Severities()
	for i := len(all) - 1; i >= 0; i-- {
		if n := r.Count(all[i]) - r.Count(all[i]+1); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, all[i]))
		}
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if n := len(r.Suppressed); n > 0 {
		text += fmt.Sprintf("; %d more are suppressed", n)
	}
	return text
}

func (a *app) paintSeverity(s assess.Severity) func(string) string {
	switch s {
	case assess.Critical, assess.High:
		return a.out.red
	case assess.Medium:
		return a.out.yellow
	case assess.Low:
	}
	return a.out.dim
}

// printAssessment prints the findings rule by rule, the worst first.
func (a *app) printAssessment(r *assess.Report) error {
	for begin := 0; begin < len(r.Findings); {
		rule := r.Findings[begin].Rule
		end := begin
		for end < len(r.Findings) && r.Findings[end].Rule.ID == rule.ID {
			end++
		}
		a.printf("%s  %s  %s", a.paintSeverity(rule.Severity)(rule.Severity.String()), a.out.bold(rule.ID), rule.Title)
		a.indented("why: ", rule.Why)
		a.indented("fix: ", rule.Fix)
		t := &table{wrap: map[int]bool{2: true}}
		for i := begin; i < min(end, begin+mostPlaces); i++ {
			f := &r.Findings[i]
			facts := f.Evidence
			if f.Fix != "" {
				facts = append(facts[:len(facts):len(facts)], "fix: "+f.Fix)
			}
			t.add(plain("    "+f.Where()), plain(f.Name()), plain(strings.Join(facts, "\n")))
		}
		if err := a.printTable(t); err != nil {
			return err
		}
		if more := end - begin - mostPlaces; more > 0 {
			a.printf("    %d more, all with -o json", more)
		}
		a.printf("")
		begin = end
	}
	if len(r.Problems) > 0 {
		a.printf("%s", a.out.bold("not read, or unlike what was meant"))
		for _, p := range r.Problems[:min(len(r.Problems), mostProblems)] {
			a.indented("- ", p.String())
		}
		if more := len(r.Problems) - mostProblems; more > 0 {
			a.printf("    %d more, all with -o json", more)
		}
		a.printf("")
	}
	if err := a.printAnswers(r.Databases); err != nil {
		return err
	}
	if n := len(r.Exposures); n > 0 {
		open := map[inventory.Ref]bool{}
		for _, e := range r.Exposures {
			open[e.Workload] = true
		}
		a.printf("%s can be reached from outside, by %s: all with -o json, drawn with -o html", counted(int64(len(open)), "workload"), counted(int64(n), "path"))
	}
	a.printf("%s in %s, by %d rules", summary(r), counted(int64(r.Objects), "object"), r.Rules)
	return nil
}

func (a *app) printRole() error {
	text, err := inventory.Role(inventory.Options{})
	if err != nil {
		return fmt.Errorf("write the role: %w", err)
	}
	if _, err := a.Out.Write(text); err != nil {
		return fmt.Errorf("print the role: %w", err)
	}
	return nil
}

func (a *app) printRules() error {
	var rows []ruleRow
	for _, r := range assess.Rules() {
		rows = append(rows, ruleRow{r.ID, r.Group, r.Severity, r.Title, r.Why, r.Fix, r.Live})
	}
	if a.output != outputTable {
		return a.printJSON(rows)
	}
	t := &table{head: []string{"RULE", "GROUP", "SEVERITY", "LIVE", "WHAT IS WRONG"}, wrap: map[int]bool{4: true}}
	for _, r := range rows {
		t.add(plain(r.ID), plain(string(r.Group)), cell{text: r.Severity.String(), paint: a.paintSeverity(r.Severity)}, plain(yes(r.Live)), plain(r.Title))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	a.printf("")
	a.printf("%s rules", strconv.Itoa(len(rows)))
	return nil
}
