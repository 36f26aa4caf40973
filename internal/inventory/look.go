package inventory

import (
	"iter"
	"reflect"
	"strconv"
)

// index finds objects without a search.
type index struct {
	byRef  map[Ref]*Object
	byType map[reflect.Type][]*Object
	// byKind has the groups' objects of a kind together, sorted as Objects are.
	byKind    map[string][]*Object
	workloads map[Ref]*Workload
	services  map[Ref]*Service
	uses      map[Ref][]Use // by what is used
	usesBy    map[Ref][]Use // by who uses
}

// Get is the object of that name, nil if there is none.
func (i *Inventory) Get(r Ref) *Object { return i.index.byRef[r] }

// Find is the object of that kind in any group, nil if there is none. Where several
// groups have one, it is that of the first group in their order.
func (i *Inventory) Find(kind, namespace, name string) *Object {
	for _, o := range i.index.byKind[kind] {
		if o.Namespace == namespace && o.Name == name {
			return o
		}
	}
	return nil
}

// Kind gives the objects of a kind, of every group that has it.
func (i *Inventory) Kind(kind string) []*Object { return i.index.byKind[kind] }

// Workload is the workload of that name, nil if there is none.
func (i *Inventory) Workload(r Ref) *Workload { return i.index.workloads[r] }

// Service is the Service of that name, nil if there is none.
func (i *Inventory) Service(namespace, name string) *Service {
	return i.index.services[Ref{Kind: "Service", Namespace: namespace, Name: name}]
}

// UsesOf are the references to an object, UsesBy those that it makes.
func (i *Inventory) UsesOf(r Ref) []Use { return i.index.uses[r] }

// UsesBy are the references that an object makes.
func (i *Inventory) UsesBy(r Ref) []Use { return i.index.usesBy[r] }

// Of gives the objects whose content is of type T, such as *corev1.ConfigMap, in the
// order of namespaces and names:
//
//	for object, policy := range inventory.Of[*networkingv1.NetworkPolicy](inv) {
func Of[T Content](i *Inventory) iter.Seq2[*Object, T] {
	return func(yield func(*Object, T) bool) {
		for _, o := range i.index.byType[reflect.TypeFor[T]()] {
			if c, ok := o.Content.(T); ok && !yield(o, c) {
				return
			}
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func join(where, what string) string {
	if where == "" {
		return what
	}
	return where + ": " + what
}
