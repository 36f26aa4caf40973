package check

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

// pair are both sides of an application, each on a server of its own, and a
// stream between them that a test plays by hand.
type pair struct {
	t     *testing.T
	sides *Sides
	conns map[string]map[string]*pgx.Conn // by side and database
	id    int64
}

func newPair(t *testing.T, servers map[string]*pgserver.Server, name string) *pair {
	t.Helper()
	p := &pair{t: t, sides: &Sides{}, conns: map[string]map[string]*pgx.Conn{}}
	for side, into := range map[string]*Databases{source: &p.sides.Source, target: &p.sides.Target} {
		*into = Databases{Accounts: clone(t, servers[side], "accounts", name+"_a"), Payments: clone(t, servers[side], "payments", name+"_p")}
		p.conns[side] = map[string]*pgx.Conn{"accounts": dial(t, into.Accounts), "payments": dial(t, into.Payments)}
	}
	return p
}

// again is an empty pair in the same databases.
func (p *pair) again(t *testing.T) *pair {
	t.Helper()
	next := &pair{t: t, sides: p.sides, conns: p.conns}
	for _, side := range []string{source, target} {
		for _, one := range audited {
			if next.conns[side][one.database] != nil {
				next.exec(side, one.database, "TRUNCATE "+one.table)
			}
		}
	}
	return next
}

func (p *pair) exec(side, database, sql string, args ...any) {
	p.t.Helper()
	if _, err := p.conns[side][database].Exec(context.Background(), sql, args...); err != nil {
		p.t.Fatalf("%v: %s", err, sql)
	}
}

// row is one that an instance wrote; it is put where a test wants it, as often as it wants.
type row struct {
	id       int64
	instance string
	at       time.Time
}

func (p *pair) next(instance string) row {
	p.id++
	return row{p.id, instance, time.Now().UTC().Truncate(time.Microsecond)}
}

func (p *pair) transfer(side string, r row) {
	p.t.Helper()
	p.exec(side, "accounts", "INSERT INTO transfers (id, key, reference, currency, amount, instance, at) OVERRIDING SYSTEM VALUE VALUES ($1, $2, '', 'AED', 1, $3, $4)",
		r.id, fmt.Sprint("k", r.id), r.instance, r.at)
}

func (p *pair) payment(side string, r row, state string) {
	p.t.Helper()
	p.exec(side, "payments", "DELETE FROM payments WHERE id = $1", r.id)
	p.exec(side, "payments", `INSERT INTO payments (id, key, payer, payee, amount, currency, note, state, instance, created, updated)
		OVERRIDING SYSTEM VALUE VALUES ($1, $2, 1, 2, 1, 'AED', '', $4, $3, $5, $5)`, r.id, fmt.Sprint("k", r.id), r.instance, state, r.at)
}

// wrote lets a side write a transfer, which the stream brings to the other one.
func (p *pair) wrote(side string) row {
	p.t.Helper()
	r := p.next(side)
	p.transfer(side, r)
	p.transfer(map[string]string{source: target, target: source}[side], r)
	return r
}

