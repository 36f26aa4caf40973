package inventory

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// databases gathers what is found until it is one of each.
type databases struct {
	inv *Inventory
	// found are by engine, host, port, name and user.
	found map[databaseKey]*Database
	order []databaseKey
	// by are those that a workload is known to use.
	by map[Ref][]*Database
}

type databaseKey struct {
	engine                   Engine
	host, name, user, secret string
	port                     int
}

// findDatabases finds them by connection strings, by settings that belong together, by
// Secrets and policies that are named after an engine, by images and by Services.
func (i *Inventory) findDatabases() {
	d := &databases{inv: i, found: map[databaseKey]*Database{}, by: map[Ref][]*Database{}}
	d.servers()
	for _, w := range i.Workloads {
		for n := range w.Containers {
			c := &w.Containers[n]
			if imageEngine(c.Image) != "" {
				continue // a database's own settings are no connection
			}
			d.settings(w, c)
			d.arguments(w, c)
		}
	}
	d.configMaps()
	d.foreignServices()
	d.policies()
	d.fold()
	for _, k := range d.order {
		db := d.found[k]
		if db == nil {
			continue
		}
		slices.SortFunc(db.Clients, compareRefs)
		db.Clients = slices.Compact(db.Clients)
		sortEvidence(&db.Evidence)
		i.Databases = append(i.Databases, *db)
	}
	i.sortDatabases()
}

func (i *Inventory) sortDatabases() {
	slices.SortStableFunc(i.Databases, func(a, b Database) int {
		return cmp.Or(strings.Compare(string(a.Engine), string(b.Engine)), strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), strings.Compare(a.Name, b.Name),
			strings.Compare(a.User, b.User), compareRefs(deref(a.Server), deref(b.Server)), compareRefs(deref(a.Secret), deref(b.Secret)))
	})
}

// Learn takes in databases that were not known before, and what went wrong when databases
// were asked. It is for package inquire, before anybody else reads the inventory.
func (i *Inventory) Learn(found []Database, problems []Problem) {
	i.Databases = append(i.Databases, found...)
	i.sortDatabases()
	i.Problems = append(i.Problems, problems...)
	i.settle()
}

// Connection reads a connection string such as a Secret has: a URL, libpq's pairs, or Go's
// form for MySQL. It gives the password apart, for whoever connects: it is the one secret
// that comes out of this package, to the caller who put it in. ok says that it names an
// engine that is known, or that hint is one, and a host.
func Connection(text string, hint Engine) (db Database, password string, ok bool) {
	text = strings.TrimSpace(text)
	for _, c := range connections(text) {
		if c.engine == "" {
			c.engine = hint
		}
		if c.engine == "" || c.host == "" {
			continue
		}
		db = fromConnection(c)
		if db.Port == 0 {
			db.Port = enginePort(db.Engine)
		}
		if len(c.secrets) > 0 {
			password = text[c.secrets[0][0]:c.secrets[0][1]]
			if c.scheme != "pairs" && !strings.Contains(text, "@tcp(") { // of a URL, where signs are escaped
				password = unescape(password)
			}
		}
		return db, password, true
	}
	return Database{}, "", false
}

func deref(r *Ref) Ref {
	if r == nil {
		return Ref{}
	}
	return *r
}

func sortEvidence(e *[]Evidence) {
	slices.SortFunc(*e, func(a, b Evidence) int {
		return cmp.Or(compareRefs(a.Object, b.Object), strings.Compare(a.Path, b.Path), strings.Compare(string(a.By), string(b.By)), strings.Compare(a.Text, b.Text))
	})
	*e = slices.Compact(*e)
}

// evidence is what a field says, with its place.
func (i *Inventory) evidence(by By, object Ref, path, text string) Evidence {
	e := Evidence{By: by, Object: object, Path: path, Text: shorten(text, maxEvidence)}
	if o := i.index.byRef[object]; o != nil && o.Source.File != "" {
		e.File, e.Line = o.Source.File, o.Source.LineOf(path)
	}
	return e
}

