package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/gate"
	"dhow/internal/move"
)

// golden compares a text with a file of testdata/golden, which -update writes anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; -update takes it over. Now it is:\n%s", path, got)
	}
}

// printing is a command's output in memory.
func printing(t *testing.T) (*app, *strings.Builder) {
	t.Helper()
	var out strings.Builder
	a := &app{IO: IO{In: strings.NewReader(""), Out: &out, Err: &out}, output: outputTable, logFormat: logText}
	if err := a.prepare(); err != nil {
		t.Fatal(err)
	}
	return a, &out
}

// TestHelp keeps what every command says of itself, and that it gives examples.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			args := slices.Concat(strings.Fields(cmd.CommandPath())[1:], []string{"--help"})
			if code := Run(context.Background(), args, IO{In: strings.NewReader(""), Out: &out, Err: &out}); code != exitDone {
				t.Errorf("the help ends with %d", code)
			}
			golden(t, filepath.Join("help", name+".txt"), out.String())
			if !strings.Contains(cmd.Example, cmd.CommandPath()) {
				t.Error("there is no example of it")
			}
			for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
				if len(line) > 100 {
					t.Errorf("a line is too wide for a terminal: %s", line)
				}
			}
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || strings.ToUpper(cmd.Short[:1]) != cmd.Short[:1] {
				t.Errorf("its sentence in the list is %q", cmd.Short)
			}
		})
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk((&app{}).root())
}

func TestPrintIssues(t *testing.T) {
	a, out := printing(t)
	err := a.printIssues([]inspected{
		{Database: "accounts", Engine: estate.PostgreSQL, Issues: []move.Issue{
			{Severity: move.Loses, Rule: "no-replica-identity", Side: "source", Object: "public.audit_log",
				Consequence: "updates and deletes of its rows can not be told to the target, and the application's own statements would fail as soon as the table is published",
				Fix:         "ALTER TABLE public.audit_log REPLICA IDENTITY FULL"},
			{Severity: move.Warns, Rule: "unlogged-table", Side: "source", Object: "public.cache", Consequence: "its changes are in no log", Fix: "ALTER TABLE public.cache\n  SET LOGGED"},
		}},
		{Database: "payments", Issues: []move.Issue{}},
	}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "issues.txt", out.String())
}

func TestPrintComparisons(t *testing.T) {
	a, out := printing(t)
	err := a.printCompared(cutover.Target, []compared{
		{Database: "accounts", Engine: estate.PostgreSQL, Comparison: move.Comparison{Tables: 12, Chunks: 40, Rows: 1_234_567, Took: 3 * time.Second}},
		{Database: "sessions", Engine: estate.Redis, Comparison: move.Comparison{Tables: 2, Rows: 1, Took: 1500 * time.Microsecond, ByTable: []move.TableComparison{{Table: "db0", Rows: 1, Took: time.Millisecond}, {Table: "db1"}}}},
		{Database: "payments", Engine: estate.MariaDB, Repaired: 1, Comparison: move.Comparison{Tables: 3, Chunks: 3, Rows: 42, Different: 1003, Undecided: 2, ByTable: []move.TableComparison{{Table: "public.entries", Rows: 42, Different: 1003, Took: 2 * time.Second}}, Differences: []move.Difference{
			{Table: "public.entries", Key: "id=7", Kind: move.Missing, Repaired: true},
			{Table: "public.entries", Key: "id=8", Kind: move.Extra},
			{Table: "public.entries", Key: "id=9", Kind: move.Changed},
		}}},
	})
	var silent *exitError
	if !errors.As(err, &silent) {
		t.Errorf("rows that differ end with %v", err)
	}
	golden(t, "comparisons.txt", out.String())
}

