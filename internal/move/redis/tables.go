package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// keySpace names a database as comparisons and people see it.
func keySpace(db int) string { return "db" + strconv.Itoa(db) }

// keySpaces counts the keys of each database that has any, as INFO says.
func keySpaces(ctx context.Context, s *session) (map[int]int64, error) {
	info, err := s.info(ctx, "keyspace")
	if err != nil {
		return nil, err
	}
	spaces := map[int]int64{}
	for name, value := range info {
		db, err := strconv.Atoi(strings.TrimPrefix(name, "db"))
		if err != nil || !strings.HasPrefix(name, "db") {
			continue
		}
		keys, _, _ := strings.Cut(strings.TrimPrefix(value, "keys="), ",")
		n, err := strconv.ParseInt(keys, 10, 64)
		if err != nil {
			return nil, s.fails("read INFO keyspace", fmt.Errorf("%s has no number of keys", name))
		}
		spaces[db] = n
	}
	return spaces, nil
}

// Tables lists the key spaces that move: the databases of the source that hold keys.
func (m *Mover) Tables(ctx context.Context) ([]string, error) {
	s, err := m.dial(ctx, source)
	if err != nil {
		return nil, err
	}
	defer s.hangUp()
	spaces, err := keySpaces(ctx, s)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(spaces))
	for _, db := range slices.Sorted(maps.Keys(spaces)) {
		names = append(names, keySpace(db))
	}
	return names, nil
}
