package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"dhow/internal/assess"
	"dhow/internal/estate"
	"dhow/internal/inquire"
	"dhow/internal/inventory"
	"dhow/internal/voyage"
)

// learnDatabases asks databases what they are, where that is wanted, and lets the movers
// look at those of an estate. What fails is a problem of the inventory.
func (a *app) learnDatabases(ctx context.Context, inv *inventory.Inventory, f sourceFlags) ([]assess.Preflight, error) {
	var e *estate.Estate
	if f.estate != "" {
		var err error
		a.file = f.estate
		if e, err = a.load(); err != nil {
			return nil, err
		}
	}
	if f.ask {
		o := inquire.Options{Estate: e}
		if f.live() {
			secrets, err := inquire.NewClusterSecrets(f.kubeconfig, f.context)
			if err != nil {
				return nil, err
			}
			o.Secrets = secrets
		}
		if err := inquire.Databases(ctx, inv, o); err != nil {
			return nil, err
		}
	}
	if e == nil {
		return nil, nil
	}
	return a.preflights(ctx, inv, e)
}

// preflights are what the movers of an estate find.
func (a *app) preflights(ctx context.Context, inv *inventory.Inventory, e *estate.Estate) ([]assess.Preflight, error) {
	lost := func(what string, err error) inventory.Problem {
		return inventory.Problem{File: e.File, What: what + strings.Join(strings.Fields(err.Error()), " "), Do: "see that `dhow preflight -f " + e.File + "` works", Lost: true}
	}
	v, err := voyage.Open(ctx, e, voyage.Options{Log: a.log})
	if err != nil {
		inv.Learn(nil, []inventory.Problem{lost("the preflight could not begin: ", err)})
		return nil, ctx.Err()
	}
	defer v.Close(ctx)
	var all []assess.Preflight
	var problems []inventory.Problem
	for _, one := range inspect(ctx, v) {
		if one.err != nil {
			problems = append(problems, lost("the preflight is not whole: ", one.err))
		}
		all = append(all, assess.Preflight{Database: one.Database, Engine: one.Engine, File: e.File, Issues: one.Issues})
	}
	inv.Learn(nil, problems)
	return all, ctx.Err()
}

// printAnswers prints what databases said of themselves.
func (a *app) printAnswers(all []inventory.Database) error {
	t := &table{head: []string{"DATABASE", "SERVER", "SIZE", "ITEMS", "CONNECTIONS", "LOAD", "EXTENSIONS"}, wrap: map[int]bool{6: true}}
	asked := 0
	for i := range all {
		d := &all[i]
		if d.Answers == nil {
			continue
		}
		asked++
		name := fmt.Sprintf("%s:%d", d.Host, d.Port)
		if d.Name != "" {
			name = d.Name + " at " + name
		}
		load := "-"
		if d.Answers.Over > 0 {
			load = fmt.Sprintf("%.1f/s over %s", d.Answers.PerSecond, d.Answers.Over.Round(time.Second))
		}
		t.add(plain(name), plain(d.Answers.Product+" "+d.Answers.Version), plain(humanize.IBytes(uint64(max(d.Answers.Bytes, 0)))), plain(humanize.Comma(d.Answers.Items)),
			plain(fmt.Sprintf("%d of %d", d.Answers.Connections, d.Answers.MaxConnections)), plain(load), plain(strings.Join(d.Answers.Extensions, ", ")))
	}
	if asked == 0 {
		return nil
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	a.printf("")
	return nil
}
