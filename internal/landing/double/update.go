package double

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// update makes a stack what a new shape says.
func (o *operation) update(at time.Time, sh *shape, reason string) error {
	s := o.s
	s.settled()
	before := s.shape
	s.before, s.shape = &before, *sh
	if err := o.live(&s.shape); err != nil {
		s.shape, s.before, s.operation = before, nil, nil
		return err
	}
	o.snapshot = maps.Clone(s.resources)
	s.updated = at
	s.turn(at, types.StackStatusUpdateInProgress, reason)
	deps := o.sc.dependencies()
	for name := range s.resources {
		if _, stays := deps[name]; !stays && !allowed(o.policy, "Update:Delete", s.resources[name]) {
			deps[name] = nil // to be refused
		}
	}
	o.run = &run{clock: o.d.clock, stubborn: s.noRollback, begin: o.change,
		cancel: func(at time.Time, name string) { o.called(at, name, "Resource update cancelled") },
		finish: o.changed}
	o.run.start(at, deps)
	return nil
}

// misupdate takes back an update of which nothing can be made.
func (o *operation) misupdate(at time.Time, sh *shape, why string) {
	s := o.s
	s.settled()
	before := s.shape
	s.before, s.shape = &before, *sh
	o.snapshot = maps.Clone(s.resources)
	s.updated = at
	s.turn(at, types.StackStatusUpdateInProgress, "User Initiated")
	o.why[""] = why
	o.run = &run{clock: o.d.clock, finish: func(at time.Time, _ []string) { o.changed(at, []string{""}) }}
	o.run.start(at, nil)
}

