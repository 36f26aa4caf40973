package plan

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"dhow/internal/inventory"
	"dhow/internal/region"
)

// mostAlternatives is how many regions of a ranking the document holds beside today's:
// who wants all asks `dhow regions --rank`.
const mostAlternatives = 5

// Regions are where the plan's parts stand, and where they could.
type Regions struct {
	Primary RegionUse  `json:"primary"`
	DR      *RegionUse `json:"dr,omitempty"`
	// Instead are those that took another's place, and what that changes.
	Instead []RegionChange `json:"instead,omitempty"`
	// Residency is the rule, Users who was asked for.
	Residency []string           `json:"residency,omitempty"`
	Users     map[string]float64 `json:"users,omitempty"`
	// Types and Classes are what the plan needs of a region.
	Types   []string `json:"types"`
	Classes []string `json:"classes,omitempty"`
	// PrimaryAlternatives and DRAlternatives are the best others.
	PrimaryAlternatives []Alternative `json:"primary_alternatives"`
	DRAlternatives      []Alternative `json:"dr_alternatives,omitempty"`
}

// RegionUse is a region of the plan.
type RegionUse struct {
	Region    string   `json:"region"`
	Display   string   `json:"display"`
	Country   string   `json:"country"`
	OptIn     bool     `json:"opt_in"`
	Zones     []string `json:"zones"`
	LatencyMs float64  `json:"latency_ms,omitempty"`
	// Warnings are notices, broken rules and what it lacks.
	Warnings []string `json:"warnings,omitempty"`
}

// RegionChange is a region that takes another's place.
type RegionChange struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Changes []string `json:"changes"`
}

// Alternative is another region, and what moving the plan there would change.
type Alternative struct {
	Region     string   `json:"region"`
	Display    string   `json:"display"`
	Country    string   `json:"country"`
	Allowed    bool     `json:"allowed"`
	Fit        bool     `json:"fit"`
	LatencyMs  float64  `json:"latency_ms,omitempty"`
	DistanceKm float64  `json:"distance_km,omitempty"`
	Reasons    []string `json:"reasons"`
	Changes    []string `json:"changes,omitempty"`
}

// chooseRegions takes the regions of the options, and those that stand instead of them.
func (m *maker) chooseRegions() error {
	primary, dr := m.o.Regions.Primary, m.o.Regions.DR
	for _, i := range m.o.Instead {
		if _, err := m.catalog.Lookup(i.To); err != nil {
			return &InvalidError{[]string{"--region " + i.From + "=" + i.To + ": " + err.Error()}}
		}
		switch i.From {
		case primary:
			primary = i.To
		case dr:
			dr = i.To
		default:
			return &InvalidError{[]string{fmt.Sprintf("--region %s=%s: the plan has nothing in %s: it has %s", i.From, i.To, i.From, strings.Join(nonempty(primary, dr), " and "))}}
		}
	}
	var err error
	if m.primary, err = m.catalog.Lookup(primary); err != nil {
		return &InvalidError{[]string{"the primary region: " + err.Error()}}
	}
	if dr == primary {
		return &InvalidError{[]string{fmt.Sprintf("%s would be the primary region and the one for disaster recovery: choose another for one of them", dr)}}
	}
	if dr != "" {
		if m.dr, err = m.catalog.Lookup(dr); err != nil {
			return &InvalidError{[]string{"the region for disaster recovery: " + err.Error()}}
		}
	}
	m.sourceRegions()
	return nil
}

func nonempty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// regionName finds a region in a name of AWS: a host, an ARN or a registry.
var regionName = regexp.MustCompile(`\b[a-z]{2}(?:-[a-z]+)+-[0-9]\b`)

