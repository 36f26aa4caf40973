package inventory

import (
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

func equalQuantity(a, b string) bool {
	x, err := resource.ParseQuantity(a)
	if err != nil {
		return false
	}
	y, err := resource.ParseQuantity(b)
	return err == nil && x.Cmp(y) == 0
}

// objectJSON is an object as it is written.
type objectJSON struct {
	Ref
	APIVersion string  `json:"apiVersion"`
	File       string  `json:"file,omitempty"`
	Line       int     `json:"line,omitempty"`
	Rendered   bool    `json:"rendered,omitempty"`
	Context    string  `json:"context,omitempty"`
	Content    Content `json:"content"`
	Live       Content `json:"live,omitempty"`
}

type workloadJSON struct {
	Ref
	Replicas   int32               `json:"replicas"`
	Serves     bool                `json:"serves"`
	Containers []containerJSON     `json:"containers"`
	Services   []Ref               `json:"services,omitempty"`
	Scalers    []Ref               `json:"scalers,omitempty"`
	Budgets    []Ref               `json:"budgets,omitempty"`
	Policies   []Ref               `json:"policies,omitempty"`
	Digests    map[string][]string `json:"digests,omitempty"`
}

type containerJSON struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"`
	Image   string    `json:"image,omitempty"`
	Init    bool      `json:"init,omitempty"`
	Sidecar bool      `json:"sidecar,omitempty"`
	Env     []Setting `json:"env,omitempty"`
}

type serviceJSON struct {
	Ref
	Type      string     `json:"type,omitempty"`
	Workloads []Ref      `json:"workloads,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// MarshalJSON writes the whole inventory, sorted; it holds no secret, like the inventory.
func (i *Inventory) MarshalJSON() ([]byte, error) {
	out := struct {
		Cluster   *Cluster       `json:"cluster,omitempty"`
		Partial   bool           `json:"partial"`
		Problems  []Problem      `json:"problems,omitempty"`
		Workloads []workloadJSON `json:"workloads"`
		Services  []serviceJSON  `json:"services"`
		Databases []Database     `json:"databases,omitempty"`
		Calls     []Call         `json:"calls,omitempty"`
		Images    []Image        `json:"images,omitempty"`
		Uses      []Use          `json:"uses,omitempty"`
		Plain     []PlainSecret  `json:"plainSecrets,omitempty"`
		Pods      []Pod          `json:"pods,omitempty"`
		Usage     []Usage        `json:"usage,omitempty"`
		History   *History       `json:"history,omitempty"`
		Drift     []Drift        `json:"drift,omitempty"`
		Files     []File         `json:"files,omitempty"`
		Objects   []objectJSON   `json:"objects"`
	}{Cluster: i.Cluster, Partial: i.Partial, Problems: i.Problems, Databases: i.Databases, Calls: i.Calls, Images: i.Images, Uses: i.Uses, Plain: i.Plain,
		Pods: i.Pods, Usage: i.Usage, History: i.History, Drift: i.Drift, Files: i.Files,
		Workloads: make([]workloadJSON, 0, len(i.Workloads)), Services: make([]serviceJSON, 0, len(i.Services)), Objects: make([]objectJSON, 0, len(i.Objects))}
	for _, w := range i.Workloads {
		one := workloadJSON{Ref: w.Ref, Replicas: w.Replicas, Serves: w.Serves, Scalers: objectRefs(w.Scalers), Budgets: objectRefs(w.Budgets), Policies: objectRefs(w.Policies), Digests: w.Digests}
		for _, c := range w.Containers {
			one.Containers = append(one.Containers, containerJSON{c.Name, c.Path, c.Container.Image, c.Init, c.Sidecar, c.Env})
		}
		for _, s := range w.Services {
			one.Services = append(one.Services, s.Object.Ref)
		}
		out.Workloads = append(out.Workloads, one)
	}
	for _, s := range i.Services {
		one := serviceJSON{Ref: s.Object.Ref, Type: string(s.Spec.Type), Endpoints: s.Endpoints}
		for _, w := range s.Workloads {
			one.Workloads = append(one.Workloads, w.Ref)
		}
		out.Services = append(out.Services, one)
	}
	for _, o := range i.Objects {
		out.Objects = append(out.Objects, objectJSON{o.Ref, o.APIVersion, o.Source.File, o.Source.Line, o.Source.Rendered, o.Source.Context, o.Content, o.Live})
	}
	return json.Marshal(out)
}

func objectRefs(objects []*Object) []Ref {
	refs := make([]Ref, 0, len(objects))
	for _, o := range objects {
		refs = append(refs, o.Ref)
	}
	return slices.Clip(refs)
}
