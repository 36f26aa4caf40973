package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	sigsjson "sigs.k8s.io/json"
)

// reading is what reading all of the source has in common.
type reading struct {
	catalog   catalog
	maskKey   []byte
	namespace string // of objects that name none
	// buffers are those that objects are written into on their way to their types.
	buffers sync.Pool
}

func newReading(namespace string) *reading {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	return &reading{catalog: newCatalog(), maskKey: newMaskKey(), namespace: namespace}
}

// part is what one document gave.
type part struct {
	objects  []*Object
	compose  bool // it looks like a Compose file
	problems []Problem
	plain    []PlainSecret
}

// place is where a document comes from.
type place struct {
	file     string
	rendered bool
	context  string
	// asked says that the file itself was named, not found: then a file that is no
	// manifest is a problem.
	asked bool
	// chart says that it is of a Helm chart, whose tests are no part of the application.
	chart bool
}

func (p place) problem(line int, object *Ref, lost bool, what, do string) Problem {
	return Problem{File: p.file, Line: line, Context: p.context, Object: object, What: what, Do: do, Lost: lost}
}

// document reads the objects of one document.
func (r *reading) document(d document, at place) part {
	var out part
	n, faults, err := d.parse()
	for _, f := range faults {
		out.problems = append(out.problems, at.problem(f.line, nil, false, f.what+", the last one is taken", "remove one of them"))
	}
	if err != nil {
		line, what := d.line, err.Error()
		if m, ok := err.(*misplaced); ok { //nolint:errorlint // made here, never wrapped
			line = m.line
		}
		out.problems = append(out.problems, at.problem(line, nil, true, what, "correct the document; the others of the file were read"))
		return out
	}
	r.value(n, at, &out)
	return out
}

// value reads an object, or all of a list's.
func (r *reading) value(n *node, at place, out *part) {
	apiVersion, name := n.get("apiVersion").string(), n.get("kind").string()
	if n.form != mapping || apiVersion == "" || name == "" {
		switch {
		case n.get("services") != nil && n.get("services").form == mapping && apiVersion == "":
			out.compose = true
		case n.form == null:
		case at.asked || apiVersion != "" || name != "" && n.get("metadata") != nil:
			out.problems = append(out.problems, at.problem(int(n.line), nil, true, "it is no Kubernetes object: apiVersion or kind is missing", "add them, or leave the file out"))
		}
		return
	}
	if items := n.get("items"); strings.HasSuffix(name, "List") && items != nil && items.form == sequence {
		for _, item := range items.kids {
			if item.form != mapping {
				out.problems = append(out.problems, at.problem(int(item.line), nil, true, "an item of a list is no object", "remove it"))
				continue
			}
			if item.get("kind") == nil { // typed lists' items need not name theirs
				item.set("kind", &node{form: text, text: strings.TrimSuffix(name, "List"), line: item.line})
				item.set("apiVersion", &node{form: text, text: apiVersion, line: item.line})
			}
			r.value(item, at, out)
		}
		return
	}
	r.object(n, apiVersion, name, at, out)
}

