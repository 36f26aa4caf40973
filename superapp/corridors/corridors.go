// Package corridors knows the countries that money can be sent to, in which
// currencies, and how an account is written there: an IBAN with its check digits,
// a routing number, a CLABE, a mobile wallet. It knows no rates and no fees, and
// whether an account exists only its bank can say.
//
// A country pays out in one way, the usual one. Countries under comprehensive or
// sweeping sanctions are left out: Belarus, Cuba, Iran, North Korea, Russia and
// Syria; so are the Emirates, from where money is sent, and territories without
// banks of their own.
package corridors

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/biter777/countries"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"dhow/superapp/money"
)

// The corridors are data: one row a field, in the order in which a form asks for
// them. A row's pattern, if any, narrows its field's.
var (
	//go:embed corridors.csv
	corridorRows []byte
	//go:embed fields.csv
	fieldRows []byte
)

// maxValue bounds what is looked at of a field: twice the longest account number, with spaces.
const maxValue = 80

// Corridor is a country that money can be sent to.
type Corridor struct {
	// Country is its ISO 3166 code, two letters.
	Country string
	// Currencies are ISO 4217 codes; the first is the usual one.
	Currencies []string
	// Fields are all asked for.
	Fields []Field
}

// Field is one part of what names an account.
type Field struct {
	Name string
	// Kind is how it is typed: digits, text or phone.
	Kind string
	// English and Arabic are its labels.
	English, Arabic string
	// Example is a value that is well formed, of nobody's account.
	Example string

	wrong    string // one that is not well formed
	patterns []*regexp.Regexp
	check    check
}

// Invalid says which field of an account is wrong. It does not repeat its value.
type Invalid struct { //nolint:errname // it is read as "invalid field"
	Field, Text string
}

func (i *Invalid) Error() string { return i.Field + ": " + i.Text }

// Book is all the corridors, by country.
type Book struct {
	all []Corridor
}

// Load reads the corridors that are built in. An error is a mistake in the data.
func Load() (*Book, error) { return read(fieldRows, corridorRows) }

// All are the corridors in the order of their countries' codes.
func (b *Book) All() []Corridor { return b.all }

// Find is a country's corridor.
func (b *Book) Find(country string) (Corridor, bool) {
	i, found := slices.BinarySearchFunc(b.all, country, func(c Corridor, country string) int { return strings.Compare(c.Country, country) })
	if !found {
		return Corridor{}, false
	}
	return b.all[i], true
}

// Name is the country's name in a language.
func (c Corridor) Name(of language.Tag) string {
	region, err := language.ParseRegion(c.Country)
	if err != nil {
		return c.Country
	}
	return display.Regions(of).Name(region)
}

// Pays says whether a currency is paid out there.
func (c Corridor) Pays(currency string) bool { return slices.Contains(c.Currencies, currency) }

// Check reads an account's fields and gives them as they are kept: without spaces
// and hyphens, in capital letters. Its error is an *Invalid.
func (c Corridor) Check(given map[string]string) (map[string]string, error) {
	clean := make(map[string]string, len(c.Fields))
	for _, f := range c.Fields {
		value, err := f.read(c.Country, given[f.Name])
		if err != nil {
			return nil, err
		}
		clean[f.Name] = value
	}
	for name := range given {
		if _, known := clean[name]; !known {
			return nil, &Invalid{Field: firstRunes(name), Text: "an account in this country has no such field"}
		}
	}
	return clean, nil
}

// firstRunes bounds a name that a client made up.
func firstRunes(name string) string {
	const most = 32
	if r := []rune(name); len(r) > most {
		return string(r[:most])
	}
	return name
}

func (f Field) read(country, value string) (string, error) {
	if len(value) > maxValue {
		return "", &Invalid{f.Name, "it is too long"}
	}
	clean := strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(value))
	if clean == "" {
		return "", &Invalid{f.Name, "it is missing"}
	}
	for _, p := range f.patterns {
		if !p.MatchString(clean) {
			return "", &Invalid{f.Name, "it must look like " + f.Example}
		}
	}
	if f.check != nil && !f.check(country, clean) {
		return "", &Invalid{f.Name, "its check digits do not fit, or it belongs to another country: look for a typing error"}
	}
	return clean, nil
}

// read makes the book of its two tables.
func read(fields, rows []byte) (*Book, error) {
	kinds, err := readFields(fields)
	if err != nil {
		return nil, err
	}
	table, err := readTable(rows, "country", "currencies", "field", "pattern", "valid", "invalid")
	if err != nil {
		return nil, fmt.Errorf("read the corridors: %w", err)
	}
	b := &Book{}
	for _, row := range table {
		if err := b.add(kinds, row); err != nil {
			return nil, fmt.Errorf("read the corridor to %s, field %s: %w", row[0], row[2], err)
		}
	}
	return b, nil
}

func (b *Book) add(kinds map[string]Field, row []string) error {
	country, currencies, name, pattern := row[0], strings.Fields(row[1]), row[2], row[3]
	f, known := kinds[name]
	if !known {
		return errors.New("the table of fields does not know this field")
	}
	f.Example, f.wrong = row[4], row[5]
	if pattern != "" {
		narrow, err := whole(pattern)
		if err != nil {
			return err
		}
		f.patterns = append(slices.Clone(f.patterns), narrow)
	}
	if len(currencies) > 0 {
		if err := b.begin(country, currencies); err != nil {
			return err
		}
	}
	if len(b.all) == 0 || b.all[len(b.all)-1].Country != country {
		return errors.New("the first row of a country names its currencies")
	}
	c := &b.all[len(b.all)-1]
	if slices.ContainsFunc(c.Fields, func(g Field) bool { return g.Name == name }) {
		return errors.New("the field is there twice")
	}
	c.Fields = append(c.Fields, f)
	return nil
}

// begin starts a country's corridor, behind the one before it.
func (b *Book) begin(country string, currencies []string) error {
	if !countries.ByName(country).IsValid() || len(country) != 2 {
		return errors.New("there is no such country")
	}
	if n := len(b.all); n > 0 && b.all[n-1].Country >= country {
		return errors.New("the countries must be in the order of their codes")
	}
	for _, code := range currencies {
		if _, known := money.Digits(code); !known {
			return fmt.Errorf("there is no currency %s", code)
		}
	}
	b.all = append(b.all, Corridor{Country: country, Currencies: currencies})
	return nil
}

func readFields(text []byte) (map[string]Field, error) {
	table, err := readTable(text, "field", "kind", "pattern", "check", "english", "arabic")
	if err != nil {
		return nil, fmt.Errorf("read the table of fields: %w", err)
	}
	known := checks()
	fields := make(map[string]Field, len(table))
	for _, row := range table {
		pattern, err := whole(row[2])
		if err != nil {
			return nil, fmt.Errorf("read the field %s: %w", row[0], err)
		}
		f := Field{Name: row[0], Kind: row[1], English: row[4], Arabic: row[5], patterns: []*regexp.Regexp{pattern}}
		if name := row[3]; name != "" {
			if f.check = known[name]; f.check == nil {
				return nil, fmt.Errorf("read the field %s: there is no check %s", row[0], name)
			}
		}
		fields[f.Name] = f
	}
	return fields, nil
}

func whole(pattern string) (*regexp.Regexp, error) { return regexp.Compile("^(?:" + pattern + ")$") }

// readTable is a CSV file's rows below a header that must be this one.
func readTable(text []byte, header ...string) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = len(header)
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], header) {
		return nil, fmt.Errorf("the first line must be %s", strings.Join(header, ","))
	}
	return rows[1:], nil
}
