package plan

import (
	"bytes"
	"testing"

	"github.com/chromedp/chromedp"

	"dhow/internal/browsertest"
)

// picture is the page as the manual shows it.
const picture = "../../docs/images/plan.png"

// TestPage opens the page in a browser, and looks at its map.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser: not with -short (testing.Short)")
	}
	var out bytes.Buffer
	if err := planned(t, standard(t), "../../superapp/deploy/source").WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	tab := browsertest.Page{HTML: out.Bytes(), Audit: "../../tests/browser/audit.js", Width: 1300, Tall: 1900}.Open(t)
	drawn, err := chromedp.Run(tab, chromedp.Evaluate[int]("document.querySelectorAll('svg path title').length"))
	if err != nil || drawn == 0 {
		t.Errorf("the map has %d lines: %v", drawn, err)
	}
	if *update {
		browsertest.Photograph(tab, t, picture)
	}
}
