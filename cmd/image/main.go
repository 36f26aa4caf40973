// Image builds dhow's own container image, without a container engine, and pushes
// it to a registry or writes it to a file. It prints the image's name by digest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"dhow/internal/image"
	"dhow/superapp/images"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	default:
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(exitFailure)
	}
}

// errUsage says that the command was called wrongly; why has been printed.
var errUsage = errors.New("see image -h")

func run(ctx context.Context, args []string) error {
	var o images.Options
	var to images.Target
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&to.Prefix, "push", "", "push to `REGISTRY/PREFIX`, with the credentials that docker login keeps")
	tarball := flags.String("tarball", "", "write an OCI image layout into a `file`, for ctr images import and others")
	flags.StringVar(&to.Tag, "tag", "latest", "the image's `tag`")
	flags.BoolVar(&to.Insecure, "insecure", false, "push over plain HTTP; with this machine and private networks it is tried anyway")
	flags.StringVar(&o.Arch, "arch", images.DefaultArch, "the `processor`, which is that of this machine: amd64 or arm64")
	flags.StringVar(&o.Version, "version", "", "the `text` of the version label")
	sbom := flags.String("sbom", "", "write the bill of materials into a `folder`")
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "image: no arguments are taken, and %q was given: see image -h\n", flags.Args())
		return errUsage
	}
	built, err := image.Build(ctx, o, "/")
	if err != nil {
		return err
	}
	if *sbom != "" {
		if err := images.WriteSBOMs(*sbom, built); err != nil {
			return err
		}
	}
	if *tarball != "" {
		local := to
		if local.Prefix == "" {
			local.Prefix = "localhost"
		}
		if err := images.WriteTarball(*tarball, local, built); err != nil {
			return err
		}
	}
	if to.Prefix != "" {
		refs, err := images.Push(ctx, to, built)
		if err != nil {
			return err
		}
		fmt.Println(refs[image.Name])
		return nil
	}
	digest, err := built.Digest()
	if err != nil {
		return fmt.Errorf("take the image's digest: %w", err)
	}
	fmt.Println(digest)
	return nil
}