// object reads one object.
func (r *reading) object(n *node, apiVersion, name string, at place, out *part) {
	k, group, version := r.catalog.find(apiVersion, name)
	meta := n.get("metadata")
	ref := Ref{Group: group, Kind: name, Namespace: meta.get("namespace").scalar(), Name: meta.get("name").scalar()}
	if ref.Name == "" {
		ref.Name = meta.get("generateName").scalar()
	}
	if ref.Name == "" {
		if k != nil || meta != nil {
			out.problems = append(out.problems, at.problem(int(n.line), &ref, true, "the object has no metadata.name", "give it one"))
		} else if at.asked {
			out.problems = append(out.problems, at.problem(int(n.line), nil, true, fmt.Sprintf("%s of %s is no object of a cluster: it has no metadata", name, apiVersion), "leave the file out"))
		}
		return // a tool's own file, such as Skaffold's
	}
	if hook := meta.at("annotations", "helm.sh/hook").string(); at.chart && strings.Contains(hook, "test") {
		return
	}
	masks := masker{key: r.maskKey}
	typedKind := ""
	if k != nil {
		typedKind = name
		switch {
		case k.namespaced && ref.Namespace == "":
			ref.Namespace = r.namespace
		case !k.namespaced:
			ref.Namespace = ""
		}
	}
	o := &Object{Ref: ref, APIVersion: apiVersion, Source: Source{File: at.file, Line: int(n.line), Rendered: at.rendered, Context: at.context}, KeysKnown: name == "Secret"}
	masks.object(n, typedKind)
	if at.file != "" {
		o.Source.lines = n.index()
	}
	for _, p := range masks.found {
		p.Object, p.File, p.Line, p.Context, p.in = ref, at.file, o.Source.LineOf(p.Path), at.context, o
		out.plain = append(out.plain, p)
	}
	strict := at.context == ""
	if k != nil && version != k.version {
		switch change := k.old[version]; {
		case change != nil:
			change(n)
			strict = false
		case slices.Contains(k.same, version):
			strict = false
		default:
			out.problems = append(out.problems, at.problem(int(n.line), &ref, true, "version "+shorten(apiVersion, maxEvidence)+" of "+name+" is not known",
				"use "+strings.TrimPrefix(group+"/", "/")+k.version))
			k = nil
		}
	}
	if k != nil {
		if o.Content = r.typed(k, n, o, strict, at, out); o.Content != nil {
			o.Content.SetNamespace(ref.Namespace)
			o.Content.SetName(ref.Name)
			out.objects = append(out.objects, o)
			return
		}
	}
	var u unstructured.Unstructured
	if name == "CustomResourceDefinition" {
		dropSchemas(n)
	}
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(n.appendJSON(nil), &u.Object); err != nil {
		out.problems = append(out.problems, at.problem(int(n.line), &ref, true, "read the object: "+err.Error(), ""))
		return
	}
	o.Content = &u
	out.objects = append(out.objects, o)
}

// typed gives the object its Go type; nil if it does not fit, which is a problem.
func (r *reading) typed(k *kind, n *node, o *Object, strict bool, at place, out *part) Content {
	// The decoder keeps nothing of the text.
	buffer, ok := r.buffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	defer r.buffers.Put(buffer)
	*buffer = n.appendJSON((*buffer)[:0])
	text := *buffer
	c := k.make()
	var unknown []error
	var err error
	if strict {
		unknown, err = sigsjson.UnmarshalStrict(text, c)
	} else {
		err = sigsjson.UnmarshalCaseSensitivePreserveInts(text, c)
	}
	ref := o.Ref
	if err != nil {
		path := fieldOf(err)
		line := int(n.line)
		if path != "" {
			line = lineIn(n, path)
		}
		out.problems = append(out.problems, at.problem(line, &ref, true, "the object does not fit its kind: "+readable(err), "correct the field; no cluster takes it so"))
		return nil
	}
	for _, u := range unknown {
		path := unknownPath(u)
		out.problems = append(out.problems, at.problem(o.Source.LineOf(path), &ref, false, "the field "+shorten(path, maxEvidence)+" is not known and has no effect", "look for a slip of the pen in its name or its indent"))
	}
	return c
}

// dropSchemas leaves of a definition what is asked for here: a schema has thousands of fields.
func dropSchemas(n *node) {
	versions := n.at("spec", "versions")
	if versions == nil {
		return
	}
	for _, v := range versions.kids {
		v.remove("schema")
	}
	n.get("spec").remove("validation")
}

var (
	goField     = regexp.MustCompile(`cannot unmarshal (\S+).* into Go struct field [A-Za-z0-9_]*\.(\S+) of type (\S+)`)
	strictField = regexp.MustCompile(`(?:unknown|duplicate) field "(.*)"$`)
)

// fieldOf is the field of a JSON error, without positions in lists: "" if it names none.
func fieldOf(err error) string {
	if m := goField.FindStringSubmatch(err.Error()); m != nil {
		return m[2]
	}
	return ""
}

// readable says what a JSON error means to who wrote a manifest.
func readable(err error) string {
	if m := goField.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Sprintf("%s is of type %s and should be %s", m[2], m[1], m[3])
	}
	return shorten(strings.TrimPrefix(err.Error(), "json: "), maxEvidence)
}

func unknownPath(err error) string {
	if m := strictField.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	return err.Error()
}

// lineIn is the line of a field that is named without positions in lists: the first that there is.
func lineIn(n *node, path string) int {
	line := n.line
	for key := range strings.SplitSeq(path, ".") {
		if n.form == sequence {
			i := slices.IndexFunc(n.kids, func(k *node) bool { return k.get(key) != nil })
			if i < 0 {
				break
			}
			n = n.kids[i]
		}
		i := slices.Index(n.keys, key)
		if i < 0 {
			break
		}
		line, n = n.keyLines[i], n.kids[i]
	}
	return int(line)
}
