package check

import (
	"context"
	"fmt"

	"dhow/superapp/history"
)

// cardKey begins the key of a movement's transfer; the movement's id follows.
const cardKey = "card:"

// cardFaults are those of the cards database by itself. MariaDB has no FULL JOIN,
// so what lacks its counterpart is looked for from both ends.
var cardFaults = []fault{
	{Doubled, "SELECT concat('card with key ', `key`) AS subject, concat(count(*), ' cards have it: ids ', group_concat(id ORDER BY id SEPARATOR ', ')) AS detail FROM cards GROUP BY `key` HAVING count(*) > 1"},
	{Doubled, `SELECT concat('cards ', group_concat(id ORDER BY id SEPARATOR ', ')) AS subject, 'they have one number' AS detail FROM cards GROUP BY tag HAVING count(*) > 1`},
	{Doubled, "SELECT concat('card movement with key ', `key`) AS subject, concat(count(*), ' movements have it: ids ', group_concat(id ORDER BY id SEPARATOR ', ')) AS detail FROM movements WHERE `key` IS NOT NULL GROUP BY `key` HAVING count(*) > 1"},
	{Doubled, `SELECT concat('transfer ', transfer) AS subject, concat(count(*), ' card movements were made with it: ids ', group_concat(id ORDER BY id SEPARATOR ', ')) AS detail
		FROM movements WHERE transfer IS NOT NULL GROUP BY transfer HAVING count(*) > 1`},
	{HalfMovement, `SELECT concat('card movement ', m.id) AS subject, if(o.movement IS NULL, 'it is pending, and nothing will post it', concat('it is ', m.state, ', and waits to be posted')) AS detail
		FROM movements m LEFT JOIN ledger_outbox o ON o.movement = m.id WHERE (m.state = 'pending') <> (o.movement IS NOT NULL)`},
	{BrokenCard, `SELECT concat('card movement ', m.id) AS subject, concat('there is no authorisation ', m.authorisation) AS detail
		FROM movements m LEFT JOIN authorisations a ON a.id = m.authorisation WHERE a.id IS NULL`},
	{BrokenCard, `SELECT concat('authorisation ', a.id) AS subject, if(c.id IS NULL, concat('there is no card ', a.card), concat('it is of account ', a.account, ' in ', a.currency, ', and card ', c.id, ' of account ', c.account, ' in ', c.currency)) AS detail
		FROM authorisations a LEFT JOIN cards c ON c.id = a.card WHERE c.id IS NULL OR c.account <> a.account OR c.currency <> a.currency`},
	// An authorisation is what its movements make it: the first takes all of it; of
	// that a part is captured and the rest reversed, or all is reversed; and no more
	// is given back than was captured.
	{BrokenCard, `SELECT concat('authorisation ', a.id) AS subject, CASE
			WHEN a.state NOT IN ('pending', 'declined', 'authorised', 'captured', 'reversed') THEN concat('it is in an unknown state, "', a.state, '"')
			WHEN m.firsts IS NULL THEN 'it has no movement'
			WHEN m.firsts <> 1 OR m.authorised <> a.amount THEN concat('its amount is ', a.amount, ', and ', m.firsts, ' movements authorise ', m.authorised)
			WHEN m.elsewhere > 0 THEN concat(m.elsewhere, ' movements of it are of another card, account or currency')
			WHEN (a.state = 'pending') <> (m.first = 'pending') OR (a.state = 'declined') <> (m.first = 'declined') THEN concat('it is ', a.state, ', and its first movement is ', m.first)
			WHEN m.refused > 0 THEN concat(m.refused, ' later movements of it are declined')
			WHEN a.captured <> m.captured OR a.refunded <> m.refunded THEN concat('it says that ', a.captured, ' were captured and ', a.refunded, ' refunded, and its movements that ', m.captured, ' and ', m.refunded, ' were')
			WHEN a.captured > a.amount OR a.refunded > a.captured THEN concat('of ', a.amount, ' authorised ', a.captured, ' were captured, and of those ', a.refunded, ' refunded')
			ELSE concat('it is ', a.state, ' with ', m.captured, ' captured and ', m.reversed, ' reversed of ', a.amount) END AS detail
		FROM authorisations a LEFT JOIN (
			SELECT m.authorisation, sum(m.kind = 'authorise') AS firsts, max(CASE m.kind WHEN 'authorise' THEN m.state END) AS first, sum(m.kind <> 'authorise' AND m.state = 'declined') AS refused,
				sum(CASE m.kind WHEN 'authorise' THEN m.amount ELSE 0 END) AS authorised, sum(CASE m.kind WHEN 'capture' THEN m.amount ELSE 0 END) AS captured,
				sum(CASE m.kind WHEN 'reverse' THEN m.amount ELSE 0 END) AS reversed, sum(CASE m.kind WHEN 'refund' THEN m.amount ELSE 0 END) AS refunded,
				sum(m.card <> a.card OR m.account <> a.account OR m.currency <> a.currency) AS elsewhere
			FROM movements m JOIN authorisations a ON a.id = m.authorisation GROUP BY m.authorisation) m ON m.authorisation = a.id
		WHERE a.state NOT IN ('pending', 'declined', 'authorised', 'captured', 'reversed') OR m.firsts IS NULL OR m.firsts <> 1 OR m.authorised <> a.amount OR m.elsewhere > 0
			OR (a.state = 'pending') <> (m.first = 'pending') OR (a.state = 'declined') <> (m.first = 'declined') OR m.refused > 0
			OR a.captured <> m.captured OR a.refunded <> m.refunded OR a.captured > a.amount OR a.refunded > a.captured OR (a.state = 'captured') <> (a.captured > 0)
			OR m.reversed <> CASE a.state WHEN 'reversed' THEN a.amount WHEN 'captured' THEN a.amount - a.captured ELSE 0 END`},
}

