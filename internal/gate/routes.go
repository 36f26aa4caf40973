package gate

import (
	"net"
	"slices"
	"strings"
)

// table finds a request's route.
type table struct {
	hosts map[string][]*route // by host, the longest prefix first
	any   []*route            // routes of every host, the longest prefix first
}

func newTable(routes []*route) *table {
	t := &table{hosts: map[string][]*route{}}
	for _, r := range routes {
		if r.host == "" {
			t.any = append(t.any, r)
		} else {
			t.hosts[r.host] = append(t.hosts[r.host], r)
		}
	}
	longest := func(a, b *route) int { return len(b.prefix) - len(a.prefix) }
	for _, list := range t.hosts {
		slices.SortStableFunc(list, longest)
	}
	slices.SortStableFunc(t.any, longest)
	return t
}

// find returns the route with the longest prefix among those of the host, then
// among those of any host; nil when there is none.
func (t *table) find(host, path string) *route {
	if len(t.hosts) > 0 {
		if r := match(t.hosts[bareHost(host)], path); r != nil {
			return r
		}
	}
	return match(t.any, path)
}

func match(routes []*route, path string) *route {
	for _, r := range routes {
		if under(path, r.prefix) {
			return r
		}
	}
	return nil
}

// under says whether a path is a prefix or lies below it. A prefix has no
// trailing slash, so the root is the empty one.
func under(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// bareHost is a host as it is compared: without port, in lower case, and without
// the dot that ends a full domain name.
func bareHost(host string) string {
	if strings.ContainsAny(host, ":]") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		} else {
			host = strings.Trim(host, "[]")
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
