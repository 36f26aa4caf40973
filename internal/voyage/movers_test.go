package voyage

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
	"dhow/internal/move/postgres"
	"dhow/internal/move/redis"
)

// TestOpenNamesAll: who sets one credential can set the next too.
func TestOpenNamesAll(t *testing.T) {
	e := &estate.Estate{Name: "test", State: t.TempDir(), Databases: []estate.Database{
		{Name: "a", Source: estate.Endpoint{Host: "127.0.0.1", Database: "a", User: "u", Password: estate.Secret{Env: "DHOW_TEST_IS_NOT_SET"}}, Target: estate.Endpoint{Database: "a"}},
		{Name: "b", Engine: "oracle"},
		{Name: "d", Engine: estate.MariaDB, Limits: estate.Limits{Connections: 1}, Source: estate.Endpoint{Host: "/run/mysqld.sock"}, Target: estate.Endpoint{Host: "127.0.0.1", Password: estate.Secret{Env: "DHOW_TEST_IS_NOT_SET"}}},
		{Name: "e", Engine: estate.Redis, Limits: estate.Limits{Connections: 1}, Source: estate.Endpoint{Host: "127.0.0.1", Password: estate.Secret{Env: "DHOW_TEST_IS_NOT_SET"}}, Target: estate.Endpoint{}},
		{Name: "c", Limits: estate.Limits{Connections: 1}, Source: estate.Endpoint{Host: "127.0.0.1", Database: "c", User: "u"}, Target: estate.Endpoint{Host: "127.0.0.1", Port: 1, Database: "c", User: "u"}},
	}}
	_, err := Open(context.Background(), e, Options{})
	if err == nil {
		t.Fatal("it opens")
	}
	for _, want := range []string{"database a: source: ", "DHOW_TEST_IS_NOT_SET", "database a: target: the endpoint has no host", `database b: engine "oracle" can not be moved`, "database c: limits.connections is 1",
		"database d: limits.connections is 1", "database d: target: ", "database d: replication: the other server can not reach the source", "database e: limits.connections is 1", "database e: source: ", "database e: target: the endpoint has no host"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
}

// TestMoversByEngine: every engine has its mover and its way back, in the estate's order.
func TestMoversByEngine(t *testing.T) {
	end := func(port int) estate.Endpoint { return estate.Endpoint{Host: "127.0.0.1", Port: port, User: "u"} }
	e := &estate.Estate{Name: "test", State: t.TempDir(), Databases: []estate.Database{
		{Name: "sessions", Engine: estate.Redis, Source: end(1), Target: end(2)},
		{Name: "ledger", Engine: estate.PostgreSQL, Source: end(3), Target: end(4)},
		{Name: "cards", Engine: estate.MariaDB, Source: end(5), Target: end(6)},
		{Name: "old", Source: end(7), Target: end(8)},
	}}
	v, err := Open(t.Context(), e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	for _, list := range [][]move.Mover{v.Movers, v.Back} {
		var got []string
		for _, m := range list {
			switch m.(type) {
			case *postgres.Mover:
				got = append(got, m.Name()+" of postgresql")
			case *mariadb.Mover:
				got = append(got, m.Name()+" of mariadb")
			case *redis.Mover:
				got = append(got, m.Name()+" of redis")
			}
		}
		if want := []string{"sessions of redis", "ledger of postgresql", "cards of mariadb", "old of postgresql"}; !slices.Equal(got, want) {
			t.Errorf("the movers are %v, want %v", got, want)
		}
	}
	for name, want := range map[string]estate.Engine{"sessions": estate.Redis, "old": estate.PostgreSQL, "cards": estate.MariaDB} {
		if got := v.Engine(name); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
}

// shelf is a mover that knows its tables and leftovers.
type shelf struct {
	*stand
	tables []string
	left   map[string][]move.Leftover
	err    error
}

func (s *shelf) Tables(context.Context) ([]string, error) { return s.tables, s.err }

func (s *shelf) Leftovers(_ context.Context, side string) ([]move.Leftover, error) {
	return s.left[side], s.err
}

// TestMoversAreAsked: tables and leftovers come from the movers that know of them.
func TestMoversAreAsked(t *testing.T) {
	v := afloat(t, newStand("mute"))
	cards := &shelf{stand: newStand("cards"), tables: []string{"cards.a"}, left: map[string][]move.Leftover{
		"source": {{Kind: "schema", Name: "dhow"}}, "target": {{Kind: "replication", Name: "dhow_cards"}, {Kind: "schema", Name: "dhow"}},
	}}
	v.Movers = append(v.Movers, cards)
	left, err := v.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Leftover{{"cards", cutover.Source, "schema", "dhow"}, {"cards", cutover.Target, "replication", "dhow_cards"}, {"cards", cutover.Target, "schema", "dhow"}}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]string{"cards": {"cards.a"}, "mute": nil} {
		if got, err := v.Tables(t.Context(), name); err != nil || !slices.Equal(got, want) {
			t.Errorf("the tables of %s are %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := v.Tables(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "there is no database none") {
		t.Errorf("got %v", err)
	}
	cards.err = errors.New("away")
	if _, err := v.Tables(t.Context(), "cards"); err == nil || !strings.Contains(err.Error(), "list the tables of database cards: away") {
		t.Errorf("got %v", err)
	}
	if _, err := v.Leftovers(t.Context()); err == nil || !strings.Contains(err.Error(), "at the source of database cards: away") {
		t.Errorf("got %v", err)
	}
}
