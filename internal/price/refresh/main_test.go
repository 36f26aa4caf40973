package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dhow/internal/price"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"../testdata/AWSDataTransfer.csv", "../testdata/AmazonEC2.csv", "../testdata/AmazonRDS.csv", "../testdata/awskms.csv"}, &out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../testdata/offers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("it wrote\n%s", out.String())
	}
	name := filepath.Join(t.TempDir(), "prices.yaml")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := price.Load(name); err != nil {
		t.Errorf("what it wrote is not read: %v", err)
	}
}

func TestRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.csv")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string][]string{
		"no files are named":             nil,
		"no such file or directory":      {"../testdata/none.csv"},
		"empty.csv: the price list ends": {"../testdata/awskms.csv", empty},
	} {
		var out bytes.Buffer
		if err := run(files, &out); err == nil || !strings.Contains(err.Error(), want) || out.Len() != 0 {
			t.Errorf("%v: %v, want %q in it", files, err, want)
		}
	}
}
