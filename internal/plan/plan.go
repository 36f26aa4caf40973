// Package plan designs what replaces a deployment: where each workload goes and why,
// who reaches it, how large it is, where its data moves, the networks, accounts and
// regions around it, in which order it is moved, and what it costs. Its result is a
// document to review line by line, an estate file, and manifests.
//
// It decides, and changes nothing: it reads an inventory and its assessment, asks
// nobody, and looks at no clock, so that the same input gives the same bytes. Where it
// had to assume something, the document says what and why; what only a person can
// decide stands in Plan.Decide.
package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/assess"
	"dhow/internal/balance"
	"dhow/internal/inventory"
	"dhow/internal/price"
	"dhow/internal/region"
)

// Format is the number of the document's form; it changes when a field changes its meaning.
const Format = 1

// Place is where a workload goes.
type Place string

// The places.
const (
	EKS Place = "eks" // pods of the Kubernetes cluster
	ECS Place = "ecs" // tasks of ECS on Fargate
	EC2 Place = "ec2" // machines of their own behind a load balancer
	// Managed is a service of AWS's own in the workload's place: a database's.
	Managed Place = "managed"
	// Left stays behind.
	Left Place = "left"
)

// Places are those that options may name.
func Places() []Place { return []Place{EKS, ECS, EC2, Left} }

// Scope is who reaches a workload.
type Scope string

// The scopes.
const (
	// Public is reached from the internet, Private from the plan's own networks, None
	// from the cluster alone.
	Public  Scope = "public"
	Private Scope = "private"
	None    Scope = "none"
)

// Plan is the document. All of its lists are sorted, those of waves by their order.
type Plan struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
	Source Source `json:"source"`
	// Decide is what only a person can decide or find out, the gravest first.
	Decide    []Decision `json:"decide,omitempty"`
	Regions   Regions    `json:"regions"`
	Accounts  []Account  `json:"accounts"`
	Networks  []Network  `json:"networks"`
	Balancers []Balancer `json:"load_balancers,omitempty"`
	Workloads []Workload `json:"workloads"`
	Databases []Database `json:"databases,omitempty"`
	Secrets   []Secret   `json:"secrets,omitempty"`
	Images    []Image    `json:"images,omitempty"`
	Waves     []Wave     `json:"waves,omitempty"`
	Cutover   Cutover    `json:"cutover"`
	Cost      *Cost      `json:"cost,omitempty"`
	// Problems are what of the source could not be read, Partial that something was lost by it.
	Problems []string `json:"problems,omitempty"`
	Partial  bool     `json:"partial,omitempty"`

	// Manifests are files for the new cluster, by their paths. Estate is the estate file of
	// the move, nil where there is no database that dhow moves.
	Manifests []File `json:"-"`
	Estate    *File  `json:"-"`
	// OperatorPolicy is what the operator is told, nil where the plan does without it.
	OperatorPolicy *File `json:"-"`
}

// File is a text and where it goes, relative to the plan's folder.
type File struct {
	Path string
	Text []byte
}

// Source is what was read.
type Source struct {
	Objects   int `json:"objects"`
	Workloads int `json:"workloads"`
	// Findings are how many the assessment has of each severity.
	Findings map[string]int `json:"findings,omitempty"`
	// Cluster is the live cluster's, as CONTEXT VERSION; Provider is guessed.
	Cluster  string `json:"cluster,omitempty"`
	Provider string `json:"provider,omitempty"`
	// Regions are those of AWS in which the source keeps something, as far as names tell.
	Regions []SourceRegion `json:"regions,omitempty"`
	// Taken are the networks that it was seen to use, and Reserved with what lies around single addresses.
	Taken []string `json:"taken,omitempty"`
}

// SourceRegion is a region of AWS that the source lives in.
type SourceRegion struct {
	Region string `json:"region"`
	// Notice says to leave it, if one does.
	Notice string `json:"notice,omitempty"`
	// Has is what lies there.
	Has []string `json:"has"`
}