// TestPrintRehearsal: it says which database the others wait for.
func TestPrintRehearsal(t *testing.T) {
	a, out := printing(t)
	a.engines = map[string]estate.Engine{"cards": estate.MariaDB, "sessions": estate.Redis}
	r := &run{app: a, to: cutover.Target, budget: 300 * time.Millisecond, result: cutover.Result{Predicted: 61 * time.Millisecond,
		Rehearsed: map[string]move.Rehearsal{"accounts": {Lag: 4 * time.Millisecond, Seal: 20 * time.Millisecond}, "cards": {Lag: 21 * time.Millisecond, Seal: 40 * time.Millisecond}, "sessions": {Lag: time.Millisecond}},
		Before:    map[string]move.Comparison{"cards": {Tables: 1, Rows: 2, Took: time.Second, ByTable: []move.TableComparison{{Table: "cards.card", Rows: 2, Took: time.Second}}}}}}
	if err := a.printRehearsal(r, nil); err != nil {
		t.Fatal(err)
	}
	a.output = outputJSON
	r.result.Predicted = time.Second
	if err := a.printRehearsal(r, nil); !errors.Is(err, cutover.ErrOverBudget) {
		t.Errorf("a second of 300ms ends with %v", err)
	}
	golden(t, "rehearsal.txt", out.String())
}

// TestManyTables: of many tables those that differ are listed, and those that took longest, in their order.
func TestManyTables(t *testing.T) {
	var all []tableShare
	for i := range 3 * mostCompared {
		b := move.TableComparison{Table: fmt.Sprintf("t%03d", i), Took: time.Duration(i)}
		if i < mostCompared+5 && i%2 == 0 {
			b.Different = 1
		}
		all = append(all, tableShare{TableComparison: b})
	}
	shown := busiestShares(all)
	differ := 0
	for i, s := range shown {
		if s.Different > 0 {
			differ++
		}
		if i > 0 && shown[i-1].Table >= s.Table {
			t.Errorf("%s comes after %s", s.Table, shown[i-1].Table)
		}
	}
	if differ != (mostCompared+5+1)/2 || len(shown) != mostCompared || shown[len(shown)-1].Table != all[len(all)-1].Table {
		t.Errorf("%d of %d that are shown differ, the last is %s", differ, len(shown), shown[len(shown)-1].Table)
	}
	for i := range all {
		all[i].Different = 1
	}
	if n := len(busiestShares(all)); n != len(all) {
		t.Errorf("of %d that differ %d are shown", len(all), n)
	}
}

// noon is the time of everything that is printed here.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestPrintStatus(t *testing.T) {
	a, out := printing(t)
	streaming := move.Progress{Database: "accounts", Phase: move.PhaseStream, At: noon, RowsPerSecond: 1234.5, BytesPerSecond: 200_000, LagBytes: 4096, LagSeconds: 0.3, Retained: 64 << 20}
	copying := move.Progress{Database: "payments", Phase: move.PhaseCopy, At: noon, Rows: 250_000, RowsTotal: 1_000_000, Bytes: 32 << 20, BytesTotal: 128 << 20,
		RowsPerSecond: 50_000, BytesPerSecond: 6 << 20, Steps: 3, StepsTotal: 12, ETA: 15 * time.Second}
	commands := move.Progress{Database: "sessions", Phase: move.PhaseStream, At: noon, RowsPerSecond: 900, BytesPerSecond: 80_000, LagBytes: 120, LagSeconds: 0.1}
	for _, s := range []*estateStatus{
		{Estate: "bank", Databases: []databaseStatus{
			{Database: "accounts", Engine: estate.PostgreSQL, Serves: "source", State: &move.State{Started: true, Copied: true}, Progress: &streaming},
			{Database: "payments", Engine: estate.MariaDB, Serves: "source", State: &move.State{Started: true}, Progress: &copying},
			{Database: "sessions", Engine: estate.Redis, Serves: "source", State: &move.State{Started: true, Copied: true}, Progress: &commands},
			{Database: "quotes", Engine: estate.Redis, Serves: "source", State: &move.State{}},
			{Database: "rates", Engine: estate.Redis, Serves: "source", State: &move.State{}, replicated: true},
		}, Replicate: &replicateStatus{Pid: 4711, Started: noon, To: cutover.Target},
			Gate:    &gateStatus{Status: &gate.Status{Started: noon, Listen: "127.0.0.1:8080", Side: cutover.Source, InFlight: 3, Requests: 120_000, Failures: 1, Latency: gate.Latency{P50: 0.7, P99: 12.3}}},
			LastRun: &cutover.Run{ID: 1, To: cutover.Target, Started: noon, Last: cutover.StepDrain, Outcome: cutover.Undone, Detail: "over the stall budget of 300ms at step drain", Steps: []cutover.Entry{{Step: cutover.StepHold, At: noon}, {Step: cutover.StepDrain, At: noon.Add(time.Millisecond)}}}},
		{Estate: "bank", Databases: []databaseStatus{
			{Database: "accounts", Engine: estate.PostgreSQL, Serves: servesNeither, State: &move.State{Started: true, Copied: true, Sealed: true}},
			{Database: "payments", Engine: estate.PostgreSQL, Error: "connect to the target, db.example:5432/payments as dhow: nothing answers on that port"},
		}, Gate: &gateStatus{Error: "the gate does not answer"}, LastRun: &cutover.Run{ID: 2, To: cutover.Source, Started: noon, Last: cutover.StepSeal}},
		{Estate: "bank", Databases: []databaseStatus{{Database: "accounts", Engine: estate.PostgreSQL, Serves: "target", State: &move.State{Started: true, Copied: true, Sealed: true, Open: true}}},
			LastRun: &cutover.Run{ID: 3, To: cutover.Target, Started: noon, Last: cutover.StepProve}, RunBy: 4712},
	} {
		if err := a.printStatus(s); err != nil {
			t.Fatal(err)
		}
		a.printf("")
	}
	golden(t, "status.txt", out.String())
}

