package price

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func offers(t *testing.T) *List {
	t.Helper()
	var all *List
	for _, name := range []string{"AWSDataTransfer", "AmazonEC2", "AmazonRDS", "awskms"} {
		f, err := os.Open(filepath.Join("testdata", name+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		l, err := FromOffers(f)
		if err != nil {
			t.Fatal(err)
		}
		if all == nil {
			all = l
		} else if all, err = all.With(l); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestFromOffers reads files in the form of AWS's, and lays what it makes of them over
// the shipped list.
func TestFromOffers(t *testing.T) {
	known := list(t)
	text := offers(t).Within(known).Text()
	golden := filepath.Join("testdata", "offers.yaml")
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("(-update writes it anew):\n%s", diff)
	}
	l, err := Load(golden)
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[Code]string{"ec2/m7g.large": "0.0979", "nat/hour": "0.052", "alb/hour": "0.027", "nlb/hour": "0.027", "rds/postgres/db.m7g.large": "0.193", "rds/mariadb/db.m7g.large": "0.188", "rds/gp3": "0.137", "kms/key": "1.00", "kms/calls": "0.03", "transfer/internet": "0.09"} {
		q, err := l.Quote(code, "eu-central-1")
		if err != nil || q.Rate.String() != want || q.Estimate {
			t.Errorf("%s is %s, estimate %v, %v; want %s", code, q.Rate, q.Estimate, err, want)
		}
	}
}

func TestRefusedOffers(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "awskms.csv"))
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, by string) string {
		if !strings.Contains(string(whole), old) {
			t.Fatalf("%q is not in the file", old)
		}
		return strings.ReplaceAll(string(whole), old, by)
	}
	for _, c := range []struct{ text, want string }{
		{"", "ends before its columns are named"},
		{"a,b,c\n", "line 1: want a name and a value"},
		{"\"a\n", "line 1 of the price list is not CSV"},
		{strings.Join(strings.SplitAfter(string(whole), "\n")[:5], ""), "ends before its columns are named"},
		{strings.Join(strings.SplitAfter(string(whole), "\n")[:6], ""), "there is no price in the list of awskms"},
		{replaced(`"2026-11-01T00:00:00Z"`, `"soon"`), `line 6: the publication date is "soon"`},
		{replaced(`"awskms"`, `"AmazonSageMaker"`), `no price of the offer "AmazonSageMaker" is taken: name the file of another service`},
		{replaced(`"awskms"`, `"../x"`), `line 6: the offer is "../x"`},
		{replaced(`"usageType"`, `"usage"`), "line 6: there is no column usageType"},
		{replaced(`"Location Type"`, `"Kind"`), "line 6: there are no columns Region Code and Location Type"},
		{replaced(`"1.0000000000"`, `"one"`), `line 7: the price of kms/key in eu-central-1: "one" is no price`},
		{replaced(`"OnDemand","0"`, `"OnDemand","none"`), `line 7: the price of kms/key in eu-central-1 holds from "none" on`},
		{replaced(`"eu-central-1"`, `"Frankfurt"`), `line 7: "Frankfurt" is no region`},
		{"\"" + strings.Repeat("x", maxOfferLine+10), "a line is longer than"},
	} {
		if _, err := FromOffers(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q: %v, want %q in it", c.text, err, c.want)
		}
	}
}

func FuzzFromOffers(f *testing.F) {
	for _, name := range []string{"AmazonEC2", "AmazonRDS", "awskms"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".csv"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := FromOffers(bytes.NewReader(text))
		if err != nil {
			return
		}
		if _, err := parse("made", l.Text(), false); err != nil {
			t.Fatalf("what was made is not read: %v\n%s", err, l.Text())
		}
	})
}
