package service

import (
	"context"
	"log/slog"
	"time"
)

// Regularly does something now and after each pause, until ctx ends. What fails is
// logged; that a store or a service is away is told once.
func Regularly(ctx context.Context, log *slog.Logger, pause time.Duration, what string, do func() error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	waits := false
	for {
		err := do()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			waits = false
		case !Away(err) || !waits:
			waits = true
			log.Warn("could not "+what+"; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
