package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A side is closed, durably, by the users' rights: every user but our own loses
// the commands that write, at once and in open connections too, since the
// server looks at the rights for each command, also for those of a script and
// of a transaction that was queued before.
//
// What a user could do before is kept where the rights themselves are: in a user
// of ours, its shadow, which nobody can log in as (off, no password, no key). So
// both are made in one transaction, are saved in one file, and come back or are
// lost together. Passwords, keys and channels of a user are never touched.
//
// A server that starts works its append-only file off with the rights of the user
// default, and drops every transaction that these do not cover, without a word. So
// a closed default is never saved as it is: in the file it has all commands and
// nobody can log in as it, see saveACL. A closed side that was restarted is thus
// shut to it for reading too, until the move has closed it anew or opened it.

// aclUser is a line of ACL LIST.
type aclUser struct {
	name  string
	flags []string // on, nopass, passwords, keys, channels: what is never touched
	// commands are the rules of the commands, in their order.
	commands []string
	// selectors are further sets of rights, Redis 7; each in its parentheses.
	selectors []string
}

// parseACL reads the lines of ACL LIST.
func parseACL(lines []string) ([]aclUser, error) {
	users := make([]aclUser, 0, len(lines))
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "user" {
			return nil, errors.New("the list of users (ACL LIST) has a line of an unknown form")
		}
		u := aclUser{name: words[1]}
		for i := 2; i < len(words); i++ {
			switch w := words[i]; w[0] {
			case '+', '-':
				u.commands = append(u.commands, w)
			case '(':
				end := i
				for end < len(words) && !strings.HasSuffix(words[end], ")") {
					end++
				}
				if end == len(words) {
					return nil, fmt.Errorf("the rules of user %s have a selector without an end", u.name)
				}
				u.selectors = append(u.selectors, strings.Join(words[i:end+1], " "))
				i = end
			default:
				u.flags = append(u.flags, w)
			}
		}
		users = append(users, u)
	}
	return users, nil
}

// rules set exactly these commands and selectors.
func (u aclUser) rules() []any {
	args := []any{"-@all"}
	for _, c := range u.commands {
		args = append(args, c)
	}
	return append(args, u.selectorRules("")...)
}

// closing takes the commands that write away, from the selectors too.
func (u aclUser) closing() []any {
	return append([]any{noWrites}, u.selectorRules(" "+noWrites)...)
}

const noWrites = "-@write"

func (u aclUser) selectorRules(more string) []any {
	if len(u.selectors) == 0 {
		return nil // older servers do not know the word
	}
	args := []any{"clearselectors"}
	for _, s := range u.selectors {
		args = append(args, strings.TrimSuffix(s, ")")+more+")")
	}
	return args
}

// defaultUser is who everybody is that names no user.
const defaultUser = "default"

// wasOn is a key of a shadow's, where keys mean nothing: its user could be logged in as.
const wasOn = "~on"

// mark says with which flags a shadow is made.
func (u aclUser) mark() []any {
	if u.access() == "on" {
		return []any{"resetkeys", wasOn}
	}
	return []any{"resetkeys"}
}

// access says of a user, or of a shadow for its user, whether it can be logged in as.
func (u aclUser) access() string {
	if slices.Contains(u.flags, wasOn) || slices.Contains(u.flags, "on") {
		return "on"
	}
	return "off"
}

// unbounded says that the user may run every command on every key.
func (u aclUser) unbounded() bool {
	all := slices.Contains(u.flags, "~*")
	if !all || len(u.commands) == 0 {
		return false
	}
	for _, c := range u.commands {
		all = c == "+@all" || all && strings.HasPrefix(c, "+")
	}
	return all && slices.Contains(u.commands, "+@all")
}

// moveID tells the moves apart in names that must be short; it is the same in both directions.
func (m *Mover) moveID() string {
	sum := sha256.Sum256([]byte(m.cfg.Estate + "/" + m.cfg.Name))
	return hex.EncodeToString(sum[:4])
}

// ownUser is the user that may write at a closed side: the way back writes as it.
func (m *Mover) ownUser() string { return "dhow-" + m.moveID() }

// shadow is the user that keeps another one's rights.
func (m *Mover) shadow(user string) string { return m.ownUser() + ":" + user }

// guarded is who may do what at a side.
type guarded struct {
	own     bool               // our own user is there
	users   []aclUser          // those of others
	shadows map[string]aclUser // of the closed ones, by their user's name
}

// readACL lists the users of a side.
func (m *Mover) readACL(ctx context.Context, s *session) (guarded, error) {
	g := guarded{shadows: map[string]aclUser{}}
	lines, err := s.Do(ctx, "ACL", "LIST").StringSlice()
	if err != nil {
		return g, s.fails("list the users", err)
	}
	all, err := parseACL(lines)
	if err != nil {
		return g, s.fails("read the users", err)
	}
	for _, u := range all {
		if of, ok := strings.CutPrefix(u.name, m.shadow("")); ok {
			g.shadows[of] = u
		} else if u.name == m.ownUser() {
			g.own = true
		} else {
			g.users = append(g.users, u)
		}
	}
	return g, nil
}

// setUser queues ACL SETUSER.
func setUser(ctx context.Context, p redis.Pipeliner, name string, rules []any) {
	p.Do(ctx, append([]any{"ACL", "SETUSER", name}, rules...)...)
}

