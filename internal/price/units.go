package price

import "math"

// Traffic is what a load balancer carries on the average.
type Traffic struct {
	// NewConnections is connections a second, ActiveConnections how many are open at once.
	NewConnections, ActiveConnections float64
	// GBPerHour is requests and answers together.
	GBPerHour float64
	// Evaluations is how many rules of its listeners are tried in a second: requests a
	// second times the rules beyond the first ten, which are free.
	Evaluations float64
}

// What one capacity unit has, by Elastic Load Balancing's page of prices.
const (
	albNew, albActive, albGB, albEvaluations = 25.0, 3000.0, 1.0, 1000.0
	nlbNew, nlbActive, nlbGB                 = 800.0, 100_000.0, 1.0
)

// Units are the capacity units that an ALB or an NLB is paid for, in thousandths: the
// greatest of its dimensions counts alone. Of other kinds it is 0.
func Units(kind Kind, l Traffic) int {
	var most float64
	switch kind {
	case ALB:
		most = max(l.NewConnections/albNew, l.ActiveConnections/albActive, l.GBPerHour/albGB, l.Evaluations/albEvaluations)
	case NLB:
		most = max(l.NewConnections/nlbNew, l.ActiveConnections/nlbActive, l.GBPerHour/nlbGB)
	default:
		return 0
	}
	if !(most > 0) {
		return 0
	}
	return int(math.Ceil(min(most, 1e9) * milli))
}
