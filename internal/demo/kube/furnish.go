package kube

import (
	"bytes"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
)

// furniture is what the cluster's processes read and how they are started.
type furniture struct {
	// first and then are command lines, in the order of their start.
	first, then [][]string
	// last ends at once where it lacks a right that system gives it.
	last []string
	// system are the manifests of DNS and metrics.
	system []byte
	// pause is the path of the sandbox' image.
	pause string
}

// metricsUser is who metrics-server is to the API server.
const metricsUser = "system:metrics-server"

//go:embed config
var config embed.FS

// furnish makes certificates, configuration and command lines. Each process has a
// user of its own at the API server, with the rights that Kubernetes gives to it.
func (c *Local) furnish(t toolbox) (*furniture, error) {
	var (
		s   = c.slot
		pki = filepath.Join(c.o.Dir, "pki")
		e   = &errands{}
		// One authority would let any certificate of the cluster reach etcd, or stand
		// for any user at the aggregated APIs.
		cluster    = e.authority(pki, "cluster")
		store      = e.authority(pki, "etcd")
		front      = e.authority(pki, "front-proxy")
		loopback   = netip.MustParseAddr("127.0.0.1")
		apiServer  = fmt.Sprintf("https://%s:%d", s.node(), apiPort)
		nodeUser   = "system:node:" + c.o.Name
		kubeconfig = func(user string, groups ...string) string {
			return e.text(func() (string, error) {
				return cluster.kubeconfig(filepath.Base(user)+".kubeconfig", c.o.Name, apiServer, user, groups...)
			})
		}
	)
	if e.err != nil {
		return nil, e.err
	}
	var (
		etcd      = e.identity(func() (identity, error) { return store.server("server", []netip.Addr{loopback}) })
		etcdUser  = e.identity(func() (identity, error) { return store.client("kube-apiserver") })
		frontUser = e.identity(func() (identity, error) { return front.client("front-proxy-client") })
		toKubelet = e.identity(func() (identity, error) { return cluster.client("kube-apiserver") })
		api       = e.identity(func() (identity, error) {
			return cluster.server("server", []netip.Addr{loopback, s.node(), s.apiService()}, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
		})
		kubelet = e.identity(func() (identity, error) {
			return cluster.server("kubelet", []netip.Addr{loopback, s.node()}, c.o.Name)
		})
		metrics = e.identity(func() (identity, error) {
			return cluster.server("metrics-server", []netip.Addr{s.node()}, "metrics-server.kube-system.svc")
		})
		manager   = kubeconfig("system:kube-controller-manager")
		scheduler = kubeconfig("system:kube-scheduler")
		node      = kubeconfig(nodeUser, "system:nodes")
		proxy     = kubeconfig("system:kube-proxy")
		dns       = kubeconfig("system:coredns")
		measurer  = kubeconfig(metricsUser)
	)
	c.kubeconfig = e.text(func() (string, error) {
		return cluster.kubeconfig("kubeconfig", c.o.Name, apiServer, "admin", "system:masters")
	})
	accounts, accountsPublic, err := accountKeys(pki)
	if err := errors.Join(e.err, err); err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(cluster.file)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's authority: %w", err)
	}
	known := map[string]any{
		"ID": s.id(), "Name": c.o.Name, "Dir": c.o.Dir, "CNI": t.cni, "Socket": socket, "Pause": pauseImage, "Registries": c.registries(),
		"Node": s.node(), "DNS": s.dns(), "Pods": s.pods(), "Link": s.link(),
		"CA": cluster.file, "Bundle": base64.StdEncoding.EncodeToString(bundle), "KubeletCert": kubelet.cert, "KubeletKey": kubelet.key,
		"Proxy": proxy, "CoreDNS": dns,
	}
	file := func(name string) string {
		return e.text(func() (string, error) {
			text, err := render(name, known)
			if err != nil {
				return "", err
			}
			return write(c.o.Dir, name, text)
		})
	}
	// Pods are joined by ptp and not by a bridge: every packet then passes the node's
	// routes and firewall, as Services need, without a kernel module for bridges.
	file("cni/network.conflist")
	containerd, authentication := file("containerd.toml"), file("authentication.yaml")
	kubeletConfig, proxyConfig, corefile := file("kubelet.yaml"), file("kube-proxy.yaml"), file("Corefile")
	f := &furniture{pause: filepath.Join(c.o.Dir, "pause.tar")}
	if f.system, err = render("system.yaml", known); err != nil {
		return nil, err
	}
	if err := errors.Join(e.err, writePause(f.pause, filepath.Join(t.bin, "pause"))); err != nil {
		return nil, err
	}

	program := func(name string) string { return filepath.Join(t.bin, name) }
	f.first = [][]string{
		{t.found["containerd"], "--config", containerd},
		{
			program("etcd"), "--name=default", "--data-dir=" + filepath.Join(c.o.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn", "--enable-grpc-gateway=false",
			"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380",
			"--client-cert-auth", "--trusted-ca-file=" + store.file, "--cert-file=" + etcd.cert, "--key-file=" + etcd.key,
		},
		{
			program("kube-apiserver"), fmt.Sprintf("--secure-port=%d", apiPort), "--advertise-address=" + s.node().String(),
			"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=" + store.file, "--etcd-certfile=" + etcdUser.cert, "--etcd-keyfile=" + etcdUser.key,
			"--tls-cert-file=" + api.cert, "--tls-private-key-file=" + api.key, "--client-ca-file=" + cluster.file,
			"--authentication-config=" + authentication, "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--service-cluster-ip-range=" + s.services().String(), "--allow-privileged",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + accountsPublic, "--service-account-signing-key-file=" + accounts,
			"--kubelet-certificate-authority=" + cluster.file, "--kubelet-client-certificate=" + toKubelet.cert, "--kubelet-client-key=" + toKubelet.key, "--kubelet-preferred-address-types=InternalIP",
			"--requestheader-client-ca-file=" + front.file, "--requestheader-allowed-names=front-proxy-client", "--requestheader-username-headers=X-Remote-User",
			"--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + frontUser.cert, "--proxy-client-key-file=" + frontUser.key, "--enable-aggregator-routing",
		},
	}
	f.then = [][]string{
		{
			program("kube-controller-manager"), "--kubeconfig=" + manager, "--authentication-kubeconfig=" + manager, "--authorization-kubeconfig=" + manager,
			"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials", "--kube-api-qps=200", "--kube-api-burst=400",
			"--service-account-private-key-file=" + accounts, "--root-ca-file=" + cluster.file,
		},
		{
			program("kube-scheduler"), "--kubeconfig=" + scheduler, "--authentication-kubeconfig=" + scheduler, "--authorization-kubeconfig=" + scheduler,
			"--bind-address=127.0.0.1", "--leader-elect=false",
		},
		{
			program("kubelet"), "--config=" + kubeletConfig, "--kubeconfig=" + node, "--root-dir=" + filepath.Join(c.o.Dir, "kubelet"),
			"--hostname-override=" + c.o.Name, "--node-ip=" + s.node().String(),
		},
		{program("kube-proxy"), "--config=" + proxyConfig},
		{program("coredns"), "-conf", corefile},
	}
	f.last = []string{
		program("metrics-server"), "--kubeconfig=" + measurer, "--authentication-kubeconfig=" + measurer, "--authorization-kubeconfig=" + measurer,
		"--bind-address=" + s.node().String(), "--secure-port=4443", "--tls-cert-file=" + metrics.cert, "--tls-private-key-file=" + metrics.key,
		"--kubelet-certificate-authority=" + cluster.file, "--kubelet-preferred-address-types=InternalIP", "--kubelet-use-node-status-port", "--metric-resolution=10s", "--kubelet-request-timeout=5s",
	}
	return f, nil
}

// render fills a template of the folder config.
func render(name string, known map[string]any) ([]byte, error) {
	text, err := fs.ReadFile(config, "config/"+filepath.Base(name)+".tmpl")
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, known); err != nil {
		return nil, fmt.Errorf("fill the template of %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// errands makes one thing after the other and remembers the first error, after
// which it makes nothing more.
type errands struct{ err error }

func (e *errands) authority(dir, name string) (a *authority) {
	if e.err == nil {
		a, e.err = newAuthority(dir, name)
	}
	return a
}

func (e *errands) identity(issue func() (identity, error)) (id identity) {
	if e.err == nil {
		id, e.err = issue()
	}
	return id
}

func (e *errands) text(write func() (string, error)) (text string) {
	if e.err == nil {
		text, e.err = write()
	}
	return text
}
