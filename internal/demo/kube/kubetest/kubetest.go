// Package kubetest lets tests that start clusters go one after the other, and sign in
// there: packages are tested side by side, and these tests compare the machine before and after.
package kubetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Require leaves a test out where clusters are not wanted or can not be, and otherwise
// waits until it has them alone. What check, which is kube.Check, finds missing is a failure.
func Require(tb testing.TB, check func() error) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts clusters: not with -short (testing.Short)")
	}
	if os.Getuid() != 0 {
		tb.Skip("clusters take root: left out as with testing.Short()")
	}
	if err := check(); err != nil {
		tb.Fatal(err)
	}
	alone(tb)
}

// alone waits until no other test on this machine has clusters, and keeps others
// waiting until this one ends.
func alone(tb testing.TB) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "dhow-cluster-tests.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
	// The lock goes with the file, also when this process is killed.
	tb.Cleanup(func() { _ = f.Close() })
}

// Mounts are this machine's, without those that other tests have in their temporary
// folders.
func Mounts(tb testing.TB) []string {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		tb.Fatal(err)
	}
	root, _, _ := strings.Cut(tb.Name(), "/")
	var mounts []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " "+os.TempDir()+"/") && !strings.Contains(line, "/"+root) {
			continue
		}
		mounts = append(mounts, strings.TrimSpace(line))
	}
	return mounts
}

// Account is one to make in a cluster, with the rights of a ClusterRole that is there.
type Account struct {
	Namespace, Name string
	// Role is the ClusterRole, Binding what binds the account to it.
	Role, Binding string
}

// SignIn makes the account, and gives the path of a kubeconfig for it alone.
func SignIn(ctx context.Context, tb testing.TB, kubeconfig string, a Account) string {
	tb.Helper()
	conf, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		tb.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(conf)
	if err != nil {
		tb.Fatal(err)
	}
	accounts := client.CoreV1().ServiceAccounts(a.Namespace)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: a.Name}}, metav1.CreateOptions{}); err != nil {
		tb.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: a.Binding},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: a.Role},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: a.Name, Namespace: a.Namespace}}}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		tb.Fatal(err)
	}
	token, err := accounts.CreateToken(ctx, a.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		tb.Fatal(err)
	}
	raw.AuthInfos = map[string]*clientcmdapi.AuthInfo{a.Name: {Token: token.Status.Token}}
	raw.Contexts = map[string]*clientcmdapi.Context{a.Name: {Cluster: raw.Contexts[raw.CurrentContext].Cluster, AuthInfo: a.Name}}
	raw.CurrentContext = a.Name
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*raw, path); err != nil {
		tb.Fatal(err)
	}
	return path
}
