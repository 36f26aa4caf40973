package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// FuzzSplitDump: whatever a script holds, nothing of its entries is lost or
// taken for another's, and what pg_restore writes is taken apart as it was put together.
func FuzzSplitDump(f *testing.F) {
	const head = "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nSET transaction_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n"
	const tail = "\n--\n-- PostgreSQL database dump complete\n--\n\n"
	for _, c := range [][3]string{
		{"t", "TABLE", "CREATE TABLE public.t (a integer);\n\n\nALTER TABLE public.t OWNER TO postgres;"},
		{"f(integer)", "FUNCTION", "CREATE FUNCTION public.f(integer) RETURNS integer\n    LANGUAGE sql\n    AS $_$\n-- Name: x\nSELECT 1$_$;"},
		{"odd; Type: TABLE", "COMMENT", "COMMENT ON TABLE public.t IS '--\n';"},
		{"", "", ""},
		{"a b", "FK CONSTRAINT", "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT b FOREIGN KEY (x) REFERENCES public.t(x);"},
	} {
		f.Add(c[0], c[1], c[2])
	}
	f.Fuzz(func(t *testing.T, name, kind, sql string) {
		settings, entries := splitDump(sql) // whatever it is, it does no harm
		if strings.Contains(settings, "transaction_timeout") {
			t.Errorf("settings %q", settings)
		}
		for _, e := range entries {
			if !strings.Contains(sql, e.SQL) || !strings.Contains(sql, e.Name) {
				t.Errorf("entry %+v is not in the script", e)
			}
		}
		// pg_dump writes neither line ends into a header nor a header into a statement.
		if strings.ContainsAny(name+kind, "\n\r") || strings.Contains(kind, "; Schema: ") || strings.Contains(name, "; Type: ") || entryHeader.MatchString(sql) || strings.Contains(sql, "\n--\n--") || strings.HasPrefix(sql, "--") {
			return
		}
		header := func(n string) string {
			return "--\n-- Name: " + n + "; Type: " + kind + "; Schema: public; Owner: postgres\n--\n"
		}
		settings, entries = splitDump(head + header(name) + "\n" + sql + "\n\n\n" + header("second") + "\n" + "SELECT 2;\n" + tail)
		if settings != "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n" {
			t.Errorf("settings %q", settings)
		}
		want := []entry{{Name: name, Type: kind, Schema: "public", SQL: strings.TrimSpace(sql)}, {Name: "second", Type: kind, Schema: "public", SQL: "SELECT 2;"}}
		if !slices.Equal(entries, want) {
			t.Errorf("got %+v, want %+v", entries, want)
		}
	})
}

// FuzzSQLWords: the words of a statement, put together again, are the statement.
func FuzzSQLWords(f *testing.F) {
	for _, s := range []string{"GRANT SELECT ON TABLE public.t TO app;", `REVOKE ALL ON TABLE "A b"."c""d" FROM PUBLIC;`, "GRANT SELECT(a,b) ON TABLE t TO x WITH GRANT OPTION;", `"`, `""`, `a"b`, " \n\t", "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA b GRANT ALL ON TABLES TO c;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		var b strings.Builder
		for i, w := range sqlWords(sql) {
			if strings.Trim(w.space, " \t\n") != "" {
				t.Errorf("space %q", w.space)
			}
			if w.text == "" && i != len(sqlWords(sql))-1 {
				t.Errorf("word %d of %q is empty", i, sql)
			}
			b.WriteString(w.space + w.text)
		}
		if b.String() != sql {
			t.Errorf("%q became %q", sql, b.String())
		}
	})
}

// FuzzMapRoles: a role gets its new name where it is a role, and nothing else changes.
func FuzzMapRoles(f *testing.F) {
	for _, n := range [][2]string{{"app", "ledger"}, {"A b", `c"d`}, {"to", "from"}, {"public", "x"}, {`q"`, "y"}, {"ä", "ö"}, {"owner to", "z"}, {"a;b", "c.d"}} {
		f.Add(n[0], n[1])
	}
	f.Fuzz(func(t *testing.T, from, to string) {
		if from == "" || to == "" || strings.ContainsAny(from+to, "\x00\n\r@%") {
			return // no role has such a name, or the test below has another use for it
		}
		a, b := pgx.Identifier{from}.Sanitize(), pgx.Identifier{to}.Sanitize()
		roles := map[string]string{from: to}
		for _, c := range []struct{ kind, sql string }{
			{"ACL", "GRANT SELECT ON TABLE public.%s TO @;\nGRANT SELECT ON TABLE public.role TO @;\nREVOKE ALL ON TABLE public.\"to\" FROM PUBLIC;"},
			{"DEFAULT ACL", "ALTER DEFAULT PRIVILEGES FOR ROLE @ IN SCHEMA s REVOKE ALL ON TABLES FROM @;"},
			{"TABLE", "CREATE TABLE public.%s (\n    a text DEFAULT ' OWNER TO x;'\n);\n\n\nALTER TABLE public.%s OWNER TO @;"},
		} {
			// The same name where it is none of a role stays.
			plain := strings.ReplaceAll(c.sql, "%s", pgx.Identifier{"t " + from}.Sanitize())
			got, used := mapRoles(entry{Type: c.kind, SQL: strings.ReplaceAll(plain, "@", a)}, roles)
			if want := strings.ReplaceAll(plain, "@", b); got.SQL != want {
				t.Errorf("%s: got %q, want %q", c.kind, got.SQL, want)
			}
			if len(used) == 0 || slices.ContainsFunc(used, func(n string) bool { return n != to }) {
				t.Errorf("%s: roles %q, want %q", c.kind, used, to)
			}
		}
		mapRoles(entry{Type: "ACL", SQL: from}, roles) // whatever it is, it does no harm
		mapRoles(entry{Type: "TABLE", SQL: from + " OWNER TO " + to + ";"}, roles)
	})
}

