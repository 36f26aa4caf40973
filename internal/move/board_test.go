package move

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Board{Database: "ledger"}
		b.Begin(PhaseSchema, 3)
		b.StepDone()
		b.Begin(PhaseCopy, 1)
		b.ExpectSteps(1)
		b.Expect("b", 100, 1000)
		b.Expect("a", 10, 50)
		b.Expect("b", 100, 1000)
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() { b.Done("b", 5, 50) })
		}
		workers.Wait()
		b.Done("a", 20, 100) // an estimate was too low
		b.TableDone("a")
		b.Done("unknown", 0, 0)
		b.StepDone()
		b.Say("again")
		time.Sleep(time.Second / 2)
		now := time.Now()
		got := b.Read(now)
		want := Progress{Database: "ledger", Phase: PhaseCopy, At: now, Rows: 60, RowsTotal: 210, Bytes: 500, BytesTotal: 2050, Steps: 1, StepsTotal: 2, Note: "again",
			RowsPerSecond: 60 / 4.5, BytesPerSecond: 500 / 4.5, ETA: 11 * time.Second,
			Tables: []TableProgress{{Table: "a", Rows: 20, RowsTotal: 10, Bytes: 100, Done: true}, {Table: "b", Rows: 40, RowsTotal: 200, Bytes: 400}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the progress (-want +got):\n%s", diff)
		}
		b.Done("b", 300, 0) // more than expected
		if got := b.Read(now); got.RowsTotal != got.Rows || got.ETA != 0 {
			t.Errorf("with more rows than expected: %+v", got)
		}
		time.Sleep(meterSlots * time.Second)
		if got := b.Read(time.Now()); got.RowsPerSecond != 0 || got.ETA != 0 {
			t.Errorf("after a while without work: %+v", got)
		}
	})
}
