package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/internal/expose"
	"dhow/internal/operator/apitest"
)

// kubeconfig writes what leads to an API server.
func kubeconfig(t *testing.T, conf *rest.Config) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["it"] = &clientcmdapi.Cluster{Server: conf.Host, CertificateAuthorityData: conf.CAData}
	c.AuthInfos["it"] = &clientcmdapi.AuthInfo{ClientCertificateData: conf.CertData, ClientKeyData: conf.KeyData}
	c.Contexts["it"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "it", Namespace: "shop"}
	c.CurrentContext = "it"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExpose runs the command against a real API server without an operator.
func TestExpose(t *testing.T) {
	conf := apitest.Start(t, nil, append(apitest.Ours(t), apitest.Others(t)...)...)
	c, err := kubeClient(conf)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "cart"}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dhow-system"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "dhow-system", Name: "dhow-operator"}, Data: map[string]string{"policy.yaml": "domain: bank.example\n"}},
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "cart", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}}},
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "shop"}, Spec: networkingv1.IngressSpec{IngressClassName: ptr.To("nginx"), TLS: []networkingv1.IngressTLS{{SecretName: "shop", Hosts: []string{"shop.example.com"}}},
			Rules: []networkingv1.IngressRule{{Host: "shop.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix),
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "cart", Port: networkingv1.ServiceBackendPort{Name: "http"}}}}}}}}}}},
	} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	file := kubeconfig(t, conf)
	run := func(code int, args ...string) string {
		t.Helper()
		var out strings.Builder
		if got := Run(context.Background(), append([]string{"expose", "--kubeconfig", file}, args...), IO{In: strings.NewReader(""), Out: &out, Err: &out}); got != code {
			t.Errorf("%q ends with %d, want %d: %s", args, got, code, out.String())
		}
		return out.String()
	}
	golden(t, "expose.txt", run(exitDone, "cart"))
	golden(t, "expose.yaml", run(exitDone, "--all", "-o", "yaml", "--visibility", "public", "--host", "cart.example.com"))
	golden(t, "expose-dry-run.txt", run(exitFailed, "--from", "ingress", "shop", "--visibility", "public", "--dry-run"))
	golden(t, "expose-from.yaml", run(exitDone, "--from", "ingress", "shop", "--visibility", "public", "--accept", "tls-secret", "--dry-run", "-o", "yaml"))
	if out := run(exitUsage, "--from", "ingress", "shop", "--visibility", "public", "--accept", "tls-secret"); !strings.Contains(out, "add --yes") {
		t.Errorf("got %s: want that nobody can be asked", out)
	}
	var result exposeResult
	if err := json.Unmarshal([]byte(run(exitDone, "cart", "--objects", "-o", "json", "--apply", "--wait", "0s")), &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Proposals) != 1 || result.Proposals[0].Change != expose.New || len(result.Proposals[0].Objects) < 5 || len(result.Applied) != 1 || result.Applied[0].Error != "" {
		t.Errorf("got %+v", result)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitFailed, "nobody has answered for it within 1s", []string{"cart", "--apply", "--wait", "1s"}},
		{exitUsage, "there is no Deployment and no StatefulSet nobody", []string{"nobody"}},
		{exitUsage, "nothing of that name is lost", []string{"--from", "ingress", "shop", "--visibility", "public", "--accept", "path", "--dry-run"}},
		{exitUsage, "say --visibility public", []string{"--from", "ingress", "shop", "--dry-run"}},
		{exitFailed, "has the Exposure cart already", []string{"--from", "ingress", "shop", "--visibility", "public", "--accept", "tls-secret", "--yes"}},
		{exitUsage, "no conversion of Ingress/shop has begun", []string{"--from", "ingress", "shop", "--undo", "--yes"}},
		{exitDone, "the operator gives its workloads Exposures from now on", []string{"--label"}},
		{exitDone, `"already": true`, []string{"--label", "-o", "json"}},
	} {
		if out := run(c.code, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("%q prints no %q, but %s", c.args, c.want, out)
		}
	}
	if names := (&exposeFlags{kubeconfig: file, from: expose.FromIngress}).names(t.Context()); len(names) != 1 || names[0] != "shop" {
		t.Errorf("a shell is told %q", names)
	}
}
