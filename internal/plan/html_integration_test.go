package plan

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"dhow/internal/browsertest"
)

const (
	// picture is the page as the manual shows it.
	picture                   = "../../docs/images/plan.png"
	pictureWidth, pictureTall = 1300, 1900
	phoneWidth, phoneTall     = 390, 844
	// browsing bounds what the browser does, its start on a busy machine above all.
	browsing = 2 * time.Minute
)

// TestPage opens the page in a browser: it is readable by people who do not see it well,
// light and dark, on a phone and on a computer, and asks for nothing else.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser: not with -short (testing.Short)")
	}
	var out bytes.Buffer
	if err := planned(t, standard(t), "../../superapp/deploy/source").WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.html")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	audit, err := os.ReadFile("../../tests/browser/audit.js")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browsing)
	t.Cleanup(cancel)
	ctx, _ = browsertest.Tab(ctx, t)
	do := func(what string, action chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, action); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("set the width", chromedp.EmulateViewport(pictureWidth, pictureTall))
	do("open the page", chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()))
	others, err := chromedp.Run(ctx, chromedp.Evaluate[int]("performance.getEntriesByType('resource').length"))
	if err != nil || others != 0 {
		t.Errorf("it asks for %d other files: %v", others, err)
	}
	for _, size := range [][2]int64{{pictureWidth, pictureTall}, {phoneWidth, phoneTall}} {
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
			for _, w := range wrong[:min(len(wrong), 20)] {
				t.Errorf("%d wide, %s: %s", size[0], scheme, w)
			}
		}
	}
	drawn, err := chromedp.Run(ctx, chromedp.Evaluate[int]("document.querySelectorAll('svg path title').length"))
	if err != nil || drawn == 0 {
		t.Errorf("the map has %d lines: %v", drawn, err)
	}
	if !*update {
		return
	}
	do("set the width", chromedp.EmulateViewport(pictureWidth, pictureTall))
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(picture, png, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
