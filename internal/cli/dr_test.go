package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dhow/internal/dr"
)

// TestPrintDR holds what is said of disaster recovery, and that what dr lacks is a failure.
func TestPrintDR(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	lag, lost := 2*time.Second, 5*time.Hour
	st := &dr.Status{
		Application: "bank", At: at, MainRegion: "eu-central-1", DRRegion: "eu-west-1", Side: dr.SideMain, RPO: &lost,
		Stores: []dr.Store{
			{Store: "main/postgresql", Way: dr.WayReplica, Name: "bank-dr-postgresql", State: "available", Lag: &lag, Lost: &lag, Copied: at.Add(-5 * time.Hour)},
			{Store: "main/mariadb", Way: dr.WayCopy, Lost: &lost, Copied: at.Add(-5 * time.Hour)},
			{Store: "main/cache", Way: dr.WayNone},
		},
		Drill: &dr.Drill{Began: at.Add(-24 * time.Hour), Passed: true, RPO: &lag, RTO: &dr.Estimate{Took: 22 * time.Minute}},
		RTO:   &dr.Estimate{Took: 22 * time.Minute, Measured: at.Add(-24 * time.Hour), Promotion: 15 * time.Minute, Scaling: 2 * time.Minute, Switching: 5 * time.Minute, Assumed: []string{"promotion", "switching"}},
		Lacks: []dr.Lack{
			{Severity: dr.SeverityError, Where: "main/mariadb", Text: "has no replica in dr, and a copy of 2026-11-30T07:00:00Z", Fix: "deploy dr's stack of replicas"},
			{Severity: dr.SeverityWarning, Where: "main/cache", Text: "has no replica in dr: what is in the cache would be lost", Fix: "let the application fill it anew"},
		},
	}
	a, out := printing(t)
	var silent *exitError
	if err := a.printDRStatus(st); !errors.As(err, &silent) {
		t.Errorf("what dr lacks ends with %v", err)
	}
	turned := *st
	turned.Side, turned.RPO, turned.RTO, turned.Lacks, turned.Drill = dr.SideDR, nil, nil, []dr.Lack{}, &dr.Drill{Began: at}
	turned.Stores = []dr.Store{{Store: "main/postgresql", Way: dr.WayRaised, Name: "bank-dr-postgresql", State: "available"}}
	if err := a.printDRStatus(&turned); err != nil {
		t.Error(err)
	}
	a.printFailover(dr.Question{Status: st, Main: "eu-central-1 answers, and all databases work"}, "")
	a.printFailover(dr.Question{Status: st, Main: "eu-central-1 answers, and all databases work"}, "the board has said so")
	a.printFailover(dr.Question{Status: st, Main: "eu-central-1 does not answer", Loss: "main can not be locked, and may go on to take writes: eu-central-1 does not answer"}, "")
	a.drStep(dr.Timing{Step: dr.StepPromote, Began: at, Took: 3 * time.Minute, Done: true, Text: "bank-dr-postgresql"})
	none := time.Duration(0)
	run := &dr.Run{Kind: dr.KindFailover, Outcome: dr.OutcomeDone, RPO: &none, RTO: 9 * time.Minute, Next: []string{"write it into the estate"}}
	if err := a.printDRRun(run, nil); err != nil {
		t.Error(err)
	}
	failed := errors.New("promote: it can not be")
	if err := a.printDRRun(&dr.Run{Kind: dr.KindFailover}, failed); !errors.Is(err, failed) {
		t.Errorf("a failure ends with %v", err)
	}
	// The step is told by the clock of whoever reads.
	golden(t, "dr.txt", strings.Replace(out.String(), "\n"+at.Local().Format(clock)+"  "+string(dr.StepPromote), "\nCLOCK  promote", 1))
}