// ensureOwnUser makes our own user, with the password that the estate gives.
func (m *Mover) ensureOwnUser(ctx context.Context, s *session) error {
	g, err := m.readACL(ctx, s)
	if err != nil || g.own {
		return err
	}
	secret := "nopass"
	if p := s.Options().Password; p != "" {
		secret = "#" + passwordHash(p)
	}
	if err := s.Do(ctx, "ACL", "SETUSER", m.ownUser(), "resetpass", secret, "on", "~*", "&*", "+@all").Err(); err != nil {
		return s.fails("create the user "+m.ownUser(), err)
	}
	_, err = m.saveACL(ctx, s)
	return err
}

// tryClosing finds out, with users that nobody can log in as, whether the server
// would take all rules that closing and opening need.
func (m *Mover) tryClosing(ctx context.Context, s *session) error {
	g, err := m.readACL(ctx, s)
	if err != nil {
		return err
	}
	for _, u := range g.users {
		for _, rules := range [][]any{u.rules(), u.closing()} {
			trial := m.ownUser() + "-trial"
			answers, err := s.TxPipelined(ctx, func(p redis.Pipeliner) error {
				setUser(ctx, p, trial, append([]any{"off"}, rules...))
				p.Do(ctx, "ACL", "DELUSER", trial)
				return nil
			})
			if err = firstError(answers, err); err != nil {
				return s.fails(fmt.Sprintf("try the rules that close user %s for writes", u.name), err)
			}
		}
	}
	return nil
}

// closeUsers takes the right to write from every user but ours, in one
// transaction with what more queues behind. What it got is in answers. It may be called again.
func (m *Mover) closeUsers(ctx context.Context, s *session, more func(redis.Pipeliner)) error {
	g, err := m.readACL(ctx, s)
	if err != nil {
		return err
	}
	if !g.own {
		if err := m.ensureOwnUser(ctx, s); err != nil {
			return err
		}
	}
	var fresh []aclUser
	answers, err := s.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, u := range g.users {
			rules := u.closing()
			if kept, has := g.shadows[u.name]; !has {
				setUser(ctx, p, m.shadow(u.name), append(u.mark(), u.rules()...))
				fresh = append(fresh, u)
			} else if u.name == defaultUser {
				rules = kept.closed() // a restart has made it what was saved
			}
			setUser(ctx, p, u.name, rules)
		}
		if more != nil {
			more(p)
		}
		return nil
	})
	if err = firstError(answers, err); err != nil {
		last, cancel := parting(ctx)
		defer cancel()
		return errors.Join(s.fails("take the right to write from the users", err), m.openThese(last, s, fresh))
	}
	return nil
}

// openUsers gives every user its former rights back. It may be called again.
func (m *Mover) openUsers(ctx context.Context, s *session) error {
	g, err := m.readACL(ctx, s)
	if err != nil {
		return err
	}
	former := make([]aclUser, 0, len(g.shadows))
	there := map[string]bool{}
	for _, u := range g.users {
		there[u.name] = true
	}
	var gone []any
	for name, kept := range g.shadows {
		if !there[name] { // somebody has deleted that user meanwhile
			gone = append(gone, m.shadow(name))
			continue
		}
		kept.name = name
		former = append(former, kept)
	}
	if len(gone) > 0 {
		if err := s.Do(ctx, append([]any{"ACL", "DELUSER"}, gone...)...).Err(); err != nil {
			return s.fails("forget the rights of deleted users", err)
		}
	}
	return m.openThese(ctx, s, former)
}

func (m *Mover) openThese(ctx context.Context, s *session, former []aclUser) error {
	if len(former) == 0 {
		return nil
	}
	slices.SortFunc(former, func(a, b aclUser) int { return strings.Compare(a.name, b.name) })
	answers, err := s.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, u := range former {
			rules := u.rules()
			if u.name == defaultUser {
				rules = append(rules, u.access())
			}
			setUser(ctx, p, u.name, rules)
		}
		for _, u := range former {
			p.Do(ctx, "ACL", "DELUSER", m.shadow(u.name))
		}
		return nil
	})
	if err = firstError(answers, err); err != nil {
		return s.fails("give the users their rights back", err)
	}
	_, err = m.saveACL(ctx, s)
	return err
}

// closed are the rules of a shadow's user while its side is closed.
func (u aclUser) closed() []any {
	return append(append(u.rules(), u.closing()...), u.access())
}

// saveACL writes the users to the server's file, so that a restart does not
// forget them; false when the server has no such file or lets us write none. A
// closed default is in the file with all commands, and off: no client sees it so,
// for a transaction is one step.
func (m *Mover) saveACL(ctx context.Context, s *session) (bool, error) {
	g, err := m.readACL(ctx, s)
	if err != nil {
		return false, err
	}
	kept, closed := g.shadows[defaultUser]
	save := func(command ...any) error {
		if !closed {
			return s.Do(ctx, command...).Err()
		}
		answers, err := s.TxPipelined(ctx, func(p redis.Pipeliner) error {
			setUser(ctx, p, defaultUser, []any{"off", "+@all"})
			p.Do(ctx, command...)
			setUser(ctx, p, defaultUser, kept.closed())
			return nil
		})
		return firstError(answers, err)
	}
	if err = save("ACL", "SAVE"); err != nil && strings.Contains(err.Error(), noACLFile) {
		err = save("CONFIG", "REWRITE")
	}
	var answer redis.Error
	if err != nil && !errors.As(err, &answer) {
		return false, s.fails("save the users", err)
	}
	return err == nil, nil
}

// noACLFile is what a server says that keeps its users in its configuration file.
const noACLFile = "not configured to use an ACL file"

// firstError is the first thing that went wrong in a transaction; the pipeline's
// own error stands for those that never got an answer.
func firstError(answers []redis.Cmder, err error) error {
	for _, a := range answers {
		if e := a.Err(); e != nil && !errors.Is(e, redis.Nil) {
			return e
		}
	}
	return err
}
