// Images builds the super-app's container images, without a container engine,
// and writes them to a registry, a folder or a file. `make images` calls it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dhow/superapp/images"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

const (
	// localPrefix names images that no registry holds.
	localPrefix = "localhost/superapp"
	formatTable = "table"
	formatJSON  = "json"
)

// errUsage marks a mistake in how the command was called.
var errUsage = errors.New("see `images --help`")

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := command().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "images: %v\n", err)
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailure
}

// flags are what is asked for.
type flags struct {
	build                          images.Options
	push, prefix, tag              string
	layout, tarball, sboms, format string
	insecure                       bool
}

func command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "images [SERVICE...]",
		Short: "Build the super-app's container images, without a container engine",
		Long: `Builds an image of each service, or of those that are named, and one of the tools.
The same sources give the same digests. Without a place to write to, it prints them.
A registry's credentials are those that ` + "`docker login`" + ` keeps.`,
		Example: "  images --push 127.0.0.1:5000/superapp --tag v1\n" +
			"  images --oci-layout images.d accounts payments -o json",
		ValidArgs:     names(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.format != formatTable && f.format != formatJSON {
				return fmt.Errorf("-o is %q: give %s or %s: %w", f.format, formatTable, formatJSON, errUsage)
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error { return usage(cmd, cobra.OnlyValidArgs(cmd, args)) }
	cmd.SetFlagErrorFunc(usage)
	p := cmd.Flags()
	p.StringVar(&f.push, "push", "", "`REGISTRY/PREFIX` to push to")
	p.BoolVar(&f.insecure, "insecure", false, "push over plain HTTP; with this machine and private networks it is tried anyway")
	p.StringVar(&f.layout, "oci-layout", "", "`folder` that gets the images as an OCI image layout")
	p.StringVar(&f.tarball, "tarball", "", "`file` that gets the OCI image layout, for `ctr images import` and others")
	p.StringVar(&f.prefix, "prefix", localPrefix, "`REGISTRY/PREFIX` in the names of images in a layout or tarball")
	p.StringVar(&f.sboms, "sbom", "", "`folder` that gets each image's bill of materials, NAME.spdx.json")
	p.StringVar(&f.tag, "tag", "latest", "`tag` of the images")
	p.StringVar(&f.build.Arch, "arch", images.DefaultArch, "`processor`: amd64 or arm64")
	p.StringVar(&f.build.Version, "version", "", "`text` of the images' version label")
	p.StringVar(&f.build.Revision, "revision", "", "`text` of the images' revision label")
	p.StringVarP(&f.format, "output", "o", formatTable, "`format`: table or json")
	return cmd
}

func usage(_ *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", err, errUsage)
}

func names() []string {
	var all []string
	for _, s := range images.Superapp() {
		all = append(all, s.Name)
	}
	return all
}

func (f flags) run(ctx context.Context, out io.Writer, wanted []string) error {
	specs := images.Superapp()
	if len(wanted) > 0 {
		specs = specs[:0]
		for _, s := range images.Superapp() {
			if slices.Contains(wanted, s.Name) {
				specs = append(specs, s)
			}
		}
	}
	built, err := images.Build(ctx, f.build, specs...)
	if err != nil {
		return err
	}
	if err := f.write(ctx, built); err != nil {
		return err
	}
	return f.print(out, built)
}

func (f flags) write(ctx context.Context, built []images.Image) error {
	if f.push != "" {
		if _, err := images.Push(ctx, images.Target{Prefix: f.push, Tag: f.tag, Insecure: f.insecure}, built...); err != nil {
			return err
		}
	}
	local := images.Target{Prefix: f.prefix, Tag: f.tag}
	if f.layout != "" {
		if err := images.WriteLayout(f.layout, local, built...); err != nil {
			return err
		}
	}
	if f.tarball != "" {
		if err := images.WriteTarball(f.tarball, local, built...); err != nil {
			return err
		}
	}
	if f.sboms != "" {
		return images.WriteSBOMs(f.sboms, built...)
	}
	return nil
}

// row is what is printed of an image.
type row struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Size is in bytes, as a registry keeps it.
	Size int64 `json:"size"`
}

func (f flags) print(out io.Writer, built []images.Image) error {
	rows := make([]row, 0, len(built))
	for _, i := range built {
		digest, err := i.Digest()
		if err != nil {
			return fmt.Errorf("take the digest of %s: %w", i.Name, err)
		}
		size, err := i.LoadSize()
		if err != nil {
			return err
		}
		rows = append(rows, row{Name: i.Name, Digest: digest.String(), Size: size})
	}
	if f.format == formatJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	var text strings.Builder
	text.WriteString("NAME\tDIGEST\tSIZE\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "%s\t%s\t%s\n", r.Name, r.Digest, humanize.Bytes(uint64(r.Size)))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	return w.Flush()
}
