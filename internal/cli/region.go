package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dhow/internal/region"
)

// mostRanked is how many regions of a ranking a person reads; today's are shown besides.
const mostRanked = 5

// regionFlags are what is asked of the regions, as it was typed.
type regionFlags struct {
	rank             bool
	users, residency string
	without          string
	types, instances []string
	primary, dr      string
}

// regionList is the JSON of all regions.
type regionList struct {
	Regions []regionRow              `json:"regions"`
	Sources map[string]region.Source `json:"sources"`
}

// regionRow is a region and how much it offers.
type regionRow struct {
	*region.Region
	// Offers is how many of Known types it offers.
	Offers int `json:"offers"`
	Known  int `json:"known"`
}

// regionDetail is one region whole.
type regionDetail struct {
	regionRow
	Types     []string            `json:"types"`
	Instances map[string][]string `json:"instances"`
	// Asked is how it answers what was asked of it; nil where nothing was.
	Asked *region.Candidate `json:"asked,omitempty"`
}

func (a *app) regionsCommand() *cobra.Command {
	var f regionFlags
	cmd := &cobra.Command{
		Use:   "regions [region]",
		Short: "Say what AWS's regions offer, and which fit best",
		Long: `Lists the commercial regions of AWS: where they are, their zones, how many resource
types they offer, and notices of what has happened to them. With a region's name it
tells all of that one. With --rank it orders them all, first as a primary region and
then as one for disaster recovery beside it, by a residency rule, by notices, by what
the users wait, by the types that are needed, and by how far apart the two are.

The facts are built in, each with its source and its date; AWS is not asked. Latencies
are reckoned from distances: good for comparing, not for promising.`,
		Example: `  dhow regions
  dhow regions me-central-1

  # where to, for these users, if data may lie in the Gulf or the European Union
  dhow regions --rank --users AE=70,SA=20,GB=10 --residency GCC,EU

  # what leaving today's regions would change
  dhow regions --rank --primary me-central-1 --dr me-south-1 --users AE=1 \
    --type AWS::EKS::Cluster --instance rds/postgres:db.m7g.large`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeRegions(args, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.regions(cmd, args, f) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.rank, "rank", false, "order the regions by what is asked")
	flags.StringVar(&f.users, "users", "", "the users' `countries` with their weights, as AE=70,SA=20")
	flags.StringVar(&f.residency, "residency", "", "the countries and blocs that data may lie in, as AE,GCC,EU; with --rank")
	flags.StringVar(&f.without, "without", "", "`regions` that are not wanted; with --rank")
	flags.StringArrayVar(&f.types, "type", nil, "a resource `type` that is needed, as AWS::EKS::Cluster; may be given again")
	flags.StringArrayVar(&f.instances, "instance", nil, "a class of instances that is needed, as `service:class`; may be given again")
	flags.StringVar(&f.primary, "primary", "", "today's primary `region`, or the one that is thought of; with --rank")
	flags.StringVar(&f.dr, "dr", "", "today's `region` for disaster recovery; with --rank")
	for _, name := range []string{"primary", "dr"} {
		_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeRegions(nil, begun)
		}) // fails for an unknown flag alone
	}
	return cmd
}

