package assess

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// The parts of a SARIF 2.1.0 log that are used here.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		ColumnKind  string            `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Short      sarifText       `json:"shortDescription"`
		Full       sarifText       `json:"fullDescription"`
		Help       sarifText       `json:"help"`
		Default    sarifLevel      `json:"defaultConfiguration"`
		Properties sarifProperties `json:"properties"`
	}
	sarifProperties struct {
		// Severity is of ten, as code hosts read it.
		Severity string   `json:"security-severity"`
		Tags     []string `json:"tags"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Prints       map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name     string `json:"name,omitempty"`
		FullName string `json:"fullyQualifiedName,omitempty"`
		Kind     string `json:"kind,omitempty"`
	}
)

const (
	sarifSchema  = "https://json.schemastore.org/sarif-2.1.0.json"
	sarifVersion = "2.1.0"
	// printKey is the name of the fingerprint; the number is raised when it is reckoned anew.
	printKey = "dhow/v1"
)

func sarifLevelOf(s Severity) string {
	switch s {
	case Critical, High:
		return "error"
	case Medium:
		return "warning"
	case Low:
	}
	return "note"
}

func severityOfTen(s Severity) string {
	switch s {
	case Critical:
		return "9.5"
	case High:
		return "8.0"
	case Medium:
		return "5.0"
	case Low:
	}
	return "2.0"
}

// fileURI is a path as SARIF writes it: relative ones stay so.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return strings.TrimPrefix(u.String(), "./")
}

// WriteSARIF writes the report as a SARIF 2.1.0 log; version is the program's.
func (r *Report) WriteSARIF(w io.Writer, version string) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "dhow", Version: version}}, Invocations: []sarifInvocation{{Successful: !r.Partial}}, Results: []sarifResult{}, ColumnKind: "unicodeCodePoints"}
	indexOf := map[string]int{}
	for n, rule := range r.rules() {
		indexOf[rule.ID] = n
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: rule.ID, Name: rule.ID, Short: sarifText{rule.Title}, Full: sarifText{rule.Title + " " + rule.Why},
			Help: sarifText{rule.Fix}, Default: sarifLevel{sarifLevelOf(rule.Severity)}, Properties: sarifProperties{severityOfTen(rule.Severity), []string{string(rule.Group), rule.Severity.String()}}})
	}
	for _, p := range r.Problems {
		n := sarifNotification{Level: "warning", Message: sarifText{p.String()}}
		if p.Lost {
			n.Level = "error"
		}
		if p.File != "" {
			n.Locations = []sarifLocation{{Physical: physical(p.File, p.Line)}}
		}
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, n)
	}
	for i := range r.Findings {
		run.Results = append(run.Results, sarifOf(&r.Findings[i], indexOf))
	}
	for i := range r.Suppressed {
		s := &r.Suppressed[i]
		one := sarifOf(&s.Finding, indexOf)
		one.Suppressions = []sarifSuppression{{"external", s.Reason + " (until " + s.Until + ")"}}
		run.Results = append(run.Results, one)
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(sarifLog{sarifSchema, sarifVersion, []sarifRun{run}}); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// rules are all of the table, and those of findings that movers made.
func (r *Report) rules() []Rule {
	all := Rules()
	known := map[string]bool{}
	for i := range all {
		known[all[i].ID] = true
	}
	add := func(rule *Rule) {
		if !known[rule.ID] {
			known[rule.ID] = true
			all = append(all, *rule)
		}
	}
	for i := range r.Findings {
		add(r.Findings[i].Rule)
	}
	for i := range r.Suppressed {
		add(r.Suppressed[i].Finding.Rule)
	}
	return all
}

func physical(file string, line int) *sarifPhysical {
	p := &sarifPhysical{Artifact: sarifArtifact{fileURI(file)}}
	if line > 0 {
		p.Region = &sarifRegion{line}
	}
	return p
}

func sarifOf(f *Finding, indexOf map[string]int) sarifResult {
	text := f.Name() + ": " + f.Rule.Title
	if len(f.Evidence) > 0 {
		text += " " + strings.Join(f.Evidence, "; ") + "."
	}
	if f.Fix != "" {
		text += " What mends it: " + f.Fix
	}
	at := sarifLocation{}
	if f.File != "" {
		at.Physical = physical(f.File, f.Line)
	}
	if f.Object.Kind != "" {
		name := f.Object.String()
		if f.Path != "" {
			name += "/" + f.Path
		}
		at.Logical = []sarifLogical{{Name: f.Object.Name, FullName: name, Kind: "object"}}
	}
	return sarifResult{RuleID: f.Rule.ID, RuleIndex: indexOf[f.Rule.ID], Level: sarifLevelOf(f.Rule.Severity), Message: sarifText{text}, Locations: []sarifLocation{at}, Prints: map[string]string{printKey: f.Fingerprint}}
}
