package inventory

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composeVersion stands for an apiVersion.
const composeVersion = "compose"

func isCompose(base string) bool {
	ext := filepath.Ext(base)
	name := strings.TrimSuffix(base, ext)
	return (ext == ".yaml" || ext == ".yml") && (strings.HasPrefix(name, "compose") || strings.HasPrefix(name, "docker-compose"))
}

// composeFolder takes the Compose files of a folder: the main one with its override, as
// `docker compose` does, and each of the others by itself, if there is no main one. It
// says whether there was any.
func (f *fileReader) composeFolder(dir string) bool {
	for _, main := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
		path := filepath.Join(dir, main)
		if f.seen[path] || !exists(path) {
			continue
		}
		project := []string{path}
		stem := strings.TrimSuffix(strings.TrimSuffix(path, ".yml"), ".yaml")
		for _, ext := range []string{".override.yml", ".override.yaml"} {
			if exists(stem + ext) {
				project = append(project, stem+ext)
				break
			}
		}
		f.compose = append(f.compose, project)
		for _, p := range project {
			f.seen[p] = true
		}
		others, err := filepath.Glob(stem + ".*")
		if err != nil {
			others = nil
		}
		for _, o := range others {
			if !f.seen[o] && isCompose(filepath.Base(o)) {
				f.seen[o] = true
				f.problem(Problem{File: o, What: "it varies " + path + " for another purpose, so it is left out", Do: "name it as a path if it is meant"})
			}
		}
		return true
	}
	others, err := filepath.Glob(filepath.Join(dir, "*compose*"))
	if err != nil {
		return false
	}
	for _, o := range others {
		if isCompose(filepath.Base(o)) && !f.seen[o] {
			f.seen[o] = true
			f.compose = append(f.compose, []string{o})
		}
	}
	return true
}

// project reads one Compose project of one or several files.
func (f *fileReader) project(ctx context.Context, files []string) part {
	var out part
	bad := func(err error) part {
		what := oneLine(err)
		line := 0
		if m := composeLine.FindStringSubmatch(what); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				line = n
			}
		}
		out.problems = append(out.problems, Problem{File: files[0], Line: line, What: "the Compose file can not be read: " + what, Do: "see that `docker compose config` works", Lost: true})
		return out
	}
	p, err := loadProject(ctx, files, true)
	if err != nil {
		// A file of variables that is not in the repository must not hide the services.
		whole := err
		if p, err = loadProject(ctx, files, false); err != nil {
			return bad(err)
		}
		out.problems = append(out.problems, Problem{File: files[0], What: "a file of variables can not be read: " + oneLine(whole), Do: "put it beside the Compose file", Lost: true})
	}
	var raw *node // of the first file, for lines
	if text, err := os.ReadFile(files[0]); err == nil {
		if docs := split(text); len(docs) > 0 {
			if n, _, err := docs[0].parse(); err == nil {
				raw = n
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		n := composeNode(s, raw.at("services", name))
		f.object(n, composeVersion, KindCompose, place{file: files[0]}, &out)
	}
	return out
}

var composeLine = regexp.MustCompile(`\bline (\d+)`)

// loadProject runs the library. Variables that only the shell of whoever starts the project
// has are empty here, as there; nothing of this process' environment is looked at.
func loadProject(ctx context.Context, files []string, resolve bool) (p *types.Project, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library gave up: %v", r)
		}
	}()
	dir := filepath.Dir(files[0])
	options := []cli.ProjectOptionsFn{cli.WithWorkingDirectory(dir), cli.WithName("project"), cli.WithDotEnv, cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true)}
	if !resolve {
		options = append(options, cli.WithoutEnvironmentResolution)
	}
	o, err := cli.NewProjectOptions(files, options...)
	if err != nil {
		return nil, err
	}
	return o.LoadProject(ctx) // reads files, no network: there is no resource loader
}

// composeNode writes a service as a workload would be written, with the lines of the file.
func composeNode(s types.ServiceConfig, raw *node) *node {
	b := composer{raw: raw, line: 1}
	if raw != nil {
		b.line = raw.line
	}
	container := b.object()
	b.put(container, "name", b.text(s.Name, b.line))
	if s.Image != "" {
		b.put(container, "image", b.text(s.Image, b.at("image")))
	} else if s.Build != nil {
		b.put(container, "image", b.text(s.Name, b.at("build")))
	}
	if len(s.Entrypoint) > 0 {
		b.put(container, "command", b.texts(s.Entrypoint, b.at("entrypoint")))
	}
	if len(s.Command) > 0 {
		b.put(container, "args", b.texts(s.Command, b.at("command")))
	}
	if env := b.env(s.Environment); env != nil {
		b.put(container, "env", env)
	}
	if ports := b.ports(s); ports != nil {
		b.put(container, "ports", ports)
	}
	if r := b.resources(s); r != nil {
		b.put(container, "resources", r)
	}
	if h := s.HealthCheck; h != nil && !h.Disable && len(h.Test) > 1 {
		line := b.at("healthcheck")
		command := []string(h.Test[1:])
		if h.Test[0] == "CMD-SHELL" {
			command = append([]string{"sh", "-c"}, command...)
		}
		exec := b.object()
		b.put(exec, "command", b.texts(command, line))
		probe := b.object()
		b.put(probe, "exec", exec)
		b.put(container, "livenessProbe", probe)
	}
	if security := b.security(s); len(security.keys) > 0 {
		b.put(container, "securityContext", security)
	}
	spec := b.object()
	containers := &node{form: sequence, line: b.line, kids: []*node{container}}
	b.put(spec, "containers", containers)
	if s.NetworkMode == "host" {
		b.put(spec, "hostNetwork", &node{form: literal, text: "true", line: b.at("network_mode")})
	}
	labels := b.object()
	b.put(labels, "compose.service", b.text(s.Name, b.line))
	meta := b.object()
	b.put(meta, "labels", labels)
	template := b.object()
	b.put(template, "metadata", meta)
	b.put(template, "spec", spec)
	whole := b.object()
	b.put(whole, "replicas", b.number(s.GetScale(), b.at("scale")))
	b.put(whole, "template", template)
	name := b.object()
	b.put(name, "name", b.text(s.Name, b.line))
	n := b.object()
	b.put(n, "apiVersion", b.text(composeVersion, b.line))
	b.put(n, "kind", b.text(KindCompose, b.line))
	b.put(n, "metadata", name)
	b.put(n, "spec", whole)
	return n
}

