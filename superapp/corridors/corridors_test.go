package corridors

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/bojanz/currency"
	"golang.org/x/text/language"
)

func load(tb testing.TB) *Book {
	tb.Helper()
	b, err := Load()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// What is promised to customers: at least 160 countries and 99 currencies, each
// country with an account that is accepted and, for each field, one that is not.
func TestEveryCorridor(t *testing.T) {
	const leastCountries, leastCurrencies = 160, 99
	b := load(t)
	currencies := map[string]bool{}
	for _, c := range b.All() {
		t.Run(c.Country, func(t *testing.T) {
			for _, code := range c.Currencies {
				if !currency.IsValid(code) {
					t.Errorf("%q is no currency", code)
				}
				currencies[code] = true
			}
			for _, tag := range []language.Tag{language.English, language.Arabic} {
				if name := c.Name(tag); name == "" || name == c.Country {
					t.Errorf("in %s its name is %q", tag, name)
				}
			}
			valid := map[string]string{}
			for _, f := range c.Fields {
				if f.English == "" || f.Arabic == "" || f.Kind == "" {
					t.Errorf("the field %s has no label", f.Name)
				}
				valid[f.Name] = f.Example
			}
			clean, err := c.Check(valid)
			if err != nil || !maps.Equal(clean, valid) {
				t.Fatalf("the valid example: %v, %v", clean, err)
			}
			for _, f := range c.Fields {
				for _, wrong := range []string{f.wrong, ""} {
					given := maps.Clone(valid)
					given[f.Name] = wrong
					_, err := c.Check(given)
					var no *Invalid
					if !errors.As(err, &no) || no.Field != f.Name {
						t.Errorf("%s = %q: %v, want a refusal that names it", f.Name, wrong, err)
					}
				}
			}
		})
	}
	t.Logf("%d countries, %d currencies", len(b.All()), len(currencies))
	if len(b.All()) < leastCountries || len(currencies) < leastCurrencies {
		t.Errorf("%d countries and %d currencies, want %d and %d", len(b.All()), len(currencies), leastCountries, leastCurrencies)
	}
}

func TestLeftOut(t *testing.T) {
	b := load(t)
	for _, country := range []string{"BY", "CU", "IR", "KP", "RU", "SY", "AE", "", "XX", "pk"} {
		if _, found := b.Find(country); found {
			t.Errorf("%q has a corridor", country)
		}
	}
	if c, found := b.Find("PK"); !found || !c.Pays("PKR") || c.Pays("INR") {
		t.Errorf("Pakistan: %v", c)
	}
}

// Every single wrong digit is found by the check digits.
func TestCheckDigits(t *testing.T) {
	b := load(t)
	for country, field := range map[string]string{"PK": "iban", "GP": "iban", "US": "aba", "MX": "clabe", "AR": "cbu", "CM": "rib", "BJ": "rib", "MA": "rib", "AO": "nib", "CL": "rut", "BR": "tax_id"} {
		c, _ := b.Find(country)
		given := map[string]string{}
		for _, f := range c.Fields {
			given[f.Name] = f.Example
		}
		right := given[field]
		for i := range right {
			if right[i] < '0' || right[i] > '9' {
				continue
			}
			given[field] = right[:i] + string('0'+(right[i]-'0'+1)%10) + right[i+1:]
			if _, err := c.Check(given); err == nil {
				t.Errorf("%s %s: %s is accepted as well as %s", country, field, given[field], right)
			}
		}
	}
}

func TestCheckReads(t *testing.T) {
	b := load(t)
	c, _ := b.Find("GB")
	clean, err := c.Check(map[string]string{"sort_code": "20-04-15", "account": " 3829 0008 "})
	if err != nil || clean["sort_code"] != "200415" || clean["account"] != "38290008" {
		t.Errorf("%v, %v", clean, err)
	}
	for name, given := range map[string]map[string]string{
		"iban":      {"sort_code": "200415", "account": "38290008", "iban": "GB"},
		"sort_code": {"account": "38290008"},
		"account":   {"sort_code": "200415", "account": strings.Repeat("0", 1000)},
	} {
		_, err := c.Check(given)
		var no *Invalid
		if !errors.As(err, &no) || no.Field != name || strings.Contains(no.Text, "0000000") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Check(map[string]string{"sort_code": "200415", "account": "38290008", strings.Repeat("ü", 100): "x"}); err == nil || len(err.Error()) > 200 {
		t.Errorf("a long name of a field: %v", err)
	}
}

func TestBadTables(t *testing.T) {
	const fields, rows = "field,kind,pattern,check,english,arabic\n", "country,currencies,field,pattern,valid,invalid\n"
	const account = fields + "account,text,[0-9]+,,Account,حساب\n"
	for _, c := range []struct{ fields, rows, want string }{
		{"", rows, "the first line"},
		{fields + "a,text,[,,A,A\n", rows, "missing closing"},
		{fields + "a,text,.,none,A,A\n", rows, "there is no check none"},
		{account, "", "the first line"},
		{account, rows + "DE,EUR,iban,,1,2\n", "does not know this field"},
		{account, rows + "QQ,EUR,account,,1,2\n", "no such country"},
		{account, rows + "DE,EURO,account,,1,2\n", "no currency EURO"},
		{account, rows + "DE,,account,,1,2\n", "names its currencies"},
		{account, rows + "DE,EUR,account,,1,2\nDE,,account,,1,2\n", "twice"},
		{account, rows + "DE,EUR,account,,1,2\nAT,EUR,account,,1,2\n", "order"},
		{account, rows + "DE,EUR,account,[,1,2\n", "missing closing"},
	} {
		if _, err := read([]byte(c.fields), []byte(c.rows)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.fields+c.rows, err, c.want)
		}
	}
}

// No input breaks the checks, and what is accepted once is accepted in the form that was kept.
func FuzzCheck(f *testing.F) {
	b := load(f)
	for i, c := range b.All() {
		for j, g := range c.Fields {
			f.Add(uint8(i), uint8(j), g.Example)
			f.Add(uint8(i), uint8(j), g.wrong)
		}
	}
	f.Fuzz(func(t *testing.T, i, j uint8, value string) {
		c := b.All()[int(i)%len(b.All())]
		given := map[string]string{}
		for _, g := range c.Fields {
			given[g.Name] = g.Example
		}
		given[c.Fields[int(j)%len(c.Fields)].Name] = value
		clean, err := c.Check(given)
		if err != nil {
			if no := (*Invalid)(nil); !errors.As(err, &no) {
				t.Fatalf("the error is no *Invalid: %v", err)
			}
			return
		}
		if again, err := c.Check(clean); err != nil || !maps.Equal(again, clean) {
			t.Fatalf("%v was kept, and read again as %v, %v", clean, again, err)
		}
	})
}
