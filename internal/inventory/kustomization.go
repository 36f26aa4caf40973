package inventory

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func kustomizationNames() []string { return konfig.RecognizedKustomizationFileNames() }

func isKustomization(base string) bool { return slices.Contains(kustomizationNames(), base) }

// kustomizationFile is the file of a kustomization's folder, "" if there is none.
func kustomizationFile(dir string) string {
	for _, name := range kustomizationNames() {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return ""
}

// kustomization builds one, and takes its objects. Nothing is fetched from the network.
func (f *fileReader) kustomization(ctx context.Context, dir string) {
	at := kustomizationFile(dir)
	f.covers(dir)
	if ctx.Err() != nil {
		return
	}
	if remote := remoteResource(dir, map[string]bool{}); remote != "" {
		f.problem(Problem{File: at, What: "the kustomization takes " + shorten(remote, maxEvidence) + " from the network, which is not fetched", Do: "render it with `kubectl kustomize` and give that file", Lost: true})
		return
	}
	o := krusty.MakeDefaultOptions()
	o.AddManagedbyLabel = false
	o.LoadRestrictions = types.LoadRestrictionsRootOnly
	o.PluginConfig = types.DisabledPluginConfig()
	made, err := build(o, dir)
	if err != nil {
		f.problem(Problem{File: at, What: "the kustomization does not render: " + oneLine(err), Do: "see that `kubectl kustomize " + dir + "` works", Lost: true})
		return
	}
	for _, res := range made {
		text, err := res.AsYAML()
		if err != nil {
			f.problem(Problem{File: at, What: "write the object " + res.CurId().String() + ": " + oneLine(err), Lost: true})
			continue
		}
		f.text(text, place{file: at, rendered: true, asked: true})
	}
}

// build runs the library, which has been known to panic on odd files.
func build(o *krusty.Options, dir string) (made []*resource.Resource, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library gave up: %v", p)
		}
	}()
	m, err := krusty.MakeKustomizer(o).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	return m.Resources(), nil
}

// parts are the paths that a kustomization names.
func kustomizationParts(dir string) (named []string) {
	var k struct {
		Resources             []string `yaml:"resources"`
		Bases                 []string `yaml:"bases"`
		Components            []string `yaml:"components"`
		CRDs                  []string `yaml:"crds"`
		PatchesStrategicMerge []string `yaml:"patchesStrategicMerge"`
		Patches               []struct {
			Path string `yaml:"path"`
		} `yaml:"patches"`
		PatchesJSON6902 []struct {
			Path string `yaml:"path"`
		} `yaml:"patchesJson6902"`
		Transformers []string `yaml:"transformers"`
		Generators   []string `yaml:"generators"`
	}
	path := kustomizationFile(dir)
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // building it says so
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil // building it says so
	}
	named = slices.Concat(k.Resources, k.Bases, k.Components, k.CRDs, k.PatchesStrategicMerge, k.Transformers, k.Generators)
	for _, p := range slices.Concat(k.Patches, k.PatchesJSON6902) {
		if p.Path != "" {
			named = append(named, p.Path)
		}
	}
	return slices.DeleteFunc(named, func(s string) bool { return strings.ContainsRune(s, '\n') })
}

// covers marks the files that a kustomization has, with all that it builds on: they are
// not read again by themselves.
func (f *fileReader) covers(dir string) {
	own := kustomizationFile(dir)
	if own == "" || f.seen[own] {
		return
	}
	f.seen[own] = true
	for _, p := range kustomizationParts(dir) {
		path := filepath.Join(dir, p)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			f.covers(path)
		} else {
			f.seen[path] = true
		}
	}
}

// remoteResource is the first that a kustomization, or one that it builds on, takes from elsewhere.
func remoteResource(dir string, been map[string]bool) string {
	if been[dir] {
		return ""
	}
	been[dir] = true
	for _, p := range kustomizationParts(dir) {
		path := filepath.Join(dir, p)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			if r := remoteResource(path, been); r != "" {
				return r
			}
		case err == nil:
		case strings.Contains(p, "://") || strings.HasPrefix(p, "github.com/") || strings.HasPrefix(p, "git@") || strings.Contains(p, "?ref="):
			return p
		}
	}
	return ""
}

// kustomize builds the kustomizations of a folder on which no other of them builds.
// Several that build on one base are the same application in several places, of which
// only the first is taken.
func (w *walker) kustomize(ctx context.Context) {
	within := map[string]bool{}
	base := map[string]string{} // of a base, who takes it
	var tops []string
	for _, dir := range w.kustomizations {
		for _, p := range kustomizationParts(dir) {
			within[filepath.Join(dir, p)] = true
		}
	}
	for _, dir := range w.kustomizations {
		switch {
		case within[dir]:
		case isComponent(dir):
			w.covers(dir)
			w.problem(Problem{File: kustomizationFile(dir), What: "it is a component that no kustomization here takes, so it is left out", Do: "name it among the components of a kustomization if it is meant"})
		default:
			tops = append(tops, dir)
		}
	}
	for _, dir := range tops {
		other := ""
		for _, b := range basesOf(dir, map[string]bool{}) {
			if o, ok := base[b]; ok && o != dir {
				other = o
			} else {
				base[b] = dir
			}
		}
		if other != "" {
			w.covers(dir)
			w.problem(Problem{File: kustomizationFile(dir), What: "it builds on the same as " + other + ", so it is the same application in another place: it is left out", Do: "name the one kustomization that is meant as the path", Lost: true})
			continue
		}
		w.kustomization(ctx, dir)
	}
}

// basesOf are the folders on which a kustomization builds, components left out.
func basesOf(dir string, been map[string]bool) (bases []string) {
	for _, p := range kustomizationParts(dir) {
		path := filepath.Join(dir, p)
		if kustomizationFile(path) == "" || been[path] || isComponent(path) {
			continue
		}
		been[path] = true
		bases = append(bases, path)
		bases = append(bases, basesOf(path, been)...)
	}
	return bases
}

func isComponent(dir string) bool {
	text, err := os.ReadFile(kustomizationFile(dir))
	return err == nil && strings.Contains(string(text), "kind: Component")
}

// oneLine is an error on one line.
func oneLine(err error) string {
	return shorten(strings.Join(strings.Fields(err.Error()), " "), maxError)
}
