package apitest

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestPlane starts an API server of its own, counts what is asked of it, and ends and
// pauses it and its store: what was acknowledged stays.
func TestPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an API server: not with -short (testing.Short)")
	}
	if assets() == "" {
		t.Skip(ErrNoPrograms.Error() + "; left out as with testing.Short()")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p, err := NewPlane(ctx, PlaneOptions{Dir: t.TempDir(), Audited: []string{Operator}, Collector: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	as := func(user string) *kubernetes.Clientset {
		conf, err := p.Config(user)
		if err != nil {
			t.Fatal(err)
		}
		c, err := kubernetes.NewForConfig(conf)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin, operator := as(Admin), as(Operator)
	if _, err := operator.CoreV1().Services("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v: want the operator to have no rights yet", err)
	}
	roles, err := os.ReadFile("../../../deploy/operator/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Permit(ctx, roles); err != nil {
		t.Fatal(err)
	}
	_, from, err := p.Requests(Operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	await(t, ctx, "the operator's rights", func() error {
		_, err := operator.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		return err
	})
	if _, from, err = p.Requests(Operator, from); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := operator.CoreV1().Services("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.CoreV1().Services("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if r, _, err := p.Requests(Operator, from); err != nil || r["list services"] != 3 || r.All() != 3 {
		t.Errorf("got %v, %v: want the operator's three lists", r, err)
	}

	kept := func(name string) {
		t.Helper()
		if _, err := admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	kept("before")
	p.KillServer()
	if _, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "before", metav1.GetOptions{}); err == nil {
		t.Error("a killed API server answers")
	}
	if err := p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "before", metav1.GetOptions{}); err != nil {
		t.Errorf("after a kill: %v", err)
	}
	if err := p.PauseStore(); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	if _, err := admin.CoreV1().ConfigMaps("default").Create(short, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "paused"}}, metav1.CreateOptions{}); err == nil {
		t.Error("something was written while the store was paused")
	}
	stop()
	if err := p.ResumeStore(); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, "the store", func() error {
		_, err := admin.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		return err
	})

	// What is owned goes with its owner.
	owner, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "before", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}}}
	if _, err := admin.CoreV1().ConfigMaps("default").Create(ctx, owned, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := admin.CoreV1().ConfigMaps("default").Delete(ctx, owner.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, "the garbage collector", func() error {
		_, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "owned", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errStillThere
	})
}

// errStillThere says that something has not gone yet.
var errStillThere = errors.New("it is still there")

// await tries until it succeeds.
func await(t *testing.T, ctx context.Context, what string, try func() error) {
	t.Helper()
	for {
		err := try()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("wait for %s: %v", what, err)
		}
		pause(ctx, watchAgain)
	}
}
