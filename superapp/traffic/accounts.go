package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// kindSystem is the kind of accounts that no customer has.
const kindSystem = "system"

// account is what an account's answer says of it.
type account struct {
	ID       int64  `json:"id"`
	Customer int64  `json:"customer"`
	Kind     string `json:"kind"`
	Currency string `json:"currency"`
	Balance  int64  `json:"balance"`
	Version  int64  `json:"version"`
}

// candidates are the ids of accounts that may take part, by the seed alone.
func candidates(cfg Config) []int64 {
	n := cfg.Accounts
	want := min(int64(cfg.Active), n)
	random := rand.New(rand.NewPCG(cfg.Seed, 1))
	// A shuffle that is done only as far as it is needed; what moved is kept by place.
	moved := map[int64]int64{}
	at := func(i int64) int64 {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	ids := make([]int64, want)
	for i := range want {
		j := i + random.Int64N(n-i)
		ids[i] = at(j) + 1
		moved[j] = at(i)
	}
	return ids
}

// discover asks for every candidate, which tells its currency. The questions go
// over all connections, so each is warm when the schedule begins. Ids that do
// not exist are left out, and so are the system's own: no customer uses them.
func discover(ctx context.Context, cfg Config, workers []*worker) ([]account, error) {
	ids := candidates(cfg)
	found := make([]*account, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	for w, worker := range workers {
		g.Go(func() error {
			// A connection with no candidate left for it warms itself with another's.
			for i := w % len(ids); i < len(ids); i += len(workers) {
				a, err := worker.ask(ctx, cfg, ids[i])
				if err != nil {
					return err
				}
				if w < len(ids) {
					found[i] = a
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	known := make([]account, 0, len(ids))
	for _, a := range found {
		if a != nil && a.Kind != kindSystem {
			known = append(known, *a)
		}
	}
	return known, nil
}

// ask asks for an account; nil means that there is none.
func (w *worker) ask(ctx context.Context, cfg Config, id int64) (*account, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	a := w.client.exchange(ctx, http.MethodGet, "/accounts/"+strconv.FormatInt(id, 10), "", nil)
	switch {
	case a.err != nil:
		return nil, fmt.Errorf("ask %s for account %d: %w", cfg.URL, id, a.err)
	case a.status == http.StatusNotFound:
		return nil, nil
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("ask %s for account %d: it answers %d: is the application ready, and does this address lead to it?", cfg.URL, id, a.status)
	}
	var got account
	if err := json.Unmarshal(a.body, &got); err != nil {
		return nil, fmt.Errorf("ask %s for account %d: the answer is not an account: %w", cfg.URL, id, err)
	}
	if got.ID != id || got.Currency == "" {
		return nil, fmt.Errorf("ask %s for account %d: the answer is of account %d, in currency %q", cfg.URL, id, got.ID, got.Currency)
	}
	return &got, nil
}
