package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what this binary is built of.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Modified says that the sources were changed since the revision.
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readVersion() version {
	v := version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which dhow this is",
		Long: `Prints the version, the revision of the sources, and what built them. Name it
in a report of a fault.`,
		Example: `  dhow version

  # for a program
  dhow version -o json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if a.json() {
				return a.printJSON(v)
			}
			a.printf("dhow %s", v.Version)
			if v.Revision != "" {
				changed := ""
				if v.Modified {
					changed = ", with changes"
				}
				a.printf("revision %s of %s%s", v.Revision, v.Time, changed)
			}
			a.printf("built with %s for %s", v.Go, v.Platform)
			return nil
		},
	}
}
