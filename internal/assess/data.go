package assess

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"dhow/internal/inventory"
)

// dataRules are about databases and volumes.
func dataRules() []Rule {
	const g = GroupData
	return []Rule{
		{ID: "database-without-volume", Group: g, Severity: Critical, Title: "A database keeps its data in the container.",
			Why: "When its pod ends, all rows are gone.", Fix: "Give it a persistent volume, or move it to a managed database.", check: databaseWithoutVolume},
		{ID: "database-in-public", Group: g, Severity: High, Title: "A database is reached at a public address.",
			Why: "It stands open to the internet, and all rows leave the private network.", Fix: "Reach it by a private address: peering, a private endpoint, or the same network.", check: databaseInPublic},
		{ID: "database-in-the-clear", Group: g, Severity: High, Title: "A connection to a database outside of the cluster is not encrypted.",
			Why: "Who is on the way reads passwords and rows.", Fix: "Ask for TLS and check the certificate: sslmode=verify-full, rediss://, tls=true.", check: databaseInTheClear},
		{ID: "claims-deleted", Group: g, Severity: High, Title: "Volumes are deleted with their StatefulSet, or when it is scaled down.",
			Why: "One mistaken `kubectl delete` or `scale` deletes the data.", Fix: "Set persistentVolumeClaimRetentionPolicy to Retain.", check: claimsDeleted},
		{ID: "one-database-user", Group: g, Severity: Medium, Title: "Services share a user of a database.",
			Why: "Each can read and change the tables of all, and its password can not be changed for one alone.", Fix: "Make a user for each service, with rights to its own tables.", check: oneDatabaseUser},
		{ID: "database-superuser", Group: g, Severity: Medium, Title: "A service connects to its database as the administrator.",
			Why: "A hole in the service is one in the whole server: it may drop all, read files, and make users.", Fix: "Make a user with rights to its own tables.", check: databaseSuperuser},
		{ID: "database-too-old", Group: g, Severity: Medium, Title: "A database server's version is no longer mended.",
			Why: "Its holes are known and stay open, and managed services charge more for it or refuse it.", Fix: "Move to a version that is supported.", check: databaseTooOld},
		{ID: "database-as-deployment", Group: g, Severity: Medium, Title: "A database with a volume is a Deployment.",
			Why: "A rollout may start a second server on the same files while the first still writes.", Fix: "Make it a StatefulSet, or set the strategy to Recreate.", check: databaseAsDeployment},
		{ID: "volume-deleted-with-claim", Group: g, Severity: Medium, Title: "A database's volume is deleted with its claim.",
			Why: "Deleting the claim, or the namespace, deletes the data at once.", Fix: "Use a storage class whose reclaimPolicy is Retain.", check: volumeDeleted},
		{ID: "unused-volume", Group: g, Severity: Low, Title: "A volume is claimed that no pod mounts.",
			Why: "It is paid for, and may hold data that nobody looks after.", Fix: "Save what it holds, and remove it.", check: unusedVolume},
	}
}

// claims gives the claims that a workload makes for its pods.
func claims(w *inventory.Workload, look func(at string, c *corev1.PersistentVolumeClaim)) {
	if s, ok := w.Object.Content.(*appsv1.StatefulSet); ok {
		for n := range s.Spec.VolumeClaimTemplates {
			look(index("spec.volumeClaimTemplates", n), &s.Spec.VolumeClaimTemplates[n])
		}
	}
}

// keeps says whether a workload has a volume that outlives its pods.
func keeps(w *inventory.Workload) bool {
	found := false
	claims(w, func(string, *corev1.PersistentVolumeClaim) { found = true })
	return found || slices.ContainsFunc(w.Template.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir == nil && v.ConfigMap == nil && v.Secret == nil && v.Projected == nil && v.DownwardAPI == nil
	})
}

// remembers are the engines whose data is meant to last.
func remembers(e inventory.Engine) bool {
	switch e {
	case inventory.Memcached, inventory.NATS, inventory.RabbitMQ, inventory.Redis: // caches and brokers are often without a volume by right
		return false
	}
	return true
}

