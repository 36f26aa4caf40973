package move

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestStreamNames(t *testing.T) {
	if there, back := StreamNames("bank", "ledger_2", 63); there != "dhow_bank_ledger_2" || back != "dhow_bank_ledger_2_back" {
		t.Errorf("a plain name became %s and %s", there, back)
	}
	a, _ := StreamNames("bank", "Ledger", 63)
	b, _ := StreamNames("bank", "ledgeR", 63)
	if a == b || !strings.HasPrefix(a, "dhow_bank__edger_") {
		t.Errorf("names that differ in what had to be changed became %s and %s", a, b)
	}
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(40, 63).Draw(t, "most")
		there, back := StreamNames(rapid.String().Draw(t, "estate"), rapid.String().Draw(t, "database"), most)
		if len(back) > most || back != there+"_back" || strings.Trim(back, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Fatalf("%q and %q, of at most %d bytes", there, back, most)
		}
	})
}
