package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	"github.com/jackc/pgx/v5"
)

// This file reads a database's schema as a set of small pieces that can be
// compared: of one server with itself at another time, and of two servers.
// What each difference means, and what is to be done, is in reshape.go.

// The kinds of a piece.
const (
	kindSchema     = "schema"
	kindExtension  = "extension"
	kindType       = "type"
	kindSequence   = "sequence"
	kindTable      = "table"
	kindColumn     = "column"
	kindKey        = "key" // the columns that name a row in the stream
	kindNotNull    = "not null"
	kindDefault    = "default"
	kindConstraint = "constraint"
	kindIndex      = "index"
	kindView       = "view"
	kindFunction   = "function"
	kindTrigger    = "trigger"
	kindRule       = "rule"
	kindPolicy     = "policy"
	kindSecurity   = "row security"
	kindOwner      = "owner"
	kindGrant      = "grant"
	kindPublished  = "published" // of the source alone: the table is in the move's publication
)

// place of a piece: what it is and where. Relation is the table's, view's,
// type's, function's or sequence's name; Item a column's, an index's and so on.
type pieceKey struct{ Kind, Schema, Relation, Item string }

// piece is one thing that a schema holds.
type piece struct {
	// Detail describes it in a form that is the same on every server.
	Detail string
	// Local tells it from another of the same name on the same server, and holds
	// what else only that server knows.
	Local string
}

// shape is a schema, piece by piece.
type shape map[pieceKey]piece

// The details that are read again, as JSON.
type (
	tableDetail struct {
		Kind     string   `json:"kind"` // r, p or f
		Unlogged bool     `json:"unlogged"`
		Identity Identity `json:"identity"`
		Parents  []string `json:"parents"` // as SQL
		Bound    string   `json:"bound"`   // FOR VALUES ..., of a partition
		By       string   `json:"by"`      // RANGE (...), of a partitioned table
	}
	tableLocal struct {
		OID      uint32 `json:"oid"`
		Filenode uint32 `json:"filenode"` // another one after the table was written anew
	}
	columnDetail struct {
		Type      string `json:"type"`
		Collation string `json:"collation"` // as SQL; empty for the type's own
		Generated string `json:"generated"` // the expression
		Identity  string `json:"identity"`  // a: always, d: by default
	}
	columnLocal struct {
		Number    int  `json:"number"`
		Inherited bool `json:"inherited"`
	}
	typeDetail struct {
		Kind   string   `json:"kind"` // pg_type.typtype
		Labels []string `json:"labels"`
		Text   string   `json:"text"` // what a type that is no enum is made of
	}
	sequenceDetail struct {
		Type      string `json:"type"`
		Start     int64  `json:"start"`
		Increment int64  `json:"increment"`
		Min       int64  `json:"min"`
		Max       int64  `json:"max"`
		Cache     int64  `json:"cache"`
		Cycle     bool   `json:"cycle"`
	}
	sequenceLocal struct {
		OwnedBy  string `json:"owned_by"` // schema.table.column, as SQL
		Identity bool   `json:"identity"` // made and named by an identity column
	}
	indexLocal struct {
		Unique bool `json:"unique"`
	}
)

// parse reads a detail that shapeSQL wrote.
func parse[T any](text string) T {
	var v T
	_ = json.Unmarshal([]byte(text), &v) // it is the server's own jsonb; a zero value compares as different
	return v
}

// scopeOf limits any kind of object to the move's schemas; n is its pg_namespace.
const scopeOf = `n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'dhow') AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))`

// member says whether an extension owns the object of a catalog, which is given with the object's OID.
func member(catalog, oid string) string {
	return "EXISTS (SELECT FROM pg_depend e WHERE e.classid = '" + catalog + "'::regclass AND e.objid = " + oid + " AND e.deptype = 'e')"
}

// relations are the relations that move, for the queries below.
const relations = `WITH rel AS MATERIALIZED (SELECT c.oid, c.xmin, c.relname, c.relkind, c.relpersistence, c.relreplident, c.relfilenode, c.relpartbound, c.relacl, c.relowner,
		c.relrowsecurity, c.relforcerowsecurity, n.nspname
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND ` + scope + `)`

