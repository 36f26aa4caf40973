package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"dhow/internal/inventory"
	"dhow/internal/region"
)

// The accounts of a plan.
const (
	production    = "production"
	nonproduction = "nonproduction"
	security      = "security"
	management    = "management"
)

//nolint:gochecknoglobals // a constant list
var accountNames = []string{management, nonproduction, production, security}

// How a network is cut. Pods take addresses of their own from it, so nearly all is theirs;
// what stands at its edges is few.
const (
	// networkBits is the size of a network: the largest that a VPC takes at once.
	networkBits = 16
	// podBits is each zone's part for nodes and pods with three zones, and with four.
	podBits, podBitsOfFour = 18, 19
	// roleBits is one role's part for load balancers or databases, zoneBits a zone's part of it.
	roleBits, zoneBits = 20, 22
	// aroundBits is what is left free around a single address that the source was seen to use.
	aroundBits = 16
	// fewZones is up to how many zones the larger parts fit.
	fewZones = 3
)

// Where the roles' parts begin, in the third byte of an address.
const (
	edgeAt, storesAt, innerAt = 192, 208, 224
)

// Account is one of AWS's.
type Account struct {
	Name string `json:"name"`
	// ID is "" where it is not known yet.
	ID  string `json:"id,omitempty"`
	For string `json:"for"`
}

// Network is one VPC.
type Network struct {
	Name    string       `json:"name"`
	Account string       `json:"account"`
	Region  string       `json:"region"`
	CIDR    netip.Prefix `json:"cidr"`
	// Services is that of the cluster's own Services, which are routed nowhere.
	Services netip.Prefix `json:"services"`
	// Edge is where public load balancers stand, Inner where private ones do, Stores where
	// databases do: each a part of its own, so that a policy can name it.
	Edge   netip.Prefix `json:"edge"`
	Inner  netip.Prefix `json:"inner"`
	Stores netip.Prefix `json:"stores"`
	Zones  []Zone       `json:"zones"`
}

// Zone is the part of a network in one availability zone.
type Zone struct {
	Zone   string       `json:"zone"`
	Pods   netip.Prefix `json:"pods"`
	Edge   netip.Prefix `json:"edge"`
	Inner  netip.Prefix `json:"inner"`
	Stores netip.Prefix `json:"stores"`
}

// taken are networks that are in use.
type taken struct{ all []netip.Prefix }

// private are the networks that a source's own addresses can be of: others never overlap
// with one that is taken from these.
//
//nolint:gochecknoglobals // constant prefixes
var private = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")}

// add notes a network; one that is not private, or all there is, takes nothing.
func (t *taken) add(p netip.Prefix) {
	p = p.Masked()
	for _, all := range private {
		if p.Bits() >= all.Bits() && all.Contains(p.Addr()) {
			t.all = append(t.all, p)
			return
		}
	}
}

// address notes a single address, with what probably lies around it.
func (t *taken) address(text string) {
	a := address(text)
	if !a.IsValid() || !a.Is4() {
		return
	}
	if p, err := a.Prefix(aroundBits); err == nil {
		t.add(p)
	}
}

// prefix notes a network as a text.
func (t *taken) prefix(text string) {
	if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() {
		t.add(p)
	}
}

func (t *taken) overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(t.all, p.Overlaps)
}

// texts are the networks without those within others, sorted.
func (t *taken) texts() []string {
	var wide []netip.Prefix
	for _, p := range t.all {
		if !slices.ContainsFunc(t.all, func(q netip.Prefix) bool { return q != p && q.Bits() < p.Bits() && q.Contains(p.Addr()) }) {
			wide = append(wide, p)
		}
	}
	slices.SortFunc(wide, netip.Prefix.Compare)
	wide = slices.Compact(wide)
	texts := make([]string, len(wide))
	for i, p := range wide {
		texts[i] = p.String()
	}
	return texts
}

