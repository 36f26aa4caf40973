package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for --zone where the system has no zones, as in a container

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/window"
)

const (
	// atAuto asks for the quietest moment.
	atAuto = "auto"
	// localZone is the zone of this machine.
	localZone = "Local"
	// defaultPrepare is how long before the moment the work begins that nobody
	// notices: the comparison takes most of it.
	defaultPrepare = 10 * time.Minute
	// tokenVariable holds the token that Prometheus asks for; an argument would be seen by others.
	tokenVariable = "DHOW_HISTORY_TOKEN"
	// moments is how a moment is printed, with the day of the week.
	moments = "Mon 2006-01-02 15:04:05 -07:00"
)

// whenFlags say when a cutover starts.
type whenFlags struct {
	at             string
	now            bool
	history        string
	kind           string
	query          string
	zone           string
	within, before time.Duration
	stall          time.Duration
}

func (f *whenFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.at, "at", "", "wait for a `time`, as \"2026-12-01 03:30\" or RFC 3339, or for the quietest moment: auto")
	cmd.Flags().BoolVar(&f.now, "now", false, "start at once, but only if all is well, as --at does when the time has come")
	cmd.Flags().StringVar(&f.history, "history", "", "where the requests of at least two weeks are counted: the `URL` of a Prometheus server, or a file or folder")
	cmd.Flags().StringVar(&f.kind, "history-kind", "", "what the history is, where that is not found out: prometheus, alb, nginx or csv")
	cmd.Flags().StringVar(&f.query, "query", window.DefaultQuery, "the `PromQL` that gives the requests a second")
	cmd.Flags().StringVar(&f.zone, "zone", localZone, "the time `zone` whose clock habits follow, as Asia/Qatar")
	cmd.Flags().DurationVar(&f.within, "within", window.DefaultWithin, "how far ahead the quietest moment may be")
	cmd.Flags().DurationVar(&f.before, "prepare", defaultPrepare, "begin so long before the moment with all that nobody notices")
	cmd.Flags().DurationVar(&f.stall, "stall", 0, "how long requests will be held, as --dry-run predicts it (default: the stall budget)")
	kinds := make([]string, 0, len(window.Kinds()))
	for _, k := range window.Kinds() {
		kinds = append(kinds, string(k))
	}
	_ = cmd.RegisterFlagCompletionFunc("history-kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag alone
}

// schedule is when a cutover starts, and why then.
type schedule struct {
	At time.Time `json:"at"`
	// Begin is when the work begins that nobody notices.
	Begin time.Time `json:"begin"`
	// Chosen says whether the moment was found, rather than named.
	Chosen bool   `json:"chosen"`
	Zone   string `json:"zone"`
	// Stall is what requests are taken to be held for.
	Stall time.Duration `json:"stall_ns"`
	// Expected is what the moment will cost, Plan what the history says; absent without one.
	Expected *window.Moment `json:"expected,omitempty"`
	Plan     *window.Plan   `json:"plan,omitempty"`
}

// usage is an error of the flags.
func (*whenFlags) usage(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...), see: "dhow cutover"}
}

// check refuses flags that do not go together, and reads the zone.
func (f *whenFlags) check(cmd *cobra.Command) (*time.Location, error) {
	if f.at != "" && f.now {
		return nil, f.usage("--at waits and --now does not: give one of them")
	}
	if f.at == "" {
		for _, name := range []string{"history", "history-kind", "query", "zone", "within", "prepare", "stall"} {
			if cmd.Flags().Changed(name) {
				return nil, f.usage("--%s is for a time that is waited for: give --at too", name)
			}
		}
	}
	zone, err := time.LoadLocation(f.zone)
	switch {
	case err != nil:
		return nil, f.usage("--zone %q is not known: want a name as Asia/Qatar, UTC or Local", f.zone)
	case f.kind != "" && !slices.Contains(window.Kinds(), window.Kind(f.kind)):
		return nil, f.usage("--history-kind %q is not known: want one of %v", f.kind, window.Kinds())
	case f.at == atAuto && f.history == "":
		return nil, f.usage("--at auto needs a history of requests: name one with --history")
	case f.within <= 0 || f.within > window.MaxWithin:
		return nil, f.usage("--within %s: want more than nothing and at most %s", f.within, window.MaxWithin)
	case f.before < 0:
		return nil, f.usage("--prepare %s: want a time that is not negative", f.before)
	case f.stall < 0:
		return nil, f.usage("--stall %s: want a time that is not negative", f.stall)
	}
	return zone, nil
}

// cutoverWhen starts a cutover at once, or when its time has come.
func (a *app) cutoverWhen(ctx context.Context, cmd *cobra.Command, f moveFlags, w whenFlags) error {
	zone, err := w.check(cmd)
	if err != nil {
		return err
	}
	if w.at == "" && !w.now {
		return a.moveTraffic(ctx, cutover.Target, f)
	}
	if err := f.check(cutover.Target); err != nil {
		return err
	}
	if !f.dryRun {
		if err := a.mayAsk(command(cutover.Target), f.yes); err != nil {
			return err
		}
	}
	e, err := a.load()
	if err != nil {
		return err
	}
	if w.now {
		if err := a.allWell(ctx); err != nil {
			return err
		}
		return a.moveTraffic(ctx, cutover.Target, f)
	}
	s, err := a.scheduled(ctx, e, w, zone)
	if err != nil {
		return err
	}
	if a.json() && f.dryRun {
		return a.printJSON(s)
	}
	if !a.json() {
		if err := a.printSchedule(s); err != nil {
			return err
		}
	}
	if f.dryRun {
		a.printf("nothing waits, and nothing was held, fenced or moved")
		return nil
	}
	if !f.yes {
		if err := a.confirm(ctx, fmt.Sprintf("wait until %s, and if all is well then, hold the traffic and move it to the target?", s.At.Format(moments))); err != nil {
			return err
		}
	}
	if err := a.await(ctx, s); err != nil {
		return err
	}
	f.yes, f.schedule = true, s
	return a.moveTraffic(ctx, cutover.Target, f)
}

