package assess

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"dhow/internal/inventory"
)

// configurationRules are about what was configured by hand and went wrong.
func configurationRules() []Rule {
	const g = GroupConfiguration
	return []Rule{
		{ID: "differs-from-files", Group: g, Severity: Medium, Live: true, Title: "An object of the cluster differs from its manifest.",
			Why: "Somebody changed it by hand; the next deployment undoes that, or the manifest is not what runs.",
			Fix: "Take the cluster's value over into the manifest, or apply the manifest.", check: differsFromFiles},
		{ID: "only-in-cluster", Group: g, Severity: Low, Live: true, Title: "An object of the cluster is in no manifest.",
			Why: "Nobody can make it again, and a move by the manifests leaves it behind.",
			Fix: "Write a manifest of it, or remove it.", check: onlyInCluster},
		{ID: "not-in-cluster", Group: g, Severity: Medium, Live: true, Title: "A manifest's object is not in the cluster.",
			Why: "It was removed by hand or never applied: what the manifests promise is not there.",
			Fix: "Apply the manifest, or remove it.", check: notInCluster},
		{ID: "copies-that-drifted", Group: g, Severity: Medium, Title: "Copies of one ConfigMap were edited by hand and differ.",
			Why: "Nobody knows which value is meant; a change is made in one of them.",
			Fix: "Keep what is common in one ConfigMap, and only what differs by right in others.", check: copiesThatDrifted},
		{ID: "refers-to-nothing", Group: g, Severity: Medium, Title: "A pod refers to a ConfigMap, Secret, claim or account that does not exist.",
			Why: "It does not start; or, where the reference is optional, the program runs without it and nobody is told.",
			Fix: "Make what is referred to, or remove the reference.", check: refersToNothing},
		{ID: "dead-cronjob", Group: g, Severity: Medium, Title: "A CronJob is suspended, or its day never comes.",
			Why: "What it should do is not done, and it looks as if it were.",
			Fix: "Correct the schedule, or remove the job.", check: deadCronJob},
		{ID: "selector-mismatch", Group: g, Severity: High, Title: "A workload's selector does not match its own pods.",
			Why: "The API server refuses it.", Fix: "Give the template the selector's labels.", check: selectorMismatch},
		{ID: "debug-logs", Group: g, Severity: Low, Title: "A service logs at its most talkative level.",
			Why: "It costs money and time, and customers' doings stand in the logs.", Fix: "Set the level to info or warn.", check: debugLogs},
		{ID: "unused-configmap", Group: g, Severity: Low, Title: "A ConfigMap is used by no pod.",
			Why: "It is edited, and nothing happens.", Fix: "Remove it, or use it.", check: unusedConfigMap},
		{ID: "unused-account", Group: g, Severity: Low, Title: "A ServiceAccount with rights is used by no pod.",
			Why: "Whoever may make pods can take its rights.", Fix: "Remove the account and its bindings.", check: unusedAccount},
		{ID: "many-service-links", Group: g, Severity: Low, Title: "Pods get variables for every Service of a large namespace.",
			Why: "Starts become slow, and fail once the environment is too large; names clash with the program's own.",
			Fix: "Set enableServiceLinks to false.", check: manyServiceLinks},
		{ID: "bare-pod", Group: g, Severity: Medium, Title: "A Pod stands by itself.",
			Why: "When its node goes it is not made again.", Fix: "Make a Deployment or a StatefulSet of it.", check: barePod},
		*expiredRule(), *uselessRule(),
	}
}

func differsFromFiles(p *pass) {
	for _, d := range p.inv.Drift {
		if d.Path != "" {
			p.on(d.Object, d.Path, "the cluster has "+orNothing(d.Cluster), "the file has "+orNothing(d.Files))
		}
	}
}

func orNothing(v string) string {
	if v == "" {
		return "nothing"
	}
	return v
}

func onlyInCluster(p *pass) {
	for _, d := range p.inv.Drift {
		if d.Path == "" && d.Only == "cluster" {
			p.on(d.Object, "metadata.name", "no manifest has it")
		}
	}
}

