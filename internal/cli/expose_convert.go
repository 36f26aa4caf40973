package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dhow/api/v1alpha1"
	"dhow/internal/expose"
)

// ladder are the weights as they were typed; text says what is wrong with them.
func (f *exposeFlags) ladder() (all []int, text string) {
	for _, typed := range list(f.weights) {
		n, err := strconv.Atoi(typed)
		if err != nil {
			return nil, fmt.Sprintf("--weights %q: want the old way's weights in percent, such as 90,50,0", f.weights)
		}
		all = append(all, n)
	}
	return all, ""
}

// options are those of a conversion.
func (f *exposeFlags) options(namespace, name string) (expose.Options, error) {
	o := expose.Options{From: f.from, Namespace: namespace, Name: name, Every: f.every, Wait: f.wait, Remove: f.remove, ByHand: f.byHand,
		Wish: expose.Wish{Visibility: v1alpha1.Visibility(f.visibility), Hosts: f.hosts, Certificates: f.certificates, Accept: f.accept}}
	o.Weights, _ = f.ladder() // which has been looked at before
	if !f.noProbe {
		o.Probe, o.Leads = expose.Prober{}.Probe, expose.Prober{}.Leads
	}
	if f.prometheus != "" {
		var err error
		if o.Traffic, err = expose.Traffic(f.prometheus, f.traffic); err != nil {
			return o, err
		}
	}
	return o, nil
}

// convert shows a conversion, and goes on with it as far as it gets.
func (a *app) convert(ctx context.Context, c expose.Cluster, look expose.Operator, namespace, name string, f exposeFlags) error {
	o, err := f.options(namespace, name)
	if err != nil {
		return exposeUsage(err)
	}
	o.Tell = a.tellStep
	if f.undo {
		return a.undoConversion(ctx, c, look, o, f.yes)
	}
	p, err := expose.Look(ctx, c, look, o)
	if err != nil {
		return exposeUsage(err)
	}
	if f.dryRun || a.output == outputTable {
		if err := a.printConversion(p, f.dryRun); err != nil {
			return err
		}
	}
	if refused := p.Refused(); len(refused) > 0 {
		return exposeUsage(&expose.RefusedError{Items: refused})
	}
	if f.dryRun {
		return nil
	}
	if err := a.agreed(ctx, f.yes, fmt.Sprintf("Go on with the conversion of %s %s?", p.Kind, p.Name)); err != nil {
		return err
	}
	p, err = expose.Run(ctx, c, look, o)
	return a.endConversion(p, err)
}

// agreed asks before anything is changed.
func (a *app) agreed(ctx context.Context, yes bool, question string) error {
	if err := a.mayAsk("expose", yes); err != nil || yes {
		return err
	}
	return a.confirm(ctx, question)
}

func (a *app) tellStep(s expose.Step, text string) {
	if a.output == outputTable {
		a.printf("%s  %-6s  %s", time.Now().Format(clock), s, text)
	}
}

func (a *app) undoConversion(ctx context.Context, c expose.Cluster, look expose.Operator, o expose.Options, yes bool) error {
	if err := a.agreed(ctx, yes, fmt.Sprintf("Lead everybody by the %s %s again, and remove what was made beside it?", o.From, o.Name)); err != nil {
		return err
	}
	p, err := expose.Undo(ctx, c, look, o)
	if err == nil && p.Next == "" && !a.json() {
		a.printf("everything is as it was before")
		return nil
	}
	return a.endConversion(p, err)
}

// endConversion says where a conversion stands.
func (a *app) endConversion(p *expose.Progress, err error) error {
	if a.json() && p != nil {
		return errors.Join(a.printJSON(p), exposeUsage(err))
	}
	if err != nil {
		return exposeUsage(err)
	}
	switch {
	case p.Next != "":
		a.printf("%s %s", a.out.bold("next:"), p.Next)
	case p.Step == expose.StepDone:
		a.printf("%s %s %s is converted: %s", a.out.green("done:"), p.Kind, p.Name, strings.Join(p.Addresses, ", "))
	}
	return nil
}

// printConversion prints what becomes of an object, and with the steps what each would do.
func (a *app) printConversion(p *expose.Progress, whole bool) error {
	switch a.output {
	case outputJSON:
		return a.printJSON(p)
	case outputYAML:
		all, err := p.Manifests()
		if err != nil {
			return err
		}
		for _, m := range all {
			if err := a.printDocument(m); err != nil {
				return err
			}
		}
		return nil
	}
	a.printf("%s of namespace %s: the next step is %s", a.out.bold(p.Kind+" "+p.Name), p.Namespace, p.Step)
	if err := errors.Join(a.printItems("carried over in another form", p.Carried, false), a.printItems("lost", p.Lost, true)); err != nil {
		return err
	}
	if p.ByHand != "" {
		a.printf("")
		a.printf("%s its names are moved by hand: %s", a.out.yellow("note:"), p.ByHand)
	}
	if !whole {
		a.printf("")
		return nil
	}
	for n, s := range p.Steps {
		a.printf("")
		done := ""
		if s.Done {
			done = a.out.green(" (done)")
		}
		a.printf("%s%s", a.out.bold(fmt.Sprintf("%d %s", n+1, s.Step)), done)
		for _, text := range s.Text {
			a.printf("  %s", text)
		}
		if s.Diff != "" {
			a.printf("%s", a.colouredDiff(s.Diff))
		}
	}
	return nil
}

// printItems prints what is carried over, or lost.
func (a *app) printItems(title string, all []expose.Item, lost bool) error {
	if len(all) == 0 {
		return nil
	}
	a.printf("")
	a.printf("%s", a.out.bold(title))
	t := &table{wrap: map[int]bool{2: true}}
	for _, i := range all {
		mark := cell{}
		switch {
		case lost && i.Accepted:
			mark = cell{text: "accepted", paint: a.out.yellow}
		case lost:
			mark = cell{text: "not accepted", paint: a.out.red}
		}
		t.add(plain("  "+i.Name), mark, plain(i.Text))
	}
	return a.printTable(t)
}
