package cli

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"dhow/internal/estate"
	"dhow/internal/move"
)

func rows(n int64) string { return humanize.Comma(n) }

func bytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// took is a duration as a person reads it: to the millisecond below a minute,
// to the second above.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond / 10).String()
	case d < time.Minute:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// counted is a number with its noun: "1 table", "2 tables".
func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}

// percent is done of all in percent; an estimate that was too small is no more than 100.
func percent(done, all int64) int {
	if all <= 0 {
		return 0
	}
	return int(min(100, 100*float64(done)/float64(all)))
}

// describe is what a database of an engine is busy with, in a line.
func describe(e estate.Engine, p move.Progress) string {
	things := noun(e) + "s"
	switch p.Phase {
	case move.PhaseSchema:
		if e == estate.Redis {
			return "looking at the servers"
		}
		return "reading the schema"
	case move.PhaseStream:
		if e == estate.Redis {
			things = "commands"
		}
		return fmt.Sprintf("%s %s/s, %s/s, %s", rate(p.RowsPerSecond), things, bytes(int64(p.BytesPerSecond)), lagging(e, p))
	case move.PhaseIndex:
		return fmt.Sprintf("%d of %d indexes and constraints%s", p.Steps, p.StepsTotal, left(p.ETA))
	case move.PhaseGuard:
		return fmt.Sprintf("closing the target to all but the stream, %d of %s%s", p.Steps, counted(int64(p.StepsTotal), "trigger"), left(p.ETA))
	case move.PhaseCopy:
		return fmt.Sprintf("%3d%%, %s of about %s %s, %s of about %s, %s %s/s, %s/s, %d of %s%s", copied(p), rows(p.Rows), rows(p.RowsTotal), things, bytes(p.Bytes), bytes(p.BytesTotal),
			rate(p.RowsPerSecond), things, bytes(int64(p.BytesPerSecond)), p.Steps, counted(int64(p.StepsTotal), "piece"), left(p.ETA))
	case move.PhaseVerify:
		return fmt.Sprintf("%3d%%, %s of about %s %s, %s %s/s, %d of %s%s", percent(p.Rows, p.RowsTotal), rows(p.Rows), rows(p.RowsTotal), things,
			rate(p.RowsPerSecond), things, p.Steps, counted(int64(p.StepsTotal), "piece"), left(p.ETA))
	}
	return string(p.Phase)
}

// copied is how much of a copy is done, in percent. The source's bytes and those
// that are sent are not the same, so rows are counted where they are known.
func copied(p move.Progress) int {
	if p.RowsTotal > 0 {
		return percent(p.Rows, p.RowsTotal)
	}
	return percent(p.Bytes, p.BytesTotal)
}

func rate(perSecond float64) string { return humanize.Comma(int64(perSecond)) }

func left(eta time.Duration) string {
	if eta <= 0 {
		return ""
	}
	return ", " + eta.Round(time.Second).String() + " left"
}
