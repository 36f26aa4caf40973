package site

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"dhow/superapp/web/look"
)

// maxPage is what a page may weigh, in bytes.
const maxPage = 30 << 10

func get(h http.Handler, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newTestSite(t *testing.T) http.Handler {
	t.Helper()
	s, err := newSite("https://bank.example")
	if err != nil {
		t.Fatal(err)
	}
	if en, ar := s.languages["en"].Keys(), s.languages["ar"].Keys(); !slices.Equal(en, ar) {
		t.Fatalf("the languages have other keys: %v and %v", en, ar)
	}
	return look.Guard(s)
}

// Every page that the map names is there, is small, has one heading, names its
// language, and links to nothing that is missing.
func TestEveryPage(t *testing.T) {
	s := newTestSite(t)
	var m struct {
		Pages []struct {
			Location string `xml:"loc"`
		} `xml:"url"`
	}
	if err := xml.Unmarshal([]byte(body(t, get(s, "/sitemap.xml"))), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Pages) != 2*len(names()) {
		t.Errorf("the map names %d pages", len(m.Pages))
	}
	for _, p := range m.Pages {
		path := strings.TrimPrefix(p.Location, "https://bank.example")
		res := get(s, path)
		text := body(t, res)
		if res.StatusCode != http.StatusOK || len(text) > maxPage || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: status %d, %d bytes, %s", path, res.StatusCode, len(text), res.Header.Get("Content-Type"))
		}
		if !strings.HasPrefix(res.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: the policy is %q", path, res.Header.Get("Content-Security-Policy"))
		}
		lang := `<html lang="en" dir="ltr">`
		if strings.HasPrefix(path, "/ar/") {
			lang = `<html lang="ar" dir="rtl">`
		}
		if !strings.Contains(text, lang) || strings.Count(text, "<h1>") != 1 {
			t.Errorf("%s: no %s, or %d headings", path, lang, strings.Count(text, "<h1>"))
		}
		root, err := html.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			for _, a := range n.Attr {
				local := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "/app/")
				if (a.Key == "href" || a.Key == "src") && local && get(s, a.Val).StatusCode != http.StatusOK {
					t.Errorf("%s links to %s, which is not there", path, a.Val)
				}
			}
		}
	}
	if text := body(t, get(s, "/ar/countries")); !strings.Contains(text, "الهند") || !strings.Contains(text, "INR") {
		t.Error("the Arabic list of countries does not name India and its currency")
	}
}

func TestCaching(t *testing.T) {
	s := newTestSite(t)
	plain := get(s, "/")
	packed := get(s, "/", "Accept-Encoding", "gzip")
	if plain.Header.Get("Content-Encoding") != "" || packed.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Etag") == packed.Header.Get("Etag") {
		t.Fatalf("encodings %q and %q, tags %s and %s", plain.Header.Get("Content-Encoding"), packed.Header.Get("Content-Encoding"), plain.Header.Get("Etag"), packed.Header.Get("Etag"))
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(unpacked, []byte(body(t, plain))) {
		t.Errorf("the compressed page is another one: %v", err)
	}
	again := get(s, "/", "Accept-Encoding", "gzip", "If-None-Match", packed.Header.Get("Etag"))
	if again.StatusCode != http.StatusNotModified || body(t, again) != "" {
		t.Errorf("asked again: status %d", again.StatusCode)
	}
	if kept := get(s, "/assets/style.css"); kept.Header.Get("Cache-Control") != look.AMoment {
		t.Errorf("the style without a version is kept: %s", kept.Header.Get("Cache-Control"))
	}
	page := body(t, get(s, "/"))
	at := strings.Index(page, "/assets/style.css?v=")
	address, _, _ := strings.Cut(page[at:], `"`)
	if kept := get(s, address); !strings.Contains(kept.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("the style is not kept: %s", kept.Header.Get("Cache-Control"))
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := newTestSite(t)
	for path, want := range map[string]string{"/nothing": `lang="en"`, "/ar/nothing": `lang="ar"`, "/../etc/passwd": `lang="en"`} {
		if res := get(s, path); res.StatusCode != http.StatusNotFound || !strings.Contains(body(t, res), want) {
			t.Errorf("%s: status %d, or not %s", path, res.StatusCode, want)
		}
	}
	for from, to := range map[string]string{"/about/": "/about", "/ar": "/ar/"} {
		if res := get(s, from); res.StatusCode != http.StatusMovedPermanently || res.Header.Get("Location") != to {
			t.Errorf("%s: status %d to %s", from, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if res := get(s, "/assets/nothing.css"); res.StatusCode != http.StatusNotFound {
		t.Errorf("a file that is not there: status %d", res.StatusCode)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodHead, "/", nil)
	w = httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: status %d with %d bytes", w.Code, w.Body.Len())
	}
}
