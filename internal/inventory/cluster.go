package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// pageSize is how many objects one answer holds: kubectl's own.
	pageSize = 500
	// clusterQPS and clusterBurst bound the requests to the API server a second: a list of a
	// hundred thousand objects is two hundred requests, and others work there too.
	clusterQPS, clusterBurst = 20, 40
	// DefaultTimeout bounds one request to the API server.
	DefaultTimeout = 30 * time.Second
	// listsAtOnce is how many kinds are listed side by side.
	listsAtOnce = 4
	// restarts is how often a list begins anew because it took longer than the server
	// keeps its state, some five minutes.
	restarts = 3
)

// SecretsRead says how Secrets of a cluster are read. Who may list Secrets may read
// their values: Kubernetes has no right to names alone. So the choice is also one of rights.
type SecretsRead string

// How Secrets are read.
const (
	// SecretsNames asks for their metadata; no value crosses the wire. Keys are those that
	// something refers to. This is the default.
	SecretsNames SecretsRead = ""
	// SecretsKeys asks for whole Secrets and keeps their keys; values are dropped as they are read.
	SecretsKeys SecretsRead = "keys"
	// SecretsNone asks for nothing, and needs no right to Secrets: which of them are
	// missing or unused can then not be told.
	SecretsNone SecretsRead = "none"
)

// Options say which cluster to read, and what of it.
type Options struct {
	// Kubeconfig is the file; "" means what kubectl would take, $KUBECONFIG or ~/.kube/config.
	Kubeconfig string
	// Context is the kubeconfig's; "" means its current one.
	Context string
	// Namespaces are those to read; none means all but the cluster's own, see SystemNamespaces.
	Namespaces []string
	// System reads the cluster's own namespaces and rights too.
	System  bool
	Secrets SecretsRead
	// Prometheus is the URL of one that has the cluster's metrics, "" for none.
	Prometheus string
	// Window is how far back Prometheus is asked; 0 means DefaultWindow.
	Window time.Duration
	// Timeout bounds one request to the API server; 0 means DefaultTimeout.
	Timeout time.Duration
}

// SystemNamespaces are those that every cluster has for itself.
func SystemNamespaces() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// FromCluster reads a live API server, and changes nothing there: it only lists, page by
// page. What is forbidden or does not answer is a Problem and the rest is read; the error
// is of a kubeconfig that does not lead to a server, or ctx's. Role gives the rights that it takes.
func FromCluster(ctx context.Context, o Options) (*Inventory, error) {
	r, err := newClusterReader(o)
	if err != nil {
		return nil, err
	}
	defer utilnet.CloseIdleConnectionsFor(r.over.Transport)
	inv, err := r.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the cluster %s: %w", r.context, err)
	}
	return inv, nil
}

// clusterReader reads one FromCluster.
type clusterReader struct {
	*reading
	o       Options
	context string
	over    *http.Client
	client  *rest.RESTClient
	served  discovery.DiscoveryInterface

	mu       sync.Mutex
	inv      *Inventory
	unread   []string
	problems []Problem
}

func newClusterReader(o Options) (*clusterReader, error) {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	file := cmp.Or(o.Kubeconfig, rules.GetDefaultFilename())
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", file, err)
	}
	name := cmp.Or(o.Context, raw.CurrentContext)
	conf, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s, context %q: %w", file, name, err)
	}
	conf.QPS, conf.Burst, conf.Timeout = clusterQPS, clusterBurst, o.Timeout
	conf.WarningHandler = rest.NoWarnings{}
	conf.UserAgent = "dhow"
	over, err := rest.HTTPClientFor(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster %s: %w", name, err)
	}
	served, err := discovery.NewDiscoveryClientForConfigAndClient(conf, over)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster %s: %w", name, err)
	}
	client, ok := served.RESTClient().(*rest.RESTClient)
	if !ok {
		return nil, fmt.Errorf("make a client of the cluster %s: it is of an unknown type", name)
	}
	return &clusterReader{reading: newReading(""), o: o, context: name, over: over, client: client, served: served, inv: &Inventory{}}, nil
}

// apiResource is a kind of objects, as the server calls it.
type apiResource struct {
	group, version, name, kind string
	namespaced                 bool
	// metadata asks for names and labels alone.
	metadata bool
	// optional is not missed if it is forbidden.
	optional bool
}

