package assess

import (
	"bytes"
	"testing"

	"dhow/internal/browsertest"
)

// picture is the page as the manual shows it.
const picture = "../../docs/images/assessment.png"

// TestPage opens the page in a browser.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser: not with -short (testing.Short)")
	}
	var out bytes.Buffer
	if err := assessFiles(t, Options{}, "../../superapp/deploy/source").WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	tab := browsertest.Page{HTML: out.Bytes(), Audit: "../../tests/browser/audit.js", Width: 1200, Tall: 1500}.Open(t)
	if *update {
		browsertest.Photograph(tab, t, picture)
	}
}
