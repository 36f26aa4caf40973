package fx

import (
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/goccy/go-yaml"

	"dhow/superapp/money"
)

//go:embed providers.yaml
var providerList []byte

// provider pays out abroad, at a rate and for a fee of its own.
type provider struct {
	Name    string
	Margin  int64            // below mid, in parts per million
	Fee     int64            // in US cents
	Fees    map[string]int64 // where it differs, by the currency that is paid out
	Only    []string         // empty: all currencies
	Without []string
}

// Offer is a provider's for one pair of currencies.
type Offer struct {
	Provider string `json:"provider"`
	// Rate is a decimal number: what one unit of the first currency is in the second.
	Rate string `json:"rate"`
	// Fee is in minor units of FeeCurrency.
	Fee         int64  `json:"fee"`
	FeeCurrency string `json:"fee_currency"`
}

// readProviders reads a list of providers. An error is a mistake in the data.
func readProviders(text []byte) ([]provider, error) {
	var list []provider
	if err := yaml.UnmarshalWithOptions(text, &list, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("read the providers: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("read the providers: there are none")
	}
	for _, p := range list {
		codes := slices.Concat(p.Only, p.Without)
		for code, fee := range p.Fees {
			if fee < 0 {
				return nil, fmt.Errorf("read the providers: a fee of %s is below zero", p.Name)
			}
			codes = append(codes, code)
		}
		for _, code := range codes {
			if _, known := money.Digits(code); !known {
				return nil, fmt.Errorf("read the providers: %s names %q, which is no currency", p.Name, code)
			}
		}
		if p.Name == "" || p.Margin < 0 || p.Margin >= million || p.Fee < 0 {
			return nil, fmt.Errorf("read the providers: %q has no name, or a margin or a fee out of range", p.Name)
		}
	}
	return list, nil
}

func (p provider) pays(currency string) bool {
	return !slices.Contains(p.Without, currency) && (len(p.Only) == 0 || slices.Contains(p.Only, currency))
}

// offer is what the provider gives: a rate that is rounded down, a fee that is rounded up.
func (p provider) offer(c cross) (Offer, error) {
	rate := new(big.Rat).Mul(c.rate, big.NewRat(million-p.Margin, million))
	if c.from == c.to {
		rate = big.NewRat(1, 1) // nothing is exchanged
	}
	text, err := money.FormatRate(rate, money.Floor)
	if err != nil {
		return Offer{}, fmt.Errorf("write the rate of %s: %w", p.Name, err)
	}
	cents, special := p.Fees[c.to]
	if !special {
		cents = p.Fee
	}
	fee, fits := money.Convert(cents, Base, c.from, c.perBase[c.from], money.Ceil)
	if !fits {
		return Offer{}, fmt.Errorf("the fee of %s in %s is too large", p.Name, c.from)
	}
	return Offer{Provider: p.Name, Rate: text, Fee: fee, FeeCurrency: c.from}, nil
}