// sourceRegions tells which regions of AWS the source lives in, by the names of what it uses.
func (m *maker) sourceRegions() {
	has := map[string][]string{}
	note := func(text, what string) {
		for _, name := range regionName.FindAllString(text, -1) {
			if _, err := m.catalog.Lookup(name); err == nil && !slices.Contains(has[name], what) {
				has[name] = append(has[name], what)
			}
		}
	}
	for _, d := range m.inv.Databases {
		if d.Region != "" {
			note(d.Region, fmt.Sprintf("%s at %s", d.Engine, d.Host))
		}
	}
	for _, i := range m.inv.Images {
		if strings.HasSuffix(i.Registry, ".amazonaws.com") {
			note(i.Registry, "images in "+i.Registry)
		}
	}
	for _, o := range m.inv.Objects {
		for key, value := range o.Content.GetAnnotations() {
			if strings.HasPrefix(value, "arn:aws") {
				note(value, inventory.KeyPath("annotation", key)+" of "+o.Ref.String())
			}
		}
		if o.Kind == "Node" {
			note(o.Content.GetLabels()["topology.kubernetes.io/region"], "nodes of the cluster")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		r, err := m.catalog.Lookup(name)
		if err != nil { // looked up before
			continue
		}
		slices.Sort(has[name])
		s := SourceRegion{Region: name, Has: has[name]}
		if n, ok := r.Unfit(); ok {
			s.Notice = n.Date + ": " + n.Text
		}
		m.plan.Source.Regions = append(m.plan.Source.Regions, s)
	}
}

// weighRegions says what is to be known of the regions, and ranks the others, once it
// is known what is needed of them.
func (m *maker) weighRegions() error {
	r := &m.plan.Regions
	r.Residency, r.Users = m.o.Residency, m.o.Users
	if len(r.Residency) == 0 {
		m.decide(Decision{What: "no rule says where data may lie, so every country counts as allowed", Do: "name the countries and blocs under residency in the options, as [AE, GCC]"})
	}
	r.Types = m.types()
	q := region.Question{Users: m.o.Users, Residency: m.o.Residency, Without: m.o.Regions.Without, Types: r.Types, Primary: m.primary.Name, Beside: m.primary.Name}
	for _, i := range m.classes() {
		r.Classes = append(r.Classes, i.Service+" "+i.Class)
		q.Instances = append(q.Instances, i)
	}
	if m.dr != nil {
		q.DR = m.dr.Name
	}
	ranking, err := m.catalog.Rank(q)
	if err != nil {
		return err
	}
	r.Primary = m.use(m.primary, ranking.Primary)
	r.PrimaryAlternatives = alternatives(ranking.Primary, m.primary.Name)
	if m.dr != nil {
		use := m.use(m.dr, ranking.DR)
		r.DR = &use
		r.DRAlternatives = alternatives(ranking.DR, m.dr.Name)
	}
	for _, i := range m.o.Instead {
		q := q
		isDR := m.dr != nil && m.dr.Name == i.To
		if q.Primary, q.DR = i.From, ""; isDR {
			q.Primary, q.DR = "", i.From
		}
		other, err := m.catalog.Rank(q)
		if err != nil {
			return err
		}
		of := other.Primary
		if isDR {
			of = other.DR
		}
		c := RegionChange{From: i.From, To: i.To, Changes: []string{}}
		for _, k := range of {
			if k.Region == i.To {
				c.Changes = changes(k.Change)
			}
		}
		r.Instead = append(r.Instead, c)
	}
	for _, s := range m.plan.Source.Regions {
		for _, to := range []*region.Region{m.primary, m.dr} {
			if to != nil && to.Name == s.Region && s.Notice != "" {
				m.decide(Decision{Object: to.Name, What: "the source lives in it already, and it is to be left: " + s.Notice, Do: fmt.Sprintf("plan the move into another: --region %s=%s", to.Name, m.bestBut(ranking, to.Name)), Blocks: true})
			}
		}
	}
	return nil
}

// bestBut is the best primary region that is none of the plan's.
func (m *maker) bestBut(r *region.Ranking, not string) string {
	for _, k := range r.Primary {
		if k.Region != not && k.Allowed && k.Fit && (m.dr == nil || k.Region != m.dr.Name) {
			return k.Region
		}
	}
	return "REGION"
}

// use tells of a region of the plan, and warns.
func (m *maker) use(r *region.Region, ranking []region.Candidate) RegionUse {
	use := RegionUse{Region: r.Name, Display: r.Display, Country: r.Country, OptIn: r.OptIn, Zones: r.Zones[:min(len(r.Zones), m.o.Goals.Zones)]}
	for _, k := range ranking {
		if k.Region != r.Name {
			continue
		}
		use.LatencyMs = k.LatencyMs
		for _, n := range k.Notices {
			text := fmt.Sprintf("notice of %s (%s): %s", n.Date, n.Severity, n.Text)
			use.Warnings = append(use.Warnings, text)
			if n.Severity == region.Leave {
				best := ""
				for _, other := range ranking {
					if other.Allowed && other.Fit && other.Region != m.primary.Name && (m.dr == nil || other.Region != m.dr.Name) && !slices.Contains(m.proposed, other.Region) {
						best = other.Region
						m.proposed = append(m.proposed, best)
						break
					}
				}
				m.decide(Decision{Object: r.Name, What: "nothing can be built there now: " + text, Do: fmt.Sprintf("see the alternatives, and plan one: --region %s=%s", r.Name, cmp.Or(best, "REGION")), Blocks: true})
			}
		}
		if !k.Allowed {
			use.Warnings = append(use.Warnings, "the residency rule does not allow it: "+k.Reasons[0])
			m.decide(Decision{Object: r.Name, What: k.Reasons[0], Do: "choose another region, or correct residency in the options", Blocks: true})
		}
		for _, l := range k.Lacks {
			use.Warnings = append(use.Warnings, fmt.Sprintf("it lacks %s: %s", l.What, cmp.Or(l.Instead, "nothing is known to stand in for it")))
			if l.Instead == "" {
				m.decide(Decision{Object: r.Name, What: "it lacks " + l.What + ", which the plan needs", Do: "choose another region, or another design for what needs it"})
			}
		}
	}
	return use
}

func alternatives(all []region.Candidate, today string) []Alternative {
	var best []Alternative
	for _, k := range all {
		if k.Region == today || len(best) == mostAlternatives {
			continue
		}
		best = append(best, Alternative{k.Region, k.Display, k.Country, k.Allowed, k.Fit, k.LatencyMs, k.DistanceKm, k.Reasons, changes(k.Change)})
	}
	return best
}

// leastMs is what users may notice of a longer way, in milliseconds.
const leastMs = 1

// changes are what a move to a region would change, as sentences.
func changes(c *region.Change) []string {
	if c == nil {
		return nil
	}
	var all []string
	switch {
	case math.Abs(c.LatencyMs) < leastMs:
	case c.LatencyMs > 0:
		all = append(all, fmt.Sprintf("users wait about %.0f ms longer than with %s", c.LatencyMs, c.From))
	case c.LatencyMs < 0:
		all = append(all, fmt.Sprintf("users wait about %.0f ms less than with %s", -c.LatencyMs, c.From))
	}
	if c.Residency != "" {
		all = append(all, c.Residency)
	}
	for _, l := range c.Loses {
		all = append(all, fmt.Sprintf("loses %s: %s", l.What, cmp.Or(l.Instead, "nothing is known to stand in for it")))
	}
	for _, g := range c.Gains {
		all = append(all, "gains "+g)
	}
	if len(all) == 0 {
		all = append(all, "nothing that the plan needs")
	}
	return all
}

// types are the types of resources that the plan is made of, sorted.
func (m *maker) types() []string {
	need := map[string]bool{"AWS::EC2::VPC": true, "AWS::EC2::Subnet": true, "AWS::EC2::NatGateway": true, "AWS::EC2::VPCEndpoint": true, "AWS::EC2::TransitGateway": true, "AWS::KMS::Key": true, "AWS::CloudTrail::Trail": true,
		"AWS::GuardDuty::Detector": true, "AWS::SecurityHub::Hub": true, "AWS::Config::ConfigurationRecorder": true, "AWS::Backup::BackupVault": true, "AWS::IAM::Role": true}
	for _, u := range m.units {
		switch u.place {
		case EKS:
			need["AWS::EKS::Cluster"], need["AWS::EKS::Nodegroup"], need["AWS::EKS::Addon"], need["AWS::EKS::PodIdentityAssociation"] = true, true, true, true
		case ECS:
			need["AWS::ECS::Cluster"], need["AWS::ECS::TaskDefinition"] = true, true
			if u.runsJobs() {
				need["AWS::Scheduler::Schedule"] = true
			} else {
				need["AWS::ECS::Service"] = true
			}
		case EC2:
			need["AWS::EC2::LaunchTemplate"], need["AWS::AutoScaling::AutoScalingGroup"] = true, true
		case Managed, Left:
		}
	}
	for _, s := range m.stores {
		if s.moves {
			need[serviceOf(s.engine).Type] = true
		}
	}
	for _, b := range m.plan.Balancers {
		if b.Kind == distribution {
			need["AWS::CloudFront::Distribution"] = true
			continue
		}
		if b.Kind == connectionBalancer {
			need["AWS::ElasticLoadBalancingV2::LoadBalancer"] = true
			continue
		}
		need["AWS::ElasticLoadBalancingV2::LoadBalancer"], need["AWS::CertificateManager::Certificate"], need["AWS::WAFv2::WebACL"] = true, true, true
	}
	if len(m.plan.Secrets) > 0 {
		need["AWS::SecretsManager::Secret"] = true
	}
	if len(m.plan.Images) > 0 {
		need["AWS::ECR::Repository"] = true
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(need)), func(t string) bool { return !m.catalog.Known(t) })
}
