package v1alpha1_test

import "k8s.io/apimachinery/pkg/runtime/schema"

//nolint:gochecknoglobals // a constant
var scaleKind = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

const arn = "arn:aws:acm:me-central-1:123456789012:certificate/0b1c"

// wrong are specs, and the sentence that refuses each.
//
//nolint:gochecknoglobals // a table of tests
var wrong = []struct{ spec, want string }{
	{`{}`, "spec.workload: Required value"},
	{`{workload: {}}`, "name a workload, or give a selector of its pods"},
	{`{workload: {name: a, selector: {matchLabels: {a: b}}}}`, "name a workload, or give a selector of its pods"},
	{`{workload: {selector: {}}}`, "the selector needs matchLabels"},
	{`{workload: {name: a, kind: CronJob}}`, `supported values: "Deployment", "StatefulSet", "Rollout"`},
	{`{workload: {name: a}, visibility: open}`, `supported values: "public", "private", "mesh", "none"`},
	{`{workload: {name: a}, visibility: public}`, "a public exposure of requests needs hosts"},
	{`{workload: {name: a}, hosts: [UPPER.example.com]}`, "should match"},
	{`{workload: {name: a}, hosts: [a.example.com, a.example.com]}`, "Duplicate value"},
	{`{workload: {name: a}, ports: [{name: UPPER, port: 1}]}`, "should match"},
	{`{workload: {name: a}, ports: [{name: a, port: 0}]}`, "greater than or equal to 1"},
	{`{workload: {name: a}, ports: [{name: a, port: 1, protocol: SCTP}]}`, "supported values"},
	{`{workload: {name: a}, ports: [{name: a, port: 1, protocol: TCP}], paths: [{path: /}]}`, "paths belong to requests"},
	{`{workload: {name: a}, ports: [{name: a, port: 1}], paths: [{path: /, port: b}]}`, "a path names a port that is not among the ports"},
	{`{workload: {name: a}, paths: [{path: cart}]}`, "should match"},
	{`{workload: {name: a}, tls: {certificates: [mine]}}`, "should match"},
	{`{workload: {name: a}, tls: {policy: weak}}`, "should match"},
	{`{workload: {name: a}, routing: {algorithm: LeastOutstandingRequests, slowStart: 60s}}`, "only RoundRobin can be combined with a slow start"},
	{`{workload: {name: a}, routing: {slowStart: 10s}}`, "slowStart must be 0s, or from 30s to 15m"},
	{`{workload: {name: a}, routing: {anomalyMitigation: true}}`, "anomaly mitigation belongs to WeightedRandom alone"},
	{`{workload: {name: a}, routing: {algorithm: WeightedRandom, anomalyMitigation: true, stickiness: 1h}}`, "sessions that stick can not be combined with anomaly mitigation"},
	{`{workload: {name: a}, routing: {stickiness: 200h}}`, "stickiness must be from 1s to 168h"},
	{`{workload: {name: a}, routing: {timeouts: {request: 2h}}}`, "request must be from 1s to 55m"},
	{`{workload: {name: a}, routing: {timeouts: {idle: 2h}}}`, "idle must be from 1s to 4000s"},
	{`{workload: {name: a}, routing: {retries: {attempts: 2}}}`, "retries are made by a mesh"},
	{`{workload: {name: a}, routing: {canaries: [{service: b, weight: 60}, {service: c, weight: 60}]}}`, "together at most 100"},
	{`{workload: {name: a}, routing: {headers: [{name: "a b", value: c, service: d}]}}`, "should match"},
	{`{workload: {name: a}, health: {interval: 5s, timeout: 10s}}`, "must be shorter than its interval"},
	{`{workload: {name: a}, health: {path: healthz}}`, "should match"},
	{`{workload: {name: a}, health: {codes: good}}`, "should match"},
	{`{workload: {name: a}, scaling: {min: 5, max: 3, cpu: {percent: 70}}}`, "min must not be above max"},
	{`{workload: {name: a}, scaling: {max: 3}}`, "scaling up to max needs something to go by"},
	{`{workload: {name: a}, scaling: {max: 3, cpu: {}}}`, "give percent or average"},
	{`{workload: {name: a}, availability: {zones: Many}}`, "supported values"},
	{`{workload: {name: a}, access: {sourceRanges: [10.0.0.1]}}`, "want a network as 10.0.0.0/8"},
	{`{workload: {name: a}, access: {webACL: mine}}`, "should match"},
	{`{workload: {name: a}, visibility: none, access: {webACL: "arn:aws:wafv2:me-central-1:123456789012:regional/webacl/bank/0b1c"}}`, "a web ACL belongs to a load balancer"},
	{`{workload: {name: a}, access: {authentication: {}}}`, "give oidc, cognito or jwt"},
	{`{workload: {name: a}, visibility: mesh, access: {authentication: {jwt: {issuer: "https://a", jwksEndpoint: "https://a/keys"}}}}`, "authentication is done by a load balancer"},
	{`{workload: {name: a}, access: {authentication: {jwt: {issuer: "http://a", jwksEndpoint: "https://a/keys"}}}}`, "should match"},
	{`{workload: {name: a}, access: {from: [{}]}}`, "name the labels of pods, a namespace, or both"},
	{`{workload: {name: a}, access: {to: [{cidr: 10.0.0.0/8, namespace: b}]}}`, "name pods by labels or namespace, or a network"},
	{`{workload: {name: a}, limits: {capacityUnits: 5}}`, "greater than or equal to 100"},
	{`{workload: {name: a}, limits: {clientKeepAlive: 1s}}`, "clientKeepAlive must be from 60s to 168h"},
	{`{workload: {name: a}, service: {name: a, existing: b}}`, "give one of them"},
	{`{workload: {name: a}, dns: {ttl: 48h}}`, "ttl must be from 1s to 24h"},
}

