package sidebyside

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Pair is a turn of each: of a copy Ratio is our time by the peer's, of a stream
// our rows a second by the peer's.
type Pair struct {
	Peer  Turn    `json:"peer"`
	Ours  Turn    `json:"dhow"`
	Ratio float64 `json:"ratio"`
}

// Pairs are those of a race.
type Pairs []Pair

// Ratio is the median of the pairs'.
func (p Pairs) Ratio() float64 {
	ratios := make([]float64, len(p))
	for i := range p {
		ratios[i] = p[i].Ratio
	}
	return Median(ratios)
}

// PeakMiB is the most that the mover's process took in any of its turns.
func (p Pairs) PeakMiB() (most float64) {
	for i := range p {
		most = max(most, p[i].Ours.PeakMiB)
	}
	return most
}

// Median is the middle one, or the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Copies are the copies of a shape.
type Copies struct {
	Shape string `json:"shape"`
	What  string `json:"what"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	Pairs Pairs  `json:"pairs"`
	// Ratio is the median of the pairs'.
	Ratio float64 `json:"ratio"`
}

// Report is what was found of copies.
type Report struct {
	Machine Host     `json:"machine"`
	Quick   bool     `json:"quick,omitempty"`
	Pairs   int      `json:"pairs"`
	Copies  []Copies `json:"copies,omitempty"`
	// Copy is the worst of the shapes' ratios, CopyMean their geometric mean;
	// PeakMiB the most that the mover's process took in any of its turns.
	Copy     float64 `json:"copy_ratio,omitempty"`
	CopyMean float64 `json:"copy_ratio_mean,omitempty"`
	PeakMiB  float64 `json:"peak_mib,omitempty"`
	// LoadBefore and LoadAfter are the machine's load averages of a minute: others
	// who work on it make absolute times worthless, and the ratios doubtful.
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
}

// NewReport begins a report; server and peer are programs that know --version.
func NewReport(ctx context.Context, o Options, server, peer string) Report {
	return Report{Machine: machine(ctx, server, peer), Quick: o.Divisor > 1, Pairs: o.Pairs, LoadBefore: Load()}
}

// Conclude computes what follows from the turns, after the last.
func (r *Report) Conclude() {
	r.LoadAfter = Load()
	logs := 0.0
	for i := range r.Copies {
		c := &r.Copies[i]
		c.Ratio = c.Pairs.Ratio()
		r.PeakMiB = max(r.PeakMiB, c.Pairs.PeakMiB())
		r.Copy = max(r.Copy, c.Ratio)
		logs += math.Log(c.Ratio)
	}
	if len(r.Copies) > 0 {
		r.CopyMean = math.Exp(logs / float64(len(r.Copies)))
	}
}

// Words are what a benchmark's own report adds to the common one.
type Words struct {
	Peer   string // its name
	Tuning string // how parallel the rivals are
	Table  string // more rows for the table, in tabwriter's cells
	Figure string // a line before the last ones
}

// Print writes the report for people; the figures come last.
func (r *Report) Print(out io.Writer, words Words) error {
	m := r.Machine
	var text, table strings.Builder
	fmt.Fprintf(&text, "\n%s, %d cores, %d GB; Linux %s; %s on both ends; %s; %s\n", m.CPU, m.Cores, m.MemoryGB, m.Kernel, m.Server, m.Peer, m.Go)
	if r.Quick {
		fmt.Fprintln(&text, "A quick run: its figures say that it works, not how fast.")
	}
	if len(r.Copies) > 0 {
		fmt.Fprintf(&table, "\ncopy\trows\tMB\tpair\t%s, s\tdhow, s\tratio\tCPU of source + target + itself, s: %[1]s\tdhow\n", words.Peer)
		for _, c := range r.Copies {
			for i, p := range c.Pairs {
				fmt.Fprintf(&table, "%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%s\t%s\n", c.Shape, c.Rows, c.Bytes>>20, i+1, p.Peer.Seconds, p.Ours.Seconds, p.Ratio, p.Peer.CPU(), p.Ours.CPU())
			}
			fmt.Fprintf(&table, "%s\t\t\tmedian\t\t\t%.2f\t\t\n", c.Shape, c.Ratio)
		}
	}
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, table.String()+words.Table); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	fmt.Fprintf(&text, "\n%s; load average before %s, after %s: of one rival at a time it is about %d\n", words.Tuning, r.LoadBefore, r.LoadAfter, m.Cores)
	if len(r.Copies) > 1 {
		fmt.Fprintf(&text, "copy is the worst of the %d shapes' medians; their geometric mean is %.2f. memory is the peak of the mover's process in all turns.\n", len(r.Copies), r.CopyMean)
	}
	text.WriteString(words.Figure)
	fmt.Fprintf(&text, "memory: %.0f MiB\n", r.PeakMiB)
	if len(r.Copies) > 0 {
		fmt.Fprintf(&text, "copy: %.2f x %s's time\n", r.Copy, words.Peer)
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}