// servers of databases, with their engine, by workload.
func (p *pass) databaseServers(look func(w *inventory.Workload, e inventory.Engine)) {
	for _, w := range p.inv.Workloads {
		if e, ok := p.databases[w.Ref]; ok && w.Serves {
			look(w, e)
		}
	}
}

func databaseWithoutVolume(p *pass) {
	p.databaseServers(func(w *inventory.Workload, e inventory.Engine) {
		if remembers(e) && !keeps(w) && w.Kind != inventory.KindCompose {
			p.at(w.Object, w.SpecPath+".volumes", "it runs "+string(e), "none of its volumes outlives its pods")
		}
	})
}

// engineFact is which database it is about.
func engineFact(d *inventory.Database) string {
	text := string(d.Engine)
	if d.Name != "" {
		text += " " + d.Name
	}
	if d.Host != "" {
		text += " at " + d.Host
		if d.Port > 0 {
			text += ":" + strconv.Itoa(d.Port)
		}
	}
	return text
}

// private are the ends of names that mean a private network.
var privateName = regexp.MustCompile(`(^|\.)(local|internal|lan|corp|intranet|home\.arpa|private|test|localhost)\.?$`)

func databaseInPublic(p *pass) {
	told := map[[2]string]bool{}
	for n := range p.inv.Databases {
		d := &p.inv.Databases[n]
		ip, err := netip.ParseAddr(d.Host)
		for _, e := range d.Evidence {
			named := e.Path == "spec.externalName" && d.Managed == "" && strings.Contains(d.Host, ".") && !privateName.MatchString(d.Host) && !strings.HasSuffix(d.Host, ".svc")
			if err == nil && !isPublic(ip) || err != nil && !named || e.By == inventory.ByImage || e.By == inventory.ByPolicy || told[[2]string{e.Object.String(), e.Path}] {
				continue
			}
			told[[2]string{e.Object.String(), e.Path}] = true
			fact := "the address is public"
			if err != nil {
				fact = "the name is one of the public DNS"
			}
			one := *d
			if e.By == inventory.ByService { // it leads to all databases of the server
				one.Name = ""
			}
			p.on(e.Object, e.Path, engineFact(&one), fact)
		}
	}
}

// inTheClear says whether a connection string asks for no encryption, by the habits of
// the engine's clients.
func inTheClear(d *inventory.Database) bool {
	how := strings.ToLower(d.Encryption)
	switch d.Engine {
	case inventory.PostgreSQL:
		return how == "disable" || how == "allow"
	case inventory.MySQL, inventory.MariaDB:
		return how == "" || how == "false" || how == "disable" || how == "disabled"
	case inventory.Redis:
		return how == ""
	case inventory.MongoDB, inventory.SQLServer:
		return how == "false" || how == "disable"
	}
	return false
}

// outside says whether a host can not be a Service of the cluster, whose names have one
// dot at most, or end in .svc or the cluster's own domain.
func outside(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsLoopback()
	}
	host = strings.TrimSuffix(host, ".")
	if strings.HasSuffix(host, ".svc") || strings.Contains(host, ".svc.") || strings.HasSuffix(host, ".cluster.local") {
		return false
	}
	return strings.Count(host, ".") > 1
}

func databaseInTheClear(p *pass) {
	for n := range p.inv.Databases {
		d := &p.inv.Databases[n]
		if d.Server != nil || !outside(d.Host) || !inTheClear(d) {
			continue
		}
		how := "the string asks for no encryption"
		if d.Encryption != "" {
			how = "the string says " + d.Encryption
		}
		for _, e := range d.Evidence {
			if strings.Contains(e.Text, "://") {
				p.on(e.Object, e.Path, engineFact(d), how)
			}
		}
	}
}

