package rdb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move/redis/rdb"
	"dhow/internal/redisserver/redistest"
)

func open(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fill writes a value of each type, in each of its encodings.
func fill(t *testing.T, c *redis.Client) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("a long text that packs well; ", 400)
	random := make([]byte, 9000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	p := c.Pipeline()
	do := func(args ...any) { p.Do(t.Context(), args...) }
	for i, v := range []any{"", "7", "-129", "40000", "3000000000", "-9223372036854775808", "1.5", "text", long, random} {
		do("SET", fmt.Sprintf("string:%d", i), v)
		do("RPUSH", "list:mixed", v)
		do("SADD", "set:mixed", v)
		do("HSET", "hash:mixed", v, v)
		do("ZADD", "zset:mixed", i-3, v)
		do("XADD", "stream:mixed", fmt.Sprintf("%d-%d", i+1, i), "same", v)
	}
	for i, n := range []int64{0, -1, 127, 128, -4096, 4095, 32768, -40000, 1 << 23, 1 << 33, -1 << 62} {
		do("SADD", "set:int", n)
		do("RPUSH", "list:small", n, "x", strings.Repeat("y", i*20))
		do("HSET", "hash:small", n, n)
		do("ZADD", "zset:small", float64(n)+0.25, n)
	}
	do("SADD", "set:int16", 1, 2, -3)
	do("SADD", "set:int32", 1, 70000)
	do("ZADD", "zset:inf", "+inf", "a", "-inf", "b", "-0", "c", "1e300", "d")
	do("RPUSH", "list:plain", strings.Repeat("z", 20000), random, "end")
	for i := range 700 {
		do("HSET", "hash:large", fmt.Sprint("f", i), i)
		do("ZADD", "zset:large", float64(i)/3, fmt.Sprint("m", i))
		do("SADD", "set:large", i*3, fmt.Sprint("m", i))
		do("RPUSH", "list:large", fmt.Sprint("element ", i))
		do("XADD", "stream:large", "*", "a", i, fmt.Sprint("b", i%3), "c")
	}
	do("XTRIM", "stream:large", "MAXLEN", 500)
	do("XGROUP", "CREATE", "stream:large", "g1", "0")
	do("XGROUP", "CREATE", "stream:large", "g2", "$")
	do("XREADGROUP", "GROUP", "g1", "alice", "COUNT", 20, "STREAMS", "stream:large", ">")
	do("XREADGROUP", "GROUP", "g1", "bob", "COUNT", 5, "STREAMS", "stream:large", ">")
	do("XGROUP", "CREATECONSUMER", "stream:large", "g2", "idle")
	do("XDEL", "stream:mixed", "3-2")
	do("XADD", "stream:empty", "5-5", "a", "b")
	do("XDEL", "stream:empty", "5-5")
	do("PFADD", "hll", "a", "b", "c")
	do("GEOADD", "geo", 13.4, 52.5, "berlin")
	do("SETBIT", "bits", 100000, 1)
	do("FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	do("PEXPIREAT", "string:3", 4102444800123)
	do("SELECT", 3)
	do("SET", "other", "database")
	do("SELECT", 0)
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// save makes the server write a snapshot, and returns it.
func save(t *testing.T, c *redis.Client) []byte {
	t.Helper()
	if err := c.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	dir, err := c.ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir["dir"], "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSnapshotRestoresWhole reads a snapshot of all types and encodings, restores
// it on a second server whose encodings are others, and compares both by digest.
func TestSnapshotRestoresWhole(t *testing.T) {
	from := open(t, redistest.Start(t).URL())
	other := open(t, redistest.Start(t, "hash-max-listpack-entries", "3", "zset-max-listpack-entries", "3", "set-max-intset-entries", "2", "list-max-listpack-size", "2", "stream-node-max-entries", "7").URL())
	fill(t, from)
	snapshot := save(t, from)
	r := rdb.NewReader(bytes.NewReader(snapshot))
	keys, functions, others := 0, 0, 0
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Kind == rdb.KindFunction:
			functions++
			continue
		case e.DB == 3:
			others++
			continue
		}
		keys++
		key := string(e.Key)
		if typ, err := from.Type(t.Context(), key).Result(); err != nil || typ != e.Type {
			t.Errorf("%s: type %q, the server says %q, %v", key, e.Type, typ, err)
		}
		if want := map[bool]int64{key == "string:3": 4102444800123}[true]; e.Expiry != want {
			t.Errorf("%s: expiry %d", key, e.Expiry)
		}
		if err := other.RestoreReplace(t.Context(), key, 0, string(e.Payload)).Err(); err != nil {
			t.Errorf("restore %s: %v", key, err)
			continue
		}
		// Built anew, command by command, where the server can copy no encoding.
		rebuild(t, from, other, key, e.Type)
		b, err := other.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		sa, err := rdb.Digest(e.Payload, true)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		sb, err := rdb.Digest([]byte(b), true)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		diff, err := rdb.Diff(e.Payload, []byte(b), true)
		if err != nil || diff != "" || sa != sb {
			t.Errorf("%s (%s): digests %x and %x, difference %q, %v", key, e.Type, sa, sb, diff, err)
		}
	}
	if n, _ := from.DBSize(t.Context()).Result(); int(n) != keys || functions != 1 || others != 1 {
		t.Errorf("%d keys of %d, %d functions, %d of the other database", keys, n, functions, others)
	}
	if r.Aux("redis-ver") == "" || r.Bytes() != int64(len(snapshot)) || r.Keys() != int64(keys+1) {
		t.Errorf("version %q, %d bytes of %d, %d keys announced", r.Aux("redis-ver"), r.Bytes(), len(snapshot), r.Keys())
	}
	snapshot[len(snapshot)/2] ^= 1
	if err := readAll(snapshot); err == nil {
		t.Error("a damaged snapshot was taken")
	}
}

// rebuild makes a value anew from its elements, so that its encoding is the second server's own.
func rebuild(t *testing.T, from, to *redis.Client, key, typ string) {
	t.Helper()
	ctx := t.Context()
	add := map[string]string{"list": "RPUSH", "set": "SADD", "hash": "HSET", "zset": "ZADD"}[typ]
	if add == "" {
		return
	}
	read := map[string][]any{
		"list": {"LRANGE", key, 0, -1}, "set": {"SMEMBERS", key}, "hash": {"HGETALL", key}, "zset": {"ZRANGE", key, 0, -1, "WITHSCORES"},
	}[typ]
	all, err := from.Do(ctx, read...).Slice()
	if m, err2 := from.Do(ctx, read...).StringSlice(); err != nil && err2 == nil {
		all, err = nil, nil
		for _, v := range m {
			all = append(all, v)
		}
	}
	if err != nil {
		h, err := from.HGetAll(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range h {
			all = append(all, k, v)
		}
	}
	if typ == "zset" {
		zs, err := from.ZRangeWithScores(ctx, key, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		all = nil
		for _, z := range zs {
			all = append(all, z.Score, z.Member)
		}
	}
	to.Del(ctx, key)
	if err := to.Do(ctx, append([]any{add, key}, all...)...).Err(); err != nil {
		t.Fatalf("rebuild %s: %v", key, err)
	}
}

func readAll(snapshot []byte) error {
	r := rdb.NewReader(bytes.NewReader(snapshot))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Kind == rdb.KindKey {
			if _, err := rdb.Digest(e.Payload, true); err != nil {
				return err
			}
		}
	}
}
