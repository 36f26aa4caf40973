package expose

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"dhow/api/v1alpha1"
)

const (
	albPrefix   = "alb.ingress.kubernetes.io/"
	nginxPrefix = "nginx.ingress.kubernetes.io/"
	yes, no     = "true", "false"
)

// fitted is what becomes of a setting that the operator fits by itself.
const fitted = "the operator fits it to the pods' own times"

// albNotes takes the annotations of the AWS Load Balancer Controller.
func (c *converter) albNotes(notes map[string]string) error {
	var listen []map[string]int
	for _, key := range sorted(notes) {
		name, ok := strings.CutPrefix(key, albPrefix)
		if !ok {
			continue
		}
		v := notes[key]
		if c.checks(key, name, v) {
			continue
		}
		switch name {
		case "scheme": // see ingressVisibility
		case "group.name", "group.order", "load-balancer-name":
			c.carried(key, "the load balancer is the one that all Exposures share")
		case "target-type":
			if v != "ip" {
				c.carried(key, "targets are the pods themselves, and no nodes")
			}
		case "target-node-labels", "manage-backend-security-group-rules": // of nodes, and the controller's own affair
		case "ip-address-type":
			if v != "ipv4" {
				c.lost(key, "%s: the load balancer is shared, and has addresses of IPv4", v)
			}
		case "certificate-arn":
			c.certificates(key, split(v))
		case "ssl-policy":
			if !strings.HasPrefix(v, "ELBSecurityPolicy-") {
				c.lost(key, "%q is no policy of ELB", v)
				continue
			}
			part(&c.all.TLS).Policy = v
		case "ssl-redirect":
			if v != "443" {
				c.lost(key, "requests are sent on to port %s: the shared load balancer sends them to 443", v)
			}
		case "listen-ports":
			if err := json.Unmarshal([]byte(v), &listen); err != nil {
				return wrong("the annotation %s of the Ingress %s can not be read: %v", key, c.Ingress.Name, err)
			}
		case "backend-protocol":
			if v != "HTTP" {
				c.lost(key, "%s: an Exposure's load balancer speaks to pods without TLS", v)
			}
		case "backend-protocol-version":
			c.speaks = map[string]v1alpha1.Protocol{"GRPC": v1alpha1.GRPC, "HTTP2": v1alpha1.HTTP2}[v]
		case "healthcheck-protocol":
			if v != "HTTP" {
				c.lost(key, "%s: health is asked without TLS", v)
			}
		case "target-group-attributes":
			c.targetAttributes(key, v)
		case "load-balancer-attributes":
			c.balancerAttributes(key, v)
		case "wafv2-acl-arn":
			if !goodACL.MatchString(v) {
				c.lost(key, "%q is no ARN of a regional web ACL", v)
				continue
			}
			part(&c.all.Access).WebACL = v
		case "inbound-cidrs":
			c.sources(key, split(v))
		case "minimum-load-balancer-capacity":
			if n, ok := c.number(key, strings.TrimPrefix(v, "CapacityUnits="), 100, 100000); ok {
				part(&c.all.Limits).CapacityUnits = int32(n)
			}
		case "auth-type":
			if err := c.signIn(v, notes); err != nil {
				return err
			}
		case "auth-idp-oidc", "auth-idp-cognito", "auth-scope": // see signIn
		case "auth-on-unauthenticated-request":
			if v != "authenticate" {
				c.lost(key, "%s: who is not known must sign in", v)
			}
		case "jwt-validation":
			var j struct{ Issuer, JWKSEndpoint string }
			if err := json.Unmarshal([]byte(v), &j); err != nil {
				return wrong("the annotation %s of the Ingress %s can not be read: %v", key, c.Ingress.Name, err)
			}
			part(&c.all.Access).Authentication = &v1alpha1.Authentication{JWT: &v1alpha1.JWT{Issuer: v1alpha1.URL(j.Issuer), JWKSEndpoint: v1alpha1.URL(j.JWKSEndpoint)}}
		default:
			if strings.HasPrefix(name, "actions.") { // see action
				continue
			}
			c.lost(key, "%s: an Exposure has no words for it", short(v))
		}
	}
	c.listens(listen, notes)
	return nil
}

