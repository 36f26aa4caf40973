package service

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// namespace begins every metric's name.
const namespace = "superapp"

// requestBuckets are in seconds: a read takes under a millisecond, a payment some.
var requestBuckets = []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2.5, 5, 10}

// newRegistry has the metrics of the process and of its pools of connections.
func newRegistry(s *stores) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if db := s.postgres; db != nil {
		pool(r, "pool", func() usage {
			t := db.Stat()
			return usage{float64(t.TotalConns()), float64(t.AcquiredConns()), float64(t.EmptyAcquireCount()), t.EmptyAcquireWaitTime().Seconds()}
		})
	}
	if db := s.mariadb; db != nil {
		pool(r, "mariadb_pool", func() usage {
			t := db.Stats()
			return usage{float64(t.OpenConnections), float64(t.InUse), float64(t.WaitCount), t.WaitDuration.Seconds()}
		})
	}
	if db := s.redis; db != nil {
		pool(r, "redis_pool", func() usage {
			t := db.PoolStats()
			return usage{float64(t.TotalConns), float64(t.TotalConns - t.IdleConns), float64(t.WaitCount), time.Duration(t.WaitDurationNs).Seconds()}
		})
	}
	return r
}

// usage is what a pool says of itself.
type usage struct{ open, used, waits, waited float64 }

func pool(r prometheus.Registerer, subsystem string, now func() usage) {
	for _, g := range []struct {
		name, help string
		value      func(usage) float64
	}{
		{"connections", "Open connections to the store.", func(u usage) float64 { return u.open }},
		{"connections_in_use", "Connections that a request uses now.", func(u usage) float64 { return u.used }},
		{"waits", "How often a request had to wait for a connection.", func(u usage) float64 { return u.waits }},
		{"wait_seconds", "Time that requests waited for a connection, in all.", func(u usage) float64 { return u.waited }},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: g.name, Help: g.help},
			func() float64 { return g.value(now()) }))
	}
}

func requestSeconds(r prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Subsystem: "http", Name: "request_seconds",
		Help: "Time to answer a request, by route and status.", Buckets: requestBuckets}, []string{"route", "status"})
	r.MustRegister(h)
	return h
}

// NewCounter makes and registers a counter of a service's own.
func NewCounter(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	r.MustRegister(c)
	return c
}

func statusText(status int) string { return strconv.Itoa(status) }
