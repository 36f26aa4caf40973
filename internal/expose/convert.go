package expose

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// Controller is what serves an Ingress.
type Controller string

// The controllers whose annotations are understood; of another's nothing is carried over.
const (
	ALB   Controller = "alb"
	NGINX Controller = "nginx"
	Other Controller = "other"
)

// Source is an object that leads to workloads today: an Ingress, or a Service of type
// NodePort or LoadBalancer.
type Source struct {
	Ingress    *networkingv1.Ingress
	Controller Controller
	Service    *corev1.Service
	// Services are those of its namespace, by name; Workloads who serves behind each.
	Services  map[string]*corev1.Service
	Workloads map[string]v1alpha1.Workload
	// Policy is the operator's.
	Policy render.Policy
	// ByNodes are the Ingresses that lead to the Service by the ports of nodes.
	ByNodes []string
}

// Wish is what a person says to a conversion.
type Wish struct {
	// Visibility goes before what the object says; "" does not.
	Visibility v1alpha1.Visibility
	// Hosts are taken where the object names none, Certificates where it names none of ACM.
	Hosts, Certificates []string
	// Accept are the names of what may be lost.
	Accept []string
}

// Item is something that the object says, and what becomes of it.
type Item struct {
	// Name is the annotation or the field; by it a person accepts its loss.
	Name string `json:"name"`
	Text string `json:"text"`
	// Accepted says that a person did.
	Accepted bool `json:"accepted,omitempty"`
}

// Conversion is what an object becomes.
type Conversion struct {
	// Kind, Namespace and Name are the object's.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Exposures are in the order of their names.
	Exposures []*v1alpha1.Exposure `json:"-"`
	// Carried is what was carried over otherwise than word for word, Lost what can not be.
	Carried []Item `json:"carried"`
	Lost    []Item `json:"lost"`
	// TTL is for how long names are remembered elsewhere.
	TTL time.Duration `json:"ttl_ns"`
	// ByHand says why external-dns can not shift the weights; "" where it can.
	ByHand string `json:"by_hand,omitempty"`
}

// Refused is what is lost and not accepted.
func (c *Conversion) Refused() []Item {
	return slices.DeleteFunc(slices.Clone(c.Lost), func(i Item) bool { return i.Accepted })
}

// known says that all that is accepted is lost indeed.
func (c *Conversion) known(accepted []string) error {
	var names []string
	for _, i := range c.Lost {
		names = append(names, i.Name)
	}
	for _, a := range accepted {
		switch {
		case slices.Contains(names, a):
		case len(names) == 0:
			return wrong("--accept %s: nothing is lost", a)
		default:
			return wrong("--accept %s: nothing of that name is lost: want %s", a, strings.Join(slices.Compact(names), ", "))
		}
	}
	return nil
}

const (
	// defaultTTL is what names are remembered for where nothing is said: external-dns' own for
	// records that are no aliases, which AWS answers for a minute.
	defaultTTL = 5 * time.Minute
	// nameSuffix tells the Exposure, and what is made of it, from what is there.
	nameSuffix = "-exposed"
	// mostLabel is how long a label's value may be, as which an Exposure's name is used.
	mostLabel = 63
	// mostPortName is how long an Exposure's port's name may be.
	mostPortName = 15
	// mostHosts, mostPaths and mostCanaries are what an Exposure may have.
	mostHosts, mostPaths, mostCanaries = 16, 32, 4
	dnsPrefix                          = "external-dns.alpha.kubernetes.io/"
	allWeight                          = 100
)

// The names of losses that are no annotation or field.
const (
	lostPlain    = "plain-http"
	lostSecret   = "tls-secret"
	lostAnyHost  = "any-host"
	lostDefault  = "default-backend"
	lostProduct  = "paths-of-hosts"
	lostPath     = "path"
	lostNodes    = "node-ports"
	lostAddress  = "address"
	lostPort     = "port"
	lostCanaries = "canaries"
)

// The forms that an Exposure's fields take.
//
//nolint:gochecknoglobals // constants
var (
	goodPath  = regexp.MustCompile(`^/[A-Za-z0-9/_.~!$&'()+,;=:@%-]*$`)
	goodCodes = regexp.MustCompile(`^[0-9]{1,3}([-,][0-9]{1,3})*$`)
	goodARN   = regexp.MustCompile(`^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+$`)
	goodACL   = regexp.MustCompile(`^arn:aws[a-z-]*:wafv2:[a-z0-9-]+:[0-9]{12}:regional/webacl/[^/]+/[a-f0-9-]+$`)
)

