// Package browsertest gives tests a real browser.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

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
