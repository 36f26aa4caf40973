package balance

// heap is a binary heap with its least at the front. container/heap would put each value
// into an interface, which takes most of the time of a simulation.
type heap[T any] struct {
	all  []T
	less func(a, b T) bool
}

func (h *heap[T]) len() int { return len(h.all) }

func (h *heap[T]) push(v T) {
	h.all = append(h.all, v)
	at := len(h.all) - 1
	for at > 0 {
		up := (at - 1) / 2
		if !h.less(h.all[at], h.all[up]) {
			return
		}
		h.all[at], h.all[up] = h.all[up], h.all[at]
		at = up
	}
}

func (h *heap[T]) pop() T {
	least := h.all[0]
	end := len(h.all) - 1
	h.all[0] = h.all[end]
	h.all = h.all[:end]
	h.sink()
	return least
}

// replace puts a value in the place of the least.
func (h *heap[T]) replace(v T) {
	h.all[0] = v
	h.sink()
}

func (h *heap[T]) sink() {
	at := 0
	for {
		least := at
		for _, below := range []int{2*at + 1, 2*at + 2} {
			if below < len(h.all) && h.less(h.all[below], h.all[least]) {
				least = below
			}
		}
		if least == at {
			return
		}
		h.all[at], h.all[least] = h.all[least], h.all[at]
		at = least
	}
}