// converter makes one Conversion.
type converter struct {
	Source
	Wish
	out *Conversion
	// all is what all of its Exposures have in common.
	all v1alpha1.ExposureSpec
	// speaks is what the pods speak, "" where their ports say it.
	speaks v1alpha1.Protocol
	// plain says that requests are served without TLS today, aliases are more hosts.
	plain   bool
	aliases []string
}

// Convert says what an object becomes. It asks nothing and writes nothing: the same object
// gives the same Exposures. Its error is a *WrongError where there is no way to convert it.
func Convert(s Source, w Wish) (*Conversion, error) {
	c := &converter{Source: s, Wish: w, out: &Conversion{TTL: defaultTTL, Carried: []Item{}, Lost: []Item{}}}
	for _, h := range w.Hosts {
		if h != strings.ToLower(h) || strings.ContainsAny(h, "/: ") || !strings.Contains(h, ".") {
			return nil, wrong("the host %q is no DNS name such as shop.example.com", h)
		}
	}
	for _, a := range w.Certificates {
		if !goodARN.MatchString(a) {
			return nil, wrong("the certificate %q is no ARN of AWS Certificate Manager", a)
		}
	}
	var err error
	if s.Ingress != nil {
		c.out.Kind, c.out.Namespace, c.out.Name = "Ingress", s.Ingress.Namespace, s.Ingress.Name
		err = c.ingress()
	} else {
		c.out.Kind, c.out.Namespace, c.out.Name = "Service", s.Service.Namespace, s.Service.Name
		err = c.service()
	}
	if err != nil {
		return nil, err
	}
	return c.out, c.finish()
}

// carried tells of something that is carried over.
func (c *converter) carried(name, text string, args ...any) {
	told(&c.out.Carried, name, fmt.Sprintf(text, args...))
}

// lost tells of something that is not.
func (c *converter) lost(name, text string, args ...any) {
	told(&c.out.Lost, name, fmt.Sprintf(text, args...))
}

// told adds what several rules may say alike.
func told(all *[]Item, name, text string) {
	if i := (Item{Name: name, Text: text}); !slices.Contains(*all, i) {
		*all = append(*all, i)
	}
}

// finish sorts everything, and takes what a person accepts.
func (c *converter) finish() error {
	byName := func(a, b Item) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text)) }
	slices.SortFunc(c.out.Carried, byName)
	slices.SortFunc(c.out.Lost, byName)
	for i := range c.out.Lost {
		x := &c.out.Lost[i]
		x.Accepted = slices.Contains(c.Accept, x.Name)
	}
	slices.SortFunc(c.out.Exposures, func(a, b *v1alpha1.Exposure) int { return cmp.Compare(a.Name, b.Name) })
	served := map[string]string{}
	for i, e := range c.out.Exposures {
		if i > 0 && c.out.Exposures[i-1].Name == e.Name {
			return wrong("%s %s leads to two Services whose names begin alike for so long that their Exposures would have one name, %s: rename one of them first", c.out.Kind, c.out.Name, e.Name)
		}
		of := e.Spec.Workload.Kind + " " + e.Spec.Workload.Name
		if other, ok := served[of]; ok && e.Spec.Workload.Name != "" {
			return wrong("%s %s leads to %s by two Services, of %s and %s, and a workload has one Exposure: lead to it by one Service first", c.out.Kind, c.out.Name, of, other, e.Name)
		}
		served[of] = e.Name
		if len(e.Spec.Hosts) > mostHosts || len(e.Spec.Paths) > mostPaths {
			return wrong("%s %s has %d hosts and %d paths for one Service, and an Exposure has %d and %d at most: split it first", c.out.Kind, c.out.Name, len(e.Spec.Hosts), len(e.Spec.Paths), mostHosts, mostPaths)
		}
	}
	return c.clash()
}

// clash says whether two of the Exposures would have the same host and path.
func (c *converter) clash() error {
	seen := map[string]string{}
	for _, e := range c.out.Exposures {
		for _, x := range render.Claims(e, c.Policy) {
			if other, ok := seen[x.Key]; ok && x.Value == e.Namespace+"/"+e.Name {
				return wrong("%s would be of both %s and %s, because an Exposure has all of its paths under all of its hosts: split the %s first", x.What, other, e.Name, c.out.Kind)
			}
			seen[x.Key] = e.Name
		}
	}
	return nil
}

