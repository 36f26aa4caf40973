// Package browsertest gives tests a real browser.
package browsertest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

const (
	// browsing bounds what the browser does, its start on a busy machine above all.
	browsing = 2 * time.Minute
	// phoneWidth and phoneTall are a phone's screen.
	phoneWidth, phoneTall = 390, 844
	// mostTold bounds the faults that are told of one look at a page.
	mostTold = 20
)

// Page is a page that needs nothing but itself, with the size of a computer's window.
type Page struct {
	HTML []byte
	// Audit is the file of the script that finds what people could not read.
	Audit       string
	Width, Tall int64
}

// Open opens the page and holds that it is readable by people who do not see it well,
// light and dark, on a phone and on a computer, and asks for nothing else. The tab
// shows it on a computer, light.
func (p Page) Open(t *testing.T) (tab context.Context) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, p.HTML, 0o600); err != nil {
		t.Fatal(err)
	}
	audit, err := os.ReadFile(p.Audit)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browsing)
	t.Cleanup(cancel)
	ctx, _ = Tab(ctx, t)
	do := func(what string, action chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, action); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("set the width", chromedp.EmulateViewport(p.Width, p.Tall))
	do("open the page", chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()))
	others, err := chromedp.Run(ctx, chromedp.Evaluate[int]("performance.getEntriesByType('resource').length"))
	if err != nil || others != 0 {
		t.Errorf("it asks for %d other files: %v", others, err)
	}
	for _, size := range [][2]int64{{phoneWidth, phoneTall}, {p.Width, p.Tall}} {
		do("set the width", chromedp.EmulateViewport(size[0], size[1]))
		for _, scheme := range []string{"dark", "light"} {
			do("turn the page "+scheme, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return err
			}))
			wrong, err := chromedp.Run(ctx, chromedp.Evaluate[[]string]("("+string(audit)+")('en','')"))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range wrong[:min(len(wrong), mostTold)] {
				t.Errorf("%d wide, %s: %s", size[0], scheme, w)
			}
		}
	}
	return ctx
}

// Photograph writes what a tab shows into a file.
func Photograph(tab context.Context, tb testing.TB, file string) {
	tb.Helper()
	png, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Tab is a tab of a browser of its own, for chromedp's actions; the browser starts with
// the first of them, and lives as long as its context. It ends with close, at the latest
// when the test does.
func Tab(ctx context.Context, tb testing.TB, more ...chromedp.ExecAllocatorOption) (tab context.Context, closeTab context.CancelFunc) {
	tb.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(Chromium(tb)))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // its sandbox refuses root
	}
	ctx, end := chromedp.NewExecAllocator(ctx, append(options, more...)...)
	tb.Cleanup(end)
	tab, closeTab = chromedp.NewContext(ctx)
	tb.Cleanup(closeTab)
	return tab, closeTab
}

// Chromium is the browser's path; a test that has none fails.
func Chromium(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	tb.Fatal("no Chromium on this machine: install it with hack/setup, or run with -short")
	return ""
}