// shapeSQL lists all pieces as kind, schema, relation, item, detail, local. Its
// parameters are scope's and $3, the publication of the move. The session's
// search_path must be pg_catalog, so that the servers' texts are qualified.
var shapeSQL = relations + `
	SELECT 'schema', n.nspname, '', '', '', '' FROM pg_namespace n WHERE ` + scopeOf + ` AND NOT ` + member("pg_namespace", "n.oid") + `
	UNION ALL SELECT 'extension', '', extname, '', '', '' FROM pg_extension
	UNION ALL SELECT 'type', n.nspname, t.typname, '', jsonb_build_object('kind', t.typtype,
			'labels', ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
			'text', CASE t.typtype
				WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || t.typdefault, '')
					|| coalesce((SELECT string_agg(' CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid), '' ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'), '')
				WHEN 'c' THEN (SELECT string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped)
				WHEN 'r' THEN (SELECT 'SUBTYPE = ' || format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = t.oid) ELSE '' END)::text, format_type(t.oid, NULL)
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
		WHERE ` + scopeOf + ` AND t.typtype IN ('e', 'd', 'c', 'r') AND NOT ` + member("pg_type", "t.oid") + ` AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c'))
	UNION ALL SELECT 'sequence', r.nspname, r.relname, '', jsonb_build_object('type', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement,
			'min', s.seqmin, 'max', s.seqmax, 'cache', s.seqcache, 'cycle', s.seqcycle)::text,
			(SELECT jsonb_build_object('owned_by', o.oid::regclass || '.' || quote_ident(a.attname), 'identity', d.deptype = 'i') FROM pg_depend d JOIN rel o ON o.oid = d.refobjid
				JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = d.refobjsubid WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))::text
		FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL SELECT 'table', nspname, relname, '', jsonb_build_object('kind', relkind, 'unlogged', relpersistence = 'u', 'identity', relreplident,
			'parents', ARRAY(SELECT format('%I.%I', pn.nspname, p.relname) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = r.oid ORDER BY i.inhseqno),
			'bound', coalesce(pg_get_expr(relpartbound, oid), ''), 'by', coalesce(pg_get_partkeydef(oid), ''))::text, jsonb_build_object('oid', oid::bigint, 'filenode', relfilenode::bigint)::text
		FROM rel r WHERE relkind IN ('r', 'p', 'f')
	UNION ALL SELECT 'column', r.nspname, r.relname, a.attname, jsonb_build_object('type', format_type(a.atttypid, a.atttypmod),
			'collation', CASE WHEN a.attcollation <> t.typcollation THEN (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) ELSE '' END,
			'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) ELSE '' END, 'identity', a.attidentity)::text,
			jsonb_build_object('number', a.attnum, 'inherited', a.attinhcount > 0 AND NOT a.attislocal)::text
		FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE r.relkind IN ('r', 'p', 'f')
	UNION ALL SELECT 'key', r.nspname, r.relname, '', coalesce((SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.pos) FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k (num, pos)
			JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
			WHERE i.indrelid = r.oid AND k.pos <= i.indnkeyatts AND i.indisvalid AND i.indimmediate AND (i.indisreplident OR i.indisprimary AND r.relreplident IN ('d', 'f'))), ''), ''
		FROM rel r WHERE r.relkind IN ('r', 'p')
	UNION ALL SELECT 'not null', r.nspname, r.relname, a.attname, '', jsonb_build_object('number', a.attnum, 'inherited', a.attinhcount > 0 AND NOT a.attislocal)::text
		FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull WHERE r.relkind IN ('r', 'p')
	UNION ALL SELECT 'default', r.nspname, r.relname, a.attname, pg_get_expr(d.adbin, d.adrelid), jsonb_build_object('number', a.attnum, 'inherited', a.attinhcount > 0 AND NOT a.attislocal)::text
		FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND a.attgenerated = '' JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL SELECT 'constraint', r.nspname, r.relname, k.conname, pg_get_constraintdef(k.oid), ''
		FROM rel r JOIN pg_constraint k ON k.conrelid = r.oid WHERE k.contype IN ('p', 'u', 'x', 'c', 'f') AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
	UNION ALL SELECT 'index', r.nspname, r.relname, c.relname, pg_get_indexdef(i.indexrelid), jsonb_build_object('unique', i.indisunique)::text
		FROM rel r JOIN pg_index i ON i.indrelid = r.oid AND i.indisvalid JOIN pg_class c ON c.oid = i.indexrelid
		WHERE NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
	UNION ALL SELECT 'view', nspname, relname, '', relkind::text || ' ' || coalesce(pg_get_viewdef(oid), ''), '' FROM rel WHERE relkind IN ('v', 'm')
	UNION ALL SELECT 'function', n.nspname, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', '', CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END, ''
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + scopeOf + ` AND NOT ` + member("pg_proc", "p.oid") + `
	UNION ALL SELECT 'trigger', r.nspname, r.relname, t.tgname, pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' ' || t.tgenabled::text END, ''
		FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname <> '` + fenceTrigger + `'
	UNION ALL SELECT 'rule', r.nspname, r.relname, w.rulename, pg_get_ruledef(w.oid) || CASE w.ev_enabled WHEN 'O' THEN '' ELSE ' ' || w.ev_enabled::text END, ''
		FROM rel r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
	UNION ALL SELECT 'policy', r.nspname, r.relname, p.polname, concat_ws(' ', p.polcmd::text, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), ''
		FROM rel r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL SELECT 'row security', nspname, relname, '', CASE WHEN relforcerowsecurity THEN 'forced' ELSE '' END, '' FROM rel WHERE relrowsecurity
	UNION ALL SELECT 'owner', nspname, relname, '', pg_get_userbyid(relowner), '' FROM rel
	UNION ALL SELECT 'grant', nspname, relname, CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, string_agg(privilege || CASE WHEN grantable THEN '*' ELSE '' END, ', ' ORDER BY privilege COLLATE "C"), ''
		FROM rel CROSS JOIN LATERAL aclexplode(relacl) g (grantor, grantee, privilege, grantable) WHERE grantee <> relowner GROUP BY nspname, relname, grantee
	UNION ALL SELECT 'published', r.nspname, r.relname, '', '', '' FROM rel r JOIN pg_publication_rel p ON p.prrelid = r.oid JOIN pg_publication b ON b.oid = p.prpubid WHERE b.pubname = $3`

// readShape reads a database's schema.
func readShape(ctx context.Context, conn querier, schemas, exclude []string, publication string) (shape, error) {
	rows, err := conn.Query(ctx, shapeSQL, nonNil(schemas), nonNil(exclude), publication)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	s := shape{}
	var k pieceKey
	var p piece
	var local *string
	_, err = pgx.ForEachRow(rows, []any{&k.Kind, &k.Schema, &k.Relation, &k.Item, &p.Detail, &local}, func() error {
		p.Local = ""
		if local != nil {
			p.Local = *local
		}
		s[k] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return s, nil
}

// pulseSQL is a number that changes whenever the schema does, and sometimes when
// it does not (a TRUNCATE, a table that is written anew): it sums up which row
// versions the catalogs hold, so it costs far less than the shape. Its
// parameters are shapeSQL's.
var pulseSQL = relations + `, pulse (n) AS (
	SELECT sum(hashtextextended(oid || ' ' || xmin, 0)) FROM rel
	UNION ALL SELECT sum(hashtextextended(a.attrelid || ' ' || a.attnum || ' ' || a.xmin, 1)) FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
	UNION ALL SELECT sum(hashtextextended(d.oid || ' ' || d.xmin, 2)) FROM rel r JOIN pg_attrdef d ON d.adrelid = r.oid
	UNION ALL SELECT sum(hashtextextended(i.indexrelid || ' ' || i.xmin || ' ' || c.relname, 3)) FROM rel r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
	UNION ALL SELECT sum(hashtextextended(k.oid || ' ' || k.xmin, 4)) FROM pg_constraint k WHERE k.connamespace IN (SELECT n.oid FROM pg_namespace n WHERE ` + scopeOf + `)
	UNION ALL SELECT sum(hashtextextended(i.inhrelid || ' ' || i.inhparent, 5)) FROM rel r JOIN pg_inherits i ON i.inhrelid = r.oid
	UNION ALL SELECT sum(hashtextextended(t.oid || ' ' || t.xmin, 6)) FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE t.tgname <> '` + fenceTrigger + `'
	UNION ALL SELECT sum(hashtextextended(w.oid || ' ' || w.xmin, 7)) FROM rel r JOIN pg_rewrite w ON w.ev_class = r.oid
	UNION ALL SELECT sum(hashtextextended(p.oid || ' ' || p.xmin, 8)) FROM rel r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL SELECT sum(hashtextextended(s.seqrelid || ' ' || s.xmin, 9)) FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL SELECT sum(hashtextextended(p.oid || ' ' || p.xmin, 10)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + scopeOf + `
	UNION ALL SELECT sum(hashtextextended(t.oid || ' ' || t.xmin, 11)) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE ` + scopeOf + `
	UNION ALL SELECT sum(hashtextextended(e.oid || ' ' || e.xmin, 12)) FROM pg_enum e
	UNION ALL SELECT sum(hashtextextended(n.oid || ' ' || n.xmin, 13)) FROM pg_namespace n WHERE ` + scopeOf + `
	UNION ALL SELECT sum(hashtextextended(e.oid || ' ' || e.xmin, 14)) FROM pg_extension e
	UNION ALL SELECT sum(hashtextextended(p.prrelid || ' ' || p.xmin, 15)) FROM pg_publication_rel p JOIN pg_publication b ON b.oid = p.prpubid WHERE b.pubname = $3)
	SELECT coalesce(sum(n), 0)::text FROM pulse`

// readPulse reads the number that tells whether the schema may have changed.
func readPulse(ctx context.Context, conn querier, schemas, exclude []string, publication string) (string, error) {
	var pulse string
	if err := conn.QueryRow(ctx, pulseSQL, nonNil(schemas), nonNil(exclude), publication).Scan(&pulse); err != nil {
		return "", fmt.Errorf("look whether the schema changed: %w", err)
	}
	return pulse, nil
}

// readAccepted reads the source's schema as the target last followed it; nil
// when none was stored yet.
func readAccepted(ctx context.Context, conn querier, stream string) (shape, error) {
	var has bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('dhow.shape') IS NOT NULL").Scan(&has); err != nil {
		return nil, fmt.Errorf("look for the stored schema: %w", err)
	}
	if !has {
		return nil, nil
	}
	rows, err := conn.Query(ctx, "SELECT kind, schema_name, relation, item, detail, local FROM dhow.shape WHERE stream = $1", stream)
	if err != nil {
		return nil, fmt.Errorf("read the stored schema: %w", err)
	}
	s := shape{}
	var k pieceKey
	var p piece
	if _, err := pgx.ForEachRow(rows, []any{&k.Kind, &k.Schema, &k.Relation, &k.Item, &p.Detail, &p.Local}, func() error { s[k] = p; return nil }); err != nil {
		return nil, fmt.Errorf("read the stored schema: %w", err)
	}
	if len(s) == 0 {
		return nil, nil
	}
	return s, nil
}

// storeAccepted replaces the stored schema, in the caller's transaction.
func storeAccepted(ctx context.Context, tx pgx.Tx, stream string, s shape) error {
	if _, err := tx.Exec(ctx, "DELETE FROM dhow.shape WHERE stream = $1", stream); err != nil {
		return fmt.Errorf("store the schema: %w", err)
	}
	keys := s.keys()
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"dhow", "shape"}, []string{"stream", "kind", "schema_name", "relation", "item", "detail", "local"},
		pgx.CopyFromSlice(len(keys), func(i int) ([]any, error) {
			k := keys[i]
			return []any{stream, k.Kind, k.Schema, k.Relation, k.Item, s[k].Detail, s[k].Local}, nil
		}))
	if err != nil {
		return fmt.Errorf("store the schema: %w", err)
	}
	return nil
}