// change changes one resource as the new shape says.
func (o *operation) change(at time.Time, t *task) {
	decl, old := o.s.template.resources[t.name], o.s.resources[t.name]
	if old == nil || old.status == types.ResourceStatusCreateFailed {
		o.make(at, t, nil)
		return
	}
	deny := func(action string) bool {
		if allowed(o.policy, action, old) {
			return false
		}
		next := *old
		o.s.resources[t.name] = &next
		o.why[t.name] = fmt.Sprintf("Action denied by stack policy: Statement [#1] does not allow [%s] for resource [%s];", action, t.name)
		next.turn(o.s, at, types.ResourceStatusUpdateFailed, o.why[t.name])
		t.fail(at)
		return true
	}
	if decl == nil || !o.sc.wants(decl) {
		deny("Update:Delete")
		return
	}
	kind, properties, problems, err := o.evaluate(decl)
	diffs := differences(old.properties, properties, nil)
	replaces := err == nil && slices.ContainsFunc(diffs, func(d difference) bool { return kind.replacesAt(kind.createOnly, d) })
	switch {
	case replaces:
		if !deny("Update:Replace") {
			o.make(at, t, old)
		}
		return
	case err == nil && len(diffs) == 0 && old.status != types.ResourceStatusUpdateFailed:
		next := *old
		next.deletion, next.replacePolicy, next.metadata, next.deps = decl.deletion, decl.replacePolicy, decl.metadata, o.sc.dependencies()[t.name]
		o.s.resources[t.name] = &next
		t.pass(at)
		return
	}
	if deny("Update:Modify") {
		return
	}
	next := *old
	r := &next
	r.properties, r.version, r.actual, r.deletion, r.replacePolicy, r.metadata = properties, old.version+1, nil, decl.deletion, decl.replacePolicy, decl.metadata
	r.deps, r.fresh = o.sc.dependencies()[t.name], true
	o.s.resources[t.name] = r
	r.turn(o.s, at, types.ResourceStatusUpdateInProgress, "")
	refuse := func(at time.Time, why string) {
		o.why[t.name] = why
		r.turn(o.s, at, types.ResourceStatusUpdateFailed, why)
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
	t.then(at, timingOf(r.kind, r.properties).update, func(at time.Time) {
		if old.gone {
			refuse(at, fmt.Sprintf("Resource of type '%s' with identifier '%s' was not found.", r.kind, r.physical))
			return
		}
		if why, fails := o.d.failure(r, "update"); fails {
			refuse(at, why)
			return
		}
		r.turn(o.s, at, types.ResourceStatusUpdateComplete, "")
		t.done(at)
	})
}

// changed goes on once all is changed, or something has failed.
func (o *operation) changed(at time.Time, failed []string) {
	if len(failed) == 0 {
		err := o.publish()
		if err == nil {
			o.s.turn(at, types.StackStatusUpdateCompleteCleanupInProgress, "")
			old := map[string]*resource{}
			for name, was := range o.snapshot {
				if now := o.s.resources[name]; now.replaces && now.fresh {
					old[name] = was
				} else if decl := o.s.template.resources[name]; decl == nil || !o.sc.wants(decl) {
					old[name] = was
					delete(o.s.resources, name)
				}
			}
			o.clean(at, old, types.StackStatusUpdateComplete, false)
			return
		}
		o.why[""] = o.d.faultOf(err).message
	}
	reason := o.reason(failed, "update")
	if o.s.noRollback {
		o.s.rollbackFrom = o.snapshot
		o.pause(at, types.StackStatusUpdateFailed, reason)
		return
	}
	o.restore(at, o.snapshot, reason)
}

// clean deletes what is replaced or no longer wanted. What can not be deleted is left, as
// CloudFormation does after some tries.
func (o *operation) clean(at time.Time, old map[string]*resource, status types.StackStatus, back bool) {
	for _, name := range slices.Sorted(maps.Keys(old)) {
		o.s.leftover = append(o.s.leftover, old[name])
	}
	o.run = &run{clock: o.d.clock, stubborn: true,
		begin: func(at time.Time, t *task) {
			r := *old[t.name]
			policy := r.deletion
			if o.s.resources[t.name] != nil {
				policy = r.replacePolicy
			}
			if back {
				policy = ""
				if r.deletion == "Retain" && o.s.resources[t.name] == nil && !o.s.retainNew {
					policy = "Retain"
				}
			}
			o.remove(at, t, &r, policy, func() {
				o.s.leftover = slices.DeleteFunc(o.s.leftover, func(l *resource) bool { return l == old[t.name] })
			})
		},
		finish: func(at time.Time, failed []string) {
			reason := ""
			if len(failed) > 0 {
				reason = "Update successful. One or more resources could not be deleted."
			}
			o.later(at, func(at time.Time) { o.end(at, status, reason) })
		}}
	o.run.start(at, reversed(old))
}

// restore brings back what a stack was before an update.
func (o *operation) restore(at time.Time, was map[string]*resource, reason string) {
	s := o.s
	s.turn(at, types.StackStatusUpdateRollbackInProgress, reason)
	if s.before != nil {
		tried := s.shape
		s.shape, s.before = *s.before, &tried
	}
	deps := map[string][]string{}
	for name, r := range was {
		deps[name] = r.deps
	}
	made := maps.Clone(s.rollbackMade)
	if made == nil {
		made = map[string]*resource{}
	}
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		now := s.resources[name]
		if was[name] == nil || now.fresh && now.replaces {
			made[name] = now
			if was[name] == nil {
				delete(s.resources, name)
			}
		}
	}
	o.run = &run{clock: o.d.clock, stubborn: true,
		begin: func(at time.Time, t *task) {
			old, now := was[t.name], s.resources[t.name]
			switch {
			case now == old:
				t.pass(at)
			case now == nil || now.fresh && now.replaces || o.skip[t.name]:
				back := *old
				s.resources[t.name] = &back
				back.turn(s, at, types.ResourceStatusUpdateComplete, "")
				t.pass(at)
			case !now.fresh: // nothing but its policies has changed
				s.resources[t.name] = old
				t.pass(at)
			default:
				o.bring(at, t, old)
			}
		},
		finish: func(at time.Time, failed []string) {
			if len(failed) > 0 {
				slices.Sort(failed)
				s.rollbackFrom, s.rollbackMade, s.before = was, made, nil
				for _, r := range s.resources {
					r.fresh = r.status == types.ResourceStatusUpdateFailed
				}
				o.pause(at, types.StackStatusUpdateRollbackFailed, fmt.Sprintf("The following resource(s) failed to update: [%s]. ", strings.Join(failed, ", ")))
				return
			}
			s.turn(at, types.StackStatusUpdateRollbackCompleteCleanupInProgress, "")
			o.clean(at, made, types.StackStatusUpdateRollbackComplete, true)
		}}
	o.run.start(at, deps)
}

// bring brings one resource back to what it was.
func (o *operation) bring(at time.Time, t *task, old *resource) {
	back := *old
	back.fresh = true
	o.s.resources[t.name] = &back
	back.turn(o.s, at, types.ResourceStatusUpdateInProgress, "")
	t.then(at, timingOf(old.kind, old.properties).update, func(at time.Time) {
		if why, fails := o.d.failure(&back, "rollback"); fails {
			back.turn(o.s, at, types.ResourceStatusUpdateFailed, why)
			t.fail(at)
			return
		}
		back.turn(o.s, at, types.ResourceStatusUpdateComplete, "")
		t.done(at)
	})
}
