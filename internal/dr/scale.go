package dr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dhow/internal/estate"
	"dhow/internal/landing"
)

// floors are the parameters by which templates stand at a floor in dr. least is how many
// a 0 means in main; most, where there is one, bounds the first and is raised with it.
var floors = []struct {
	template, parameter, most string
	least, leastDR            int
}{
	{template: "cluster", parameter: "NodesPerZone", most: "MostNodesPerZone"},
	{template: "frontend", parameter: "LeastTasks", most: "MostTasks", least: 3, leastDR: 1},
	{template: "website", parameter: "LeastInstances", most: "MostInstances", least: 3, leastDR: 1},
}

// raise is a stack whose floor is lower than main's.
type raise struct {
	stack  *landing.Stack
	values map[string]string
	before map[string]string
	text   string
}

// smaller are the stacks of dr that are smaller than main's.
func (d *DR) smaller(s *side) ([]raise, error) {
	var all []raise
	for _, one := range d.dr {
		standing := s.stacks[one.ID]
		if standing == nil {
			continue
		}
		for _, f := range floors {
			if f.template != one.Template {
				continue
			}
			main := d.o.Graph.Stack(estate.EnvironmentMain + strings.TrimPrefix(one.ID, estate.EnvironmentDR))
			if main == nil {
				continue
			}
			wanted, known := main.Value(f.parameter)
			had, there := standing.Parameters[f.parameter]
			if !known || !there {
				continue
			}
			want, err := number(one, f.parameter, wanted, f.least)
			if err != nil {
				return nil, err
			}
			have, err := number(one, f.parameter, had, f.leastDR)
			if err != nil {
				return nil, err
			}
			if want <= have {
				continue
			}
			r := raise{stack: one, values: map[string]string{f.parameter: strconv.Itoa(want)}, before: map[string]string{f.parameter: had}, text: fmt.Sprintf("%s %s %d -> %d", one.ID, f.parameter, have, want)}
			if most, there := standing.Parameters[f.most]; there {
				bound, err := number(one, f.most, most, 0)
				if err != nil {
					return nil, err
				}
				if bound < want {
					r.values[f.most], r.before[f.most] = strconv.Itoa(want), most
				}
			}
			all = append(all, r)
		}
	}
	return all, nil
}

// number reads a parameter; zero is what 0 means.
func number(s *landing.Stack, parameter, value string, zero int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("%s: its parameter %s is %q: want a number", s.ID, parameter, value)
	}
	if n == 0 {
		n = zero
	}
	return n, nil
}

// raiseFloors gives stacks of dr main's size, all at once, and keeps before what they had.
func (d *DR) raiseFloors(ctx context.Context, all []raise) error {
	for _, r := range all {
		at := slices.IndexFunc(d.state.Raised, func(f Floor) bool { return f.Stack == r.stack.ID })
		if at < 0 {
			d.state.Raised = append(d.state.Raised, Floor{Stack: r.stack.ID, Before: r.before})
			continue
		}
		for name, value := range r.before { // what is kept already is from before the first raise
			if _, kept := d.state.Raised[at].Before[name]; !kept {
				d.state.Raised[at].Before[name] = value
			}
		}
	}
	if err := d.state.save(); err != nil {
		return err
	}
	return d.each(len(all), func(i int) error {
		_, err := d.stacks.Set(ctx, all[i].stack, all[i].values)
		return err
	})
}

// lowerFloors puts back what raiseFloors has raised, in this run or in one that was cut
// off. It may be called again, and where nothing is raised.
func (d *DR) lowerFloors(ctx context.Context) (string, error) {
	if len(d.state.Raised) == 0 {
		return "nothing is raised", nil
	}
	raised := slices.Clone(d.state.Raised)
	lowered := make([]bool, len(raised))
	err := d.each(len(raised), func(i int) error {
		s := d.o.Graph.Stack(raised[i].Stack)
		if s == nil {
			return fmt.Errorf("the stack %s, which was raised, is not in the estate any more: put back %v by hand", raised[i].Stack, raised[i].Before)
		}
		_, err := d.stacks.Set(ctx, s, raised[i].Before)
		lowered[i] = err == nil
		return err
	})
	var told []string
	left := []Floor{}
	for i, f := range raised {
		if !lowered[i] {
			left = append(left, f)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(f.Before)) {
			told = append(told, fmt.Sprintf("%s %s -> %s", f.Stack, name, f.Before[name]))
		}
	}
	d.state.Raised = left
	return list(told), errors.Join(err, d.state.save())
}

// each does something for all of n at once, and returns all errors.
func (d *DR) each(n int, do func(i int) error) error {
	wrong := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { wrong[i] = do(i) })
	}
	all.Wait()
	return errors.Join(wrong...)
}
