package expose

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dhow/internal/operator/render"
)

// Where deploy/operator keeps the operator's policy.
const (
	policyName = "dhow-operator"
	policyKey  = "policy.yaml"
)

// Policy is that of the operator that runs in a cluster. found is false where there is none,
// or it may not be read: then it is the default.
func Policy(ctx context.Context, c client.Reader) (p render.Policy, found bool, err error) {
	m := &corev1.ConfigMap{}
	at := client.ObjectKey{Namespace: render.Policy{}.WithDefaults().Namespace, Name: policyName}
	switch err := c.Get(ctx, at, m); {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("read the operator's policy in ConfigMap %s: %w", at, err)
	}
	if err := yaml.UnmarshalStrict([]byte(m.Data[policyKey]), &p); err != nil {
		return p, false, fmt.Errorf("read the operator's policy in ConfigMap %s: %w", at, err)
	}
	return p, true, nil
}
