package price

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Goals are what a cheaper plan must still meet.
type Goals struct {
	// ARM says that every image runs on 64-bit ARM too, so that Graviton is open to all.
	// Databases and caches are AWS's own programs: they are open to it in any case.
	ARM bool
	// Offered says whether a region has a class of a service, as package region does: of
	// "ec2", "elasticache" or "rds/postgres". Nil: every class that the list has a price of.
	Offered func(region, service, class string) bool
	// CommitYears is for how long one would commit to what one uses: 0, 1 or 3 years.
	CommitYears int
	// NeededHours is how many hours of a week non-production is worked with; 0 or 168 is
	// always. What can be stopped is stopped for the rest.
	NeededHours int
	// OneZone says that non-production may stand still while its zone does.
	OneZone bool
	// Valkey says that the caches' users take Valkey in the place of Redis.
	Valkey bool
}

// Change is one way to pay less.
type Change struct {
	// ID names the change: graviton, one-nat, one-zone, off-at-night, commitment, valkey.
	ID string `json:"id"`
	// What is done, in a sentence; GivenUp what it costs beside money.
	What    string `json:"what"`
	GivenUp string `json:"given_up"`
	// Items are the items that change, sorted.
	Items []string `json:"items"`
	// Saving is a month's, of this change alone.
	Saving Money `json:"saving"`
}

// Advice is the ways to pay less, each alone and all together.
type Advice struct {
	// Changes are those that save something and still meet the goals, the greatest saving
	// first: the first is the one to begin with.
	Changes []Change `json:"changes"`
	// Today is the month's cost as planned, Together with every change made. What two
	// changes would both save counts once.
	Today    Money `json:"today"`
	Together Money `json:"together"`
	// Items is the plan with every change made.
	Items []Item `json:"-"`
}

// weekHours is how many hours a week has.
const weekHours = 168

// tweak makes an item cheaper; it leaves what does not fit as it is.
type tweak struct {
	id, what, givenUp string
	apply             func(l *List, g Goals, i Item) Item
}

// tweaks are in the order in which they are made together: what lowers a price before
// what lowers the hours, and a commitment last, for it holds for what is left.
var tweaks = []tweak{
	{"graviton", "Take the Graviton class of the same size.", "Images must run on 64-bit ARM; nothing else changes.", (*List).graviton},
	{"valkey", "Take Valkey in the place of Redis.", "Valkey is Redis 7.2's heir: what Redis has added since is missing.", (*List).valkey},
	{"one-nat", "Share one NAT gateway among the zones of non-production.", "Its other zones lose the way out when that zone fails, and pay for data between zones.", (*List).oneNAT},
	{"one-zone", "Keep the databases of non-production in one zone.", "They stand still while the zone does, and minutes while they are patched.", (*List).oneZone},
	{"off-at-night", "Stop non-production outside of the hours in which it is worked with.", "Nobody can use it then; a start takes some minutes.", (*List).offAtNight},
	{"commitment", "Commit to what runs all day (a Compute Savings Plan, reserved databases), with nothing paid in advance.", "It is paid for whether it is used or not.", (*List).commitment},
}

// Cheapest finds the changes that make the items cheaper and still meet the goals.
func (l *List) Cheapest(items []Item, g Goals) (*Advice, error) {
	if g.CommitYears != 0 && g.CommitYears != 1 && g.CommitYears != 3 {
		return nil, fmt.Errorf("a commitment of %d years is not sold: want 0, 1 or 3", g.CommitYears)
	}
	if g.NeededHours < 0 || g.NeededHours > weekHours {
		return nil, fmt.Errorf("a week has no %d hours: want 0 to %d", g.NeededHours, weekHours)
	}
	a := &Advice{Changes: []Change{}, Items: slices.Clone(items)}
	before := make([]Money, len(items))
	for n, i := range items {
		c, err := l.Cost(i)
		if err != nil {
			return nil, err
		}
		before[n] = c
		if a.Today, err = plus(a.Today, c); err != nil {
			return nil, fmt.Errorf("the whole plan: %w", err)
		}
	}
	for _, t := range tweaks {
		change := Change{ID: t.id, What: t.what, GivenUp: t.givenUp}
		for n, i := range items {
			saved, _, err := l.saved(t, g, i, before[n])
			if err != nil {
				return nil, err
			}
			if saved > 0 {
				change.Saving += saved
				change.Items = append(change.Items, i.String())
			}
			// Together each change meets what those before it have left.
			now, err := l.Cost(a.Items[n])
			if err != nil {
				return nil, err
			}
			if saved, to, err := l.saved(t, g, a.Items[n], now); err != nil {
				return nil, err
			} else if saved > 0 {
				a.Items[n] = to
			}
		}
		if change.Saving > 0 {
			slices.Sort(change.Items)
			change.Items = slices.Compact(change.Items)
			a.Changes = append(a.Changes, change)
		}
	}
	slices.SortStableFunc(a.Changes, func(x, y Change) int { return cmp.Or(cmp.Compare(y.Saving, x.Saving), strings.Compare(x.ID, y.ID)) })
	for _, i := range a.Items {
		c, err := l.Cost(i)
		if err != nil {
			return nil, err
		}
		a.Together += c
	}
	return a, nil
}

