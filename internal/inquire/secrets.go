package inquire

import (
	"cmp"
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"dhow/internal/inventory"
)

// secretTimeout bounds the reading of one Secret.
const secretTimeout = 10 * time.Second

// ClusterSecrets reads Secrets of a live cluster, one at a time: it takes the right to get
// those that are asked for, and no other.
type ClusterSecrets struct {
	client  corev1.SecretsGetter
	context string
}

// NewClusterSecrets opens a cluster; kubeconfig and context as of inventory.Options.
func NewClusterSecrets(kubeconfig, context string) (*ClusterSecrets, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	conf, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", cmp.Or(kubeconfig, rules.GetDefaultFilename()), err)
	}
	conf.Timeout, conf.UserAgent = secretTimeout, "dhow"
	client, err := corev1.NewForConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("make a client for Secrets: %w", err)
	}
	return &ClusterSecrets{client: client, context: cmp.Or(context, "in use")}, nil
}

// Values are what a Secret holds, by key. They are the caller's to keep to himself.
func (s *ClusterSecrets) Values(ctx context.Context, secret inventory.Ref) (map[string]string, error) {
	got, err := s.client.Secrets(secret.Namespace).Get(ctx, secret.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("not allowed to get %s: grant the account of the context %s the verb get on it", secret, s.context)
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", secret, err)
	}
	values := make(map[string]string, len(got.Data))
	for k, v := range got.Data {
		values[k] = string(v)
	}
	return values, nil
}
