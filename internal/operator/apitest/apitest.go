// Package apitest runs a real API server with its etcd for tests of controllers: no
// node, no pods, no other controllers.
package apitest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"dhow/deploy"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/crds"
)

// startTimeout bounds the start of each of the two.
const startTimeout = time.Minute

// Start runs an API server that knows the kinds until the test ends. Without the
// programs, or under -short, the test is left out. change, if it is not nil, is given the
// environment before it starts.
func Start(tb testing.TB, change func(*envtest.Environment), kinds ...*apiextensionsv1.CustomResourceDefinition) *rest.Config {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts an API server: not with -short (testing.Short)")
	}
	dir := assets()
	if dir == "" {
		tb.Skip(ErrNoPrograms.Error() + "; left out as with testing.Short()")
	}
	env := &envtest.Environment{BinaryAssetsDirectory: dir, ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: startTimeout, CRDs: kinds}
	if change != nil {
		change(env)
	}
	conf, err := env.Start()
	tb.Cleanup(func() {
		if err := env.Stop(); err != nil {
			tb.Errorf("stop the API server: %v", err)
		}
	})
	if err != nil {
		tb.Fatalf("start an API server: %v", err)
	}
	conf.QPS = -1 // no limit: the API server has one of its own
	return conf
}

// assets is the folder with etcd and kube-apiserver, "" if there is none: what
// KUBEBUILDER_ASSETS says, or what hack/kube has built.
func assets() string {
	var places []string
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		places = append(places, dir)
	}
	caches := []string{os.Getenv("DHOW_CACHE")}
	if home, err := os.UserHomeDir(); err == nil {
		caches = append(caches, filepath.Join(home, ".cache/dhow"))
	}
	for _, cache := range caches {
		if cache == "" {
			continue
		}
		built, _ := filepath.Glob(filepath.Join(cache, "kube-*"))
		slices.Reverse(built) // the newest first
		places = append(places, built...)
	}
	for _, dir := range places {
		if !slices.ContainsFunc([]string{"etcd", "kube-apiserver"}, func(name string) bool {
			_, err := os.Stat(filepath.Join(dir, name))
			return err != nil
		}) {
			return dir
		}
	}
	return ""
}

// Ours are the operator's own kinds.
func Ours(tb testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	tb.Helper()
	text, err := kube.Files(deploy.Definitions())
	if err != nil {
		tb.Fatal(err)
	}
	return parsed(tb, text)
}

// Others are the kinds of the Gateway API and of the AWS Load Balancer Controller.
func Others(tb testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	tb.Helper()
	text, err := crds.All(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	return parsed(tb, text)
}

// Rollouts is the kind of Argo Rollouts, as far as Kubernetes' own controllers would know it:
// Argo's definition has megabytes.
func Rollouts() *apiextensionsv1.CustomResourceDefinition {
	const kind, plural, group = "Rollout", "rollouts", "argoproj.io"
	return &apiextensionsv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: "rollout"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1alpha1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}}}},
		},
	}
}

// parsed reads definitions from YAML documents.
func parsed(tb testing.TB, text []byte) []*apiextensionsv1.CustomResourceDefinition {
	tb.Helper()
	var all []*apiextensionsv1.CustomResourceDefinition
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text))
	for {
		one := &apiextensionsv1.CustomResourceDefinition{}
		err := documents.Decode(one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		if one.Kind == "CustomResourceDefinition" {
			all = append(all, one)
		}
	}
}
