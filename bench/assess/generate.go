package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

const (
	// perApplication is how many objects application.yaml.tmpl gives.
	perApplication = 10
	// perNamespace and perFile are applications.
	perNamespace = 20
	perFile      = 10
)

// application is what the template knows of one.
type application struct {
	N         int
	Namespace string
	// Careless says that it lacks probes, limits and rights' bounds, as one in four does;
	// Open that a load balancer leads to it, as to one in ten.
	Careless, Open bool
}

// generate writes applications into a folder until there are so many objects, a multiple
// of perApplication, and gives the names of the files.
func generate(dir string, objects int) (files []string, err error) {
	if objects <= 0 || objects%perApplication != 0 {
		return nil, fmt.Errorf("generate %d objects: want a positive multiple of %d", objects, perApplication)
	}
	text, err := template.New("application").Parse(applicationTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the template of an application: %w", err)
	}
	for first := 0; first < objects/perApplication; first += perFile {
		name := filepath.Join(dir, fmt.Sprintf("%06d.yaml", first))
		if err := write(name, text, first, min(first+perFile, objects/perApplication)); err != nil {
			return nil, err
		}
		files = append(files, name)
	}
	return files, nil
}

// write writes the applications from first to before end into a file.
func write(name string, text *template.Template, first, end int) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for n := first; n < end; n++ {
		a := application{N: n, Namespace: fmt.Sprintf("team-%d", n/perNamespace), Careless: n%4 == 0, Open: n%10 == 0}
		if err := text.Execute(w, a); err != nil {
			return fmt.Errorf("write manifests: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	return nil
}
