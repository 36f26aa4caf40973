package servicetest

import (
	"net/url"
	"testing"

	"dhow/internal/pgserver"
	"dhow/superapp/service"
)

// role is a service's, as it is in production; its password is the server's.
const role = "superapp_service"

// Restricted gives a database's address for a role that is granted what a schema
// grants, and no more.
func Restricted(t *testing.T, s *pgserver.Server, database string, schema service.Schema) string {
	t.Helper()
	create := "DO $$ BEGIN CREATE ROLE " + role + " LOGIN PASSWORD '" + s.Password() + "'; EXCEPTION WHEN duplicate_object THEN END $$"
	if err := s.Exec(t.Context(), "postgres", create); err != nil {
		t.Fatal(err)
	}
	t.Setenv(databaseVariable, database)
	if err := service.Migrate(t.Context(), schema.For(role)); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, s.Password())
	return u.String()
}
