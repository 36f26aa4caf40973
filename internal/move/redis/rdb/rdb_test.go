package rdb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// TestSnapshotsOfOtherVersions reads what servers wrote that the tests do not run.
func TestSnapshotsOfOtherVersions(t *testing.T) {
	types := map[string]string{
		"a": "string", "t": "string", "lzf": "string", "l": "list", "ll": "list", "h": "hash", "hbig": "hash",
		"si": "set", "ss": "set", "z": "zset", "zf": "zset", "s": "stream",
	}
	sums := map[string]Sum{}
	for file, more := range map[string][2]string{"redis62.rdb": {"6.2", "ll"}, "valkey9.rdb": {"9.", "hx"}} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(bytes.NewReader(b))
		seen := map[string]string{}
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(file, err)
			}
			key := string(e.Key)
			seen[key] = e.Type
			if (e.Expiry > 0) != (key == "t") {
				t.Errorf("%s: %s ends at %d", file, key, e.Expiry)
			}
			sum, err := Digest(e.Payload, false)
			if err != nil {
				t.Errorf("%s: %s: %v", file, key, err)
			}
			// Both were given the same, and pack it differently; but for when an entry was read.
			if old, ok := sums[key]; ok && old != sum && key != "s" && key != "hx" {
				t.Errorf("%s: %s has another digest than in the other version", file, key)
			}
			sums[key] = sum
			if key == "hx" && file == "valkey9.rdb" {
				var parts strings.Builder
				if err := walk(e.Payload, func(part byte, name, _ []byte) error {
					parts.WriteByte(part)
					parts.Write(name)
					return nil
				}); err != nil || strings.Count(parts.String(), "t") != 2 || !strings.Contains(parts.String(), "fg") {
					t.Errorf("%s: parts %q, %v", file, parts.String(), err)
				}
			}
		}
		for key, typ := range types {
			if seen[key] != typ {
				t.Errorf("%s: %s is a %q", file, key, seen[key])
			}
		}
		version := r.Aux("redis-ver") + r.Aux("valkey-ver")
		if seen[more[1]] == "" || !strings.HasPrefix(version, more[0]) {
			t.Errorf("%s: version %q, %s is %q", file, version, more[1], seen[more[1]])
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "unexpected EOF",
		"REDIS9999":                  "version 9999",
		"PNG------":                  "not a snapshot",
		"REDIS0011\x07\x01k\x81\x00": "module",
		"REDIS0011\xf7\x01":          "module",
		"REDIS0011\x63\x01k":         "type 99",
		"REDIS0011\x00\x01k\x05ab":   "unexpected EOF",
		"REDIS0011\xff\x01\x02\x03\x04\x05\x06\x07\x08":          "checksum",
		"REDIS0011\xff\x00\x00\x00\x00\x00\x00\x00\x00more":      "goes on",
		"REDIS0011\x00\x01k\x81\x00\x00\x00\x01\x00\x00\x00\x00": "unexpected EOF",
	} {
		_, err := NewReader(strings.NewReader(in)).Next()
		if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := NewReader(strings.NewReader("REDIS0011\xf7\x01")).Next(); !errors.Is(err, ErrModule) {
		t.Error(err)
	}
}

func TestDiffNamesThePart(t *testing.T) {
	str := func(parts ...string) []byte { // strings shorter than 64 bytes
		var b []byte
		for _, p := range parts {
			b = append(append(b, byte(len(p))), p...)
		}
		return b
	}
	value := func(typ byte, n int, parts ...string) []byte {
		return seal(append([]byte{typ, byte(n)}, str(parts...)...), 6)
	}
	for _, c := range []struct {
		a, b []byte
		want string
	}{
		{seal(append([]byte{typeString}, str("a")...), 6), seal(append([]byte{typeString}, str("b")...), 6), "string value"},
		{value(typeHash, 2, "f", "1", "g", "2"), value(typeHash, 2, "g", "2", "f", "3"), `hash field "f"`},
		{value(typeHash, 1, "f", "1"), value(typeHash, 2, "g", "2", "f", "1"), `hash field "g"`},
		{value(typeSet, 2, "a", "b"), value(typeSet, 1, "b"), `set member "a"`},
		{value(typeList, 2, "a", "b"), value(typeList, 2, "b", "a"), "list element 0"},
		{value(typeList, 2, "a", "b"), value(typeSet, 2, "a", "b"), "list, not set"},
		{value(typeSet, 2, "a", "b"), value(typeSet, 2, "b", "a"), ""},
	} {
		got, err := Diff(c.a, c.b, true)
		if err != nil || got != c.want {
			t.Errorf("%q instead of %q, %v", got, c.want, err)
		}
		sa, errA := Digest(c.a, true)
		sb, errB := Digest(c.b, true)
		if errA != nil || errB != nil || (sa == sb) != (c.want == "") {
			t.Errorf("%q: digests %x and %x, %v, %v", c.want, sa, sb, errA, errB)
		}
	}
}
