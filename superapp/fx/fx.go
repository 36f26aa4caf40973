// Package fx is the service that knows what a currency is in another: mid rates
// and what providers make of them. A generator stands for the market feed; of
// several instances one writes, and all read. The rates live in Redis, and what is
// older than is allowed is not told. It moves no money and knows no customer.
package fx

import (
	"context"
	_ "embed"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// Name is the service's name: of its command and its logs.
const Name = "fx"

const (
	// DefaultEvery is the time between two ticks.
	DefaultEvery = time.Second
	// DefaultStale is how old a rate may be: a market that is silent for longer may have moved.
	DefaultStale = 30 * time.Second
	// leastEvery keeps a generator from doing nothing else.
	leastEvery = 10 * time.Millisecond
	// codeUnknownCurrency is the refusal that the client tells apart.
	codeUnknownCurrency = "unknown_currency"
)

//go:embed openapi.yaml
var document []byte

// Options say how rates are made.
type Options struct {
	service.Options
	// Every is the time between two ticks.
	Every time.Duration
	// Stale is how old rates may be told.
	Stale time.Duration
	// Seed makes the market another one. Instances beside each other share it.
	Seed uint64
}

// Command runs the service.
func Command() *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve rates between currencies",
		Long:    "Serves mid rates and providers' offers. REDIS_URL names the server that keeps them.",
		Example: "  REDIS_URL=redis://localhost:6379/0 superapp fx --listen 127.0.0.1:8085",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), o) },
	}
	f := cmd.Flags()
	o.Flags(f)
	f.DurationVar(&o.Every, "every", DefaultEvery, "`time` between two new rates")
	f.DurationVar(&o.Stale, "stale", DefaultStale, "`age` from which rates are not told any more")
	f.Uint64Var(&o.Seed, "seed", 1, "`number` that makes the market another one; the same for instances beside each other")
	return cmd
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	switch {
	case o.Every < leastEvery:
		return service.Usagef("--every is %s: give at least %s", o.Every, leastEvery)
	case o.Stale < o.Every:
		return service.Usagef("--stale is %s: give at least --every, which is %s", o.Stale, o.Every)
	}
	feed, err := newFeed(o.Seed)
	if err != nil {
		return err
	}
	providers, err := readProviders(providerList)
	if err != nil {
		return err
	}
	o.Needs.Redis = true
	return service.Run(ctx, Name, o.Options, func(b service.Base) service.App {
		d := &desk{market: market{redis: b.Redis, stale: o.Stale, now: time.Now}, providers: providers}
		g := &generator{redis: b.Redis, feed: feed, every: o.Every, instance: b.Instance, log: b.Log, now: time.Now}
		g.ticks = service.NewCounter(b.Metrics, "fx_ticks_total", "How often this instance wrote new rates.").WithLabelValues()
		return service.App{Routes: d.routes(), OpenAPI: document, Background: g.run}
	})
}

// desk answers the requests.
type desk struct {
	market    market
	providers []provider
}

func (d *desk) routes() map[string]service.Handler {
	return map[string]service.Handler{
		"GET /rates":                       d.all,
		"GET /rates/{from}/{to}":           d.mid,
		"GET /rates/{from}/{to}/providers": d.offers,
	}
}

func (d *desk) all(r *http.Request) (service.Answer, error) {
	rates, at, err := d.market.all(r.Context())
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, struct {
		Base  string            `json:"base"`
		At    time.Time         `json:"at"`
		Rates map[string]string `json:"rates"`
	}{Base, at, rates})
}

func (d *desk) mid(r *http.Request) (service.Answer, error) {
	c, err := d.market.cross(r.Context(), r.PathValue("from"), r.PathValue("to"))
	if err != nil {
		return service.Answer{}, err
	}
	mid, err := money.FormatRate(c.rate, money.Nearest)
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, struct {
		From string    `json:"from"`
		To   string    `json:"to"`
		Mid  string    `json:"mid"`
		At   time.Time `json:"at"`
		Age  int64     `json:"age_ms"`
	}{c.from, c.to, mid, c.at, max(0, d.market.now().Sub(c.at).Milliseconds())})
}

func (d *desk) offers(r *http.Request) (service.Answer, error) {
	c, err := d.market.cross(r.Context(), r.PathValue("from"), r.PathValue("to"))
	if err != nil {
		return service.Answer{}, err
	}
	offers := []Offer{}
	for _, p := range d.providers {
		if !p.pays(c.to) {
			continue
		}
		o, err := p.offer(c)
		if err != nil {
			return service.Answer{}, err
		}
		offers = append(offers, o)
	}
	return service.JSON(http.StatusOK, struct {
		From      string    `json:"from"`
		To        string    `json:"to"`
		At        time.Time `json:"at"`
		Providers []Offer   `json:"providers"`
	}{c.from, c.to, c.at, offers})
}
