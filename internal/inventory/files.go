package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// maxFile bounds one file of manifests, in bytes: a hundred thousand objects in one
	// have a fifth of it.
	maxFile = 1 << 30
	// maxBeside bounds a file that is kept as text, in bytes.
	maxBeside = 1 << 20
	// maxBesides bounds how many of those are kept.
	maxBesides = 1000
)

// FileOptions say how manifests are to be read; the zero value will do.
type FileOptions struct {
	// Values are values files for Helm charts, later ones override earlier ones.
	Values []string
	// Release is the release's name in charts; "" means the chart's name.
	Release string
	// Namespace is where objects go that name none; "" means DefaultNamespace.
	Namespace string
}

// FromFiles reads manifests: files, folders with all below them, Helm charts (folders with
// a Chart.yaml, and .tgz archives), kustomizations and Compose files, in any mixture. A folder is searched; a
// path that is itself a chart or a kustomization is taken as a whole. The error is
// of a path that is not there, or ctx's; whatever else is wrong is a Problem.
func FromFiles(ctx context.Context, o FileOptions, paths ...string) (*Inventory, error) {
	if len(paths) == 0 {
		return nil, errors.New("read the manifests: no path is given")
	}
	f := &fileReader{o: o, reading: newReading(o.Namespace), seen: map[string]bool{}}
	for _, p := range paths {
		if err := f.find(ctx, filepath.Clean(p)); err != nil {
			return nil, fmt.Errorf("read the manifests in %s: %w", p, err)
		}
	}
	if err := f.documents(ctx); err != nil {
		return nil, fmt.Errorf("read the manifests: %w", err)
	}
	inv := f.gather(ctx)
	if err := inv.relate(ctx); err != nil {
		return nil, fmt.Errorf("relate the objects: %w", err)
	}
	return inv, nil
}

// fileReader reads one FromFiles.
type fileReader struct {
	*reading
	o       FileOptions
	seen    map[string]bool // files that were taken, by whatever way
	tasks   []task
	parts   []part
	compose [][]string // files of one Compose project
	beside  []File
	loose   []Problem
	own     []part // of charts, kustomizations and Compose files
}

// task is a document to be read.
type task struct {
	document
	place
}

func (f *fileReader) problem(p Problem) { f.loose = append(f.loose, p) }

// find takes a path that was asked for.
func (f *fileReader) find(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		switch base := filepath.Base(path); {
		case isChartArchive(base):
			f.chart(ctx, path)
		case base == "Chart.yaml":
			f.chart(ctx, filepath.Dir(path))
		case isKustomization(base):
			f.kustomization(ctx, filepath.Dir(path))
		default:
			f.file(path, true)
		}
		return ctx.Err()
	}
	w := &walker{fileReader: f, root: path}
	return w.walk(ctx)
}

// walker searches a folder.
type walker struct {
	*fileReader
	root           string
	charts         []string
	kustomizations []string
	files          []string
}

