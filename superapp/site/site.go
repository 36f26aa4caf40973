// Package site is the bank's public website: a handful of pages in English and
// Arabic, made once at the start, kept in memory, and served with the headers
// that let browsers and caches keep them. It has no store, no script and no
// cookie, and knows no customer.
package site

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/xml"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dhow/superapp/corridors"
	"dhow/superapp/service"
	"dhow/superapp/web/look"
)

// Name is the service's name: of its command and its logs.
const Name = "site"

const (
	// assets is where the pages' files are served.
	assets = "/assets/"
	// defaultPublic is the address that the map of the site names; .example is nobody's.
	defaultPublic = "https://sambuk.example"
)

//go:embed all:templates languages
var embedded embed.FS

// names are the pages; the first is at the root.
func names() []string { return []string{"home", "countries", "security", "about"} }

// Command runs the service.
func Command() *cobra.Command {
	var o service.Options
	public := service.URL{}
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve the public website",
		Long:    "Serves the public website. It needs no store and no other service.",
		Example: "  superapp site --listen 127.0.0.1:8080 --public-url https://www.bank.example",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address := defaultPublic
			given, err := public.Optional("public-url")
			if err != nil {
				return err
			}
			if given != nil {
				address = given.String()
			}
			return Run(cmd.Context(), o, address)
		},
	}
	o.Flags(cmd.Flags())
	service.URLFlag(cmd.Flags(), &public, "public-url", "`address` at which people find the site; default "+defaultPublic)
	return cmd
}

// Run serves until ctx ends; public is the address at which people find the site.
func Run(ctx context.Context, o service.Options, public string) error {
	s, err := newSite(public)
	if err != nil {
		return err
	}
	return service.Run(ctx, Name, o, func(service.Base) service.App { return service.App{Pages: look.Guard(s)} })
}

// site is all that is served, made beforehand.
type site struct {
	files     *look.Files
	languages look.Languages
	// pages are by path, missing by language.
	pages, missing map[string]*look.File
}

// country is a line of the list.
type country struct {
	Name       string
	Currencies string
}

// page is what templates get.
type page struct {
	Lang *look.Language
	// Name is the page's, Path its address in this language, Public the site's.
	Name, Path, Public string
	Countries          []country
	Currencies         int
}

// At is the address of a page in this page's language.
func (p page) At(name string) string { return at(p.Lang, name) }

// In is the address of this page in another language.
func (p page) In(l *look.Language) string { return at(l, p.Name) }

// at is a page's address: English at the root, others below their codes.
func at(l *look.Language, name string) string {
	address := "/"
	if l.Code != look.English {
		address += l.Code + "/"
	}
	if name == names()[0] {
		return address
	}
	return address + name
}

// newSite makes all pages.
func newSite(public string) (*site, error) {
	s := &site{pages: map[string]*look.File{}, missing: map[string]*look.File{}}
	words, _ := fs.Sub(embedded, "languages") // the name is valid: it is written here
	var err error
	if s.languages, err = look.Load(words); err != nil {
		return nil, err
	}
	if s.files, err = look.NewFiles(assets); err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	book, err := corridors.Load()
	if err != nil {
		return nil, fmt.Errorf("read the countries: %w", err)
	}
	var addresses []string
	for _, code := range slices.Sorted(maps.Keys(s.languages)) {
		p := page{Lang: s.languages[code], Public: public}
		p.Countries, p.Currencies = list(book, p.Lang)
		for _, name := range append(names(), "missing") {
			p.Name, p.Path = name, at(p.Lang, name)
			file, err := s.render(p)
			if err != nil {
				return nil, err
			}
			if name == "missing" {
				s.missing[code] = file
				continue
			}
			s.pages[p.Path] = file
			addresses = append(addresses, public+p.Path)
		}
	}
	if s.pages["/sitemap.xml"], err = siteMap(addresses); err != nil {
		return nil, err
	}
	s.pages["/robots.txt"], err = look.NewFile("robots.txt", []byte("User-agent: *\nDisallow: /app/\nSitemap: "+public+"/sitemap.xml\n"))
	return s, err
}

// render makes one page.
func (s *site) render(p page) (*look.File, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"t": p.Lang.Text, "asset": s.files.Address,
		"others": func() []*look.Language { return s.languages.Others(p.Lang) },
	}).ParseFS(embedded, "templates/_page.html", "templates/"+p.Name+".html")
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", p.Name, err)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "page", p); err != nil {
		return nil, fmt.Errorf("make the page %s: %w", p.Name, err)
	}
	return look.NewFile(p.Name+".html", b.Bytes())
}

// list is the countries in a language, by name, and how many currencies they have.
func list(book *corridors.Book, l *look.Language) ([]country, int) {
	var all []country
	currencies := map[string]bool{}
	for _, c := range book.All() {
		all = append(all, country{l.Country(c.Country, c.Country), strings.Join(c.Currencies, " ")})
		for _, code := range c.Currencies {
			currencies[code] = true
		}
	}
	slices.SortFunc(all, func(a, b country) int { return cmp.Compare(a.Name, b.Name) })
	return all, len(currencies)
}

// siteMap lists the pages for search engines.
func siteMap(addresses []string) (*look.File, error) {
	type entry struct {
		Location string `xml:"loc"`
	}
	m := struct {
		XMLName xml.Name `xml:"http://www.sitemaps.org/schemas/sitemap/0.9 urlset"`
		Pages   []entry  `xml:"url"`
	}{}
	for _, a := range addresses {
		m.Pages = append(m.Pages, entry{a})
	}
	text, err := xml.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the map of the site: %w", err)
	}
	return look.NewFile("sitemap.xml", append([]byte(xml.Header), text...))
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this site is only read", http.StatusMethodNotAllowed)
	case strings.HasPrefix(path, assets):
		s.files.ServeHTTP(w, r)
	case s.pages[path] != nil:
		s.pages[path].Serve(w, r, http.StatusOK, look.AMoment)
	case path != "/" && s.pages[strings.TrimSuffix(path, "/")] != nil:
		http.Redirect(w, r, (&url.URL{Path: strings.TrimSuffix(path, "/")}).String(), http.StatusMovedPermanently)
	case s.pages[path+"/"] != nil:
		http.Redirect(w, r, (&url.URL{Path: path + "/"}).String(), http.StatusMovedPermanently)
	default:
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		s.missing[s.languages.Choose(first, look.English).Code].Serve(w, r, http.StatusNotFound, "no-store")
	}
}
