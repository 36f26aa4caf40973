package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/estate"
	"dhow/internal/voyage"
)

// completeTime bounds what a completion asks a server: somebody waits at the key.
const completeTime = 3 * time.Second

// databaseFlag adds the flag that confines a command to some databases.
func (a *app) databaseFlag(cmd *cobra.Command, chosen *[]string) {
	cmd.Flags().StringArrayVar(chosen, "database", nil, "only this `database` of the estate; may be given again")
	_ = cmd.RegisterFlagCompletionFunc("database", func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		e, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return remaining(databaseNames(e), *chosen, begun), cobra.ShellCompDirectiveNoFileComp
	}) // fails for an unknown flag alone
}

// remaining are the names that begin as was typed and are not given yet.
func remaining(names, given []string, begun string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, begun) || slices.Contains(given, n) })
}

// tableFlag adds the flag that confines a command to some tables of the chosen database.
func (a *app) tableFlag(cmd *cobra.Command, chosen, databases *[]string) {
	cmd.Flags().StringArrayVar(chosen, "table", nil, "only this `table`, as schema.table, or key space, as db0; may be given again")
	_ = cmd.RegisterFlagCompletionFunc("table", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, err := a.tables(cmd.Context(), *databases)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return remaining(names, *chosen, begun), cobra.ShellCompDirectiveNoFileComp
	})
}

// tables are the tables of the chosen databases, as their sources name them.
func (a *app) tables(ctx context.Context, databases []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	v, err := a.open(ctx, databases...)
	if err != nil {
		return nil, err
	}
	defer v.Close(ctx)
	var all []string
	for _, d := range v.Estate.Databases {
		names, err := v.Tables(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// load reads the estate file.
func (a *app) load() (*estate.Estate, error) {
	e, err := estate.Load(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingFileError{a.file}
	}
	return e, err
}

// open reads the estate file and makes what it describes, as chosen does.
func (a *app) open(ctx context.Context, databases ...string) (*voyage.Voyage, error) {
	e, err := a.chosen(databases...)
	if err != nil {
		return nil, err
	}
	return voyage.Open(ctx, e, voyage.Options{Log: a.log})
}

// chosen reads the estate file, of the named databases alone where any are: what the
// others need is not asked for.
func (a *app) chosen(databases ...string) (*estate.Estate, error) {
	e, err := a.load()
	if err != nil {
		return nil, err
	}
	if len(e.Databases) == 0 {
		return nil, (&estate.Invalid{File: e.File, Problems: []estate.Problem{{Line: 1, Column: 1, Path: "databases", Text: "there is no database to move: name at least one, with its source and target"}}})
	}
	if len(databases) > 0 {
		known := databaseNames(e)
		for _, d := range databases {
			if !slices.Contains(known, d) {
				return nil, &usageError{text: fmt.Sprintf("there is no database %q in %s%s; it has %s", d, e.File, didYouMean(near(d, known)), strings.Join(known, ", "))}
			}
		}
		e.Databases = slices.DeleteFunc(e.Databases, func(d estate.Database) bool { return !slices.Contains(databases, d.Name) })
	}
	a.engines = make(map[string]estate.Engine, len(e.Databases))
	for _, d := range e.Databases {
		a.engines[d.Name] = d.Engine
	}
	return e, nil
}

func databaseNames(e *estate.Estate) []string {
	names := make([]string, len(e.Databases))
	for i, d := range e.Databases {
		names[i] = d.Name
	}
	return names
}

// suggestWithin is how many letters a name may be away from what was typed.
const suggestWithin = 2

// near are the names that were probably meant, as cobra finds commands.
func near(typed string, known []string) []string {
	all := &cobra.Command{SuggestionsMinimumDistance: suggestWithin}
	for _, name := range known {
		all.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return all.SuggestionsFor(typed)
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}
