package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxDrift bounds the differences that are told of one object: more is another object.
const maxDrift = 50

// Merge puts together what files say and what a cluster has: each object's content is the
// files', if they have it, with its place, and the cluster's is beside it. Where
// they differ is Drift: only fields that the files set are compared, for a cluster fills in
// others. Neither argument is changed. The error is ctx's.
func Merge(ctx context.Context, files, live *Inventory) (*Inventory, error) {
	inv := &Inventory{Files: slices.DeleteFunc(slices.Clone(files.Files), func(f File) bool { return f.Object != nil }), Pods: slices.Clone(live.Pods), Usage: slices.Clone(live.Usage),
		History: cmp.Or(live.History, files.History), Cluster: live.Cluster, Problems: slices.Concat(files.Problems, live.Problems), Plain: slices.Clone(files.Plain)}
	for _, o := range files.Objects {
		both := *o
		l := live.Get(o.Ref)
		switch {
		case l != nil:
			both.Live, both.Source.Context = l.Content, l.Source.Context
			d, err := drift(&both)
			if err != nil {
				return nil, fmt.Errorf("compare %s: %w", o.Ref, err)
			}
			inv.Drift = append(inv.Drift, d...)
		case live.listed(o):
			inv.Drift = append(inv.Drift, Drift{Object: o.Ref, Only: "files", File: o.Source.File, Line: o.Source.Line})
		}
		inv.Objects = append(inv.Objects, &both)
	}
	for _, o := range live.Objects {
		if files.Get(o.Ref) != nil {
			continue
		}
		inv.Objects = append(inv.Objects, o)
		if authored(o) {
			inv.Drift = append(inv.Drift, Drift{Object: o.Ref, Only: "cluster"})
		}
	}
	known := map[[2]string]bool{}
	for _, p := range inv.Plain {
		known[[2]string{p.Object.String(), p.Path}] = true
	}
	for _, p := range live.Plain {
		if !known[[2]string{p.Object.String(), p.Path}] {
			inv.Plain = append(inv.Plain, p)
		}
	}
	if err := inv.relate(ctx); err != nil {
		return nil, fmt.Errorf("relate the objects: %w", err)
	}
	slices.SortStableFunc(inv.Drift, func(a, b Drift) int { return cmp.Or(compareRefs(a.Object, b.Object), strings.Compare(a.Path, b.Path)) })
	return inv, nil
}

// listed says whether the cluster would have had an object if it were there.
func (i *Inventory) listed(o *Object) bool {
	if i.Cluster == nil || o.Kind == KindCompose {
		return false
	}
	k := newCatalog()[[2]string{o.Group, o.Kind}]
	if k == nil {
		return len(i.Kind(o.Kind)) > 0
	}
	return !slices.Contains(i.Cluster.Unread, strings.TrimPrefix(k.group+"/"+k.resource, "/"))
}

// authored says that somebody wrote an object, rather than the cluster.
func authored(o *Object) bool {
	switch o.Kind {
	case "EndpointSlice", "Endpoints", "Node", "Pod", "ReplicaSet", "PersistentVolume", "Namespace", "StorageClass", "IngressClass", "CustomResourceDefinition":
		return false
	case "ServiceAccount":
		return o.Name != "default"
	}
	_, owned := ownerOf(o.Content, o.Namespace)
	return !owned
}

// drift compares what the files set of an object with what the cluster has.
func drift(o *Object) ([]Drift, error) {
	want, err := plainValue(o.Content)
	if err != nil {
		return nil, err
	}
	have, err := plainValue(o.Live)
	if err != nil {
		return nil, err
	}
	d := &differ{object: o}
	for _, key := range sortedKeys(want) {
		switch key {
		case "apiVersion", "kind", "status":
		case "metadata":
			w, _ := want[key].(map[string]any)
			h, _ := have[key].(map[string]any)
			for _, k := range []string{"labels", "annotations"} {
				d.compare("metadata."+k, w[k], h[k])
			}
		case "stringData": // its keys are in the cluster's data
		default:
			if o.Kind == "Secret" && (key == "data" || have[key] == nil) {
				continue // values are not known, and of names alone nothing else is
			}
			d.compare(key, want[key], have[key])
		}
	}
	return d.found, nil
}

func plainValue(c Content) (map[string]any, error) {
	raw, err := contentJSON(c)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	return v, json.Unmarshal(raw, &v)
}

type differ struct {
	object *Object
	found  []Drift
}

// compare notes where have lacks or differs from what want sets.
func (d *differ) compare(path string, want, have any) {
	if len(d.found) >= maxDrift || emptyValue(want) {
		return
	}
	if n, ok := want.(float64); ok && n == 0 && strings.HasSuffix(path, ".targetPort") {
		return // Go writes it where a file leaves it out
	}
	if w, ok := want.(map[string]any); ok {
		h, _ := have.(map[string]any)
		if h != nil {
			for _, k := range sortedKeys(w) {
				d.compare(KeyPath(path, k), w[k], h[k])
			}
			return
		}
	}
	if w, ok := want.([]any); ok {
		h, _ := have.([]any)
		if h != nil {
			d.list(path, w, h)
			return
		}
	}
	if !equalValue(want, have) {
		d.add(path, want, have)
	}
}

// list compares by name where the items have names, else by position.
func (d *differ) list(path string, want, have []any) {
	named := func(v any) string {
		m, _ := v.(map[string]any)
		name, _ := m["name"].(string)
		return name
	}
	byName := len(want) > 0
	for _, w := range want {
		byName = byName && named(w) != ""
	}
	for i, w := range want {
		at := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case byName:
			n := slices.IndexFunc(have, func(h any) bool { return named(h) == named(w) })
			if n < 0 {
				d.add(at, w, nil)
			} else {
				d.compare(at, w, have[n])
			}
		case i < len(have):
			d.compare(at, w, have[i])
		default:
			d.add(at, w, nil)
		}
	}
	if byName {
		for _, h := range have {
			if !slices.ContainsFunc(want, func(w any) bool { return named(w) == named(h) }) {
				d.add(path, nil, h)
			}
		}
	} else if len(have) > len(want) {
		d.add(path, nil, have[len(want)])
	}
}

func (d *differ) add(path string, want, have any) {
	if len(d.found) >= maxDrift {
		return
	}
	one := Drift{Object: d.object.Ref, Path: path, File: d.object.Source.File, Line: d.object.Source.LineOf(path)}
	one.Files, one.Cluster = valueText(want), valueText(have)
	switch {
	case have == nil:
		one.Only = "files"
	case want == nil:
		one.Only = "cluster"
	}
	d.found = append(d.found, one)
}

func valueText(v any) string {
	if v == nil {
		return ""
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return shorten(string(raw), maxEvidence)
}

// emptyValue is what Go's types write for what a file does not set.
func emptyValue(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

// equalValue takes quantities such as 1000m and 1 for equal.
func equalValue(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, isText := a.(string)
	y, alsoText := b.(string)
	return isText && alsoText && equalQuantity(x, y)
}
