package service

import "strings"

// Schema is what a service needs in its database.
type Schema struct {
	// SQL creates what is missing; it may be run again.
	SQL string
	// Grants are statements that give the service's role what it needs and no more;
	// {{role}} stands for the role.
	Grants string
	// Role, if set, is granted it. It must exist.
	Role string
}

// For is the schema with a role to grant it to.
func (s Schema) For(role string) Schema {
	s.Role = role
	return s
}

const (
	rolePlaceholder = "{{role}}"
	// The services look keys up, write them and complete their answers.
	postgresIdempotencyGrants = "\nGRANT USAGE ON SCHEMA public TO {{role}}; GRANT SELECT, INSERT, UPDATE ON idempotency TO {{role}};\n"
	mariadbIdempotencyGrants  = "\nGRANT SELECT, INSERT, UPDATE ON idempotency TO {{role}};\n"
)

func (s Schema) grants(base, role string) string {
	return strings.ReplaceAll(base+s.Grants, rolePlaceholder, role)
}
