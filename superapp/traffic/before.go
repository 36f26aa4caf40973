package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"dhow/superapp/history"
)

// cardKey begins the key of an account's card; the account's id follows. Another
// run gets the same card, as a stored answer.
const cardKey = "traffic-card-"

// card is a card that pays from an account.
type card struct {
	id, account int64
	currency    string
}

// corridor is a country that money can be sent to.
type corridor struct {
	Country    string   `json:"country"`
	Currencies []string `json:"currencies"`
	Fields     []struct {
		Name    string `json:"name"`
		Example string `json:"example"`
	} `json:"fields"`
}

// beneficiary is an account there that is well formed and nobody's.
func (c *corridor) beneficiary() map[string]any {
	fields := make(map[string]string, len(c.Fields))
	for _, f := range c.Fields {
		fields[f.Name] = f.Example
	}
	return map[string]any{"name": "Traffic Beneficiary", "fields": fields}
}

// prepare finds what some operations need: cards and corridors.
func (p *plan) prepare(ctx context.Context, cfg Config, workers []*worker, known []account) error {
	var err error
	if cfg.Shares.Card > 0 {
		if p.cards, err = makeCards(ctx, cfg, workers, known); err != nil {
			return err
		}
	}
	if cfg.Shares.Send > 0 || cfg.Shares.Corridor > 0 {
		p.corridors, err = workers[0].corridors(ctx, cfg)
	}
	return err
}

// makeCards makes or finds a card for the first customers' accounts. Each is
// written to the history, since it must stay.
func makeCards(ctx context.Context, cfg Config, workers []*worker, known []account) ([]card, error) {
	owners := known[:min(len(known), cfg.Cards)]
	cards := make([]card, len(owners))
	g, ctx := errgroup.WithContext(ctx)
	for w, worker := range workers {
		g.Go(func() error {
			for i := w; i < len(owners); i += len(workers) {
				a := owners[i]
				rec, _ := worker.do(ctx, operation{op: history.Card, key: cardKey + strconv.FormatInt(a.ID, 10), from: a.ID, customer: a.Customer, currency: a.Currency})
				if rec.Outcome != history.Acknowledged {
					return fmt.Errorf("make a card for account %d: the outcome is %s, with status %d %s %s: does %s lead to the cards service? Leave cards out with --card-share 0", a.ID, rec.Outcome, rec.Status, rec.Code, rec.Error, cfg.URL)
				}
				cards[i] = card{id: rec.ID, account: a.ID, currency: a.Currency}
			}
			return nil
		})
	}
	return cards, g.Wait()
}

// corridors asks where money can be sent.
func (w *worker) corridors(ctx context.Context, cfg Config) ([]corridor, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	a := w.client.exchange(ctx, http.MethodGet, "/corridors", "", nil)
	var got struct {
		Corridors []corridor `json:"corridors"`
	}
	err := a.err
	switch {
	case err != nil:
	case a.status != http.StatusOK:
		err = fmt.Errorf("it answers %d: does this address lead to the transfers service? Leave it out with --send-share 0 --corridor-share 0", a.status)
	default:
		err = json.Unmarshal(a.body, &got)
	}
	if err == nil && len(got.Corridors) == 0 {
		err = errors.New("there are none")
	}
	for _, c := range got.Corridors {
		if err == nil && (c.Country == "" || len(c.Currencies) == 0) {
			err = fmt.Errorf("the corridor to %q lacks its country or its currencies", c.Country)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for the corridors: %w", cfg.URL, err)
	}
	return got.Corridors, nil
}
