package accounts

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// An unknown email must take as long as a wrong PIN, and no PIN may be nobody's.
func TestNobodysPIN(t *testing.T) {
	cost, err := bcrypt.Cost([]byte(nobodysPIN))
	if err != nil || cost != PINCost {
		t.Errorf("the hash has cost %d, %v; want %d", cost, err, PINCost)
	}
	if bcrypt.CompareHashAndPassword([]byte(nobodysPIN), []byte("2468")) == nil {
		t.Error("2468 is nobody's PIN")
	}
}

func TestJoiningIsChecked(t *testing.T) {
	good := joining{"Layla Haddad", "layla@example.com", "2468", "ar"}
	for _, c := range []struct {
		edit func(*joining)
		code string
	}{
		{func(*joining) {}, ""},
		{func(j *joining) { j.Name = "ليلى" }, ""},
		{func(j *joining) { j.Email = "  Layla@Example.COM " }, ""},
		{func(j *joining) { j.Name = " " }, "invalid_name"},
		{func(j *joining) { j.Name = "a\x00b" }, "invalid_name"},
		{func(j *joining) { j.Name = strings.Repeat("x", 101) }, "invalid_name"},
		{func(j *joining) { j.Email = "layla" }, "invalid_email"},
		{func(j *joining) { j.Email = "Layla <layla@example.com>" }, "invalid_email"},
		{func(j *joining) { j.Email = strings.Repeat("x", 250) + "@example.com" }, "invalid_email"},
		{func(j *joining) { j.PIN = "123" }, "invalid_pin"},
		{func(j *joining) { j.PIN = "1234567890123" }, "invalid_pin"},
		{func(j *joining) { j.PIN = "12a4" }, "invalid_pin"},
		{func(j *joining) { j.Language = "fr" }, "invalid_language"},
	} {
		j := good
		c.edit(&j)
		err := j.check()
		if c.code == "" && (err != nil || j.Email != good.Email) || c.code != "" && (err == nil || !strings.HasPrefix(err.Error(), c.code+":")) {
			t.Errorf("%+v: %v, want %q", j, err, c.code)
		}
	}
}

// Whatever is sent as an email has one form that the database takes.
func FuzzNormal(f *testing.F) {
	for _, s := range []string{"a@example.com", " A@Example.COM\t", "\x00\xff", "İ@example.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := normal(s)
		if n != normal(n) || !utf8.ValidString(n) || strings.ContainsFunc(n, unicode.IsControl) {
			t.Errorf("%q becomes %q, then %q", s, n, normal(n))
		}
	})
}
