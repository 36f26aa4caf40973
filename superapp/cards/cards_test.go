package cards_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"dhow/superapp/cards"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestOpenAPI(t *testing.T) {
	app := cards.Build(service.Base{Metrics: prometheus.NewRegistry()}, cards.NoNumbers, nil, nil)
	servicetest.OpenAPI(t, app.OpenAPI, app.Routes)
}

func TestCheckDigit(t *testing.T) {
	// Numbers that card networks and shops publish for tests.
	for _, number := range []string{"4242424242424242", "5555555555554444", "378282246310005", "6011000990139424", "3566002020360505"} {
		if last := len(number) - 1; cards.CheckDigit(number[:last]) != number[last] {
			t.Errorf("%s is not valid", number)
		}
	}
}

// A mistyped digit makes a number invalid, whichever it is.
func FuzzCheckDigit(f *testing.F) {
	f.Add("990000123456789", uint(3), byte(4))
	f.Fuzz(func(t *testing.T, number string, at uint, other byte) {
		if number == "" || strings.Trim(number, "0123456789") != "" {
			return
		}
		digit := cards.CheckDigit(number)
		if digit < '0' || digit > '9' {
			t.Fatalf("%s gets %q", number, digit)
		}
		wrong := []byte(number)
		i := at % uint(len(wrong))
		if wrong[i] = '0' + other%10; wrong[i] != number[i] && cards.CheckDigit(string(wrong)) == digit {
			t.Errorf("%s and %s get the same digit", number, wrong)
		}
	})
}

func TestNumbers(t *testing.T) {
	of, tag := cards.Numbers("a secret of more than 32 characters")
	other, otherTag := cards.Numbers("another secret of 32 characters or more")
	form := regexp.MustCompile(`^990000[0-9]{10}$`)
	seen := map[string]bool{}
	for _, token := range []string{"a", "b", "c", strings.Repeat("d", 32)} {
		n := of(token)
		if !form.MatchString(n) || cards.CheckDigit(n[:15]) != n[15] || of(token) != n || other(token) == n || seen[n] {
			t.Errorf("%q has the number %s", token, n)
		}
		if bytes.Equal(tag(n), otherTag(n)) || !bytes.Equal(tag(n), tag(n)) || bytes.Contains(tag(n), []byte(n)) {
			t.Errorf("the tag of %s is %x", n, tag(n))
		}
		seen[n] = true
	}
}

func TestRunNeedsAKey(t *testing.T) {
	for _, key := range []string{"", "short"} {
		t.Setenv("CARDS_KEY", key)
		if err := cards.Run(t.Context(), service.Options{}, nil, nil); err == nil || !strings.Contains(err.Error(), "CARDS_KEY") || key != "" && strings.Contains(err.Error(), key) {
			t.Errorf("with the key %q: %v", key, err)
		}
	}
}
