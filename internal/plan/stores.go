package plan

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"dhow/internal/inventory"
)

// Database is one server of databases that moves.
type Database struct {
	Name   string           `json:"name"`
	Engine inventory.Engine `json:"engine"`
	// Version is the source's, "" where it is not known.
	Version string `json:"version,omitempty"`
	// Source is where it is, without user and password; Databases are those on it that somebody uses.
	Source    string   `json:"source"`
	Databases []string `json:"databases,omitempty"`
	Clients   []string `json:"clients,omitempty"`
	// Target is the service of AWS, TargetVersion its version, and Class its size.
	Target        string `json:"target"`
	TargetVersion string `json:"target_version,omitempty"`
	Class         string `json:"class,omitempty"`
	StorageGiB    int    `json:"storage_gib,omitempty"`
	Standby       bool   `json:"standby"`
	Replica       string `json:"replica,omitempty"`
	Encryption    string `json:"encryption"`
	// Measured says that its size follows from what is known, else it is assumed.
	Measured bool   `json:"measured"`
	Why      string `json:"why"`
	// Method is how the rows move.
	Method string   `json:"method"`
	Notes  []string `json:"notes,omitempty"`
	Wave   int      `json:"wave,omitempty"`
}

// store is a database server on its way.
type store struct {
	name    string
	engine  inventory.Engine
	all     []*inventory.Database
	server  *inventory.Ref
	host    string
	port    int
	managed string
	region  string
	version string
	clients []*unit
	// moves says that the plan gives it a place.
	moves bool
	wave  int
	item  storeSize
}

// managedService is what AWS runs of an engine.
type managedService struct {
	// Name is the product's, Type CloudFormation's; Service is the name of its classes
	// of instances in the catalogue of regions, "" where that has none.
	Name, Type, Service string
	// Short is the engine's name in names.
	Short string
	// Moved says that dhow moves it; Method is how, or who else does.
	Moved  bool
	Method string
}

// serviceOf is the service that takes an engine's place; its zero value where there is none.
func serviceOf(e inventory.Engine) managedService {
	switch e {
	case inventory.PostgreSQL:
		return managedService{"Amazon RDS for PostgreSQL", "AWS::RDS::DBInstance", "rds/postgres", "postgres", true,
			"dhow's mover: a parallel copy under one snapshot, then every change through its relay until the cutover"}
	case inventory.MariaDB:
		return managedService{"Amazon RDS for MariaDB", "AWS::RDS::DBInstance", "rds/mariadb", "mariadb", true,
			"dhow's mover: a parallel copy at one position of the binary log, then MariaDB's own replication until the cutover"}
	case inventory.MySQL:
		return managedService{"Amazon RDS for MySQL", "AWS::RDS::DBInstance", "rds/mysql", "mysql", false,
			"dhow has no mover for MySQL: replicate natively by GTIDs into RDS, or move it with AWS DMS, before the cutover"}
	case inventory.Redis:
		return managedService{"Amazon ElastiCache for Valkey", "AWS::ElastiCache::ReplicationGroup", "elasticache", "redis", true,
			"dhow's mover: the whole data set as a replica gets it, then every command until the cutover"}
	case inventory.Memcached:
		return managedService{"Amazon ElastiCache for Memcached", "AWS::ElastiCache::CacheCluster", "elasticache", "memcached", false,
			"nothing moves: it is a cache that fills again; expect more load on what stands behind it after the cutover"}
	case inventory.MongoDB:
		return managedService{"Amazon DocumentDB", "AWS::DocDB::DBCluster", "", "mongodb", false,
			"dhow has no mover for MongoDB: move it with AWS DMS or mongosync, before the cutover"}
	case inventory.SQLServer:
		return managedService{"Amazon RDS for SQL Server", "AWS::RDS::DBInstance", "", "sqlserver", false,
			"dhow has no mover for SQL Server: move it with native backup and restore, or AWS DMS, before the cutover"}
	case inventory.Oracle:
		return managedService{"Amazon RDS for Oracle", "AWS::RDS::DBInstance", "", "oracle", false,
			"dhow has no mover for Oracle: move it with Data Pump or AWS DMS, before the cutover"}
	case inventory.Cassandra:
		return managedService{"Amazon Keyspaces", "AWS::Cassandra::Keyspace", "", "cassandra", false,
			"dhow has no mover for Cassandra: add a data centre of its own there, or copy and write twice, before the cutover"}
	case inventory.Elasticsearch:
		return managedService{"Amazon OpenSearch Service", "AWS::OpenSearchService::Domain", "", "search", false,
			"dhow has no mover for it: restore a snapshot, or build the indexes anew from the databases"}
	case inventory.Kafka:
		return managedService{"Amazon MSK", "AWS::MSK::Cluster", "", "kafka", false,
			"dhow has no mover for Kafka: mirror the topics with MirrorMaker 2, and move consumers before producers"}
	case inventory.RabbitMQ:
		return managedService{"Amazon MQ for RabbitMQ", "AWS::AmazonMQ::Broker", "", "rabbitmq", false,
			"dhow has no mover for RabbitMQ: shovel the queues, or let them run empty during the cutover"}
	case inventory.NATS, inventory.Etcd:
	}
	return managedService{}
}

