package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

const (
	// DefaultWindow is how far back use is asked for: a week has all habits of a week.
	DefaultWindow = 7 * 24 * time.Hour
	// usageStep is how finely: five minutes are what autoscalers look at.
	usageStep = "5m"
	// prometheusTimeout bounds one question.
	prometheusTimeout = 2 * time.Minute
)

const (
	fromMetricsAPI = "metrics API"
	fromPrometheus = "Prometheus"
)

type usageKey struct {
	workload  Ref
	container string
}

// metrics asks the metrics API what the pods take at this moment.
func (r *clusterReader) metrics(ctx context.Context, _ []apiResource) {
	const what = "metrics.k8s.io/pods"
	type sample struct{ cpu, memory []float64 }
	samples := map[usageKey]*sample{}
	var at time.Time
	owner := r.podOwners()
	for _, namespace := range r.scopes(apiResource{namespaced: true}) {
		token := ""
		for {
			raw, err := r.page(ctx, apiResource{group: "metrics.k8s.io", version: "v1beta1", name: "pods", namespaced: true}, namespace, token)
			var list metricsv1beta1.PodMetricsList
			if err == nil {
				err = json.Unmarshal(raw, &list)
			}
			if err != nil {
				if ctx.Err() == nil {
					r.lost(what, "what the pods take can not be read: "+oneLine(err), "install metrics-server, or name a Prometheus; sizes can not be judged without")
				}
				return
			}
			for _, p := range list.Items {
				w, ok := owner[Ref{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}]
				if !ok {
					continue
				}
				if p.Timestamp.After(at) {
					at = p.Timestamp.UTC()
				}
				for _, c := range p.Containers {
					key := usageKey{w, c.Name}
					if samples[key] == nil {
						samples[key] = &sample{}
					}
					samples[key].cpu = append(samples[key].cpu, c.Usage.Cpu().AsApproximateFloat64())
					samples[key].memory = append(samples[key].memory, c.Usage.Memory().AsApproximateFloat64())
				}
			}
			if token = list.Continue; token == "" {
				break
			}
		}
	}
	for key, s := range samples {
		r.inv.Usage = append(r.inv.Usage, Usage{Workload: key.workload, Container: key.container, CPU: quantiles(s.cpu), Memory: quantiles(s.memory), Samples: len(s.cpu), From: at, To: at, Source: fromMetricsAPI})
	}
	sortUsage(r.inv.Usage)
}

func sortUsage(u []Usage) {
	slices.SortFunc(u, func(a, b Usage) int {
		return cmp.Or(compareRefs(a.Workload, b.Workload), strings.Compare(a.Container, b.Container))
	})
}

func (r *clusterReader) podOwners() map[Ref]Ref {
	owner := make(map[Ref]Ref, len(r.inv.Pods))
	for _, p := range r.inv.Pods {
		owner[p.Ref] = p.Owner
	}
	return owner
}

// quantiles are by the nearest rank: each is a value that was seen.
func quantiles(v []float64) Quantiles {
	if len(v) == 0 {
		return Quantiles{}
	}
	slices.Sort(v)
	at := func(q float64) float64 { return v[max(0, int(math.Ceil(q*float64(len(v))))-1)] }
	return Quantiles{P50: at(0.50), P90: at(0.90), P95: at(0.95), P99: at(0.99), Max: v[len(v)-1]}
}

