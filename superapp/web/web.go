// Package web is the front end that customers use in their browsers: pages made
// on the server, in English and Arabic, that need no script. It keeps nothing but
// sessions, in Redis; money is with the services that it asks. It never shows a
// customer what is not his: every id in an address or a form is looked for among
// what the services say is the signed-in customer's.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"dhow/superapp/service"
	"dhow/superapp/web/look"
)

// Name is the service's name: of its command and its logs.
const Name = "web"

// assets is where the pages' files are served.
const assets = "/app/assets/"

//go:embed all:templates assets languages
var embedded embed.FS

// Command runs the service.
func Command() *cobra.Command {
	o := service.Options{Needs: service.Needs{Redis: true}}
	names := []string{"accounts", "payments", "transfers", "cards", "fx", "analytics"}
	given := make([]service.URL, len(names))
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve the front end that customers use",
		Long:    "Serves the customers' pages below /app. REDIS_URL names the Redis server that keeps the sessions.",
		Example: "  REDIS_URL=redis://localhost:6379/0 superapp web --listen 127.0.0.1:8080 --accounts-url http://127.0.0.1:8081 --payments-url ...",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for i, name := range names {
				if err := given[i].Check(name + "-url"); err != nil {
					return err
				}
			}
			return Run(cmd.Context(), o, Services{
				Accounts: given[0].URL(), Payments: given[1].URL(), Transfers: given[2].URL(),
				Cards: given[3].URL(), FX: given[4].URL(), Analytics: given[5].URL(),
			})
		},
	}
	o.Flags(cmd.Flags())
	for i, name := range names {
		service.URLFlag(cmd.Flags(), &given[i], name+"-url", "`address` of the "+name+" service")
	}
	return cmd
}

// Run serves until ctx ends.
func Run(ctx context.Context, o service.Options, s Services) error {
	o.Needs = service.Needs{Redis: true}
	f, err := newFront(&services{Services: s, http: service.NewClient()})
	if err != nil {
		return err
	}
	defer f.services.http.CloseIdleConnections()
	return service.Run(ctx, Name, o, func(b service.Base) service.App {
		f.sessions, f.log = &sessions{b.Redis}, b.Log
		return service.App{Pages: f.handler()}
	})
}

// front makes the pages.
type front struct {
	services  *services
	sessions  *sessions
	log       *slog.Logger
	files     *look.Files
	languages look.Languages
	pages     map[string]map[string]*template.Template // by language and name
}

// newFront reads what the pages are made of.
func newFront(s *services) (*front, error) {
	f := &front{services: s, pages: map[string]map[string]*template.Template{}}
	folder := func(name string) fs.FS {
		sub, _ := fs.Sub(embedded, name) // the name is valid: it is written here
		return sub
	}
	var err error
	if f.files, err = look.NewFiles(assets, folder("assets")); err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	if f.languages, err = look.Load(folder("languages")); err != nil {
		return nil, err
	}
	for code, l := range f.languages {
		if f.pages[code], err = parseAll(folder("templates"), f.functions(l)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// parseAll reads the pages' templates; those whose names begin with _ are in all of them.
func parseAll(folder fs.FS, functions template.FuncMap) (map[string]*template.Template, error) {
	common, err := template.New("").Funcs(functions).ParseFS(folder, "_*.html")
	if err != nil {
		return nil, fmt.Errorf("read the templates: %w", err)
	}
	names, err := fs.Glob(folder, "[a-z]*.html")
	if err != nil {
		return nil, fmt.Errorf("list the templates: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		page, err := common.Clone()
		if err == nil {
			page, err = page.ParseFS(folder, name)
		}
		if err != nil {
			return nil, fmt.Errorf("read the template %s: %w", name, err)
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = page
	}
	return pages, nil
}

// functions are what templates call.
func (f *front) functions(l *look.Language) template.FuncMap {
	return template.FuncMap{
		"t": l.Text, "word": l.Word, "money": l.Money, "signed": l.Signed, "country": l.Country,
		"month": l.Month, "shortMonth": l.ShortMonth, "date": l.Date, "time": l.Time,
		"asset":     f.files.Address,
		"languages": func() []*look.Language { return f.languages.Others(l) },
		"inner":     func(page, data any) inner { return inner{page, data} },
	}
}

// inner is what a template that is used by others gets: the page and what is its own.
type inner struct{ Page, Data any }

// handler routes. Whoever posts from another site is refused before anything is read.
func (f *front) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+assets, f.files)
	mux.Handle("GET /{$}", http.RedirectHandler("/app/", http.StatusFound))
	mux.Handle("GET /app", http.RedirectHandler("/app/", http.StatusFound))
	for pattern, page := range map[string]func(*visit) error{
		"GET /app/sign-in": signInPage, "POST /app/sign-in": signIn,
		"GET /app/sign-up": signUpPage, "POST /app/sign-up": signUp,
	} {
		mux.Handle(pattern, f.anyone(page))
	}
	for pattern, page := range map[string]func(*visit) error{
		"GET /app/{$}":                home,
		"POST /app/sign-out":          signOut,
		"POST /app/accounts":          openAccount,
		"GET /app/accounts/{id}":      statementPage,
		"GET /app/pay":                payPage,
		"POST /app/pay":               pay,
		"GET /app/payments/{id}":      paymentPage,
		"GET /app/request":            requestPage,
		"POST /app/request":           request,
		"POST /app/request/{id}":      replyToRequest,
		"GET /app/split":              splitPage,
		"POST /app/split":             split,
		"GET /app/splits/{id}":        splitShown,
		"GET /app/send":               sendPage,
		"POST /app/send":              quote,
		"GET /app/send/{id}":          quotePage,
		"POST /app/send/{id}":         send,
		"GET /app/sends/{id}":         sendShown,
		"POST /app/sends/{id}/cancel": cancelSend,
		"GET /app/cards":              cardsPage,
		"POST /app/cards":             newCard,
		"GET /app/cards/{id}":         cardPage,
		"POST /app/cards/{id}/number": cardNumber,
		"POST /app/cards/{id}/state":  cardState,
		"POST /app/cards/{id}/limits": cardLimits,
		"GET /app/insights":           insights,
		"GET /app/":                   func(*visit) error { return errNotHere },
	} {
		mux.Handle(pattern, f.customers(page))
	}
	return look.Guard(http.NewCrossOriginProtection().Handler(mux))
}

// errNotHere is for what does not exist, and for what is somebody else's: nobody
// learns which of both.
var errNotHere = errors.New("there is no such page for this customer")

// visit is one request for a page.
type visit struct {
	*front
	w        http.ResponseWriter
	r        *http.Request
	lang     *look.Language
	customer *session // nil: nobody is signed in
}

// anyone serves a page to who is signed in and who is not.
func (f *front) anyone(page func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{front: f, w: w, r: r, lang: f.language(w, r)}
		v.serve(page) //nolint:contextcheck // the request's is used throughout
	})
}

// customers serves a page to who is signed in, and sends others to sign in. Every
// post carries the session's token.
func (f *front) customers(page func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{front: f, w: w, r: r, lang: f.language(w, r)}
		v.serve(func(v *visit) (err error) { //nolint:contextcheck // as above
			if v.customer, err = f.sessions.find(r); err != nil {
				return err
			}
			if v.customer == nil {
				return v.redirect("/app/sign-in")
			}
			if r.Method == http.MethodPost && !v.customer.owns(r.PostFormValue(csrfField)) {
				return v.failed(http.StatusForbidden, "stale")
			}
			return page(v)
		})
	})
}

