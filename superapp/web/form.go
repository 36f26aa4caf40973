package web

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"dhow/superapp/service"
	"dhow/superapp/web/look"
)

const (
	// maxNote and maxField are in characters.
	maxNote  = 140
	maxField = 200
	// keyField is the hidden field with the idempotency key that a form was made
	// with: sent twice, it is done once.
	keyField = "key"
	// csrfField is the hidden field with the session's token.
	csrfField = "csrf"
)

// field is one that a person fills; its label is the text "field.NAME" and its
// hint "hint.NAME".
type field struct {
	Name, Value string
	// Type is an input's, or select, textarea, radio, hidden.
	Type string
	// Label is what stands for the text "field.NAME".
	Label string
	// Options are those of a select or a radio.
	Options []option
	// Auto is what the browser may fill in.
	Auto string
	// Error says what is wrong with the value, in the page's language.
	Error    string
	Optional bool
	Hinted   bool
	// HintText is what stands for the text "hint.NAME".
	HintText string
	Most     int
}

type option struct{ Value, Text string }

// form is fields, with what is wrong with them together.
type form struct {
	Fields  []*field
	Problem string
	Key     string
	lang    *look.Language
}

// form makes an empty form, under a new idempotency key.
func (v *visit) form(fields ...*field) *form {
	for _, f := range fields {
		if f.Type == "" {
			f.Type = "text"
		}
		if f.Most == 0 {
			f.Most = maxField
		}
		if len(f.Options) > 0 && f.Value == "" {
			f.Value = f.Options[0].Value
		}
	}
	return &form{Fields: fields, Key: uuid.NewString(), lang: v.lang}
}

// read fills the form with what was sent and checks what holds for every field.
func (f *form) read(r *http.Request) bool {
	if key, err := uuid.Parse(r.PostFormValue(keyField)); err == nil {
		f.Key = key.String()
	}
	for _, x := range f.Fields {
		x.Value = strings.TrimSpace(r.PostFormValue(x.Name))
		switch {
		case x.Value == "" && !x.Optional:
			f.fail(x.Name, "error.missing")
		case utf8.RuneCountInString(x.Value) > x.Most:
			f.fail(x.Name, "error.long", x.Most)
		case x.Type != "textarea" && strings.ContainsFunc(x.Value, unicode.IsControl):
			f.fail(x.Name, "error.invalid")
		case len(x.Options) > 0 && !offers(x.Options, x.Value):
			f.fail(x.Name, "error.choice")
		}
	}
	return f.good()
}

func offers(options []option, value string) bool {
	for _, o := range options {
		if o.Value == value {
			return true
		}
	}
	return false
}

func (f *form) field(name string) *field {
	for _, x := range f.Fields {
		if x.Name == name {
			return x
		}
	}
	return &field{}
}

func (f *form) value(name string) string { return f.field(name).Value }

// fail says what is wrong with one field; the first word counts.
func (f *form) fail(name, key string, args ...any) {
	if x := f.field(name); x.Error == "" {
		x.Error = text(f.lang, key, args...)
	}
}

// good says whether nothing is wrong.
func (f *form) good() bool {
	for _, x := range f.Fields {
		if x.Error != "" {
			return false
		}
	}
	return f.Problem == ""
}

// amount reads a field as an amount of a currency.
func (f *form) amount(name, currency string) int64 {
	n, err := parseAmount(f.value(name), currency)
	switch {
	case errors.Is(err, errDecimals):
		f.fail(name, "error.decimals", currency)
	case errors.Is(err, errRange):
		f.fail(name, "error.range")
	case err != nil:
		f.fail(name, "error.amount")
	}
	return n
}

// status is what a page with this form is answered with.
func (f *form) status() int {
	if f.good() {
		return http.StatusOK
	}
	return http.StatusUnprocessableEntity
}

// tell puts what a service said of the form onto it, and returns the status of the
// page that shows it again. A refusal is kept under its key, so that the next try
// needs a new one; without an answer the same key is asked again.
func (v *visit) tell(f *form, err error) int {
	if code, ok := refused(err); ok {
		f.Key = uuid.NewString()
		f.Problem = v.refusal(code)
		return http.StatusUnprocessableEntity
	}
	v.note(err)
	f.Problem = v.text("error.unanswered")
	if service.Away(err) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// refusal is a refusal's code in the page's language.
func (v *visit) refusal(code string) string {
	if word := v.lang.Word("refusal", code); word != code {
		return word
	}
	return v.text("error.refused", code)
}
