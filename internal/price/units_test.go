package price

import (
	"math"
	"testing"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		load Traffic
		want int
	}{
		{ALB, Traffic{}, 0},
		{ALB, Traffic{NewConnections: 50}, 2000},
		{ALB, Traffic{NewConnections: 5, ActiveConnections: 6000, GBPerHour: 1}, 2000},
		{ALB, Traffic{GBPerHour: 0.5, Evaluations: 700}, 700},
		{NLB, Traffic{NewConnections: 50, GBPerHour: 0.0001}, 63},
		{NLB, Traffic{Evaluations: 5000}, 0},
		{NAT, Traffic{GBPerHour: 5}, 0},
		{ALB, Traffic{GBPerHour: math.NaN()}, 0},
		{ALB, Traffic{GBPerHour: math.Inf(1)}, 1e12},
	} {
		if got := Units(c.kind, c.load); got != c.want {
			t.Errorf("%s with %+v: %d, want %d", c.kind, c.load, got, c.want)
		}
	}
}
