package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// A change stream carries rows, not the schema. So the source's schema, as the
// target follows it, is stored on the target when the copy begins, and compared
// with the source's from time to time: while dhow runs, when it starts again,
// before a cutover and under its fence. What harms the rows stops the move until
// the target is changed alike; reshape.go says what that is.

const (
	// watchEvery is how often the source's catalogs are looked at.
	watchEvery = time.Second
	// watchShare bounds what that costs: a look is followed by a pause this many
	// times as long, so it takes at most a fiftieth of one of the source's cores.
	watchShare = 50
	// followedEvery is how often the target is asked whether it has what is missing there.
	followedEvery = 10 * time.Second
	// namedChanges are how many changes an error or a note names.
	namedChanges = 8
)

// errFollowed says that the source's schema has changed and the target's alike:
// the move goes on after it has caught up with that.
var errFollowed = errors.New("the schema has changed on both sides")

// survey is a comparison of the source's schema with the one that the target
// follows, and with the target's.
type survey struct {
	accepted, now, target shape
	changes               []schemaChange
	sameVersion           bool
	// loading: the copy or the indexes are not complete. What is left to be built was
	// planned for the schema as it was.
	loading bool
}

// survey compares; nil when no schema was stored yet.
func (m *Mover) survey(ctx context.Context, source, target *pgx.Conn) (*survey, error) {
	s := &survey{}
	var err error
	if s.accepted, err = readAccepted(ctx, target, m.stream); err != nil || s.accepted == nil {
		return nil, err
	}
	if s.now, err = m.sourceShape(ctx, source); err != nil {
		return nil, err
	}
	s.changes = changesOf(s.accepted, s.now)
	if len(s.changes) == 0 {
		return s, nil
	}
	if s.target, err = readShape(ctx, target, m.cfg.Schemas, m.cfg.Exclude, ""); err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	a, err := serverVersion(ctx, source)
	if err != nil {
		return nil, err
	}
	b, err := serverVersion(ctx, target)
	if err != nil {
		return nil, err
	}
	s.sameVersion = a.major == b.major
	state, err := readStream(ctx, target, m.stream)
	if err != nil {
		return nil, err
	}
	s.loading = state != nil && state.Phase != phaseStream
	return s, nil
}

// sourceShape is the source's schema with the roles' names of the target.
func (m *Mover) sourceShape(ctx context.Context, conn querier) (shape, error) {
	s, err := readShape(ctx, conn, m.cfg.Schemas, m.cfg.Exclude, m.stream)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	names := m.cfg.Roles
	if m.cfg.Back {
		names = make(map[string]string, len(m.cfg.Roles))
		for from, to := range m.cfg.Roles {
			names[to] = from
		}
	}
	mapped := make(shape, len(s))
	for k, p := range s {
		if to, ok := names[p.Detail]; ok && k.Kind == kindOwner {
			p.Detail = to
		}
		if to, ok := names[k.Item]; ok && k.Kind == kindGrant {
			k.Item = to
		}
		mapped[k] = p
	}
	return mapped, nil
}

// followed says whether the target has been changed alike.
func (s *survey) followed(c schemaChange) bool {
	for _, k := range c.keys {
		want, should := s.now[k]
		have, is := s.target[k]
		switch {
		case k.Kind == kindPublished: // the move's own matter, mended when it goes on
		case should != is:
			return false
		case want.Detail == have.Detail:
		case k.Kind == kindView && !s.sameVersion: // versions print the same query in different words
		case should:
			return false
		}
	}
	return true
}

// left are the changes that the target does not follow yet: those that harm, or the others.
func (s *survey) left(harm bool) []schemaChange {
	return slices.DeleteFunc(slices.Clone(s.changes), func(c schemaChange) bool { return c.harm != harm || s.followed(c) })
}

// harms says whether any change harms, followed or not.
func (s *survey) harms() bool {
	return s != nil && slices.ContainsFunc(s.changes, func(c schemaChange) bool { return c.harm })
}

// again are the tables that are copied again when the move goes on.
func (s *survey) again(of []schemaChange) []Name {
	var names []Name
	for _, c := range of {
		names = append(names, c.again...)
		// The stream may still send rows from before the column; the target must
		// be able to take them without it.
		for _, k := range c.keys {
			_, notNull := s.target[pieceKey{kindNotNull, k.Schema, k.Relation, k.Item}]
			_, hasDefault := s.target[pieceKey{kindDefault, k.Schema, k.Relation, k.Item}]
			_, had := s.accepted[k]
			if d := parse[columnDetail](s.now[k].Detail); k.Kind == kindColumn && !had && notNull && !hasDefault && d.Generated == "" {
				names = append(names, rows(s.now, Name{k.Schema, k.Relation})...)
			}
		}
	}
	slices.SortFunc(names, func(a, b Name) int {
		if less(a, b) {
			return -1
		}
		return 1
	})
	return slices.Compact(names)
}