// walk looks through the folder first, for what belongs to a chart or a kustomization is
// not to be read again by itself.
func (w *walker) walk(ctx context.Context) error {
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.problem(Problem{File: path, What: "can not be read: " + cause(err), Do: "give the right to read it", Lost: true})
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return w.folder(path, d)
		}
		if d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0 {
			w.files = append(w.files, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, dir := range w.charts {
		w.chart(ctx, dir)
	}
	w.kustomize(ctx)
	taken := map[string]bool{}
	for _, path := range w.files {
		dir := filepath.Dir(path)
		if isCompose(filepath.Base(path)) && !taken[dir] {
			taken[dir] = w.composeFolder(dir)
		}
		if !w.seen[path] && !isKustomization(filepath.Base(path)) {
			w.file(path, false)
		}
	}
	return ctx.Err()
}

// folder looks at a folder on the way.
func (w *walker) folder(path string, d fs.DirEntry) error {
	if path != w.root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
		return fs.SkipDir
	}
	if exists(filepath.Join(path, "Chart.yaml")) {
		w.charts = append(w.charts, path)
		return fs.SkipDir
	}
	for _, name := range kustomizationNames() {
		if exists(filepath.Join(path, name)) {
			w.kustomizations = append(w.kustomizations, path)
			break
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cause is why a file could not be read, without its path, which stands beside it.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// file takes a file apart into documents, if it may hold manifests.
func (f *fileReader) file(path string, asked bool) {
	if f.seen[path] {
		return
	}
	ext := strings.ToLower(filepath.Ext(path))
	manifest := ext == ".yaml" || ext == ".yml" || ext == ".json"
	kind := besideKind(path)
	if !manifest && kind == "" && !asked {
		return
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return
	}
	if err == nil && (manifest && info.Size() > maxFile || !manifest && info.Size() > maxBeside) {
		f.problem(Problem{File: path, What: fmt.Sprintf("has %d bytes, which is too many", info.Size()), Do: "take the file apart", Lost: true})
		return
	}
	var all []byte
	if err == nil {
		all, err = os.ReadFile(path)
	}
	if err != nil {
		f.problem(Problem{File: path, What: "can not be read: " + cause(err), Do: "give the right to read it", Lost: true})
		return
	}
	f.seen[path] = true
	if kind != "" || !manifest && !bytes.Contains(all, []byte("apiVersion")) {
		f.keep(path, kind, all)
		return
	}
	if !asked && !looksLikeManifest(all, ext) {
		return
	}
	f.text(all, place{file: path, asked: asked})
}

// text takes a text apart into documents, to be read later.
func (f *fileReader) text(all []byte, at place) {
	for _, d := range split(all) {
		f.tasks = append(f.tasks, task{d, at})
	}
}

// looksLikeManifest says whether a file that was found is worth reading: a repository has
// many YAML files that are none, and their faults are nobody's here.
func looksLikeManifest(all []byte, ext string) bool {
	if ext == ".json" {
		return bytes.Contains(all, []byte(`"apiVersion"`)) && bytes.Contains(all, []byte(`"kind"`))
	}
	return bytes.Contains(all, []byte("apiVersion")) && bytes.Contains(all, []byte("kind"))
}

// keep keeps a file that is not of Kubernetes.
func (f *fileReader) keep(path, kind string, all []byte) {
	if len(f.beside) >= maxBesides || len(all) > maxBeside || bytes.IndexByte(all, 0) >= 0 {
		return
	}
	m := masker{key: f.maskKey}
	f.beside = append(f.beside, File{Path: path, Kind: kind, Text: m.file("", string(all))})
	for _, p := range m.found {
		p.File = path
		f.own = append(f.own, part{plain: []PlainSecret{p}})
	}
}

// besideKind tells configuration that is not of Kubernetes by its file's name; "" if it is none.
func besideKind(path string) string {
	base := strings.ToLower(filepath.Base(path))
	dir := strings.ToLower(filepath.Base(filepath.Dir(path)))
	switch {
	case base == "caddyfile":
		return "caddy"
	case strings.HasPrefix(base, "haproxy") && (strings.HasSuffix(base, ".cfg") || strings.HasSuffix(base, ".conf")):
		return "haproxy"
	case strings.HasSuffix(base, ".conf") && (strings.Contains(base, "nginx") || strings.Contains(dir, "nginx") || dir == "conf.d" || dir == "sites-enabled" || dir == "sites-available"):
		return "nginx"
	case strings.HasSuffix(base, ".conf") && (strings.Contains(base, "httpd") || strings.Contains(base, "apache") || strings.Contains(dir, "apache")):
		return "apache"
	case (base == "envoy.yaml" || base == "envoy.yml"):
		return "envoy"
	case (base == "traefik.yaml" || base == "traefik.yml" || base == "traefik.toml"):
		return "traefik"
	case strings.HasSuffix(base, ".service") && (dir == "system" || dir == "systemd"):
		return "systemd"
	}
	return ""
}

// documents reads all documents, side by side.
func (f *fileReader) documents(ctx context.Context) error {
	f.parts = make([]part, len(f.tasks))
	const batch = 16 // so that the workers do not fight for the counter
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for ctx.Err() == nil {
				from := int(next.Add(batch)) - batch
				if from >= len(f.tasks) {
					return nil
				}
				for i := from; i < min(from+batch, len(f.tasks)); i++ {
					f.parts[i] = f.document(f.tasks[i].document, f.tasks[i].place)
					f.tasks[i].text = nil
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// gather puts the parts together.
func (f *fileReader) gather(ctx context.Context) *Inventory {
	inv := &Inventory{Files: f.beside, Problems: f.loose}
	composed := map[string]bool{}
	for i, p := range f.parts {
		if at := f.tasks[i].place; p.compose && !composed[at.file] {
			composed[at.file] = true
			f.compose = append(f.compose, []string{at.file})
		}
	}
	for _, files := range f.compose {
		f.own = append(f.own, f.project(ctx, files))
	}
	for _, p := range slices.Concat(f.own, f.parts) {
		inv.Objects = append(inv.Objects, p.objects...)
		inv.Problems = append(inv.Problems, p.problems...)
		inv.Plain = append(inv.Plain, p.plain...)
	}
	inv.duplicates()
	return inv
}

// duplicates leaves one object of each name, that which was read first, and says so.
func (i *Inventory) duplicates() {
	first := make(map[Ref]*Object, len(i.Objects))
	dropped := map[*Object]bool{}
	kept := i.Objects[:0]
	for _, o := range i.Objects {
		f, twice := first[o.Ref]
		if !twice {
			first[o.Ref] = o
			kept = append(kept, o)
			continue
		}
		dropped[o] = true
		same := equalContent(f, o)
		what, do := "the object is also in "+f.Source.At("")+", with other content: that one is taken", "keep one of them, or name only the paths that are applied together"
		if same {
			what, do = "the object is also in "+f.Source.At("")+", the same", "keep one of them"
		}
		ref := o.Ref
		i.Problems = append(i.Problems, Problem{File: o.Source.File, Line: o.Source.Line, Context: o.Source.Context, Object: &ref, What: what, Do: do, Lost: !same})
	}
	i.Objects = kept
	if len(dropped) > 0 {
		i.Plain = slices.DeleteFunc(i.Plain, func(p PlainSecret) bool { return dropped[p.in] })
	}
}
