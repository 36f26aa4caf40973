package plan

import (
	"cmp"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"dhow/internal/inventory"
	"dhow/internal/sizing"
)

// box is a container on its way.
type box struct {
	c             *inventory.Container
	name, image   string
	command, args []string
	env           []corev1.EnvVar
	envFrom       []corev1.EnvFromSource
	ports         []Port
	size          sizing.ContainerSize
	probes        probes
}

// probes are those of a container, and why they are as they are.
type probes struct {
	startup, readiness, liveness *corev1.Probe
	why                          string
}

// moveSecrets gives each container its settings: what was plain stays, what is secret
// comes from a Secret, and what names a server or a service names the new one.
func (m *maker) moveSecrets() error {
	m.secrets = map[string]*Secret{}
	for _, u := range m.units {
		if !u.moves() {
			continue
		}
		names := map[string]bool{}
		for i := range u.w.Containers {
			c := &u.w.Containers[i]
			b := &box{c: c, name: c.Name, ports: portsOf(u, c)}
			u.containers = append(u.containers, b)
			for _, e := range c.Container.Env {
				names[e.Name] = true
			}
			m.settings(u, b)
			b.command = m.words(u, b, c.Command, c.Path+".command", names)
			b.args = m.words(u, b, c.Args, c.Path+".args", names)
			b.probes = m.probesOf(u, b)
		}
		if len(u.w.Template.Spec.ImagePullSecrets) > 0 {
			u.change("imagePullSecrets", "set", "none", "ECR is signed in to by the role of the nodes or the task")
		}
	}
	if len(m.unprobed) > 0 {
		slices.Sort(m.unprobed)
		m.decide(Decision{What: "no path is known by which these say whether they can serve, and so the probe only sees that the port answers: " + strings.Join(slices.Compact(m.unprobed), ", "),
			Do: "name the paths under probes in the options, for each or for all as probes.default"})
	}
	for _, o := range m.inv.Kind("Secret") {
		m.leftSecret(o)
	}
	for _, s := range m.secrets {
		slices.Sort(s.Keys)
		slices.Sort(s.UsedBy)
		m.plan.Secrets = append(m.plan.Secrets, *s)
	}
	slices.SortFunc(m.plan.Secrets, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// portsOf are the ports of a container, each with a name; one that a Service sends to
// and that is not declared is declared.
func portsOf(u *unit, c *inventory.Container) []Port {
	var ports []Port
	add := func(name string, number int32) {
		if number == 0 || slices.ContainsFunc(ports, func(p Port) bool { return p.Port == number }) {
			return
		}
		name = cmp.Or(name, "http")
		if slices.ContainsFunc(ports, func(p Port) bool { return p.Name == name }) {
			name = "port-" + strconv.Itoa(int(number))
		}
		ports = append(ports, Port{name, number})
	}
	for _, p := range c.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			add(p.Name, p.ContainerPort)
		}
		if p.HostPort != 0 {
			u.change(fmt.Sprintf("hostPort of %s", c.Name), strconv.Itoa(int(p.HostPort)), "none", "the Service reaches the pods; a port of the node is open past it, and only one pod fits on a node")
		}
	}
	if c.Init || c.Sidecar || u.hasSidecars() {
		return ports
	}
	for _, s := range u.services {
		for _, p := range soundPorts(s, u.w) {
			if transport(&p) != corev1.ProtocolTCP {
				continue
			}
			add(p.Name, podPort(u.w, p))
		}
	}
	return ports
}

