package browser

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"dhow/internal/browsertest"
)

const (
	// step bounds one page: on a machine that tests share.
	step = 30 * time.Second
	// phoneWidth and phoneHeight are a phone's, deskWidth and deskHeight a computer's.
	phoneWidth, phoneHeight = 390, 844
	deskWidth, deskHeight   = 1200, 860
)

// audit is a script that lists what is wrong with a page for people who do not see
// it, or not well.
//
//go:embed audit.js
var audit string

// tab is a page of the browser in one language.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string
	w    words
}

// open opens a tab as wide as a phone, with cookies of its own.
func open(t *testing.T, base string, w words) *tab {
	t.Helper()
	ctx, cancel := browsertest.Tab(t.Context(), t, chromedp.Flag("lang", "en-US"))
	p := &tab{t: t, ctx: ctx, base: base, w: w}
	// The first action opens the browser, which lives as long as that action's context.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(phoneWidth, phoneHeight)); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	messages := chromedp.Console(ctx)
	ended := make(chan []string, 1)
	go func() {
		var errors []string
		for m, err := range messages {
			if err != nil {
				break // the tab is closed
			}
			if m.IsException() || m.Type == "error" {
				errors = append(errors, m.String())
			}
		}
		ended <- errors
	}()
	t.Cleanup(func() { // runs before the tab is cancelled by the functions above
		cancel()
		for _, e := range <-ended {
			t.Errorf("the browser's console says: %s", e)
		}
	})
	return p
}

// do runs actions within the time of one step.
func (p *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, step)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v; the page says: %s", what, err, p.text())
	}
}

func (p *tab) resize(width, height int64) {
	p.t.Helper()
	p.do("resize", chromedp.EmulateViewport(width, height))
}

// evaluate is the value of an expression in a page.
func evaluate[T any](p *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, step)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// script runs a script for what it does.
func script(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[any](text))
		return err
	})
}

// text is what the page says, with plain spaces.
func (p *tab) text() string {
	text, err := evaluate[string](p, "document.querySelector('main').innerText")
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer("\u00a0", " ", "\u200e", "", "\u200f", "").Replace(text)
}

// path is the page's address without the host.
func (p *tab) path() string {
	p.t.Helper()
	path, err := evaluate[string](p, "location.pathname")
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// visit goes to an address and looks at the page.
func (p *tab) visit(path string) {
	p.t.Helper()
	p.do("go to "+path, chromedp.Navigate(p.base+path))
	p.look()
}

// press presses a button or a link and looks at the page that follows.
func (p *tab) press(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, step)
	defer cancel()
	// As people do, into the middle first: at the phone's edge is the navigation.
	middle := "void document.querySelector(" + strconv.Quote(selector) + ").scrollIntoView({block: 'center'})"
	res, err := chromedp.RunResponse(ctx, script(middle), chromedp.Click(chromedp.CSS(selector)))
	if err != nil {
		p.t.Fatalf("press %s: %v; the page says: %s", selector, err, p.text())
	}
	if res.Status >= 400 {
		p.t.Fatalf("press %s: status %d; the page says: %s", selector, int(res.Status), p.text())
	}
	p.look()
}

// fill types into the empty fields of a form.
func (p *tab) fill(pairs ...string) {
	p.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		field := chromedp.CSS(`main [name="` + pairs[i] + `"]:not([type=hidden])`)
		p.do("fill "+pairs[i], chromedp.SendKeys(field, pairs[i+1]))
	}
}

// choose chooses one of a list.
func (p *tab) choose(name, value string) {
	p.t.Helper()
	p.do("choose "+name, chromedp.SetValue(chromedp.CSS(`main select[name="`+name+`"]`), value))
}

// says fails unless the page holds all texts.
func (p *tab) says(texts ...string) {
	p.t.Helper()
	said := p.text()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			p.t.Fatalf("%s does not say %q: %s", p.path(), text, said)
		}
	}
}

func containsAll(said string, texts ...string) bool {
	for _, text := range texts {
		if !strings.Contains(said, text) {
			return false
		}
	}
	return true
}

// awaits waits until a part of the page, which may load itself again, says a text.
func (p *tab) awaits(part, text string) {
	p.t.Helper()
	says := "document.querySelector(" + strconv.Quote(part) + ")?.textContent.includes(" + strconv.Quote(text) + ") ?? false"
	for end := time.Now().Add(step); ; time.Sleep(50 * time.Millisecond) {
		if said, err := evaluate[bool](p, says); err == nil && said {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("waited %s for %q: %s", step, text, p.text())
		}
	}
}

// id is the number at the end of the page's address.
func (p *tab) id() int64 {
	p.t.Helper()
	path := p.path()
	id, err := strconv.ParseInt(path[strings.LastIndex(path, "/")+1:], 10, 64)
	if err != nil {
		p.t.Fatalf("the address %s has no id", path)
	}
	return id
}

// look fails when the page, by day or by night, is hard to use for somebody.
func (p *tab) look() {
	p.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		p.do("turn the page "+scheme, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			return err
		}))
		wrong, err := evaluate[[]string](p, "("+audit+")("+strconv.Quote(p.w.code)+","+strconv.Quote(p.w.dir)+")")
		if err != nil {
			p.t.Fatalf("look at %s: %v", p.path(), err)
		}
		for _, w := range wrong {
			p.t.Errorf("%s, %s: %s", p.path(), scheme, w)
		}
	}
}

// picture writes what the tab shows into the documents, when that is asked for.
func (p *tab) picture(name string) {
	p.t.Helper()
	if !*update {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, step)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(images, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(images, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}
