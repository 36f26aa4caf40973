package assess

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxSuppressions bounds a file of suppressions: more is no list that somebody reads.
const maxSuppressions = 10000

// Suppressions are findings that somebody has taken responsibility for.
type Suppressions struct {
	// File is where they stand.
	File string
	All  []Suppression
}

// Suppression takes findings out of the report until a day.
type Suppression struct {
	// Rule is a rule's id, and Object a pattern for the object's KIND/NAMESPACE/NAME, or
	// a file's path, in which * stands for any part of a name; Fingerprint is one
	// finding's. Either Rule and Object are set, or Fingerprint.
	Rule        string
	Object      string
	Fingerprint string
	// Reason is why, Until the last day: both are required.
	Reason string
	Until  time.Time
	Line   int
}

// Suppressed is a finding that is not counted, and why.
type Suppressed struct {
	Finding Finding `json:"finding"`
	Reason  string  `json:"reason"`
	Until   string  `json:"until"`
}

// day is how an end is written.
const day = "2006-01-02"

// expiredRule and uselessRule are what suppressions themselves are blamed for.
func expiredRule() *Rule {
	return &Rule{ID: "suppression-expired", Group: GroupConfiguration, Severity: Medium, Title: "A suppression has ended.",
		Why: "What it hid counts again: the time that somebody gave it is over.", Fix: "Mend what it hid, or renew the suppression with a new reason and day."}
}

func uselessRule() *Rule {
	return &Rule{ID: "suppression-unused", Group: GroupConfiguration, Severity: Low, Title: "A suppression hides nothing.",
		Why: "What it hid is mended, or the pattern is wrong; it would hide the next one unseen.", Fix: "Remove it, or correct its pattern."}
}

// SuppressionsError is what is wrong with a file of suppressions, a line each.
type SuppressionsError struct{ Problems []string }

func (e *SuppressionsError) Error() string { return strings.Join(e.Problems, "\n") }

// ReadSuppressions reads a file such as
//
//	suppressions:
//	- rule: one-replica
//	  object: Deployment/shop/batch-*
//	  reason: it is stopped for the summer
//	  until: 2026-09-30
//
// Its errors name the line.
func ReadSuppressions(file string) (*Suppressions, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the suppressions: %w", err)
	}
	return ParseSuppressions(file, text)
}

// ParseSuppressions reads what ReadSuppressions does from a text; file is for the errors.
func ParseSuppressions(file string, text []byte) (*Suppressions, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, &SuppressionsError{[]string{file + ": " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	r := &suppressionReader{s: &Suppressions{File: file}}
	if len(doc.Content) == 1 {
		r.document(doc.Content[0])
	}
	if len(r.problems) > 0 {
		return nil, &SuppressionsError{r.problems}
	}
	return r.s, nil
}

type suppressionReader struct {
	s        *Suppressions
	problems []string
}

func (r *suppressionReader) wrong(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf("%s:%d: %s", r.s.File, n.Line, fmt.Sprintf(format, args...)))
}

func (r *suppressionReader) document(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "want the key suppressions with a list")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Value != "suppressions":
			r.wrong(key, "unknown key %q: want suppressions", key.Value)
		case value.Kind != yaml.SequenceNode:
			r.wrong(value, "suppressions: want a list")
		case len(value.Content) > maxSuppressions:
			r.wrong(value, "suppressions: there are %d, and at most %d are read", len(value.Content), maxSuppressions)
		default:
			for _, item := range value.Content {
				r.item(item)
			}
		}
	}
}