// listens says which of the ports at which an ALB listens today are served as well.
func (c *converter) listens(listen []map[string]int, notes map[string]string) {
	if len(listen) == 0 { // as the controller has it where nothing is said
		if notes[albPrefix+"certificate-arn"] != "" {
			return
		}
		c.plain = true
		return
	}
	for _, l := range listen {
		for _, protocol := range sorted(l) {
			switch at := l[protocol]; {
			case protocol == "HTTP" && at == 80:
				c.plain = notes[albPrefix+"ssl-redirect"] == ""
			case protocol == "HTTPS" && at == 443:
			default:
				c.lost(albPrefix+"listen-ports", "%s at port %d: the shared load balancer serves HTTPS at 443", protocol, at)
			}
		}
	}
}

// mostShown is how much of a value a person reads.
const mostShown = 60

func short(v string) string {
	v = strings.Join(strings.Fields(v), " ")
	if len(v) > mostShown {
		v = v[:mostShown] + "…"
	}
	return v
}

// signIn takes who must sign in, and where.
func (c *converter) signIn(kind string, notes map[string]string) error {
	scope := notes[albPrefix+"auth-scope"]
	read := func(name string, into any) error {
		if err := json.Unmarshal([]byte(notes[albPrefix+name]), into); err != nil {
			return wrong("the annotation %s%s of the Ingress %s can not be read: %v", albPrefix, name, c.Ingress.Name, err)
		}
		return nil
	}
	switch kind {
	case "none":
	case "oidc":
		var o struct{ Issuer, AuthorizationEndpoint, TokenEndpoint, UserInfoEndpoint, SecretName string }
		if err := read("auth-idp-oidc", &o); err != nil {
			return err
		}
		part(&c.all.Access).Authentication = &v1alpha1.Authentication{OIDC: &v1alpha1.OIDC{Issuer: v1alpha1.URL(o.Issuer), AuthorizationEndpoint: v1alpha1.URL(o.AuthorizationEndpoint), TokenEndpoint: v1alpha1.URL(o.TokenEndpoint),
			UserInfoEndpoint: v1alpha1.URL(o.UserInfoEndpoint), Secret: o.SecretName, Scope: scope}}
	case "cognito":
		var o struct{ UserPoolARN, UserPoolClientID, UserPoolDomain string }
		if err := read("auth-idp-cognito", &o); err != nil {
			return err
		}
		part(&c.all.Access).Authentication = &v1alpha1.Authentication{Cognito: &v1alpha1.Cognito{UserPoolARN: o.UserPoolARN, UserPoolClientID: o.UserPoolClientID, UserPoolDomain: o.UserPoolDomain, Scope: scope}}
	default:
		c.lost(albPrefix+"auth-type", "%s: an Exposure has OIDC, Cognito and tokens", kind)
	}
	return nil
}

// targetAttributes takes the settings of a target group.
func (c *converter) targetAttributes(key, text string) {
	sticky, lasting := false, ""
	for _, p := range pairs(text) {
		switch v := p[1]; p[0] {
		case "stickiness.enabled":
			sticky = v == yes
		case "stickiness.type":
			if v != "lb_cookie" {
				c.lost(key, "%s=%s: sessions stick by the load balancer's own cookie", p[0], v)
			}
		case "stickiness.lb_cookie.duration_seconds":
			lasting = v
		case "load_balancing.algorithm.type":
			a, known := map[string]v1alpha1.Algorithm{"round_robin": v1alpha1.RoundRobin, "least_outstanding_requests": v1alpha1.LeastOutstandingRequests, "weighted_random": v1alpha1.WeightedRandom}[v]
			if !known {
				c.lost(key, "%s=%s", p[0], v)
				continue
			}
			part(&c.all.Routing).Algorithm = a
		case "load_balancing.algorithm.anomaly_mitigation":
			part(&c.all.Routing).AnomalyMitigation = v == "on"
		case "slow_start.duration_seconds":
			if v == "0" {
				continue
			}
			if n, ok := c.number(key, v, 30, 900); ok {
				part(&c.all.Routing).SlowStart = seconds(n)
			}
		case "deregistration_delay.timeout_seconds":
			c.carried(key, "%s=%s: %s", p[0], v, fitted)
		case "load_balancing.cross_zone.enabled":
			c.crossZone(v)
		default:
			c.lost(key, "%s=%s", p[0], v)
		}
	}
	if sticky {
		const day = "86400" // as ELB has it where nothing is said
		if lasting == "" {
			lasting = day
		}
		if n, ok := c.number(key, lasting, 1, 604800); ok {
			part(&c.all.Routing).Stickiness = seconds(n)
		}
	}
}

