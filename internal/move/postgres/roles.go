package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// mapRoles gives an entry the target's role names: in the ALTER ... OWNER TO
// that ends it, and in grants. It returns the roles that are named then.
func mapRoles(e entry, roles map[string]string) (entry, []string) {
	rename := func(token string) (string, string) {
		name := token
		if len(token) > 1 && token[0] == '"' && token[len(token)-1] == '"' {
			name = strings.ReplaceAll(token[1:len(token)-1], `""`, `"`)
		}
		if to, ok := roles[name]; ok {
			return pgx.Identifier{to}.Sanitize(), to
		}
		return token, name
	}
	if strings.HasSuffix(e.Type, "ACL") {
		var used []string
		words := sqlWords(e.SQL)
		for i := 1; i < len(words); i++ {
			switch before := strings.ToUpper(words[i-1].text); {
			case before == "TO" || before == "FROM" || before == "AUTHORIZATION": // reserved: a name would be quoted
			case before == "ROLE" && i > 1 && strings.EqualFold(words[i-2].text, "FOR"): // else it may be a table's name
			default:
				continue
			}
			if up := strings.ToUpper(words[i].text); up == "PUBLIC" || up == "DEFAULT" {
				continue
			}
			var name string
			words[i].text, name = rename(words[i].text)
			used = append(used, name)
		}
		var b strings.Builder
		for _, w := range words {
			b.WriteString(w.space)
			b.WriteString(w.text)
		}
		e.SQL = b.String()
		return e, used
	}
	// pg_restore writes the owner's statement last, on a line of its own.
	start := strings.LastIndex(e.SQL, "\n") + 1
	last := e.SQL[start:]
	const marker = " OWNER TO "
	at := strings.LastIndex(last, marker)
	if !strings.HasPrefix(last, "ALTER ") || at < 0 || !strings.HasSuffix(last, ";") {
		return e, nil
	}
	token, name := rename(strings.TrimSuffix(last[at+len(marker):], ";"))
	e.SQL = e.SQL[:start] + last[:at] + marker + token + ";"
	return e, []string{name}
}

type sqlWord struct{ space, text string }

// sqlWords cuts statements of grants, which hold no string literals, into words,
// quoted identifiers and single signs, each with the space before it.
func sqlWords(sql string) []sqlWord {
	var words []sqlWord
	for len(sql) > 0 {
		n := len(sql) - len(strings.TrimLeft(sql, " \t\n"))
		space := sql[:n]
		sql = sql[n:]
		end := 0
		switch {
		case sql == "":
		case sql[0] == '"':
			end = 1
			for end < len(sql) {
				if sql[end] == '"' {
					if end+1 < len(sql) && sql[end+1] == '"' {
						end++
					} else {
						break
					}
				}
				end++
			}
			end = min(end+1, len(sql))
		case strings.ContainsRune(",;().", rune(sql[0])):
			end = 1
		default:
			end = strings.IndexAny(sql, " \t\n\",;().")
			if end < 0 {
				end = len(sql)
			}
		}
		words = append(words, sqlWord{space, sql[:end]})
		sql = sql[end:]
	}
	return words
}

// missingRoles are those of the named roles that the target does not have.
func missingRoles(ctx context.Context, target *pgx.Conn, names []string) ([]string, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	rows, err := target.Query(ctx, "SELECT n FROM unnest($1::text[]) n WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = n) ORDER BY n", names)
	if err != nil {
		return nil, fmt.Errorf("look for roles on the target: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for roles on the target: %w", err)
	}
	return missing, nil
}

func refuseMissingRoles(missing []string) error {
	fixes := make([]string, len(missing))
	for i, n := range missing {
		fixes[i] = "CREATE ROLE " + pgx.Identifier{n}.Sanitize()
	}
	return &move.Refused{Reason: fmt.Sprintf("the target lacks roles that own or may use what moves: %s", strings.Join(missing, ", ")),
		Fix: "map them under databases[].roles in the estate, or create them on the target: " + strings.Join(fixes, "; ")}
}