// cardFacts are what the cards database holds of a batch of operations.
type cardFacts struct {
	cards     map[string][]cardRow
	movements map[string][]cardMovement
}

// cardRow is a card.
type cardRow struct {
	id, account int64
	currency    string
}

// cardMovement is a movement with what it is of.
type cardMovement struct {
	movement
	authorisation, card int64
}

// lookUpCards finds the cards and movements that operations made, and the keys of their transfers.
func (c *checker) lookUpCards(ctx context.Context, ops []history.Record) (f cardFacts, transfers []string, err error) {
	f = cardFacts{cards: map[string][]cardRow{}, movements: map[string][]cardMovement{}}
	var cards, movements []string
	for i := range ops {
		switch op := &ops[i]; {
		case op.Op == history.Card:
			cards = append(cards, op.Key)
		case op.Op.Cards():
			movements = append(movements, op.Key)
		}
	}
	var key string
	if len(cards) > 0 {
		var row cardRow
		statement, args := in("SELECT `key`, id, account, currency FROM cards WHERE `key` IN", cards)
		if err := c.cards.each(ctx, []any{&key, &row.id, &row.account, &row.currency}, func() error {
			f.cards[key] = append(f.cards[key], row)
			return nil
		}, statement+" ORDER BY id", args...); err != nil {
			return f, nil, err
		}
	}
	if len(movements) > 0 {
		var m cardMovement
		statement, args := in("SELECT `key`, id, kind, amount, currency, account, state, coalesce(transfer, 0), authorisation, card FROM movements WHERE `key` IN", movements)
		err = c.cards.each(ctx, []any{&key, &m.id, &m.kind, &m.amount, &m.currency, &m.account, &m.state, &m.transfer, &m.authorisation, &m.card}, func() error {
			f.movements[key] = append(f.movements[key], m)
			transfers = append(transfers, fmt.Sprint(cardKey, m.id))
			return nil
		}, statement+" ORDER BY id", args...)
	}
	return f, transfers, err
}

// traceCard is of a write of the cards service.
func (f *facts) traceCard(r *history.Record) trace {
	if r.Op == history.Card {
		return traceNewCard(r, f.cards.cards[r.Key])
	}
	ms := f.cards.movements[r.Key]
	if len(ms) == 0 {
		return trace{missing: "there is no movement"}
	}
	m := ms[0] // a second one with this key is told among the doubled
	t := trace{done: m.state != declined}
	if m.state != posted {
		t.missing = fmt.Sprintf("movement %d is %s", m.id, m.state)
	}
	id := m.id
	if r.Op == history.Authorise {
		id = m.authorisation
	}
	switch {
	case m.kind != string(r.Op) || m.card != r.Card || m.account != r.From || m.amount != r.Amount || m.currency != r.Currency || r.Authorisation > 0 && m.authorisation != r.Authorisation:
		t.differs = fmt.Sprintf("asked was the %s of %d %s with card %d of account %d, authorisation %d, and movement %d is the %s of %d %s with card %d of account %d, authorisation %d",
			r.Op, r.Amount, r.Currency, r.Card, r.From, r.Authorisation, m.id, m.kind, m.amount, m.currency, m.card, m.account, m.authorisation)
	case told(r) && r.ID > 0 && r.ID != id:
		t.differs = fmt.Sprintf("answered was %d, and movement %d is of authorisation %d", r.ID, m.id, m.authorisation)
	case told(r) && len(f.transfers[fmt.Sprint(cardKey, m.id)]) > 0:
		t.differs = shown(r, f.transfers[fmt.Sprint(cardKey, m.id)][0])
	}
	return t
}

func traceNewCard(r *history.Record, cards []cardRow) trace {
	if len(cards) == 0 {
		return trace{missing: "there is no card"}
	}
	c := cards[0]
	if c.account != r.From || c.currency != r.Currency {
		return trace{done: true, differs: fmt.Sprintf("asked was a card of account %d in %s, and card %d is of account %d in %s", r.From, r.Currency, c.id, c.account, c.currency)}
	}
	return trace{done: true, differs: other(r, "card", c.id)}
}
