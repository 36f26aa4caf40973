package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

// writeReport writes what a run came to into the state folder, for programs and
// for people. before is the journal's last run before this one: a run that was
// refused before it began has no report.
func (r *run) writeReport(ctx context.Context, v *voyage.Voyage, journal *cutover.Journal, before *cutover.Run, failure error) error {
	last, err := journal.Last(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if last == nil || before != nil && last.ID == before.ID && before.Outcome != "" {
		return nil
	}
	r.id = last.ID
	doc := struct {
		Run    int64  `json:"run"`
		Estate string `json:"estate"`
		cutover.Result
		Budget time.Duration   `json:"budget_ns"`
		Began  time.Time       `json:"began"`
		Log    []cutover.Entry `json:"journal"`
		Error  string          `json:"error,omitempty"`
	}{Run: last.ID, Estate: v.Estate.Name, Result: r.result, Budget: r.budget, Began: last.Started, Log: last.Steps}
	if failure != nil {
		doc.Error = failure.Error()
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	name := filepath.Join(v.Estate.State, fmt.Sprintf("report-%d", last.ID))
	r.report, r.readable = name+".json", name+".md"
	const permissions = 0o600 // keys of rows may be in it
	if err := errors.Join(os.WriteFile(r.report, append(text, '\n'), permissions), os.WriteFile(r.readable, []byte(r.markdown(v.Estate.Name, last, failure)), permissions)); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// markdown is the report for people.
func (r *run) markdown(estate string, last *cutover.Run, failure error) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Run %d of estate %s: to the %s\n", last.ID, estate, r.to)
	switch {
	case r.result.Outcome == cutover.Done && failure == nil:
		line("The %s serves.\n", r.to)
	case r.result.Outcome == cutover.Done:
		line("The %s serves, but: %s\n", r.to, failure)
	case r.result.Outcome == cutover.Undone:
		line("Undone, the %s goes on as before. The reason: %v\n", r.to.Other(), failure)
	default:
		line("Not finished: run `dhow %s` again, it ends in a safe state. The reason: %v\n", command(r.to), failure)
	}
	if r.result.Recovered != "" {
		line("%s.\n", r.result.Recovered)
	}
	line("| | |\n|---|---|")
	line("| began | %s |", last.Started.Format(time.RFC3339))
	line("| stall predicted | %s |", took(r.result.Predicted))
	if !r.result.HeldAt.IsZero() {
		line("| requests held | %s, from %s to %s |", took(r.result.Stall), r.result.HeldAt.Format(time.RFC3339Nano), r.result.ReleasedAt.Format(time.RFC3339Nano))
	}
	line("| stall allowed | %s |\n", r.budget)
	if len(r.result.Steps) > 0 {
		line("## Steps\n\n| step | took | longest at |\n|---|---:|---|")
		for _, s := range r.result.Steps {
			line("| %s | %s | %s |", s.Step, took(s.Took), s.Slowest.Database)
		}
		line("")
	}
	r.comparison(line, "Compared while both sides moved, before", r.result.Before)
	r.comparison(line, "Proof: compared as it stood at the cutover", r.result.Compared)
	if len(r.result.Moving) > 0 {
		line("The snapshots of %s were lost: compared as both sides moved.\n", strings.Join(r.result.Moving, ", "))
	}
	return b.String()
}

func (r *run) comparison(line func(string, ...any), title string, all map[string]move.Comparison) {
	if len(all) == 0 {
		return
	}
	line("## %s\n\n| database | engine | tables | compared | different | took |\n|---|---|---:|---:|---:|---:|", title)
	for _, name := range sortedKeys(all) {
		c, e := all[name], r.app.engineOf(name)
		line("| %s | %s | %s | %s | %s | %s |", name, e, rows(int64(c.Tables)), counted(c.Rows, noun(e)), rows(c.Different), took(c.Took))
	}
	line("")
	tables := false
	for _, name := range sortedKeys(all) {
		for _, b := range all[name].ByTable {
			if !tables {
				line("| database | table | compared | different | took |\n|---|---|---:|---:|---:|")
				tables = true
			}
			line("| %s | %s | %s | %s | %s |", name, strings.ReplaceAll(b.Table, "|", "\\|"), counted(b.Rows, noun(r.app.engineOf(name))), rows(b.Different), took(b.Took))
		}
	}
	if tables {
		line("")
	}
	for _, name := range sortedKeys(all) {
		for _, d := range all[name].Differences {
			line("- %s: %s `%s`: %s", name, d.Table, strings.ReplaceAll(d.Key, "`", "'"), differs(d.Kind, r.to))
		}
	}
	line("")
}