// next takes a network of a size out of pools, the first that overlaps with nothing.
func (t *taken) next(pools []netip.Prefix, bits int) (netip.Prefix, bool) {
	for _, pool := range pools {
		if pool.Bits() > bits {
			continue
		}
		for p := netip.PrefixFrom(pool.Addr(), bits); p.IsValid() && pool.Contains(p.Addr()); p = after(p) {
			if !t.overlaps(p) {
				t.all = append(t.all, p)
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// after is the network of the same size behind one, invalid behind the last.
func after(p netip.Prefix) netip.Prefix {
	b := p.Addr().As4()
	n := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	n += 1 << (32 - p.Bits())
	if n > 1<<32-1 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), p.Bits())
}

// layNetworks finds networks that overlap with nothing that the source was seen to use.
func (m *maker) layNetworks() error {
	m.plan.Accounts = []Account{
		{management, m.o.Accounts[management], "the organization, and the policies that bind the other accounts"},
		{nonproduction, m.o.Accounts[nonproduction], "what is tried before it is live, a network of its own in the primary region"},
		{production, m.o.Accounts[production], "what users reach, and its twin for disaster recovery"},
		{security, m.o.Accounts[security], "logs, findings and backups that nobody in the other two can remove"},
	}
	if m.o.Accounts[production] == "" {
		m.decide(Decision{What: "the accounts' numbers are not known", Do: "name them under accounts in the options; until then the manifests' images have the account 000000000000", Blocks: true})
	}
	m.seen = &taken{}
	for _, p := range m.o.Network.Taken {
		m.seen.add(p)
	}
	m.seeAddresses()
	m.plan.Source.Taken = m.seen.texts()
	own := &taken{}
	for _, at := range []struct {
		account string
		region  *region.Region
	}{{production, m.primary}, {production, m.dr}, {nonproduction, m.primary}} {
		if at.region == nil {
			continue
		}
		n, err := m.layNetwork(at.account, at.region, own)
		if err != nil {
			return err
		}
		m.plan.Networks = append(m.plan.Networks, n)
	}
	slices.SortFunc(m.plan.Networks, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (m *maker) layNetwork(account string, r *region.Region, own *taken) (Network, error) {
	n := Network{Name: account + "-" + r.Name, Account: account, Region: r.Name}
	var ok bool
	if n.CIDR, ok = m.seen.next(m.o.Network.Pools, networkBits); !ok {
		return n, &InvalidError{[]string{fmt.Sprintf("network.pools: no /%d is left in %v that overlaps with nothing seen at the source: add a pool to the options", networkBits, m.o.Network.Pools)}}
	}
	// Each cluster could have the same, for nothing routes to them; each gets its own where
	// there are enough, so that logs tell them apart.
	for _, p := range m.o.Network.Services {
		if !m.seen.overlaps(p) && !own.overlaps(p) {
			n.Services = p
			break
		}
	}
	if !n.Services.IsValid() {
		for _, p := range m.o.Network.Services {
			if !m.seen.overlaps(p) {
				n.Services = p
				break
			}
		}
	}
	if !n.Services.IsValid() {
		return n, &InvalidError{[]string{fmt.Sprintf("network.services: all of %v overlap with what was seen at the source: add another to the options", m.o.Network.Services)}}
	}
	own.all = append(own.all, n.Services)
	n.cut(r.Zones[:min(len(r.Zones), m.o.Goals.Zones, maxZones)])
	return n, nil
}

// cut divides a network among zones and roles.
func (n *Network) cut(zones []string) {
	at := func(third int, bits int) netip.Prefix {
		b := n.CIDR.Addr().As4()
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0], b[1], byte(third), 0}), bits)
	}
	bits := podBits
	if len(zones) > fewZones {
		bits = podBitsOfFour
	}
	n.Edge, n.Stores, n.Inner = at(edgeAt, roleBits), at(storesAt, roleBits), at(innerAt, roleBits)
	for i, z := range zones {
		step := i << (24 - zoneBits)
		n.Zones = append(n.Zones, Zone{Zone: z, Pods: at(i<<(24-bits), bits), Edge: at(edgeAt+step, zoneBits), Inner: at(innerAt+step, zoneBits), Stores: at(storesAt+step, zoneBits)})
	}
}

// seeAddresses gathers every private network and address that the source names.
func (m *maker) seeAddresses() {
	for _, s := range m.inv.Services {
		for _, a := range s.Spec.ClusterIPs {
			m.seen.address(a)
		}
		m.seen.address(s.Spec.ClusterIP)
		for _, e := range s.Endpoints {
			m.seen.address(e.Address)
		}
	}
	for _, c := range inventory.Of[*corev1.Node](m.inv) {
		for _, p := range append([]string{c.Spec.PodCIDR}, c.Spec.PodCIDRs...) {
			m.seen.prefix(p)
			if before, _, ok := strings.Cut(p, "/"); ok { // other nodes' parts lie around it
				m.seen.address(before)
			}
		}
		for _, a := range c.Status.Addresses {
			m.seen.address(a.Address)
		}
	}
	for _, c := range inventory.Of[*discoveryv1.EndpointSlice](m.inv) {
		for _, e := range c.Endpoints {
			for _, a := range e.Addresses {
				m.seen.address(a)
			}
		}
	}
	for _, c := range inventory.Of[*corev1.Endpoints](m.inv) { //nolint:staticcheck // old, and in use at sources
		for _, s := range c.Subsets {
			for _, a := range s.Addresses {
				m.seen.address(a.IP)
			}
		}
	}
	for _, c := range inventory.Of[*networkingv1.NetworkPolicy](m.inv) {
		for _, r := range c.Spec.Ingress {
			for _, p := range r.From {
				m.seeBlock(p.IPBlock)
			}
		}
		for _, r := range c.Spec.Egress {
			for _, p := range r.To {
				m.seeBlock(p.IPBlock)
			}
		}
	}
	for _, d := range m.inv.Databases {
		m.seen.address(d.Host)
	}
	for _, c := range m.inv.Calls {
		m.seen.address(c.Host)
	}
}

func (m *maker) seeBlock(b *networkingv1.IPBlock) {
	if b == nil {
		return
	}
	m.seen.prefix(b.CIDR)
	for _, e := range b.Except {
		m.seen.prefix(e)
	}
}

// home is the network that production lives in.
func (m *maker) home() *Network {
	for i := range m.plan.Networks {
		if n := &m.plan.Networks[i]; n.Account == production && n.Region == m.primary.Name {
			return n
		}
	}
	return &Network{}
}
