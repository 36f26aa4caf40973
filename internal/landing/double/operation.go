package double

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// operation is what runs on a stack.
type operation struct {
	d         *Double
	s         *stack
	id, token string
	kind      types.OperationType
	started   time.Time
	sc        *scope
	run       *run
	// snapshot are the resources as they were before an update.
	snapshot map[string]*resource
	// policy is the stack's during this update.
	policy string
	// onFailure is what becomes of a stack whose creation fails.
	onFailure types.OnFailure
	skip      map[string]bool
	why       map[string]string // of the resources that failed
}

// operate begins an operation on a stack.
func (d *Double) operate(s *stack, kind types.OperationType, token string) *operation {
	d.serial++
	o := &operation{d: d, s: s, kind: kind, token: token, id: uuidOf(s.id, string(kind), fmt.Sprint(d.serial)), started: d.clock.tell(), policy: s.policy, why: map[string]string{}}
	s.operation, s.lastOperation = o, o.id
	return o
}

// live lets the functions of a shape see what the stack's resources are.
func (o *operation) live(sh *shape) error {
	sc, err := o.d.scopeOf(o.s, sh)
	if err != nil {
		return err
	}
	sc.resource = func(name string) (any, error) {
		r := o.s.resources[name]
		if r == nil {
			return nil, unresolved(name)
		}
		return r.physical, nil
	}
	sc.attribute = func(name, attribute string) (any, error) {
		r := o.s.resources[name]
		if r == nil {
			return nil, unresolved(name)
		}
		kind, err := o.d.schemas.typeOf(o.s.at.region, r.kind)
		if err != nil {
			return nil, err
		}
		if !kind.hasAttribute(attribute) {
			return nil, invalid("Requested attribute %s does not exist in schema for %s", attribute, r.kind)
		}
		return kind.value(r, strings.Split(attribute, ".")), nil
	}
	o.sc = sc
	return nil
}

// end ends the operation with the stack's last status.
func (o *operation) end(at time.Time, status types.StackStatus, reason string) {
	o.s.before = nil
	o.pause(at, status, reason)
	o.s.settled()
}

// later lets do happen a moment later, if nothing else has been begun until then.
func (o *operation) later(at time.Time, do func(at time.Time)) {
	at = at.Add(betweenTime)
	o.d.clock.after(at, 0, func() {
		if o.s.operation == o {
			do(at)
		}
	})
}

// pause ends the operation where another may take its work back.
func (o *operation) pause(at time.Time, status types.StackStatus, reason string) {
	o.s.turn(at, status, reason)
	o.s.operation = nil
}

// settled forgets which resources are new.
func (s *stack) settled() {
	s.rollbackFrom, s.rollbackMade = nil, nil
	for _, r := range s.resources {
		r.fresh, r.replaces = false, false
	}
}

// create makes all resources of a stack that has none.
func (o *operation) create(at time.Time, reason string) error {
	if err := o.live(&o.s.shape); err != nil {
		o.s.operation = nil
		return err
	}
	o.s.turn(at, types.StackStatusCreateInProgress, reason)
	o.run = &run{clock: o.d.clock, stubborn: o.s.noRollback || o.onFailure == types.OnFailureDoNothing,
		begin:  func(at time.Time, t *task) { o.make(at, t, nil) },
		cancel: func(at time.Time, name string) { o.called(at, name, "Resource creation cancelled") },
		finish: o.created}
	if o.s.timeout != nil {
		o.d.clock.after(at, time.Duration(*o.s.timeout)*time.Minute, func() {
			if o.s.operation == o && o.s.status == types.StackStatusCreateInProgress {
				o.why[""] = "Stack creation time exceeded the specified timeout"
				o.run.failed = append(o.run.failed, "")
				now := o.d.clock.tell()
				o.run.callOff(now)
				o.run.end(now)
			}
		})
	}
	o.run.start(at, o.sc.dependencies())
	return nil
}

// miscreate ends the creation of a stack of which nothing can be made.
func (o *operation) miscreate(at time.Time, why string) {
	o.s.turn(at, types.StackStatusCreateInProgress, "User Initiated")
	o.why[""] = why
	o.run = &run{clock: o.d.clock, stubborn: o.s.noRollback || o.onFailure == types.OnFailureDoNothing, finish: func(at time.Time, _ []string) { o.created(at, []string{""}) }}
	o.run.start(at, nil)
}

// called off is what a resource is told whose making was not finished.
func (o *operation) called(at time.Time, name, reason string) {
	if r := o.s.resources[name]; r != nil {
		status := types.ResourceStatusCreateFailed
		if r.status != types.ResourceStatusCreateInProgress {
			status = types.ResourceStatusUpdateFailed
		}
		r.turn(o.s, at, status, reason)
	}
}

