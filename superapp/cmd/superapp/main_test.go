package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// What is called wrongly says so, names the help, and ends with 2.
func TestUsage(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	for args, want := range map[string]struct {
		text  string
		usage bool
	}{
		"nothing":                          {`there is no command "nothing"`, true},
		"migrate":                          {"superapp migrate --help", true},
		"migrate ledger":                   {"superapp migrate --help", true},
		"migrate accounts":                 {"DATABASE_URL is not set", false},
		"accounts extra":                   {"superapp accounts --help", true},
		"accounts --pool 0":                {"--pool is 0", true},
		"accounts --prt 1":                 {"superapp accounts --help", true},
		"payments":                         {"--accounts-url", true},
		"payments --accounts-url ftp://a":  {"--accounts-url", true},
		"seed --entries 3":                 {"--entries is 3", true},
		"traffic --rate 0":                 {"--", true},
		"check":                            {"--history", true},
		"check --history /none --most -1":  {"--most", true},
		"accounts --log-level loud":        {"--log-level", true},
		"payments --accounts-url http://a": {"DATABASE_URL is not set", false},
	} {
		cmd := root()
		cmd.SetArgs(strings.Fields(args))
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		err := cmd.ExecuteContext(t.Context())
		var coded interface{ ExitCode() int }
		if err == nil || errors.As(err, &coded) != want.usage || want.usage && coded.ExitCode() != 2 || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v; want %q, a mistake of the call: %v", args, err, want.text, want.usage)
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	cmd := root()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(nil)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"accounts", "payments", "migrate", "seed", "traffic", "check"} {
		if !strings.Contains(out.String(), "\n  "+name+" ") {
			t.Errorf("no %s in\n%s", name, &out)
		}
	}
}