// statements are what makes the target follow the changes, in an order that works.
func (s *survey) statements(of []schemaChange) []string {
	var sql []string
	for _, c := range of {
		for _, statement := range c.make {
			if !slices.Contains(sql, statement) {
				sql = append(sql, statement)
			}
		}
	}
	return ordered(sql)
}

// refusal is the error for changes that harm and are not followed; nil when there are none.
func (s *survey) refusal(m *Mover) error {
	if s == nil {
		return nil
	}
	left := s.left(true)
	if len(left) == 0 {
		return nil
	}
	if err := s.tooEarly(m); err != nil {
		return err
	}
	// What the statements lean upon is made with them.
	need := slices.Clone(left)
	for _, c := range s.left(false) {
		switch k := c.keys[0]; k.Kind {
		case kindSchema, kindExtension, kindType, kindFunction:
			need = append(need, c)
		case kindView: // a view that is gone from the source may still hold a column or a table of the target
			if _, still := s.now[k]; !still {
				need = append(need, c)
			}
		}
	}
	fix := "make the same change on the target"
	if slices.ContainsFunc(left, func(c schemaChange) bool { return len(c.make) == 0 && !c.inherited }) {
		fix += " (by hand what has no statement here)"
	}
	if sql := s.statements(need); len(sql) > 0 {
		fix += ": " + strings.Join(sql, "; ")
	}
	fix += "; then start `dhow replicate` again"
	if again := s.again(left); len(again) > 0 {
		fix += ", which copies " + nameList(again) + " again, because no change stream carries those rows"
	}
	return &move.Refused{Reason: fmt.Sprintf("the schema of database %s changed on the source and not on the target: %s; nothing is lost, the stream waits", m.cfg.Name, changeList(left)),
		Fix: fix + ". Or take the change back on the source"}
}

// tooEarly is the error for changes that a load can not take up in its midst;
// nil when there are none.
func (s *survey) tooEarly(m *Mover) error {
	if !s.loading {
		return nil
	}
	late := slices.DeleteFunc(slices.Clone(s.changes), func(c schemaChange) bool { return !c.harm || c.adds })
	if len(late) == 0 {
		return nil
	}
	return &move.Refused{Reason: fmt.Sprintf("the schema of database %s changed on the source before the copy was complete: %s", m.cfg.Name, changeList(late)),
		Fix: "take the change back on the source and start `dhow replicate` again; or begin again with the schema as it is: `dhow finish --abandon`, empty the target, `dhow replicate`"}
}

// changeList names changes; those that come with their parent's are left out.
func changeList(changes []schemaChange) string {
	var parts []string
	if own := slices.DeleteFunc(slices.Clone(changes), func(c schemaChange) bool { return c.inherited }); len(own) > 0 {
		changes = own
	}
	for i, c := range changes {
		if i == namedChanges {
			return strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", len(changes)-i)
		}
		parts = append(parts, c.String())
	}
	return strings.Join(parts, ", ")
}

func nameList(names []Name) string {
	var parts []string
	for i, n := range names {
		if i == namedChanges {
			return strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", len(names)-i)
		}
		parts = append(parts, n.String())
	}
	return "table " + strings.Join(parts, ", table ")
}

// note warns of what harms no row and would be missing after the cutover; empty when nothing is.
func (s *survey) note() string {
	if s == nil {
		return ""
	}
	left := s.left(false)
	if len(left) == 0 {
		return ""
	}
	return "changed on the source since the copy began and not on the target, where it would be missing after the cutover: " + changeList(left) + "; `dhow preflight` prints the statements"
}

func (m *Mover) setNote(note string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if note != m.schemaNote && note != "" {
		m.log.Warn(note)
	}
	m.schemaNote = note
}

// withNote adds the note about the schema to every report.
func (m *Mover) withNote(report func(move.Progress)) func(move.Progress) {
	return func(p move.Progress) {
		m.mu.Lock()
		note := m.schemaNote
		m.mu.Unlock()
		if note != "" {
			p.Note = strings.TrimPrefix(p.Note+"; "+note, "; ")
		}
		report(p)
	}
}

// watchSchema looks at the source's schema from time to time, until ctx ends or
// a change must be followed: then its error is a *move.Refused that says how, or
// errFollowed when the target has been changed already. A server that is away is
// waited for.
func (m *Mover) watchSchema(ctx context.Context) error {
	w := &watch{m: m}
	defer w.close(ctx)
	for {
		began := time.Now()
		if err := w.look(ctx); err != nil {
			var refused *move.Refused
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.As(err, &refused) || errors.Is(err, errFollowed) {
				return err
			}
			if permanent(err) { // going on blindly could lose rows
				return fmt.Errorf("watch the source's schema: %w", err)
			}
			m.log.Warn("the source's schema could not be looked at, and is looked at again", "error", err)
			w.close(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(watchEvery, watchShare*time.Since(began))):
		}
	}
}