func notInCluster(p *pass) {
	for _, d := range p.inv.Drift {
		if d.Path == "" && d.Only == "files" {
			p.on(d.Object, "metadata.name", "the cluster does not have it")
		}
	}
}

const (
	// leastKeys is how many keys ConfigMaps must share to be taken for copies.
	leastKeys = 3
	// mostTexts bounds how many texts of one name are compared with each other.
	mostTexts = 50
)

// isAddress says whether a value is an address, which differs by right.
func isAddress(v string) bool { return strings.Contains(v, "://") }

func copiesThatDrifted(p *pass) {
	type family struct {
		keys string
		all  []*inventory.Object
	}
	families := map[string]*family{}
	var order []string
	for o, m := range inventory.Of[*corev1.ConfigMap](p.inv) {
		if len(m.Data) == 0 {
			continue
		}
		keys := strings.Join(sortedKeys(m.Data), "\x00")
		id := o.Namespace + "\x00" + keys
		if families[id] == nil {
			families[id] = &family{keys: keys}
			order = append(order, id)
		}
		families[id].all = append(families[id].all, o)
	}
	for _, id := range order {
		f := families[id]
		keys := strings.Split(f.keys, "\x00")
		switch {
		case len(f.all) < 2:
		case len(keys) >= leastKeys:
			p.driftedKeys(f.all, keys)
		case len(keys) == 1:
			p.driftedTexts(f.all, keys[0])
		}
	}
}

// driftedKeys looks at ConfigMaps with the same keys: they are copies if for some key two
// have the same value.
func (p *pass) driftedKeys(all []*inventory.Object, keys []string) {
	differ, same := map[string]map[string]int{}, false
	for _, k := range keys {
		values := map[string]int{}
		for _, o := range all {
			v := dataOf(o)[k]
			values[v]++
			same = same || values[v] > 1 && !isAddress(v)
		}
		differ[k] = values
	}
	if !same {
		return
	}
	for _, o := range all {
		for _, k := range keys {
			v := dataOf(o)[k]
			if len(differ[k]) > 1 && !isAddress(v) {
				p.at(o, inventory.KeyPath("data", k), fmt.Sprintf("%d ConfigMaps have these keys, with %d values of %s", len(all), len(differ[k]), k), "here it is "+shown(v))
			}
		}
	}
}

// shown is a value as evidence: one line, not too long.
func shown(v string) string {
	v, _, more := strings.Cut(v, "\n")
	const most = 80
	if r := []rune(v); len(r) > most {
		v, more = string(r[:most]), true
	}
	if more {
		v += "..."
	}
	return strconv.Quote(v)
}

// driftedTexts looks at ConfigMaps with one text of the same name: copies have half of
// their lines in common.
func (p *pass) driftedTexts(all []*inventory.Object, key string) {
	type text struct {
		lines map[string]bool
		whole string
	}
	texts := make([]text, 0, len(all))
	for _, o := range all[:min(len(all), mostTexts)] {
		t := text{map[string]bool{}, dataOf(o)[key]}
		for l := range strings.Lines(t.whole) {
			if l = strings.TrimSpace(l); len(l) > 1 {
				t.lines[l] = true
			}
		}
		texts = append(texts, t)
	}
	for i, t := range texts {
		if len(t.lines) < leastKeys {
			continue
		}
		for j, other := range texts {
			common := 0
			for l := range t.lines {
				if other.lines[l] {
					common++
				}
			}
			if i != j && t.whole != other.whole && 2*common >= min(len(t.lines), len(other.lines)) && len(other.lines) >= leastKeys {
				p.at(all[i], inventory.KeyPath("data", key), fmt.Sprintf("%s has %d of its %d lines", all[j].Ref, common, len(t.lines)),
					fmt.Sprintf("%d lines are only here", len(t.lines)-common), fmt.Sprintf("%d lines are only there", len(other.lines)-common))
				break
			}
		}
	}
}

