package expose

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// Step is a step of a conversion.
type Step string

// The steps, in their order.
const (
	StepMake   Step = "make"
	StepReady  Step = "ready"
	StepWeigh  Step = "weigh"
	StepDrain  Step = "drain"
	StepRemove Step = "remove"
)

// steps is the whole of a conversion. Each step looks for itself what of it is done, so that a
// conversion that was killed between any two writes goes on when it is called again; tell says
// what a step would do, and do returns errPause where it is for a person to go on.
//
//nolint:gochecknoglobals // a table
var steps = []struct {
	name Step
	tell func(*run) []string
	do   func(*run, context.Context) error
}{
	{StepMake, (*run).tellMake, (*run).make},
	{StepReady, (*run).tellReady, (*run).ready},
	{StepWeigh, (*run).tellWeigh, (*run).weigh},
	{StepDrain, (*run).tellDrain, (*run).drain},
	{StepRemove, (*run).tellRemove, (*run).remove},
}

// errPause ends a call that did what it could: the next one goes on.
var errPause = errors.New("the next call goes on")

const (
	// stateManager owns the annotations in which a conversion remembers where it stands.
	stateManager = "dhow-expose-state"
	// FromNote on an Exposure is what it was converted from, as Ingress/shop.
	FromNote = v1alpha1.Group + "/from"
	// The annotations of the state are on the first of a conversion's Exposures.
	stepNote   = v1alpha1.Group + "/conversion-step"
	weightNote = v1alpha1.Group + "/conversion-weight"
	sinceNote  = v1alpha1.Group + "/conversion-since"
	wishNote   = v1alpha1.Group + "/conversion-wish"
	handNote   = v1alpha1.Group + "/conversion-by-hand"
	// StepUndo stands in the place of a step while a conversion is taken back.
	StepUndo Step = "undo"
	// StepDone is behind the last one.
	StepDone Step = "done"

	identifierNote = dnsPrefix + "set-identifier"
	weightOfNote   = dnsPrefix + "aws-weight"
	controllerNote = dnsPrefix + "controller"
	// oldIdentifier and newIdentifier tell the two records of a name apart.
	oldIdentifier, newIdentifier = "before-dhow", "dhow"
	// openSuffix names the NetworkPolicy that keeps pods as open as they were.
	openSuffix = "-open"
	// unwell is for how long what is new may be not ready before the weights go back.
	unwell = 10 * time.Second
	// quiet is how few requests a second are none: a health check's.
	quiet = 0.01
	// DefaultEvery is between two weights.
	DefaultEvery = 5 * time.Minute
)

// DefaultWeights are those of the old way, one after the other.
func DefaultWeights() []int { return []int{90, 50, 0} }

// Options say what is converted, and how.
type Options struct {
	// From is ingress, nodeport or loadbalancer.
	From, Namespace, Name string
	Wish
	// Weights are those of the old way in percent, falling; the new one has the rest. Every is
	// the time between two of them.
	Weights []int
	Every   time.Duration
	// Wait bounds the wait for the Exposures, and for traffic to end.
	Wait time.Duration
	// Remove names what is removed at the end, as ingress/shop; "" removes nothing.
	Remove string
	// ByHand leaves the DNS to a person: what is to be set is told, and the next call goes on.
	ByHand bool
	// Probe asks whether the new way answers; nil does not ask.
	Probe func(context.Context, Target) error
	// Leads asks whether a name leads to one of load balancers by the DNS, before the old way is
	// removed; nil does not ask.
	Leads func(ctx context.Context, name string, balancers []string) error
	// Traffic counts the requests a second that still come the old way; nil does not know.
	Traffic func(context.Context) (float64, error)
	// Tell hears of what is done as it is done; nil tells nobody.
	Tell func(Step, string)
}

// Progress is where a conversion stands.
type Progress struct {
	Conversion

	// Step is the one that comes next, done behind the last, undo while it is taken back.
	Step Step `json:"step"`
	// Weight is the old way's, in percent.
	Weight int `json:"weight"`
	// Names are the Exposures', Addresses where they are called.
	Names     []string `json:"exposures"`
	Addresses []string `json:"addresses"`
	// Steps are what each step would do, where that was asked for.
	Steps []Told `json:"steps,omitempty"`
	// Next is what to do, "" for nothing.
	Next string `json:"next,omitempty"`
}

