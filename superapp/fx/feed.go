package fx

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"slices"
	"strconv"

	"dhow/superapp/money"
)

// Base is the currency that all rates are told in: what one dollar is.
const Base = "USD"

//go:embed rates.csv
var rateRows []byte

// feed stands for a market feed. The rates of any tick follow from the tick's
// number alone, so whoever leads next goes on without a jump.
type feed struct {
	seed   uint64
	quotes []quotation // of the dollar first, then of other currencies
}

// quotation is a row of the data.
type quotation struct {
	currency, of string
	rate         *big.Rat
	sway         int64 // parts per million
}

// newFeed reads the rates that are built in. An error is a mistake in the data.
func newFeed(seed uint64) (*feed, error) { return readFeed(seed, rateRows) }

func readFeed(seed uint64, text []byte) (*feed, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the table of rates: %w", err)
	}
	if header := []string{"currency", "rate", "of", "sway"}; len(rows) == 0 || !slices.Equal(rows[0], header) {
		return nil, errors.New("read the table of rates: its first line must be currency,rate,of,sway")
	}
	f := &feed{seed: seed}
	direct := map[string]bool{}
	for _, row := range rows[1:] {
		q, err := readQuotation(row)
		if err != nil {
			return nil, fmt.Errorf("read the rate of %s: %w", row[0], err)
		}
		direct[q.currency] = q.of == Base
		f.quotes = append(f.quotes, q)
	}
	for _, q := range f.quotes {
		if !direct[q.of] {
			return nil, fmt.Errorf("read the rate of %s: %s has no rate of its own to the dollar", q.currency, q.of)
		}
	}
	slices.SortStableFunc(f.quotes, func(a, b quotation) int { return order(a) - order(b) })
	return f, nil
}

func order(q quotation) int {
	if q.of == Base {
		return 0
	}
	return 1
}

func readQuotation(row []string) (quotation, error) {
	q := quotation{currency: row[0], of: row[2]}
	if _, known := money.Digits(q.currency); !known {
		return q, errors.New("there is no such currency")
	}
	var err error
	if q.rate, err = money.ParseRate(row[1]); err != nil {
		return q, err
	}
	if q.sway, err = strconv.ParseInt(row[3], 10, 64); err != nil || q.sway < 0 || q.sway >= million {
		return q, errors.New("the sway must be a whole number of parts per million")
	}
	return q, nil
}

// million is what margins and sways are parts of.
const million = 1_000_000

// rates are all of a tick, as they are written down.
func (f *feed) rates(tick int64) (map[string]string, error) {
	exact, texts := make(map[string]*big.Rat, len(f.quotes)), make(map[string]string, len(f.quotes))
	exact[Base] = big.NewRat(1, 1)
	for _, q := range f.quotes {
		rate := new(big.Rat).Mul(q.rate, exact[q.of])
		rate.Mul(rate, big.NewRat(million*full+q.sway*f.noise(q.currency, tick), million*full))
		text, err := money.FormatRate(rate, money.Nearest)
		if err != nil {
			return nil, fmt.Errorf("write the rate of %s: %w", q.currency, err)
		}
		exact[q.currency], texts[q.currency] = rate, text
	}
	return texts, nil
}

// full is the widest noise.
const full = 1_000

// noise is a walk from -full to full, without a step's needing the one before:
// slow waves with quicker and smaller ones on them, each a line from one random
// height to the next.
func (f *feed) noise(currency string, tick int64) int64 {
	sum := int64(0)
	for _, wave := range [...]struct{ length, share int64 }{{4096, 5}, {256, 3}, {16, 2}} {
		n, k := tick/wave.length, tick%wave.length
		a, b := f.height(currency, wave.length, n), f.height(currency, wave.length, n+1)
		sum += wave.share * (a*(wave.length-k) + b*k) / wave.length
	}
	const shares = 10 // of all waves
	return sum / shares
}

// height is a random number from -full to full that is always the same for its place.
func (f *feed) height(currency string, length, n int64) int64 {
	h := fnv.New64a()
	var place []byte
	place = binary.BigEndian.AppendUint64(place, f.seed)
	place = binary.BigEndian.AppendUint64(place, uint64(length))
	place = binary.BigEndian.AppendUint64(place, uint64(n))
	_, _ = h.Write(append(place, currency...)) // a hash's Write does not fail
	// The sum's low bits are poor in one that is so quick; folding mixes the high ones in.
	sum := h.Sum64()
	sum ^= sum >> 32
	return int64(sum%(2*full+1)) - full
}
