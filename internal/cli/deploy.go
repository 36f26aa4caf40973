package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/region"
)

// outputMermaid draws what would be deployed.
const outputMermaid = "mermaid"

// deployFlags are what is to be deployed, and how, as it was typed.
type deployFlags struct {
	stacks                         string
	only, environment, region      []string
	dryRun, policy, drift, destroy bool
	rehearse                       bool
	speed                          float64
	force, overwrite               []string
	replace, yes                   bool
	parallel                       int
}

// deployed is the JSON of a deployment.
type deployed struct {
	Findings  []landing.Finding   `json:"findings"`
	Preview   []landing.Previewed `json:"preview,omitempty"`
	Doomed    []landing.Doomed    `json:"doomed,omitempty"`
	Results   []landing.Result    `json:"results,omitempty"`
	Timeline  *landing.Timeline   `json:"timeline,omitempty"`
	Drifts    []landing.Drift     `json:"drifts,omitempty"`
	NotThere  []string            `json:"not_there,omitempty"`
	Succeeded bool                `json:"succeeded"`
}

func (a *app) deployCommand() *cobra.Command {
	var f deployFlags
	cmd := &cobra.Command{
		Use:         "deploy",
		Short:       "Build the landing zone in AWS: accounts, networks, clusters and data stores",
		Annotations: map[string]string{moreForms: outputMermaid},
		Long: `Makes stacks of CloudFormation of the estate's landing zone, in each account, region and
environment, and brings them to AWS: it looks for what would fail, shows what would
change, asks, and then deploys in parallel along what the stacks need of each other.
What stands and needs no change is left as it is.

Nothing that would replace a resource or lose data is done without --allow-replacement.
Killed and started again, it goes on: there is no state but CloudFormation's own.

Credentials and endpoints come from the environment, as for every AWS tool.`,
		Example: `  # what would be deployed where, without any credentials
  dhow deploy --dry-run

  # all of it at a double of AWS in this process: how long it takes, and what would fail
  dhow deploy --rehearse

  # what whoever deploys has to be allowed
  dhow deploy --policy

  # show what would change, ask, and deploy
  dhow deploy

  # one environment, in a script
  dhow deploy --environment dev --yes

  # what was changed by others since
  dhow deploy --drift

  # delete dev, with its database
  dhow deploy --destroy --environment dev --force dev/postgresql`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.deploy(cmd, f) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the graph, its parameters and what would fail, and ask AWS nothing")
	flags.BoolVar(&f.rehearse, "rehearse", false, "deploy to a double of AWS in this process, and say how long it takes and what would fail")
	flags.Float64Var(&f.speed, "speed", landing.DefaultRehearsalSpeed, "with --rehearse, how many times faster than in AWS")
	flags.BoolVar(&f.policy, "policy", false, "print the least that whoever deploys has to be allowed, as IAM policies")
	flags.BoolVar(&f.drift, "drift", false, "say what others changed since it was deployed, and change nothing")
	flags.BoolVar(&f.destroy, "destroy", false, "delete the stacks; those with data, and what they need, stay")
	flags.StringArrayVar(&f.force, "force", nil, "with --destroy, delete this `stack` too, with its data; may be given again")
	flags.StringVar(&f.stacks, "stacks", "", "a `folder` of templates of one's own, laid over dhow's")
	flags.StringArrayVar(&f.only, "only", nil, "this `stack`, or the stacks of this template, alone; may be given again")
	flags.StringArrayVar(&f.environment, "environment", nil, "the stacks of this `environment` alone; shared are those of none; may be given again")
	flags.StringArrayVar(&f.region, "region", nil, "the stacks in this `region` alone; may be given again")
	flags.BoolVar(&f.replace, "allow-replacement", false, "make changes that replace resources or lose data")
	flags.StringArrayVar(&f.overwrite, "overwrite", nil, "replace the template of this `stack`, which others edited; may be given again")
	flags.IntVar(&f.parallel, "parallel", landing.DefaultParallel, "how many stacks are worked on at once")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

// check says what flags do not go together; empty where all is well.
func (f *deployFlags) check() string {
	var modes []string
	for _, m := range []struct {
		on   bool
		name string
	}{{f.dryRun, "--dry-run"}, {f.rehearse, "--rehearse"}, {f.policy, "--policy"}, {f.drift, "--drift"}, {f.destroy, "--destroy"}} {
		if m.on {
			modes = append(modes, m.name)
		}
	}
	switch {
	case len(modes) > 1:
		return strings.Join(modes, " and ") + " do not go together: give one of them"
	case len(f.force) > 0 && !f.destroy:
		return "--force goes with --destroy"
	case len(modes) > 0 && (f.replace || len(f.overwrite) > 0):
		return "--allow-replacement and --overwrite are of a deployment: they do not go with " + modes[0]
	case !(f.speed >= 1):
		return fmt.Sprintf("--speed is %v: want at least 1", f.speed)
	case f.parallel < 1:
		return fmt.Sprintf("--parallel is %d: want at least 1", f.parallel)
	}
	return ""
}

func (a *app) deploy(cmd *cobra.Command, f deployFlags) error {
	ctx := cmd.Context()
	wrong := func(text string) error { return &usageError{text: text, see: cmd.CommandPath()} }
	if text := f.check(); text != "" {
		return wrong(text)
	}
	if a.output == outputMermaid && !f.dryRun {
		return wrong("-o mermaid draws what --dry-run tells: add it")
	}
	e, err := a.load()
	if err != nil {
		return err
	}
	regions, err := region.Load()
	if err != nil {
		return err
	}
	if f.rehearse && e.Landing != nil {
		landing.Complete(e.Landing)
	}
	g, err := a.graph(e, regions, f.stacks)
	if err != nil {
		return err
	}
	meant, err := g.Select(landing.Selection{Only: f.only, Environments: f.environment, Regions: f.region})
	if err != nil {
		return wrong(err.Error())
	}
	switch {
	case f.dryRun:
		return a.printGraph(g, meant)
	case f.policy:
		return a.printPolicies(g, meant)
	case f.rehearse:
		return a.rehearse(ctx, g, regions, g.Needed(meant), f)
	case !f.drift && !f.yes:
		if err := a.mayAsk("deploy", f.yes); err != nil {
			return err
		}
	}
	d, progress, err := a.deployer(ctx, e, g, f)
	if err != nil {
		return err
	}
	defer progress.close()
	switch {
	case f.drift:
		return a.printDrift(ctx, d, meant)
	case f.destroy:
		return a.destroy(ctx, g, d, progress, meant, f)
	}
	return a.bring(ctx, g, d, progress, regions, meant, f)
}

// graph makes the stacks of the estate's landing zone.
func (a *app) graph(e *estate.Estate, regions *region.Catalog, folder string) (*landing.Graph, error) {
	library, err := landing.Embedded()
	if err != nil {
		return nil, err
	}
	if folder != "" {
		if library, err = landing.Read(folder, library); err != nil {
			return nil, err
		}
	}
	return landing.New(landing.Options{Estate: e, Library: library, Regions: regions})
}

// deployer is made with the environment's credentials and endpoints.
func (a *app) deployer(ctx context.Context, e *estate.Estate, g *landing.Graph, f deployFlags) (*landing.Deployer, *deployView, error) {
	externalID, err := e.Landing.Role.ExternalID.Resolve(ctx)
	if err != nil {
		return nil, nil, err
	}
	aws, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion(e.Landing.Regions.Home))
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration of AWS: %w", err)
	}
	progress := a.newDeployView(ctx)
	return a.deployerWith(aws, externalID, g, f, progress), progress, nil
}