// keys are the shape's, sorted.
func (s shape) keys() []pieceKey {
	keys := make([]pieceKey, 0, len(s))
	for k := range s {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].before(keys[j]) })
	return keys
}

func (k pieceKey) before(other pieceKey) bool {
	switch {
	case k.Schema != other.Schema:
		return k.Schema < other.Schema
	case k.Relation != other.Relation:
		return k.Relation < other.Relation
	case k.Kind != other.Kind:
		return k.Kind < other.Kind
	}
	return k.Item < other.Item
}

// column is a column's detail in the shape, and whether it is there.
func (s shape) column(table Name, column string) (columnDetail, bool) {
	p, ok := s[pieceKey{kindColumn, table.Schema, table.Name, column}]
	return parse[columnDetail](p.Detail), ok
}

// of are the keys of one kind that belong to a table, sorted.
func (s shape) of(kind string, table Name) []pieceKey {
	var keys []pieceKey
	for k := range s {
		if k.Kind == kind && k.Schema == table.Schema && k.Relation == table.Name {
			keys = append(keys, k)
		}
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].before(keys[j]) })
	return keys
}

// columnsOf are a table's columns in their order, with how the source numbers them.
func (s shape) columnsOf(table Name) []string {
	keys := s.of(kindColumn, table)
	sort.SliceStable(keys, func(i, j int) bool {
		return parse[columnLocal](s[keys[i]].Local).Number < parse[columnLocal](s[keys[j]].Local).Number
	})
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Item
	}
	return names
}
