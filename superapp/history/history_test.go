package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pay(n int) Record {
	return Record{Op: Pay, Key: fmt.Sprint("k", n), Client: 3, From: 1, To: 2, Amount: 100, Currency: "AED",
		Scheduled: int64(1000 + n), Sent: int64(1001 + n), Done: int64(2000 + n), Outcome: Acknowledged, Status: 201, ID: 5, Transfer: 9, Version: 7, Balance: -3}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 500
	var wg sync.WaitGroup
	for c := range writers {
		wg.Go(func() {
			for i := range each {
				r := pay(c*each + i)
				if err := w.Append(&r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	if err := Each(path, func(r *Record) error {
		var n int
		if _, err := fmt.Sscanf(r.Key, "k%d", &n); err != nil {
			return err
		}
		if d := cmp.Diff(pay(n), *r); d != "" {
			t.Error(d)
		}
		seen[r.Key] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != writers*each {
		t.Errorf("%d operations, want %d", len(seen), writers*each)
	}
}

func TestHistoryIsOnTheDiskWithinASecondOrTwo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r := pay(1)
	if err := w.Append(&r); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * flushEvery)
	for size := int64(0); size == 0; time.Sleep(20 * time.Millisecond) {
		if size, err = Size(path); err != nil || time.Now().After(deadline) {
			t.Fatalf("nothing was written by itself: %v", err)
		}
		if size > 0 {
			return
		}
	}
}

func TestHistoryIsNotWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); err == nil || !strings.Contains(err.Error(), "name another file") {
		t.Errorf("got %v", err)
	}
	if _, err := Create(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("created a file in a folder that is not there")
	}
}

func TestFullDiskIsToldAndEndsTheHistory(t *testing.T) {
	if _, err := os.Stat("/dev/full"); testing.Short() && err != nil {
		t.Skip("no /dev/full here, and -short (testing.Short)")
	}
	w, err := Create("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	r := pay(1)
	for range writeBuffer / 200 {
		if err = w.Append(&r); err != nil {
			break
		}
	}
	select {
	case <-w.Failed():
	case <-time.After(20 * flushEvery):
		t.Error("the failure is not told")
	}
	if again := w.Append(&r); again == nil {
		t.Errorf("appending went on after %v", err)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("close says %v", err)
	}
}

func TestBadRecordIsNotAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := pay(1)
	r.Key = ""
	if err := w.Append(&r); !errors.Is(err, errKey) {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if size, _ := Size(path); size != 0 {
		t.Errorf("%d bytes were written", size)
	}
}

const good = `{"op":"read","client":1,"account":7,"sent":5,"done":6,"outcome":"acknowledged","version":3,"balance":40}`

func TestReaderNamesTheLineThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no json":         {good + "\nsurely not\n" + good + "\n", "h:2: not an operation: invalid character"},
		"empty line":      {good + "\n\n", "h:2:"},
		"another op":      {strings.Replace(good, "read", "steal", 1) + "\n", `h:1: not an operation: unknown op "steal"`},
		"another outcome": {strings.Replace(good, "acknowledged", "fine", 1) + "\n", `unknown outcome "fine"`},
		"no account":      {strings.Replace(good, `"account":7,`, "", 1) + "\n", "a read without its account"},
		"no key":          {strings.Replace(good, "read", "pay", 1) + "\n", "a write without its key"},
		"never sent":      {strings.Replace(good, `"sent":5,`, "", 1) + "\n", "out of order"},
		"done before":     {strings.Replace(good, `"done":6`, `"done":4`, 1) + "\n", "out of order"},
		"late but sent":   {strings.Replace(good, "acknowledged", "late", 1) + "\n", "out of order"},
		"too long":        {good + "\n" + strings.Repeat("x", maxLine+1) + "\n", "h:2: the line is longer"},
		"endless":         {strings.Repeat("x", readBuffer*2), "h:1: the line is longer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(strings.NewReader(c.text), "h")
			var err error
			for err == nil {
				_, err = r.Next()
			}
			if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestTornLastLineIsPassedOver(t *testing.T) {
	for cut := 0; cut <= len(good); cut++ {
		r := NewReader(strings.NewReader(good+"\r\n"+good[:cut]), "h")
		if rec, err := r.Next(); err != nil || rec.Version != 3 {
			t.Fatalf("cut %d: %+v, %v", cut, rec, err)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if r.Torn() != (cut > 0) {
			t.Errorf("cut %d: torn is %v", cut, r.Torn())
		}
	}
}

func TestReaderSeesTheSizeThatItWasOpenedWith(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte(good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.WriteFile(path, []byte(good+"\n"+good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want := range 2 {
		if _, err := r.Next(); (want == 0) != (err == nil) {
			t.Fatalf("line %d: %v", want+1, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a folder")
	}
}

func TestMeasureCountsFromTheSchedule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	base := time.Unix(1000, 0)
	// One a millisecond for a second; those due in [300, 400) ms wait until 400 ms
	// though they are sent late and then answered at once.
	for i := range 1000 {
		due := base.Add(time.Duration(i) * time.Millisecond)
		sent, outcome := due, Acknowledged
		if i >= 300 && i < 400 {
			sent, outcome = base.Add(400*time.Millisecond), Unknown
		}
		r := Record{Op: Read, Account: 1, Scheduled: due.UnixNano(), Sent: sent.UnixNano(), Done: sent.Add(2 * time.Millisecond).UnixNano(), Outcome: outcome}
		if err := w.Append(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	got, err := Measure([]string{path}, Window{at(0), at(300)}, Window{at(300), at(400)}, Window{at(0), at(1000)}, Window{at(5000), at(6000)})
	if err != nil {
		t.Fatal(err)
	}
	if m := got[0]; m.Operations != 300 || m.Max != 2*time.Millisecond || m.P50 != 2*time.Millisecond || m.Outcomes[Acknowledged] != 300 {
		t.Errorf("quiet: %+v", m)
	}
	if m := got[1]; m.Operations != 100 || m.Max != 102*time.Millisecond || m.Outcomes[Unknown] != 100 || m.P50 < 51*time.Millisecond || m.P50 > 54*time.Millisecond {
		t.Errorf("stall: %+v", m)
	}
	if m := got[2]; m.Operations != 1000 || m.P50 != 2*time.Millisecond || m.P99 < 90*time.Millisecond || m.P99 > 94*time.Millisecond {
		t.Errorf("all: %+v", m)
	}
	if m := got[3]; m.Operations != 0 || m.Max != 0 || m.P99 != 0 {
		t.Errorf("nothing: %+v", m)
	}
}

func TestQuantilesAreWithinTheirPrecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWaits()
		var most time.Duration
		all := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour)), 1, 50).Draw(t, "waits")
		for _, v := range all {
			w.Add(time.Duration(v))
			most = max(most, time.Duration(v))
		}
		if w.Max() != most || w.Count() != int64(len(all)) {
			t.Fatalf("max %s of %d, want %s of %d", w.Max(), w.Count(), most, len(all))
		}
		if w.Quantile(0) > w.Quantile(0.5) || w.Quantile(0.5) > w.Quantile(1) || w.Quantile(1) > w.Max() {
			t.Fatal("quantiles are out of order")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"op":"pay","key":"k","client":7,"from":1,"to":2,"amount":100,"currency":"AED","sent":1,"done":2,"outcome":"unknown","error":"time-out"}`))
	f.Add([]byte(`{"op":"accept","key":"k","scheduled":9,"done":10,"outcome":"late"}`))
	f.Add([]byte(`{"op":"read","sent":1e400}`))
	f.Add([]byte(`[]`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) > maxLine/8 { // escaping lengthens a line, and the writer refuses long ones
			return
		}
		r, err := Parse(line)
		if err != nil {
			return
		}
		if r.Wait() < 0 {
			t.Errorf("a wait of %d", r.Wait())
		}
		// What was read can be written, and is the same when it is read again.
		path := filepath.Join(t.TempDir(), "history")
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Append(&r), w.Close()); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		got, err := again.Next()
		if err != nil || got != r {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	})
}