// note takes in one finding; client is nil where nobody is known to connect.
func (d *databases) note(db Database, client *Workload, e Evidence) {
	if db.Port == 0 {
		db.Port = enginePort(db.Engine)
	}
	if db.Engine == "" {
		return
	}
	namespace := ""
	if client != nil {
		namespace = client.Namespace
	} else if e.Object.Namespace != "" {
		namespace = e.Object.Namespace
	}
	if s, w := d.inv.reach(namespace, db.Host); s != nil || w != nil {
		if s != nil {
			db.Service = &s.Object.Ref
			if s.Spec.Type == corev1.ServiceTypeExternalName {
				db.Managed, db.Region = managed(s.Spec.ExternalName)
			}
		}
		if w != nil {
			db.Server = &w.Ref
			if engine := serverEngine(w); engine == MariaDB && db.Engine == MySQL {
				db.Engine = MariaDB
			}
		}
	} else if db.Host != "" {
		db.Managed, db.Region = managed(db.Host)
	}
	key := databaseKey{engine: db.Engine, host: db.Host, port: db.Port, name: db.Name, user: db.User}
	if db.Service != nil {
		key.host = "service " + db.Service.String() // however its name is written
	} else if db.Host == "" && db.Server != nil {
		key.host = "server " + db.Server.String()
	}
	if db.Host == "" && db.Secret != nil {
		key.secret = db.Secret.String()
	}
	have := d.found[key]
	if have == nil {
		have = &db
		d.found[key] = have
		d.order = append(d.order, key)
	}
	have.Encryption = cmp.Or(have.Encryption, db.Encryption)
	have.PlainPassword = have.PlainPassword || db.PlainPassword
	have.keep(db.Secret, db.SecretKey)
	if client != nil {
		have.Clients = append(have.Clients, client.Ref)
		if !slices.Contains(d.by[client.Ref], have) {
			d.by[client.Ref] = append(d.by[client.Ref], have)
		}
	}
	have.Evidence = append(have.Evidence, e)
}

// keep notes the Secret that has the password, unless one is known.
func (d *Database) keep(secret *Ref, key string) {
	if d.Secret == nil && secret != nil {
		d.Secret, d.SecretKey = secret, key
	}
}

// fromConnection is what a connection string says.
func fromConnection(c connection) Database {
	return Database{Engine: c.engine, Host: c.host, Port: c.port, Name: c.name, User: c.user, Encryption: c.encryption, PlainPassword: c.password}
}

// settings looks at a container's environment.
func (d *databases) settings(w *Workload, c *Container) {
	used := map[int]bool{}
	for n, s := range c.Env {
		for _, conn := range connections(s.Value) {
			engine := conn.engine
			if engine == "" && (conn.scheme == "http" || conn.scheme == "https") && nameEngine(s.Name) == Elasticsearch {
				engine = Elasticsearch
			}
			if engine == "" && conn.scheme == "pairs" {
				engine = d.engineOf(w.Namespace, s.Name, conn.host, conn.port)
			}
			if engine == "" {
				continue
			}
			conn.engine = engine
			used[n] = true
			d.note(fromConnection(conn), w, d.inv.evidence(byOf(s), s.Object, s.Path, s.Value))
		}
		if s.Secret != nil && s.Value == "" {
			d.secretSetting(w, s)
		}
	}
	d.groups(w, c, used)
}

func byOf(s Setting) By {
	if s.Object.Kind == "ConfigMap" {
		return ByConfigMap
	}
	return ByEnvironment
}

// secretSetting looks at a variable that a Secret gives: its names tell what it is for.
func (d *databases) secretSetting(w *Workload, s Setting) {
	whole := strings.ToLower(s.Name)
	if !hasWord(whole, "url", "uri", "dsn", "connection", "connectionstring") && !hasWord(strings.ToLower(s.Key), "url", "uri", "dsn", "connection-string") {
		return
	}
	engine := nameEngine(s.Name)
	if engine == "" {
		engine = nameEngine(s.Secret.Name)
	}
	if engine == "" {
		return
	}
	d.note(Database{Engine: engine, Secret: s.Secret, SecretKey: s.Key}, w, d.inv.evidence(ByEnvironment, s.Object, s.Path, "Secret "+s.Secret.Name+" key "+s.Key))
}

