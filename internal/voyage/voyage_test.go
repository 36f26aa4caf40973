package voyage

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
	"dhow/internal/move/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that has to come.
const patience = 30 * time.Second

// stand is a mover that only replicates: it streams until it is told to end, or
// until fail says why it can not.
type stand struct {
	move.Mover
	name    string
	fail    chan error
	markers atomic.Int64 // that passed through the stream
	late    atomic.Int64 // markers that do not pass, before the first that does
}

func newStand(name string) *stand { return &stand{name: name, fail: make(chan error, 1)} }

func (s *stand) Name() string          { return s.name }
func (s *stand) Close(context.Context) {}

func (s *stand) Replicate(ctx context.Context, report func(move.Progress)) error {
	report(move.Progress{Database: s.name, Phase: move.PhaseCopy})
	report(move.Progress{Database: s.name, Phase: move.PhaseStream, LagBytes: 42})
	select {
	case err := <-s.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stand) Rehearse(context.Context) (move.Rehearsal, error) {
	if s.late.Add(-1) >= 0 {
		return move.Rehearsal{}, errors.New("the marker is still on its way")
	}
	s.markers.Add(1)
	return move.Rehearsal{}, nil
}

// afloat is a voyage with such movers, in a folder of its own.
func afloat(t *testing.T, movers ...*stand) *Voyage {
	t.Helper()
	v := &Voyage{Estate: &estate.Estate{Name: "test", State: t.TempDir(), File: "dhow.yaml"}, log: slog.New(slog.DiscardHandler)}
	for _, m := range movers {
		v.Movers, v.Back = append(v.Movers, m), append(v.Back, m)
	}
	return v
}

// sail holds the lock, runs a replication and answers on the socket, as `dhow
// replicate` does. The result comes once it has ended and given the lock back.
func sail(t *testing.T, v *Voyage) (r *Replication, stop context.CancelFunc, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	lock, err := v.Lock("replicate")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := v.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, ended = v.Replication(cutover.Target), make(chan error, 1)
	var served sync.WaitGroup
	served.Go(func() {
		if err := r.Serve(ctx, socket, v.log, func(string) { cancel() }); err != nil {
			t.Error(err)
		}
	})
	go func() {
		err := r.Run(ctx, func(move.Progress) {})
		cancel()
		served.Wait()
		lock.Release()
		ended <- err
	}()
	return r, cancel, ended
}

func wait(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}

// TestSessionsFit tries all limits in reach: what a move opens at its worst
// moments fits into what it may, and never less than two of each kind are left.
func TestSessionsFit(t *testing.T) {
	for connections := range 40 {
		for copies := range 20 {
			for lanes := range 20 {
				p, err := postgresWithin(estate.Limits{Connections: connections, Copies: copies, Lanes: lanes})
				if connections > 0 && connections < fewestConnections {
					if err == nil || !strings.Contains(err.Error(), "raise it") {
						t.Fatalf("%d connections are accepted: %v", connections, err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				wantCopies, wantLanes := copies, lanes
				if wantCopies == 0 {
					wantCopies = postgres.DefaultCopies
				}
				if wantLanes == 0 {
					wantLanes = postgres.DefaultLanes
				}
				if connections == 0 {
					if p.Copies != wantCopies || p.Lanes != wantLanes {
						t.Fatalf("without a limit %d copies and %d lanes become %d and %d", wantCopies, wantLanes, p.Copies, p.Lanes)
					}
					continue
				}
				if p.Copies+besideCopies > connections || p.Copies+p.Lanes+besideBoth > connections {
					t.Fatalf("%d copies and %d lanes do not fit into %d connections", p.Copies, p.Lanes, connections)
				}
				if p.Copies < min(2, wantCopies) || p.Lanes < min(2, wantLanes) || p.Copies > wantCopies || p.Lanes > wantLanes {
					t.Fatalf("of %d copies and %d lanes within %d connections %d and %d are left", wantCopies, wantLanes, connections, p.Copies, p.Lanes)
				}
			}
		}
	}
}

// TestOtherSessionsFit: MariaDB's copies give way to the limit, Redis needs what it needs.
func TestOtherSessionsFit(t *testing.T) {
	for connections := range 40 {
		for copies := range 20 {
			l := estate.Limits{Connections: connections, Copies: copies, Chunk: 5, RowsPerSecond: 7}
			m, err := mariadbWithin(l)
			few := connections > 0 && connections < fewestMariaDB
			if (err != nil) != few {
				t.Fatalf("MariaDB with %d connections: %v", connections, err)
			}
			want := copies
			if want == 0 {
				want = mariadb.DefaultCopies
			}
			if !few && connections > 0 {
				want = min(want, connections-besideMariaDB)
			}
			if !few && (m.Copies != want || m.Copies < min(2, max(copies, 1)) || m.ChunkBytes != 5 || m.RowsPerSecond != 7) {
				t.Fatalf("of %d copies within %d connections %+v is left", copies, connections, m)
			}
			r, err := redisWithin(l)
			if (err != nil) != (connections > 0 && connections < fewestRedis) || r.KeysPerSecond != 7 {
				t.Fatalf("Redis with %d connections: %+v, %v", connections, r, err)
			}
		}
	}
}

// TestOwnLimits: a database's own limits override the estate's, key by key.
func TestOwnLimits(t *testing.T) {
	own := estate.Limits{Copies: 2, WALStop: 5}
	all := estate.Limits{Copies: 9, Lanes: 8, Chunk: 7, RowsPerSecond: 6, Connections: 30, WALWarn: 4, WALStop: 3}
	want := estate.Limits{Copies: 2, Lanes: 8, Chunk: 7, RowsPerSecond: 6, Connections: 30, WALWarn: 4, WALStop: 5}
	if got := merge(own, all); got != want {
		t.Errorf("merged limits are %+v, want %+v", got, want)
	}
}

// TestTakeOver hands an estate over from a replication that runs.
func TestTakeOver(t *testing.T) {
	v := afloat(t, newStand("accounts"), newStand("payments"))
	ctx := context.Background()
	_, _, ended := sail(t, v)
	if what, pid := v.Holder(); what != "replicate" || pid != os.Getpid() {
		t.Errorf("the holder is %q in process %d", what, pid)
	}
	lock, yielded, err := v.TakeOver(ctx, "cutover")
	if err != nil || !yielded {
		t.Fatalf("taken over: %t, %v", yielded, err)
	}
	if err := wait(t, ended); err != nil {
		t.Errorf("a replication that yields ends with %v", err)
	}
	if what, _ := v.Holder(); what != "cutover" {
		t.Errorf("the holder is %q", what)
	}
	// Who holds it now answers no questions, so it is not disturbed.
	if _, _, err := v.TakeOver(ctx, "finish"); !errors.Is(err, cutover.ErrLocked) || !strings.Contains(err.Error(), "dhow cutover, process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second one is told %v", err)
	}
	lock.Release()
	lock, yielded, err = v.TakeOver(ctx, "finish")
	if err != nil || yielded {
		t.Fatalf("a free lock: %t, %v", yielded, err)
	}
	lock.Release()
	if what, pid := v.Holder(); what != "" || pid != 0 {
		t.Errorf("nobody holds it, but %q in %d", what, pid)
	}
}

// TestTakeOverWaits: a replication that holds the lock and answers no questions yet
// is asked once it does; a free lock that it gives back instead is taken.
func TestTakeOverWaits(t *testing.T) {
	for name, begins := range map[string]bool{"it begins": true, "it ends": false} {
		t.Run(name, func(t *testing.T) {
			v := afloat(t, newStand("accounts"))
			held, err := v.Lock(Replicate)
			if err != nil {
				t.Fatal(err)
			}
			type took struct {
				lock    *cutover.Lock
				yielded bool
				err     error
			}
			taken := make(chan took, 1)
			go func() {
				lock, yielded, err := v.TakeOver(context.Background(), "cutover")
				taken <- took{lock, yielded, err}
			}()
			select {
			case got := <-taken:
				t.Fatalf("it does not wait: %v", got.err)
			case <-time.After(3 * takeOverPoll):
			}
			ctx, cancel := context.WithCancel(context.Background())
			var served sync.WaitGroup
			if begins {
				socket, err := v.Listen(ctx)
				if err != nil {
					t.Fatal(err)
				}
				served.Go(func() {
					if err := v.Replication(cutover.Target).Serve(ctx, socket, v.log, func(string) { held.Release() }); err != nil {
						t.Error(err)
					}
				})
			} else {
				held.Release()
			}
			got := <-taken
			cancel()
			served.Wait()
			if got.err != nil || got.yielded != begins {
				t.Fatalf("taken over: %t, %v", got.yielded, got.err)
			}
			got.lock.Release()
		})
	}
}

// TestTakeOverGivesUp: a replication that does not end in time is said, and not robbed.
func TestTakeOverGivesUp(t *testing.T) {
	v := afloat(t, newStand("accounts"))
	lock, err := v.Lock("replicate")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	socket, err := v.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	var served sync.WaitGroup
	defer served.Wait()
	served.Go(func() {
		_ = v.Replication(cutover.Target).Serve(ctx, socket, v.log, func(what string) { asked <- what })
	})
	waiting, stop := context.WithCancel(ctx)
	go func() {
		if what := <-asked; what != "rollback" {
			t.Errorf("it is asked for %q", what)
		}
		stop()
	}()
	if _, _, err := v.TakeOver(waiting, "rollback"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "to hand the estate over") {
		t.Errorf("the asker is told %v", err)
	}
	if what, _ := v.Holder(); what != "replicate" {
		t.Errorf("the holder is %q now", what)
	}
	cancel()
}

// TestHolderThatIsGone: a process that was killed leaves its name in the lock's file.
func TestHolderThatIsGone(t *testing.T) {
	v := afloat(t)
	for _, text := range []string{"dhow cutover, process 2147483600\n", "dhow cutover, process -1\n", "dhow cutover, process x\n", "something else\n", ""} {
		if err := os.WriteFile(v.path(lockFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if what, pid := v.Holder(); what != "" || pid != 0 {
			t.Errorf("%q is held by %q in %d", text, what, pid)
		}
	}
}

// TestSocket asks a running replication, and looks at who else could.
func TestSocket(t *testing.T) {
	v := afloat(t, newStand("accounts"))
	ctx := context.Background()
	if _, err := v.Running().Status(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a replication: %v", err)
	}
	r, stop, ended := sail(t, v)
	path := v.path(socketFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != socketMode {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
	var s *Status
	for end := time.Now().Add(patience); ; {
		if s, err = v.Running().Status(ctx); err != nil {
			t.Fatal(err)
		}
		if p := s.Databases[0].Progress; p != nil && p.Phase == move.PhaseStream {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no progress is told")
		}
	}
	if s.Pid != os.Getpid() || s.To != cutover.Target || s.Databases[0].Database != "accounts" || s.Databases[0].Progress.LagBytes != 42 || !r.Streams() {
		t.Errorf("it says %+v", s)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPost, "/yield", "not JSON", http.StatusBadRequest},
		{http.MethodPost, "/yield", `{"for":"` + strings.Repeat("x", maxQuestion) + `"}`, http.StatusBadRequest},
		{http.MethodGet, "/yield", "", http.StatusMethodNotAllowed},
		{http.MethodGet, "/secrets", "", http.StatusNotFound},
	} {
		q, err := http.NewRequestWithContext(ctx, c.method, "http://dhow"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s %s is answered with %d, want %d", c.method, c.path, res.StatusCode, c.status)
		}
	}
	stop()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestStaleSocket: a killed process leaves its socket; the next one takes its place.
func TestStaleSocket(t *testing.T) {
	v := afloat(t, newStand("accounts"))
	ctx := context.Background()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: v.path(socketFile), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Running().Status(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	_, stop, ended := sail(t, v)
	if _, err := v.Running().Status(ctx); err != nil {
		t.Errorf("the new one does not answer: %v", err)
	}
	stop()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

// TestLongSocketPath: the kernel takes 107 bytes of a path, so the shorter form is
// used, and where neither fits that is said.
func TestLongSocketPath(t *testing.T) {
	v := afloat(t, newStand("accounts"))
	v.Estate.State = filepath.Join(v.Estate.State, strings.Repeat("deep/", 30))
	if err := os.MkdirAll(v.Estate.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Listen(context.Background()); err == nil || !strings.Contains(err.Error(), "name a shorter folder as state in dhow.yaml") {
		t.Errorf("a path that is too long: %v", err)
	}
	t.Chdir(v.Estate.State)
	l, err := v.Listen(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// TestOneFailureStopsNoOther: each database is resumed alone.
func TestOneFailureStopsNoOther(t *testing.T) {
	accounts, payments := newStand("accounts"), newStand("payments")
	v := afloat(t, accounts, payments)
	r, stop, ended := sail(t, v)
	said := make(chan string, 10)
	watching, unwatch := context.WithCancel(context.Background())
	var watched sync.WaitGroup
	watched.Go(func() {
		r.Failures(watching, func(database string, err error) { said <- database + ": " + err.Error() })
	})

	accounts.fail <- errors.New("the slot is gone")
	if got := <-said; got != "accounts: database accounts: the slot is gone" {
		t.Errorf("it is said %q", got)
	}
	if r.Streams() || !r.Goes() {
		t.Error("one has failed, and the other goes on")
	}
	// The others are let to follow before the failure comes back.
	payments.late.Store(3)
	if err := r.Following(context.Background()); err == nil || !strings.Contains(err.Error(), "the slot is gone") {
		t.Errorf("following ends with %v", err)
	}
	if payments.markers.Load() != 1 || payments.late.Load() >= 0 {
		t.Errorf("%d markers passed", payments.markers.Load())
	}
	standings := r.Standings()
	if names := []string{standings[0].Database, standings[1].Database}; !slices.Equal(names, []string{"accounts", "payments"}) || standings[0].Error == "" || standings[1].Error != "" {
		t.Errorf("they stand %+v", standings)
	}
	stop()
	if err := wait(t, ended); err == nil || !strings.Contains(err.Error(), "database accounts: the slot is gone") || strings.Contains(err.Error(), "payments") {
		t.Errorf("it ends with %v", err)
	}
	unwatch()
	watched.Wait()
	if len(said) > 0 {
		t.Errorf("more is said: %s", <-said)
	}
}

// TestAllFail: when no database is left that goes on, the replication ends by itself.
func TestAllFail(t *testing.T) {
	accounts := newStand("accounts")
	v := afloat(t, accounts)
	r, _, ended := sail(t, v)
	accounts.fail <- nil // a stream that ends without being told to is a failure too
	if err := wait(t, ended); err == nil || !strings.Contains(err.Error(), "the change stream ended") {
		t.Errorf("it ends with %v", err)
	}
	if r.Goes() {
		t.Error("nothing goes on")
	}
}

// TestConfigHasNoGate: an estate without a gate gives the machine none, not a nil client.
func TestConfigHasNoGate(t *testing.T) {
	v := afloat(t, newStand("accounts"))
	off := false
	v.Estate.Cutover = estate.Cutover{StallBudget: time.Second, Proof: &off}
	c := v.Config(cutover.Source, nil)
	if c.Gate != nil || c.Proof || !c.Verify || c.To != cutover.Source || c.Budget != time.Second || len(c.Movers) != 1 || len(c.Back) != 1 {
		t.Errorf("the machine gets %+v", c)
	}
}