func dataOf(o *inventory.Object) map[string]string {
	if m, ok := o.Content.(*corev1.ConfigMap); ok {
		return m.Data
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

var (
	ipv4      = regexp.MustCompile(`\b(\d{1,3}\.){3}\d{1,3}(:\d+)?\b`)
	isComment = regexp.MustCompile(`^\s*(#|//|;)`)
	// routesTo are the words after which a proxy's configuration names whom it calls.
	routesTo = regexp.MustCompile(`\b(server|proxy_pass|grpc_pass|fastcgi_pass|uwsgi_pass|reverse_proxy|ProxyPass|BalancerMember|address|url)\b`)
)

// fixedAddresses are the IP addresses that a proxy's configuration sends to, each once, sorted.
func fixedAddresses(text string) []string {
	var found []string
	for l := range strings.Lines(text) {
		if isComment.MatchString(l) || !routesTo.MatchString(l) {
			continue
		}
		for _, a := range ipv4.FindAllString(l, -1) {
			host, _, _ := strings.Cut(a, ":")
			if ip, err := netip.ParseAddr(host); err == nil && !ip.IsLoopback() && !ip.IsUnspecified() {
				found = append(found, a)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func refersToNothing(p *pass) {
	unread := map[string]bool{}
	if p.inv.Cluster != nil {
		for _, r := range p.inv.Cluster.Unread {
			unread[r] = true
		}
	}
	resources := map[string]string{"ConfigMap": "configmaps", "Secret": "secrets", "PersistentVolumeClaim": "persistentvolumeclaims", "ServiceAccount": "serviceaccounts"}
	for _, u := range p.inv.Uses {
		w := p.inv.Workload(u.By)
		resource, known := resources[u.Of.Kind]
		if u.Found || w == nil || !known || unread[resource] || w.Kind == inventory.KindCompose {
			continue
		}
		// Secrets, claims and accounts are rightly made elsewhere than in manifests; that an
		// optional one lacks is still told, for the cluster does not tell it.
		if p.inv.Cluster == nil && !u.Optional && (u.Of.Kind != "ConfigMap" || u.Of.Name == "kube-root-ca.crt") {
			continue
		}
		what := "there is no " + u.Of.String()
		if u.Key != "" && p.inv.Get(u.Of) != nil {
			what = u.Of.String() + " has no key " + u.Key
		}
		f := p.at(w.Object, u.Path, what)
		if u.Optional {
			f.Evidence = append(f.Evidence, "the reference is optional: the pod starts without it")
		}
	}
}

func deadCronJob(p *pass) {
	for o, c := range inventory.Of[*batchv1.CronJob](p.inv) {
		if isTrue(c.Spec.Suspend) {
			p.at(o, "spec.suspend", "suspend is true")
		}
		if why := never(c.Spec.Schedule); why != "" {
			p.at(o, "spec.schedule", why)
		}
	}
}

// never says why a schedule never comes, "" if it does.
func never(schedule string) string {
	fields := strings.Fields(schedule)
	if len(fields) != 5 || fields[4] != "*" && fields[4] != "?" {
		return "" // a day of the week comes whatever the date
	}
	least, err := strconv.Atoi(fields[2])
	if err != nil {
		return ""
	}
	for m := range strings.SplitSeq(fields[3], ",") {
		n, err := strconv.Atoi(m)
		if err != nil || n < 1 || n > 12 {
			return ""
		}
		if days := []int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[n-1]; least <= days {
			return ""
		}
	}
	return fmt.Sprintf("the schedule %q means day %d of month %s, which no year has", schedule, least, fields[3])
}

func selectorMismatch(p *pass) {
	p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		if w.Selector == nil || w.Kind == "Job" {
			return
		}
		for _, k := range sortedKeys(w.Selector.MatchLabels) {
			if v := w.Selector.MatchLabels[k]; w.Template.Labels[k] != v {
				p.at(w.Object, "spec.selector", fmt.Sprintf("the selector wants %s=%s, and the template has %q", k, v, w.Template.Labels[k])).set(w.MetaPath+"."+"labels", map[string]any{k: v})
				return
			}
		}
	})
}

var (
	levelName  = regexp.MustCompile(`(?i)^-*([a-z0-9_.-]*[_.-])?log[_.-]?level$|^-*([a-z0-9_]*_)?verbosity$|(?i)^logging[_.]level([_.].*)?$`)
	levelDebug = regexp.MustCompile(`(?i)^(debug|trace|all|finest|silly)$`)
)

func debugLogs(p *pass) {
	type key struct {
		r    inventory.Ref
		path string
	}
	told := map[key]bool{}
	tell := func(r inventory.Ref, path, name, value string) {
		if levelName.MatchString(name) && levelDebug.MatchString(value) && !told[key{r, path}] {
			told[key{r, path}] = true
			p.on(r, path, name+" is "+value)
		}
	}
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		for _, s := range c.Env {
			tell(s.Object, s.Path, s.Name, s.Value)
		}
		for field, list := range map[string][]string{"args": c.Args, "command": c.Command} {
			for n, a := range list {
				path := c.Path + "." + index(field, n)
				if name, value, ok := strings.Cut(a, "="); ok {
					tell(w.Ref, path, name, value)
				} else if n+1 < len(list) && strings.HasPrefix(a, "-") {
					tell(w.Ref, path, a, list[n+1])
				}
			}
		}
	})
}

// readByOthers says whether an object carries a label by which programs find it.
func readByOthers(o *inventory.Object) bool {
	for k := range o.Content.GetLabels() {
		switch k {
		case "grafana_dashboard", "grafana_datasource", "owner", "istio.io/rev", "sealedsecrets.bitnami.com/sealed-secrets-key", "argocd.argoproj.io/secret-type":
			return true
		}
	}
	return len(o.Content.GetOwnerReferences()) > 0
}

func unusedConfigMap(p *pass) {
	for o := range inventory.Of[*corev1.ConfigMap](p.inv) {
		if len(p.inv.UsesOf(o.Ref)) > 0 || len(p.workloads[o.Namespace]) == 0 || readByOthers(o) || p.bound[inventory.Ref{Kind: "ServiceAccount", Namespace: o.Namespace, Name: o.Name}] {
			continue
		}
		switch o.Name {
		case "kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt", "aws-auth":
			continue
		}
		p.at(o, "metadata.name", "no pod of the namespace refers to it")
	}
}

func unusedAccount(p *pass) {
	for o := range inventory.Of[*corev1.ServiceAccount](p.inv) {
		used := slices.ContainsFunc(p.inv.UsesOf(o.Ref), func(u inventory.Use) bool { return p.inv.Workload(u.By) != nil })
		if p.bound[o.Ref] && !used && o.Name != "default" && len(p.workloads[o.Namespace]) > 0 && len(p.custom[o.Namespace]) == 0 {
			p.at(o, "metadata.name", "a binding gives it rights", "no pod of the namespace runs as it")
		}
	}
}

// manyServices is from how many Services on the variables of pods are a burden: seven of each.
const manyServices = 100

func manyServiceLinks(p *pass) {
	count := map[string]int{}
	for _, s := range p.inv.Services {
		count[s.Namespace]++
	}
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		if n := count[w.Namespace]; n > manyServices && !isFalse(spec.EnableServiceLinks) {
			p.at(w.Object, w.SpecPath+".enableServiceLinks", fmt.Sprintf("the namespace has %d Services", n)).set(w.SpecPath+".enableServiceLinks", false)
		}
	})
}

func barePod(p *pass) {
	for _, w := range p.inv.Workloads {
		if w.Kind == "Pod" && w.Serves && len(w.Object.Content.GetOwnerReferences()) == 0 && w.Object.Content.GetAnnotations()["kubernetes.io/config.mirror"] == "" &&
			w.Object.Content.GetAnnotations()["helm.sh/hook"] == "" {
			p.at(w.Object, "metadata.name", "no controller owns it")
		}
	}
}