func hasWord(s string, words ...string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(parts, w) || strings.HasSuffix(s, w) })
}

// nameEngine is the engine that a setting, a Service or a Secret is named after.
func nameEngine(name string) Engine {
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	for _, p := range parts {
		switch strings.TrimRight(p, "0123456789") {
		case "postgres", "postgresql", "pg", "pghost", "pgport", "pgdatabase", "pguser", "postgre", "pgsql":
			return PostgreSQL
		case "mysql", "mysqldb":
			return MySQL
		case "maria", "mariadb":
			return MariaDB
		case "redis", "valkey":
			return Redis
		case "mongo", "mongodb":
			return MongoDB
		case "mssql", "sqlserver", "sqldata":
			return SQLServer
		case "oracle":
			return Oracle
		case "cassandra":
			return Cassandra
		case "elasticsearch", "elastic", "opensearch":
			return Elasticsearch
		case "memcached", "memcache":
			return Memcached
		case "kafka":
			return Kafka
		case "rabbitmq", "amqp", "rabbit":
			return RabbitMQ
		case "nats":
			return NATS
		case "etcd":
			return Etcd
		}
	}
	return ""
}

// engineOf is the engine at a host, by who runs there, its port, or its names.
func (d *databases) engineOf(namespace, setting, host string, port int) Engine {
	if s, w := d.inv.reach(namespace, host); w != nil {
		if e := serverEngine(w); e != "" {
			return e
		}
		// An image of one's own may be a database's too, if name and port agree.
		e := nameEngine(setting)
		if port == 0 && s != nil && len(s.Spec.Ports) > 0 {
			port = int(s.Spec.Ports[0].Port)
		}
		if e != "" && port == enginePort(e) {
			return e
		}
		return ""
	}
	if e := nameEngine(setting); e != "" {
		return e
	}
	if e := portEngine(port); e != "" {
		return e
	}
	if s, _ := d.inv.reach(namespace, host); s != nil || strings.Contains(host, ".") {
		return nameEngine(host)
	}
	return ""
}

// serverEngine is the database that a workload runs, "" if none.
func serverEngine(w *Workload) Engine {
	for _, c := range w.Containers {
		if e := imageEngine(c.Image); e != "" && !c.Init {
			return e
		}
	}
	return ""
}

var hostSuffix = regexp.MustCompile(`(?i)[_.-]?(host|hostname|addr|address|server|endpoint|service|url|uri|hosts|brokers?|servers|bootstrap_servers|datasource)$`)

// groups looks at settings that belong together: DB_HOST, DB_PORT, DB_NAME, DB_USER.
func (d *databases) groups(w *Workload, c *Container, used map[int]bool) {
	values := map[string]Setting{}
	for _, s := range c.Env {
		values[strings.ToUpper(s.Name)] = s
	}
	get := func(prefix string, names ...string) Setting {
		for _, n := range names {
			for _, between := range []string{"_", ""} {
				if s, ok := values[strings.ToUpper(prefix+between+n)]; ok {
					return s
				}
			}
		}
		return Setting{}
	}
	for n, s := range c.Env {
		if used[n] || s.Value == "" || strings.Contains(s.Value, "://") || len(s.Value) > maxEvidence {
			continue
		}
		at := hostSuffix.FindStringIndex(s.Name)
		if at == nil {
			continue
		}
		first, _, _ := strings.Cut(s.Value, ",")
		host, port := hostPort(first)
		if host == "" || strings.ContainsAny(first, " /") {
			continue
		}
		prefix := s.Name[:at[0]]
		if port == 0 {
			if p, err := strconv.Atoi(get(prefix, "PORT").Value); err == nil {
				port = p
			}
		}
		engine := d.engineOf(w.Namespace, s.Name, host, port)
		if engine == "" {
			continue
		}
		user := get(prefix, "USER", "USERNAME", "USR")
		password := get(prefix, "PASSWORD", "PASS", "PWD", "PASSWD")
		name := get(prefix, "NAME", "DATABASE", "DB", "DBNAME", "DB_NAME")
		if engine == Redis || engine == RabbitMQ || engine == Kafka || engine == NATS {
			name = get(prefix, "DB")
		}
		db := Database{Engine: engine, Host: host, Port: port, Name: name.Value, User: user.Value, PlainPassword: password.Value != "" && !reference(password.Value) || password.Value == Masked, Secret: password.Secret, SecretKey: password.Key}
		d.note(db, w, d.inv.evidence(byOf(s), s.Object, s.Path, s.Value))
	}
}

