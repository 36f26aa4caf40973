package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/cutover"
	"dhow/internal/demo"
	"dhow/internal/estate"
	"dhow/tests/wire"
)

// The faults of one stage, one after the other: each leaves the application
// whole, on one side or the other, and the checker is asked after each.
func TestFaults(t *testing.T) {
	wires := map[estate.Side]bundle{estate.Source: {}, estate.Target: {}}
	shared := newTrip(t, demo.StageConfig{Whole: true, Accounts: 2000, Entries: 10_000, Quick: true,
		Address: func(side estate.Side, engine estate.Engine, server string) string {
			wires[side][engine] = wire.New(t, server)
			return wires[side][engine].Address()
		}})
	shared.ticks()
	shared.depart()
	cutAt := func(step cutover.Step) func(*trip, estate.Side) {
		return func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(step, to)
			wires[tr.serving].Cut()
			goOn()
			if err := tr.ended(c); err == nil {
				tr.t.Fatalf("it arrived without a source: %s", c.output())
			}
			tr.goesOn(tr.serving)
			wires[tr.serving].Heal()
			tr.arrive(to)
		}
	}

	// stuck is one engine that does not get to its marker: all go back.
	stuck := func(engine estate.Engine) func(*trip, estate.Side) {
		return func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepCatchUp, to)
			wires[estate.Source][engine].Partition()
			wires[estate.Target][engine].Partition()
			goOn()
			if err := tr.ended(c); err == nil {
				tr.t.Fatalf("it arrived without %s: %s", engine, c.output())
			}
			tr.goesOn(tr.serving)
			wires[estate.Source][engine].Heal()
			wires[estate.Target][engine].Heal()
			tr.arrive(to)
		}
	}

	type fault struct {
		name string
		do   func(tr *trip, to estate.Side)
	}
	faults := []fault{
		{"the source's connection is cut in the stream", func(tr *trip, to estate.Side) {
			c := tr.replicating()
			wires[tr.serving].Cut()
			tr.goesOn(tr.serving) // the application has its own way to the server
			wires[tr.serving].Heal()
			tr.arrive(to)
			if err := tr.ended(c); err != nil { // it handed over, and did not fail
				tr.t.Errorf("the replication failed: %v\n%s", err, c.output())
			}
		}},
		{"the source's connection is cut behind the fence", cutAt(cutover.StepCatchUp)},
		{"the source's connection is cut at the seal", cutAt(cutover.StepSeal)},
		{"the source's connection is cut behind the point of no return", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepOpen, to)
			wires[tr.serving].Cut()
			goOn()
			time.AfterFunc(time.Second, wires[tr.serving].Heal)
			if err := tr.ended(c); err != nil {
				tr.t.Fatalf("it did not go on: %v\n%s", err, c.output())
			}
			tr.at(to)
		}},
		{"the target is restarted in the stream", func(tr *trip, to estate.Side) {
			c := tr.replicating()
			tr.restart(to)
			tr.goesOn(tr.serving)
			tr.arrive(to)
			if err := tr.ended(c); err != nil {
				tr.t.Errorf("the replication failed: %v\n%s", err, c.output())
			}
		}},
		{"the target is restarted at the seal", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepSeal, to)
			tr.restart(to)
			goOn()
			if err := tr.ended(c); err != nil { // in time, new sessions do
				tr.goesOn(tr.serving)
				tr.arrive(to)
			}
			tr.at(to)
		}},
		{"the target is restarted behind the point of no return", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepOpen, to)
			tr.restart(to)
			goOn()
			if err := tr.ended(c); err != nil {
				tr.t.Logf("it must be started again: %v\n%s", err, c.output())
				tr.arrive(to)
			}
			tr.at(to)
		}},
		{"a partition behind the fence", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepCatchUp, to)
			wires[estate.Source].Partition()
			wires[estate.Target].Partition()
			goOn()
			tr.goesOn(tr.serving) // the fence vanishes though nobody can take it away
			if err := tr.ended(c); err == nil {
				tr.t.Fatalf("it arrived through a partition: %s", c.output())
			}
			wires[estate.Source].Heal()
			wires[estate.Target].Heal()
			tr.arrive(to)
		}},
		{"a partition in the stream", func(tr *trip, to estate.Side) {
			tr.replicating()
			wires[tr.serving].Partition()
			tr.goesOn(tr.serving)
			wires[tr.serving].Heal()
			tr.arrive(to)
		}},
		{"the gate is killed while it holds", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepFence, to)
			tr.stage.KillGate()
			goOn()
			err := tr.ended(c)
			if serr := tr.stage.StartGate(tr.t.Context()); serr != nil {
				tr.t.Fatal(serr)
			}
			if err != nil {
				tr.arrive(to)
			}
			tr.at(to)
		}},
		{"the gate is killed behind the point of no return", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepSwitch, to)
			tr.stage.KillGate()
			goOn()
			restarted := make(chan error, 1)
			go func() { restarted <- tr.stage.StartGate(tr.t.Context()) }()
			err := tr.ended(c)
			if serr := <-restarted; serr != nil {
				tr.t.Fatal(serr)
			}
			if err != nil {
				tr.t.Fatalf("it did not go on: %v\n%s", err, c.output())
			}
			tr.at(to)
		}},
		{"a step outlasts the stall budget", func(tr *trip, to estate.Side) {
			c, goOn := tr.pausedAt(cutover.StepPin, to)
			time.Sleep(budget)
			goOn()
			if err := tr.ended(c); err == nil || !strings.Contains(c.output(), "undone") {
				tr.t.Fatalf("it was not undone: %v\n%s", err, c.output())
			}
			tr.at(to.Other())
			tr.goesOn(tr.serving)
			tr.arrive(to)
		}},
		{"a stall budget that can not be met", func(tr *trip, to estate.Side) {
			back := tr.budgeted(time.Millisecond)
			out, err := tr.dhow(verb(to), "--yes")
			if err == nil || !strings.Contains(out, cutover.ErrOverBudget.Error()) {
				tr.t.Fatalf("it was not refused: %v\n%s", err, out)
			}
			back()
			tr.at(to.Other())
			tr.goesOn(tr.serving)
			tr.arrive(to)
		}},
		{"Redis can not catch up", stuck(estate.Redis)},
		{"MariaDB can not catch up", stuck(estate.MariaDB)},
		{"the pause of Redis expires", func(tr *trip, to estate.Side) {
			back := tr.budgeted(time.Minute) // else that would end the run
			c, goOn := tr.pausedAt(cutover.StepSeal, to)
			if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				tr.t.Fatal(err)
			}
			tr.await("a write to Redis though it is fenced", time.Minute, func() bool { return tr.writesRedis(tr.serving) })
			goOn()
			if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				tr.t.Fatal(err)
			}
			if err := tr.ended(c); err == nil || !strings.Contains(c.output(), "undone") {
				tr.t.Fatalf("it was not undone: %v\n%s", err, c.output())
			}
			back()
			tr.at(to.Other())
			tr.goesOn(tr.serving)
			tr.arrive(to)
		}},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			tr := shared.on(t)
			to := tr.serving.Other()
			fault.do(tr, to)
			tr.goesOn(to)
			tr.check()
		})
		shared.on(t)
		if t.Failed() {
			return
		}
	}
	shared.ticked()
}