// Decision is something that the plan can not decide.
type Decision struct {
	// Object is what it is about, "" for the whole.
	Object string `json:"object,omitempty"`
	What   string `json:"what"`
	// Do is what to do about it, and how to say so.
	Do string `json:"do"`
	// Blocks says that the move can not be begun before it is decided.
	Blocks bool `json:"blocks,omitempty"`
}

// Workload is one of the source's, and what becomes of it.
type Workload struct {
	// Source is KIND/NAMESPACE/NAME.
	Source    string `json:"source"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Place     Place  `json:"place"`
	Why       string `json:"why"`
	// Kind is the target's: Deployment, StatefulSet, DaemonSet, CronJob or Job in EKS,
	// Service or ScheduledTask in ECS, AutoScalingGroup in EC2.
	Kind     string    `json:"kind,omitempty"`
	Exposure *Exposure `json:"exposure,omitempty"`
	// Calls and Databases are what it needs, CalledBy who needs it.
	Calls     []string `json:"calls,omitempty"`
	CalledBy  []string `json:"called_by,omitempty"`
	Databases []string `json:"databases,omitempty"`
	// Outside are hosts that it calls and that are not in the plan.
	Outside    []string    `json:"outside,omitempty"`
	Containers []Container `json:"containers,omitempty"`
	Scaling    *Scaling    `json:"scaling,omitempty"`
	Balancing  *Balancing  `json:"balancing,omitempty"`
	Rollout    *Rollout    `json:"rollout,omitempty"`
	Wave       int         `json:"wave,omitempty"`
	// Changes are what is not as it was, with the reason.
	Changes []Change `json:"changes,omitempty"`
}

// Exposure is who reaches a workload, and how.
type Exposure struct {
	Scope Scope  `json:"scope"`
	Why   string `json:"why"`
	// Was are the ways in from outside that the source has.
	Was []string `json:"was,omitempty"`
	// Hosts and Paths are what leads to it; no path means all.
	Hosts []string `json:"hosts,omitempty"`
	Paths []string `json:"paths,omitempty"`
}

// Container is one container of a workload.
type Container struct {
	Name  string   `json:"name"`
	Init  bool     `json:"init,omitempty"`
	Image string   `json:"image"`
	Ports []Port   `json:"ports,omitempty"`
	Args  []string `json:"args,omitempty"`
	// Environment are plain variables, Secrets those from Secrets Manager, as NAME=SECRET#KEY.
	Environment []string `json:"environment,omitempty"`
	Secrets     []string `json:"secrets,omitempty"`
	Size        *Size    `json:"size,omitempty"`
	Probes      *Probes  `json:"probes,omitempty"`
}

// Port is one that a container listens on.
type Port struct {
	Name string `json:"name"`
	Port int32  `json:"port"`
}

// Size is what a container asks for and may take at most; memory in MiB.
type Size struct {
	CPURequestMilli int64 `json:"cpu_request_milli"`
	CPULimitMilli   int64 `json:"cpu_limit_milli,omitempty"`
	MemoryRequestMB int64 `json:"memory_request_mib"`
	MemoryLimitMB   int64 `json:"memory_limit_mib"`
	// Measured says that it follows from use, else it is assumed.
	Measured bool   `json:"measured"`
	Why      string `json:"why"`
}

// Probes say how a container is asked whether it starts, can serve, and lives.
type Probes struct {
	Startup   string `json:"startup,omitempty"`
	Readiness string `json:"readiness,omitempty"`
	Liveness  string `json:"liveness,omitempty"`
	Why       string `json:"why"`
}

// Scaling is how many copies of a workload there are.
type Scaling struct {
	Least int32 `json:"least"`
	Most  int32 `json:"most"`
	// CPUMilli is the use of one pod's processors above which there are more; 0 means
	// that the number does not change.
	CPUMilli int64  `json:"cpu_milli,omitempty"`
	Why      string `json:"why"`
}

// Rollout are the times of one pod's end, in seconds.
type Rollout struct {
	PreStop int64  `json:"pre_stop_seconds"`
	Grace   int64  `json:"grace_seconds"`
	Why     string `json:"why"`
}

// Change is one thing that is not as it was.
type Change struct {
	What   string `json:"what"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Why    string `json:"why"`
}