func (r apiResource) String() string { return strings.TrimPrefix(r.group+"/"+r.name, "/") }

func (r *clusterReader) read(ctx context.Context) (*Inventory, error) {
	version, err := r.serverVersion(ctx)
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{Context: r.context, Version: version.GitVersion, Platform: version.Platform, Read: time.Now().UTC().Truncate(time.Second)}
	resources, err := r.resources(ctx)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listsAtOnce)
	for _, res := range resources {
		for _, namespace := range r.scopes(res) {
			g.Go(func() error { return r.list(gctx, res, namespace) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(r.unread)
	cluster.Unread = slices.Compact(r.unread)
	r.inv.Cluster = cluster
	r.owners()
	r.metrics(ctx, resources)
	if r.o.Prometheus != "" {
		r.prometheus(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.inv.Problems = append(r.inv.Problems, r.problems...)
	r.tidy()
	cluster.Provider = r.provider()
	if err := r.inv.relate(ctx); err != nil {
		return nil, err
	}
	return r.inv, nil
}

type serverVersion struct {
	GitVersion string `json:"gitVersion"`
	Platform   string `json:"platform"`
}

// serverVersion asks the server who it is; if that fails nothing else will do.
func (r *clusterReader) serverVersion(ctx context.Context) (v serverVersion, err error) {
	raw, err := r.client.Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return v, fmt.Errorf("ask for its version: %w; is the server up, and is the context the right one?", err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("read its version: %w", err)
	}
	return v, nil
}

// customGroups are those of custom resources that tell how an application is reached,
// scaled, or gets its secrets. Of others only the definitions are read.
func customGroups() []string {
	return []string{gatewayGroup, "gateway.k8s.aws", "elbv2.k8s.aws", "vpcresources.k8s.aws", "eks.amazonaws.com", "cert-manager.io", "external-secrets.io", "secrets-store.csi.x-k8s.io",
		"networking.istio.io", "security.istio.io", "traefik.io", "keda.sh", "monitoring.coreos.com", "externaldns.k8s.io", "projectcontour.io", "cilium.io", "bitnami.com", "postgresql.cnpg.io", "acid.zalan.do"}
}

// resources are what is to be listed: the kinds that have Go types as far as the server
// has them, and custom resources.
func (r *clusterReader) resources(ctx context.Context) ([]apiResource, error) {
	var all []apiResource
	lists, err := discovery.ServerPreferredResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(r.served))
	if err != nil {
		if len(lists) == 0 || ctx.Err() != nil {
			return nil, fmt.Errorf("ask which kinds it has: %w", err)
		}
		r.lost("", "some kinds can not be asked for: "+oneLine(err), "see that the API services of `kubectl get apiservices` are available")
	}
	wanted := map[string]bool{}
	for _, g := range customGroups() {
		wanted[g] = true
	}
	for _, l := range lists {
		group, version, grouped := strings.Cut(l.GroupVersion, "/")
		if !grouped {
			group, version = "", l.GroupVersion
		}
		for _, s := range l.APIResources {
			res := apiResource{group: group, version: version, name: s.Name, kind: s.Kind, namespaced: s.Namespaced}
			if strings.Contains(s.Name, "/") || !slices.Contains([]string(s.Verbs), "list") {
				continue
			}
			k := r.catalog[[2]string{group, s.Kind}]
			switch {
			case k != nil && s.Name == k.resource:
				if res.name == "secrets" {
					if r.o.Secrets == SecretsNone {
						r.unread = append(r.unread, "secrets")
						continue
					}
					res.metadata = r.o.Secrets == SecretsNames
				}
			case group == "apiextensions.k8s.io" && s.Kind == "CustomResourceDefinition":
			case wanted[group]:
				res.optional = true
			default:
				continue
			}
			all = append(all, res)
		}
	}
	slices.SortFunc(all, func(a, b apiResource) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// scopes are the namespaces in which a resource is listed; "" is all of them at once.
func (r *clusterReader) scopes(res apiResource) []string {
	if !res.namespaced || len(r.o.Namespaces) == 0 {
		return []string{""}
	}
	return r.o.Namespaces
}

func (r *clusterReader) lost(resource, what, do string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if resource != "" {
		r.unread = append(r.unread, resource)
	}
	r.problems = append(r.problems, Problem{Context: r.context, What: what, Do: do, Lost: true})
}

// list reads all objects of a resource. The error is ctx's alone.
func (r *clusterReader) list(ctx context.Context, res apiResource, namespace string) error {
	var objects []*Object
	var plain []PlainSecret
	var problems []Problem
	token := ""
	for again := 0; ; {
		raw, err := r.page(ctx, res, namespace, token)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && expired(err) && again < restarts {
			again++
			token, objects, plain, problems = "", nil, nil, nil
			continue
		}
		if err != nil {
			r.failed(res, namespace, err)
			break // what the pages before gave is kept
		}
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			r.lost(res.String(), "the answer for "+res.String()+" can not be read: "+oneLine(err), "see whether something between here and the server changes answers")
			break
		}
		p, err := r.items(ctx, res, page.Items)
		if err != nil {
			return err
		}
		objects, plain, problems = append(objects, p.objects...), append(plain, p.plain...), append(problems, p.problems...)
		if token = page.Metadata.Continue; token == "" {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inv.Objects = append(r.inv.Objects, objects...)
	r.inv.Plain = append(r.inv.Plain, plain...)
	r.problems = append(r.problems, problems...)
	return nil
}

// page asks for one page.
func (r *clusterReader) page(ctx context.Context, res apiResource, namespace, token string) ([]byte, error) {
	path := "/apis/" + res.group + "/" + res.version
	if res.group == "" {
		path = "/api/" + res.version
	}
	if namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	req := r.client.Get().AbsPath(path+"/"+res.name).Param("limit", fmt.Sprint(pageSize)).Timeout(r.o.Timeout)
	if token != "" {
		req = req.Param("continue", token)
	}
	accept := "application/json"
	if res.metadata {
		accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	}
	result := req.SetHeader("Accept", accept).Do(ctx)
	raw, err := result.Raw()
	if err != nil {
		return nil, result.Error() // which knows more of why
	}
	return raw, nil
}

// expired says that the server no longer has the state of which a list's pages are.
func expired(err error) bool {
	var s apierrors.APIStatus
	return apierrors.IsResourceExpired(err) || errors.As(err, &s) && s.Status().Code == http.StatusGone
}

// failed says why a resource could not be listed.
func (r *clusterReader) failed(res apiResource, namespace string, err error) {
	where := res.String()
	if namespace != "" {
		where += " of namespace " + namespace
	}
	switch {
	case res.optional && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unread = append(r.unread, res.String())
		r.problems = append(r.problems, Problem{Context: r.context, What: "not allowed to list " + where, Do: "grant the printed role if they matter", Lost: true})
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		r.lost(res.String(), "not allowed to list "+where, "bind the printed role to the account of the context "+r.context)
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		r.lost(res.String(), "the server does not list "+where, "see `kubectl get "+res.name+"`")
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		r.lost(res.String(), "no answer in time to the list of "+where, "try again when the API server has less to do, or name fewer namespaces")
	default:
		r.lost(res.String(), "list "+where+": "+oneLine(err), "see whether `kubectl get "+res.name+"` works")
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// items reads the objects of a page, side by side.
func (r *clusterReader) items(ctx context.Context, res apiResource, items []json.RawMessage) (part, error) {
	parts := make([]part, len(items))
	apiVersion := strings.TrimPrefix(res.group+"/"+res.version, "/")
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), 1+len(items)/16) {
		g.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return nil
				}
				parts[i] = r.item(res, apiVersion, items[i])
				items[i] = nil
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return part{}, err
	}
	var all part
	for _, p := range parts {
		all.objects, all.plain, all.problems = append(all.objects, p.objects...), append(all.plain, p.plain...), append(all.problems, p.problems...)
	}
	return all, nil
}

func (r *clusterReader) item(res apiResource, apiVersion string, raw json.RawMessage) (out part) {
	n, err := parseJSON(raw)
	if err != nil || n.form != mapping {
		out.problems = append(out.problems, Problem{Context: r.context, What: "an object of " + res.String() + " can not be read", Lost: true})
		return out
	}
	n.set("apiVersion", &node{form: text, text: apiVersion})
	n.set("kind", &node{form: text, text: res.kind})
	if res.metadata { // also of a server that does not know how to give less
		n.remove("data")
	}
	if res.kind == "Pod" || res.kind == "Node" {
		n.get("status").remove("images") // a node's are many
	}
	r.object(n, apiVersion, res.kind, place{context: r.context}, &out)
	out.objects = slices.DeleteFunc(out.objects, r.own)
	if res.kind == "Secret" {
		// In a cluster a Secret is where a secret belongs; only copies of it are in the open.
		out.plain = slices.DeleteFunc(out.plain, func(p PlainSecret) bool { return p.What == SecretInFile })
		for _, o := range out.objects {
			o.KeysKnown = !res.metadata
		}
	}
	return out
}

// own says that an object is the cluster's own, and so no part of what is to be moved.
func (r *clusterReader) own(o *Object) bool {
	if r.o.System {
		return false
	}
	if len(r.o.Namespaces) == 0 && slices.Contains(SystemNamespaces(), o.Namespace) || o.Kind == "Namespace" && slices.Contains(SystemNamespaces(), o.Name) {
		return true
	}
	l := o.Content.GetLabels()
	switch o.Kind {
	case "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding":
		return l["kubernetes.io/bootstrapping"] == "rbac-defaults" || strings.HasPrefix(o.Name, "system:") || strings.HasPrefix(o.Name, "kubeadm:")
	case "ConfigMap":
		return o.Name == "kube-root-ca.crt"
	case "PriorityClass":
		return strings.HasPrefix(o.Name, "system-")
	case "Service", "Endpoints":
		return o.Namespace == metav1.NamespaceDefault && o.Name == "kubernetes"
	case "EndpointSlice":
		return o.Namespace == metav1.NamespaceDefault && l["kubernetes.io/service-name"] == "kubernetes"
	case "Secret":
		if s, ok := o.Content.(*corev1.Secret); ok {
			return s.Type == corev1.SecretTypeServiceAccountToken || s.Type == "helm.sh/release.v1" || strings.HasPrefix(o.Name, "sh.helm.release.")
		}
	}
	return false
}

// tidy leaves out what says nothing of its own: what the cluster derives from other objects.
func (r *clusterReader) tidy() {
	selected := map[Ref]bool{}
	owned := map[Ref]bool{}
	for _, o := range r.inv.Objects {
		if s, ok := o.Content.(*corev1.Service); ok && len(s.Spec.Selector) > 0 {
			selected[o.Ref] = true
		}
		owned[o.Ref] = true
	}
	follows := func(o *Object) bool {
		switch o.Kind {
		case "Endpoints":
			return selected[Ref{Kind: "Service", Namespace: o.Namespace, Name: o.Name}]
		case "EndpointSlice":
			// A mirror of Endpoints that somebody wrote tells the same again.
			return strings.HasPrefix(o.Content.GetLabels()["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller")
		case "Pod", "ReplicaSet":
			return r.derived(o, owned)
		}
		return false
	}
	left := map[*Object]bool{}
	r.inv.Objects = slices.DeleteFunc(r.inv.Objects, func(o *Object) bool {
		if !follows(o) {
			return false
		}
		left[o] = true
		return true
	})
	// What a template has in the open stands in each of its pods again.
	r.inv.Plain = slices.DeleteFunc(r.inv.Plain, func(p PlainSecret) bool { return left[p.in] })
}

// derived says that a pod or ReplicaSet only follows from another object that is here.
func (r *clusterReader) derived(o *Object, have map[Ref]bool) bool {
	owner, ok := ownerOf(o.Content, o.Namespace)
	if !ok || !have[owner] {
		return false
	}
	return true
}

// ownerOf is the object that controls another.
func ownerOf(c metav1.Object, namespace string) (Ref, bool) {
	for _, r := range c.GetOwnerReferences() {
		if yes(r.Controller) {
			group, _, grouped := strings.Cut(r.APIVersion, "/")
			if !grouped {
				group = ""
			}
			return Ref{group, r.Kind, namespace, r.Name}, true
		}
	}
	return Ref{}, false
}

// provider is who runs the nodes.
func (r *clusterReader) provider() string {
	for _, o := range r.inv.Objects {
		if n, ok := o.Content.(*corev1.Node); ok {
			if provider, _, found := strings.Cut(n.Spec.ProviderID, "://"); found {
				return provider
			}
		}
	}
	return ""
}
