package demo

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dhow/internal/estate"
	"dhow/internal/landing"
)

// Report is the figures of a voyage. Times are in milliseconds, sizes in 10^6 bytes.
type Report struct {
	Began    time.Time `json:"began"`
	From     int       `json:"from_version"`
	To       int       `json:"to_version"`
	Rate     int       `json:"rate"`
	Accounts int       `json:"accounts"`

	Requests       int64 `json:"requests"`
	FailedRequests int64 `json:"failed_requests"`
	// LongestStallMS is the longest that a client waited around the cutover, or
	// the worse of the two; ControlStallMS the longest in a stretch of the same
	// length right before: what the machine does by itself.
	LongestStallMS float64 `json:"longest_stall_ms"`
	ControlStallMS float64 `json:"control_stall_ms"`
	P50MS          float64 `json:"p50_ms"`
	P99MS          float64 `json:"p99_ms"`

	AcknowledgedWrites int64 `json:"acknowledged_writes"`
	LostWrites         int64 `json:"lost_writes"`
	DoubledWrites      int64 `json:"doubled_writes"`
	MoneyConserved     bool  `json:"money_conserved"`
	StaleReads         int64 `json:"stale_reads"`
	// BothSidesWrote says that a side was written to while the other one served.
	BothSidesWrote bool `json:"both_sides_wrote"`
	// Faults is how many faults the checker found, of all kinds; Findings are the first of them.
	Faults   int64    `json:"faults"`
	Findings []string `json:"findings,omitempty"`

	// CardMovements, Sends and Splits are what the checker compared of the other
	// databases with the ledger.
	CardMovements int64 `json:"card_movements"`
	Sends         int64 `json:"sends"`
	Splits        int64 `json:"splits"`

	// RowsCompared are those of all cutovers, and the keys of Redis.
	RowsCompared  int64   `json:"rows_compared"`
	RowsDifferent int64   `json:"rows_different"`
	CopyRowsPerS  float64 `json:"copy_rows_per_s"`
	CopyMBPerS    float64 `json:"copy_mb_per_s"`
	PeakRSSMB     float64 `json:"peak_rss_mb"`
	RolledBack    bool    `json:"rolled_back"`
	// Again says that the traffic was moved once more after it had come back.
	Again bool    `json:"again"`
	TookS float64 `json:"took_s"`

	// Engines are the figures of each, by its name in the estate.
	Engines map[estate.Engine]*EngineFigures `json:"engines"`

	// LandingS is how long the deployment of the landing zone took here, in seconds, and
	// Stacks how many stacks it has.
	LandingS float64 `json:"landing_s"`
	Stacks   int     `json:"stacks"`
	// Landing is when they were made, in AWS's time.
	Landing *landing.Timeline `json:"landing,omitempty"`

	// SourcePods and TargetPods are how many pods stood ready, ClustersUpS how long
	// both clusters took to come up; only with --kubernetes.
	SourcePods  int     `json:"source_pods,omitempty"`
	TargetPods  int     `json:"target_pods,omitempty"`
	ClustersUpS float64 `json:"clusters_up_s,omitempty"`
	// Exposures are those of which the operator, in a pod of the target, made Services,
	// routes and the rest; only with --kubernetes.
	Exposures int `json:"exposures,omitempty"`

	Legs []Leg `json:"legs"`
}

// EngineFigures are those of all databases of an engine.
type EngineFigures struct {
	// RowsCompared, or KeysCompared, are those of all cutovers; Different those that were not equal.
	RowsCompared int64 `json:"rows_compared,omitempty"`
	KeysCompared int64 `json:"keys_compared,omitempty"`
	Different    int64 `json:"different"`
	// CopyS is how long the copy took, in seconds.
	CopyS float64 `json:"copy_s"`
	// LagMSAtFence is the longest that a target was behind its fence.
	LagMSAtFence float64 `json:"lag_ms_at_fence"`
}

