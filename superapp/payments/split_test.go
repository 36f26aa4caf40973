package payments

import (
	"testing"

	"pgregory.net/rapid"

	"dhow/superapp/money"
)

// Shares add up, differ by one at most, and over as many splits in a row as there
// are people each has borne as much as the others.
func TestSharesAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		people := rapid.IntRange(1, maxPayers+1).Draw(t, "people")
		total := rapid.Int64Range(int64(people), money.MaxAmount).Draw(t, "total")
		id := rapid.Int64Range(1, 1<<62).Draw(t, "id")
		borne := make([]int64, people)
		for round := range int64(people) {
			sum := int64(0)
			least := total / int64(people)
			for i, amount := range shares(total, people, id+round) {
				if amount < 1 || amount != least && amount != least+1 {
					t.Fatalf("share %d of %d among %d", amount, total, people)
				}
				sum += amount
				borne[i] += amount
			}
			if sum != total {
				t.Fatalf("the shares of %d add up to %d", total, sum)
			}
		}
		for _, amount := range borne {
			if amount != total {
				t.Fatalf("over %d splits one bears %d and another %d", people, amount, borne[0])
			}
		}
	})
}

func TestSharesGoRound(t *testing.T) {
	for id, want := range map[int64][3]int64{3: {4, 3, 3}, 4: {3, 4, 3}, 5: {3, 3, 4}, 6: {4, 3, 3}} {
		if got := [3]int64(shares(10, 3, id)); got != want {
			t.Errorf("split %d of 10 among 3: %v, want %v", id, got, want)
		}
	}
}