func TestReport(t *testing.T) {
	a := &app{engines: map[string]estate.Engine{"sessions": estate.Redis}}
	r := &run{app: a, to: cutover.Target, budget: 300 * time.Millisecond, result: cutover.Result{To: cutover.Target, Outcome: cutover.Done, Predicted: 40 * time.Millisecond, Stall: 62 * time.Millisecond,
		HeldAt: noon, ReleasedAt: noon.Add(62 * time.Millisecond), Steps: []cutover.Timing{{Step: cutover.StepHold, Took: 800 * time.Microsecond}, {Step: cutover.StepProve, Took: 75 * time.Second}},
		Before:   map[string]move.Comparison{"payments": {Tables: 2, Rows: 10}, "accounts": {Tables: 1, Rows: 1000}},
		Moving:   []string{"sessions"},
		Compared: map[string]move.Comparison{"sessions": {Tables: 1, Rows: 7, Took: time.Second, ByTable: []move.TableComparison{{Table: "db0", Rows: 7, Took: time.Second}}}, "accounts": {Tables: 1, Rows: 1001, Different: 1, Took: 2 * time.Second, ByTable: []move.TableComparison{{Table: "public.entries", Rows: 1001, Different: 1, Took: 1900 * time.Millisecond}}, Differences: []move.Difference{{Table: "public.entries", Key: "name=a`b", Kind: move.Changed}}}}}}
	last := &cutover.Run{ID: 3, To: cutover.Target, Started: noon, Outcome: cutover.Done}
	text := r.markdown("bank", last, nil) + "\n---\n\n"
	r.result = cutover.Result{To: cutover.Target, Outcome: cutover.Undone, Predicted: 40 * time.Millisecond}
	text += r.markdown("bank", last, errors.New("over the stall budget")) + "\n---\n\n"
	r.result = cutover.Result{To: cutover.Target, Recovered: "an earlier run was cut off"}
	text += r.markdown("bank", last, errors.New("the server is away"))
	golden(t, "report.md", text)
}