func (c *converter) crossZone(v string) {
	if v != yes && v != no {
		return // as the load balancer has it
	}
	on := v == yes
	c.all.Availability = &v1alpha1.Availability{CrossZone: &on}
}

// balancerAttributes takes the settings of a load balancer, which all will share.
func (c *converter) balancerAttributes(key, text string) {
	for _, p := range pairs(text) {
		switch v := p[1]; {
		case p[0] == "idle_timeout.timeout_seconds":
			if n, ok := c.number(key, v, 1, 4000); ok {
				c.idle(n)
			}
		case p[0] == "client_keep_alive.seconds":
			if n, ok := c.number(key, v, 60, 604800); ok {
				part(&c.all.Limits).ClientKeepAlive = seconds(n)
			}
		case p[0] == "routing.http.drop_invalid_header_fields.enabled" && v == yes, p[0] == "routing.http2.enabled" && v == yes, strings.HasPrefix(p[0], "access_logs.") && v == no: // as it is anyway
		case p[0] == "load_balancing.cross_zone.enabled":
			c.crossZone(v)
		case strings.HasPrefix(p[0], "access_logs.") && c.Policy.AccessLogs != "":
			c.carried(key, "access logs go to the bucket of the operator's policy, %s", c.Policy.AccessLogs)
		default:
			c.lost(key, "%s=%s: the load balancer is shared, and is not told so", p[0], v)
		}
	}
}

// nginxIgnored are annotations of what only happens inside of nginx.
//
//nolint:gochecknoglobals // a constant list
var nginxIgnored = []string{"proxy-buffering", "proxy-buffer-size", "proxy-buffers-number", "proxy-busy-buffers-size", "proxy-max-temp-file-size", "proxy-request-buffering", "client-body-buffer-size", "proxy-http-version", "proxy-connect-timeout",
	"service-upstream", "enable-access-log", "enable-rewrite-log", "enable-opentelemetry", "enable-opentracing", "affinity-mode", "affinity-canary-behavior", "session-cookie-name", "session-cookie-path", "session-cookie-samesite", "session-cookie-secure",
	"session-cookie-change-on-failure", "session-cookie-conditional-samesite-none", "http2-push-preload", "preserve-trailing-slash"}