// arguments looks at a container's command line.
func (d *databases) arguments(w *Workload, c *Container) {
	for field, list := range map[string][]string{"command": c.Command, "args": c.Args} {
		for n, a := range list {
			for _, conn := range connections(a) {
				if conn.engine != "" && conn.scheme != "pairs" {
					path := c.Path + "." + field + "[" + strconv.Itoa(n) + "]"
					d.note(fromConnection(conn), w, d.inv.evidence(ByArgument, w.Ref, path, a))
				}
			}
		}
	}
}

// configMaps looks at the texts of ConfigMaps, whose files programs read.
func (d *databases) configMaps() {
	for o, m := range Of[*corev1.ConfigMap](d.inv) {
		var clients []*Workload
		for _, u := range d.inv.UsesOf(o.Ref) {
			if w := d.inv.index.workloads[u.By]; w != nil {
				clients = append(clients, w)
			}
		}
		for _, k := range sortedKeys(m.Data) {
			v := m.Data[k]
			for _, conn := range connections(v) {
				if conn.engine == "" {
					continue
				}
				line := v
				if strings.Contains(v, "\n") {
					line = lineWith(v, conn.host)
				}
				e := d.inv.evidence(ByConfigMap, o.Ref, KeyPath("data", k), line)
				if len(clients) == 0 {
					d.note(fromConnection(conn), nil, e)
				}
				for _, w := range clients {
					if serverEngine(w) == "" {
						d.note(fromConnection(conn), w, e)
					}
				}
			}
		}
	}
}

// lineWith is the first line of a text that has a word.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(strings.ToLower(line), word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// servers are the databases that run in the cluster.
func (d *databases) servers() {
	for _, w := range d.inv.Workloads {
		if !w.Serves {
			continue
		}
		for n := range w.Containers {
			c := &w.Containers[n]
			engine := imageEngine(c.Image)
			if engine == "" || c.Init {
				continue
			}
			db := Database{Engine: engine, Server: &w.Ref}
			for _, p := range c.Ports {
				if db.Port == 0 || p.ContainerPort == int32(enginePort(engine)) {
					db.Port = int(p.ContainerPort)
				}
			}
			for _, s := range c.Env {
				switch strings.ToUpper(s.Name) {
				case "POSTGRES_DB", "MYSQL_DATABASE", "MARIADB_DATABASE", "MONGO_INITDB_DATABASE", "POSTGRESQL_DATABASE", "MYSQL_DB":
					db.Name = s.Value
				case "POSTGRES_USER", "MYSQL_USER", "MARIADB_USER", "MONGO_INITDB_ROOT_USERNAME", "POSTGRESQL_USERNAME":
					db.User = s.Value
				case "POSTGRES_PASSWORD", "MYSQL_PASSWORD", "MYSQL_ROOT_PASSWORD", "MARIADB_PASSWORD", "MARIADB_ROOT_PASSWORD", "MONGO_INITDB_ROOT_PASSWORD", "SA_PASSWORD", "MSSQL_SA_PASSWORD", "POSTGRESQL_PASSWORD":
					db.PlainPassword = db.PlainPassword || s.Value == Masked
					db.keep(s.Secret, s.Key)
				}
			}
			for _, s := range w.Services {
				if len(s.Spec.Ports) > 0 {
					db.Host, db.Service = s.Name+"."+s.Namespace, &s.Object.Ref
					break
				}
			}
			if w.Kind == KindCompose {
				db.Host = w.Name
			}
			d.note(db, nil, d.inv.evidence(ByImage, w.Ref, c.Path+".image", c.Container.Image))
		}
	}
}

