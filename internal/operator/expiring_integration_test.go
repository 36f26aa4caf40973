package operator

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/expiry"
)

// shows plays the load balancers: it shows one certificate, which can be changed.
type shows struct {
	mu  sync.Mutex
	one tls.Certificate
}

func (s *shows) show(c tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.one = c
}

// serve plays them until the test ends, and returns how they are reached.
func (s *shows) serve(b *bench) expiry.Dial {
	b.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		one := s.one
		return &one, nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	var group sync.WaitGroup
	b.Cleanup(func() { l.Close(); group.Wait() })
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				if t, ok := c.(*tls.Conn); ok {
					_ = t.HandshakeContext(context.Background())
				}
			})
		}
	})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "public.elb.example:443" {
			return nil, fmt.Errorf("no such host %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}
}

func expires(b *bench) {
	b.clock.set(b, "09:00:00")
	now := b.clock.now()
	const host = "till.example.com"
	var balancer shows
	balancer.show(apitest.Certificate(b, now.AddDate(0, 0, -1), now.AddDate(0, 0, 20), host))
	b.workload("till")
	e := b.exposure("till", func(s *v1alpha1.ExposureSpec) { s.Visibility, s.Hosts = v1alpha1.Public, []v1alpha1.Host{host} })
	b.ready(e)
	if meta.FindStatusCondition(e.Status.Conditions, v1alpha1.CertificatesValid) != nil {
		b.Error("want nothing looked at that nobody asked for")
	}
	with := func(days int) {
		b.stop()
		b.policy.ExpiryDays = days
		b.start()
	}
	was := b.dial
	b.dial = balancer.serve(b)
	with(30)
	c := b.is(e, v1alpha1.CertificatesValid, metav1.ConditionFalse, expiry.Ending)
	if !strings.Contains(c.Message, "till.example.com: it ends on 2026-12-27") {
		b.Errorf("got %q", c.Message)
	}
	b.is(e, v1alpha1.Ready, metav1.ConditionTrue, "Serving")
	measured := func() float64 {
		at, _ := b.gauge("dhow_operator_certificate_expires_timestamp_seconds", host)
		return at
	}
	if got := measured(); got != float64(now.AddDate(0, 0, 20).Unix()) {
		b.Errorf("the metric says %g", got)
	}
	wake := func() {
		b.changed(e, func() { e.Annotations = map[string]string{"example.com/woken": time.Now().String()} })
	}
	// A second look at the same writes nothing.
	b.settled()
	before := b.writes.count()
	wake()
	b.settled()
	for _, w := range b.writes.since(before) {
		if strings.Contains(w, "/till") {
			b.Errorf("it wrote %s", w)
		}
	}
	balancer.show(apitest.Certificate(b, now.AddDate(0, 0, -9), now.AddDate(0, 0, -1), host))
	wake()
	b.is(e, v1alpha1.CertificatesValid, metav1.ConditionFalse, expiry.Ended)
	balancer.show(apitest.Certificate(b, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0), host))
	wake()
	b.is(e, v1alpha1.CertificatesValid, metav1.ConditionTrue, expiry.Valid)
	b.await("events", func() string {
		all := &corev1.EventList{}
		if err := b.List(b.ctx, all, client.InNamespace("superapp")); err != nil {
			return err.Error()
		}
		seen := map[string]bool{}
		for i := range all.Items {
			if all.Items[i].InvolvedObject.Name == "till" && all.Items[i].Type == corev1.EventTypeWarning {
				seen[all.Items[i].Reason] = true
			}
		}
		if !seen["CertificateEnding"] || !seen["CertificateEnded"] {
			return fmt.Sprintf("there are %v", seen)
		}
		return ""
	})
	// What can not be reached is told to be unknown, and is no alarm.
	private := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	if c := b.is(private, v1alpha1.CertificatesValid, metav1.ConditionUnknown, expiry.Unknown); !strings.Contains(c.Message, "no such host private.elb.example:443") {
		b.Errorf("got %q", c.Message)
	}
	// Turned off, it says nothing any more.
	with(0)
	b.dial = was
	for _, x := range []*v1alpha1.Exposure{e, private} {
		b.await("the condition to be gone", func() string {
			if b.get(x); meta.FindStatusCondition(x.Status.Conditions, v1alpha1.CertificatesValid) != nil || len(x.Status.Certificates) > 0 {
				return fmt.Sprint(x.Status.Certificates)
			}
			return ""
		})
	}
	if got := measured(); got != 0 {
		b.Errorf("the metric still says %g", got)
	}
}