func (a *app) deployerWith(config aws.Config, externalID string, g *landing.Graph, f deployFlags, progress *deployView) *landing.Deployer {
	return landing.NewDeployer(landing.DeployerOptions{Graph: g, AWS: config, ExternalID: externalID, Parallel: f.parallel, AllowReplacement: f.replace, Overwrite: f.overwrite, Report: progress.note})
}

// bring looks, shows, asks and deploys.
func (a *app) bring(ctx context.Context, g *landing.Graph, d *landing.Deployer, progress *deployView, regions *region.Catalog, meant []*landing.Stack, f deployFlags) error {
	out := deployed{}
	found, err := d.Preflight(ctx, meant, regions)
	if err != nil {
		return err
	}
	out.Findings = append(append([]landing.Finding{}, g.Findings...), found...)
	if !a.json() {
		a.printFindings(out.Findings)
	}
	if landing.Failed(out.Findings) {
		return a.undeployed(out, "the landing zone can not be deployed as it is: nothing was changed")
	}
	if out.Preview, err = d.Preview(ctx, meant); err != nil {
		return err
	}
	if !a.json() {
		a.printPreview(out.Preview)
	}
	var refused, stuck []string
	work := false
	for _, p := range out.Preview {
		if p.Refused() && !f.replace {
			refused = append(refused, p.Stack)
		}
		if p.Action == landing.PreviewStuck {
			stuck = append(stuck, p.Stack)
		}
		work = work || p.Action != landing.PreviewUnchanged
	}
	switch {
	case len(stuck) > 0:
		d.Discard(ctx, out.Preview)
		return a.undeployed(out, strings.Join(stuck, ", ")+" can not be led on: nothing was changed")
	case len(refused) > 0:
		d.Discard(ctx, out.Preview)
		return a.undeployed(out, "resources of "+strings.Join(refused, ", ")+" would be replaced or lose data: nothing was changed; if that is meant, add --allow-replacement")
	case !work:
		out.Succeeded = true
		if a.json() {
			return a.printJSON(out)
		}
		a.printf("%s", a.out.green("everything is as it should be: nothing is changed"))
		return nil
	}
	if !f.yes {
		if err := a.confirm(ctx, "Deploy this?"); err != nil {
			d.Discard(ctx, out.Preview)
			return err
		}
	}
	began := progress.begin(meant)
	out.Results, err = d.Apply(ctx, meant)
	progress.close()
	if out.Results != nil {
		t := landing.NewTimeline(g, out.Results, began())
		out.Timeline = &t
	}
	return a.printDeployed(out, err)
}