// exposure is one that leads to a Service, with what all have in common.
func (c *converter) exposure(service string) (*v1alpha1.Exposure, *corev1.Service, error) {
	s, w := c.Services[service], c.Workloads[service]
	switch {
	case s == nil:
		return nil, nil, wrong("%s %s leads to the Service %s, which is not there: make it, or take it out", c.out.Kind, c.out.Name, service)
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return nil, nil, wrong("the Service %s leads to another name, %s, and not to pods: an Exposure is of pods", service, s.Spec.ExternalName)
	case len(s.Spec.Selector) == 0:
		return nil, nil, wrong("the Service %s selects no pods: an Exposure is of pods", service)
	case w.Name == "" && w.Selector == nil:
		w.Selector = &metav1.LabelSelector{MatchLabels: s.Spec.Selector}
	}
	e := &v1alpha1.Exposure{Spec: *c.all.DeepCopy()}
	e.Namespace = s.Namespace
	e.Name = strings.Trim(service[:min(len(service), mostLabel-len(nameSuffix))], "-.") + nameSuffix
	e.Spec.Workload = w
	e.Spec.Service = &v1alpha1.Service{Existing: service}
	return e, s, nil
}

// port is a Service's port as an Exposure has it.
func port(p corev1.ServicePort, protocol v1alpha1.Protocol) v1alpha1.Port {
	target := p.TargetPort
	if target == (intstr.IntOrString{}) {
		target = intstr.FromInt32(p.Port)
	}
	name := p.Name
	if name == "" {
		name = strings.ToLower(string(protocol))
	}
	return v1alpha1.Port{Name: strings.Trim(name[:min(len(name), mostPortName)], "-"), Port: p.Port, TargetPort: &target, Protocol: protocol}
}

// spoken is what a port speaks by its own words.
func spoken(p corev1.ServicePort) v1alpha1.Protocol {
	app := ""
	if p.AppProtocol != nil {
		app = *p.AppProtocol
	}
	return render.Spoken(p.Name, app, p.Protocol, cmp.Or(p.TargetPort.IntVal, p.Port))
}

// requests says that a protocol is one of requests.
func requests(p v1alpha1.Protocol) bool {
	return p != v1alpha1.TCP && p != v1alpha1.UDP && p != v1alpha1.TLSPass
}

// hosts are names as an Exposure has them, sorted.
func hosts(all []string) []v1alpha1.Host {
	var some []v1alpha1.Host
	for _, h := range all {
		some = append(some, v1alpha1.Host(h))
	}
	slices.Sort(some)
	return slices.Compact(some)
}

// split are the parts between commas, without spaces and empty ones.
func split(text string) []string {
	var all []string
	for _, p := range strings.Split(text, ",") {
		if p = strings.TrimSpace(p); p != "" {
			all = append(all, p)
		}
	}
	return all
}

// number reads a number within bounds; one that is not is lost.
func (c *converter) number(name, value string, least, most int) (int, bool) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		c.lost(name, "%s: an Exposure takes whole numbers from %d to %d", value, least, most)
		return 0, false
	}
	return n, true
}

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