// scheduled decides the moment.
func (a *app) scheduled(ctx context.Context, e *estate.Estate, w whenFlags, zone *time.Location) (*schedule, error) {
	now := time.Now()
	s := &schedule{Chosen: w.at == atAuto, Zone: zone.String(), Stall: w.stall}
	if s.Stall == 0 {
		s.Stall = e.Cutover.StallBudget
	}
	if !s.Chosen {
		at, err := window.ParseMoment(w.at, zone)
		if err != nil {
			return nil, w.usage("--at: %v", err)
		}
		if !at.After(now) {
			return nil, w.usage("--at %s is %s, and that is over", w.at, at.Format(moments))
		}
		s.At = at
	}
	if w.history != "" {
		if err := w.ask(ctx, s, now, zone); err != nil {
			return nil, err
		}
	}
	s.Begin = s.At.Add(-w.before)
	return s, nil
}

// ask asks the history for the quietest moment, and what the one that is chosen will cost.
func (f *whenFlags) ask(ctx context.Context, s *schedule, now time.Time, zone *time.Location) error {
	h, err := window.Read(ctx, window.Source{Where: f.history, Kind: window.Kind(f.kind), Query: f.query, Token: os.Getenv(tokenVariable), Zone: zone, Now: now})
	if err != nil {
		return err
	}
	if s.Plan, err = h.Find(window.Ahead{Now: now, Earliest: now.Add(f.before), Within: f.within, Stall: s.Stall}); err != nil {
		return err
	}
	if s.Chosen {
		s.At, s.Expected = s.Plan.Best.At, &s.Plan.Best
		return nil
	}
	m, known, err := h.Expect(s.At, s.Stall)
	if known {
		s.Expected = &m
	}
	return err
}

// printSchedule says when the cutover starts, what that costs, and what else was to choose from.
func (a *app) printSchedule(s *schedule) error {
	zone := s.Zone
	if zone == localZone {
		zone = "the zone of this machine"
	}
	if s.Plan == nil {
		a.printf("the cutover starts at %s, by the clock of %s", a.out.bold(s.At.Format(moments)), zone)
		return nil
	}
	t := &table{head: []string{"MOMENT", "REQUESTS/S", "HELD", "IN EARLIER WEEKS", ""}}
	add := func(m window.Moment, what string, paint func(string) string) {
		t.add(cell{text: m.At.Format(moments), paint: paint}, number(few(m.Rate)), number(few(m.Held)), plain(few(m.Least)+" to "+few(m.Most)), plain(what))
	}
	if !s.Chosen && s.Expected != nil {
		add(*s.Expected, "named", a.out.bold)
	}
	if s.Chosen {
		add(s.Plan.Best, "the quietest", a.out.bold)
	} else {
		add(s.Plan.Best, "the quietest", nil)
	}
	for _, m := range s.Plan.Runners {
		add(m, "", nil)
	}
	a.printf("%.1f weeks of history, from %s to %s, with %s requests", s.Plan.Weeks, s.Plan.From.Format(time.DateOnly), s.Plan.To.Format(time.DateOnly), humanize.Comma(int64(s.Plan.Requests)))
	if err := a.printTable(t); err != nil {
		return err
	}
	a.printf("held are those of a stall of %s; in the usual quarter of an hour it would be %s, in the busiest %s", s.Stall, few(s.Plan.Usual), few(s.Plan.Busiest))
	sure := s.Plan.Sure
	a.printf("%s: of %s, in %d a moment chosen by the other weeks was among the quietest tenth", sure.Word(), counted(int64(sure.Weeks), "week"), sure.Quiet)
	for _, n := range s.Plan.Notes {
		a.printf("%s %s", a.out.yellow("note:"), n)
	}
	a.printf("the cutover starts at %s, by the clock of %s", a.out.bold(s.At.Format(moments)), zone)
	return nil
}

// few is a number of requests: small ones with their tenths.
func few(n float64) string {
	if n < 10 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	return humanize.Comma(int64(n + 0.5))
}

// latest is how long after its moment a cutover may still start: it was judged
// for a quarter of an hour.
const latest = window.SlotLength

// errTooLate says that the moment has passed.
var errTooLate = errors.New("the moment has passed")

// atItsMoment lets a run whose preparations are over go on at the moment, and not
// much later: then it is another hour than the one that was chosen.
func (a *app) atItsMoment(ctx context.Context, s *schedule, predicted time.Duration) error {
	if late := time.Since(s.At); late > latest {
		return fmt.Errorf("%w: all was ready %s after %s only, and nothing was held: begin earlier with --prepare", errTooLate, took(late), s.At.Format(moments))
	}
	if s.Expected != nil {
		a.tell("about %s requests will be held, for %s", few(s.Expected.Rate*predicted.Seconds()), took(predicted))
	}
	return a.countDown(ctx, s.At, false, func(left time.Duration) string {
		return fmt.Sprintf("all is ready: the traffic moves in %s, at %s", took(left), s.At.Format(moments))
	})
}