func (r *suppressionReader) item(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "want a suppression with rule, object, reason and until")
		return
	}
	s := Suppression{Line: n.Line}
	before := len(r.problems)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			r.wrong(value, "%s: want a text", key.Value)
			continue
		}
		switch text := strings.TrimSpace(value.Value); key.Value {
		case "rule":
			if s.Rule = text; RuleOf(text) == nil && !strings.HasPrefix(text, preflightPrefix) {
				r.wrong(value, "rule: there is no rule %q; `dhow assess --rules` lists them", text)
			}
		case "object":
			if s.Object = text; !validPattern(text) {
				r.wrong(value, "object: %q is no pattern: want KIND/NAMESPACE/NAME, in which * stands for any part of a name", text)
			}
		case "fingerprint":
			s.Fingerprint = text
		case "reason":
			s.Reason = text
		case "until":
			t, err := time.Parse(day, text)
			if s.Until = t; err != nil {
				r.wrong(value, "until: %q is no day: want it as 2026-12-31", text)
			}
		default:
			r.wrong(key, "unknown key %q: want rule, object, fingerprint, reason or until", key.Value)
		}
	}
	if len(r.problems) > before {
		return
	}
	switch {
	case s.Fingerprint == "" && (s.Rule == "" || s.Object == ""):
		r.wrong(n, "want a rule and an object, or a fingerprint")
	case s.Fingerprint != "" && (s.Rule != "" || s.Object != ""):
		r.wrong(n, "a fingerprint names one finding: leave rule and object out")
	case s.Reason == "":
		r.wrong(n, "reason is missing: say why this may stay")
	case s.Until.IsZero():
		r.wrong(n, "until is missing: say the last day, as 2026-12-31")
	default:
		r.s.All = append(r.s.All, s)
	}
}

func validPattern(p string) bool {
	_, err := path.Match(p, "")
	return p != "" && err == nil
}

// hides says whether a suppression is for a finding.
func (s *Suppression) hides(f *Finding) bool {
	if s.Fingerprint != "" {
		return s.Fingerprint == f.Fingerprint
	}
	if s.Rule != f.Rule.ID {
		return false
	}
	ok, err := path.Match(s.Object, f.Name())
	return ok && err == nil
}

// apply takes what is suppressed out of the findings, and adds what is wrong with the
// suppressions themselves.
func (s *Suppressions) apply(r *Report, now time.Time) {
	if s == nil {
		return
	}
	byRule, byPrint := map[string][]int{}, map[string]int{}
	for n := range s.All {
		if one := &s.All[n]; one.Fingerprint != "" {
			byPrint[one.Fingerprint] = n
		} else {
			byRule[one.Rule] = append(byRule[one.Rule], n)
		}
	}
	today := now.UTC().Truncate(24 * time.Hour)
	used := make([]bool, len(s.All))
	kept := r.Findings[:0]
	for i := range r.Findings {
		f := &r.Findings[i]
		hidden := false
		try := func(n int) {
			one := &s.All[n]
			if !one.hides(f) {
				return
			}
			used[n] = true
			if !hidden && !one.Until.Before(today) {
				hidden = true
				r.Suppressed = append(r.Suppressed, Suppressed{*f, one.Reason, one.Until.Format(day)})
			}
		}
		if n, ok := byPrint[f.Fingerprint]; ok {
			try(n)
		}
		for _, n := range byRule[f.Rule.ID] {
			try(n)
		}
		if !hidden {
			kept = append(kept, *f)
		}
	}
	r.Findings = kept
	for n := range s.All {
		one := &s.All[n]
		f := Finding{File: s.File, Line: one.Line, subject: one.Rule + " " + one.Object + one.Fingerprint}
		switch {
		case one.Until.Before(today):
			f.Rule, f.Evidence = expiredRule(), []string{"it ended on " + one.Until.Format(day), "its reason was: " + one.Reason}
		case !used[n]:
			f.Rule, f.Evidence = uselessRule(), []string{"no finding is " + strings.TrimSpace(one.Rule+" of "+one.Object+one.Fingerprint)}
		default:
			continue
		}
		f.Fingerprint = fingerprint(f.Rule.ID, &f, nil)
		r.Findings = append(r.Findings, f)
	}
}

// IsInvalid says whether an error is of what a file of suppressions says.
func IsInvalid(err error) bool {
	var invalid *SuppressionsError
	return errors.As(err, &invalid)
}
