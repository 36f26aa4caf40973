package double

import (
	"regexp"
	"testing"
)

func TestFitted(t *testing.T) {
	for _, expression := range []string{
		`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^SELF_MANAGED_SECURITY_HUB$`,
		`^ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}$`, `^r-[0-9a-z]{4,32}$`, `^(x|y)+z?$`, `^[A-Z]{3}$`, `^.*\S.*$`, `^[^a-z]{2}$`, `^arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`,
	} {
		for _, seed := range []string{"a", "b", "c", "d"} {
			text, ok := fitted(expression, seed)
			if !ok || !regexp.MustCompile(expression).MatchString(text) {
				t.Errorf("%s: %q does not fit (%t)", expression, text, ok)
			}
			if again, _ := fitted(expression, seed); again != text {
				t.Errorf("%s: %q, and again %q", expression, text, again)
			}
		}
	}
	if _, ok := fitted(`^(?!aws)x$`, "a"); ok {
		t.Error("an expression that looks ahead is said to be fitted")
	}
	if text, ok := fitted(`^(((a{100}){10})b){10}$`, "a"); ok {
		t.Errorf("a text of %d bytes is made", len(text))
	}
}
