package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/superapp/fleet"
)

// MooringOptions say what to leave in a cluster to look at.
type MooringOptions struct {
	// Dir takes the cluster and the logs; it must not exist, or be empty.
	Dir      string
	Superapp string
	// Customers are those of the application; Empty leaves the application out.
	Customers int
	Empty     bool
	Say       func(string, ...any)
}

// Mooring is a cluster to look at.
type Mooring struct {
	Kubeconfig string
	// Address is the node's, Registry that of the images: host and port.
	Address, Registry string
}

// Moor runs one cluster with the old deployment of the application until ctx ends.
// It tells ready where it is. All of it is gone when Moor returns.
func Moor(ctx context.Context, o MooringOptions, ready func(Mooring)) (err error) {
	lock, err := cutover.TakeLock(o.Dir+".lock", "cluster")
	if err != nil {
		return err
	}
	defer lock.Release()
	defer func() {
		_ = os.Remove(o.Dir) // empty by now, or not ours to remove
	}()
	h, err := OpenHarbour(ctx, o.Dir, o.Say, estate.Source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }() //nolint:contextcheck // also when ctx has ended
	d := h.docks[estate.Source]
	if !o.Empty {
		f, err := fleet.Beside(ctx, fleet.Config{Superapp: o.Superapp, Dir: filepath.Join(o.Dir, "logs"), Customers: o.Customers, Host: d.Host(), Say: func(text string) { o.Say("%s", text) }})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close(), os.RemoveAll(filepath.Join(o.Dir, "logs"))) }() //nolint:contextcheck // also when ctx has ended
		o.Say("deploying the application")
		if err := d.Start(ctx, fleet.Services(), f.Stores); err != nil {
			return err
		}
		o.Say("%d pods are ready", d.pods)
	}
	ready(Mooring{Kubeconfig: d.cluster.Kubeconfig(), Address: d.cluster.Address(), Registry: d.registry})
	<-ctx.Done()
	return fmt.Errorf("the cluster ends: %w", ctx.Err())
}