// rehearse deploys to a double of AWS.
func (a *app) rehearse(ctx context.Context, g *landing.Graph, regions *region.Catalog, meant []*landing.Stack, f deployFlags) error {
	progress := a.newDeployView(ctx)
	defer progress.close()
	if !a.json() {
		a.printFindings(g.Findings)
	}
	progress.begin(meant)
	r, err := landing.Rehearse(ctx, meant, landing.RehearsalOptions{Graph: g, Regions: regions, Speed: f.speed, Parallel: f.parallel, Report: progress.note})
	progress.close()
	if err != nil {
		return err
	}
	out := deployed{Findings: append(append([]landing.Finding{}, g.Findings...), r.Findings...), Results: r.Results, Timeline: &r.Timeline}
	if !a.json() {
		a.printFindings(r.Findings)
	}
	if landing.Failed(out.Findings) {
		return a.undeployed(out, "the landing zone can not be deployed as it is")
	}
	return a.printDeployed(out, landing.Err(r.Results))
}

// destroy shows what would go, asks, and deletes it.
func (a *app) destroy(ctx context.Context, g *landing.Graph, d *landing.Deployer, progress *deployView, meant []*landing.Stack, f deployFlags) error {
	out := deployed{Findings: []landing.Finding{}}
	var err error
	if out.Doomed, err = d.Doom(ctx, meant, f.force); err != nil {
		return err
	}
	gone := 0
	for _, one := range out.Doomed {
		if one.Kept == "" {
			gone++
		}
	}
	if !a.json() {
		t := &table{head: []string{"STACK", "", "WHY"}, wrap: map[int]bool{2: true}}
		for _, one := range out.Doomed {
			c := cell{text: "deleted", paint: a.out.red}
			if one.Kept != "" {
				c = plain("kept")
			}
			t.add(plain(one.Stack), c, plain(one.Kept))
		}
		if err := a.printTable(t); err != nil {
			return err
		}
	}
	if gone == 0 {
		out.Succeeded = true
		if a.json() {
			return a.printJSON(out)
		}
		a.printf("nothing is there to be deleted")
		return nil
	}
	if !f.yes {
		if err := a.confirm(ctx, fmt.Sprintf("Delete %s, and all that is in them?", counted(int64(gone), "stack"))); err != nil {
			return err
		}
	}
	began := progress.begin(meant)
	out.Results, err = d.Destroy(ctx, out.Doomed)
	progress.close()
	if out.Results != nil {
		t := landing.NewTimeline(g, out.Results, began())
		t.Critical, t.CriticalTook = nil, 0 // it goes the other way round
		out.Timeline = &t
	}
	return a.printDeployed(out, err)
}