// Secret is one to keep in Secrets Manager; its value is in no plan.
type Secret struct {
	// Name is that in Secrets Manager, and Kubernetes the Secret's in the cluster, as
	// NAMESPACE/NAME, "" where no pod of the cluster wants it.
	Name       string   `json:"name"`
	Kubernetes string   `json:"kubernetes,omitempty"`
	Keys       []string `json:"keys"`
	// From is where the value stands at the source, or who makes it.
	From   string   `json:"from"`
	UsedBy []string `json:"used_by"`
	// Renew says that the value has stood in the open and is to be another.
	Renew bool   `json:"renew,omitempty"`
	Why   string `json:"why,omitempty"`
}

// Image is one to copy into ECR.
type Image struct {
	Source string `json:"source"`
	// Repository is that in ECR; Digest what is copied, "" where nobody has said yet
	// which image the name means.
	Repository string   `json:"repository"`
	Digest     string   `json:"digest,omitempty"`
	UsedBy     []string `json:"used_by"`
	Note       string   `json:"note,omitempty"`
}

// Wave is what is moved together.
type Wave struct {
	Number int    `json:"number"`
	What   string `json:"what"`
	// Databases and Workloads are what is in it: none needs anything of a later wave.
	Databases []string `json:"databases,omitempty"`
	Workloads []string `json:"workloads,omitempty"`
	// Cycle says that the workloads call each other in a circle.
	Cycle bool     `json:"cycle,omitempty"`
	Risks []string `json:"risks"`
	// Undo is how it is taken back.
	Undo string `json:"undo"`
}

// Cutover is when the traffic moves.
type Cutover struct {
	Text string `json:"text"`
	// How is the command.
	How string `json:"how"`
	// At is the moment, as RFC 3339, and Held how many requests are expected to be held, where a
	// history was given.
	At    string  `json:"at,omitempty"`
	Until string  `json:"until,omitempty"`
	Held  float64 `json:"held,omitempty"`
	// Others are moments nearly as good.
	Others []string `json:"others,omitempty"`
}

// Make makes the plan of an inventory whose assessment is report. The error is ctx's, or
// names an option that does not fit the source.
func Make(ctx context.Context, inv *inventory.Inventory, report *assess.Report, o *Options) (*Plan, error) {
	catalog, err := region.Load()
	if err != nil {
		return nil, fmt.Errorf("make the plan: %w", err)
	}
	prices := o.Prices
	if prices == nil {
		if prices, err = price.Shipped(); err != nil {
			return nil, fmt.Errorf("make the plan: %w", err)
		}
	}
	m := &maker{inv: inv, report: report, o: o, catalog: catalog, prices: prices, plan: &Plan{Format: Format, Partial: inv.Partial}}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"read the source", m.readSource}, {"relate the workloads", m.relate}, {"place the workloads", m.placeAll}, {"find the databases", m.findStores},
		{"choose the regions", m.chooseRegions}, {"lay the networks", m.layNetworks}, {"decide the exposure", m.expose}, {"move the secrets", m.moveSecrets},
		{"copy the images", m.copyImages}, {"size the workloads", m.sizeAll}, {"balance the load", m.balanceAll}, {"order the waves", m.orderWaves}, {"describe the workloads", m.describe},
		{"weigh the regions", m.weighRegions}, {"find the window", m.findWindow}, {"reckon the cost", m.reckon}, {"write the estate", m.writeEstate}, {"write the manifests", m.writeManifests},
	} {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("make the plan: %w", err)
		}
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	m.close()
	return m.plan, nil
}

// maker is the making of one plan.
type maker struct {
	inv     *inventory.Inventory
	report  *assess.Report
	o       *Options
	catalog *region.Catalog
	prices  *price.List
	plan    *Plan

	units  []*unit
	byRef  map[inventory.Ref]*unit
	stores []*store
	// routes are those of hosts and paths that lead to units.
	routes []route
	// below is the domain that names are made below.
	below       string
	primary, dr *region.Region
	seen        *taken
	secrets     map[string]*Secret
	decided     map[string]bool
	plays       map[string]balance.Comparison
	// unprobed are the names of units of which no path for probes is known.
	unprobed []string
	// proposed are regions that were named to somebody already, one for each need.
	proposed []string
}

