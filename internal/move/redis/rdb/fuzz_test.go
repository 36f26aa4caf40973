package rdb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// memoryMost is what reading an input may allocate on top of a multiple of its
// length, in bytes: the buffer, and the slack of growing slices. LZF may make 132 bytes of one.
const memoryMost = 4 << 20

// allocated is how many bytes f allocates in all.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// seeds are snapshots that servers wrote, with a value of each type and encoding.
func seeds(f *testing.F) {
	f.Helper()
	names, err := filepath.Glob("testdata/*.rdb")
	if err != nil || len(names) == 0 {
		f.Fatal("no snapshots in testdata", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzReader: whatever a snapshot holds, reading it ends, with an error that is
// not a panic, and allocates no more than what there is allows.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Add([]byte("REDIS0011\xfa\x81\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("REDIS0011\x00\x01a\x80\xff\xff\xff\xff"))
	f.Add([]byte("REDIS0011\x04\x01a\x81\x0f\xff\xff\xff\xff\xff\xff\xff\xc3\x02\x80\xff\xff\xff\xff\x01\x01"))
	f.Add([]byte("VALKEY080\x16\x01h\x01\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		used := allocated(func() {
			r := NewReader(bytes.NewReader(b))
			for {
				e, err := r.Next()
				if err != nil {
					if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && r.Bytes() != int64(len(b)) {
						t.Errorf("it ended well after %d of %d bytes", r.Bytes(), len(b))
					}
					return
				}
				if e.Kind != KindKey {
					continue
				}
				if typ, err := TypeOf(e.Payload); err != nil || typ != e.Type {
					t.Errorf("a payload of type %q is of type %q, %v", e.Type, typ, err)
				}
			}
		})
		if used > memoryMost+200*len(b) {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
	})
}

// FuzzDigest: whatever a payload holds, looking into it ends, and what has a
// digest differs from itself in nothing.
func FuzzDigest(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.rdb")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		r := NewReader(bytes.NewReader(b))
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				f.Fatal(name, err)
			}
			if e.Kind == KindKey && len(e.Payload) < 4096 {
				f.Add(e.Payload[0], bytes.Clone(e.Payload[1:len(e.Payload)-10]))
			}
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		layout := layoutOf(typ, false)
		if layout == nil {
			return
		}
		payload := seal(append([]byte{typ}, body...), layout.since)
		used := allocated(func() {
			sum, err := Digest(payload, true)
			if err != nil {
				return
			}
			if again, err := Digest(payload, true); err != nil || again != sum {
				t.Errorf("digests %x and %x, %v", sum, again, err)
			}
		})
		if used > memoryMost+800*len(body) {
			t.Errorf("%d bytes allocated for %d", used, len(body))
		}
		if diff, err := Diff(payload, payload, true); err == nil && diff != "" {
			t.Errorf("it differs from itself: %s", diff)
		}
	})
}
