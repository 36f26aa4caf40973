package expiry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"dhow/internal/operator/apitest"
)

//nolint:gochecknoglobals // a constant
var now = time.Date(2026, 12, 7, 9, 0, 0, 0, time.UTC)

// certificate is one of the names, from yesterday until then.
func certificate(t *testing.T, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	return apitest.Certificate(t, now.AddDate(0, 0, -1), until, names...)
}

// serve shows certificates by the name that is asked for.
func serve(t *testing.T, by map[string]tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c, ok := by[h.ServerName]; ok {
			return &c, nil
		}
		return nil, errors.New("there is none of that name")
	}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() { l.Close(); group.Wait() })
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				_ = c.(*tls.Conn).HandshakeContext(context.Background())
			})
		}
	})
	return l.Addr().String()
}

func TestLook(t *testing.T) {
	address := serve(t, map[string]tls.Certificate{
		"good.example.com": certificate(t, now.AddDate(0, 3, 0), "good.example.com"), "soon.example.com": certificate(t, now.AddDate(0, 0, 20), "soon.example.com"),
		"over.example.com": certificate(t, now.Add(-time.Hour), "over.example.com"), "wrong.example.com": certificate(t, now.AddDate(0, 3, 0), "a.example.com", "b.example.com"),
		"www.wild.example.com": certificate(t, now.AddDate(0, 3, 0), "*.wild.example.com"),
	})
	dial := (&net.Dialer{}).DialContext
	for _, x := range []struct {
		name, state, text string
		pods              bool
	}{
		{"good.example.com", Valid, "", false},
		{"*.wild.example.com", Valid, "", false},
		{"soon.example.com", Ending, "it ends on 2026-12-27: AWS Certificate Manager renews", false},
		{"soon.example.com", Ending, "it ends on 2026-12-27: the pods hold it", true},
		{"over.example.com", Ended, "it ended on 2026-12-07, and clients refuse it", false},
		{"wrong.example.com", WrongName, "it is of a.example.com, b.example.com and not of wrong.example.com", false},
		{"none.example.com", Unknown, "it could not be looked at: begin TLS with " + address + " for none.example.com", false},
	} {
		got := Server{Addresses: []string{address}, Name: x.name, Pods: x.pods}.Look(t.Context(), dial, now, 30*24*time.Hour)
		if got.State != x.state || !strings.Contains(got.Message, x.text) || (got.Message == "") != (x.state == Valid) || got.NotAfter.IsZero() != (x.state == Unknown) {
			t.Errorf("%s: got %+v, want %s, %q", x.name, got, x.state, x.text)
		}
	}
	// The second address serves where the first one does not.
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if got := (Server{Addresses: []string{closed.Addr().String(), address}, Name: "good.example.com"}).Look(t.Context(), dial, now, 0); got.State != Valid {
		t.Errorf("got %+v: want the second address's", got)
	}
	if got := (Server{Name: "good.example.com"}).Look(t.Context(), dial, now, 0); got.State != Unknown || !strings.Contains(got.Message, "no load balancer yet") {
		t.Errorf("got %+v", got)
	}
	// Nobody is led to the machine itself, or to the machine's own services.
	for _, inside := range []string{address, "169.254.169.254:443", "[::1]:443", "0.0.0.0:443"} {
		if got := (Server{Addresses: []string{inside}, Name: "good.example.com"}).Look(t.Context(), Outside(), now, 0); got.State != Unknown || !strings.Contains(got.Message, "it is not the address of a load balancer") {
			t.Errorf("%s: got %+v", inside, got)
		}
	}
}
