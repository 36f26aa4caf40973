package move

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Findings{Most: 3}
		began := time.Now()
		f.Expect("empty")
		time.Sleep(time.Second)
		f.Compared("b", 10, 2, began.Add(time.Second/2))
		f.Compared("b", 5, 1, began)
		f.Row(Difference{Table: "b", Key: "id=10", Kind: Changed}, 1)
		f.Row(Difference{Table: "b", Key: "id=9", Kind: Missing, Repaired: true}, 1)
		if got := f.Room("b"); got != 1 {
			t.Errorf("room for %d rows more, want 1", got)
		}
		f.Row(Difference{Table: "b", Key: "twice", Kind: Extra}, 2)
		f.Row(Difference{Table: "b", Key: "id=11", Kind: Extra}, 1)
		f.Object("a", "column c", Missing)
		f.Undecided(4)
		for table, want := range map[string]bool{"a": false, "b": true, "empty": false, "unknown": false} {
			if f.Differ(table) != want {
				t.Errorf("rows of %s differ: %t", table, !want)
			}
		}
		if got := f.Room("unknown"); got != 3 {
			t.Errorf("room for %d rows of a table without any, want 3", got)
		}
		want := Comparison{Tables: 2, Chunks: 3, Rows: 15, Different: 6, Repaired: 1, Undecided: 4,
			ByTable: []TableComparison{{Table: "a", Different: 1}, {Table: "b", Rows: 15, Different: 5, Took: time.Second}, {Table: "empty"}},
			Differences: []Difference{
				{Table: "a", Key: "column c", Kind: Missing},
				{Table: "b", Key: "id=9", Kind: Missing, Repaired: true},
				{Table: "b", Key: "id=10", Kind: Changed},
				{Table: "b", Key: "twice", Kind: Extra},
			}}
		if diff := cmp.Diff(want, f.Result(2)); diff != "" {
			t.Errorf("the result (-want +got):\n%s", diff)
		}
	})
}

func TestCompareNatural(t *testing.T) {
	ordered := []string{"", "id=1", "id=01", "id=2", "id=10", "id=10,b=1", "id=10,b=02", "id=x"}
	for i, a := range ordered {
		for j, b := range ordered {
			got := compareNatural(a, b)
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%q and %q compare as %d", a, b, got)
			}
		}
	}
}
