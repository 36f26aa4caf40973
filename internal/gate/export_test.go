package gate

// SparesReady is how many connections are ready that were opened ahead to a side of the only route.
func (g *Gate) SparesReady(side Side) int {
	s := g.routes[0].upstreams[side].spares()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}
