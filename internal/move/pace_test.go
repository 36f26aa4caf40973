package move

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		perSecond     int
		rows          int64
		least, atMost time.Duration
	}{
		"none":              {0, 1 << 40, 0, 0},
		"the first burst":   {100, 10, 0, 0},
		"more than a burst": {100, 1010, 10 * time.Second, 10*time.Second + time.Millisecond},
		"less than a row":   {1, 3, 2 * time.Second, 2*time.Second + time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if err := NewPace(c.perSecond).Took(t.Context(), c.rows); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < c.least || took > c.atMost {
					t.Errorf("it took %v, want %v to %v", took, c.least, c.atMost)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewPace(1).Took(ctx, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled, it says %v", err)
	}
}
