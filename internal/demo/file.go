package demo

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"dhow/internal/estate"
	"dhow/internal/pgserver"
)

//go:embed estate.yaml.tmpl
var estateText string

// writeEstate writes dhow.yaml and the files with the passwords that it names.
func (s *Stage) writeEstate() error {
	type route struct{ Name, Path, Source, Target string }
	type database struct{ Name string }
	data := struct {
		Databases              []database
		SourceHost, TargetHost string
		SourcePort, TargetPort string
		User, Gate             string
		Routes                 []route
		StageConfig            // the limits and the policy
	}{User: s.Source.User(), Gate: s.Gate, StageConfig: s.cfg}
	for _, db := range s.databases() {
		data.Databases = append(data.Databases, database{db})
	}
	for _, one := range s.services() {
		for _, path := range one.Paths {
			name := strings.Trim(path, "/")
			if name == "" {
				name = one.Name
			}
			data.Routes = append(data.Routes, route{name, path, s.places[estate.Source].Address(one.Name), s.places[estate.Target].Address(one.Name)})
		}
	}
	for _, one := range []struct {
		side       estate.Side
		server     *pgserver.Server
		through    func(string) string
		host, port *string
	}{
		{estate.Source, s.Source, s.cfg.SourceAddress, &data.SourceHost, &data.SourcePort},
		{estate.Target, s.Target, s.cfg.TargetAddress, &data.TargetHost, &data.TargetPort},
	} {
		address := net.JoinHostPort(loopback, strconv.Itoa(one.server.Port))
		if one.through != nil {
			address = one.through(address)
		}
		var err error
		if *one.host, *one.port, err = net.SplitHostPort(address); err != nil {
			return fmt.Errorf("read the %s's address: %w", one.side, err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, string(one.side)+".password"), []byte(one.server.Password()+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the %s's password: %w", one.side, err)
		}
	}
	t, err := template.New("estate").Parse(estateText)
	if err != nil {
		return fmt.Errorf("read the estate's template: %w", err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, data); err != nil {
		return fmt.Errorf("write the estate: %w", err)
	}
	s.EstateFile = filepath.Join(s.Dir, "dhow.yaml")
	if err := os.WriteFile(s.EstateFile, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the estate: %w", err)
	}
	return nil
}