// part is a part of a specification, made when something stands in it.
func part[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// idle is for how long a connection may be quiet, in seconds.
func (c *converter) idle(n int) { part(&part(&c.all.Routing).Timeouts).Idle = seconds(n) }

// certificates takes ARNs of ACM.
func (c *converter) certificates(name string, all []string) {
	for _, a := range all {
		if !goodARN.MatchString(a) {
			c.lost(name, "%s is no certificate of AWS Certificate Manager: import it there, and name it with --certificate", a)
			continue
		}
		if t := part(&c.all.TLS); !slices.Contains(t.Certificates, v1alpha1.CertificateARN(a)) {
			t.Certificates = append(t.Certificates, v1alpha1.CertificateARN(a))
		}
	}
}

// sources takes the networks that are let in: all of them are none to name.
func (c *converter) sources(name string, all []string) {
	var some []v1alpha1.CIDR
	for _, text := range all {
		if !strings.Contains(text, "/") { // an address alone
			if a, err := netip.ParseAddr(text); err == nil {
				text = netip.PrefixFrom(a, a.BitLen()).String()
			}
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			c.lost(name, "%q is no network as 10.0.0.0/8: who comes from there would be kept out", text)
			continue
		}
		if p.Bits() == 0 && p.Addr().Is4() {
			return
		}
		if p.Bits() > 0 {
			some = append(some, v1alpha1.CIDR(p.Masked().String()))
		}
	}
	if len(some) == 0 && len(all) > 0 {
		c.lost(name, "it names no IPv4 network: everybody would be let in")
	}
	const most = 32
	if len(some) > most {
		c.lost(name, "of %d networks an Exposure takes %d: everybody would be let in", len(some), most)
		return
	}
	if len(some) > 0 {
		slices.Sort(some)
		part(&c.all.Access).SourceRanges = slices.Compact(some)
	}
}

// checkNotes are the annotations that say how health is asked, of ALBs and of NLBs.
//
//nolint:gochecknoglobals // a table
var checkNotes = map[string]string{"healthcheck-path": "path", "healthcheck-port": "port", "success-codes": "codes", "healthcheck-success-codes": "codes", "healthcheck-interval-seconds": "interval", "healthcheck-interval": "interval",
	"healthcheck-timeout-seconds": "timeout", "healthcheck-timeout": "timeout", "healthy-threshold-count": "healthy", "healthcheck-healthy-threshold": "healthy", "unhealthy-threshold-count": "unhealthy", "healthcheck-unhealthy-threshold": "unhealthy"}

// checks takes how health is asked, and says whether the annotation, of that name behind its
// prefix, is one that says so.
func (c *converter) checks(key, name, value string) bool {
	as, ok := checkNotes[name]
	if !ok {
		return false
	}
	h := ptr.Deref(c.all.Health, v1alpha1.Health{})
	number := func(least, most int, set func(int)) {
		if n, ok := c.number(key, value, least, most); ok {
			set(n)
		}
	}
	switch as {
	case "path":
		if !strings.HasPrefix(value, "/") {
			c.lost(key, "%q is no path", value)
			break
		}
		h.Path = value
	case "port":
		if value != "traffic-port" {
			p := intstr.Parse(value)
			h.Port = &p
		}
	case "codes":
		if !goodCodes.MatchString(value) {
			c.lost(key, "%q: an Exposure takes codes as 200 or 200-299", value)
			break
		}
		h.Codes = value
	case "interval":
		number(5, 300, func(n int) { h.Interval = seconds(n) })
	case "timeout":
		number(2, 120, func(n int) { h.Timeout = seconds(n) })
	case "healthy":
		number(2, 10, func(n int) { h.Healthy = int32(n) })
	case "unhealthy":
		number(2, 10, func(n int) { h.Unhealthy = int32(n) })
	}
	if h != (v1alpha1.Health{}) {
		c.all.Health = &h
	}
	return true
}

// pairs are the settings of an annotation as key=value,key=value.
func pairs(text string) [][2]string {
	var all [][2]string
	for _, p := range split(text) {
		k, v, _ := strings.Cut(p, "=")
		all = append(all, [2]string{strings.TrimSpace(k), strings.TrimSpace(v)})
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return all
}

// dns takes what is said to external-dns, and returns the names that it is told.
func (c *converter) dns(notes map[string]string) []string {
	var names []string
	if c.Policy.NoDNS {
		c.out.ByHand = "the operator's policy tells external-dns nothing"
	}
	for _, k := range sorted(notes) {
		word, ok := strings.CutPrefix(k, dnsPrefix)
		if !ok || (k == identifierNote || k == weightOfNote) && notes[identifierNote] == oldIdentifier { // a conversion has set it
			continue
		}
		switch v := notes[k]; {
		case word == "hostname":
			names = split(strings.ToLower(v))
		case word == "ttl":
			d, err := time.ParseDuration(v)
			if n, bad := strconv.Atoi(v); bad == nil {
				d, err = time.Duration(n)*time.Second, nil
			}
			if err != nil || d < time.Second || d > 24*time.Hour {
				c.lost(k, "%q is no time from a second to a day", v)
				continue
			}
			c.all.DNS = &v1alpha1.DNS{TTL: &metav1.Duration{Duration: d}}
			c.out.TTL = d
		case word == "controller" && v != "dns-controller":
			c.out.ByHand = "its annotation " + k + " keeps external-dns away from it"
		case word == "controller", word == "ingress-hostname-source":
		case word == "set-identifier", strings.HasPrefix(word, "aws-"), word == "target":
			c.out.ByHand = "its annotation " + k + " routes its names already"
			c.lost(k, "%s: the new way has none of it, and its names have to be moved by hand", v)
		default:
			c.lost(k, "%s: an Exposure does not say that to external-dns", v)
		}
	}
	return names
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
