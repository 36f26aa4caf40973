package main

import (
	"fmt"
	"io"
	"strings"

	"dhow/bench/sidebyside"
	"dhow/internal/move/postgres"
)

type streamResult struct {
	Rows  int64            `json:"rows"`
	Pairs sidebyside.Pairs `json:"pairs"`
	Ratio float64          `json:"ratio"`
}

// report is all that was found.
type report struct {
	sidebyside.Report
	Lanes       int           `json:"lanes"` // of the stream
	Stream      *streamResult `json:"stream,omitempty"`
	StreamRatio float64       `json:"stream_ratio,omitempty"`
}

// conclude computes what follows from the turns.
func (r *report) conclude() {
	r.Conclude()
	if r.Stream != nil {
		r.Stream.Ratio = r.Stream.Pairs.Ratio()
		r.StreamRatio = r.Stream.Ratio
		r.PeakMiB = max(r.PeakMiB, r.Stream.Pairs.PeakMiB())
	}
}

// Print writes the report for people.
func (r *report) Print(out io.Writer) error {
	words := sidebyside.Words{Peer: "pgcopydb", Tuning: fmt.Sprintf("%s jobs for pgcopydb, %d copies and %d lanes for dhow", pgcopydbJobs, postgres.DefaultCopies, r.Lanes)}
	if r.Stream != nil {
		var table strings.Builder
		fmt.Fprintln(&table, "\nstream\trows\t\tpair\tnative, rows/s\tdhow, rows/s\tratio\tCPU of source + target + itself, s: native\tdhow")
		for i, p := range r.Stream.Pairs {
			fmt.Fprintf(&table, "\t%d\t\t%d\t%.0f\t%.0f\t%.2f\t%s\t%s\n", r.Stream.Rows, i+1, p.Peer.RowsPerSecond, p.Ours.RowsPerSecond, p.Ratio, p.Peer.CPU(), p.Ours.CPU())
		}
		fmt.Fprintf(&table, "\t\t\tmedian\t\t\t%.2f\t\t\n", r.Stream.Ratio)
		words.Table = table.String()
		words.Figure = fmt.Sprintf("stream: %.2f x native logical replication's rows a second\n", r.StreamRatio)
	}
	return r.Report.Print(out, words)
}
