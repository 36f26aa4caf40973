package web

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template/parse"
	"time"

	"golang.org/x/net/html"

	"dhow/superapp/web/look"
)

// maxPage is what a page may weigh, in bytes.
const maxPage = 30 << 10

func newTestFront(t *testing.T) *front {
	t.Helper()
	f, err := newFront(&services{})
	if err != nil {
		t.Fatal(err)
	}
	f.log = slog.New(slog.DiscardHandler)
	return f
}

func TestLanguagesHaveTheSameWords(t *testing.T) {
	f := newTestFront(t)
	verbs := regexp.MustCompile(`%[a-z]`)
	en, ar := f.languages["en"], f.languages["ar"]
	if !slices.Equal(en.Keys(), ar.Keys()) {
		t.Errorf("keys differ: %v", slices.DeleteFunc(slices.Concat(en.Keys(), ar.Keys()), func(k string) bool { return slices.Contains(en.Keys(), k) && slices.Contains(ar.Keys(), k) }))
	}
	for _, key := range en.Keys() {
		one, two := verbs.FindAllString(text(en, key), -1), verbs.FindAllString(text(ar, key), -1)
		if !slices.Equal(one, two) {
			t.Errorf("%s has the places %v in English and %v in Arabic", key, one, two)
		}
	}
	if ar.Dir != "rtl" || en.Dir != "ltr" {
		t.Errorf("directions are %s and %s", en.Dir, ar.Dir)
	}
}

// Every text that a template names is there, with as many places as it is given values.
func TestTemplatesNameTextsThatThereAre(t *testing.T) {
	f := newTestFront(t)
	seen := 0
	for page, tree := range f.pages["en"] {
		for _, part := range tree.Templates() {
			if part.Tree == nil {
				continue // the root is empty
			}
			walk(reflect.ValueOf(part.Tree.Root), func(c *parse.CommandNode) {
				if id, ok := c.Args[0].(*parse.IdentifierNode); !ok || id.Ident != "t" {
					return
				}
				key, ok := c.Args[1].(*parse.StringNode)
				if !ok {
					return // made of parts: the pages' test makes it
				}
				seen++
				if text, err := f.languages["en"].Text(key.Text); err != nil || strings.Count(text, "%") != len(c.Args)-2 {
					t.Errorf("%s: %s: %v, or its %d values have no places", page, c, err, len(c.Args)-2)
				}
			})
		}
	}
	if seen < 100 {
		t.Errorf("only %d texts were found: the search misses some", seen)
	}
}

// walk visits every command below a node.
func walk(v reflect.Value, visit func(*parse.CommandNode)) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() || v.Type() == reflect.TypeFor[*parse.Tree]() {
			return
		}
		if c, ok := v.Interface().(*parse.CommandNode); ok {
			visit(c)
		}
		walk(v.Elem(), visit)
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				walk(v.Field(i), visit)
			}
		}
	}
}

// Every text that the code names is there.
func TestCodeNamesTextsThatThereAre(t *testing.T) {
	f := newTestFront(t)
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := ""
			switch fun := call.Fun.(type) {
			case *ast.SelectorExpr:
				name = fun.Sel.Name
			case *ast.Ident:
				name = fun.Name
			}
			at := map[string]int{"text": 0, "fail": 1, "failed": 1}
			if i, ok := at[name]; ok && len(call.Args) > i {
				if lit, ok := call.Args[i].(*ast.BasicLit); ok {
					key, _ := strconv.Unquote(lit.Value)
					if name == "failed" {
						key = "failed." + key
					}
					seen++
					if _, err := f.languages["en"].Text(key); err != nil {
						t.Errorf("%s: %v", file.Name(), err)
					}
				}
			}
			return true
		})
	}
	if seen < 20 {
		t.Errorf("only %d texts were found: the search misses some", seen)
	}
}