// saved is what a tweak saves of an item, and the item with it.
func (l *List) saved(t tweak, g Goals, i Item, now Money) (Money, Item, error) {
	to := t.apply(l, g, i)
	if to == i {
		return 0, i, nil
	}
	then, err := l.Cost(to)
	if err != nil {
		return 0, i, err
	}
	return max(0, now-then), to, nil
}

// gravitons are the families that a Graviton family takes the place of, for servers of
// one's own; databases and caches have the same families behind a prefix.
var gravitons = map[string][]string{
	"m5": {"m7g", "m6g"}, "m5a": {"m7g", "m6g"}, "m6i": {"m7g", "m6g"}, "m6a": {"m7g", "m6g"}, "m7i": {"m7g", "m6g"}, "m7a": {"m7g", "m6g"}, "m7i-flex": {"m7g", "m6g"}, "m4": {"m7g", "m6g"},
	"c5": {"c7g", "c6g"}, "c5a": {"c7g", "c6g"}, "c6i": {"c7g", "c6g"}, "c6a": {"c7g", "c6g"}, "c7i": {"c7g", "c6g"}, "c7a": {"c7g", "c6g"}, "c7i-flex": {"c7g", "c6g"},
	"r5": {"r7g", "r6g"}, "r5a": {"r7g", "r6g"}, "r6i": {"r7g", "r6g"}, "r6a": {"r7g", "r6g"}, "r7i": {"r7g", "r6g"}, "r7a": {"r7g", "r6g"}, "r4": {"r7g", "r6g"},
	"t2": {"t4g"}, "t3": {"t4g"}, "t3a": {"t4g"},
}

func (l *List) graviton(g Goals, i Item) Item {
	prefix, service := "", string(i.Kind)
	switch i.Kind {
	case Fargate:
		i.ARM = i.ARM || g.ARM
		return i
	case Instance:
		if !g.ARM {
			return i
		}
	case Database:
		prefix, service = "db.", "rds/"+i.Engine
	case Cache:
		prefix = "cache."
	default:
		return i
	}
	fam, size, ok := strings.Cut(strings.TrimPrefix(i.Class, prefix), ".")
	if !ok {
		return i
	}
	best := i
	cheapest, err := l.Cost(i)
	if err != nil {
		return i
	}
	for _, f := range gravitons[fam] {
		to := i
		to.Class = prefix + f + "." + size
		if g.Offered != nil && !g.Offered(i.Region, service, to.Class) {
			continue
		}
		if c, err := l.Cost(to); err == nil && c < cheapest {
			best, cheapest = to, c
		}
	}
	return best
}

func (l *List) valkey(g Goals, i Item) Item {
	if i.Kind == Cache && i.Engine == "redis" && g.Valkey {
		i.Engine = "valkey"
	}
	return i
}

func (l *List) oneNAT(g Goals, i Item) Item {
	if i.Kind == NAT && !i.Production && g.OneZone {
		i.Count = min(i.Count, 1)
	}
	return i
}

func (l *List) oneZone(g Goals, i Item) Item {
	if i.Kind == Database && !i.Production && g.OneZone {
		i.MultiAZ = false
	}
	if i.Kind == Cache && !i.Production && g.OneZone {
		i.Count = min(i.Count, 1)
	}
	return i
}

func (l *List) offAtNight(g Goals, i Item) Item {
	if i.Production || g.NeededHours == 0 {
		return i
	}
	switch i.Kind {
	case Instance, Fargate, Database:
		hours := (l.Hours*g.NeededHours + weekHours - 1) / weekHours
		i.Hours = min(cmp.Or(i.Hours, l.Hours), hours)
	default:
	}
	return i
}

func (l *List) commitment(g Goals, i Item) Item {
	c, ok := l.commitments[g.CommitYears]
	if !ok || i.Percent != 0 || i.Hours != 0 && i.Hours < l.Hours {
		return i // what stands still at night does not use up a commitment
	}
	switch i.Kind {
	case Instance, Fargate:
		i.Percent = c.compute
	case Database, Cache:
		i.Percent = c.data
	default:
	}
	return i
}