// right are specs that use every field.
//
//nolint:gochecknoglobals // a table of tests
var right = map[string]string{
	"public": `{workload: {name: a}, visibility: public, hosts: [a.example.com, "*.b.example.com"], ports: [{name: http, port: 80, targetPort: web, protocol: HTTP}, {name: grpc, port: 9000, targetPort: 9001, protocol: GRPC}],
 paths: [{path: /api, type: Exact, port: grpc}], tls: {certificates: ["` + arn + `"], policy: ELBSecurityPolicy-TLS13-1-2-2021-06},
 routing: {algorithm: RoundRobin, slowStart: 60s, stickiness: 1h, timeouts: {request: 30s, idle: 60s, keepAlive: 75s, warmUp: 20s}, canaries: [{service: a-next, port: 81, weight: 10}], headers: [{name: X-Try, value: "yes", service: a-next}]},
 health: {path: /ready, port: http, codes: "200-299", interval: 10s, timeout: 5s, healthy: 2, unhealthy: 3},
 scaling: {min: 2, max: 9, cpu: {percent: 70}, requests: {metric: requests_per_second, average: "50"}, queue: {metric: depth, average: "10", selector: {matchLabels: {queue: a}}}, calm: 5m},
 availability: {maxUnavailable: 25%, zones: Required, crossZone: true},
 access: {sourceRanges: [10.0.0.0/8, "2001:db8::/32"], webACL: "arn:aws:wafv2:me-central-1:123456789012:regional/webacl/bank/0b1c", from: [{namespace: b}, {labels: {app: c}}], to: [{cidr: 10.1.0.0/16, ports: [5432]}, {namespace: d, labels: {app: e}}],
  authentication: {oidc: {issuer: "https://id", authorizationEndpoint: "https://id/a", tokenEndpoint: "https://id/t", userInfoEndpoint: "https://id/u", secret: s, scope: openid}}},
 limits: {capacityUnits: 500, clientKeepAlive: 1h}, service: {name: a, headless: true}, dns: {ttl: 1m}, adopt: true}`,
	"public, of connections": `{workload: {kind: StatefulSet, name: a}, visibility: public, ports: [{name: pg, port: 5432, protocol: TCP}, {name: dns, port: 53, protocol: UDP}, {name: tls, port: 8443, protocol: TLS}]}`,
	"mesh":                   `{workload: {selector: {matchLabels: {a: b}}}, visibility: mesh, routing: {retries: {attempts: 3, codes: [502, 503]}}}`,
	"none":                   `{workload: {kind: Rollout, name: a}, visibility: none, service: {existing: b}, dns: {disabled: true}}`,
	"cognito":                `{workload: {name: a}, access: {authentication: {cognito: {userPoolARN: "arn:aws:cognito-idp:me-central-1:123456789012:userpool/x", userPoolClientID: c, userPoolDomain: d}}}}`,
	"jwt":                    `{workload: {name: a}, access: {authentication: {jwt: {issuer: "https://a", jwksEndpoint: "https://a/keys"}}}}`,
	"weighted random":        `{workload: {name: a}, routing: {algorithm: WeightedRandom, anomalyMitigation: true}}`,
	"a number of CPUs":       `{workload: {name: a}, scaling: {min: 1, max: 4, cpu: {average: 700m}}}`,
}
