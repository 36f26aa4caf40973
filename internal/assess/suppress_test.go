package assess

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSuppressions(t *testing.T) {
	s, err := ParseSuppressions("assess.yaml", []byte(`
suppressions:
- rule: privileged
  object: Deployment/superapp/anal*
  reason: it goes in the autumn
  until: 2026-09-30
- rule: host-network
  object: Deployment/superapp/*
  reason: it was for the summer
  until: 2026-06-30
- rule: host-port
  object: Deployment/other/*
  reason: a mistake
  until: 2026-12-31
`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 9, 30, 23, 0, 0, 0, time.UTC)
	r := assessFiles(t, Options{Suppressions: s, Now: now}, "../../superapp/deploy/source")
	has := func(rule string) bool {
		return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule.ID == rule })
	}
	if has("privileged") || len(r.Suppressed) != 1 || r.Suppressed[0].Reason != "it goes in the autumn" || r.Suppressed[0].Until != "2026-09-30" {
		t.Errorf("on its last day it is not suppressed: %+v", r.Suppressed)
	}
	if !has("host-network") || !has("suppression-expired") {
		t.Error("one that has ended still hides, or nobody is told")
	}
	if !has("suppression-unused") {
		t.Error("one that hides nothing is not told")
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; strings.HasPrefix(f.Rule.ID, "suppression-") && (f.File != "assess.yaml" || f.Line < 3 || f.Fingerprint == "") {
			t.Errorf("%s stands at %s", f.Rule.ID, f.Where())
		}
	}
	r = assessFiles(t, Options{Suppressions: s, Now: now.Add(2 * time.Hour)}, "../../superapp/deploy/source")
	if !has("privileged") {
		t.Error("a day later it is still suppressed")
	}
	one := r.Findings[0]
	s = &Suppressions{File: "a.yaml", All: []Suppression{{Fingerprint: one.Fingerprint, Reason: "x", Until: now}}}
	r = assessFiles(t, Options{Suppressions: s, Now: now}, "../../superapp/deploy/source")
	if len(r.Suppressed) != 1 || r.Suppressed[0].Finding.Fingerprint != one.Fingerprint {
		t.Errorf("by a fingerprint %+v is suppressed", r.Suppressed)
	}
}

func TestBadSuppressions(t *testing.T) {
	for text, want := range map[string]string{
		"suppressions: 3":                     "s.yaml:1: suppressions: want a list",
		"others: []":                          `s.yaml:1: unknown key "others": want suppressions`,
		"- a":                                 "s.yaml:1: want the key suppressions with a list",
		"suppressions:\n- rule: no-such":      `s.yaml:2: rule: there is no rule "no-such"`,
		"suppressions:\n- rule: privileged\n": "s.yaml:2: want a rule and an object, or a fingerprint",
		"suppressions:\n- fingerprint: a\n  rule: privileged\n  object: a\n":                   "s.yaml:2: a fingerprint names one finding",
		"suppressions:\n- rule: privileged\n  object: a\n  until: 2026-01-01\n":                "s.yaml:2: reason is missing",
		"suppressions:\n- rule: privileged\n  object: a\n  reason: b\n":                        "s.yaml:2: until is missing",
		"suppressions:\n- rule: privileged\n  object: a\n  reason: b\n  until: soon\n":         `s.yaml:5: until: "soon" is no day`,
		"suppressions:\n- rule: privileged\n  object: '['\n  reason: b\n  until: 2026-01-01\n": "s.yaml:3: object: \"[\" is no pattern",
		"suppressions:\n- rule: privileged\n  objekt: a\n":                                     `s.yaml:3: unknown key "objekt"`,
		"suppressions:\n- rule: [a]\n":                                                         "s.yaml:2: rule: want a text",
		"suppressions:\n- a\n":                                                                 "s.yaml:2: want a suppression with rule",
		"a: [":                                                                                 "s.yaml: line 1: ",
	} {
		_, err := ParseSuppressions("s.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !IsInvalid(err) {
			t.Errorf("%q is refused with %v, not %s", text, err, want)
		}
	}
	if s, err := ParseSuppressions("s.yaml", nil); err != nil || len(s.All) != 0 {
		t.Errorf("an empty file gives %v, %v", s, err)
	}
	file := filepath.Join(t.TempDir(), "s.yaml")
	if _, err := ReadSuppressions(file); err == nil || IsInvalid(err) {
		t.Errorf("a file that is not there gives %v", err)
	}
	if err := os.WriteFile(file, []byte("suppressions: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSuppressions(file); err != nil {
		t.Error(err)
	}
}

func FuzzSuppressions(f *testing.F) {
	f.Add("suppressions:\n- rule: privileged\n  object: '*/*/*'\n  reason: b\n  until: 2026-01-01\n")
	f.Add("a: [")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSuppressions("s.yaml", []byte(text))
		if (s == nil) == (err == nil) {
			t.Fatalf("%v and %v", s, err)
		}
		if s != nil {
			for _, one := range s.All {
				if one.Reason == "" || one.Until.IsZero() {
					t.Fatalf("%+v", one)
				}
			}
		}
	})
}
