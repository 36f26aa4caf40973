// Package check reads what clients were told and what the databases hold, and
// says where the two disagree: writes that were acknowledged and are missing,
// writes that were done twice, money that was made or lost, reads that went back
// in time, and two servers that took writes at once. It changes nothing. What it
// looks at and why that is a proof is in docs/checker.md.
package check

import (
	"context"
	"fmt"
	"time"

	"dhow/superapp/history"
)

// Defaults.
const (
	// DefaultSettle is how long payments that are still pending may take to be
	// resolved, before they are judged.
	DefaultSettle = 10 * time.Second
	// DefaultMost is how many findings of each kind are listed; all are counted.
	DefaultMost = 20
)

// Databases are the connection strings of the application's databases on one
// side. They hold passwords and reach no report and no error. Accounts and
// Payments are always needed; the others are checked when they are given.
type Databases struct{ Accounts, Payments, Transfers, Cards, Analytics string }

// Config says what to check.
type Config struct {
	// Histories are the files that clients wrote, by one clock.
	Histories []string
	// Serving is the side that serves now.
	Serving Databases
	// Sides, if set, asks for the audit of both sides.
	Sides *Sides
	// Settle bounds the wait for pending payments; below 0 means none, 0 the default.
	Settle time.Duration
	// Most bounds the listed findings of each kind; 0 means DefaultMost.
	Most int
	// Progress, if set, is told what is looked at next.
	Progress func(string)
}

// Sides are both servers, and how often the serving one was switched.
type Sides struct {
	Source, Target Databases
	// Switches is how often the serving side may have changed: 1 after a cutover, 2 after the way back.
	Switches int
}

// Run checks. Faults that it finds are in the report; the error says that it
// could not look.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Settle == 0 {
		cfg.Settle = DefaultSettle
	}
	if cfg.Most <= 0 {
		cfg.Most = DefaultMost
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	c := &checker{cfg: cfg, report: newReport(cfg.Most)}
	began := time.Now()
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	c.report.Seconds = time.Since(began).Seconds()
	c.report.conclude()
	return c.report, nil
}

// checker is one check.
type checker struct {
	cfg    Config
	report *Report
	files  []file
	// Snapshots of the serving side; nil where no address was given.
	accounts, payments, transfers, cards, analytics *database
	// sightings is how many versions of accounts the histories show.
	sightings int64
}

// file is a history up to the size that it had at the start.
type file struct {
	path string
	size int64
}

func (c *checker) run(ctx context.Context) error {
	// The histories end here: what is written later may not be in the snapshots.
	for _, path := range c.cfg.Histories {
		size, err := history.Size(path)
		if err != nil {
			return err
		}
		c.files = append(c.files, file{path, size})
	}
	// All that can be wrong with the addresses shows before any waiting.
	audit, err := c.openSides(ctx)
	if err != nil {
		return err
	}
	defer audit.close(ctx)
	if err := c.open(ctx); err != nil {
		return err
	}
	defer c.close(ctx)

	for _, step := range []struct {
		say string
		do  func(context.Context) error
	}{
		{"waiting for what is on its way", c.settle},
		{"taking snapshots", c.freeze},
		{"adding up the ledger", c.ledger},
		{"comparing payments with transfers", c.agree},
		{"comparing cards' movements with transfers", c.movements},
		{"comparing sends with holds and transfers", c.sends},
		{"comparing spending with what was counted", c.spending},
		{"comparing the history with the ledger", c.writes},
		{"looking for reads that went back in time", c.reads},
		{"auditing both sides", audit.run},
	} {
		c.cfg.Progress(step.say)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.say, err)
		}
	}
	return nil
}
