package main

import (
	"fmt"
	"io"
	"strings"

	"dhow/internal/operator/apitest"
)

// step is a number of new Exposures.
type step struct {
	Exposures int `json:"exposures"`
	InAll     int `json:"in_all"`
	// Seconds are from the first one's making until the last one was ready.
	Seconds float64 `json:"seconds"`
	// Requests are the operator's until it was at rest.
	Requests    apitest.Requests `json:"requests"`
	PerExposure float64          `json:"requests_per_exposure"`
	// PeakMiB is the most memory that the operator's process had until then.
	PeakMiB float64 `json:"peak_mib"`
}

// again is another look at all Exposures.
type again struct {
	Looked  int     `json:"looked"`
	Seconds float64 `json:"seconds"`
	// Requests are the operator's, Writes those that ask for a change.
	Requests int              `json:"requests"`
	Writes   apitest.Requests `json:"writes"`
}

// report is what was found.
type report struct {
	Arch       string `json:"arch"`
	Cores      int    `json:"cores"`
	Go         string `json:"go"`
	Kubernetes string `json:"kubernetes"`
	Quick      bool   `json:"quick,omitempty"`
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
	Steps      []step `json:"steps"`
	// Resync is with the operator at work, Restart with a new one.
	Resync              again   `json:"resync"`
	Restart             again   `json:"restart"`
	PeakMiB             float64 `json:"peak_mib"`
	RequestsPerExposure float64 `json:"requests_per_exposure"`
	ReadySeconds        float64 `json:"ready_seconds"`
}

// print writes the report for people; the figures come last.
func (r *report) print(out io.Writer) error {
	var t strings.Builder
	fmt.Fprintf(&t, "%s, %d cores; Kubernetes %s; %s; load average before: %s\n", r.Arch, r.Cores, r.Kubernetes, r.Go, r.LoadBefore)
	if r.Quick {
		fmt.Fprintln(&t, "A quick run: its figures say that it works, not how fast.")
	}
	fmt.Fprintln(&t, "\nnew    in all  ready after, s  a second  requests for each  memory, MiB")
	for _, s := range r.Steps {
		fmt.Fprintf(&t, "%-5d  %-6d  %-14.1f  %-8.0f  %-17.1f  %.0f\n", s.Exposures, s.InAll, s.Seconds, float64(s.Exposures)/s.Seconds, s.PerExposure, s.PeakMiB)
	}
	first := r.Steps[0]
	fmt.Fprintln(&t, "\nrequests of the operator for each of the first Exposures, as the API server counts them:")
	for _, name := range first.Requests.Names() {
		fmt.Fprintf(&t, "  %-40s %.2f\n", name, float64(first.Requests[name])/float64(first.Exposures))
	}
	fmt.Fprintln(&t)
	for _, x := range []struct {
		what string
		again
	}{{"resync", r.Resync}, {"restart", r.Restart}} {
		fmt.Fprintf(&t, "%s: %d looks in %.1f s, %d requests, of which %d ask for a change%s\n", x.what, x.Looked, x.Seconds, x.Requests, x.Writes.All(), listed(x.Writes))
	}
	fmt.Fprintf(&t, "load average after: %s\n\n", r.LoadAfter)
	fmt.Fprintf(&t, "memory: %.0f MiB with %d Exposures, the aim being %d\n", r.PeakMiB, r.Steps[len(r.Steps)-1].InAll, memoryAim)
	fmt.Fprintf(&t, "writes of a resync: %d\n", r.Resync.Writes.All())
	fmt.Fprintf(&t, "requests per Exposure: %.1f\n", r.RequestsPerExposure)
	if r.ReadySeconds > readyAim {
		fmt.Fprintf(&t, "operator: the aim is %d s\n", readyAim)
	}
	fmt.Fprintf(&t, "operator: %d ready in %.1f s\n", first.Exposures, r.ReadySeconds)
	if _, err := io.WriteString(out, t.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// listed names requests, in brackets.
func listed(r apitest.Requests) string {
	var all []string
	for _, name := range r.Names() {
		all = append(all, fmt.Sprintf("%d %s", r[name], name))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}