func completeRegions(args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c, err := region.Load()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, r := range c.Regions() {
		if strings.HasPrefix(r.Name, begun) {
			found = append(found, cobra.CompletionWithDesc(r.Name, r.Display))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) regions(cmd *cobra.Command, args []string, f regionFlags) error {
	wrong := func(text string) error { return &usageError{text: text, see: cmd.CommandPath()} }
	switch asked := f.users != "" || len(f.types) > 0 || len(f.instances) > 0; {
	case len(args) > 1:
		return wrong(fmt.Sprintf("%s takes one region at most, and got %q", cmd.Name(), args))
	case len(args) == 1 && f.rank:
		return wrong("--rank orders all regions: name one with --primary or --dr instead")
	case !f.rank && (f.residency != "" || f.without != "" || f.primary != "" || f.dr != ""):
		return wrong("--residency, --without, --primary and --dr go with --rank")
	case !f.rank && asked && len(args) == 0:
		return wrong("--users, --type and --instance go with a region's name or with --rank")
	}
	c, err := region.Load()
	if err != nil {
		return err
	}
	if len(args) == 0 && !f.rank {
		return a.printRegions(c)
	}
	q, err := f.question()
	if err != nil {
		return wrong(err.Error())
	}
	ranking, err := c.Rank(q)
	if err != nil {
		return wrong(err.Error())
	}
	if f.rank {
		return a.printRanking(ranking, q)
	}
	r, err := c.Lookup(args[0])
	if err != nil {
		return wrong(err.Error())
	}
	detail := regionDetail{regionRow: rowOf(c, r), Types: r.Types(), Instances: map[string][]string{}}
	for _, service := range c.Services() {
		if detail.Instances[service], err = r.Instances(service); err != nil {
			return err
		}
	}
	if len(q.Users)+len(q.Types)+len(q.Instances) > 0 {
		for _, k := range ranking.Primary {
			if k.Region == r.Name {
				detail.Asked = &k
			}
		}
	}
	return a.printRegion(c, detail)
}

// question reads the flags.
func (f regionFlags) question() (region.Question, error) {
	q := region.Question{Residency: list(f.residency), Without: list(f.without), Types: f.types, Primary: f.primary, DR: f.dr}
	if f.users != "" {
		q.Users = map[string]float64{}
	}
	for _, u := range list(f.users) {
		code, text, ok := strings.Cut(u, "=")
		weight, err := strconv.ParseFloat(text, 64)
		if _, twice := q.Users[code]; !ok || err != nil || twice {
			return q, fmt.Errorf("--users has %q: want each country once with its weight, as AE=70,SA=20", u)
		}
		q.Users[code] = weight
	}
	for _, i := range f.instances {
		service, class, ok := strings.Cut(i, ":")
		if !ok || class == "" {
			return q, fmt.Errorf("--instance is %q: want service:class, as ec2:m7g.large or rds/postgres:db.m7g.large", i)
		}
		q.Instances = append(q.Instances, region.Instance{Service: service, Class: class})
	}
	return q, nil
}

// list takes words apart at commas.
func list(text string) []string {
	var words []string
	for w := range strings.SplitSeq(text, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

func rowOf(c *region.Catalog, r *region.Region) regionRow {
	return regionRow{Region: r, Offers: len(r.Types()), Known: len(c.Types())}
}

func (a *app) printRegions(c *region.Catalog) error {
	out := regionList{Sources: c.Sources()}
	for _, r := range c.Regions() {
		out.Regions = append(out.Regions, rowOf(c, r))
	}
	if a.json() {
		return a.printJSON(out)
	}
	t := &table{head: []string{"REGION", "NAME", "COUNTRY", "ZONES", "TYPES", "OPT-IN", "NOTICE"}, wrap: map[int]bool{6: true}}
	for _, r := range out.Regions {
		notice := cell{}
		if n := len(r.Notices); n > 0 {
			last := r.Notices[n-1]
			notice = cell{text: last.Date + ": " + last.Text, paint: a.weight(last.Severity)}
		}
		t.add(plain(r.Name), plain(r.Display), plain(r.Country), number(strconv.Itoa(len(r.Zones))), number(humanize.Comma(int64(r.Offers))), plain(yes(r.OptIn)), notice)
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	a.printf("")
	a.printf("%s of %s; `dhow regions NAME` tells all of one", counted(int64(len(out.Regions)), "region"), counted(int64(out.Regions[0].Known), "type"))
	return nil
}

// weight is the colour of a notice.
func (a *app) weight(s region.Severity) func(string) string {
	switch s {
	case region.Leave:
		return a.out.red
	case region.Struck:
		return a.out.yellow
	}
	return nil
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func (a *app) printRegion(c *region.Catalog, d regionDetail) error {
	if a.json() {
		return a.printJSON(d)
	}
	country, err := c.Country(d.Country)
	if err != nil {
		return err
	}
	if d.State != "" {
		country = d.State + ", " + country
	}
	if len(d.Blocs) > 0 {
		country += " (" + strings.Join(d.Blocs, ", ") + ")"
	}
	t := &table{wrap: map[int]bool{1: true}}
	row := func(name, text string) { t.add(cell{text: name, paint: a.out.bold}, plain(text)) }
	row("region", d.Name)
	row("name", d.Display)
	row("data lies in", country)
	row("near", fmt.Sprintf("%s (%.2f, %.2f)", d.City, d.Latitude, d.Longitude))
	row("opt-in", yes(d.OptIn))
	row("zones", strings.Join(d.Zones, ", "))
	row("types", fmt.Sprintf("%s of %s", humanize.Comma(int64(d.Offers)), humanize.Comma(int64(d.Known))))
	row("known from", fmt.Sprintf("%s, %s", d.Offer.Source.Title, d.Offer.Source.Date))
	if d.Offer.Since != "" {
		row("", fmt.Sprintf("nothing new was told of it since %s", d.Offer.Since))
	}
	for _, service := range c.Services() {
		row(service, humanize.Comma(int64(len(d.Instances[service])))+" classes of instances")
	}
	for _, n := range d.Notices {
		text := n.Text
		if len(n.Zones) > 0 {
			text += " (" + strings.Join(n.Zones, ", ") + ")"
		}
		t.add(cell{text: string(n.Severity), paint: a.weight(n.Severity)}, plain(n.Date+": "+text+" ["+n.Source+"]"))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if d.Asked != nil {
		a.printf("")
		a.printReasons(*d.Asked)
	}
	return nil
}

// printReasons prints why a region stands where it does, what it lacks, and what
// moving there would change.
func (a *app) printReasons(k region.Candidate) {
	for _, why := range k.Reasons {
		a.indented("- ", why)
	}
	for _, l := range k.Lacks {
		text := l.What + ": nothing is known to stand in for it"
		if l.Instead != "" {
			text = l.What + ": instead " + l.Instead
		}
		a.indented("lacks ", text)
	}
	if ch := k.Change; ch != nil {
		var parts []string
		if ch.LatencyMs != 0 {
			parts = append(parts, fmt.Sprintf("%+.0f ms", ch.LatencyMs))
		}
		if ch.Residency != "" {
			parts = append(parts, ch.Residency)
		}
		if len(ch.Loses) > 0 {
			parts = append(parts, "loses "+counted(int64(len(ch.Loses)), "needed thing"))
		}
		if len(ch.Gains) > 0 {
			parts = append(parts, "gains "+strings.Join(ch.Gains, ", "))
		}
		if len(parts) == 0 {
			parts = []string{"nothing that was asked about"}
		}
		a.indented("instead of "+ch.From+": ", strings.Join(parts, "; "))
	}
}

func (a *app) printRanking(r *region.Ranking, q region.Question) error {
	if a.json() {
		return a.printJSON(r)
	}
	return errors.Join(
		a.printCandidates("as a primary region", r.Primary, q.Primary),
		a.printCandidates("for disaster recovery beside "+r.Beside, r.DR, q.DR),
	)
}

// printCandidates prints the best of a ranking, and today's wherever it stands.
func (a *app) printCandidates(what string, all []region.Candidate, today string) error {
	a.printf("%s", a.out.bold(what))
	t := &table{head: []string{"", "REGION", "NAME", "COUNTRY", "ALLOWED", "FIT", "LATENCY", "LACKS"}}
	var shown []region.Candidate
	for i, k := range all {
		if i >= mostRanked && k.Region != today {
			continue
		}
		latency := ""
		if k.LatencyMs > 0 {
			latency = fmt.Sprintf("%.0f ms", k.LatencyMs)
		}
		name := cell{text: k.Region}
		if k.Region == today {
			name.text += " (today)"
		}
		t.add(number(strconv.Itoa(i+1)), name, plain(k.Display), plain(k.Country), plain(yes(k.Allowed)), plain(yes(k.Fit)), number(latency), number(strconv.Itoa(len(k.Lacks))))
		shown = append(shown, k)
	}
	var columns strings.Builder
	if err := t.write(&columns, a.out, 0); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(columns.String(), "\n"), "\n")
	a.printf("%s", lines[0])
	for i, line := range lines[1:] {
		a.printf("%s", line)
		a.printReasons(shown[i])
	}
	if more := len(all) - len(shown); more > 0 {
		a.printf("%s more, all with -o json", humanize.Comma(int64(more)))
	}
	a.printf("")
	return nil
}