// Leg is one cutover of the voyage.
type Leg struct {
	To string `json:"to"`
	// Outcome is done, or undone for an attempt that took longer than the budget.
	Outcome string `json:"outcome"`
	// HeldMS is how long the gate held requests; PredictedMS what was said before.
	HeldMS        float64   `json:"held_ms"`
	PredictedMS   float64   `json:"predicted_ms"`
	StallMS       float64   `json:"stall_ms"`
	ControlMS     float64   `json:"control_ms"`
	RowsCompared  int64     `json:"rows_compared"`
	RowsDifferent int64     `json:"rows_different"`
	Steps         []LegStep `json:"steps"`
	// Waits are the longest waits of clients over the seconds around the
	// cutover, for the picture.
	Waits []Wait `json:"waits"`
}

// LegStep is how long a step of a cutover took.
type LegStep struct {
	Step string  `json:"step"`
	MS   float64 `json:"ms"`
}

// Wait is the longest wait of the operations that were sent in a slice of time.
type Wait struct {
	// AtMS is relative to the moment at which requests were held.
	AtMS float64 `json:"at_ms"`
	MS   float64 `json:"ms"`
}

// land notes how the landing zone was deployed.
func (r *Report) land(d *Landed) {
	r.LandingS, r.Stacks, r.Landing = d.Took.Seconds(), d.Stacks, &d.Timeline
}

// Sound says whether the voyage kept its promise.
func (r *Report) Sound() bool {
	return r.FailedRequests == 0 && r.Faults == 0 && r.RowsDifferent == 0
}

// Table prints the figures for people.
func (r *Report) Table(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range r.rows() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.What, row.Value, row.Note) //nolint:errcheck // into memory
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

type tableRow struct{ What, Value, Note string }

func (r *Report) rows() []tableRow {
	yes := map[bool]string{true: "yes", false: "NO"}
	rows := []tableRow{
		{"requests", fmt.Sprint(r.Requests), fmt.Sprintf("%d operations a second", r.Rate)},
		{"failed requests", fmt.Sprint(r.FailedRequests), ""},
		{"longest stall", fmt.Sprintf("%.0f ms", r.LongestStallMS), fmt.Sprintf("control, before it: %.0f ms", r.ControlStallMS)},
		{"latency", fmt.Sprintf("%.1f ms", r.P50MS), fmt.Sprintf("median; p99 %.1f ms", r.P99MS)},
		{"acknowledged writes", fmt.Sprint(r.AcknowledgedWrites), ""},
		{"  lost", fmt.Sprint(r.LostWrites), ""},
		{"  doubled", fmt.Sprint(r.DoubledWrites), ""},
		{"money conserved", yes[r.MoneyConserved], ""},
		{"reads back in time", fmt.Sprint(r.StaleReads), ""},
		{"both sides took writes at once", map[bool]string{true: "YES", false: "no"}[r.BothSidesWrote], ""},
		{"faults the checker found", fmt.Sprint(r.Faults), fmt.Sprintf("in %d card movements, %d sends, %d splits and the ledger", r.CardMovements, r.Sends, r.Splits)},
		{"rows and keys compared", fmt.Sprint(r.RowsCompared), "as they stood at the cutover"},
		{"  different", fmt.Sprint(r.RowsDifferent), ""},
		{"copied", fmt.Sprintf("%.0f rows/s", r.CopyRowsPerS), fmt.Sprintf("%.1f MB/s", r.CopyMBPerS)},
		{"memory of dhow, at most", fmt.Sprintf("%.0f MB", r.PeakRSSMB), ""},
		{"went back", map[bool]string{true: "yes", false: "no"}[r.RolledBack], map[bool]string{true: "and there again"}[r.Again]},
	}
	for _, of := range slices.Sorted(maps.Keys(r.Engines)) {
		e := r.Engines[of]
		what := fmt.Sprintf("%d rows compared", e.RowsCompared)
		if e.KeysCompared > 0 {
			what = fmt.Sprintf("%d keys compared", e.KeysCompared)
		}
		rows = append(rows, tableRow{string(of), what, fmt.Sprintf("%d different; copied in %.1f s; %.0f ms behind the fence", e.Different, e.CopyS, e.LagMSAtFence)})
	}
	if r.Landing != nil {
		rows = append(rows, tableRow{"landing zone", fmt.Sprintf("%d stacks", r.Stacks), fmt.Sprintf("deployed in %.1f s; %s of AWS's time, the longest way %s", r.LandingS, r.Landing.Took.Round(time.Second), r.Landing.CriticalTook.Round(time.Second))})
	}
	if r.ClustersUpS > 0 {
		rows = append(rows, tableRow{"pods", fmt.Sprintf("%d and %d", r.SourcePods, r.TargetPods), fmt.Sprintf("source and target; both clusters up in %.1f s; %d Exposures made by the operator", r.ClustersUpS, r.Exposures)})
	}
	return rows
}

