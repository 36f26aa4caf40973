package region

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// What comes first in a ranking, and what each shortcoming weighs beside a millisecond
// of its users' waiting. Above all stand what can not be weighed: a region that the
// residency rule forbids comes behind all that it allows, then one that should be
// left behind all others, then, for disaster recovery, one that is as near the
// primary as one disaster reaches.
const (
	// lackMs is a needed type or class that the region lacks and nothing stands in for:
	// a part of the design must be another.
	lackMs = 20
	// insteadMs is a type that something stands in for.
	insteadMs = 2
	// classMs is a class of instances that one of another family stands in for: what
	// was measured on the one is a guess on the other.
	classMs = 3
	// struckMs is damage in the past that the region has recovered from.
	struckMs = 15
	// tooNearKm is how far a disaster may reach: two regions as near are no refuge for each other.
	tooNearKm = 300
	// apartKm is how far apart nothing is gained by more; between the two, nearness
	// weighs up to nearMs. Both Gulf regions, 480 km apart, were struck on one day.
	apartKm = 1000
	nearMs  = 60
)

// Instance is a class of instances that is needed; see Region.HasInstance.
type Instance struct {
	Service string `json:"service"`
	Class   string `json:"class"`
}

// Question is what a ranking is asked for. Its zero value ranks by notices and name.
type Question struct {
	// Users are the weights of the users' countries, by two letters of ISO 3166: any
	// numbers above zero, of which the shares count. None: latency is not looked at.
	Users map[string]float64
	// Residency are the countries and blocs that data may lie in; none allows all.
	Residency []string
	// Without are regions that are not wanted for reasons of one's own.
	Without []string
	// Types are the resource types that are needed; Instances the classes.
	Types     []string
	Instances []Instance
	// Primary and DR are today's regions, that the others are compared with; empty
	// where there is none.
	Primary, DR string
	// Beside is the primary that the regions for disaster recovery are ranked for;
	// empty means today's where it may stay, and else the best.
	Beside string
}

// Ranking is all regions twice, the best first: those that were asked about are never left out.
type Ranking struct {
	Primary []Candidate `json:"primary"`
	// DR are all regions but the one that they are ranked beside.
	DR []Candidate `json:"dr"`
	// Beside is that region.
	Beside string `json:"beside"`
}

// Candidate is a region in a ranking, and why it stands there.
type Candidate struct {
	Region  string `json:"region"`
	Display string `json:"display"`
	Country string `json:"country"`
	// Allowed says that the residency rule allows it, and that it was not left out.
	Allowed bool `json:"allowed"`
	// Fit says that no notice tells to leave it, and, for disaster recovery, that it is
	// not within one disaster's reach of the primary.
	Fit bool `json:"fit"`
	// LatencyMs is about what its users wait, see Region.Latency: the mean by weights.
	LatencyMs float64 `json:"latency_ms,omitempty"`
	// DistanceKm is how far it is from the primary; 0 in a ranking of primaries.
	DistanceKm float64  `json:"distance_km,omitempty"`
	Lacks      []Lack   `json:"lacks,omitempty"`
	OptIn      bool     `json:"opt_in"`
	Notices    []Notice `json:"notices,omitempty"`
	// Cost is what the order is by among those that are equally allowed and fit, in
	// milliseconds: the latency and the weight of what is lacking.
	Cost float64 `json:"cost"`
	// Reasons are sentences, the weightiest first.
	Reasons []string `json:"reasons"`
	// Change is what moving there from today's region would change; nil where there is
	// none, or where it is that region.
	Change *Change `json:"change,omitempty"`
}

// Lack is a needed type or class that a region does not offer.
type Lack struct {
	// What is a type, or a class with its service in front: ec2 m7g.large.
	What string `json:"what"`
	// Instead is what stands in for it; empty means that nothing is known to.
	Instead string `json:"instead,omitempty"`
}