// unit is a workload on its way.
type unit struct {
	w               *inventory.Workload
	name, namespace string
	place           Place
	why             string
	kind            string
	scope           Scope
	scopeWhy        string
	hosts, paths    []string
	// open are the ways in that the source has.
	open []*assess.Exposure
	// calls and callers are units, sorted; outside are hosts elsewhere.
	calls, callers []*unit
	outside        []target
	stores         []*store
	services       []*inventory.Service
	containers     []*box
	scaling        Scaling
	rollout        Rollout
	balancing      *Balancing
	// entries are the ways in of connections, and connections how these are balanced.
	entries     []entrance
	connections balance.Settings
	wave        int
	// stranger says that nothing tells who calls it.
	stranger bool
	changes  []Change
}

// target is a host outside of the plan, and the port that is called there.
type target struct {
	host string
	port int
}

// id is how the plan calls a unit: NAMESPACE/NAME.
func (u *unit) id() string { return u.namespace + "/" + u.name }

// moves says that the workload will run in the new place.
func (u *unit) moves() bool { return u.place == EKS || u.place == ECS || u.place == EC2 }

// change notes what is not as it was, each once.
func (u *unit) change(what, before, after, why string) {
	c := Change{what, before, after, why}
	if !slices.Contains(u.changes, c) {
		u.changes = append(u.changes, c)
	}
}

// decide notes what only a person can decide, each once.
func (m *maker) decide(d Decision) {
	if m.decided == nil {
		m.decided = map[string]bool{}
	}
	if key := d.Object + "\x00" + d.What; !m.decided[key] {
		m.decided[key] = true
		m.plan.Decide = append(m.plan.Decide, d)
	}
}

// readSource tells what was read, and names the plan.
func (m *maker) readSource() error {
	s := &m.plan.Source
	s.Objects, s.Workloads = m.report.Objects, m.report.Workloads
	for i := range m.report.Findings {
		if s.Findings == nil {
			s.Findings = map[string]int{}
		}
		s.Findings[m.report.Findings[i].Rule.Severity.String()]++
	}
	if c := m.inv.Cluster; c != nil {
		s.Cluster, s.Provider = strings.TrimSpace(c.Context+" "+c.Version), c.Provider
	}
	for _, p := range m.inv.Problems {
		m.plan.Problems = append(m.plan.Problems, p.String())
	}
	slices.Sort(m.plan.Problems)
	m.plan.Name = cmp.Or(m.o.Name, m.usualNamespace(), "plan")
	if !nameForm.MatchString(m.plan.Name) { // a namespace may begin with a digit, an estate's name may not
		m.plan.Name = label("plan-" + m.plan.Name)
	}
	return nil
}

// usualNamespace is the namespace of most workloads.
func (m *maker) usualNamespace() string {
	count := map[string]int{}
	best := ""
	for _, w := range m.inv.Workloads {
		name := label(w.Namespace)
		if count[name]++; name != "" && (best == "" || count[name] > count[best] || count[name] == count[best] && name < best) {
			best = name
		}
	}
	if best == inventory.DefaultNamespace {
		return ""
	}
	return best
}

// close sorts what was gathered on the way.
func (m *maker) close() {
	slices.SortStableFunc(m.plan.Decide, func(a, b Decision) int {
		return cmp.Or(first(a.Blocks, b.Blocks), strings.Compare(a.Object, b.Object), strings.Compare(a.What, b.What))
	})
}

// first puts what is before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// label is a text as a name of Kubernetes and AWS both take it: small letters, digits
// and hyphens, at most maxLabel long.
func label(text string) string {
	const maxLabel = 40
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	name := b.String()
	if len(name) > maxLabel {
		name = name[:maxLabel]
	}
	return strings.Trim(name, "-")
}
