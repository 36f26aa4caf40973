// Command cluster runs a Kubernetes cluster of one node until it is interrupted, with
// a registry beside it, and says how to reach both. It is for looking around: the demo
// starts its own clusters.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/demo/kube"
	"dhow/superapp/images"
)

const (
	exitFailure = 1
	exitUsage   = 2
	// readyTimeout bounds the wait for the pods of the applied manifests.
	readyTimeout = 3 * time.Minute
)

type options struct {
	name, dir, port, then, apply, namespace string
}

func main() {
	var o options
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&o.name, "name", "local", "the node's `name`")
	flags.StringVar(&o.dir, "dir", ".dhow/cluster", "the cluster's `folder`, which must not exist")
	flags.StringVar(&o.port, "registry-port", "5000", "the `port` of the registry, on this machine's end of the cluster's link")
	flags.StringVar(&o.then, "then", "", "a shell `command` to run once the cluster is up, for example to push images; it has KUBECONFIG, REGISTRY, HOST and ADDRESS in its environment")
	flags.StringVar(&o.apply, "apply", "", "a `folder` of manifests to apply after that; ${REGISTRY} and ${HOST} in them are replaced")
	flags.StringVar(&o.namespace, "namespace", "default", "the namespace whose pods are waited for after that")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(exitUsage)
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "cluster: unknown argument %q\n", flags.Arg(0))
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) { // Ctrl-C is how it ends
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(exitFailure)
	}
}

func run(ctx context.Context, o options) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := kube.Up(ctx, kube.Options{Name: o.name, Dir: o.dir, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	registry := net.JoinHostPort(c.Host(), o.port)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", registry)
	if err != nil {
		return fmt.Errorf("listen for the registry: %w", err)
	}
	if err := c.TrustRegistry(registry); err != nil {
		return err
	}
	layers := filepath.Join(o.dir, "images")
	if err := os.Mkdir(layers, 0o700); err != nil {
		return fmt.Errorf("make a folder for the registry: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return images.Registry(ctx, listener, layers) })
	g.Go(func() error {
		if err := furnish(ctx, c, registry, o); err != nil {
			return err
		}
		fmt.Printf("export KUBECONFIG=%s\nregistry  %s\nNodePorts http://%s:<port>\nCtrl-C ends the cluster.\n", c.Kubeconfig(), registry, c.Address())
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}

// furnish runs the command and applies the manifests.
func furnish(ctx context.Context, c *kube.Local, registry string, o options) error {
	known := map[string]string{"KUBECONFIG": c.Kubeconfig(), "REGISTRY": registry, "HOST": c.Host(), "ADDRESS": c.Address()}
	if o.then != "" {
		cmd := exec.CommandContext(ctx, "sh", "-c", o.then)
		cmd.Env = os.Environ()
		for k, v := range known {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %q: %w", o.then, err)
		}
	}
	if o.apply == "" {
		return nil
	}
	manifests, err := kube.Files(os.DirFS(o.apply))
	if err != nil {
		return err
	}
	text := os.Expand(string(manifests), func(key string) string {
		if v, ok := known[key]; ok {
			return v
		}
		return "${" + key + "}"
	})
	if err := kube.Apply(ctx, c.Kubeconfig(), []byte(text)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	pods, err := kube.AwaitReady(ctx, c.Kubeconfig(), o.namespace)
	if err != nil {
		return err
	}
	fmt.Printf("%d pods are ready in namespace %s\n", pods, o.namespace)
	return nil
}