func (o *operation) created(at time.Time, failed []string) {
	if len(failed) == 0 {
		err := o.publish()
		if err == nil {
			o.later(at, func(at time.Time) { o.end(at, types.StackStatusCreateComplete, "") })
			return
		}
		o.why[""] = o.d.faultOf(err).message
	}
	reason := o.reason(failed, "create")
	switch {
	case o.run.stubborn:
		o.end(at, types.StackStatusCreateFailed, reason)
	case o.onFailure == types.OnFailureDelete:
		o.s.turn(at, types.StackStatusDeleteInProgress, reason+"Delete requested by user.")
		o.undo(at, types.StackStatusDeleteComplete, types.StackStatusDeleteFailed)
	default:
		o.s.turn(at, types.StackStatusRollbackInProgress, reason+"Rollback requested by user.")
		o.undo(at, types.StackStatusRollbackComplete, types.StackStatusRollbackFailed)
	}
}

// reason tells which resources failed.
func (o *operation) reason(failed []string, to string) string {
	if why := o.why[""]; why != "" {
		return why + ". "
	}
	if len(failed) == 0 {
		return ""
	}
	slices.Sort(failed)
	return fmt.Sprintf("The following resource(s) failed to %s: [%s]. ", to, strings.Join(failed, ", "))
}

// publish evaluates the outputs, and exports them.
func (o *operation) publish() error {
	outputs, exports, err := o.d.outputsOf(o.sc, &o.s.shape)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		for _, other := range o.d.in(o.s.at) {
			if _, has := other.exports[name]; has && other != o.s {
				return invalid("Export with name %s is already exported by stack %s", name, other.name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.s.exports)) {
		now, stays := exports[name]
		if users := o.d.importers(o.s.at, name); len(users) > 0 && (!stays || now != o.s.exports[name]) {
			verb := "updated"
			if !stays {
				verb = "deleted"
			}
			return invalid("Export %s cannot be %s as it is in use by %s", name, verb, strings.Join(users, ", "))
		}
	}
	o.s.outputs, o.s.exports = outputs, exports
	return nil
}

// importers are the stacks that import a name.
func (d *Double) importers(at place, name string) []string {
	var users []string
	for _, s := range d.in(at) {
		if s.template == nil || s.status == types.StackStatusReviewInProgress {
			continue
		}
		sc, err := d.scopeOf(s, &s.shape)
		if err != nil {
			continue
		}
		found := false
		look := func(v any) {
			imports(v, func(arg any) {
				if got, err := sc.eval(arg); err == nil && text(got) == name {
					found = true
				}
			})
		}
		for _, r := range s.template.resources {
			if sc.wants(r) {
				look(r.properties)
			}
		}
		for _, out := range s.template.outputs {
			look(out.value)
		}
		if found {
			users = append(users, s.name)
		}
	}
	return users
}

// imports calls found for what every Fn::ImportValue of a value names.
func imports(v any, found func(arg any)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			imports(item, found)
		}
	case map[string]any:
		for key, item := range v {
			if key == "Fn::ImportValue" {
				found(item)
			}
			imports(item, found)
		}
	}
}