// TestView draws the live view at several heights.
func TestView(t *testing.T) {
	v := newView(style{}, []string{"accounts", "payments", "cards", "loans", "sessions"}, func(name string) estate.Engine {
		return map[string]estate.Engine{"cards": estate.MariaDB, "loans": estate.MariaDB, "sessions": estate.Redis}[name]
	})
	many := move.Progress{Database: "accounts", Phase: move.PhaseCopy, Rows: 600, RowsTotal: 2000, Bytes: 60 << 10, BytesTotal: 200 << 10, RowsPerSecond: 120, BytesPerSecond: 12 << 10, Steps: 4, StepsTotal: 20, ETA: 12 * time.Second}
	for _, name := range []string{"entries", "holders", "a_table_whose_name_is_longer_than_any_terminal_would_like", "done", "waiting"} {
		p := move.TableProgress{Table: "public." + name, Rows: int64(100 * len(name)), RowsTotal: 2000, Bytes: 10 << 10}
		switch name {
		case "done":
			p.Done = true
		case "waiting":
			p.Rows = 0
		}
		many.Tables = append(many.Tables, p)
	}
	v.note(many)
	grown := many
	grown.Tables = append([]move.TableProgress{}, many.Tables...)
	grown.Tables[1].Rows += 900 // the busiest between two reports comes first
	v.note(grown)
	v.note(move.Progress{Database: "payments", Phase: move.PhaseStream, RowsPerSecond: 10, LagBytes: 1 << 20, LagSeconds: 2, Note: "the source keeps 5 GiB of log"})
	v.ended["cards"] = "the source is away"
	v.note(move.Progress{Database: "loans", Phase: move.PhaseStream, RowsPerSecond: 10, LagSeconds: 0.4})
	v.note(move.Progress{Database: "sessions", Phase: move.PhaseCopy, Rows: 20, RowsTotal: 80, Bytes: 1 << 10, BytesTotal: 4 << 10, RowsPerSecond: 5, Steps: 1, StepsTotal: 4,
		Tables: []move.TableProgress{{Table: "db0", Rows: 20, RowsTotal: 70}, {Table: "db1", RowsTotal: 10}}})
	var b strings.Builder
	for _, height := range []int{0, 12, 5} {
		lines := v.lines(height)
		if height > 0 && len(lines) >= height {
			t.Errorf("%d lines are drawn on %d", len(lines), height)
		}
		for _, l := range lines {
			b.WriteString(l.text + "\n")
		}
		b.WriteString("---\n")
	}
	golden(t, "view.txt", b.String())
}

func TestTable(t *testing.T) {
	tab := &table{head: []string{"NAME", "COUNT", "TEXT"}, wrap: map[int]bool{2: true}}
	tab.add(plain("größe"), number("1"), plain("a sentence that does not fit into a narrow terminal and is wrapped at spaces"))
	tab.add(plain("漢字"), number("1,000"), plain("averyveryverylongwordthatisbrokenwherethelineends"))
	var b strings.Builder
	for _, width := range []int{0, 40} {
		if err := tab.write(&b, style{}, width); err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n")
	}
	golden(t, "table.txt", b.String())
}

// TestComplaints takes apart what people and programs are told of an error.
func TestComplaints(t *testing.T) {
	a, out := printing(t)
	joined := errors.Join(
		&move.Refused{Reason: "database a is not copied yet", Fix: "run `dhow replicate`"},
		errors.New("database b: the server is away"),
		context.Canceled,
	)
	a.printError(joined)
	a.output = outputJSON
	a.printError(joined)
	golden(t, "complaints.txt", out.String())
	for _, c := range []struct {
		err  error
		code int
	}{{&usageError{text: "x"}, exitUsage}, {&missingFileError{"dhow.yaml"}, exitUsage}, {joined, exitFailed}, {&exitError{"x"}, exitFailed}} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v ends with %d, want %d", c.err, got, c.code)
		}
	}
}

// TestColours: there are none where NO_COLOR or --no-color says so, nor without a terminal.
func TestColours(t *testing.T) {
	if newStyle(&strings.Builder{}, false).on {
		t.Error("a buffer is coloured")
	}
	if got := (style{on: true}).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("red is %q", got)
	}
	if got := (style{}).red("x"); got != "x" {
		t.Errorf("without colours red is %q", got)
	}
}