// Change is what one region would change beside another.
type Change struct {
	From string `json:"from"`
	// LatencyMs is how much longer users would wait; below zero, shorter.
	LatencyMs float64 `json:"latency_ms"`
	// Loses is needed and offered by the old region alone; Gains by the new alone.
	Loses []Lack   `json:"loses,omitempty"`
	Gains []string `json:"gains,omitempty"`
	// Residency is where data would lie that lay elsewhere; empty where it stays.
	Residency string `json:"residency,omitempty"`
}

// Rank ranks all regions for primary and for disaster recovery. The same question gives
// the same answer, whatever order its lists are in. An error names what in the
// question is not known.
func (c *Catalog) Rank(q Question) (*Ranking, error) {
	q, err := c.checked(q)
	if err != nil {
		return nil, err
	}
	r := &Ranking{Primary: make([]Candidate, 0, len(c.regions)), DR: make([]Candidate, 0, len(c.regions))}
	for _, region := range c.regions {
		r.Primary = append(r.Primary, c.candidate(q, region, nil, q.Primary))
	}
	slices.SortFunc(r.Primary, better)
	r.Beside = cmp.Or(q.Beside, r.stays(q.Primary), r.Primary[0].Region)
	beside, err := c.Lookup(r.Beside)
	if err != nil {
		return nil, err
	}
	for _, region := range c.regions {
		if region != beside {
			r.DR = append(r.DR, c.candidate(q, region, beside, q.DR))
		}
	}
	slices.SortFunc(r.DR, better)
	return r, nil
}

// stays is today's primary where nothing forbids it, and else empty.
func (r *Ranking) stays(primary string) string {
	for _, p := range r.Primary {
		if p.Region == primary && p.Allowed && p.Fit {
			return primary
		}
	}
	return ""
}

// better says which of two candidates comes first.
func better(a, b Candidate) int {
	return cmp.Or(first(a.Allowed, b.Allowed), first(a.Fit, b.Fit), cmp.Compare(a.Cost, b.Cost), strings.Compare(a.Region, b.Region))
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// checked is the question with its lists sorted and each entry once, or an error that
// names what is not known.
func (c *Catalog) checked(q Question) (Question, error) {
	sum := 0.0
	for _, code := range slices.Sorted(maps.Keys(q.Users)) {
		weight := q.Users[code]
		if _, err := c.country(code); err != nil {
			return q, fmt.Errorf("the users: %w", err)
		}
		if !(weight > 0) || math.IsInf(weight, 0) {
			return q, fmt.Errorf("the users of %s weigh %v: want a number above 0", code, weight)
		}
		sum += weight
	}
	if math.IsInf(sum, 0) {
		return q, errors.New("the users' weights are together too great: want shares, as 70 and 30")
	}
	q.Residency, q.Types, q.Instances = slices.Clone(q.Residency), slices.Clone(q.Types), slices.Clone(q.Instances)
	for _, name := range q.Residency {
		if _, ok := c.blocs[name]; ok {
			continue
		}
		if _, err := c.country(name); err != nil {
			return q, fmt.Errorf("the residency rule: %w, or one of %s", err, strings.Join(slices.Sorted(maps.Keys(c.blocs)), ", "))
		}
	}
	for _, t := range q.Types {
		if !c.Known(t) {
			return q, fmt.Errorf("the needed types: %w", unknown("resource type", t, c.offers.names))
		}
	}
	for _, i := range q.Instances {
		classes, err := c.classes(i.Service)
		if err != nil {
			return q, fmt.Errorf("the needed instances: %w", err)
		}
		if classes[i.Class] == 0 {
			return q, fmt.Errorf("the needed instances: %w", unknown("class of "+i.Service, i.Class, c.offers.classes[i.Service]))
		}
	}
	for _, name := range append([]string{q.Primary, q.DR, q.Beside}, q.Without...) {
		if name == "" {
			continue
		}
		if _, err := c.Lookup(name); err != nil {
			return q, err
		}
	}
	slices.Sort(q.Residency)
	slices.Sort(q.Types)
	q.Types = slices.Compact(q.Types)
	slices.SortFunc(q.Instances, func(a, b Instance) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Class, b.Class))
	})
	q.Instances = slices.Compact(q.Instances)
	return q, nil
}

