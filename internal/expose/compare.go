package expose

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dhow/internal/operator"
)

// Change is what would become of an object.
type Change string

// The changes.
const (
	New     Change = "new"
	Changed Change = "changed"
	Same    Change = "same"
)

// compared is an object beside what is there.
type compared struct {
	change Change
	diff   string
	// against are what the API server has to say against it.
	against []string
}

// compare lets the API server say, without writing, what would become of an object that is
// applied, and how that differs from what is there.
func compare(ctx context.Context, c Cluster, want *unstructured.Unstructured, manager string) (compared, error) {
	name := want.GetKind() + " " + want.GetName()
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(want.GroupVersionKind())
	err := c.Get(ctx, client.ObjectKeyFromObject(want), live)
	var r compared
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case meta.IsNoMatchError(err):
		live = nil
		r.against = append(r.against, fmt.Sprintf("the cluster does not know the kind %s yet", want.GetKind()))
	case err != nil:
		return r, fmt.Errorf("read %s: %w", name, err)
	}
	after := want.DeepCopy()
	if len(r.against) == 0 {
		err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(after), client.FieldOwner(manager), client.DryRunAll)
		if rivals, fields := operator.Conflict(err); len(rivals) > 0 {
			if manager != Manager || len(rivals) > 1 || rivals[0] != operator.Deducer {
				r.against = append(r.against, fields)
			}
			after = want.DeepCopy()
			err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(after), client.FieldOwner(manager), client.DryRunAll, client.ForceOwnership)
		}
		switch {
		case err == nil:
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			r.against = append(r.against, fmt.Sprintf("the API server refuses it: %v", err))
			after = overlaid(live, want)
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err): // who may not apply, or has no namespace yet, sees it as far as it can be said from here
			after = overlaid(live, want)
		default:
			return r, fmt.Errorf("try to apply %s: %w", name, err)
		}
	}
	was, err := text(live)
	if err != nil {
		return r, err
	}
	is, err := text(after)
	if err != nil {
		return r, err
	}
	at := want.GetKind() + "/" + want.GetName()
	if want.GetNamespace() != "" {
		at = want.GetKind() + "/" + want.GetNamespace() + "/" + want.GetName()
	}
	_, r.diff, _ = strings.Cut(string(diff.Diff(at+" as it is", was, at+" as it would be", is)), "\n") // without the line that names both
	switch {
	case live == nil:
		r.change = New
	case r.diff == "":
		r.change = Same
	default:
		r.change = Changed
	}
	return r, nil
}

// overlaid is what is there with what is wanted laid over it.
func overlaid(live, want *unstructured.Unstructured) *unstructured.Unstructured {
	if live == nil {
		return want.DeepCopy()
	}
	all := live.DeepCopy()
	lay(all.Object, want.DeepCopy().Object)
	return all
}

func lay(on, over map[string]any) {
	for k, v := range over {
		a, ok1 := on[k].(map[string]any)
		b, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			lay(a, b)
			continue
		}
		on[k] = v
	}
}

// text is an object as a person compares it: without what the server alone writes. It is
// nothing for no object.
func text(o *unstructured.Unstructured) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	o = o.DeepCopy()
	delete(o.Object, "status")
	if m, ok := o.Object["metadata"].(map[string]any); ok {
		for _, k := range []string{"managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "ownerReferences", "selfLink"} {
			delete(m, k)
		}
		if notes, ok := m["annotations"].(map[string]any); ok {
			notes = maps.Clone(notes)
			delete(notes, "kubectl.kubernetes.io/last-applied-configuration")
			m["annotations"] = notes
			if len(notes) == 0 {
				delete(m, "annotations")
			}
		}
	}
	all, err := yaml.Marshal(o.Object)
	if err != nil {
		return nil, fmt.Errorf("write %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return all, nil
}
