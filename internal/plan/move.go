package plan

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"

	"dhow/internal/estate"
	"dhow/internal/inventory"
)

const (
	// moveUser is the user that signs in at both ends to move; preflight says what it lacks.
	moveUser = "dhow"
	// gateListen is where the gate serves clients.
	gateListen = ":8080"
	// endpoint stands for the part of a server's name that AWS gives when it is made.
	endpoint = "endpoint-of-its-stack"
)

// writeEstate writes the estate of the move: the databases that dhow moves, and the
// routes of the gate.
func (m *maker) writeEstate() error {
	e := &estate.Estate{Name: m.plan.Name}
	names := map[string]bool{}
	for _, s := range m.stores {
		if !s.moves || !serviceOf(s.engine).Moved {
			continue
		}
		for _, d := range m.moved(s) {
			if names[d.Name] {
				d.Name = label(s.name + "-" + d.Name)
			}
			names[d.Name] = true
			variable := strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_"))
			d.Source.Password = estate.Secret{Env: variable + "_SOURCE_PASSWORD"}
			d.Target.Password = estate.Secret{Env: variable + "_TARGET_PASSWORD"}
			e.Databases = append(e.Databases, d)
		}
	}
	if len(e.Databases) == 0 {
		return nil
	}
	m.decide(Decision{What: "the new servers' names are known only when they are made: the estate has " + endpoint + " in their place", Do: "put the outputs of their stacks there, and the passwords into the variables that the estate names", Blocks: true})
	e.Gate = m.gate()
	e.Landing = m.landing()
	file, err := m.estateText(e)
	m.plan.Estate = &file
	return err
}

// moved are a server's entries in the estate: of PostgreSQL each database, of the others the server.
func (m *maker) moved(s *store) []estate.Database {
	source := estate.Endpoint{Host: m.sourceHost(s), Port: s.port, User: moveUser}
	target := estate.Endpoint{Host: m.targetHost(s), Port: m.targetPort(s), User: moveUser}
	for _, d := range s.all {
		if d.Encryption == "disable" {
			source.TLS.Mode = estate.TLSDisable
		}
	}
	d := estate.Database{Name: label(s.name), Source: source, Target: target}
	switch s.engine {
	case inventory.MariaDB:
		d.Engine, d.Schemas = estate.MariaDB, s.names()
		return []estate.Database{d}
	case inventory.Redis:
		d.Engine = estate.Redis
		d.Source.User, d.Target.User = "", ""
		return []estate.Database{d}
	}
	d.Engine = estate.PostgreSQL
	all := s.names()
	if len(all) == 0 {
		m.decide(Decision{Object: s.name, What: "no connection names a database of it", Do: "name those that move in the estate; it has postgres in their place", Blocks: true})
		all = []string{"postgres"}
	}
	var list []estate.Database
	for _, name := range all {
		one := d
		one.Name = label("db-" + name)
		if nameForm.MatchString(label(name)) {
			one.Name = label(name)
		}
		one.Source.Database, one.Target.Database = name, name
		list = append(list, one)
	}
	return list
}

// sourceHost is a server's name: of one in the cluster the whole one, for the movers may
// be in another namespace.
func (m *maker) sourceHost(s *store) string {
	for _, d := range s.all {
		if d.Service != nil && (d.Server != nil || d.Host == d.Service.Name || strings.HasPrefix(d.Host, d.Service.Name+".")) {
			return d.Service.Name + "." + d.Service.Namespace + ".svc"
		}
	}
	return cmp.Or(s.host, s.name)
}

// targetHost is the new server's name, with a part that is known when it is made.
func (m *maker) targetHost(s *store) string {
	if s.engine == inventory.Redis {
		return fmt.Sprintf("master.%s.%s.cache.amazonaws.com", s.name, endpoint)
	}
	return fmt.Sprintf("%s.%s.%s.rds.amazonaws.com", s.name, endpoint, m.primary.Name)
}

// targetPort is where the new server listens: where the old one did, for services may name
// the port apart from the connection, in a setting that stays as it is.
func (m *maker) targetPort(s *store) int { return cmp.Or(m.o.Databases[s.name].Port, s.port) }

// gate is what goes where during the move, nil where no users come.
func (m *maker) gate() *estate.Gate {
	g := &estate.Gate{Listen: gateListen}
	names, places := map[string]int{}, map[string]bool{}
	for i := range m.routes {
		r := &m.routes[i]
		if !r.public || !r.to.moves() || places[r.host+r.path] || strings.HasPrefix(r.host, "*") || strings.Contains(r.path, "//") {
			continue
		}
		places[r.host+r.path] = true
		name := r.to.name
		if names[r.to.name]++; names[r.to.name] > 1 {
			name = fmt.Sprintf("%s-%d", name, names[r.to.name])
		}
		source := r.upstream
		if source == "" {
			source = joined(m.newService(r.to)+"."+r.to.w.Namespace+".svc", int(servicePort(r.to)))
		}
		target := url.URL{Scheme: "https", Host: m.inside(r.to)}
		if r.to.place == EKS {
			target = url.URL{Scheme: "http", Host: joined(m.newService(r.to)+"."+r.to.namespace+".svc", int(servicePort(r.to)))}
		}
		g.Routes = append(g.Routes, estate.Route{Name: label(name), Host: r.host, Path: r.path, Source: (&url.URL{Scheme: "http", Host: source}).String(), Target: target.String()})
	}
	if len(g.Routes) == 0 {
		return nil
	}
	return g
}

// newService is the Service by which a unit is called in the new cluster.
func (m *maker) newService(u *unit) string {
	if len(u.services) > 0 {
		return u.services[0].Name
	}
	return u.name
}

// estateHead opens the estate file.
const estateHead = `# yaml-language-server: $schema=.dhow/estate.schema.json
#
# The estate of the move, as ` + "`dhow plan`" + ` made it. The passwords come from the variables
# that are named here; %s stands where a stack's output belongs.
# Then run ` + "`dhow preflight`" + `.
`

// estateText is the estate as a file for people; Load takes it.
func (m *maker) estateText(e *estate.Estate) (File, error) {
	text, err := yaml.Marshal(e)
	if err != nil {
		return File{}, fmt.Errorf("write the estate file: %w", err)
	}
	return File{estate.FileName, append(fmt.Appendf(nil, estateHead, endpoint), text...)}, nil
}