// undeployed prints what was found in JSON, and is the error that nothing was done.
func (a *app) undeployed(out deployed, why string) error {
	if a.json() {
		if err := a.printJSON(out); err != nil {
			return err
		}
		return &exitError{why}
	}
	return fmt.Errorf("%s", why)
}

// printGraph prints what would be deployed, and ends with a failure where it would fail.
func (a *app) printGraph(g *landing.Graph, meant []*landing.Stack) error {
	switch a.output {
	case outputJSON:
		shown := *g
		shown.Stacks = meant
		if err := a.printJSON(shown); err != nil {
			return err
		}
	case outputMermaid:
		a.printf("%s", strings.TrimSuffix(g.Mermaid(), "\n"))
	default:
		if err := a.printStacks(meant); err != nil {
			return err
		}
		a.printFindings(g.Findings)
	}
	if landing.Failed(g.Findings) {
		return &exitError{"the landing zone can not be deployed as it is"}
	}
	return nil
}

func (a *app) printStacks(stacks []*landing.Stack) error {
	t := &table{head: []string{"STACK", "ACCOUNT", "REGION", "RESOURCES", "PARAMETERS", "AFTER"}, wrap: map[int]bool{4: true, 5: true}}
	for _, s := range stacks {
		var inputs []string
		for _, in := range s.Inputs {
			switch {
			case in.Kind == landing.FromOutput:
				inputs = append(inputs, in.Parameter+" <- "+in.Stack)
			case in.Kind == landing.FromDefault || in.Hidden:
			case in.Parameter != "Application" && in.Parameter != "Environment":
				inputs = append(inputs, in.Parameter+"="+in.Value)
			}
		}
		t.add(plain(s.ID), plain(cmp.Or(s.Number, string(s.Account))), plain(s.Region), number(fmt.Sprint(s.Resources)), plain(strings.Join(inputs, "\n")), plain(strings.Join(s.After, ", ")))
	}
	return a.printTable(t)
}

// printPolicies prints the policies, which are JSON in either form.
func (a *app) printPolicies(g *landing.Graph, meant []*landing.Stack) error {
	needs, err := g.Policies(meant)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(needs)
	}
	for _, n := range needs {
		who := "the role in " + n.Account
		if n.Account == "caller" {
			who = "whoever runs dhow"
		}
		_, _ = fmt.Fprintf(a.Err, "%s %s\n", a.err.bold("for"), who) // beside the policies, so that they can be cut out
		if err := a.printJSON(n.Policy); err != nil {
			return err
		}
		if len(n.Unknown) > 0 {
			_, _ = fmt.Fprintf(a.Err, "%s what it takes to deploy %s is not known: add it by hand\n", a.err.yellow("note:"), strings.Join(n.Unknown, ", "))
		}
	}
	return nil
}

func (a *app) printFindings(findings []landing.Finding) {
	for _, f := range findings {
		paint := a.out.dim
		switch f.Severity {
		case landing.SeverityError:
			paint = a.out.red
		case landing.SeverityWarning:
			paint = a.out.yellow
		}
		a.printf("%s %s: %s", paint(string(f.Severity)), f.Where, f.Text)
		if f.Fix != "" {
			a.printf("  %s %s", a.out.bold("next:"), f.Fix)
		}
	}
}
