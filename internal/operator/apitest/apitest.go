// Package apitest runs a real API server with its etcd for tests of controllers: no
// node, no pods, no other controllers.
package apitest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// startTimeout bounds the start of each of the two.
const startTimeout = time.Minute

// Start runs an API server that knows the definitions until the test ends. Without the
// programs, or under -short, the test is left out.
func Start(tb testing.TB, definitions ...fs.FS) *rest.Config {
	tb.Helper()
	return StartWith(tb, nil, definitions...)
}

// StartWith lets the environment be changed before it starts.
func StartWith(tb testing.TB, change func(*envtest.Environment), definitions ...fs.FS) *rest.Config {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts an API server: not with -short (testing.Short)")
	}
	dir := assets()
	if dir == "" {
		tb.Skip("there is no kube-apiserver with etcd here: `hack/setup --kube` builds them; left out as with testing.Short()")
	}
	env := &envtest.Environment{BinaryAssetsDirectory: dir, ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: startTimeout, CRDs: Read(tb, definitions...)}
	env.ControlPlane.GetAPIServer().Configure().Append("enable-aggregator-routing", "false")
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
	conf.QPS, conf.Burst = -1, 0
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

// Read reads the definitions of kinds in the folders' files.
func Read(tb testing.TB, folders ...fs.FS) []*apiextensionsv1.CustomResourceDefinition {
	tb.Helper()
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, folder := range folders {
		names, err := fs.Glob(folder, "*.yaml")
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(folder, name)
			if err != nil {
				tb.Fatal(err)
			}
			one := &apiextensionsv1.CustomResourceDefinition{}
			if err := yaml.Unmarshal(text, one); err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
			if one.Kind == "CustomResourceDefinition" {
				all = append(all, one)
			}
		}
	}
	return all
}