// settings fills the environment of a container.
func (m *maker) settings(u *unit, b *box) {
	own := map[string]*corev1.EnvVar{}
	for i := range b.c.Container.Env {
		own[b.c.Container.Env[i].Name] = &b.c.Container.Env[i]
	}
	for _, s := range b.c.Env {
		explicit := own[s.Name]
		switch {
		case explicit != nil && explicit.ValueFrom != nil && (explicit.ValueFrom.FieldRef != nil || explicit.ValueFrom.ResourceFieldRef != nil):
			b.env = append(b.env, *explicit)
		case s.Secret != nil:
			m.keepSecret(u, b, s, explicit)
		case m.storeOf(s.Object, s.Path, s.Value) != nil:
			st := m.storeOf(s.Object, s.Path, s.Value)
			name := label(u.name + "-" + serviceOf(st.engine).Short)
			open := m.isPlain(s)
			key := m.newSecret(u, name, s.Name, fmt.Sprintf("made with %s: how %s reaches it", st.name, u.name), open, "the address of the new server, with a user of its own")
			b.env = append(b.env, fromSecret(s.Name, name, key, false))
			if open {
				u.change(s.Name, "in the open, in "+s.Object.String(), "Secret "+name, "a password must not lie in a manifest; this one is to be another")
			} else {
				u.change(s.Name, "in "+s.Object.String(), "Secret "+name, "it names the old server")
			}
		case m.isPlain(s):
			name := secretName(u, s.Name)
			key := m.newSecret(u, name, s.Name, s.Object.String()+" "+s.Path, true, "it has stood in the open")
			b.env = append(b.env, fromSecret(s.Name, name, key, false))
			u.change(s.Name, "in the open, in "+s.Object.String(), "Secret "+name, "a key must not lie in a manifest; put another in its place where what was made with it allows that")
		default:
			value := s.Value
			if explicit != nil && explicit.Value != "" && !strings.Contains(explicit.Value, inventory.Masked) && strings.Contains(explicit.Value, "$(") {
				value = explicit.Value // what it takes from others may be secret by now
			}
			b.env = append(b.env, corev1.EnvVar{Name: s.Name, Value: m.rewritten(u, s.Name, value)})
		}
	}
	for _, f := range b.c.EnvFrom {
		if f.SecretRef == nil {
			continue
		}
		f.SecretRef.Name = label(f.SecretRef.Name)
		m.note(u, f.SecretRef.Name, "", "Secret "+u.w.Namespace+"/"+f.SecretRef.Name, false, "")
		b.envFrom = append(b.envFrom, *f.DeepCopy())
	}
}

// isPlain says that a setting stands in the open as a secret.
func (m *maker) isPlain(s inventory.Setting) bool {
	return strings.Contains(s.Value, inventory.Masked) || slices.ContainsFunc(m.inv.Plain, func(p inventory.PlainSecret) bool { return p.Object == s.Object && p.Path == s.Path })
}

// storeAt is the server that a field names, nil if it names none that moves.
func (m *maker) storeAt(object inventory.Ref, path string) *store {
	for _, s := range m.stores {
		if !s.moves {
			continue
		}
		for _, d := range s.all {
			for _, e := range d.Evidence {
				if e.Object == object && e.Path == path {
					return s
				}
			}
		}
	}
	return nil
}

// storeOf is the server that a field is known to name, or whose host its text has.
func (m *maker) storeOf(object inventory.Ref, path, text string) *store {
	if s := m.storeAt(object, path); s != nil {
		return s
	}
	for _, s := range m.stores {
		if s.moves && s.namedIn(text) {
			return s
		}
	}
	return nil
}

// keepSecret takes a reference to a Secret over, unless nobody has that Secret.
func (m *maker) keepSecret(u *unit, b *box, s inventory.Setting, explicit *corev1.EnvVar) {
	if explicit == nil { // it comes with the whole Secret, which is kept whole
		return
	}
	optional := explicit.ValueFrom != nil && explicit.ValueFrom.SecretKeyRef != nil && explicit.ValueFrom.SecretKeyRef.Optional != nil && *explicit.ValueFrom.SecretKeyRef.Optional
	if optional && m.inv.Get(*s.Secret) == nil {
		u.change(s.Name, "from Secret "+s.Secret.Name+", which is not there", "not set", "it is not set today: the reference is optional")
		m.decide(Decision{Object: u.w.String(), What: fmt.Sprintf("%s comes from Secret %s, which nobody has; it runs without", s.Name, s.Secret.Name), Do: "make the Secret at the source and plan again if the service should have it"})
		return
	}
	if st := m.storeAt(*s.Secret, inventory.KeyPath("data", s.Key)); st == nil && m.connects(*s.Secret) {
		m.note(u, label(s.Secret.Name), s.Key, s.Secret.String(), false, "a password of a database: the new server's is another")
	} else {
		m.note(u, label(s.Secret.Name), s.Key, s.Secret.String(), false, "")
	}
	b.env = append(b.env, fromSecret(s.Name, label(s.Secret.Name), s.Key, optional))
}

// connects says that a Secret has what connects to a database.
func (m *maker) connects(r inventory.Ref) bool {
	return slices.ContainsFunc(m.inv.Databases, func(d inventory.Database) bool { return d.Secret != nil && *d.Secret == r })
}

func fromSecret(variable, name, key string, optional bool) corev1.EnvVar {
	e := corev1.EnvVar{Name: variable, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}}}
	if optional {
		e.ValueFrom.SecretKeyRef.Optional = &optional
	}
	return e
}

