package service

import (
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// namespace begins every metric's name.
const namespace = "superapp"

// requestBuckets are in seconds: a read takes under a millisecond, a payment some.
var requestBuckets = []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2.5, 5, 10}

func newRegistry(db *pgxpool.Pool) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func(*pgxpool.Stat) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: "pool", Name: name, Help: help},
			func() float64 { return value(db.Stat()) }))
	}
	gauge("connections", "Open connections to the database.", func(s *pgxpool.Stat) float64 { return float64(s.TotalConns()) })
	gauge("connections_in_use", "Connections that a request uses now.", func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) })
	gauge("waits", "How often a request had to wait for a connection.", func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) })
	gauge("wait_seconds", "Time that requests waited for a connection, in all.", func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() })
	return r
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
