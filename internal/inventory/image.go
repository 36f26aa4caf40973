package inventory

import (
	"slices"
	"strings"
)

// parseImage takes an image's name apart. A library of names would refuse what is not
// well formed; here that is somebody's manifest, and is to be told of.
func parseImage(text string) Image {
	i := Image{Text: text}
	rest := text
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		rest, i.Digest = rest[:at], rest[at+1:]
	}
	if at := strings.LastIndexByte(rest, ':'); at >= 0 && !strings.Contains(rest[at:], "/") {
		rest, i.Tag = rest[:at], rest[at+1:]
	}
	first, path, several := strings.Cut(rest, "/")
	if several && (strings.ContainsAny(first, ".:") || first == "localhost") {
		i.Registry, i.Repository = first, path
	} else {
		i.Registry, i.Repository = "docker.io", rest
		if !several && rest != "" {
			i.Repository = "library/" + rest
		}
	}
	return i
}

// imageEngine is the database that an image runs, "" if none: exporters, operators, web
// interfaces and clients of one are not it.
func imageEngine(i Image) Engine {
	name := strings.ToLower(i.Repository[strings.LastIndexByte(i.Repository, '/')+1:])
	for _, other := range []string{"exporter", "operator", "admin", "backup", "client", "proxy", "ui", "insight", "express", "commander", "bouncer", "pool", "sentinel", "tools", "manager", "console", "schema", "migrat", "init", "connect", "stan", "box", "streaming", "reloader", "surveyor"} {
		if strings.Contains(name, other) {
			return ""
		}
	}
	for _, known := range []struct {
		word   string
		engine Engine
	}{
		{"postgis", PostgreSQL}, {"postgres", PostgreSQL}, {"timescaledb", PostgreSQL}, {"pgvector", PostgreSQL}, {"spilo", PostgreSQL}, {"mariadb", MariaDB}, {"percona-server", MySQL}, {"mysql", MySQL},
		{"redis", Redis}, {"valkey", Redis}, {"keydb", Redis}, {"mongo", MongoDB}, {"mssql", SQLServer}, {"azure-sql-edge", SQLServer}, {"oracle", Oracle}, {"cassandra", Cassandra}, {"scylla", Cassandra},
		{"elasticsearch", Elasticsearch}, {"opensearch", Elasticsearch}, {"memcached", Memcached}, {"kafka", Kafka}, {"redpanda", Kafka}, {"rabbitmq", RabbitMQ}, {"nats", NATS}, {"etcd", Etcd},
	} {
		if name == known.word || strings.HasPrefix(name, known.word+"-") || strings.HasPrefix(name, known.word+"_") || strings.HasSuffix(name, "-"+known.word) ||
			known.word == "postgres" && name == "postgresql" || known.word == "postgres" && strings.HasPrefix(name, "postgresql-") || name == known.word+"db" || strings.HasSuffix(name, "-"+known.word+"db") {
			return known.engine
		}
	}
	if strings.Contains(i.Repository, "mssql/server") {
		return SQLServer
	}
	return ""
}

// images lists all that containers name.
func (i *Inventory) images() {
	at := map[string]*Image{}
	for _, w := range i.Workloads {
		for _, c := range w.Containers {
			if c.Container.Image == "" {
				continue
			}
			one, ok := at[c.Container.Image]
			if !ok {
				p := c.Image
				one = &p
				at[c.Container.Image] = one
			}
			one.Uses = append(one.Uses, Place{w.Ref, c.Path + ".image"})
			one.Running = append(one.Running, w.Digests[c.Name]...)
		}
	}
	for _, one := range at {
		slices.Sort(one.Running)
		one.Running = slices.Compact(one.Running)
		i.Images = append(i.Images, *one)
	}
	slices.SortFunc(i.Images, func(a, b Image) int { return strings.Compare(a.Text, b.Text) })
}
