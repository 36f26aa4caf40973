package assess

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"dhow/internal/inventory"
)

// copies is how often the benchmark has the two deployments: 10,000 objects together.
const copies = 100

// BenchmarkAssess is for 10,000 objects, without the reading of them.
func BenchmarkAssess(b *testing.B) {
	named := regexp.MustCompile(`(name(?:space)?): superapp(?:-\w+)?\b`)
	var all bytes.Buffer
	for _, dir := range []string{"source", "aws"} {
		files, err := filepath.Glob("../../superapp/deploy/" + dir + "/*.yaml")
		if err != nil || len(files) == 0 {
			b.Fatalf("%d files: %v", len(files), err)
		}
		for n := range copies {
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					b.Fatal(err)
				}
				all.Write(named.ReplaceAll(text, fmt.Appendf(nil, "${0}-%s%d", dir, n)))
				all.WriteString("\n---\n")
			}
		}
	}
	path := filepath.Join(b.TempDir(), "all.yaml")
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	inv, err := inventory.FromFiles(context.Background(), inventory.FileOptions{}, path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(inv.Objects)), "objects")
	for b.Loop() {
		if _, err := Assess(context.Background(), inv, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
