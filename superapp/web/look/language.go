package look

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bojanz/currency"
	"github.com/goccy/go-yaml"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// dubai is the customers' time: four hours ahead all year, so no time zone data is needed.
const dubai = 4 * 60 * 60

// Language is one in which pages are written.
type Language struct {
	// Code is its tag, Dir the direction in which it is written.
	Code, Dir string
	words     map[string]string
	money     *currency.Formatter
	regions   display.Namer
	zone      *time.Location
}

// Languages are all that there are, by code.
type Languages map[string]*Language

// English is what a page is written in when nobody chose.
const English = "en"

// Load reads the words of each language: one flat YAML file each, named by its code.
func Load(folder fs.FS) (Languages, error) {
	all := Languages{}
	names, err := fs.Glob(folder, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the languages: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, fmt.Errorf("read a language: %w", err)
		}
		l := &Language{Code: strings.TrimSuffix(path.Base(name), ".yaml"), Dir: "ltr", zone: time.FixedZone("GST", dubai)}
		if err := yaml.Unmarshal(text, &l.words); err != nil {
			return nil, fmt.Errorf("read the words of %s: %w", name, err)
		}
		tag, err := language.Parse(l.Code)
		if err != nil {
			return nil, fmt.Errorf("%s is not named as a language: %w", name, err)
		}
		if l.Code == "ar" {
			l.Dir = "rtl"
		}
		// As it is written in the Emirates, in both languages with the digits 0 to 9.
		l.money = currency.NewFormatter(currency.NewLocale(l.Code + "-AE"))
		l.money.CurrencyDisplay = currency.DisplayCode
		l.regions = display.Regions(tag)
		all[l.Code] = l
	}
	return all, nil
}

// Choose is the first of the wished languages that there is; a wish may be a
// browser's whole list.
func (all Languages) Choose(wishes ...string) *Language {
	for _, wish := range wishes {
		tags, _, err := language.ParseAcceptLanguage(wish)
		if err != nil {
			continue // what nobody can read is no wish
		}
		for _, tag := range tags {
			base, _ := tag.Base()
			if l := all[base.String()]; l != nil {
				return l
			}
		}
	}
	return all[English]
}

// Others are the languages beside this one, in order of their codes.
func (all Languages) Others(l *Language) []*Language {
	others := slices.SortedFunc(maps.Values(all), func(a, b *Language) int { return strings.Compare(a.Code, b.Code) })
	return slices.DeleteFunc(others, func(o *Language) bool { return o == l })
}

// Keys are the names of all words, in order.
func (l *Language) Keys() []string { return slices.Sorted(maps.Keys(l.words)) }

// Text is a text by its key, with its places filled. An unknown key is an error
// of whoever wrote the page; the error makes templates and their tests fail.
func (l *Language) Text(key string, args ...any) (string, error) {
	text, ok := l.words[key]
	if !ok {
		return "", fmt.Errorf("language %s has no text %q", l.Code, key)
	}
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	return text, nil
}

// Word is the word for a name that other services give, such as a state or a
// category; the name itself where there is none.
func (l *Language) Word(group, name string) string {
	if word, ok := l.words[group+"."+name]; ok {
		return word
	}
	return name
}

// Money writes an amount of minor units with its currency.
func (l *Language) Money(amount int64, code string) string {
	a, err := currency.NewAmountFromInt64(amount, code)
	if err != nil {
		return fmt.Sprint(amount, " ", code) // no currency that this program knows
	}
	return l.money.Format(a)
}

// Signed is Money with a plus sign where money came in.
func (l *Language) Signed(amount int64, code string) string {
	if amount > 0 {
		return "+" + l.Money(amount, code)
	}
	return l.Money(amount, code)
}

// Country is a country's name by its code of two letters, or the fallback.
func (l *Language) Country(code, fallback string) string {
	region, err := language.ParseRegion(code)
	if err != nil {
		return fallback
	}
	if name := l.regions.Name(region); name != "" {
		return name
	}
	return fallback
}

// Month is a month's name and year, for one written as 2026-11.
func (l *Language) Month(month string) string {
	t, err := time.Parse("2006-01", month)
	if err != nil {
		return month
	}
	return l.monthName(t) + fmt.Sprintf(" %d", t.Year())
}

// ShortMonth is the beginning of its name.
func (l *Language) ShortMonth(month string) string {
	t, err := time.Parse("2006-01", month)
	if err != nil {
		return month
	}
	return l.Word("month.short", fmt.Sprint(int(t.Month())))
}

func (l *Language) monthName(t time.Time) string {
	return l.Word("month", fmt.Sprint(int(t.Month())))
}

// Date is a day as people write it.
func (l *Language) Date(t time.Time) string {
	t = t.In(l.zone)
	return fmt.Sprintf("%d %s %d", t.Day(), l.monthName(t), t.Year())
}

// Time is a day and the minute.
func (l *Language) Time(t time.Time) string {
	return l.Date(t) + t.In(l.zone).Format(" 15:04")
}
