package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/demo/kube"
	"dhow/internal/operator/install"
	"dhow/superapp/deploy"
)

// exposedEvery is the pause between two looks at the Exposures.
const exposedEvery = 500 * time.Millisecond

// operator is what puts the operator into the side's cluster, by its own installation with
// dhow's image there, told of a plan's policy.
func (d *dock) operator(ctx context.Context, policy []byte) ([]byte, error) {
	if d.dhow == "" {
		if err := d.provision(ctx); err != nil {
			return nil, err
		}
	}
	return Operator(d.dhow, policy)
}

// Operator are the manifests that put the operator into a cluster by its own installation,
// with dhow's image as the cluster finds it, told of a policy.
func Operator(image string, policy []byte) ([]byte, error) {
	all, err := install.Objects()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, o := range all {
		switch {
		case o.GetKind() == "Deployment":
			err = ownImage(o, image)
		case o.GetKind() == "ConfigMap" && o.GetName() == install.Name:
			err = unstructured.SetNestedField(o.Object, string(policy), "data", "policy.yaml")
		}
		if err != nil {
			return nil, fmt.Errorf("fit %s %s of the operator's installation: %w", o.GetKind(), o.GetName(), err)
		}
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.Bytes(), nil
}

// ownImage lets a Deployment's containers run dhow's image.
func ownImage(o *unstructured.Unstructured, image string) error {
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(o.Object, path...)
	if err != nil {
		return err
	}
	for _, c := range containers {
		if m, ok := c.(map[string]any); ok {
			m["image"] = image
		}
	}
	return unstructured.SetNestedSlice(o.Object, containers, path...)
}

// awaitExposed returns how many Exposures the application has once the operator has made
// what each takes, and pods serve behind it. That AWS says something of their load balancers
// is not waited for: there is none here.
func (d *dock) awaitExposed(ctx context.Context) (int, error) {
	if _, err := kube.AwaitReady(ctx, d.cluster.Kubeconfig(), install.Namespace); err != nil {
		return 0, fmt.Errorf("wait for the operator at the %s: %w", d.side, err)
	}
	conf, err := clientcmd.BuildConfigFromFlags("", d.cluster.Kubeconfig())
	if err != nil {
		return 0, fmt.Errorf("find the %s's cluster: %w", d.side, err)
	}
	c, err := dynamic.NewForConfig(conf)
	if err != nil {
		return 0, fmt.Errorf("reach the %s's cluster: %w", d.side, err)
	}
	for {
		list, err := c.Resource(v1alpha1.GroupVersion.WithResource("exposures")).Namespace(deploy.Namespace).List(ctx, metav1.ListOptions{})
		if err == nil {
			err = exposed(list)
		}
		if err == nil {
			return len(list.Items), nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("wait for what the operator makes at the %s: %w", d.side, ctx.Err()), err)
		case <-time.After(exposedEvery):
		}
	}
}

// exposed says which Exposure is not yet as it should be, and why; nil where all are.
func exposed(list *unstructured.UnstructuredList) error {
	if len(list.Items) == 0 {
		return errors.New("there are no Exposures")
	}
	for i := range list.Items {
		var e v1alpha1.Exposure
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &e); err != nil {
			return fmt.Errorf("read Exposure %s: %w", list.Items[i].GetName(), err)
		}
		for _, kind := range []string{v1alpha1.Accepted, v1alpha1.Applied, v1alpha1.Available} {
			c := meta.FindStatusCondition(e.Status.Conditions, kind)
			switch {
			case c == nil || c.ObservedGeneration != e.Generation:
				return fmt.Errorf("the operator has not looked at Exposure %s yet", e.Name)
			case c.Status != "True":
				return fmt.Errorf("the Exposure %s is not %s: %s: %s", e.Name, kind, c.Reason, c.Message)
			}
		}
	}
	return nil
}
