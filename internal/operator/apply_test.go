package operator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"dhow/api/v1alpha1"
)

// TestDeletedUnseen: an object that is deleted before the answer to its making has come, so
// that its end was told of first or never, is made again.
func TestDeletedUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheme, err := Scheme()
		if err != nil {
			t.Fatal(err)
		}
		a, snatch, made := &applier{}, true, 0
		want := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": "superapp", "name": "cart"},
			"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80), "protocol": "TCP"}}}}}
		key := keyOf(want)
		c := fake.NewClientBuilder().WithScheme(scheme).WithReturnManagedFields().WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				made++
				if err := c.Apply(ctx, o, opts...); err != nil || !snatch {
					return err
				}
				if err := c.Delete(ctx, want.DeepCopy()); err != nil {
					return err
				}
				a.forget(key)
				return nil
			}}).Build()
		a.client, a.live = c, c
		by := owner{exposure: &v1alpha1.Exposure{}}
		ensure := func(before v1alpha1.Object) (v1alpha1.Object, bool) {
			t.Helper()
			now, wrote, err := a.ensure(t.Context(), by, want, nil, before)
			if err != nil {
				t.Fatal(err)
			}
			return now, wrote
		}
		first, wrote := ensure(v1alpha1.Object{})
		if !wrote || first.Fields == "" || a.lookAfter(key) != trustTime {
			t.Fatalf("got %+v, written %t, to be looked at after %s", first, wrote, a.lookAfter(key))
		}
		snatch = false
		if _, wrote := ensure(first); wrote {
			t.Error("it was written again before the cache could show it")
		}
		time.Sleep(a.lookAfter(key))
		if _, wrote := ensure(first); !wrote {
			t.Error("what is gone was not made again")
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(want), want); err != nil {
			t.Error(err)
		}
		// Once the cache has shown it there is nothing to look for.
		if a.stale(key, want) || a.lookAfter(key) != 0 {
			t.Error("what the cache shows is still waited for")
		}
		if made != 2 {
			t.Errorf("made %d times: want 2", made)
		}
	})
}

// A cache covers what was written before the newest that it has shown of the same kind.
func TestCovers(t *testing.T) {
	a := &applier{}
	service, route := schema.GroupVersionKind{Version: "v1", Kind: "Service"}, schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}
	at := func(version string) *v1alpha1.Exposure {
		return &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	if a.covers(service, at("1")) {
		t.Error("nothing has been seen yet")
	}
	for _, version := range []string{"100", "99", "not a number"} {
		a.see(service, at(version))
	}
	for _, c := range []struct {
		kind    schema.GroupVersionKind
		version string
		want    bool
	}{{service, "99", true}, {service, "100", true}, {service, "101", false}, {service, "1000", false}, {service, "", false}, {route, "1", false}} {
		if got := a.covers(c.kind, at(c.version)); got != c.want {
			t.Errorf("%s at %q: got %t, want %t", c.kind.Kind, c.version, got, c.want)
		}
	}
}
