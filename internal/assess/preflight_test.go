package assess

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"dhow/internal/estate"
	"dhow/internal/inventory"
	"dhow/internal/move"
)

// TestPreflights: each issue of a mover is a finding of its own, with its fix, in every form.
func TestPreflights(t *testing.T) {
	issue := func(severity move.Severity, rule, object string) move.Issue {
		return move.Issue{Severity: severity, Rule: rule, Side: "source", Object: object, Consequence: "what happens to " + object, Fix: "ALTER TABLE " + object + " ADD PRIMARY KEY (id);"}
	}
	o := Options{Preflights: []Preflight{
		{Database: "ledger", Engine: estate.PostgreSQL, File: "dhow.yaml", Issues: []move.Issue{issue(move.Loses, "no-key", "b"), issue(move.Loses, "no-key", "a"), issue(move.Warns, "large", "c")}},
		{Database: "cards", Engine: estate.MariaDB, File: "dhow.yaml", Issues: []move.Issue{issue(move.Loses, "no-key", "a")}},
		{Database: "sessions", Engine: estate.Redis, File: "dhow.yaml"},
	}}
	r, err := Assess(t.Context(), &inventory.Inventory{}, o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	prints := map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		got = append(got, f.Rule.Severity.String()+" "+f.Rule.ID+" "+f.Evidence[0])
		prints[f.Fingerprint] = true
		if f.Where() != "dhow.yaml" || f.Rule.Group != GroupData || !strings.HasPrefix(f.Fix, "ALTER TABLE ") || len(f.Evidence) != 2 {
			t.Errorf("%+v", f)
		}
	}
	want := "high preflight-mariadb-no-key database cards, source: a\nhigh preflight-postgresql-no-key database ledger, source: a\nhigh preflight-postgresql-no-key database ledger, source: b\nmedium preflight-postgresql-large database ledger, source: c"
	if strings.Join(got, "\n") != want || len(prints) != 4 {
		t.Errorf("%s\n%d fingerprints", strings.Join(got, "\n"), len(prints))
	}
	var text, page, log bytes.Buffer
	if err := r.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	if whole, err := indented(r); err != nil || string(whole)+"\n" != text.String() || !strings.Contains(text.String(), `"fix": "ALTER TABLE a ADD PRIMARY KEY (id);"`) {
		t.Error(text.String(), err)
	}
	if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "<pre>ALTER TABLE b ADD PRIMARY KEY (id);</pre>") {
		t.Error(page.String(), err)
	}
	if err := r.WriteSARIF(&log, "v1"); err != nil {
		t.Fatal(err)
	}
	var sarif struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
			}
		}
	}
	if err := json.Unmarshal(log.Bytes(), &sarif); err != nil {
		t.Fatal(err)
	}
	for _, one := range sarif.Runs[0].Results {
		if id := sarif.Runs[0].Tool.Driver.Rules[one.RuleIndex].ID; id != one.RuleID {
			t.Errorf("rule %d is %s, not %s", one.RuleIndex, id, one.RuleID)
		}
	}
}

// TestOldServersSaySo: the version that a server told counts as its image's tag does.
func TestOldServersSaySo(t *testing.T) {
	inv := &inventory.Inventory{}
	found := func(host, product, version string) inventory.Database {
		return inventory.Database{Engine: inventory.PostgreSQL, Host: host, Port: 5432, Evidence: []inventory.Evidence{{By: inventory.ByEstate, File: "dhow.yaml"}}, Answers: &inventory.Answers{Product: product, Version: version}}
	}
	inv.Learn([]inventory.Database{found("a", "PostgreSQL", "12.9"), found("b", "PostgreSQL", "16.1"), found("c", "MariaDB", "10.6.4"), found("d", "Redis", "6.2.14"), found("e", "Valkey", "8.0"), {Engine: inventory.PostgreSQL}}, nil)
	r, err := Assess(t.Context(), inv, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Rule.ID == "database-too-old" {
			got = append(got, strings.Join(f.Evidence, "; "))
		}
	}
	if text := strings.Join(got, "\n"); len(got) != 3 || !strings.Contains(text, "PostgreSQL 12.9") || !strings.Contains(text, "MariaDB 10.6.4") || !strings.Contains(text, "Redis 6.2.14") {
		t.Error(text)
	}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "Valkey 8.0") {
		t.Error(page.String(), err)
	}
}
