package transfers

import (
	"slices"
	"strings"
	"testing"
)

// From each state an end can be reached, nothing leads out of an end, and the
// database knows the same states.
func TestTheMachine(t *testing.T) {
	states := []string{Created, Declined, Held, Cancelled, Submitted, Paid, Failed, Refunded}
	ends := map[string]bool{Declined: true, Cancelled: true, Paid: true, Refunded: true}
	for _, state := range states {
		step, moves := steps()[state]
		if moves == ends[state] {
			t.Errorf("%s is an end: %v, and has a step: %v", state, ends[state], moves)
		}
		for _, to := range step.to {
			// A state's place in the list is behind those that lead to it, so nothing goes round.
			if slices.Index(states, to) <= slices.Index(states, state) {
				t.Errorf("%s leads back to %s", state, to)
			}
		}
		if _, more := (&desk{}).rest(state); more == ends[state] {
			t.Errorf("the worker looks at %s: %v", state, more)
		}
		if !strings.Contains(schema, "'"+state+"'") {
			t.Errorf("the database does not know %s", state)
		}
	}
}

// The simulated provider fails about one send in fifty, always the same ones.
func TestProviderFails(t *testing.T) {
	const sends = 100_000
	failed := 0
	for id := range int64(sends) {
		first, again := providerFails(id), providerFails(id)
		if first != again {
			t.Fatalf("send %d fails and does not", id)
		}
		if first {
			failed++
		}
	}
	if failed < sends/failsOneIn*8/10 || failed > sends/failsOneIn*12/10 {
		t.Errorf("of %d sends %d fail", sends, failed)
	}
}