// candidate weighs a region, for disaster recovery beside a primary where that is not
// nil, and compares it with today's.
func (c *Catalog) candidate(q Question, r, beside *Region, today string) Candidate {
	_, unfit := r.Unfit()
	k := Candidate{Region: r.Name, Display: r.Display, Country: r.Country, Allowed: r.AllowedBy(q.Residency) && !slices.Contains(q.Without, r.Name), Fit: !unfit, LatencyMs: r.users(q.Users),
		Lacks: c.lacks(q, r), OptIn: r.OptIn, Notices: r.Notices}
	k.Cost = k.LatencyMs
	for _, l := range k.Lacks {
		switch {
		case l.Instead == "":
			k.Cost += lackMs
		case strings.Contains(l.What, "::"):
			k.Cost += insteadMs
		default:
			k.Cost += classMs
		}
	}
	if slices.ContainsFunc(r.Notices, func(n Notice) bool { return n.Severity == Struck }) {
		k.Cost += struckMs
	}
	if beside != nil {
		k.DistanceKm = math.Round(r.DistanceKm(beside))
		k.Fit = k.Fit && k.DistanceKm > tooNearKm
		if k.DistanceKm < apartKm {
			k.Cost += nearMs * (apartKm - k.DistanceKm) / (apartKm - tooNearKm)
		}
	}
	k.Cost = math.Round(k.Cost*10) / 10
	k.Reasons = c.reasons(q, r, beside, &k)
	if today != "" && today != r.Name {
		if from, err := c.Lookup(today); err == nil { // checked before
			k.Change = c.change(q, from, r)
		}
	}
	return k
}

// users is the mean of what the users wait in milliseconds, to a tenth; 0 without users.
func (r *Region) users(weights map[string]float64) float64 {
	sum, all := 0.0, 0.0
	for _, code := range slices.Sorted(maps.Keys(weights)) {
		d, err := r.Latency(code)
		if err != nil { // checked before
			continue
		}
		sum += weights[code] * float64(d) / float64(time.Millisecond)
		all += weights[code]
	}
	if all == 0 {
		return 0
	}
	return math.Round(sum/all*10) / 10
}

func (c *Catalog) lacks(q Question, r *Region) []Lack {
	var lacks []Lack
	for _, t := range r.Lacks(q.Types...) {
		lacks = append(lacks, Lack{What: t, Instead: c.Instead(t)})
	}
	for _, i := range q.Instances {
		if !c.offers.instances[i.Service][i.Class].has(r.bit) {
			lacks = append(lacks, Lack{What: i.Service + " " + i.Class, Instead: c.otherClass(r, i)})
		}
	}
	return lacks
}

// strangeness is what another processor weighs beside letters of a family's name: the
// images would have to be built anew for it.
const strangeness = 10

// otherClass is a class of the same size that the region has, of a family of the same
// kind, on the same processor where there is one, whose name is nearest; empty where
// there is none.
func (c *Catalog) otherClass(r *Region, i Instance) string {
	dot := strings.LastIndexByte(i.Class, '.')
	family, size := i.Class[:dot], i.Class[dot:]
	kind, arm := familyOf(family)
	best, bestAt := "", math.MaxInt
	for _, class := range c.offers.classes[i.Service] {
		other, ok := strings.CutSuffix(class, size)
		if !ok || !strings.HasPrefix(other, kind) || !c.offers.instances[i.Service][class].has(r.bit) {
			continue
		}
		otherKind, otherArm := familyOf(other)
		if otherKind != kind {
			continue
		}
		d := distance(family, other)
		if otherArm != arm {
			d += strangeness
		}
		if d < bestAt {
			best, bestAt = class, d
		}
	}
	return best
}

