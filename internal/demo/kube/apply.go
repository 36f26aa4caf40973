package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// fieldManager is the owner of the applied fields. It is another than the operator's: what one
	// manager applies in part, the server takes for the whole of what it wants.
	fieldManager = "dhow-demo"
	// clientQPS and clientBurst are requests to an API server: client-go's own limits
	// of 5 and 10 would make the start of a cluster a matter of minutes.
	clientQPS, clientBurst = 200, 400
	// requestTimeout bounds one request of a client.
	requestTimeout = 30 * time.Second
	// lineBytes is how much of a manifest the reader looks at to tell JSON from YAML.
	lineBytes = 4096
)

// order is the one in which kinds are applied; all others follow, as they stand.
var order = []string{"Namespace", "CustomResourceDefinition", "PriorityClass", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding",
	"ConfigMap", "Secret", "ResourceQuota", "LimitRange", "NetworkPolicy", "Service"}

// Files joins the manifests of a folder, *.yaml and *.yml in the order of their
// names, for Apply.
func Files(folder fs.FS) ([]byte, error) {
	var all bytes.Buffer
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if ext := path.Ext(name); err != nil || d.IsDir() || ext != ".yaml" && ext != ".yml" {
			return err
		}
		text, err := fs.ReadFile(folder, name)
		all.WriteString("\n---\n")
		all.Write(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the manifests: %w", err)
	}
	return all.Bytes(), nil
}

// Apply applies the manifests, YAML documents of any kinds, on the server's side:
// namespaces first, then definitions of kinds, accounts and rights, configuration, and
// the rest as it stands. It may be repeated, and takes over what others own. All that
// can be applied is; the error names every object that could not.
func Apply(ctx context.Context, kubeconfig string, manifests []byte) error {
	objects, err := parse(manifests)
	if err != nil {
		return err
	}
	conf, err := clientConfig(kubeconfig)
	if err != nil {
		return err
	}
	a, err := newApplier(conf)
	if err != nil {
		return err
	}
	var all []error
	for _, o := range objects {
		if err := a.apply(ctx, o); err != nil {
			all = append(all, fmt.Errorf("apply %s: %w", describe(o), err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(all...)
}

// parse reads the manifests' objects, in the order in which they are to be applied.
func parse(manifests []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), lineBytes)
	for n := 1; ; n++ {
		o := &unstructured.Unstructured{}
		err := documents.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the manifests, document %d: %w", n, err)
		}
		if len(o.Object) == 0 { // a comment between two lines
			continue
		}
		if o.IsList() {
			err = o.EachListItem(func(item runtime.Object) error {
				objects = append(objects, item.(*unstructured.Unstructured))
				return nil
			})
		} else {
			objects = append(objects, o)
		}
		if err != nil {
			return nil, fmt.Errorf("read the manifests, document %d: %w", n, err)
		}
	}
	for _, o := range objects {
		if o.GetAPIVersion() == "" || o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("read the manifests: %s has no apiVersion, kind or name", describe(o))
		}
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return objects, nil
}

func rank(o *unstructured.Unstructured) int {
	if at := slices.Index(order, o.GetKind()); at >= 0 {
		return at
	}
	return len(order)
}

func describe(o *unstructured.Unstructured) string {
	where := o.GetName()
	if o.GetNamespace() != "" {
		where = o.GetNamespace() + "/" + where
	}
	return o.GetKind() + " " + where
}

// applier applies objects one by one.
type applier struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newApplier(conf *rest.Config) (*applier, error) {
	client, err := dynamic.NewForConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	return &applier{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, nil
}

func (a *applier) apply(ctx context.Context, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind()
	m, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = a.client.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.GetNamespace() == "" {
			o.SetNamespace(metav1.NamespaceDefault)
		}
		to = a.client.Resource(m.Resource).Namespace(o.GetNamespace())
	}
	if _, err := to.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return err
	}
	if kind.Kind == "CustomResourceDefinition" {
		return a.established(ctx, to, o.GetName())
	}
	return nil
}

// established waits until objects of a new kind can be applied.
func (a *applier) established(ctx context.Context, definitions dynamic.ResourceInterface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer a.mapper.Reset() // which does not know the new kind
	return poll(ctx, askEvery, func() error {
		o, err := definitions.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return condition(o, "Established")
	})
}

// condition is nil when the object's condition of that type is true.
func condition(o *unstructured.Unstructured, kind string) error {
	all, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return fmt.Errorf("read the conditions of %s: %w", describe(o), err)
	}
	for _, c := range all {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			if c["status"] == "True" {
				return nil
			}
			return fmt.Errorf("%s is not %s: %v", describe(o), kind, c["message"])
		}
	}
	return fmt.Errorf("%s is not %s yet", describe(o), kind)
}

// poll tries every so often until it succeeds, at least once. When ctx ends before,
// the error is why it ended and the last one from before, which says what was missing.
func poll(ctx context.Context, every time.Duration, try func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		err := try()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// clientConfig reads a kubeconfig for a client of this package.
func clientConfig(kubeconfig string) (*rest.Config, error) {
	conf, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", kubeconfig, err)
	}
	conf.QPS, conf.Burst, conf.Timeout = clientQPS, clientBurst, requestTimeout
	conf.WarningHandler = rest.NoWarnings{} // what is out of fashion is for who wrote the manifests
	return conf, nil
}