// samples are what each page can be given, at its fullest.
func samples(v *visit) map[string][]any {
	now := time.Date(2026, 11, 25, 9, 30, 0, 0, time.UTC)
	mine := []account{{ID: 1, Currency: "AED", Balance: 123456, Held: 1000, Available: 122456}, {ID: 2, Currency: "KWD", Balance: -5}}
	entries := []entry{{ID: 1, Amount: -500, Balance: 100, Reference: "payment 7", At: now, Currency: "AED"}, {ID: 2, Amount: 500, Reference: "<b>", At: now, Currency: "AED"}}
	ask := asking{ID: 3, Amount: 5, Currency: "AED", Note: "<i>قهوة</i>", State: "open", Created: now, Other: "Amal", Form: v.form()}
	failed := func(f *form) *form {
		f.Problem = "this is wrong"
		for _, x := range f.Fields {
			x.Value = ""
			f.fail(x.Name, "error.missing")
		}
		return f
	}
	c := corridor{Country: "IN", Name: "India", Currencies: []string{"INR", "USD"}}
	o := offer{ID: "q", Country: "IN", SendAmount: 10000, SendCurrency: "AED", ReceiveAmount: 226000, ReceiveCurrency: "INR", Rate: "22.6", Provider: "Falcon", Fee: 500, Total: 10500, Expires: now, Mid: "22.75"}
	quoteForm := v.form(&field{Name: "beneficiary"}, &field{Name: "detail.iban", Label: "IBAN", HintText: "AE07..."}, &field{Name: "purpose", Type: "select", Options: []option{{"a", "b"}}})
	countries := make([]option, 200)
	for i := range countries {
		countries[i] = option{fmt.Sprint(i), "A country with a long name, really"}
	}
	aCard := card{ID: 4, Last4: "4242", Expires: "11/29", State: "frozen", Account: 1, Currency: "AED", LimitTransaction: 100000, LimitDay: 500000}
	months := []spending{{Month: "2026-11", Currency: "AED", Total: 1000, Categories: []slice{{Category: "groceries", Total: 700, Count: 2}, {Category: "refunds", Total: -10}, {Category: "travel", Total: 300}}, Merchants: []slice{{Merchant: "A & B", Total: 700}}}}
	month := months[0]
	month.Categories = ring(month.Categories)
	sends := []sent{{ID: 9, State: "held", Country: "IN", SendAmount: 10000, Fee: 1, Total: 10001, Currency: "AED", ReceiveAmount: 1, ReceiveCurrency: "INR", Provider: "Falcon", Created: now, Form: v.form()}}
	return map[string][]any{
		"sign-in":     {v.signInForm(), failed(v.signInForm())},
		"sign-up":     {v.signUpForm(), failed(v.signUpForm())},
		"home":        {overview{Accounts: mine, Entries: entries, Requests: []asking{ask}, Open: v.openForm(mine)}, overview{Open: v.openForm(nil), EntriesAway: true, RequestsAway: true}},
		"statement":   {statement{Account: mine[0], Entries: entries, Before: 5}, statement{Account: mine[1]}},
		"pay":         {v.payForm(mine), failed(v.payForm(mine))},
		"review":      {review{v.payForm(mine), payee{Name: "Amal"}, 100, "AED"}},
		"payment":     {payment{ID: 1, Amount: 5, Currency: "AED", Note: "n", State: "completed", Created: now, Other: "Amal", Sent: true}, payment{State: "declined", Currency: "AED"}},
		"request":     {asked{v.payForm(mine), []asking{ask}, false}, asked{failed(v.payForm(mine)), nil, true}},
		"split":       {v.splitForm(mine), failed(v.splitForm(mine))},
		"split-shown": {bill{ID: 1, Total: 1000, Currency: "AED", Note: "n", PayeeShare: 334, Shares: []share{{Payer: 1, Amount: 333, State: "open", Name: "Amal"}, {Amount: 333, State: "accepted"}}}},
		"send":        {sending{Countries: countries}, sending{form: failed(v.quoteForm(mine, c)), Countries: countries, Country: "IN", Sends: sends}, sending{SendsAway: true}},
		"quote":       {quoted{quoteForm, o}, quoted{failed(quoteForm), o}},
		"sent":        {sends[0], sent{State: "refunded", Form: v.form(), Currency: "AED", ReceiveCurrency: "INR"}},
		"cards":       {wallet{v.form(v.accountField(mine)), []card{aCard}}, wallet{failed(v.form(v.accountField(mine))), nil}},
		"card":        {held{v.form(&field{Name: "transaction", Type: "amount"}, &field{Name: "day", Type: "amount"}), aCard, "4000 0000 0000 4242"}},
		"insights":    {seen{form: v.form(v.accountField(mine)), Account: mine[0], Bars: bars(lastMonths(now), "2026-11", "AED", months, false), Month: month, ViewBox: "0 0 360 180", Baseline: 154}, seen{form: v.form(v.accountField(mine)), Away: true}},
		"failed":      {"unknown", "stale", "away", "broken", "expired"},
		"refused":     {"no"},
	}
}