// familyOf takes a family's name apart: m7gd is of kind m, and of Arm's processors,
// which a g behind the generation tells.
func familyOf(family string) (kind string, arm bool) {
	digit := strings.IndexAny(family, "0123456789")
	if digit < 0 {
		return family, false
	}
	rest := strings.TrimLeft(family[digit:], "0123456789")
	return family[:digit], strings.HasPrefix(rest, "g")
}

// reasons are why a candidate stands where it does, the weightiest first.
func (c *Catalog) reasons(q Question, r, beside *Region, k *Candidate) []string {
	var why []string
	where := c.countries[r.Country].name
	switch {
	case slices.Contains(q.Without, r.Name):
		why = append(why, "it was left out by request")
	case !k.Allowed:
		why = append(why, fmt.Sprintf("its data would lie in %s, which the residency rule (%s) does not allow", where, strings.Join(q.Residency, ", ")))
	case len(q.Residency) > 0:
		why = append(why, fmt.Sprintf("its data lies in %s, which the residency rule allows", where))
	}
	for _, n := range slices.Backward(r.Notices) {
		why = append(why, fmt.Sprintf("notice of %s: %s", n.Date, n.Text))
	}
	if beside != nil {
		text := fmt.Sprintf("%s km and about %.0f ms from %s", humanize.Comma(int64(k.DistanceKm)), float64(r.RoundTrip(beside))/float64(time.Millisecond), beside.Name)
		switch {
		case k.DistanceKm <= tooNearKm:
			text += ": within reach of one disaster"
		case k.DistanceKm < apartKm:
			text += ": not far, one event may reach both"
		}
		why = append(why, text)
	}
	if len(q.Users) > 0 {
		why = append(why, fmt.Sprintf("about %.0f ms from its users", k.LatencyMs))
	}
	if needed := len(q.Types) + len(q.Instances); needed > 0 {
		open := 0
		for _, l := range k.Lacks {
			if l.Instead == "" {
				open++
			}
		}
		text := fmt.Sprintf("offers %d of %d needed types and classes", needed-len(k.Lacks), needed)
		switch {
		case open > 0:
			text += fmt.Sprintf("; nothing is known to stand in for %d", open)
		case len(k.Lacks) > 0:
			text += "; something stands in for each that it lacks"
		}
		why = append(why, text)
	}
	if r.Offer.Source.Date != r.Offer.Known() || c.newest() != r.Offer.Source.Date {
		why = append(why, fmt.Sprintf("what it offers was last told on %s", r.Offer.Known()))
	}
	if r.OptIn {
		why = append(why, "an account must opt in to it")
	}
	return why
}

// newest is the day of the newest list of types.
func (c *Catalog) newest() string {
	day := ""
	for _, r := range c.regions {
		day = max(day, r.Offer.Source.Date)
	}
	return day
}

// change is what moving from one region to another would change.
func (c *Catalog) change(q Question, from, to *Region) *Change {
	ch := &Change{From: from.Name, LatencyMs: math.Round((to.users(q.Users)-from.users(q.Users))*10) / 10}
	before, after := c.lacks(q, from), c.lacks(q, to)
	for _, l := range after {
		if !slices.ContainsFunc(before, func(b Lack) bool { return b.What == l.What }) {
			ch.Loses = append(ch.Loses, l)
		}
	}
	for _, l := range before {
		if !slices.ContainsFunc(after, func(a Lack) bool { return a.What == l.What }) {
			ch.Gains = append(ch.Gains, l.What)
		}
	}
	if from.Country != to.Country {
		ch.Residency = fmt.Sprintf("data moves from %s to %s", c.countries[from.Country].name, c.countries[to.Country].name)
		if kept := common(from.Blocs, to.Blocs); len(kept) > 0 {
			ch.Residency += ", and stays in " + strings.Join(kept, " and ")
		}
	}
	return ch
}

func common(a, b []string) []string {
	var both []string
	for _, x := range a {
		if slices.Contains(b, x) {
			both = append(both, x)
		}
	}
	return both
}