//go:embed report.html.tmpl
var page string

// write leaves the report in the folder, for programs and for people.
func (r *Report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	t, err := template.New("report").Parse(page)
	if err != nil {
		return fmt.Errorf("read the report's template: %w", err)
	}
	var html bytes.Buffer
	if err := t.Execute(&html, struct {
		*Report
		Rows   []tableRow
		Charts []chart
		Zone   *zoneChart
	}{r, r.rows(), r.charts(), r.zone()}); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.html"), html.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// chart is the picture of a leg: the longest waits around the cutover.
type chart struct {
	Title  string
	Bars   []bar
	HeldX  float64
	HeldW  float64
	MostMS float64
}

type bar struct{ X, W, Y, H float64 }

// The chart's size, in the units of its drawing.
const (
	chartWidth, chartHeight = 720.0, 180.0
)

// zoneChart is the picture of the landing zone's timeline.
type zoneChart struct {
	Bars []stackBar
	H    float64
	// Longest is how long the longest way takes.
	Longest time.Duration
}

// stackBar is a stack in it.
type stackBar struct {
	Stack       string
	X, W, Y     float64
	After, Took time.Duration
	// Longest says that the stack is on the longest way.
	Longest bool
}

const (
	// stackHeight is that of a stack's line, and stackLabel the width of its name, in the
	// units of the drawing.
	stackHeight, stackLabel = 16.0, 220.0
)

func (r *Report) zone() *zoneChart {
	if r.Landing == nil {
		return nil
	}
	c := &zoneChart{H: stackHeight * float64(len(r.Landing.Spans)), Longest: r.Landing.CriticalTook.Round(time.Second)}
	at := func(d time.Duration) float64 {
		return float64(d) / float64(max(1, r.Landing.End())) * (chartWidth - stackLabel)
	}
	for i, s := range r.Landing.Spans {
		c.Bars = append(c.Bars, stackBar{Stack: s.Stack, X: stackLabel + at(s.After), W: max(1, at(s.Took)), Y: float64(i) * stackHeight,
			After: s.After.Round(time.Second), Took: s.Took.Round(time.Second), Longest: slices.Contains(r.Landing.Critical, s.Stack)})
	}
	return c
}

func (r *Report) charts() []chart {
	var charts []chart
	for _, l := range r.Legs {
		if len(l.Waits) == 0 {
			continue
		}
		c := chart{Title: fmt.Sprintf("to the %s, %s: requests held for %.0f ms, the longest wait %.0f ms (control %.0f ms)", l.To, l.Outcome, l.HeldMS, l.StallMS, l.ControlMS)}
		for _, w := range l.Waits {
			c.MostMS = max(c.MostMS, w.MS)
		}
		first, last := l.Waits[0].AtMS, l.Waits[len(l.Waits)-1].AtMS+sliceMS
		x := func(at float64) float64 { return (at - first) / (last - first) * chartWidth }
		for _, w := range l.Waits {
			h := w.MS / max(c.MostMS, 1) * chartHeight
			c.Bars = append(c.Bars, bar{X: x(w.AtMS), W: x(w.AtMS+sliceMS) - x(w.AtMS) - 0.5, Y: chartHeight - h, H: h})
		}
		c.HeldX, c.HeldW = x(0), max(x(l.HeldMS)-x(0), 1)
		charts = append(charts, c)
	}
	return charts
}