// fold puts a server that was found by its image together with the databases of it that
// something connects to, and a Secret's connection with the only one that it can mean.
func (d *databases) fold() {
	for _, k := range d.order {
		db := d.found[k]
		if db == nil || db.Server == nil || len(db.Clients) > 0 {
			continue
		}
		for _, other := range d.order {
			to := d.found[other]
			if to == nil || to == db || to.Server == nil || *to.Server != *db.Server || len(to.Clients) == 0 || db.Name != "" && to.Name != "" && db.Name != to.Name {
				continue
			}
			to.Evidence = append(to.Evidence, db.Evidence...)
			to.Name, to.User = cmp.Or(to.Name, db.Name), cmp.Or(to.User, db.User)
			to.PlainPassword = to.PlainPassword || db.PlainPassword
			to.keep(db.Secret, db.SecretKey)
			d.found[k] = nil
		}
	}
}

// foreignServices are names in the cluster for databases outside of it: of type
// ExternalName, or with addresses that are written by hand.
func (d *databases) foreignServices() {
	for _, s := range d.inv.Services {
		if len(s.Spec.Selector) > 0 {
			continue
		}
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			port := 0
			if len(s.Spec.Ports) > 0 {
				port = int(s.Spec.Ports[0].Port)
			}
			name, _ := managed(s.Spec.ExternalName)
			engine := cmp.Or(nameEngine(s.Name), nameEngine(s.Spec.ExternalName), portEngine(port))
			if engine == "" && (name == "elasticache" || name == "memorydb") {
				engine = Redis
			}
			if engine != "" {
				d.noteForeign(s, Database{Engine: engine, Host: s.Spec.ExternalName, Port: port}, d.inv.evidence(ByService, s.Object.Ref, "spec.externalName", s.Spec.ExternalName))
			}
			continue
		}
		for _, e := range s.Endpoints {
			if e.Pod != nil {
				continue
			}
			port := 0
			for _, p := range e.Ports {
				port = int(p)
			}
			if port == 0 && len(s.Spec.Ports) > 0 {
				port = int(s.Spec.Ports[0].Port)
			}
			if engine := cmp.Or(nameEngine(s.Name), portEngine(port)); engine != "" {
				path := "endpoints[0].addresses[0]"
				if e.From.Kind == "Endpoints" {
					path = "subsets[0].addresses[0].ip"
				}
				d.noteForeign(s, Database{Engine: engine, Host: e.Address, Port: port}, d.inv.evidence(ByService, e.From, path, e.Address))
			}
		}
	}
}

// noteForeign notes the database to which a Service leads: those found at the same address
// are the same, whatever database's name or user they tell.
func (d *databases) noteForeign(s *Service, db Database, e Evidence) {
	if db.Port == 0 {
		db.Port = enginePort(db.Engine)
	}
	known := false
	for _, k := range d.order {
		have := d.found[k]
		if have.Host == db.Host && have.Port == db.Port || have.Service != nil && *have.Service == s.Object.Ref {
			have.Evidence = append(have.Evidence, e)
			have.Service = &s.Object.Ref
			if have.Managed == "" {
				have.Managed, have.Region = managed(db.Host)
			}
			known = true
		}
	}
	if known {
		return
	}
	db.Service = &s.Object.Ref
	db.Managed, db.Region = managed(db.Host)
	db.Evidence = []Evidence{e}
	key := databaseKey{engine: db.Engine, host: "service " + s.Object.Ref.String(), port: db.Port}
	d.found[key] = &db
	d.order = append(d.order, key)
}

