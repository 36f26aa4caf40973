package mariadb

import "context"

// Tables are the tables that move, by qualified name.
func (m *Mover) Tables(ctx context.Context) ([]string, error) {
	conn, err := m.session(ctx, source)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	c, err := m.catalog(ctx, conn)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(c.Tables))
	for i, t := range c.Tables {
		names[i] = t.String()
	}
	return names, nil
}