// The target's disk fills up in the stream; once there is room again the move
// goes on, and arrives.
func TestTargetsDiskFillsUp(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("mounts a small disk, which needs root: not with -short (testing.Short)")
	}
	const size, reserve = "size=420m", 64 << 10
	disk, err := os.MkdirTemp("", "dhow-disk") //nolint:usetesting // the mount goes first
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(disk) })
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, size+",mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	tr := newTrip(t, demo.StageConfig{Accounts: 2000, Entries: 10_000, Quick: true, TargetDir: filepath.Join(disk, "target")})
	tr.depart()

	c := tr.replicating()
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	full := func() bool {
		var free syscall.Statfs_t
		if err := syscall.Statfs(disk, &free); err != nil {
			t.Fatal(err)
		}
		if left := int64(free.Bavail) * free.Bsize; left > reserve {
			_, _ = f.Write(make([]byte, min(left-reserve/2, 4<<20)))
		}
		return strings.Contains(c.output(), "No space left") || strings.Contains(c.output(), "disk is full") || strings.Contains(c.output(), "trying again")
	}
	tr.await("an error about the full disk", 2*time.Minute, full)
	tr.goesOn(estate.Source)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	_ = c.cmd.Process.Signal(os.Interrupt)
	_ = tr.ended(c)
	t.Logf("it said: %s", c.output())
	tr.restart(estate.Target) // a server without room for its log may have stopped
	tr.arrive(estate.Target)
	tr.goesOn(estate.Target)
	tr.check()
}

// replicating starts a replication and returns once it streams.
func (tr *trip) replicating() *child {
	tr.t.Helper()
	c := tr.start(tr.command(tr.t.Context(), "replicate", "-o", "json"))
	tr.await("the stream", commandTime, func() bool {
		select {
		case <-c.done:
			tr.t.Fatalf("it ended: %v\n%s", c.err, c.output())
		default:
		}
		out := c.output()
		for _, name := range tr.stage.Databases() {
			if !strings.Contains(out, fmt.Sprintf(`"database":%q,"phase":"stream"`, name)) {
				return false
			}
		}
		return true
	})
	return c
}

// restart restarts all servers of a side.
func (tr *trip) restart(side estate.Side) {
	tr.t.Helper()
	g, ctx := errgroup.WithContext(tr.t.Context())
	g.Go(func() error { return tr.stage.Server(side).Restart(ctx) })
	if server := tr.stage.MariaDB[side]; server != nil {
		g.Go(func() error { return server.Restart(ctx) })
	}
	if server := tr.stage.Redis[side]; server != nil {
		g.Go(func() error { return server.Restart(ctx) })
	}
	if err := g.Wait(); err != nil {
		tr.t.Fatal(err)
	}
}

// budgeted gives the estate another stall budget, until the returned function is
// called. The gate that runs holds as long as before.
func (tr *trip) budgeted(other time.Duration) (back func()) {
	tr.t.Helper()
	before, err := os.ReadFile(tr.stage.EstateFile)
	if err != nil {
		tr.t.Fatal(err)
	}
	text := string(before)
	for _, one := range []struct {
		key      string
		was, now time.Duration
	}{{"stall_budget: ", budget, other}, {"time: ", hold, max(hold, other)}} {
		if !strings.Contains(text, one.key+one.was.String()) {
			tr.t.Fatalf("the estate does not say %s%s", one.key, one.was)
		}
		text = strings.Replace(text, one.key+one.was.String(), one.key+one.now.String(), 1)
	}
	tr.estate(text)
	return func() { tr.estate(string(before)) }
}

func (tr *trip) estate(text string) {
	tr.t.Helper()
	if err := os.WriteFile(tr.stage.EstateFile, []byte(text), 0o600); err != nil {
		tr.t.Fatal(err)
	}
}