func oneDatabaseUser(p *pass) {
	type user struct {
		engine     inventory.Engine
		host, name string
	}
	shared := map[user][]*inventory.Database{}
	for n := range p.inv.Databases {
		d := &p.inv.Databases[n]
		if d.User != "" && d.Host != "" {
			k := user{d.Engine, d.Host, d.User}
			shared[k] = append(shared[k], d)
		}
	}
	for k, all := range shared {
		clients, names := map[inventory.Ref]bool{}, map[string]bool{}
		for _, d := range all {
			names[d.Name] = true
			for _, c := range d.Clients {
				clients[c] = true
			}
		}
		if len(clients) < 2 {
			continue
		}
		fact := fmt.Sprintf("%d workloads connect to %s at %s as %s", len(clients), k.engine, k.host, k.name)
		for _, d := range all {
			for _, e := range d.Evidence {
				if strings.Contains(e.Text, "://") || e.By == inventory.ByEnvironment {
					p.on(e.Object, e.Path, fact)
				}
			}
		}
	}
}

func databaseSuperuser(p *pass) {
	admins := map[inventory.Engine][]string{inventory.PostgreSQL: {"postgres"}, inventory.MySQL: {"root"}, inventory.MariaDB: {"root"}, inventory.SQLServer: {"sa"},
		inventory.Oracle: {"sys", "system"}, inventory.MongoDB: {"root", "admin"}, inventory.RabbitMQ: {"guest"}}
	for n := range p.inv.Databases {
		d := &p.inv.Databases[n]
		if !slices.Contains(admins[d.Engine], strings.ToLower(d.User)) || len(d.Clients) == 0 {
			continue
		}
		for _, e := range d.Evidence {
			if e.By != inventory.ByImage && e.By != inventory.ByService && e.By != inventory.ByPolicy {
				p.on(e.Object, e.Path, engineFact(d), "the user is "+d.User)
			}
		}
	}
}

// oldest are the oldest major versions that their makers still mend, as of late 2026.
var oldest = map[inventory.Engine]float64{inventory.PostgreSQL: 14, inventory.MySQL: 8.4, inventory.MariaDB: 10.11, inventory.Redis: 7.2, inventory.MongoDB: 7, inventory.Elasticsearch: 8}

var versionTag = regexp.MustCompile(`^v?(\d+)(?:\.(\d+))?`)

// older says whether a tag's version is below another: 10.6 is below 10.11.
func older(tag string, least float64) (string, bool) {
	m := versionTag.FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}
	wantMajor, wantMinor, _ := strings.Cut(strconv.FormatFloat(least, 'f', -1, 64), ".")
	major, err := strconv.Atoi(m[1])
	if err != nil || major > 1000 { // a date
		return "", false
	}
	want, err := strconv.Atoi(wantMajor)
	if err != nil || major != want {
		return m[0], err == nil && major < want
	}
	minor, err := strconv.Atoi(m[2])
	least2, err2 := strconv.Atoi(wantMinor)
	return m[0], err == nil && err2 == nil && minor < least2
}

func databaseTooOld(p *pass) {
	p.databaseServers(func(w *inventory.Workload, e inventory.Engine) {
		least, known := oldest[e]
		for n := range w.Containers {
			c := &w.Containers[n]
			base := c.Image.Repository[strings.LastIndexByte(c.Image.Repository, '/')+1:]
			if v, old := older(c.Image.Tag, least); known && old && !c.Init && strings.HasPrefix(engineName(base), string(e)) {
				p.at(w.Object, c.Path+".image", fmt.Sprintf("it is %s %s, and %s is the oldest that is mended", e, v, strconv.FormatFloat(least, 'f', -1, 64)))
			}
		}
	})
	for n := range p.inv.Databases {
		d := &p.inv.Databases[n]
		if d.Answers == nil || len(d.Evidence) == 0 {
			continue
		}
		least, known := oldest[inventory.Engine(strings.ToLower(d.Answers.Product))]
		if _, old := older(d.Answers.Version, least); !known || !old {
			continue
		}
		e, one := &d.Evidence[0], *d
		one.Name = "" // it is the server's
		fact := fmt.Sprintf("it says that it is %s %s, and %s is the oldest that is mended", d.Answers.Product, d.Answers.Version, strconv.FormatFloat(least, 'f', -1, 64))
		if e.Object == (inventory.Ref{}) {
			p.in(e.File, e.Line, engineFact(&one), fact).about(engineFact(&one))
		} else {
			p.on(e.Object, e.Path, engineFact(&one), fact)
		}
	}
}

