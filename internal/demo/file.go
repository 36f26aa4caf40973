package demo

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"dhow/internal/estate"
	"dhow/superapp/fleet"
)

// estateText is the file of the move, and landingText its landing zone, which is known before.
var (
	//go:embed estate.yaml.tmpl
	estateText string
	//go:embed landing.yaml.tmpl
	landingText string
)

// estateName is what the move is called.
const estateName = "demo"

// writeEstate writes dhow.yaml and the files with the passwords that it names.
func (s *Stage) writeEstate() error {
	type route struct{ Name, Path, Source, Target string }
	type end struct {
		Host, Port, User, Password string
		Clear                      bool // the network is this machine's own
	}
	data := struct {
		Name        string
		Postgres    []string       // databases
		MariaDB     []string       // databases of one server
		Ends        map[string]end // by engine and side
		Gate        string
		Landed      bool // the file has the landing zone too
		Routes      []route
		Sides       []estate.Side
		StageConfig // the limits and the policy
	}{Name: estateName, Postgres: s.databases(), Ends: map[string]end{}, Sides: sides, Gate: s.Gate, Landed: s.Landed != nil, StageConfig: s.cfg}
	for _, one := range s.services() {
		if one.Database == fleet.MariaDB {
			data.MariaDB = append(data.MariaDB, one.Name)
		}
		for _, path := range one.Paths {
			name := strings.Trim(path, "/")
			if name == "" {
				name = one.Name
			}
			data.Routes = append(data.Routes, route{name, path, s.places[estate.Source].Route(one.Name), s.places[estate.Target].Route(one.Name)})
		}
	}
	for _, one := range s.servers() {
		address := s.reach(one.side, one.engine, one.port)
		if s.cfg.Address != nil {
			address = s.cfg.Address(one.side, one.engine, address)
		}
		e := end{User: one.user, Password: fmt.Sprintf("%s.%s.password", one.engine, one.side)}
		var err error
		if e.Host, e.Port, err = net.SplitHostPort(address); err != nil {
			return fmt.Errorf("read the %s's address: %w", one.side, err)
		}
		e.Clear = e.Host != loopback
		if err := os.WriteFile(filepath.Join(s.Dir, e.Password), []byte(one.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the %s's password: %w", one.side, err)
		}
		data.Ends[string(one.engine)+" "+string(one.side)] = e
	}
	return s.keepEstate("estate", data)
}

// writeLanding writes dhow.yaml as far as it is known before its landing zone stands.
func (s *Stage) writeLanding() error {
	return s.keepEstate("begun", struct {
		Name string
		StageConfig
	}{estateName, s.cfg})
}

// keepEstate writes dhow.yaml by one of its templates.
func (s *Stage) keepEstate(form string, data any) error {
	forms := template.New("")
	for name, text := range map[string]string{"estate": estateText, "landing": landingText, "begun": "name: {{.Name}}\n{{template \"landing\" .}}"} {
		if _, err := forms.New(name).Parse(text); err != nil {
			return fmt.Errorf("read the estate's template: %w", err)
		}
	}
	var text bytes.Buffer
	if err := forms.ExecuteTemplate(&text, form, data); err != nil {
		return fmt.Errorf("write the estate: %w", err)
	}
	s.EstateFile = filepath.Join(s.Dir, estate.FileName)
	if err := os.WriteFile(s.EstateFile, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the estate: %w", err)
	}
	return nil
}

// The names, in the estate, of what moves as one of a MariaDB and of a Redis server.
const (
	mariadbName = "mariadb"
	redisName   = "redis"
)

// Databases are what moves, by its names in the estate.
func (s *Stage) Databases() []string {
	names := s.databases()
	if s.cfg.Whole {
		names = append(names, mariadbName, redisName)
	}
	return names
}

// server is one of the stage's, as the estate file names it.
type server struct {
	engine         estate.Engine
	side           estate.Side
	port           int
	user, password string
}

func (s *Stage) servers() []server {
	var all []server
	for _, side := range sides {
		pg := s.Server(side)
		all = append(all, server{estate.PostgreSQL, side, pg.Port, pg.User(), pg.Password()})
		if s.cfg.Whole {
			m, r := s.MariaDB[side], s.Redis[side]
			all = append(all, server{estate.MariaDB, side, m.Port, m.User(), m.Password()}, server{estate.Redis, side, r.Port, "", r.Password()})
		}
	}
	return all
}