// findStores gathers the databases by the servers that hold them.
func (m *maker) findStores() error {
	byKey := map[string]*store{}
	for i := range m.inv.Databases {
		d := &m.inv.Databases[i]
		key := string(d.Engine) + " " + storeKey(d)
		s := byKey[key]
		if s == nil {
			s = &store{engine: d.Engine, server: d.Server, host: d.Host, port: d.Port, managed: d.Managed, region: d.Region}
			byKey[key] = s
			m.stores = append(m.stores, s)
		}
		s.all = append(s.all, d)
		s.host = cmp.Or(s.host, d.Host)
		for _, c := range d.Clients {
			if u := m.byRef[c]; u != nil && !slices.Contains(s.clients, u) {
				s.clients = append(s.clients, u)
			}
		}
	}
	m.nameClients()
	m.nameStores()
	for _, s := range m.stores {
		slices.SortFunc(s.clients, byID)
		s.version = cmp.Or(m.o.Databases[s.name].Version, s.said().Version, m.imageVersion(s))
		service := serviceOf(s.engine)
		switch {
		case service.Name == "":
			m.decide(Decision{Object: s.name, What: fmt.Sprintf("AWS has no managed %s", s.engine), Do: "it goes as pods with the workloads: see that its volumes are copied"})
		case len(s.clients) == 0 && s.server == nil:
			m.decide(Decision{Object: s.name, What: fmt.Sprintf("nothing connects to %s", s.source()), Do: "find out whether it is another name of a server in the plan, or unused: it does not move"})
		default:
			s.moves = true
			for _, u := range s.clients {
				u.stores = append(u.stores, s)
			}
		}
	}
	return nil
}

// nameClients finds workloads that name a server without saying what it is: its host
// stands in a plain setting, and that is enough.
func (m *maker) nameClients() {
	for _, u := range m.units {
		for i := range u.w.Containers {
			c := &u.w.Containers[i]
			var texts []string
			for _, s := range c.Env {
				texts = append(texts, s.Value)
			}
			for _, text := range slices.Concat(texts, c.Command, c.Args) {
				for _, s := range m.stores {
					if s.namedIn(text) && !slices.Contains(s.clients, u) {
						s.clients = append(s.clients, u)
					}
				}
			}
		}
	}
}

// namedIn says that a text names a server by its address or its whole name: a short
// name may be any word.
func (s *store) namedIn(text string) bool {
	return slices.ContainsFunc(s.all, func(d *inventory.Database) bool {
		return strings.Contains(d.Host, ".") && holds(text, d.Host)
	})
}

