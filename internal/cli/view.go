package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"dhow/internal/estate"
	"dhow/internal/move"
)

const (
	// fewestTables is how many tables of a database are shown however small the terminal is.
	fewestTables = 1
	// mostTables is how many are shown however large it is: more is not read.
	mostTables = 12
	// barWidth is the width of a bar, in characters.
	barWidth = 20
	// nameWidth is the widest that a table's name is shown, in characters.
	nameWidth = 40
)

// view is what the live view shows: the latest report of every database, and
// which of its tables are the busiest.
type view struct {
	style  style
	order  []string
	latest map[string]move.Progress
	// grown is how many rows each table got between the last two reports.
	grown map[string]map[string]int64
	ended map[string]string
	// engine is a database's engine.
	engine func(database string) estate.Engine
}

func newView(s style, databases []string, engine func(string) estate.Engine) *view {
	return &view{style: s, order: databases, engine: engine, latest: map[string]move.Progress{}, grown: map[string]map[string]int64{}, ended: map[string]string{}}
}

// note takes a report in.
func (v *view) note(p move.Progress) {
	before := map[string]int64{}
	if last := v.latest[p.Database]; last.Phase == p.Phase {
		for _, t := range last.Tables {
			before[t.Table] = t.Rows
		}
	}
	grown := make(map[string]int64, len(p.Tables))
	for _, t := range p.Tables {
		grown[t.Table] = t.Rows - before[t.Table]
	}
	v.latest[p.Database], v.grown[p.Database] = p, grown
}

// lines draws the view for a terminal of a height, in lines; 0 is unknown.
func (v *view) lines(height int) []viewLine {
	const unknownHeight = 24
	if height <= 0 {
		height = unknownHeight
	}
	// Each database needs its own line, one for the tables that are not shown, and
	// at times one for a note; the last line is the cursor's.
	spare := height - 1 - 3*len(v.order) - 1
	each := min(mostTables, max(fewestTables, spare/max(1, len(v.order))))
	width := 0
	for _, name := range v.order {
		width = max(width, runewidth.StringWidth(name))
	}
	var lines []viewLine
	for _, name := range v.order {
		p, known := v.latest[name]
		switch {
		case v.ended[name] != "":
			lines = append(lines, viewLine{text: fmt.Sprintf("%s  failed: %s", runewidth.FillRight(name, width), v.ended[name]), paint: v.style.red})
			continue
		case !known:
			lines = append(lines, viewLine{text: runewidth.FillRight(name, width) + "  connecting", paint: v.style.dim})
			continue
		}
		lines = append(lines, viewLine{text: fmt.Sprintf("%s  %-6s %s%s", runewidth.FillRight(name, width), p.Phase, phaseBar(p), describe(v.engine(name), p)), paint: v.style.bold})
		if p.Note != "" {
			lines = append(lines, viewLine{text: "  " + p.Note, paint: v.style.yellow})
		}
		lines = append(lines, v.tables(p, each)...)
	}
	if len(v.order) > 1 {
		lines = append(lines, viewLine{text: v.all(), paint: v.style.bold})
	}
	return lines[:min(len(lines), height-1)]
}

func phaseBar(p move.Progress) string {
	if p.Phase != move.PhaseCopy && p.Phase != move.PhaseVerify {
		return ""
	}
	return bar(copied(p)) + " "
}

func bar(percent int) string {
	full := barWidth * percent / 100
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}

// tables shows the busiest tables of a copy or a comparison, and sums up the others.
func (v *view) tables(p move.Progress, most int) []viewLine {
	if p.Phase != move.PhaseCopy && p.Phase != move.PhaseVerify || len(p.Tables) == 0 {
		return nil
	}
	busy := v.inWork(p)
	done := 0
	for _, t := range p.Tables {
		if t.Done {
			done++
		}
	}
	sum := fmt.Sprintf("  %s: %s done, %s in work, %s waiting", counted(int64(len(p.Tables)), part(v.engine(p.Database))), rows(int64(done)), rows(int64(len(busy))), rows(int64(len(p.Tables)-done-len(busy))))
	return append(v.busiest(noun(v.engine(p.Database)), busy, most), viewLine{text: sum, paint: v.style.dim})
}

// inWork are the tables that are begun and not done, the busiest first.
func (v *view) inWork(p move.Progress) []move.TableProgress {
	var busy []move.TableProgress
	for _, t := range p.Tables {
		if !t.Done && t.Rows > 0 {
			busy = append(busy, t)
		}
	}
	grown := v.grown[p.Database]
	slices.SortFunc(busy, func(a, b move.TableProgress) int {
		return cmp.Or(cmp.Compare(grown[b.Table], grown[a.Table]), strings.Compare(a.Table, b.Table))
	})
	return busy
}

// busiest shows the first of those in work, a line each.
func (v *view) busiest(noun string, busy []move.TableProgress, most int) []viewLine {
	shown := busy[:min(most, len(busy))]
	width := 0
	for _, t := range shown {
		width = max(width, min(nameWidth, runewidth.StringWidth(t.Table)))
	}
	var lines []viewLine
	for _, t := range shown {
		name := runewidth.FillRight(runewidth.Truncate(t.Table, nameWidth, "…"), width)
		lines = append(lines, viewLine{text: fmt.Sprintf("  %s  %3d%%  %s of about %s, %s", name, percent(t.Rows, t.RowsTotal), rows(t.Rows), counted(t.RowsTotal, noun), bytes(t.Bytes))})
	}
	return lines
}

// all sums the databases up.
func (v *view) all() string {
	var sum move.Progress
	phases, things := map[move.Phase]int{}, map[string]bool{}
	for _, name := range v.order {
		p, known := v.latest[name]
		if !known || v.ended[name] != "" {
			continue
		}
		phases[p.Phase]++
		things[noun(v.engine(name))+"s"] = true
		sum.RowsPerSecond += p.RowsPerSecond
		sum.BytesPerSecond += p.BytesPerSecond
		sum.LagBytes += p.LagBytes
		sum.LagSeconds = max(sum.LagSeconds, p.LagSeconds)
		if p.Phase == move.PhaseCopy || p.Phase == move.PhaseVerify {
			sum.Rows += p.Rows
			sum.Bytes += p.Bytes
		}
		sum.ETA = max(sum.ETA, p.ETA)
	}
	text := fmt.Sprintf("all: %s %s/s, %s/s, behind by %s and %.1f s", rate(sum.RowsPerSecond), cmp.Or(strings.Join(sortedKeys(things), " and "), "rows"), bytes(int64(sum.BytesPerSecond)), bytes(sum.LagBytes), sum.LagSeconds)
	for _, ph := range []move.Phase{move.PhaseSchema, move.PhaseCopy, move.PhaseIndex, move.PhaseGuard, move.PhaseStream, move.PhaseVerify} {
		if phases[ph] > 0 {
			text += fmt.Sprintf(", %d in %s", phases[ph], ph)
		}
	}
	if len(v.ended) > 0 {
		text += fmt.Sprintf(", %d failed", len(v.ended))
	}
	return text + left(sum.ETA)
}