// secretName is the Secret of a variable: cards-key for CARDS_KEY of cards.
func secretName(u *unit, variable string) string {
	name := label(strings.ReplaceAll(variable, "_", "-"))
	if !strings.HasPrefix(name+"-", u.name+"-") {
		name = label(u.name + "-" + name)
	}
	return name
}

// newSecret notes a secret that is made new, and gives the key of the variable in it:
// its last word, or all of them where that is taken.
func (m *maker) newSecret(u *unit, name, variable, from string, renew bool, why string) string {
	words := strings.FieldsFunc(strings.ToLower(variable), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	if len(words) == 0 {
		words = []string{"value"}
	}
	key := words[len(words)-1]
	if s := m.secrets[u.namespace+"/"+name]; s != nil && slices.Contains(s.Keys, key) && s.From != from {
		key = strings.Join(words, "-")
	}
	m.note(u, name, key, from, renew, why)
	return key
}

// note notes that a unit uses a key of a Secret, "" for all keys.
func (m *maker) note(u *unit, name, key, from string, renew bool, why string) {
	id := u.namespace + "/" + name
	s := m.secrets[id]
	if s == nil {
		s = &Secret{Name: m.plan.Name + "/" + id, From: from, Why: why}
		if u.namespace == m.plan.Name {
			s.Name = m.plan.Name + "/" + name
		}
		m.secrets[id] = s
	}
	if u.place == EKS {
		s.Kubernetes = id
	}
	s.Renew = s.Renew || renew
	s.Why = cmp.Or(s.Why, why)
	keys := []string{key}
	if key == "" {
		keys = nil
		if o := m.inv.Find("Secret", u.w.Namespace, name); o != nil {
			keys = m.keys(o)
		}
		if len(keys) == 0 {
			keys = []string{"*"}
		}
	}
	for _, k := range keys {
		if !slices.Contains(s.Keys, k) {
			s.Keys = append(s.Keys, k)
		}
	}
	if !slices.Contains(s.UsedBy, u.id()) {
		s.UsedBy = append(s.UsedBy, u.id())
	}
}

// keys are those of a Secret, as far as they are known.
func (m *maker) keys(o *inventory.Object) []string {
	s, ok := o.Content.(*corev1.Secret)
	if !ok {
		return nil
	}
	var keys []string
	for k := range s.Data {
		keys = append(keys, k)
	}
	for k := range s.StringData {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// leftSecret says what becomes of a Secret that no container uses.
func (m *maker) leftSecret(o *inventory.Object) {
	s, ok := o.Content.(*corev1.Secret)
	if !ok || s.Type == corev1.SecretTypeServiceAccountToken || s.Type == corev1.SecretTypeDockerConfigJson || s.Type == corev1.SecretTypeDockercfg || s.Type == corev1.SecretTypeTLS || s.Type == "helm.sh/release.v1" || s.Type == corev1.SecretTypeBootstrapToken {
		return
	}
	for _, u := range m.inv.UsesOf(o.Ref) {
		if m.inv.Workload(u.By) != nil {
			return
		}
	}
	m.decide(Decision{Object: o.Ref.String(), What: "no workload uses it: it is not moved", Do: "remove it at the source, or name what uses it"})
}

// words are the words of a command, with what is secret in them behind a variable.
func (m *maker) words(u *unit, b *box, all []string, at string, names map[string]bool) []string {
	var out []string
	for i, text := range all {
		field := fmt.Sprintf("%s[%d]", at, i)
		flag, value, joined := strings.Cut(text, "=")
		if !joined {
			flag, value = "", text
			if i > 0 && strings.HasPrefix(all[i-1], "-") {
				flag = all[i-1]
			}
		}
		st := m.storeOf(u.w.Ref, field, text)
		if !strings.Contains(text, inventory.Masked) && st == nil {
			out = append(out, m.rewritten(u, path.Base(field), text))
			continue
		}
		variable := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(strings.TrimLeft(flag, "-")))
		if variable == "" {
			variable = "ARGUMENT_" + strconv.Itoa(i)
		}
		name, from, why := secretName(u, variable), u.w.String()+" "+field, "it has stood among the arguments, which everybody on the node can read"
		if st != nil {
			name, from, why = label(u.name+"-"+serviceOf(st.engine).Short), fmt.Sprintf("made with %s: how %s reaches it", st.name, u.name), "the address of the new server, with a user of its own"
		}
		key := m.newSecret(u, name, variable, from, strings.Contains(value, inventory.Masked), why)
		if !names[variable] {
			names[variable] = true
			b.env = append(b.env, fromSecret(variable, name, key, false))
		}
		reference := "$(" + variable + ")"
		if joined {
			reference = flag + "=" + reference
		}
		out = append(out, reference)
		u.change("argument "+cmp.Or(flag, strconv.Itoa(i)), "in the open", "Secret "+name, why)
	}
	return out
}

// logLevel is a setting of how much is told, and its value.
var logLevel = regexp.MustCompile(`(?i)^(-{0,2}(?:[a-z0-9]+[-_.])*(?:log[-_.]?level|logging[-_.]level|loglevel|verbosity))$`)

// rewritten is a text with the names of the new place in it.
func (m *maker) rewritten(u *unit, where, text string) string {
	before := text
	for _, from := range m.replacements() {
		text = strings.ReplaceAll(text, from, m.o.Replace[from])
	}
	if text != before {
		u.change(where, before, text, "the options say so")
		before = text
	}
	for i := range m.inv.Calls {
		c := &m.inv.Calls[i]
		if c.From != u.w.Ref || c.To == nil || c.Host == "" || !strings.Contains(text, c.Host) {
			continue
		}
		to := m.byRef[*c.To]
		if to == nil || to == u || !to.moves() {
			continue
		}
		switch {
		case to.place != u.place:
			text = outward(text, c.Host, c.Port, m.inside(to))
		case u.place != EKS:
			text = outward(text, c.Host, c.Port, m.inside(to))
		case c.NodeAddress || address(c.Host).IsValid():
			text = inward(text, c.Host, c.Port, m.serviceHost(u, to), servicePort(to))
		}
	}
	if text != before {
		u.change(where, before, text, "the new place has its own names, and no address of a node")
		before = text
	}
	text = m.otherRegion(u, where, text)
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		name, value = where, text
	}
	if logLevel.MatchString(name) && slices.Contains([]string{"debug", "trace", "all"}, strings.ToLower(value)) {
		text = strings.TrimSuffix(text, value) + "info"
		u.change(where, before, text, "logs at that level cost money and time, and hold customers' doings")
	}
	return text
}

// otherRegion is a text with the plan's region in the place of one that the source
// lives in, where that is all it says; where it says more, somebody must look.
func (m *maker) otherRegion(u *unit, where, text string) string {
	for _, s := range m.plan.Source.Regions {
		if !holds(text, s.Region) && !strings.Contains(text, "."+s.Region+".") || s.Region == m.primary.Name {
			continue
		}
		flag, value, ok := strings.Cut(text, "=")
		if !ok {
			flag, value = "", text
		}
		if value == s.Region {
			after := m.primary.Name
			if flag != "" {
				after = flag + "=" + after
			}
			u.change(where, text, after, "it lives in another region now")
			return after
		}
		m.decide(Decision{Object: u.w.String(), What: fmt.Sprintf("%s names something in %s, which is left: %s", where, s.Region, text), Do: fmt.Sprintf("make what it names in %s, and name it under replace in the options", m.primary.Name)})
	}
	return text
}

// replacements are the options' texts, the longest first.
func (m *maker) replacements() []string {
	var all []string
	for from := range m.o.Replace {
		if from != "" {
			all = append(all, from)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	return all
}

// serviceHost is the name by which one unit calls another in the cluster.
func (m *maker) serviceHost(from, to *unit) string {
	name := to.name
	if len(to.services) > 0 {
		name = to.services[0].Name
	}
	if from.namespace != to.namespace {
		return name + "." + to.namespace
	}
	return name
}

// inward puts a Service's name in the place of an address with its port.
func inward(text, host string, port int, service string, servicePort int32) string {
	if port == 0 {
		return text
	}
	return strings.ReplaceAll(text, net.JoinHostPort(host, strconv.Itoa(port)), net.JoinHostPort(service, strconv.Itoa(int(servicePort))))
}

// outward puts a name of the plan's networks, which is served over TLS, in the place of
// a host with or without a port.
func outward(text, host string, port int, inside string) string {
	full := host
	if port != 0 && strings.Contains(text, net.JoinHostPort(host, strconv.Itoa(port))) {
		full = net.JoinHostPort(host, strconv.Itoa(port))
	}
	for _, scheme := range []string{"http://", "https://"} {
		text = strings.ReplaceAll(text, scheme+full, "https://"+inside)
	}
	if full != host {
		return strings.ReplaceAll(text, full, net.JoinHostPort(inside, strconv.Itoa(httpsPort)))
	}
	if text == host {
		return inside
	}
	return text
}
