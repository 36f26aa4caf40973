package double

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// stack is one stack, living or deleted.
type stack struct {
	at       place
	name, id string
	status   types.StackStatus
	reason   string

	created, updated, deleted time.Time

	shape                // what it is
	before        *shape // what it was, while it is updated
	resources     map[string]*resource
	leftover      []*resource // those that are replaced or no longer wanted, until they are cleaned up
	outputs       []types.Output
	exports       map[string]string
	events        []types.StackEvent
	changeSets    []*changeSet
	policy        string
	protected     bool
	operation     *operation
	lastOperation string
	tokens        map[string]string // of requests, with what they asked for
	drift         types.StackDriftStatus
	driftChecked  time.Time
	changeSetID   string
	// rollbackFrom are the resources to which an update that failed goes back, and
	// rollbackMade those that it made.
	rollbackFrom, rollbackMade map[string]*resource
}

// shape is what a request makes a stack.
type shape struct {
	template     *template
	given        *given
	tags         []types.Tag
	capabilities []types.Capability
	role         string
	notify       []string
	noRollback   bool
	retainNew    bool
	timeout      *int32
}

// resource is one resource of a stack.
type resource struct {
	at                 place
	stackID, stackName string
	logical, kind      string
	physical           string
	generation         int // how often it was replaced
	version            int // how often it was updated in place
	properties         map[string]any
	// told are the attributes that it was given by name, which go before its schema's.
	told map[string]any
	// actual are the properties where they were edited behind the stack's back; gone says
	// that it was deleted so.
	actual          map[string]any
	gone            bool
	status          types.ResourceStatus
	reason          string
	created, at2    time.Time
	deletion        string
	replacePolicy   string
	metadata        any
	deps            []string
	drift           types.StackResourceDriftStatus
	driftChecked    time.Time
	deep            int  // how deep one of its values is made of others
	fresh, replaces bool // made in the operation that runs, or in place of another
}

var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]*$`)

const maxStackName = 128

func checkStackName(name string) error {
	if !stackName.MatchString(name) {
		return invalid("1 validation error detected: Value '%s' at 'stackName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", name)
	}
	if len(name) > maxStackName {
		return invalid("1 validation error detected: Value '%s' at 'stackName' failed to satisfy constraint: Member must have length less than or equal to %d", name, maxStackName)
	}
	return nil
}

// newStack makes a stack that has nothing yet.
func (d *Double) newStack(at place, name string) *stack {
	d.serial++
	id := "arn:" + partitionOf(at.region) + ":cloudformation:" + at.region + ":" + at.account + ":stack/" + name + "/" + uuidOf(at.account, at.region, name, d.times(at, name))
	s := &stack{at: at, name: name, id: id, created: d.clock.tell(), resources: map[string]*resource{}, exports: map[string]string{}, tokens: map[string]string{},
		drift: types.StackDriftStatusNotChecked}
	if d.stacks[at] == nil {
		d.stacks[at] = map[string]*stack{}
	}
	d.stacks[at][name] = s
	d.byID[id] = s
	d.order = append(d.order, s)
	d.forgetStacks()
	return s
}

// keptStacks is how many stacks are remembered: AWS tells of deleted ones for ninety days.
const keptStacks = 10_000

// forgetStacks drops the oldest deleted stack where there are too many.
func (d *Double) forgetStacks() {
	if len(d.order) <= keptStacks {
		return
	}
	at := slices.IndexFunc(d.order, func(s *stack) bool { return s.status == types.StackStatusDeleteComplete })
	if at < 0 {
		return
	}
	delete(d.byID, d.order[at].id)
	d.order = slices.Delete(d.order, at, at+1)
}

// times tells how many stacks there were of a name, so that ids are the same each time.
func (d *Double) times(at place, name string) string {
	key := at.account + " " + at.region + " " + name
	d.counts[key]++
	return strconv.Itoa(d.counts[key])
}

// find is a stack by name, if it lives, or by id.
func (d *Double) find(at place, nameOrID string) *stack {
	if s := d.stacks[at][nameOrID]; s != nil {
		return s
	}
	if s := d.byID[nameOrID]; s != nil && s.at == at {
		return s
	}
	return nil
}

// living is a stack that was not deleted, or an error in AWS's words.
func (d *Double) living(at place, nameOrID string) (*stack, error) {
	s := d.find(at, nameOrID)
	if s == nil || s.status == types.StackStatusDeleteComplete {
		return nil, invalid("Stack [%s] does not exist", nameOrID)
	}
	return s, nil
}

// busy says whether something runs on a stack.
func (s *stack) busy() bool {
	return strings.HasSuffix(string(s.status), "_IN_PROGRESS") && s.status != types.StackStatusReviewInProgress
}

// in are all living stacks of a place, by name.
func (d *Double) in(at place) []*stack {
	var all []*stack
	for _, name := range slices.Sorted(maps.Keys(d.stacks[at])) {
		all = append(all, d.stacks[at][name])
	}
	return all
}

// exists says whether a physical id is of something that is there.
func (d *Double) exists(at place, physical string) bool {
	if acc := d.accounts.byID[at.account]; acc != nil && slices.Contains(acc.Existing, physical) {
		return true
	}
	for _, s := range d.stacks[at] {
		for _, r := range s.resources {
			if !r.gone && (r.physical == physical || strings.HasSuffix(r.physical, "|"+physical)) {
				return true
			}
		}
		// What a stack tells of, such as a VPC's own security group, is there as well.
		for _, o := range s.outputs {
			if slices.Contains(splitList(*o.OutputValue), physical) {
				return true
			}
		}
	}
	return false
}

// taken is the stack that has a resource of a name already.
func (d *Double) taken(at place, kind, physical string, but *resource) bool {
	for _, s := range d.stacks[at] {
		for _, r := range s.resources {
			if r != but && r.kind == kind && r.physical == physical && !r.gone {
				return true
			}
		}
		for _, r := range s.leftover {
			if r.kind == kind && r.physical == physical {
				return true
			}
		}
	}
	return false
}

// event writes down that something of a stack has changed.
func (s *stack) event(at time.Time, logical, physical, kind string, status types.ResourceStatus, reason, properties string) {
	e := types.StackEvent{EventId: new(uuidOf(s.id, at.String(), logical, string(status), string(rune(len(s.events))))), StackId: &s.id, StackName: &s.name, Timestamp: &at,
		LogicalResourceId: &logical, PhysicalResourceId: &physical, ResourceType: &kind, ResourceStatus: status}
	if logical != s.name {
		e.EventId = new(logical + "-" + string(status) + "-" + *e.EventId)
	}
	if reason != "" {
		e.ResourceStatusReason = &reason
	}
	if properties != "" {
		e.ResourceProperties = &properties
	}
	if s.operation != nil {
		e.OperationId = &s.operation.id
		if s.operation.token != "" {
			e.ClientRequestToken = &s.operation.token
		}
	}
	s.events = append(s.events, e)
}

// turn changes a stack's status.
func (s *stack) turn(at time.Time, status types.StackStatus, reason string) {
	s.status, s.reason = status, reason
	s.event(at, s.name, s.id, "AWS::CloudFormation::Stack", types.ResourceStatus(status), reason, "")
}

// turn changes a resource's status.
func (r *resource) turn(s *stack, at time.Time, status types.ResourceStatus, reason string) {
	r.status, r.reason, r.at2 = status, reason, at
	properties := ""
	if r.properties != nil {
		properties = compact(hide(r.properties, s.secrets()))
	}
	s.event(at, r.logical, r.physical, r.kind, status, reason, properties)
}