// prometheus asks for what containers took in the window, and where requests are counted.
func (r *clusterReader) prometheus(ctx context.Context) {
	lost := func(what string, err error) {
		if ctx.Err() == nil {
			r.lost("prometheus", what+": "+r.withoutAddress(err), "see that the URL of Prometheus is right and answers from here")
		}
	}
	client, err := api.NewClient(api.Config{Address: r.o.Prometheus})
	if err != nil {
		lost("make a client of Prometheus", err)
		return
	}
	p := prometheus.NewAPI(client)
	window := cmp.Or(r.o.Window, DefaultWindow)
	now := time.Now().UTC().Truncate(time.Second)
	found := map[usageKey]*Usage{}
	for _, q := range []struct {
		name string
		of   float64
		set  func(*Quantiles, float64)
	}{
		{"quantile_over_time(0.5,", 0.5, func(q *Quantiles, v float64) { q.P50 = max(q.P50, v) }},
		{"quantile_over_time(0.9,", 0.9, func(q *Quantiles, v float64) { q.P90 = max(q.P90, v) }},
		{"quantile_over_time(0.95,", 0.95, func(q *Quantiles, v float64) { q.P95 = max(q.P95, v) }},
		{"quantile_over_time(0.99,", 0.99, func(q *Quantiles, v float64) { q.P99 = max(q.P99, v) }},
		{"max_over_time(", 1, func(q *Quantiles, v float64) { q.Max = max(q.Max, v) }},
	} {
		for metric, of := range map[string]func(*Usage) *Quantiles{
			`rate(container_cpu_usage_seconds_total{container!="",container!="POD"}[` + usageStep + `])`: func(u *Usage) *Quantiles { return &u.CPU },
			`container_memory_working_set_bytes{container!="",container!="POD"}`:                         func(u *Usage) *Quantiles { return &u.Memory },
		} {
			query := fmt.Sprintf("max by (namespace, pod, container) (%s%s[%s:%s]))", q.name, metric, model.Duration(window), usageStep)
			samples, err := ask(ctx, p, query, now)
			if err != nil {
				lost("ask Prometheus what containers take", err)
				return
			}
			for _, s := range samples {
				w, ok := r.workloadOf(string(s.Metric["namespace"]), string(s.Metric["pod"]))
				if !ok || math.IsNaN(float64(s.Value)) {
					continue
				}
				key := usageKey{w, string(s.Metric["container"])}
				if found[key] == nil {
					found[key] = &Usage{Workload: w, Container: key.container, From: now.Add(-window), To: now, Source: fromPrometheus}
				}
				u := found[key]
				q.set(of(u), float64(s.Value))
				if q.of == 1 {
					u.Samples++
				}
			}
		}
	}
	r.inv.Usage = slices.DeleteFunc(r.inv.Usage, func(u Usage) bool { return found[usageKey{u.Workload, u.Container}] != nil })
	for _, u := range found {
		r.inv.Usage = append(r.inv.Usage, *u)
	}
	sortUsage(r.inv.Usage)
	r.history(ctx, p, now)
}

// history looks for a metric that counts requests.
func (r *clusterReader) history(ctx context.Context, p prometheus.API, now time.Time) {
	at := r.o.Prometheus
	if u, err := url.Parse(at); err == nil {
		at = u.Redacted()
	}
	r.inv.History = &History{Kind: "prometheus", At: at}
	for _, metric := range []string{"nginx_ingress_controller_requests", "istio_requests_total", "traefik_service_requests_total", "envoy_cluster_upstream_rq_total", "haproxy_backend_http_responses_total", "http_requests_total", "http_server_requests_seconds_count"} {
		if samples, err := ask(ctx, p, "count("+metric+")", now); err == nil && len(samples) > 0 {
			r.inv.History.Metric = metric
			return
		}
	}
}

func ask(ctx context.Context, p prometheus.API, query string, at time.Time) (model.Vector, error) {
	ctx, cancel := context.WithTimeout(ctx, prometheusTimeout)
	defer cancel()
	v, _, _, err := p.Query(ctx, query, at)
	if err != nil {
		return nil, err
	}
	vector, ok := v.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("it answers with a %s, not a vector", v.Type())
	}
	return vector, nil
}

// withoutAddress is an error without the URL, which may have a password in it.
func (r *clusterReader) withoutAddress(err error) string {
	m := masker{key: r.maskKey}
	return m.text("", "", strings.ReplaceAll(oneLine(err), r.o.Prometheus, "Prometheus"))
}

var podName = regexp.MustCompile(`^(.*?)(?:-[0-9a-f]{6,10})?-(?:[a-z0-9]{5}|\d+)$`)

// workloadOf is the workload of a pod, also of one that is gone, by its name.
func (r *clusterReader) workloadOf(namespace, pod string) (Ref, bool) {
	for _, p := range r.inv.Pods {
		if p.Namespace == namespace && p.Name == pod {
			return p.Owner, true
		}
	}
	m := podName.FindStringSubmatch(pod)
	if m == nil {
		return Ref{}, false
	}
	for _, o := range r.inv.Objects {
		if o.Namespace == namespace && o.Name == m[1] && (o.Kind == "Deployment" || o.Kind == "StatefulSet" || o.Kind == "DaemonSet") {
			return o.Ref, true
		}
	}
	return Ref{}, false
}