// Told is what a step would do.
type Told struct {
	Step Step     `json:"step"`
	Text []string `json:"text"`
	// Done says that it was done before.
	Done bool `json:"done,omitempty"`
	// Diff is what it would write.
	Diff string `json:"diff,omitempty"`
}

// state is what stands in the annotations.
type state struct {
	step   Step
	weight int
	since  time.Time
	wish   Wish
	hand   string
}

// run is one call.
type run struct {
	Options
	c  Cluster
	op Operator
	// source is nil once the old object is gone.
	source *Source
	conv   *Conversion
	// have are the Exposures that are there, by name; lead is the first one's name.
	have map[string]*v1alpha1.Exposure
	lead string
	state
}

// kind is the old object's own.
func (o *Options) kind() string {
	if o.From == FromIngress {
		return "Ingress"
	}
	return "Service"
}

func (r *run) from() string { return r.kind() + "/" + r.Name }

func (r *run) say(s Step, text string, args ...any) {
	if r.Tell != nil {
		r.Tell(s, fmt.Sprintf(text, args...))
	}
}

// open reads where a conversion stands. To take it back, nothing has to be converted anew.
func open(ctx context.Context, c Cluster, op Operator, o Options, back bool) (*run, error) {
	r := &run{Options: o, c: c, op: op, have: map[string]*v1alpha1.Exposure{}, state: state{weight: allWeight}}
	all, err := exposures(ctx, c, o.Namespace)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Annotations[FromNote] == r.from() {
			r.have[all[i].Name] = &all[i]
		}
	}
	if names := sorted(r.have); len(names) > 0 {
		r.lead = names[0]
		if err := r.readState(); err != nil {
			return nil, err
		}
	}
	if r.source, err = Read(ctx, c, op, o.From, o.Namespace, o.Name); err != nil {
		return nil, err
	}
	if r.source == nil && len(r.have) == 0 {
		return nil, wrong("there is no %s %s in namespace %s", r.kind(), o.Name, o.Namespace)
	}
	if r.gone() {
		r.step = StepDone
	}
	if r.step == StepDone || r.source == nil || back {
		return r, nil
	}
	if s := r.source.Service; s != nil {
		want := map[string]corev1.ServiceType{FromNodePort: corev1.ServiceTypeNodePort, FromLoadBalancer: corev1.ServiceTypeLoadBalancer}[o.From]
		if s.Spec.Type != want {
			return nil, wrong("the Service %s is of type %s, and no %s", o.Name, s.Spec.Type, want)
		}
	}
	if r.step == StepUndo {
		return r, nil
	}
	return r, r.convert(all)
}

// gone says that the old way has been removed, by the last step of a conversion.
func (r *run) gone() bool {
	if r.step != StepRemove {
		return false
	}
	return r.source == nil || r.source.Service != nil && r.source.Service.Spec.Type == corev1.ServiceTypeClusterIP
}

// convert says what the old object becomes, by what a person says now or has said before.
func (r *run) convert(all []v1alpha1.Exposure) error {
	given := r.Accept
	r.Visibility = cmp.Or(r.Visibility, r.wish.Visibility)
	for _, x := range []struct {
		now    *[]string
		before []string
	}{{&r.Hosts, r.wish.Hosts}, {&r.Certificates, r.wish.Certificates}, {&r.Accept, r.wish.Accept}} {
		if len(*x.now) == 0 {
			*x.now = x.before
		}
	}
	var err error
	if r.conv, err = Convert(*r.source, r.Wish); err != nil {
		return err
	}
	if err := r.conv.known(given); err != nil {
		return err
	}
	if r.ByHand {
		r.conv.ByHand = cmp.Or(r.conv.ByHand, "you have said so")
	}
	r.conv.ByHand = cmp.Or(r.hand, r.conv.ByHand)
	r.lead = r.conv.Exposures[0].Name
	if r.step != "" && sorted(r.have)[0] != r.lead {
		return fmt.Errorf("the conversion of %s has begun with other Exposures, %s: go back with --undo, and begin anew", r.from(), strings.Join(sorted(r.have), ", "))
	}
	return r.rivals(all)
}