// Every page can be made in every language, with one heading, a label for each
// field, no word missing, nothing that the policy for contents would block, and
// small.
func TestPages(t *testing.T) {
	f := newTestFront(t)
	for code, lang := range f.languages {
		for name := range f.pages[code] {
			w := httptest.NewRecorder()
			v := &visit{front: f, w: w, r: httptest.NewRequest(http.MethodGet, "/app/"+name, nil), lang: lang, customer: &session{Customer: 1, Name: "Amal <&>", id: "x"}}
			data := samples(v)[name]
			if len(data) == 0 {
				t.Errorf("the page %s has no sample", name)
			}
			for _, d := range data {
				w = httptest.NewRecorder()
				v.w = w
				if err := v.show(200, name, d); err != nil {
					t.Errorf("%s: %v", code, err)
					continue
				}
				checkPage(t, code+" "+name, w.Body.String(), lang)
			}
		}
	}
}

func checkPage(t *testing.T, name, body string, lang *look.Language) {
	t.Helper()
	if len(body) > maxPage {
		t.Errorf("%s has %d bytes, more than %d", name, len(body), maxPage)
	}
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	labels, ids, count := map[string]bool{}, map[string]int{}, map[string]int{}
	attr := func(n *html.Node, key string) string {
		for _, a := range n.Attr {
			if a.Key == key {
				return a.Val
			}
		}
		return ""
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		if n.Data == "label" {
			labels[attr(n, "for")] = true
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "ZgotmplZ") || strings.HasPrefix(a.Val, "http") {
				t.Errorf("%s: <%s %s=%q>", name, n.Data, a.Key, a.Val)
			}
		}
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "html":
			if attr(n, "lang") != lang.Code || attr(n, "dir") != lang.Dir {
				t.Errorf("%s: lang %q, dir %q", name, attr(n, "lang"), attr(n, "dir"))
			}
		case "input", "select", "textarea":
			if kind := attr(n, "type"); kind != "hidden" && !labels[attr(n, "id")] && n.Parent.Data != "label" {
				t.Errorf("%s: the field %q has no label", name, attr(n, "name"))
			}
		case "form":
			if post := attr(n, "method") == "post"; post && !strings.Contains(attr(n, "action"), "/app/sign-") && !has(n, csrfField) {
				t.Errorf("%s: the form to %q has no token", name, attr(n, "action"))
			}
		}
		for _, key := range []string{"aria-describedby", "aria-labelledby", "for"} {
			for id := range strings.FieldsSeq(attr(n, key)) {
				if ids[id] != 1 {
					t.Errorf("%s: %s names %q, which is there %d times", name, key, id, ids[id])
				}
			}
		}
	}
	if count["h1"] != 1 || count["main"] != 1 || count["title"] != 1 {
		t.Errorf("%s has %d h1, %d main, %d title", name, count["h1"], count["main"], count["title"])
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%s: the id %q is there %d times", name, id, n)
		}
	}
}

func has(form *html.Node, name string) bool {
	for n := range form.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "name" && a.Val == name {
				return true
			}
		}
	}
	return false
}

func TestLastMonths(t *testing.T) {
	got := lastMonths(time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC))
	if want := []string{"2025-10", "2025-11", "2025-12", "2026-01", "2026-02", "2026-03"}; !slices.Equal(got, want) {
		t.Errorf("months are %v, want %v", got, want)
	}
}

func TestRing(t *testing.T) {
	got := ring([]slice{{Category: "b", Total: 1}, {Category: "back", Total: -5}, {Category: "a", Total: 1 << 60}, {Category: "c", Total: 1 << 60}})
	if got[0].Category != "a" || got[0].Share != 499 || got[1].From != 499 || got[3].Share != 0 || got[0].Percent() != 50 {
		t.Errorf("the ring is %+v", got)
	}
	if got := ring(nil); len(got) != 0 {
		t.Errorf("the ring of nothing is %+v", got)
	}
}

func TestBars(t *testing.T) {
	months := lastMonths(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	all := []spending{{Month: "2026-11", Currency: "AED", Total: 1 << 61}, {Month: "2026-10", Currency: "AED", Total: 1 << 60}, {Month: "2026-10", Currency: "USD", Total: 1 << 62}}
	got := bars(months, "2026-11", "AED", all, false)
	if full := int64(chartHeight - chartTop - chartFoot); got[5].Height != full || got[4].Height != full/2 || got[0].Height != 0 || !got[5].Chosen || got[5].X < got[4].X {
		t.Errorf("the bars are %+v", got)
	}
	if mirrored := bars(months, "2026-11", "AED", all, true); mirrored[5].X >= mirrored[4].X {
		t.Errorf("the mirrored bars are %+v", mirrored)
	}
}
