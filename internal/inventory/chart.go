package inventory

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
)

const (
	// maxError bounds what is said of one fault, in bytes: libraries tell long stories.
	maxError = 400
	// badTemplates is how many templates that do not render are left out before the
	// whole chart is given up.
	badTemplates = 20
)

func isChartArchive(base string) bool {
	return strings.HasSuffix(base, ".tgz") || strings.HasSuffix(base, ".tar.gz")
}

// chart renders a Helm chart, and takes its objects. It asks no cluster, so lookups find
// nothing, as with `helm template`.
func (f *fileReader) chart(ctx context.Context, dir string) {
	if f.seen[dir] {
		return
	}
	f.seen[dir] = true
	lost := func(what, do string) { f.problem(Problem{File: dir, What: what, Do: do, Lost: true}) }
	c, err := loader.Load(dir)
	if err != nil {
		lost("the chart can not be read: "+oneLine(err), "see that `helm lint "+dir+"` passes")
		return
	}
	if c.Metadata.Type == "library" {
		return // it has nothing of its own
	}
	if missing := missingCharts(c); len(missing) > 0 {
		lost("its charts "+strings.Join(missing, ", ")+" are not there", "run `helm dependency build "+dir+"`")
	}
	values := map[string]any{}
	for _, file := range f.o.Values {
		text, err := os.ReadFile(file)
		if err == nil {
			var more map[string]any
			more, err = loader.LoadValues(bytes.NewReader(text))
			values = loader.MergeMaps(values, more)
		}
		if err != nil {
			f.problem(Problem{File: file, What: "the values can not be read: " + oneLine(err), Do: "correct the file", Lost: true})
		}
	}
	release := f.o.Release
	if release == "" {
		release = c.Metadata.Name
	}
	rendered, err := f.render(ctx, dir, c, values, release)
	if err != nil {
		lost("the chart does not render: "+oneLine(err), "see that `helm template "+dir+"` works, and name the values files that it needs")
		return
	}
	for _, crd := range c.CRDObjects() {
		f.text(crd.File.Data, place{file: templateFile(dir, c, crd.Filename), chart: true})
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if ext := path.Ext(name); ext == ".txt" || ext == ".tpl" || strings.HasPrefix(path.Base(name), "_") || strings.TrimSpace(rendered[name]) == "" {
			continue
		}
		f.text([]byte(rendered[name]), place{file: templateFile(dir, c, name), rendered: true, chart: true})
	}
}

// templateFile is where a template of that name, CHART/templates/..., lies.
func templateFile(dir string, c *chart.Chart, name string) string {
	return filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, c.Metadata.Name+"/")))
}

// missingCharts are those that a chart builds on and does not have.
func missingCharts(c *chart.Chart) []string {
	var missing []string
	for _, d := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(has *chart.Chart) bool { return has.Metadata.Name == d.Name }) {
			missing = append(missing, d.Name)
		}
	}
	return missing
}

var atTemplate = regexp.MustCompile(`([A-Za-z0-9_.\-/]*templates/[A-Za-z0-9_.\-/]+):(\d+)`)

// render renders the templates; those that fail are reported and left out.
func (f *fileReader) render(ctx context.Context, dir string, c *chart.Chart, values map[string]any, release string) (_ map[string]string, err error) {
	defer func() {
		if p := recover(); p != nil { // templates are programs of others, run by a library
			err = fmt.Errorf("the library gave up: %v", p)
		}
	}()
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return nil, err
	}
	o := common.ReleaseOptions{Name: release, Namespace: f.namespace, IsInstall: true, Revision: 1}
	all, err := util.ToRenderValues(c, values, o, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	for range badTemplates {
		rendered, err := engine.Engine{}.RenderWithContext(ctx, c, all)
		if err == nil {
			return rendered, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		name, line := failed(c, err)
		if name == "" {
			return nil, err
		}
		f.problem(Problem{File: templateFile(dir, c, name), Line: line, What: "the template does not render: " + oneLine(err), Do: "see that `helm template " + dir + "` works, and name the values files that it needs", Lost: true})
		if !leaveOut(c, c.Metadata.Name, name) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("more than %d templates fail", badTemplates)
}

// failed is the template of which an error tells, of those that make objects: an error in
// a part that is included names both.
func failed(c *chart.Chart, err error) (name string, line int) {
	for _, m := range atTemplate.FindAllStringSubmatch(err.Error(), -1) {
		if strings.HasPrefix(path.Base(m[1]), "_") || !strings.HasPrefix(m[1], c.Metadata.Name+"/") {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			n = 0
		}
		return m[1], n
	}
	return "", 0
}

// leaveOut takes a template out of a chart or of those that it builds on.
func leaveOut(c *chart.Chart, prefix, name string) bool {
	for i, t := range c.Templates {
		if path.Join(prefix, t.Name) == name {
			c.Templates = slices.Delete(slices.Clone(c.Templates), i, i+1)
			return true
		}
	}
	for _, d := range c.Dependencies() {
		if leaveOut(d, path.Join(prefix, "charts", d.Metadata.Name), name) {
			return true
		}
	}
	return false
}