// policies are ways out to networks on a database's port. They are evidence for the
// databases of the same workload and engine. They are a database of their own only where a
// policy is of one workload that is not known to use any.
func (d *databases) policies() {
	selected := map[*Object]int{}
	for _, w := range d.inv.Workloads {
		for _, o := range w.Policies {
			selected[o]++
		}
	}
	for _, w := range d.inv.Workloads {
		for _, o := range w.Policies {
			p, ok := o.Content.(*networkingv1.NetworkPolicy)
			if !ok {
				continue
			}
			for n, rule := range p.Spec.Egress {
				if !slices.ContainsFunc(rule.To, func(peer networkingv1.NetworkPolicyPeer) bool { return peer.IPBlock != nil }) {
					continue
				}
				for m, port := range rule.Ports {
					if port.Port == nil || port.Port.IntValue() == 0 {
						continue
					}
					engine := portEngine(port.Port.IntValue())
					if engine == "" {
						continue
					}
					e := d.inv.evidence(ByPolicy, o.Ref, "spec.egress["+strconv.Itoa(n)+"].ports["+strconv.Itoa(m)+"].port", strconv.Itoa(port.Port.IntValue()))
					if !d.support(w, engine, e) && selected[o] == 1 && len(d.by[w.Ref]) == 0 {
						d.note(Database{Engine: engine, Port: port.Port.IntValue()}, w, e)
					}
				}
			}
		}
	}
}

// support adds evidence to what a workload is known to connect to.
func (d *databases) support(w *Workload, engine Engine, e Evidence) (done bool) {
	for _, db := range d.by[w.Ref] {
		if db.Engine == engine || engine == MySQL && db.Engine == MariaDB {
			db.Evidence = append(db.Evidence, e)
			done = true
		}
	}
	return done
}

var awsHost = regexp.MustCompile(`\.([a-z]{2}(?:-[a-z]+)+-\d)\.(rds|cache|memorydb|docdb|redshift|es|opensearch)\.amazonaws\.com(\.cn)?$`)
var awsCacheHost = regexp.MustCompile(`\.([a-z0-9]+)\.cache\.amazonaws\.com$`)

// managed is whose product a host name tells of, and in which region it is.
func managed(host string) (product, region string) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if m := awsHost.FindStringSubmatch(host); m != nil {
		region = m[1]
		switch m[2] {
		case "rds":
			if strings.Contains(host, ".cluster-") {
				return "aurora", region
			}
			return "rds", region
		case "cache":
			return "elasticache", region
		case "docdb":
			return "documentdb", region
		case "es", "opensearch":
			return "opensearch", region
		}
		return m[2], region
	}
	switch {
	case awsCacheHost.MatchString(host):
		return "elasticache", cacheRegion(awsCacheHost.FindStringSubmatch(host)[1])
	case strings.HasSuffix(host, ".database.azure.com"), strings.HasSuffix(host, ".database.windows.net"), strings.HasSuffix(host, ".redis.cache.windows.net"), strings.HasSuffix(host, ".documents.azure.com"):
		return "azure", ""
	case strings.HasSuffix(host, ".sql.goog"), strings.Contains(host, "cloudsql"):
		return "cloudsql", ""
	case strings.HasSuffix(host, ".mongodb.net"):
		return "atlas", ""
	}
	return "", ""
}

// cacheRegion spells out how ElastiCache's names shorten a region: use1 is us-east-1. It is a
// rule of letters, not a list: two for the area, the rest from the direction's words.
func cacheRegion(short string) string {
	m := regexp.MustCompile(`^([a-z]{2})([a-z]{1,2})(\d)$`).FindStringSubmatch(short)
	if m == nil {
		return ""
	}
	direction := map[string]string{"e": "east", "w": "west", "n": "north", "s": "south", "c": "central", "ne": "northeast", "nw": "northwest", "se": "southeast", "sw": "southwest"}[m[2]]
	if direction == "" {
		return ""
	}
	return m[1] + "-" + direction + "-" + m[3]
}

// isPrivate says whether a host is an address that is not of the internet.
func isPrivate(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast())
}
