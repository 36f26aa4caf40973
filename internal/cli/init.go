package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dhow/internal/estate"
	"dhow/internal/move"
)

func (a *app) initCommand() *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented estate file, dhow.yaml",
		Long: `Writes an estate file whose comments say what every key means, and beside it the
schema that lets an editor complete and check it. Change the names and addresses in
it; passwords stay where they are kept, the file only says where. Nothing is
connected to. A file that is there is not overwritten without --force.`,
		Example: `  dhow init

  # under another name
  dhow init --file staging.yaml`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.init(force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite an estate file that is there")
	return cmd
}

func (a *app) init(force bool) error {
	schema, err := estate.Schema()
	if err != nil {
		return err
	}
	state := filepath.Join(filepath.Dir(a.file), estate.DefaultState)
	schemaFile := filepath.Join(state, estate.SchemaFile)
	if err := writeNew(a.file, estate.Template(), force); err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("create the state folder: %w", err)
	}
	if err := os.WriteFile(schemaFile, schema, 0o600); err != nil { // generated: the newest is the right one
		return fmt.Errorf("write the schema: %w", err)
	}
	if a.json() {
		return a.printJSON(struct {
			Estate string `json:"estate"`
			Schema string `json:"schema"`
		}{a.file, schemaFile})
	}
	a.printf("wrote %s, and %s for your editor", a.file, schemaFile)
	a.printf("next: change the names and addresses in it, then run `dhow preflight`")
	return nil
}

// writeNew writes a file that must not be there yet, unless force is set.
func writeNew(path string, text []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &move.Refused{Reason: path + " is there already", Fix: "keep it, name another file with --file, or overwrite it with --force"}
	}
	if err != nil {
		return fmt.Errorf("write the estate file: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the estate file: %w", err)
	}
	return nil
}
