package operator

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// piece is an object of an Exposure, in its namespace.
type piece struct{ kind, name string }

func (p piece) String() string { return p.kind + "/" + p.name }

// owned are the objects of each Exposure that the caches have shown. An index of the caches
// would take some hundred bytes for each object, twice.
type owned struct {
	mu sync.Mutex
	of map[types.UID][]piece
}

func newOwned() *owned { return &owned{of: map[types.UID][]piece{}} }

// show is to be told of what a cache shows, gone of what it does no longer.
func (w *owned) show(kind string, o client.Object) {
	if !isOwn(o) {
		return
	}
	c, p := metav1.GetControllerOf(o), piece{kind, o.GetName()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.of[c.UID], p) {
		w.of[c.UID] = append(w.of[c.UID], p)
	}
}

func (w *owned) gone(kind string, o client.Object) {
	c := metav1.GetControllerOf(o)
	if c == nil {
		return
	}
	p := piece{kind, o.GetName()}
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.of[c.UID], func(x piece) bool { return x == p })
	if w.of[c.UID] = left; len(left) == 0 {
		delete(w.of, c.UID)
	}
}

// all are an Exposure's.
func (w *owned) all(id types.UID) []piece {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.of[id])
}