// engineName is the engine that an image's last name means, for images that are the
// server itself: an exporter or an operator has versions of its own.
func engineName(base string) string {
	switch base {
	case "postgres", "postgresql":
		return string(inventory.PostgreSQL)
	case "mongo":
		return string(inventory.MongoDB)
	case "redis", "mysql", "mariadb", "elasticsearch", "mongodb":
		return base
	}
	return ""
}

func databaseAsDeployment(p *pass) {
	p.databaseServers(func(w *inventory.Workload, e inventory.Engine) {
		d, ok := w.Object.Content.(*appsv1.Deployment)
		if ok && keeps(w) && remembers(e) && d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			p.at(w.Object, "spec.strategy.type", "it runs "+string(e), "the strategy is RollingUpdate").set("spec.strategy", map[string]any{"type": "Recreate", "rollingUpdate": nil})
		}
	})
}

func claimsDeleted(p *pass) {
	for o, s := range inventory.Of[*appsv1.StatefulSet](p.inv) {
		r := s.Spec.PersistentVolumeClaimRetentionPolicy
		if r == nil || len(s.Spec.VolumeClaimTemplates) == 0 {
			continue
		}
		for field, policy := range map[string]appsv1.PersistentVolumeClaimRetentionPolicyType{"whenDeleted": r.WhenDeleted, "whenScaled": r.WhenScaled} {
			if policy == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
				at := "spec.persistentVolumeClaimRetentionPolicy." + field
				p.at(o, at, field+" is Delete").set(at, "Retain")
			}
		}
	}
}

func volumeDeleted(p *pass) {
	deleted := func(name *string) string {
		if name == nil {
			return ""
		}
		c, ok := contentOf[*storagev1.StorageClass](p.inv, inventory.Ref{Group: "storage.k8s.io", Kind: "StorageClass", Name: *name})
		if ok && (c.ReclaimPolicy == nil || *c.ReclaimPolicy == corev1.PersistentVolumeReclaimDelete) {
			return *name
		}
		return ""
	}
	p.databaseServers(func(w *inventory.Workload, e inventory.Engine) {
		tell := func(o *inventory.Object, at, class string) {
			if class != "" {
				p.at(o, at, "it holds "+string(e)+" of "+w.Ref.String(), "the reclaimPolicy of the storage class "+class+" is Delete")
			}
		}
		claims(w, func(at string, c *corev1.PersistentVolumeClaim) {
			tell(w.Object, at+".spec.storageClassName", deleted(c.Spec.StorageClassName))
		})
		for _, v := range w.Template.Spec.Volumes {
			if v.PersistentVolumeClaim == nil {
				continue
			}
			ref := inventory.Ref{Kind: "PersistentVolumeClaim", Namespace: w.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
			if c, ok := contentOf[*corev1.PersistentVolumeClaim](p.inv, ref); ok {
				tell(p.inv.Get(ref), "spec.storageClassName", deleted(c.Spec.StorageClassName))
			}
		}
	})
}

func unusedVolume(p *pass) {
	templates := map[string]bool{}
	for _, w := range p.inv.Workloads {
		claims(w, func(_ string, c *corev1.PersistentVolumeClaim) { templates[w.Namespace+"/"+c.Name+"-"+w.Name] = true })
	}
	for o := range inventory.Of[*corev1.PersistentVolumeClaim](p.inv) {
		name := o.Namespace + "/" + o.Name
		if cut := strings.LastIndexByte(name, '-'); cut > 0 && templates[name[:cut]] { // of a StatefulSet
			continue
		}
		if len(p.inv.UsesOf(o.Ref)) == 0 && len(p.custom[o.Namespace]) == 0 && len(o.Content.GetOwnerReferences()) == 0 {
			p.at(o, "metadata.name", "no pod of the namespace mounts it")
		}
	}
}