// nginxNotes takes the annotations of ingress-nginx.
func (c *converter) nginxNotes(notes map[string]string) {
	idle := 0
	for _, key := range sorted(notes) {
		name, ok := strings.CutPrefix(key, nginxPrefix)
		if !ok {
			continue
		}
		v := notes[key]
		switch {
		case slices.Contains(nginxIgnored, name):
			c.carried(key, "it is of nginx alone: an ALB has no such thing to set")
		case name == "ssl-redirect":
			c.plain = c.plain || v == no
		case name == "force-ssl-redirect", name == "use-regex" && v == no, name == "canary" && v == no, name == "enable-cors" && v == no: // see ingressTLS, and as it is anyway
		case name == "backend-protocol":
			switch strings.ToUpper(v) {
			case "HTTP":
			case "GRPC":
				c.speaks = v1alpha1.GRPC
			default:
				c.lost(key, "%s: an Exposure's load balancer speaks HTTP or gRPC to pods, without TLS", v)
			}
		case name == "proxy-read-timeout", name == "proxy-send-timeout":
			n, err := strconv.Atoi(strings.TrimSuffix(v, "s"))
			if err != nil || n < 1 {
				c.lost(key, "%q is no number of seconds", v)
				continue
			}
			const most = 4000
			if n > most {
				c.lost(key, "%d s: an ALB closes a quiet connection after %d s at most", n, most)
				n = most
			}
			idle = max(idle, n)
		case name == "whitelist-source-range", name == "allowlist-source-range":
			c.sources(key, split(v))
		case name == "load-balance":
			switch v {
			case "round_robin":
				part(&c.all.Routing).Algorithm = v1alpha1.RoundRobin
			case "ewma":
				part(&c.all.Routing).Algorithm = v1alpha1.LeastOutstandingRequests
				c.carried(key, "ewma sends to pods that answer soon, as least outstanding requests do")
			default:
				c.lost(key, "%s", v)
			}
		case name == "affinity":
			if v != "cookie" {
				c.lost(key, "%s", v)
				continue
			}
			age := notes[nginxPrefix+"session-cookie-max-age"]
			if age == "" {
				age = notes[nginxPrefix+"session-cookie-expires"]
			}
			if age == "" {
				age = "86400"
				c.carried(key, "a session sticks for a day: nginx's cookie is as long as the browser's session")
			}
			if n, ok := c.number(key, age, 1, 604800); ok {
				part(&c.all.Routing).Stickiness = seconds(n)
			}
		case name == "session-cookie-max-age", name == "session-cookie-expires": // see affinity
		case name == "server-alias":
			for _, h := range split(strings.ToLower(v)) {
				if strings.HasPrefix(h, "~") {
					c.lost(key, "%s: an Exposure has no expressions in hosts", h)
					continue
				}
				c.aliases = append(c.aliases, h)
			}
		case name == "rewrite-target" && v == "/" && c.rootOnly(): // it changes nothing
		case name == "rewrite-target":
			c.lost(key, "%s: the pods would get paths as clients send them", v)
		case name == "proxy-body-size":
			c.lost(key, "%s: an ALB has no such limit, so that the pods get bodies of any size", v)
		case name == "configuration-snippet", name == "server-snippet", name == "auth-snippet", name == "stream-snippet":
			c.lost(key, "directives of nginx: see what they do, and whether the pods can do it")
		case strings.HasPrefix(name, "auth-"):
			c.lost(key, "%s: nobody would ask who calls; an Exposure has access.authentication by OIDC, Cognito and tokens", short(v))
		case strings.HasPrefix(name, "limit-"):
			c.lost(key, "%s: nobody would slow callers down; a web ACL of AWS WAF has rules by rate", v)
		case strings.HasPrefix(name, "cors-"), name == "enable-cors":
			c.lost(key, "%s: the pods would have to answer for other origins themselves", short(v))
		default:
			c.lost(key, "%s: an Exposure has no words for it", short(v))
		}
	}
	if idle > 0 {
		c.idle(idle)
	}
}

// rootOnly says that no rule has another path than /.
func (c *converter) rootOnly() bool {
	for _, r := range c.Ingress.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			if p.Path != "" && p.Path != "/" {
				return false
			}
		}
	}
	return true
}

// otherNotes are parts of the annotations by which other controllers are told what to do.
//
//nolint:gochecknoglobals // a constant list
var otherNotes = []string{"ingress.kubernetes.io/", "service.beta.kubernetes.io/", "service.kubernetes.io/", "nginx.org/", "nginx.com/", "traefik.", "haproxy", "konghq.com/", "projectcontour.io/", "getambassador.io/", "appgw.", "cloud.google.com/", "networking.gke.io/", "metallb."}

// foreignNotes tells of annotations for other controllers than the one that serves, whose own
// says mine: nothing is known of what they do.
func (c *converter) foreignNotes(notes map[string]string, mine func(key string) bool) {
	for _, key := range sorted(notes) {
		switch {
		case mine(key), !slices.ContainsFunc(otherNotes, func(part string) bool { return strings.Contains(key, part) }):
		case strings.HasPrefix(key, albPrefix), strings.HasPrefix(key, nginxPrefix):
			c.carried(key, "it means nothing to the controller that serves it")
		default:
			c.lost(key, "%s: what it does is not known here", short(notes[key]))
		}
	}
}
