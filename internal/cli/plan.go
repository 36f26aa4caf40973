package cli

import (
	stdbytes "bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/assess"
	"dhow/internal/estate"
	"dhow/internal/plan"
	"dhow/internal/price"
	"dhow/internal/window"
)

// The forms of a plan beside table, JSON and HTML.
const (
	outputYAML     = "yaml"
	outputMarkdown = "markdown"
)

const (
	// planFile is the document for machines in the plan's folder, by which the folder is known.
	planFile = "plan.yaml"
	// manifestFolder is the plan's own: what is in it and in no plan any more is removed.
	manifestFolder = "manifests"
	// planAhead is how far ahead a cutover is planned at least.
	planAhead = 7 * 24 * time.Hour
	// mostDecisions is how many things to decide a person reads; the other forms have all.
	mostDecisions = 20
)

// planFlags are what is to be planned, as it was typed.
type planFlags struct {
	source  sourceFlags
	options string
	regions []string
	places  []string
	numbers []string
	prices  string
	out     string
	diff    string
	when    whenFlags
}

// written is the JSON of what was written.
type written struct {
	Out   string   `json:"out"`
	Files []string `json:"files"`
	// Kept is the estate that was changed by hand; New is the plan's beside it.
	Kept string `json:"kept,omitempty"`
	New  string `json:"new,omitempty"`
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:         "plan [path...]",
		Short:       "Design what replaces a deployment: places, sizes, networks, regions, waves and cost",
		Annotations: map[string]string{moreForms: outputYAML + "," + outputMarkdown + "," + outputHTML},
		Long: `Reads manifests, a running cluster, or both, as ` + "`dhow assess`" + ` does, and plans the move
into AWS: where each workload goes and why, who may reach it, how large it is, how requests
are spread over its pods, where its data moves, networks that overlap with none of the
source's, accounts and regions with the alternatives to them, secrets and images to move,
waves, the cutover's window, and what a month costs. What only a person can decide is
listed first.

With --out it writes a folder: the plan as YAML, Markdown and a page with a map, the
estate file of the move, and manifests for the new cluster. The same input gives the
same bytes, so that the folder can be kept in a repository and reviewed line by line.
Nothing is changed anywhere else.

It exits with 3 when something of the source could not be read: the rest is planned all
the same.`,
		Example: `  dhow plan deploy/ --out plan/

  # what another region would change
  dhow plan deploy/ --region me-south-1=eu-central-1 -o markdown

  # with what runs: digests, and sizes by what was used
  dhow plan deploy/ --context production --prometheus http://127.0.0.1:9090 --out plan/

  # with the versions and sizes that the databases tell
  dhow plan deploy/ --context production --ask-databases --out plan/

  # what is other than in the last one
  dhow plan deploy/ --diff plan/plan.yaml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.plan(cmd, args, f) },
	}
	flags := cmd.Flags()
	f.source.register(flags)
	flags.StringVar(&f.options, "options", "", "a `file` of what the plan shall be: regions, placement, probes, networks, goals")
	flags.StringArrayVar(&f.regions, "region", nil, "plan another region in the place of one, as `old=new`; may be given again")
	flags.StringArrayVar(&f.places, "place", nil, "where a workload goes, as `name=place`: eks, ecs, ec2 or left, default for all; may be given again")
	flags.StringArrayVar(&f.numbers, "account", nil, "the number of an account, as `name=number`: production, nonproduction or security; may be given again")
	flags.StringVar(&f.prices, "prices", "", "a `file` of prices that are laid over those of the binary")
	flags.StringVar(&f.out, "out", "", "write the plan, the estate and the manifests into this `folder`")
	flags.StringVar(&f.diff, "diff", "", "say what is other than in this `file`, the plan.yaml of an earlier plan")
	flags.StringVar(&f.when.history, "history", "", "where the requests of at least two weeks are counted: the `URL` of a Prometheus server, or a file or folder")
	flags.StringVar(&f.when.kind, "history-kind", "", "what the history is, where that is not found out: prometheus, alb, nginx or csv")
	flags.StringVar(&f.when.query, "query", window.DefaultQuery, "the `PromQL` that gives the requests a second")
	flags.StringVar(&f.when.zone, "zone", localZone, "the time `zone` whose clock habits follow, as Asia/Qatar")
	return cmd
}

func (a *app) plan(cmd *cobra.Command, paths []string, f planFlags) error {
	wrong := func(format string, args ...any) error {
		return &usageError{text: fmt.Sprintf(format, args...), see: cmd.CommandPath()}
	}
	if text := f.source.check(paths); text != "" {
		return wrong("%s", text)
	}
	switch {
	case len(paths) == 0 && !f.source.live():
		return wrong("name manifests to plan for, or a cluster with --context or --kubeconfig")
	case f.when.history == "" && (f.when.kind != "" || cmd.Flags().Changed("query") || cmd.Flags().Changed("zone")):
		return wrong("--history-kind, --query and --zone go with --history")
	case f.when.kind != "" && !slices.Contains(window.Kinds(), window.Kind(f.when.kind)):
		return wrong("--history-kind %q is not known: want one of %v", f.when.kind, window.Kinds())
	}
	for _, p := range filled(f.options, f.prices, f.diff) {
		if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
			return wrong("there is nothing at %s", p)
		}
	}
	o, err := f.read(wrong)
	if err != nil {
		return planUsage(err)
	}
	var old *plan.Document
	if f.diff != "" {
		if old, err = plan.ReadDocument(f.diff); err != nil {
			return planUsage(err)
		}
	}
	if f.when.history != "" {
		if err := f.when.plan(cmd.Context(), o, wrong); err != nil {
			return err
		}
	}
	p, err := a.makePlan(cmd.Context(), paths, f.source, o)
	if err != nil {
		return planUsage(err)
	}
	if err := a.tellPlan(p, f, old); err != nil {
		return err
	}
	if p.Partial {
		return &partialError{text: "not everything could be read: " + counted(int64(len(p.Problems)), "problem"), next: "mend what the plan lists as not read, and run it again"}
	}
	return nil
}

func filled(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// read reads the options, and lays the flags over them.
func (f *planFlags) read(wrong func(string, ...any) error) (*plan.Options, error) {
	o, err := plan.ReadOptions(f.options)
	if err != nil {
		return nil, err
	}
	pairs := func(flag string, all []string, set func(name, value string) error) error {
		for _, text := range all {
			name, value, ok := strings.Cut(text, "=")
			if !ok || name == "" || value == "" {
				return wrong("--%s %q: want it as NAME=VALUE", flag, text)
			}
			if err := set(name, value); err != nil {
				return err
			}
		}
		return nil
	}
	err = errors.Join(
		pairs("region", f.regions, func(name, value string) error {
			o.Instead = append(o.Instead, plan.Instead{From: name, To: value})
			return nil
		}),
		pairs("place", f.places, func(name, value string) error {
			if !slices.Contains(plan.Places(), plan.Place(value)) {
				return wrong("--place %s=%s: %q is no place: want one of %v", name, value, value, plan.Places())
			}
			if o.Placement == nil {
				o.Placement = map[string]plan.Place{}
			}
			o.Placement[name] = plan.Place(value)
			return nil
		}),
		pairs("account", f.numbers, func(name, value string) error {
			if err := plan.CheckAccount(name, value); err != nil {
				return wrong("--account %s=%s: %v", name, value, err)
			}
			o.Accounts[name] = value
			return nil
		}),
	)
	if err != nil {
		return nil, err
	}
	if f.prices != "" {
		if o.Prices, err = price.Load(f.prices); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// planUsage makes usage errors of what is wrong with options, prices and old plans.
func planUsage(err error) error {
	var options *plan.InvalidError
	var prices *price.Invalid
	switch {
	case errors.As(err, &options):
		all := make([]error, 0, len(options.Problems))
		for _, p := range options.Problems {
			all = append(all, &usageError{text: p})
		}
		return errors.Join(all...)
	case errors.As(err, &prices):
		return &usageError{text: prices.Error()}
	}
	return err
}

// plan finds the quietest moment in the history, for the plan's window.
func (f *whenFlags) plan(ctx context.Context, o *plan.Options, wrong func(string, ...any) error) error {
	zone, err := time.LoadLocation(f.zone)
	if err != nil {
		return wrong("--zone %q is not known: want a name as Asia/Qatar, UTC or Local", f.zone)
	}
	// What is planned today is not moved today: it has to be made, copied and tried first.
	now := time.Now()
	h, err := window.Read(ctx, window.Source{Where: f.history, Kind: window.Kind(f.kind), Query: f.query, Token: os.Getenv(tokenVariable), Zone: zone, Now: now})
	if err != nil {
		return err
	}
	if o.Window, err = h.Find(window.Ahead{Now: now, Earliest: now.Add(planAhead), Stall: estate.DefaultStallBudget}); err != nil {
		return err
	}
	o.History = f.history
	return nil
}

// makePlan reads the source, assesses it, and plans.
func (a *app) makePlan(ctx context.Context, paths []string, f sourceFlags, o *plan.Options) (*plan.Plan, error) {
	inv, err := f.take(ctx, paths)
	if err != nil {
		return nil, err
	}
	preflights, err := a.learnDatabases(ctx, inv, f)
	if err != nil {
		return nil, err
	}
	report, err := assess.Assess(ctx, inv, assess.Options{Preflights: preflights})
	if err != nil {
		return nil, err
	}
	return plan.Make(ctx, inv, report, o)
}

// tellPlan writes and prints a plan, or what is other in it.
func (a *app) tellPlan(p *plan.Plan, f planFlags, old *plan.Document) error {
	var w *written
	if f.out != "" {
		var err error
		if w, err = writePlan(p, f.out); err != nil {
			return err
		}
	}
	switch {
	case old != nil:
		d, err := p.Compare(old)
		if err != nil {
			return err
		}
		if a.json() {
			return a.printJSON(d)
		}
		return a.printDiff(d, f.diff)
	case w != nil && a.json():
		return a.printJSON(w)
	}
	switch a.output {
	case outputJSON:
		return p.WriteJSON(a.Out)
	case outputYAML:
		return p.WriteYAML(a.Out)
	case outputMarkdown:
		return p.WriteMarkdown(a.Out)
	case outputHTML:
		return p.WriteHTML(a.Out)
	}
	if err := a.printPlan(p); err != nil {
		return err
	}
	if w != nil {
		a.printf("")
		a.printf("wrote %s into %s", counted(int64(len(w.Files)), "file"), w.Out)
		if w.Kept != "" {
			a.printf("%s %s was changed since it was written, and is kept: what this plan has is in %s", a.out.yellow("note:"), w.Kept, w.New)
		}
		a.printf("next: read plan.html, and decide what stands first in it")
	}
	return nil
}

// writePlan writes a plan's folder. It takes over one that an earlier plan wrote, and no
// other that has something in it; an estate that was changed by hand stays.
func writePlan(p *plan.Plan, out string) (*written, error) {
	entries, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	if len(entries) > 0 {
		if _, err := plan.ReadDocument(filepath.Join(out, planFile)); err != nil {
			return nil, &usageError{text: fmt.Sprintf("%s has files in it that no plan wrote: name an empty folder, or that of an earlier plan", out)}
		}
	}
	w := &written{Out: filepath.Clean(out), Files: []string{}}
	var files []plan.File
	for _, form := range []struct {
		name  string
		write func(io.Writer) error
	}{{planFile, p.WriteYAML}, {"plan.md", p.WriteMarkdown}, {"plan.html", p.WriteHTML}} {
		var b stdbytes.Buffer
		if err := form.write(&b); err != nil {
			return nil, err
		}
		files = append(files, plan.File{Path: form.name, Text: b.Bytes()})
	}
	files = append(files, p.Manifests...)
	if p.OperatorPolicy != nil {
		files = append(files, *p.OperatorPolicy)
	}
	if p.Estate != nil {
		e := *p.Estate
		at := filepath.Join(out, e.Path)
		if there, err := os.ReadFile(at); err == nil && !stdbytes.Equal(there, e.Text) {
			e.Path = "new-" + e.Path
			w.Kept, w.New = at, filepath.Join(out, e.Path)
		}
		files = append(files, e)
	}
	if err := os.RemoveAll(filepath.Join(out, manifestFolder)); err != nil {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(out, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("write the plan: %w", err)
		}
		if err := os.WriteFile(path, f.Text, 0o644); err != nil { // it is for review: no secret is in it
			return nil, fmt.Errorf("write the plan: %w", err)
		}
		w.Files = append(w.Files, f.Path)
	}
	slices.Sort(w.Files)
	return w, nil
}

// printPlan prints the plan for a person: what is to be decided, and each part in a table.
func (a *app) printPlan(p *plan.Plan) error {
	for _, s := range p.Summary() {
		a.printf("%s", s)
	}
	if len(p.Decide) > 0 {
		a.printf("")
		a.printf("%s", a.out.bold("to be decided"))
		for _, d := range p.Decide[:min(len(p.Decide), mostDecisions)] {
			text := d.What
			if d.Object != "" {
				text = d.Object + ": " + text
			}
			mark := "- "
			if d.Blocks {
				mark = "! "
			}
			a.indented(mark, text)
			a.indented("  do: ", d.Do)
		}
		if more := len(p.Decide) - mostDecisions; more > 0 {
			a.printf("    %d more, all in the other forms", more)
		}
	}
	workloads := &table{head: []string{"WORKLOAD", "GOES TO", "REACHED", "COPIES", "WAVE", "WHY"}, wrap: map[int]bool{5: true}}
	for i := range p.Workloads {
		w := &p.Workloads[i]
		reached, copies, wave := "", "", ""
		if w.Exposure != nil {
			reached = string(w.Exposure.Scope)
		}
		if w.Scaling != nil {
			if copies = fmt.Sprint(w.Scaling.Least); w.Scaling.Most > w.Scaling.Least {
				copies = fmt.Sprintf("%d-%d", w.Scaling.Least, w.Scaling.Most)
			}
		}
		if w.Wave > 0 {
			wave = fmt.Sprint(w.Wave)
		}
		workloads.add(plain(w.Namespace+"/"+w.Name), plain(string(w.Place)), plain(reached), number(copies), number(wave), plain(w.Why))
	}
	databases := &table{head: []string{"DATABASE", "TODAY", "BECOMES", "CLASS", "HOW IT MOVES"}, wrap: map[int]bool{4: true}}
	for i := range p.Databases {
		d := &p.Databases[i]
		databases.add(plain(d.Name), plain(d.Source), plain(d.Target), plain(d.Class), plain(d.Method))
	}
	waves := &table{head: []string{"WAVE", "WHAT", "IN IT"}, wrap: map[int]bool{1: true, 2: true}}
	for _, w := range p.Waves {
		waves.add(number(fmt.Sprint(w.Number)), plain(w.What), plain(strings.Join(slices.Concat(w.Databases, w.Workloads), ", ")))
	}
	for _, t := range []*table{workloads, databases, waves} {
		if len(t.rows) == 0 {
			continue
		}
		a.printf("")
		if err := a.printTable(t); err != nil {
			return err
		}
	}
	a.printf("")
	a.indented("cutover: ", p.Cutover.Text)
	if c := p.Cost; c != nil {
		a.indented("cost: ", fmt.Sprintf("%s %s a month, by prices of %s", c.Total, c.Currency, c.Date))
		if c.Cheapest != nil {
			a.indented("cheaper: ", fmt.Sprintf("%s; saves %s a month, gives up: %s", strings.TrimSuffix(c.Cheapest.What, "."), c.Cheapest.Saving, c.Cheapest.GivenUp))
		}
	}
	for _, problem := range p.Problems[:min(len(p.Problems), mostProblems)] {
		a.indented("not read: ", problem)
	}
	return nil
}

// named is what is new or gone, behind its name.
func named(name, text string) string {
	if name == "" || text == "" {
		return name + text
	}
	return name + ": " + text
}

// printDiff prints what is other than in an older plan, part by part.
func (a *app) printDiff(d *plan.Diff, file string) error {
	if len(d.Differences) == 0 {
		a.printf("nothing is other than in %s", file)
		return nil
	}
	part, item := "", ""
	for _, x := range d.Differences {
		if x.Part != part {
			part, item = x.Part, ""
			a.printf("%s", a.out.bold(strings.ReplaceAll(part, "_", " ")))
		}
		if x.Item != item && x.Field != "" && x.Item != "" {
			a.printf("  %s", x.Item)
		}
		item = x.Item
		name := x.Field
		if name == "" {
			name = x.Item
		}
		switch x.Kind {
		case plan.Added:
			a.indented("+ ", named(name, x.After))
		case plan.Removed:
			a.indented("- ", named(name, x.Before))
		default:
			a.indented("~ ", fmt.Sprintf("%s: %s -> %s", name, x.Before, x.After))
		}
	}
	a.printf("")
	a.printf("%s", counted(int64(len(d.Differences)), "difference"))
	return nil
}