func (p *pair) audit(switches int) *Report {
	p.t.Helper()
	sides := *p.sides
	sides.Switches = switches
	c := &checker{cfg: Config{Sides: &sides, Most: DefaultMost}, report: newReport(DefaultMost)}
	a, err := c.openSides(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.close(context.Background())
	if err := a.run(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	c.report.conclude()
	return c.report
}

func TestAuditOfBothSides(t *testing.T) {
	servers := map[string]*pgserver.Server{}
	for side, version := range map[string]int{source: 15, target: 17} {
		servers[side] = pgtest.Start(t, version, "track_commit_timestamp", "on", "timezone", map[string]string{source: "UTC", target: "Asia/Dubai"}[side])
		templates(t, servers[side])
	}
	p := newPair(t, servers, "side")
	for _, c := range []struct {
		name     string
		play     func(p *pair)
		allowed  int
		switches int
		want     map[Kind]int64
		what     string
	}{
		{"nothing was written", func(*pair) {}, 1, 0, map[Kind]int64{}, ""},
		{"the source alone wrote", func(p *pair) { p.wrote(source); p.wrote(source) }, 1, 0, map[Kind]int64{}, ""},
		{"a cutover", func(p *pair) { p.wrote(source); p.wrote(source); p.wrote(target); p.wrote(target) }, 1, 1, map[Kind]int64{}, ""},
		{"there and back", func(p *pair) { p.wrote(source); p.wrote(target); p.wrote(source) }, 2, 2, map[Kind]int64{}, ""},
		{"there and back, and only there was allowed", func(p *pair) { p.wrote(source); p.wrote(target); p.wrote(source) }, 1, 2, map[Kind]int64{BothSidesWrote: 1}, "the source wrote it at"},
		{"a switch that was not to be", func(p *pair) { p.wrote(source); p.wrote(target) }, 0, 1, map[Kind]int64{BothSidesWrote: 1}, "after the source wrote accounts.transfers, row 1"},
		{"both took writes by turns", func(p *pair) {
			for range 3 {
				p.wrote(source)
				p.wrote(target)
			}
		}, 1, 5, map[Kind]int64{BothSidesWrote: 4}, ""},
		{"the stream back is behind", func(p *pair) { p.wrote(source); p.transfer(target, p.next(target)) }, 1, 1, map[Kind]int64{}, ""},
		{"the copy was there first", func(p *pair) {
			r := p.next(seed) // of before the audit's time
			p.transfer(target, r)
			p.transfer(source, r)
			p.wrote(source)
		}, 1, 0, map[Kind]int64{}, ""},
		{"one wrote at the other side", func(p *pair) { p.wrote(source); p.transfer(target, p.next(source)) }, 1, 1,
			map[Kind]int64{WroteElsewhere: 1}, "it is the source's, and is not there"},
		{"one wrote at the other side and the stream brought it home", func(p *pair) {
			r := p.next(source)
			p.transfer(target, r)
			p.transfer(source, r)
		}, 1, 0, map[Kind]int64{WroteElsewhere: 1}, "was committed first at the target"},
		{"two rows have one id", func(p *pair) {
			a, b := p.next(source), p.next(target)
			b.id = a.id
			p.transfer(source, a)
			p.transfer(target, b)
		}, 1, 0, map[Kind]int64{BothSidesWrote: 1}, "two different rows with this id"},
		{"an instance that nobody knows", func(p *pair) { p.transfer(source, p.next("elsewhere")) }, 1, 0, map[Kind]int64{UnknownInstance: 1}, `"elsewhere"`},
		{"a payment whose end has not arrived", func(p *pair) {
			r := p.next(source)
			p.payment(source, r, "pending")
			p.payment(target, r, "declined")
		}, 1, 0, map[Kind]int64{}, ""},
		{"a payment is ended by the other side", func(p *pair) {
			r := p.next(source)
			p.payment(source, r, "pending")
			p.payment(target, r, "pending")
			p.wrote(target)
			p.payment(target, r, "declined")
			p.payment(source, r, "declined")
		}, 1, 1, map[Kind]int64{}, ""},
		{"a payment of one id is made on both sides", func(p *pair) {
			a, b := p.next(source), p.next(target)
			b.id = a.id
			p.payment(source, a, "declined")
			p.payment(target, b, "declined")
		}, 1, 0, map[Kind]int64{BothSidesWrote: 1}, "payments.payments, row 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := p.again(t)
			c.play(p)
			r := p.audit(c.allowed)
			expect(t, r, c.want)
			if r.Switches != c.switches || !r.Audited || r.SwitchesAllowed != c.allowed || r.BothSidesWrote != (c.want[BothSidesWrote] > 0) {
				t.Errorf("%d switches, want %d; audited %v, both sides wrote %v", r.Switches, c.switches, r.Audited, r.BothSidesWrote)
			}
			var all strings.Builder
			for _, f := range r.Findings {
				fmt.Fprintf(&all, "%s: %s\n", f.Of, f.What)
			}
			if !strings.Contains(all.String(), c.what) {
				t.Errorf("no finding says %q:\n%s", c.what, &all)
			}
		})
	}
}

func TestAuditNeedsCommitTimes(t *testing.T) {
	s := pgtest.Start(t, 13, "track_commit_timestamp", "off")
	templates(t, s)
	w := newWorld(t, s, "untimed")
	w.live(1)
	cfg := w.config()
	cfg.Sides = &Sides{Source: w.urls, Target: w.urls, Switches: 1}
	if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "track_commit_timestamp = on") {
		t.Errorf("without commit times: %v", err)
	}
}

// The whole check with both sides, as it is run behind a cutover.
func checkWithBothSides(t *testing.T, s *pgserver.Server) {
	base := newWorld(t, s, "base")
	base.live(2)
	closeAll(base)
	w := base.copy(t, s, "tgt")
	cfg := w.config()
	cfg.Sides = &Sides{Source: base.urls, Target: w.urls, Switches: 1}
	r := w.check(cfg)
	expect(t, r, map[Kind]int64{})
	if !r.Audited || r.AuditedRows == 0 || r.Switches != 0 || r.UndecidedRows != 0 {
		t.Errorf("%+v", r)
	}
	// One row that the source took while the target served.
	for _, side := range []string{"target", "source"} {
		w.move("turn-"+side, "r", 2, 3, 1, side)
	}
	if _, err := dial(t, base.urls.Accounts).Exec(context.Background(),
		"INSERT INTO transfers (id, key, reference, currency, amount, instance) OVERRIDING SYSTEM VALUE VALUES (1000, 'stray', '', 'AED', 1, 'source')"); err != nil {
		t.Fatal(err)
	}
	r = w.check(w.config())
	expect(t, r, map[Kind]int64{})
	r = w.check(cfg)
	if got := r.found(); got[BothSidesWrote] != 1 || got[WroteElsewhere] != 1 || !r.BothSidesWrote {
		t.Errorf("found %v: %+v", got, r.Findings)
	}
}