// holds says that a text has a host in it that is no part of a longer one.
func holds(text, host string) bool {
	part := func(c byte) bool {
		return c == '.' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for at := 0; ; {
		i := strings.Index(text[at:], host)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(host)
		if (i == 0 || !part(text[i-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		at = i + 1
	}
}

// storeKey tells servers apart: by what runs it, by its Service, by its address.
func storeKey(d *inventory.Database) string {
	switch {
	case d.Server != nil:
		return d.Server.String()
	case d.Service != nil:
		return d.Service.String()
	}
	return net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
}

// nameStores names servers after the plan and their engine, and after where they are
// if there are several of one.
func (m *maker) nameStores() {
	slices.SortFunc(m.stores, func(a, b *store) int {
		return cmp.Or(strings.Compare(string(a.engine), string(b.engine)), cmp.Compare(len(b.clients), len(a.clients)), strings.Compare(a.source(), b.source()))
	})
	count := map[inventory.Engine]int{}
	for _, s := range m.stores {
		if len(s.clients) > 0 || s.server != nil {
			count[s.engine]++
		}
	}
	taken := map[string]bool{}
	for _, s := range m.stores {
		base := m.plan.Name + "-" + cmp.Or(serviceOf(s.engine).Short, string(s.engine))
		s.name = base
		if count[s.engine] > 1 || taken[base] {
			s.name = label(base + "-" + s.place())
		}
		for n := 2; taken[s.name]; n++ {
			s.name = fmt.Sprintf("%s-%d", label(base), n)
		}
		taken[s.name] = true
	}
}

// place is a short name of where a server is.
func (s *store) place() string {
	switch {
	case s.server != nil:
		return s.server.Name
	case address(s.host).IsValid():
		return s.host
	}
	first, _, _ := strings.Cut(s.host, ".")
	return first
}

// source is where a server is, without user and password.
func (s *store) source() string {
	if s.host == "" && s.server != nil {
		return s.server.String()
	}
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// names are the databases on a server that somebody names, sorted.
func (s *store) names() []string {
	var names []string
	for _, d := range s.all {
		if d.Name != "" {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// said is what a server said of itself, with the sizes of all of its databases that were asked.
func (s *store) said() inventory.Answers {
	var all inventory.Answers
	for _, d := range s.all {
		a := d.Answers
		if a == nil {
			continue
		}
		all.Product, all.Version = cmp.Or(all.Product, a.Product), cmp.Or(all.Version, a.Version)
		if s.engine == inventory.Redis || d.Name == "" {
			all.Bytes, all.Items = max(all.Bytes, a.Bytes), max(all.Items, a.Items)
		} else {
			all.Bytes, all.Items = all.Bytes+a.Bytes, all.Items+a.Items
		}
		// Connections and load are the server's, whichever database was asked.
		all.Connections, all.MaxConnections, all.PerSecond = max(all.Connections, a.Connections), max(all.MaxConnections, a.MaxConnections), max(all.PerSecond, a.PerSecond)
		all.Extensions = append(all.Extensions, a.Extensions...)
	}
	slices.Sort(all.Extensions)
	all.Extensions = slices.Compact(all.Extensions)
	return all
}

// imageVersion is the version that the tag of a server's image tells.
func (m *maker) imageVersion(s *store) string {
	if s.server == nil {
		return ""
	}
	w := m.inv.Workload(*s.server)
	if w == nil {
		return ""
	}
	for i := range w.Containers {
		c := &w.Containers[i]
		if c.Init {
			continue
		}
		if v := leadingVersion(c.Image.Tag); v != "" {
			return v
		}
	}
	return ""
}

// leadingVersion is the number that a tag begins with: 13.4 of "13.4-alpine".
func leadingVersion(tag string) string {
	tag = strings.TrimPrefix(tag, "v")
	end := 0
	for end < len(tag) && (tag[end] >= '0' && tag[end] <= '9' || tag[end] == '.') {
		end++
	}
	return strings.Trim(tag[:end], ".")
}

// describeStore fills the row of a server in the document.
func (m *maker) describeStore(s *store) Database {
	service := serviceOf(s.engine)
	d := Database{Name: s.name, Engine: s.engine, Version: s.version, Source: s.source(), Databases: s.names(), Target: service.Name, Method: service.Method,
		Encryption: "at rest with a key of KMS, on the way with TLS", Standby: s.item.standby, Class: s.item.class, StorageGiB: s.item.storageGiB, TargetVersion: s.item.version,
		Measured: s.item.measured, Why: s.item.why, Wave: s.wave}
	if m.dr != nil && service.Moved {
		d.Replica = m.dr.Name
	}
	for _, u := range s.clients {
		d.Clients = append(d.Clients, u.id())
	}
	if s.version == "" {
		d.Notes = append(d.Notes, "its version is not known here: `dhow preflight` asks the server")
	}
	if e := s.said().Extensions; len(e) > 0 {
		d.Notes = append(d.Notes, "it has "+strings.Join(e, ", ")+": see that the new server offers them")
	}
	if s.managed != "" {
		text := "it is " + s.managed + " already"
		if s.region != "" {
			text += ", in " + s.region
		}
		d.Notes = append(d.Notes, text)
	}
	users := map[string]int{}
	for _, one := range s.all {
		if one.Encryption == "disable" {
			d.Notes = append(d.Notes, fmt.Sprintf("connections to %s are in the clear today; in the new place they are encrypted and checked", cmp.Or(one.Name, "it")))
		}
		if one.User != "" {
			users[one.User] += len(one.Clients)
		}
	}
	for user, n := range users {
		if n > 1 {
			d.Notes = append(d.Notes, fmt.Sprintf("%d workloads sign in as %s; in the new place each has a user of its own", n, user))
		}
	}
	d.Notes = append(d.Notes, s.item.notes...)
	slices.Sort(d.Notes)
	return d
}
