package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/move"
)

// mostCompared is how many tables are listed one by one on a terminal: an estate
// has hundreds, of which those that differ and those that took longest are
// read. The report and the JSON have all.
const mostCompared = 40

// printRehearsal prints what a cutover would come to.
func (a *app) printRehearsal(r *run, err error) error {
	if err != nil {
		return err
	}
	over := r.result.Predicted > r.budget
	if a.json() {
		err = a.printJSON(struct {
			To         cutover.Side               `json:"to"`
			DryRun     bool                       `json:"dry_run"`
			Predicted  time.Duration              `json:"predicted_ns"`
			Rehearsed  map[string]move.Rehearsal  `json:"rehearsed"`
			Slowest    string                     `json:"slowest"`
			Budget     time.Duration              `json:"budget_ns"`
			OverBudget bool                       `json:"over_budget"`
			Before     map[string]move.Comparison `json:"before,omitempty"`
		}{r.to, true, r.result.Predicted, r.result.Rehearsed, slowest(r.result.Rehearsed), r.budget, over, r.result.Before})
	} else {
		paint := a.out.green
		if over {
			paint = a.out.red
		}
		err = errors.Join(a.printProof("compared while both sides move", r.to, r.result.Before), a.printRehearsed(r.result.Rehearsed))
		a.printf("requests would be held for about %s, of the %s allowed", paint(took(r.result.Predicted)), r.budget)
		a.printf("nothing was held, fenced or moved")
	}
	if over {
		err = errors.Join(err, fmt.Errorf("%w: `dhow %s` would refuse: raise cutover.stall_budget, or lessen the load", cutover.ErrOverBudget, command(r.to)))
	}
	return err
}

// printRehearsed prints what each database adds to the stall.
func (a *app) printRehearsed(all map[string]move.Rehearsal) error {
	if len(all) == 0 {
		return nil
	}
	worst := slowest(all)
	t := &table{head: []string{"DATABASE", "ENGINE", "BEHIND BY", "SEAL", ""}}
	for _, name := range sortedKeys(all) {
		note := ""
		if name == worst && len(all) > 1 {
			note = "the slowest"
		}
		t.add(plain(name), plain(string(a.engineOf(name))), number(took(all[name].Lag)), number(took(all[name].Seal)), plain(note))
	}
	return a.printTable(t)
}

// slowest is the database that all others will wait for; the first by name of equals.
func slowest(all map[string]move.Rehearsal) string {
	worst := ""
	for _, name := range sortedKeys(all) {
		if r := all[name]; worst == "" || r.Lag+r.Seal > all[worst].Lag+all[worst].Seal {
			worst = name
		}
	}
	return worst
}

// printProof prints a comparison of a run; nothing where there was none.
func (a *app) printProof(title string, to cutover.Side, all map[string]move.Comparison) error {
	if len(all) == 0 {
		return nil
	}
	a.printf("%s:", title)
	found := make([]compared, 0, len(all))
	for _, name := range sortedKeys(all) {
		found = append(found, compared{Database: name, Engine: a.engineOf(name), Comparison: all[name]})
	}
	t := &table{head: []string{"DATABASE", "ENGINE", "TABLES", "COMPARED", "DIFFERENT", "TOOK"}}
	for _, f := range found {
		paint := a.out.green
		if f.Different > 0 {
			paint = a.out.red
		}
		t.add(plain(f.Database), plain(string(f.Engine)), number(rows(int64(f.Tables))), number(counted(f.Rows, noun(f.Engine))), cell{text: rows(f.Different), paint: paint, right: true}, number(took(f.Took)))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if err := a.printByTable(found); err != nil {
		return err
	}
	return a.printDifferences(to, found)
}

// printMoving says of which databases the proof is weaker.
func (a *app) printMoving(databases []string) {
	if len(databases) > 0 {
		a.printf("the snapshots of %s were lost: compared as both sides moved", strings.Join(databases, ", "))
	}
}

// tableShare is a table's share of a comparison, with its database.
type tableShare struct {
	in compared
	move.TableComparison
}

// printByTable prints the tables and key spaces one by one; of many those that
// differ and those that took longest.
func (a *app) printByTable(found []compared) error {
	var all []tableShare
	for _, f := range found {
		for _, b := range f.ByTable {
			all = append(all, tableShare{f, b})
		}
	}
	if len(all) == 0 {
		return nil
	}
	shown := busiestShares(all)
	t := &table{head: []string{"DATABASE", "TABLE", "COMPARED", "DIFFERENT", "TOOK"}}
	for _, s := range shown {
		paint := a.out.green
		if s.Different > 0 {
			paint = a.out.red
		}
		t.add(plain(s.in.Database), plain(s.Table), number(counted(s.Rows, noun(s.in.Engine))), cell{text: rows(s.Different), paint: paint, right: true}, number(took(s.Took)))
	}
	a.printf("")
	if err := a.printTable(t); err != nil {
		return err
	}
	if more := len(all) - len(shown); more > 0 {
		a.printf("and %s more, all equal: -o json lists them", counted(int64(more), "table"))
	}
	return nil
}

// busiestShares are all, where they are few; else those that differ and, up to
// the bound, those that took longest. They keep their order.
func busiestShares(all []tableShare) []tableShare {
	if len(all) <= mostCompared {
		return all
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		differs := func(i int) int { return int(min(all[i].Different, 1)) }
		return cmp.Or(cmp.Compare(differs(y), differs(x)), cmp.Compare(all[y].Took, all[x].Took))
	})
	keep := mostCompared
	for keep < len(order) && all[order[keep]].Different > 0 {
		keep++
	}
	order = order[:keep]
	slices.Sort(order)
	shown := make([]tableShare, keep)
	for i, at := range order {
		shown[i] = all[at]
	}
	return shown
}

// things counts rows or keys of what was found, as those databases hold that
// have something to tell.
func things(n int64, found []compared) string {
	names := map[string]bool{}
	for _, f := range found {
		if f.Different > 0 || f.Undecided > 0 {
			names[noun(f.Engine)] = true
		}
	}
	if len(names) > 1 {
		return counted(n, "row") + " or keys"
	}
	for only := range names {
		return counted(n, only)
	}
	return counted(n, "row")
}
