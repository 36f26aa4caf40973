package price

import "testing"

func TestShipped(t *testing.T) {
	l, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range l.Codes() {
		for _, r := range append(l.Regions(), "ap-south-1", "xx-nowhere-9") {
			if _, err := l.Quote(c, r); err != nil {
				t.Error(err)
			}
		}
	}
}

func BenchmarkShipped(b *testing.B) {
	for b.Loop() {
		if _, err := Shipped(); err != nil {
			b.Fatal(err)
		}
	}
}