// composer makes nodes that have the lines of a Compose file.
type composer struct {
	raw  *node
	line int32
}

func (b composer) at(keys ...string) int32 {
	line, n := b.line, b.raw
	for _, k := range keys {
		i := -1
		if n != nil {
			i = slices.Index(n.keys, k)
		}
		if i < 0 {
			break
		}
		line, n = n.keyLines[i], n.kids[i]
	}
	return line
}

func (b composer) object() *node { return &node{form: mapping, line: b.line} }

func (b composer) put(n *node, key string, v *node) { n.add(key, v.line, v) }

func (b composer) text(s string, line int32) *node { return &node{form: text, text: s, line: line} }

func (b composer) number(i int, line int32) *node {
	return &node{form: literal, text: strconv.Itoa(i), line: line}
}

func (b composer) texts(all []string, line int32) *node {
	n := &node{form: sequence, line: line}
	for _, s := range all {
		n.kids = append(n.kids, b.text(s, line))
	}
	return n
}

func (b composer) env(all types.MappingWithEquals) *node {
	if len(all) == 0 {
		return nil
	}
	list := &node{form: sequence, line: b.at("environment")}
	stands := b.raw.get("environment")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		line := b.at("environment", name)
		if stands != nil && stands.form == sequence {
			for _, kid := range stands.kids {
				if kid.text == name || strings.HasPrefix(kid.text, name+"=") {
					line = kid.line
				}
			}
		}
		v := ""
		if all[name] != nil {
			v = *all[name]
		}
		e := &node{form: mapping, line: line}
		b.put(e, "name", b.text(name, line))
		b.put(e, "value", b.text(v, line))
		list.kids = append(list.kids, e)
	}
	return list
}

func (b composer) ports(s types.ServiceConfig) *node {
	list := &node{form: sequence, line: b.at("ports")}
	seen := map[uint32]bool{}
	add := func(target uint32, published, ip, protocol string, line int32) {
		p := &node{form: mapping, line: line}
		b.put(p, "containerPort", b.number(int(target), line))
		if n, err := strconv.Atoi(published); err == nil && n > 0 {
			b.put(p, "hostPort", b.number(n, line))
		}
		if ip != "" {
			b.put(p, "hostIP", b.text(ip, line))
		}
		if protocol != "" {
			b.put(p, "protocol", b.text(strings.ToUpper(protocol), line))
		}
		seen[target] = true
		list.kids = append(list.kids, p)
	}
	stands := b.raw.get("ports")
	for i, p := range s.Ports {
		line := list.line
		if stands != nil && i < len(stands.kids) {
			line = stands.kids[i].line
		}
		add(p.Target, p.Published, p.HostIP, p.Protocol, line)
	}
	for _, e := range s.Expose {
		port, _, _ := strings.Cut(e, "/")
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && !seen[uint32(n)] {
			add(uint32(n), "", "", "", b.at("expose"))
		}
	}
	if len(list.kids) == 0 {
		return nil
	}
	return list
}

func (b composer) resources(s types.ServiceConfig) *node {
	if s.Deploy == nil {
		return nil
	}
	n := &node{form: mapping, line: b.at("deploy", "resources")}
	for field, r := range map[string]*types.Resource{"limits": s.Deploy.Resources.Limits, "requests": s.Deploy.Resources.Reservations} {
		if r == nil {
			continue
		}
		o := &node{form: mapping, line: n.line}
		if r.NanoCPUs > 0 {
			b.put(o, "cpu", b.text(strconv.FormatFloat(float64(r.NanoCPUs), 'f', 3, 32), n.line))
		}
		if r.MemoryBytes > 0 {
			b.put(o, "memory", b.text(strconv.FormatInt(int64(r.MemoryBytes), 10), n.line))
		}
		b.put(n, field, o)
	}
	if len(n.keys) == 0 {
		return nil
	}
	return n
}

func (b composer) security(s types.ServiceConfig) *node {
	n := b.object()
	yes := func(key string, line int32) { b.put(n, key, &node{form: literal, text: "true", line: line}) }
	if s.Privileged {
		yes("privileged", b.at("privileged"))
	}
	if s.ReadOnly {
		yes("readOnlyRootFilesystem", b.at("read_only"))
	}
	user, _, _ := strings.Cut(s.User, ":")
	if id, err := strconv.Atoi(user); err == nil {
		b.put(n, "runAsUser", b.number(id, b.at("user")))
	}
	return n
}