// make makes a resource, in place of old where there is one.
func (o *operation) make(at time.Time, t *task, old *resource) {
	s, decl := o.s, o.s.template.resources[t.name]
	working, complete, failed := types.ResourceStatusCreateInProgress, types.ResourceStatusCreateComplete, types.ResourceStatusCreateFailed
	reason := ""
	r := &resource{at: s.at, stackID: s.id, stackName: s.name, logical: t.name, kind: decl.kind, generation: o.d.made(s, t.name), created: at, deletion: decl.deletion,
		replacePolicy: decl.replacePolicy, metadata: decl.metadata, deps: o.sc.dependencies()[t.name], fresh: true, drift: types.StackResourceDriftStatusNotChecked}
	if old != nil {
		working, complete, failed = types.ResourceStatusUpdateInProgress, types.ResourceStatusUpdateComplete, types.ResourceStatusUpdateFailed
		reason = "Requested update requires the creation of a new physical resource; hence creating one."
		r.physical, r.replaces = old.physical, true
	}
	kind, properties, problems, err := o.evaluate(decl)
	r.properties = properties
	s.resources[t.name] = r
	r.turn(s, at, working, reason)
	refuse := func(at time.Time, why string) {
		o.why[t.name] = why
		r.turn(s, at, failed, why)
		t.fail(at)
	}
	if err != nil {
		t.then(at, initiatedTime, func(at time.Time) { refuse(at, o.d.faultOf(err).message) })
		return
	}
	if len(problems) > 0 {
		t.then(at, initiatedTime, func(at time.Time) {
			refuse(at, fmt.Sprintf("Properties validation failed for resource %s with message:\n%s", t.name, joinProblems(problems)))
		})
		return
	}
	t.then(at, initiatedTime, func(at time.Time) {
		if why, full := o.d.exhausted(r); full {
			refuse(at, why)
			return
		}
		id := kind.identify(r)
		if kind.customName(r.properties) && o.d.taken(s.at, r.kind, id, r) {
			r.physical = ""
			if old != nil && old.physical == id {
				refuse(at, fmt.Sprintf("CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", id))
				return
			}
			refuse(at, fmt.Sprintf("Resource of type '%s' with identifier '%s' already exists.", r.kind, id))
			return
		}
		r.physical = id
		if err := o.d.endow(kind, r); err != nil {
			refuse(at, err.Error())
			return
		}
		r.turn(s, at, working, "Resource creation Initiated")
	})
	t.then(at, max(timingOf(r.kind, r.properties).create, initiatedTime), func(at time.Time) {
		if why, fails := o.d.failure(r, "create"); fails {
			refuse(at, why)
			return
		}
		o.d.openAccount(r)
		r.turn(s, at, complete, "")
		t.done(at)
	})
}

// made counts how often a stack has made a resource of a name.
func (d *Double) made(s *stack, name string) int {
	key := s.id + "/" + name
	d.counts[key]++
	return d.counts[key] - 1
}

// evaluate are the properties of a resource as they are now.
func (o *operation) evaluate(decl *resourceDecl) (*resourceType, map[string]any, []problem, error) {
	kind, err := o.d.schemas.typeOf(o.s.at.region, decl.kind)
	if err != nil {
		return nil, nil, nil, err
	}
	properties, problems, err := o.sc.propertiesOf(kind, decl, o.s.tags)
	return kind, properties, problems, err
}

// remove deletes a resource, or leaves it where its policy says so.
func (o *operation) remove(at time.Time, t *task, r *resource, policy string, gone func()) {
	if policy == "Retain" || policy == "RetainExceptOnCreate" && !r.fresh || o.skip[r.logical] {
		r.turn(o.s, at, types.ResourceStatusDeleteSkipped, "")
		gone()
		t.pass(at)
		return
	}
	r.turn(o.s, at, types.ResourceStatusDeleteInProgress, "")
	d := timingOf(r.kind, r.properties).remove
	if policy == "Snapshot" {
		d += snapshotTime
	}
	if r.physical == "" || r.gone {
		d = initiatedTime
	}
	t.then(at, d, func(at time.Time) {
		if why, fails := o.d.failure(r, "delete"); fails && !r.gone {
			o.why[r.logical] = why
			r.turn(o.s, at, types.ResourceStatusDeleteFailed, why)
			t.fail(at)
			return
		}
		r.turn(o.s, at, types.ResourceStatusDeleteComplete, "")
		gone()
		t.done(at)
	})
}

// snapshotTime is how much longer a deletion takes that takes a snapshot first.
const snapshotTime = 3 * time.Minute

// reversed are the edges of what resources wait for, the other way around: what is waited
// for is deleted last.
func reversed(resources map[string]*resource) map[string][]string {
	deps := map[string][]string{}
	for name, r := range resources {
		deps[name] = r.deps
	}
	return turned(deps)
}

// undo deletes everything that a stack has.
func (o *operation) undo(at time.Time, complete, failed types.StackStatus) {
	o.run = &run{clock: o.d.clock, stubborn: true,
		begin: func(at time.Time, t *task) {
			r := o.s.resources[t.name]
			policy := r.deletion
			if policy == "Retain" && o.s.retainNew { // as the request said
				policy = "RetainExceptOnCreate"
			}
			o.remove(at, t, r, policy, func() { delete(o.s.resources, t.name) })
		},
		finish: func(at time.Time, broken []string) {
			if len(broken) > 0 {
				slices.Sort(broken)
				o.end(at, failed, fmt.Sprintf("The following resource(s) failed to delete: [%s]. ", strings.Join(broken, ", ")))
				return
			}
			o.later(at, func(at time.Time) {
				o.s.outputs, o.s.exports = nil, map[string]string{}
				o.end(at, complete, "")
				if complete == types.StackStatusDeleteComplete {
					o.s.deleted = at
					delete(o.d.stacks[o.s.at], o.s.name)
				}
			})
		}}
	o.run.start(at, reversed(o.s.resources))
}