// rivals says whether somebody else has exposed the workloads.
func (r *run) rivals(all []v1alpha1.Exposure) error {
	for _, e := range r.conv.Exposures {
		for i := range all {
			x := &all[i]
			same := x.Spec.Workload.Name != "" && x.Spec.Workload.Name == e.Spec.Workload.Name && x.Spec.Workload.Kind == e.Spec.Workload.Kind
			switch {
			case r.have[x.Name] != nil:
			case x.Name == e.Name:
				return fmt.Errorf("there is an Exposure %s already, which was not converted from %s: remove it, or rename it", x.Name, r.from())
			case same && x.Labels[render.DeducedLabel] != "":
				return fmt.Errorf("%s %s has the Exposure %s, which the operator deduced: give the workload the label %s=%s, remove that Exposure, and call again", x.Spec.Workload.Kind, x.Spec.Workload.Name, x.Name, render.ExposeLabel, render.ExposeNever)
			case same:
				return fmt.Errorf("%s %s has the Exposure %s already, and a workload has one: add the hosts and paths of %s to that one", x.Spec.Workload.Kind, x.Spec.Workload.Name, x.Name, r.from())
			}
		}
	}
	return nil
}

func (r *run) readState() error {
	notes := r.have[r.lead].Annotations
	r.step, r.hand = Step(notes[stepNote]), notes[handNote]
	var err error
	if text := notes[weightNote]; text != "" {
		if r.weight, err = strconv.Atoi(text); err != nil || r.weight < 0 || r.weight > allWeight {
			return fmt.Errorf("the annotation %s of Exposure %s is %q: want the old way's weight, from 0 to 100", weightNote, r.lead, text)
		}
	}
	if text := notes[sinceNote]; text != "" {
		if r.since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return fmt.Errorf("the annotation %s of Exposure %s is %q: want a time", sinceNote, r.lead, text)
		}
	}
	if text := notes[wishNote]; text != "" {
		if err := json.Unmarshal([]byte(text), &r.wish); err != nil {
			return fmt.Errorf("the annotation %s of Exposure %s can not be read: %w", wishNote, r.lead, err)
		}
	}
	return nil
}

// keep writes down where the conversion stands: what is done after it can be done again.
func (r *run) keep(ctx context.Context, step Step, weight int) error {
	since := time.Now().UTC()
	said, err := json.Marshal(r.Wish)
	if err != nil {
		return fmt.Errorf("write down where the conversion stands: %w", err)
	}
	notes := map[string]string{stepNote: string(step), weightNote: strconv.Itoa(weight), sinceNote: since.Format(time.RFC3339Nano), wishNote: string(said)}
	if r.conv.ByHand != "" {
		notes[handNote] = r.conv.ByHand
	}
	if err := r.note(ctx, v1alpha1.GroupVersion.String(), "Exposure", r.have[r.lead], stateManager, notes); err != nil {
		return err
	}
	r.step, r.weight, r.since = step, weight, since
	return nil
}

// note sets annotations of an object that is there, and takes away those that the manager has
// set before.
func (r *run) note(ctx context.Context, version, kind string, o client.Object, manager string, notes map[string]string) error {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind}}
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	u.SetUID(o.GetUID()) // of what is gone none is made anew
	if len(notes) > 0 {
		u.SetAnnotations(notes)
	}
	return failed("annotations to "+kind+" "+o.GetName(), r.c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager)))
}

// Look says where a conversion stands and what each of its steps would do, and changes nothing.
func Look(ctx context.Context, c Cluster, op Operator, o Options) (*Progress, error) {
	r, err := open(ctx, c, op, o, false)
	if err != nil {
		return nil, err
	}
	p := r.progress()
	if r.conv == nil {
		return p, nil
	}
	passed := true
	for _, s := range steps {
		passed = passed && r.passed(s.name)
		t := Told{Step: s.name, Text: s.tell(r), Done: passed}
		if s.name == StepMake {
			for _, e := range r.conv.Exposures {
				want, err := plain(r.marked(e))
				if err != nil {
					return nil, err
				}
				found, err := compare(ctx, c, want, Manager)
				if err != nil {
					return nil, err
				}
				t.Diff += found.diff
				t.Text = append(t.Text, found.against...)
			}
		}
		p.Steps = append(p.Steps, t)
	}
	return p, nil
}

// passed says that a step was done before.
func (r *run) passed(s Step) bool {
	switch s {
	case StepMake:
		return !slices.ContainsFunc(r.conv.Exposures, func(e *v1alpha1.Exposure) bool { return r.have[e.Name] == nil })
	case StepReady:
		return !slices.ContainsFunc(r.conv.Exposures, func(e *v1alpha1.Exposure) bool { return r.have[e.Name] == nil || !ready(r.have[e.Name]) })
	case StepWeigh:
		return r.step == StepDrain || r.step == StepRemove || r.step == StepDone
	case StepDrain:
		return r.step == StepRemove || r.step == StepDone
	default:
		return r.step == StepDone
	}
}