// language is the one that was asked for now, else earlier, else by the browser.
func (f *front) language(w http.ResponseWriter, r *http.Request) *look.Language {
	var earlier string
	if cookie, err := r.Cookie(languageCookie); err == nil {
		earlier = cookie.Value
	}
	asked := r.URL.Query().Get("lang")
	l := f.languages.Choose(asked, earlier, r.Header.Get("Accept-Language"))
	if asked != "" {
		setCookie(w, r, languageCookie, l.Code, languageLife)
	}
	return l
}

// serve makes a page, or the one that says what went wrong.
func (v *visit) serve(page func(*visit) error) {
	err := page(v)
	code, isRefused := refused(err)
	switch {
	case err == nil:
		return
	case errors.Is(err, errNotHere):
		err = v.failed(http.StatusNotFound, "unknown")
	case service.Away(err):
		v.note(err)
		err = v.failed(http.StatusServiceUnavailable, "away")
	case isRefused && strings.HasPrefix(code, "unknown_"):
		err = v.failed(http.StatusNotFound, "unknown")
	default:
		v.note(err)
		err = v.failed(http.StatusInternalServerError, "broken")
	}
	if err != nil {
		v.note(err)
		http.Error(v.w, "the page can not be shown", http.StatusInternalServerError)
	}
}

// note logs what the customer is not told.
func (v *visit) note(err error) {
	v.log.Warn("a page was shown without all of it", "request", service.RequestID(v.r.Context()), "page", v.r.Pattern, "error", err)
}

// failed shows a page that says what went wrong and what to do.
func (v *visit) failed(status int, why string) error {
	return v.show(status, "failed", why)
}

// page is what templates get.
type page struct {
	Lang     *look.Language
	Customer *session
	// Section is the part of the front end, for the navigation.
	Section string
	Data    any
	at      url.URL
}

// In is the address of this page in another language.
func (p page) In(code string) string {
	q := p.at.Query()
	q.Set("lang", code)
	return p.at.Path + "?" + q.Encode()
}

// CSRF is the token of this session's forms.
func (p page) CSRF() string {
	if p.Customer == nil {
		return ""
	}
	return p.Customer.csrf()
}

// show writes a page.
func (v *visit) show(status int, name string, data any) error {
	return v.write(status, name, "page", data)
}

// write writes one template of a page. Nothing is sent before all of it is made.
func (v *visit) write(status int, name, part string, data any) error {
	section, _, _ := strings.Cut(strings.TrimPrefix(v.r.URL.Path, "/app/"), "/")
	var b bytes.Buffer
	err := v.pages[v.lang.Code][name].ExecuteTemplate(&b, part, page{Lang: v.lang, Customer: v.customer, Section: section, Data: data, at: *v.r.URL})
	if err != nil {
		return fmt.Errorf("make the page %s: %w", name, err)
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.lang.Code)
	h.Set("Cache-Control", "no-store")
	v.w.WriteHeader(status)
	_, _ = b.WriteTo(v.w) // a client that left gets nothing
	return nil
}

// redirect sends the browser on, so that going back repeats nothing.
func (v *visit) redirect(to string) error {
	v.w.Header().Set("Cache-Control", "no-store")
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// text is a text of the page's language.
func (v *visit) text(key string, args ...any) string { return text(v.lang, key, args...) }

// text is for keys that stand in the code: a test looks each of them up.
func text(l *look.Language, key string, args ...any) string {
	s, err := l.Text(key, args...)
	if err != nil {
		return key
	}
	return s
}
