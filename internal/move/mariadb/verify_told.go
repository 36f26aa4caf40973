package mariadb

import (
	"sync"
	"time"

	"dhow/internal/move"
)

// teller tells a comparison's progress, from whichever goroutine has something to tell.
type teller struct {
	board  move.Board
	report func(move.Progress)

	mu   sync.Mutex
	last time.Time
}

// tell tells the progress, unless that was done a moment ago; the last time it always does.
func (t *teller) tell(last bool) {
	if t.report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); last || now.Sub(t.last) >= reportEvery {
		t.last = now
		t.report(t.board.Read(now))
	}
}