// progress is where it stands.
func (r *run) progress() *Progress {
	p := &Progress{Step: r.step, Weight: r.weight, Names: sorted(r.have), Addresses: []string{}}
	if r.conv != nil {
		p.Conversion = *r.conv
	} else {
		p.Conversion = Conversion{Kind: r.kind(), Namespace: r.Namespace, Name: r.Name, Carried: []Item{}, Lost: []Item{}}
	}
	if p.Step == "" {
		p.Step = StepMake
	}
	if p.Names == nil {
		p.Names = []string{}
	}
	for _, name := range p.Names {
		if at := r.have[name].Status.Address; at != "" {
			p.Addresses = append(p.Addresses, at)
		}
	}
	return p
}

// Manifests are the Exposures as kubectl takes them.
func (p *Progress) Manifests() ([]map[string]any, error) {
	var all []map[string]any
	for _, e := range p.Exposures {
		u, err := plain(e)
		if err != nil {
			return nil, err
		}
		all = append(all, u.Object)
	}
	return all, nil
}

// RefusedError says that something can not be carried over, and that nobody has accepted that.
type RefusedError struct{ Items []Item }

func (e *RefusedError) Error() string {
	var parts []string
	for _, i := range e.Items {
		parts = append(parts, i.Name+" ("+i.Text+")")
	}
	return "it can not be converted without loss: " + strings.Join(parts, "; ")
}

// Run goes on with a conversion as far as it gets in one call. Where a person has to do
// something, the answer's Next says what. It may be killed and called again at any time.
func Run(ctx context.Context, c Cluster, op Operator, o Options) (*Progress, error) {
	if o.Weights == nil {
		o.Weights = DefaultWeights()
	}
	if err := checkWeights(o.Weights); err != nil {
		return nil, err
	}
	if o.Remove != "" && !strings.EqualFold(o.Remove, o.kind()+"/"+o.Name) {
		return nil, wrong("--remove %s: what is converted is %s/%s: repeat just that", o.Remove, strings.ToLower(o.kind()), o.Name)
	}
	r, err := open(ctx, c, op, o, false)
	if err != nil {
		return nil, err
	}
	switch {
	case r.step == StepUndo:
		p := r.progress()
		p.Next = "it is being taken back: end that with --undo"
		return p, fmt.Errorf("the conversion of %s is being taken back: end that with --undo before it is begun anew", r.from())
	case r.step == StepDone:
		return r.progress(), nil
	case r.source == nil:
		return r.progress(), fmt.Errorf("%s is gone, and not by this conversion, which stands at step %s: make it again to go on, or set spec.dns.disabled of the Exposures to false to lead its names there at once", r.from(), r.step)
	}
	if refused := r.conv.Refused(); len(refused) > 0 {
		return r.progress(), &RefusedError{refused}
	}
	for _, s := range steps {
		if err := s.do(r, ctx); err != nil {
			p := r.progress()
			if errors.Is(err, errPause) {
				p.Next = strings.TrimSuffix(err.Error(), ": "+errPause.Error())
				return p, nil
			}
			return p, err
		}
	}
	return r.progress(), nil
}

// pause ends a call with what a person is to do.
func pause(text string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(text, args...), errPause)
}

func checkWeights(all []int) error {
	last := allWeight
	for _, w := range all {
		if w < 0 || w >= last {
			return wrong("--weights: want the old way's weights in percent, each smaller than the one before, such as 90,50,0")
		}
		last = w
	}
	return nil
}

// marked is an Exposure of the conversion as it is applied now: its names are told to
// external-dns once weights stand at both ways.
func (r *run) marked(e *v1alpha1.Exposure) *v1alpha1.Exposure {
	e = e.DeepCopy()
	e.Annotations = map[string]string{FromNote: r.from()}
	if e.Spec.DNS == nil {
		e.Spec.DNS = &v1alpha1.DNS{}
	}
	e.Spec.DNS.Disabled = r.conv.ByHand != "" || r.step != StepWeigh && r.step != StepDrain && r.step != StepRemove && r.step != StepDone
	if have := r.have[e.Name]; have != nil {
		e.UID, e.CreationTimestamp = have.UID, have.CreationTimestamp
	}
	return e
}
