package operator

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// counters are the operator's own, beside those of its controllers and of its client.
type counters struct {
	writes, statuses, refusals prometheus.Counter
	// completed, held and letIn are of pods that are made.
	completed, held, letIn prometheus.Counter
	// recorded are revisions whose images were written down.
	recorded prometheus.Counter
}

func newCounters() *counters {
	return &counters{
		writes:   counter("objects_written_total", "Objects that were applied or removed."),
		statuses: counter("statuses_written_total", "Statuses of Exposures that were written."),
		refusals: counter("gateways_refused_total", "Attempts at a shared Gateway that was another's or in conflict."),

		completed: counter("pods_completed_total", "Pods that were given times, probes or a spread when they were made."),
		held:      counter("pods_held_total", "Pods that were given the digests of their revision's images when they were made."),
		letIn:     counter("pods_let_in_total", "Pods that were let in as they were, because what they need could not be found out."),
		recorded:  counter("revisions_recorded_total", "Revisions of workloads whose images' digests were written down."),
	}
}

func counter(name, help string) prometheus.Counter {
	return registered(prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dhow", Subsystem: "operator", Name: name, Help: help}))
}

func gauge(name, help string) prometheus.Gauge {
	return registered(prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "dhow", Subsystem: "operator", Name: name, Help: help}))
}

// gauges are of what their labels name.
func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return registered(prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "dhow", Subsystem: "operator", Name: name, Help: help}, labels))
}

// registered is registered once a process, also where the operator begins anew.
func registered[C prometheus.Collector](c C) C {
	if err := metrics.Registry.Register(c); err != nil {
		var there prometheus.AlreadyRegisteredError
		if errors.As(err, &there) {
			if old, ok := there.ExistingCollector.(C); ok {
				return old
			}
		}
	}
	return c
}
