package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestParseIndexed(t *testing.T) {
	for text, want := range map[string]indexed{"0/1": {0, 1}, "3/4": {3, 4}, "63/64": {63, 64}} {
		if got, err := parseIndexed(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "1/1", "-1/2", "0/0", "0/65", "0/4x", " 0/4", "01/4", "a/b"} {
		var usage *usageError
		if got, err := parseIndexed(text); !errors.As(err, &usage) {
			t.Errorf("%q is taken for %v, %v", text, got, err)
		}
	}
}

// TestJobFlags: what does not go together is refused before anything is read.
func TestJobFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--job 65 --image a":          "want 1 to 64 pods",
		"--job -1":                    "want 1 to 64 pods",
		"--job 2":                     "--job needs --image",
		"--image a":                   "are for --job",
		"--namespace a":               "are for --job",
		"--forever --until-streaming": "give one of them",
		"--part 4/4":                  "want INDEX/PARTS",
	} {
		var out strings.Builder
		code := Run(context.Background(), append([]string{"replicate"}, strings.Fields(args)...), IO{In: strings.NewReader(""), Out: &out, Err: &out})
		if code != exitUsage || !strings.Contains(out.String(), want) {
			t.Errorf("%s ends with %d and says %q, want %q", args, code, out.String(), want)
		}
	}
}
