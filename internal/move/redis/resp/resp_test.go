package resp

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReaderCountsEveryByte(t *testing.T) {
	long := strings.Repeat("x", 3*bufferSize)
	stream := "*1\r\n$4\r\nPING\r\n\n\r\n" + string(Append(nil, "SET", "k", "a\r\nb")) + "PING  inline\r\n*0\r\n" + string(Append(nil, "SET", "k", long))
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(stream), "byte by byte": iotest.OneByteReader(strings.NewReader(stream)), "half": iotest.HalfReader(strings.NewReader(stream))} {
		r := NewReader(src, 100)
		var got [][]string
		for {
			c, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(name, err)
			}
			var args []string
			for _, a := range c.Args {
				args = append(args, string(a))
			}
			got = append(got, args)
			if end := int(r.Offset() - 100); !strings.HasSuffix(stream[:end], string(c.Raw)) {
				t.Errorf("%s: the raw command is not what was sent before %d", name, end)
			}
		}
		want := [][]string{{"PING"}, {"SET", "k", "a\r\nb"}, {"PING", "inline"}, {"SET", "k", long}}
		if len(got) != len(want) {
			t.Fatalf("%s: %d commands", name, len(got))
		}
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s: command %d differs", name, i)
			}
		}
		if r.Offset() != int64(100+len(stream)) {
			t.Errorf("%s: offset %d of %d", name, r.Offset(), 100+len(stream))
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, s := range []string{"*x\r\n", "*-1\r\n", "*1\r\n+4\r\n", "*1\r\n$-1\r\n", "*1\r\n$999999999999\r\n", "*1\r\n$1\r\nabc", "*1\r\n$4\r\nPI", "*1\r\n", strings.Repeat("a", 2*maxLine)} {
		if c, err := NewReader(strings.NewReader(s), 0).Next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%.20q: %q, %v", s, c.Args, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	a := NewAnswers(strings.NewReader("+OK\r\n-ERR no\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*4\r\n:1\r\n-WRONGTYPE x\r\n*2\r\n$1\r\nb\r\n*0\r\n$-1\r\n+END\r\n"))
	want := []Answer{{}, {Err: "ERR no"}, {Int: -5}, {}, {Nil: true}, {Nil: true}, {Elements: 4, Errors: []ElementError{{1, "WRONGTYPE x"}}}, {}}
	for i, w := range want {
		got, err := a.Next()
		if err != nil || got.Err != w.Err || got.Int != w.Int || got.Nil != w.Nil || got.Elements != w.Elements || !slices.Equal(got.Errors, w.Errors) {
			t.Errorf("answer %d: %+v, %v", i, got, err)
		}
	}
	if _, err := a.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	if _, err := NewAnswers(strings.NewReader("*1\r\n$5\r\nab")).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
}

// memoryMost is what reading an input may allocate on top of a multiple of its length, in bytes.
const memoryMost = 4 << 20

func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// FuzzReader: whatever comes, reading ends without a panic, counts no byte twice
// and allocates no more than what there is allows.
func FuzzReader(f *testing.F) {
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte("\n\r\nPING a  b\r\n*0\r\n"))
	f.Add([]byte("*1000000\r\n$500000000\r\nx"))
	f.Add([]byte("*2\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		used := allocated(func() {
			r := NewReader(bytes.NewReader(b), 0)
			sum := 0
			for {
				c, err := r.Next()
				if r.Offset() > int64(len(b)) {
					t.Fatalf("offset %d of %d", r.Offset(), len(b))
				}
				if err != nil {
					return
				}
				if sum += len(c.Raw); int64(sum) > r.Offset() || !bytes.HasSuffix(b[:r.Offset()], c.Raw) {
					t.Fatalf("the command is not what stands before %d", r.Offset())
				}
			}
		})
		if used > memoryMost+100*len(b) {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
	})
}

// FuzzAnswers: whatever comes, reading ends without a panic and allocates little.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("+OK\r\n*2\r\n:1\r\n-ERR x\r\n$2\r\nab\r\n"))
	f.Add([]byte("*1000000000\r\n$5\r\n"))
	f.Add([]byte("*1\r\n*1\r\n*1\r\n*1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		used := allocated(func() {
			a := NewAnswers(bytes.NewReader(b))
			for {
				if _, err := a.Next(); err != nil {
					return
				}
			}
		})
		if used > memoryMost+100*len(b) {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
	})
}
