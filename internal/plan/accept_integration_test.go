package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"dhow/deploy"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/crds"
	"dhow/internal/demo/kube/kubetest"
	"dhow/internal/elb"
)

const (
	// acceptWithin bounds the cluster's start and all that is asked of it.
	acceptWithin = 8 * time.Minute
	// otherKinds names a folder of definitions that take the place of those of this
	// repository, such as the controller's own.
	otherKinds = "DHOW_TEST_CRDS"
)

// TestAccepted: an API server with the kinds of the Gateway API and of the AWS Load Balancer
// Controller takes every manifest of every golden plan as it is, and has nothing to warn of;
// in the namespaces' names it does so by the restricted standard.
func TestAccepted(t *testing.T) {
	kubetest.Require(t, kube.Check)
	ctx, cancel := context.WithTimeout(t.Context(), acceptWithin)
	defer cancel()
	s := newAPIServer(ctx, t)
	plans, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(plans) == 0 {
		t.Fatalf("there are no plans: %v", err)
	}
	for _, dir := range plans {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := kube.Files(os.DirFS(filepath.Join(dir, manifestFolder)))
			if err != nil {
				t.Fatal(err)
			}
			objects := parsed(t, text)
			for _, o := range objects {
				if o.GetKind() != "Namespace" {
					continue
				}
				// Nothing can be tried in a namespace that is not there.
				if err := s.send(ctx, o, metav1.DryRunAll); err != nil {
					t.Errorf("%s: %v", o.GetName(), err)
				}
				if err := s.send(ctx, o); err != nil {
					t.Fatal(err)
				}
			}
			taken := 0
			for _, o := range objects {
				if err := s.send(ctx, o, metav1.DryRunAll); err != nil {
					t.Errorf("%s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
					continue
				}
				taken++
			}
			if taken == 0 || taken != len(objects) {
				t.Errorf("%d of %d objects were taken", taken, len(objects))
			}
			t.Logf("%d objects were taken", taken)
		})
	}
	s.refuses(ctx, t)
}

// apiServer is one that is asked what it would do.
type apiServer struct {
	client dynamic.Interface
	mapper apimeta.RESTMapper
	mu     sync.Mutex
	warned []string
}

func newAPIServer(ctx context.Context, t *testing.T) *apiServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "accept") // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cluster, err := kube.Up(ctx, kube.Options{Name: "accept", Dir: filepath.Join(dir, "cluster")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	kinds, err := crds.All(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if folder := os.Getenv(otherKinds); folder != "" {
		other, err := kube.Files(os.DirFS(folder))
		if err != nil {
			t.Fatal(err)
		}
		if kinds, err = crds.GatewayAPI(ctx, ""); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, other...)
	}
	ours, err := kube.Files(deploy.Definitions())
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.Apply(ctx, cluster.Kubeconfig(), slices.Concat(kinds, []byte("\n---\n"), ours)); err != nil {
		t.Fatal(err)
	}
	conf, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{}
	conf.WarningHandler, conf.QPS = s, -1
	if s.client, err = dynamic.NewForConfig(conf); err != nil {
		t.Fatal(err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(conf)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(d)
	if err != nil {
		t.Fatal(err)
	}
	s.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return s
}

// HandleWarningHeader hears the server's warnings.
func (s *apiServer) HandleWarningHeader(_ int, _ string, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The older version is on purpose, see elb.ControlAPI.
	if !strings.HasPrefix(text, elb.ControlAPI+" ") || !strings.Contains(text, "deprecated") {
		s.warned = append(s.warned, text)
	}
}

// send applies an object on the server's side, where unknown and double fields are errors;
// so is a warning.
func (s *apiServer) send(ctx context.Context, o *unstructured.Unstructured, dryRun ...string) error {
	kind := o.GroupVersionKind()
	m, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = s.client.Resource(m.Resource)
	if m.Scope.Name() == apimeta.RESTScopeNameNamespace {
		to = s.client.Resource(m.Resource).Namespace(o.GetNamespace())
	}
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.warned = nil
	s.mu.Unlock()
	force := true
	if _, err := to.Patch(ctx, o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{DryRun: dryRun, FieldManager: "dhow", Force: &force, FieldValidation: metav1.FieldValidationStrict}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.warned) > 0 {
		return fmt.Errorf("it warns: %s", strings.Join(s.warned, "; "))
	}
	return nil
}

// refuses sees that the server checks what it is sent.
func (s *apiServer) refuses(ctx context.Context, t *testing.T) {
	t.Helper()
	for name, test := range map[string]struct{ text, want string }{
		"a field of no kind":        {`{apiVersion: gateway.k8s.aws/v1beta1, kind: LoadBalancerConfiguration, metadata: {name: a, namespace: default}, spec: {scheme: internal, idleTimeout: 60}}`, "idleTimeout"},
		"a scheme that there isn't": {`{apiVersion: gateway.k8s.aws/v1beta1, kind: LoadBalancerConfiguration, metadata: {name: a, namespace: default}, spec: {scheme: public}}`, "spec.scheme"},
		"a listener without a port": {`{apiVersion: gateway.k8s.aws/v1, kind: LoadBalancerConfiguration, metadata: {name: a, namespace: default}, spec: {listenerConfigurations: [{protocolPort: HTTPS}]}}`, "protocolPort"},
		"a number for a text":       {`{apiVersion: gateway.k8s.aws/v1beta1, kind: TargetGroupConfiguration, metadata: {name: a, namespace: default}, spec: {defaultConfiguration: {targetGroupAttributes: [{key: a, value: 1}]}}}`, "value"},
		"no name of a Service":      {`{apiVersion: gateway.k8s.aws/v1beta1, kind: TargetGroupConfiguration, metadata: {name: a, namespace: default}, spec: {targetReference: {kind: Service}}}`, "targetReference.name"},
		"an action without its own": {`{apiVersion: gateway.k8s.aws/v1, kind: ListenerRuleConfiguration, metadata: {name: a, namespace: default}, spec: {actions: [{type: redirect}]}}`, "redirectConfig"},
		"a binding to nothing":      {`{apiVersion: elbv2.k8s.aws/v1beta1, kind: TargetGroupBinding, metadata: {name: a, namespace: default}, spec: {targetType: ip}}`, "serviceRef"},
		"a route to no port":        {`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a, namespace: default}, spec: {rules: [{backendRefs: [{name: a, port: 0}]}]}}`, "port"},
		"pods that may be root":     {`{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: superapp}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}`, "restricted"},
	} {
		o := parsed(t, []byte(test.text))[0]
		if err := s.send(ctx, o, metav1.DryRunAll); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// parsed are the objects of manifests, in their order.
func parsed(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		o := &unstructured.Unstructured{}
		err := documents.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
}