// FuzzLSN: a position that is read prints as it was, and their order is kept.
func FuzzLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/", "/1", "1/2/3", "-1/0", "16/B374D848 ", "g/0", "100000000/0"} {
		f.Add(s, uint64(len(s)))
	}
	f.Fuzz(func(t *testing.T, text string, n uint64) {
		var l LSN
		if err := l.Scan(text); err == nil {
			var again LSN
			if err := again.Scan(l.String()); err != nil || again != l {
				t.Errorf("%q was read as %d, printed as %s and read again as %d, %v", text, l, l, again, err)
			}
		}
		if err := l.Scan(LSN(n).String()); err != nil || l != LSN(n) {
			t.Errorf("%d was printed as %s and read as %d, %v", n, LSN(n), l, err)
		}
	})
}

// FuzzQuote: a literal holds its text, whatever that is; no text ends it.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", `\`, `\'`, `';DROP TABLE t;--`, "''", "ä\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, escaped := strings.CutPrefix(strings.TrimSpace(quote(text)), "E")
		if len(got) < 2 || got[0] != '\'' || got[len(got)-1] != '\'' {
			t.Fatalf("quote(%q) is %q", text, got)
		}
		// Read it as the server does.
		var b strings.Builder
		for in := got[1 : len(got)-1]; in != ""; {
			switch {
			case strings.HasPrefix(in, "''"), escaped && strings.HasPrefix(in, `\\`):
				b.WriteByte(in[0])
				in = in[2:]
			case in[0] == '\'' || escaped && in[0] == '\\':
				t.Fatalf("quote(%q) is %q, which ends early", text, got)
			default:
				b.WriteByte(in[0])
				in = in[1:]
			}
		}
		if b.String() != text {
			t.Errorf("quote(%q) reads %q", text, b.String())
		}
		if !escaped && strings.Contains(text, `\`) {
			t.Errorf("quote(%q) depends on standard_conforming_strings", text)
		}
	})
}

// FuzzChangesOf: comparing two shapes does no harm, whatever their details are;
// a shape does not differ from itself; every change has an object and pieces.
func FuzzChangesOf(f *testing.F) {
	f.Add("table", "t", "", `{"kind":"r","identity":"d"}`, `{"kind":"r","identity":"f"}`, `{"oid":1}`)
	f.Add("column", "t", "c", `{"type":"integer"}`, `{"type":"bigint"}`, `{"number":1}`)
	f.Add("type", "e", "", `{"kind":"e","labels":["a"]}`, `{"kind":"e","labels":["b","a"]}`, "e")
	f.Add("type", "e", "", `{"kind":"e","labels":[]}`, `{"kind":"e","labels":["b","a"]}`, "e")
	f.Add("constraint", "t", "k", "PRIMARY KEY (a)", "FOREIGN KEY (a) REFERENCES t(a) NOT VALID", "")
	f.Add("index", "t", "i", "CREATE INDEX i ON t USING btree (a)", "", `{"unique":true}`)
	f.Add("view", "v", "", "v SELECT 1;", "m SELECT 2;", "")
	f.Add("grant", "t", "", "SELECT, UPDATE*", "", "")
	f.Add("key", "t", "", "a", "b", "")
	f.Add("sequence", "s", "", "{}", `{"cycle":true}`, "null")
	f.Fuzz(func(t *testing.T, kind, relation, item, before, after, local string) {
		table := pieceKey{kindTable, "public", "t", ""}
		old := shape{table: {Detail: `{"kind":"r","identity":"i"}`, Local: `{"oid":7,"filenode":8}`}, pieceKey{kind, "public", relation, item}: {Detail: before, Local: local}}
		now := shape{table: {Detail: `{"kind":"r","identity":"i"}`, Local: `{"oid":7,"filenode":9}`}, pieceKey{kind, "public", relation, item}: {Detail: after, Local: local}}
		for _, s := range []shape{old, now} {
			if c := changesOf(s, s); len(c) > 0 {
				t.Errorf("%+v differs from itself: %v", s, c)
			}
		}
		for _, pair := range [][2]shape{{old, now}, {now, old}, {old, {}}, {{}, now}} {
			for _, c := range changesOf(pair[0], pair[1]) {
				if c.object == "" || len(c.keys) == 0 {
					t.Errorf("change %+v is not whole", c)
				}
			}
		}
	})
}

// FuzzConstant: only a literal is taken for a default that is the same for every
// row; a function call is none, wherever it stands.
func FuzzConstant(f *testing.F) {
	for _, s := range []string{"now()", "'x'::text", "1.50", "'{}'::jsonb", "nextval('s'::regclass)", "'a'::text || random()", "('x' || clock_timestamp())", "-1", "NULL::character varying(10)", "'it''s'::text", "ARRAY['a'::text]", "CURRENT_TIMESTAMP", "'now()'::text"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, def string) {
		if !constant.MatchString(def) {
			return
		}
		// Without its literals nothing of it may call or combine anything.
		var b strings.Builder
		inside := false
		for _, r := range def {
			if r == '\'' {
				inside = !inside
			} else if !inside {
				b.WriteRune(r)
			}
		}
		if rest := b.String(); strings.ContainsAny(rest, "|+*/%<>=;$") || strings.Contains(rest, "()") {
			t.Errorf("%q is taken for a constant", def)
		}
	})
}