// watch is what watchSchema keeps between two looks.
type watch struct {
	m      *Mover
	source *pgx.Conn
	pulse  string
	// open: something is missing on the target, which is asked again from time to time.
	open  bool
	asked time.Time
}

func (w *watch) close(ctx context.Context) {
	if w.source != nil {
		hangUp(ctx, w.source)
		w.source = nil
	}
}

func (w *watch) look(ctx context.Context) (err error) {
	if w.source == nil {
		if w.source, err = w.m.source(ctx); err != nil {
			return err
		}
	}
	pulse, err := readPulse(ctx, w.source, w.m.cfg.Schemas, w.m.cfg.Exclude, w.m.stream)
	if err != nil {
		return err
	}
	if pulse == w.pulse && (!w.open || time.Since(w.asked) < followedEvery) {
		return nil
	}
	target, err := w.m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, target)
	s, err := w.m.survey(ctx, w.source, target)
	if err != nil || s == nil {
		return err
	}
	if err := s.refusal(w.m); err != nil {
		return err
	}
	if s.harms() {
		return errFollowed
	}
	w.m.setNote(s.note())
	w.pulse, w.open, w.asked = pulse, len(s.changes) > 0, time.Now()
	return w.m.refreshLocal(ctx, target, s)
}

// refreshLocal stores what is new of the source alone: that a table was written
// anew while its definition stayed, so that a later change is not blamed for it.
func (m *Mover) refreshLocal(ctx context.Context, target *pgx.Conn, s *survey) error {
	var schemas, names, locals []string
	for k, p := range s.now {
		if old, ok := s.accepted[k]; ok && k.Kind == kindTable && old.Detail == p.Detail && old.Local != p.Local {
			schemas, names, locals = append(schemas, k.Schema), append(names, k.Relation), append(locals, p.Local)
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := target.Exec(ctx, `UPDATE dhow.shape s SET local = v.local FROM unnest($2::text[], $3::text[], $4::text[]) v (schema_name, relation, local)
		WHERE s.stream = $1 AND s.kind = 'table' AND s.schema_name = v.schema_name AND s.relation = v.relation`, m.stream, schemas, names, locals)
	if err != nil {
		return fmt.Errorf("store which tables were written anew: %w", err)
	}
	return nil
}

// watching does some work while the source's schema is watched.
func (m *Mover) watching(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan error, 1)
	go func() {
		err := m.watchSchema(ctx)
		cancel(err) // ends the work; no effect when the work has ended first
		watched <- err
	}()
	err := do(ctx)
	cancel(nil)
	if changed := <-watched; err != nil && changed != nil && !errors.Is(changed, context.Canceled) {
		return changed // the work was stopped for it
	}
	return err
}

// explain asks, when the move was stopped by something, whether a change of the
// schema is behind it: then that is the better answer.
func (m *Mover) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, errFollowed) {
		return err
	}
	source, serr := m.source(ctx)
	if serr != nil {
		return err
	}
	defer hangUp(ctx, source)
	target, terr := m.target(ctx)
	if terr != nil {
		return err
	}
	defer hangUp(ctx, target)
	s, serr := m.survey(ctx, source, target)
	if serr != nil {
		return err
	}
	better := s.refusal(m)
	if better == nil && s.harms() {
		better = errFollowed
	}
	if better == nil {
		return err
	}
	if better.Error() != err.Error() {
		m.log.Info("the move stopped, for the schema has changed", "error", err)
	}
	return better
}

// sameSchema refuses a cutover over a schema that has changed. It remembers the
// pulse, so that asking again under the fence costs next to nothing.
func (m *Mover) sameSchema(ctx context.Context, source, target *pgx.Conn) error {
	pulse, err := readPulse(ctx, source, m.cfg.Schemas, m.cfg.Exclude, m.stream)
	if err != nil {
		return err
	}
	m.mu.Lock()
	same := m.pulse == pulse
	m.mu.Unlock()
	if same {
		return nil
	}
	s, err := m.survey(ctx, source, target)
	if err != nil {
		return err
	}
	if err := s.refusal(m); err != nil {
		return err
	}
	if s.harms() {
		return &move.Refused{Reason: fmt.Sprintf("the schema of database %s has changed on both sides, and the stream has not taken that up yet: %s", m.cfg.Name, changeList(s.changes)), Fix: "try again in a moment"}
	}
	m.setNote(s.note())
	m.mu.Lock()
	m.pulse = pulse
	m.mu.Unlock()
	return nil
}
