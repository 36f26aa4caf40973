// Command redis measures the Redis mover beside REPLICAOF, the server's own way to
// the same end: how long a full copy takes, how many commands of a backlog are
// applied in a second, and how much memory the mover's process takes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/bench/sidebyside"
	"dhow/internal/move"
	mover "dhow/internal/move/redis"
	"dhow/internal/redisserver"
)

const (
	// patience bounds each turn.
	patience = 5 * time.Minute
	// memoryLimit is what Go is told to keep the mover's process below, in bytes.
	memoryLimit = 200 << 20
	// pipelined is how many commands are sent at once.
	pipelined = 1000
	pollEvery = 2 * time.Millisecond
)

type bench struct {
	keys, commands, pairs int
	profile               string
	source                *redisserver.Server
	from                  *redis.Client
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-redis:", err)
		os.Exit(1)
	}
}

func run() error {
	if sidebyside.IsChild(os.Args[1:]) {
		return sidebyside.Child(context.Background(), os.Stdin, os.Stdout, openMover)
	}
	var b bench
	flag.IntVar(&b.keys, "keys", 1_000_000, "keys that are copied")
	flag.IntVar(&b.commands, "commands", 2_000_000, "commands of the backlog")
	flag.IntVar(&b.pairs, "pairs", 3, "turns of each rival")
	flag.StringVar(&b.profile, "profile", "", "write the mover's CPU profile to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return b.run(ctx)
}

// task is what a mover's process does.
type task struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

func openMover(text json.RawMessage) (move.Mover, error) {
	debug.SetMemoryLimit(memoryLimit)
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the task: %w", err)
	}
	from, err := redis.ParseURL(t.Source)
	if err != nil {
		return nil, err
	}
	to, err := redis.ParseURL(t.Target)
	if err != nil {
		return nil, err
	}
	return mover.New(mover.Config{Estate: "bench", Name: "redis", Source: from, Target: to})
}

func (b *bench) run(ctx context.Context) error {
	var err error
	if b.source, err = start(ctx); err != nil {
		return err
	}
	defer b.source.Kill()
	if b.from, err = client(b.source); err != nil {
		return err
	}
	defer func() { _ = b.from.Close() }()
	if err := b.fill(ctx); err != nil {
		return err
	}
	fmt.Printf("%s, %d cores; %s; %s; %d keys, load average before: %s\n\n", runtime.GOARCH, runtime.NumCPU(), version(), runtime.Version(), b.keys, sidebyside.Load())
	fmt.Println("full sync  pair  REPLICAOF, s  dhow, s  ratio  memory, MiB")
	var ratios []float64
	memory := 0.0
	for pair := range b.pairs {
		native, err := b.replicaOf(ctx)
		if err != nil {
			return err
		}
		ours, used, err := b.copy(ctx)
		if err != nil {
			return err
		}
		memory = max(memory, used)
		ratios = append(ratios, ours.Seconds()/native.Seconds())
		fmt.Printf("           %-4d  %-12.2f  %-7.2f  %-5.2f  %.0f\n", pair+1, native.Seconds(), ours.Seconds(), ratios[pair], used)
	}
	rate, used, err := b.stream(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nload average after: %s; of one rival at a time it is about 2\n", sidebyside.Load())
	fmt.Printf("memory: %.0f MiB\n", max(memory, used))
	fmt.Printf("full sync: %.2f x REPLICAOF's time\n", sidebyside.Median(ratios))
	fmt.Printf("stream: %.0f commands a second\n", rate)
	return nil
}

func start(ctx context.Context) (*redisserver.Server, error) {
	return redisserver.Start(ctx, redisserver.Options{Settings: map[string]string{
		"appendonly": "no", "repl-backlog-size": "1gb", "client-output-buffer-limit": "replica 0 0 0",
	}})
}

func client(s *redisserver.Server) (*redis.Client, error) {
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		return nil, err
	}
	o.MaxRetries = -1
	return redis.NewClient(o), nil
}

// fill writes keys of all types, a third of them with an end.
func (b *bench) fill(ctx context.Context) error {
	r := rand.New(rand.NewPCG(1, 2))
	value := strings.Repeat("v", 200)
	for n := 0; n < b.keys; {
		p := b.from.Pipeline()
		for ; n < b.keys && p.Len() < pipelined; n++ {
			key := fmt.Sprintf("key:%d", n)
			switch r.IntN(10) {
			case 0:
				p.HSet(ctx, key, "name", "somebody", "mail", value[:r.IntN(40)], "age", n)
			case 1:
				p.RPush(ctx, key, n, value[:r.IntN(100)], "end")
			case 2:
				p.SAdd(ctx, key, n, n+1, "member")
			case 3:
				p.ZAdd(ctx, key, redis.Z{Score: float64(n), Member: "a"}, redis.Z{Score: 0.5, Member: value[:r.IntN(50)]})
			case 4, 5, 6:
				p.Set(ctx, key, value[:20+r.IntN(180)], time.Hour+time.Duration(n)*time.Millisecond)
			default:
				p.Set(ctx, key, value[:20+r.IntN(180)], 0)
			}
		}
		if _, err := p.Exec(ctx); err != nil {
			return fmt.Errorf("fill the source: %w", err)
		}
	}
	return nil
}

// replicaOf times the server's own full synchronisation.
func (b *bench) replicaOf(ctx context.Context) (time.Duration, error) {
	s, err := start(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Kill()
	c, err := client(s)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if err := c.ConfigSet(ctx, "masterauth", b.source.Password()).Err(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.Do(ctx, "REPLICAOF", "127.0.0.1", b.source.Port).Err(); err != nil {
		return 0, err
	}
	err = until(ctx, func() (bool, error) {
		info, err := c.Info(ctx, "replication").Result()
		if err != nil && strings.HasPrefix(err.Error(), "LOADING") {
			return false, nil
		}
		return strings.Contains(info, "master_link_status:up"), err
	})
	took := time.Since(began)
	if err == nil {
		err = b.complete(ctx, c)
	}
	return took, err
}

// complete says whether a target has all keys.
func (b *bench) complete(ctx context.Context, c *redis.Client) error {
	want, err := b.from.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	got, err := c.DBSize(ctx).Result()
	if err == nil && (got < want || got > want+2) {
		err = fmt.Errorf("the target has %d keys of %d", got, want)
	}
	return err
}

func until(ctx context.Context, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// launch starts the mover's process.
func (b *bench) launch(ctx context.Context, target *redisserver.Server) (*sidebyside.Process, error) {
	return sidebyside.Start(ctx, b.profile, task{Source: b.source.URL(), Target: target.URL()})
}

// copy times our full copy, from the start of the process to the stream.
func (b *bench) copy(ctx context.Context) (took time.Duration, memory float64, err error) {
	target, err := start(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer target.Kill()
	began := time.Now()
	p, err := b.launch(ctx, target)
	if err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	if _, err := p.Await(sidebyside.Streaming); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	c, err := client(target)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = c.Close() }()
	if err := b.complete(ctx, c); err != nil {
		return 0, 0, err
	}
	end, err := p.Stop()
	return took, end.PeakMiB, err
}

// stream times a backlog: it is written while the mover is away.
func (b *bench) stream(ctx context.Context) (rate, memory float64, err error) {
	target, err := start(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer target.Kill()
	p, err := b.launch(ctx, target)
	if err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	if _, err := p.Await(sidebyside.Streaming); err != nil {
		return 0, 0, err
	}
	if _, err := p.Stop(); err != nil {
		return 0, 0, err
	}
	r := rand.New(rand.NewPCG(3, 4))
	for n := 0; n < b.commands; {
		pipe := b.from.Pipeline()
		for ; n < b.commands && pipe.Len() < pipelined; n++ {
			key := "stream:" + strconv.Itoa(r.IntN(200_000))
			switch r.IntN(8) {
			case 0:
				pipe.Incr(ctx, "n:"+key)
			case 1:
				pipe.HSet(ctx, "h:"+key, "f"+strconv.Itoa(r.IntN(5)), n)
			case 2:
				pipe.Set(ctx, key, "a session of somebody", time.Hour)
			case 3:
				pipe.LPush(ctx, "l:"+key, n)
			default:
				pipe.Set(ctx, key, n, 0)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, 0, fmt.Errorf("write the backlog: %w", err)
		}
	}
	if err := b.from.Set(ctx, "the last", "command", 0).Err(); err != nil {
		return 0, 0, err
	}
	c, err := client(target)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = c.Close() }()
	first, err := b.position(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	if p, err = b.launch(ctx, target); err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	if err := until(ctx, func() (bool, error) { // the process is up and the first batch is there
		at, err := b.position(ctx, c)
		return at != first, err
	}); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	err = until(ctx, func() (bool, error) {
		n, err := c.Exists(ctx, "the last").Result()
		return n == 1, err
	})
	took := time.Since(began)
	if err == nil {
		err = b.complete(ctx, c)
	}
	if err != nil {
		return 0, 0, err
	}
	end, err := p.Stop()
	return float64(b.commands) / took.Seconds(), end.PeakMiB, err
}

// position is how far the stream is, as the target holds it.
func (b *bench) position(ctx context.Context, c *redis.Client) (string, error) {
	return c.HGet(ctx, "dhow:{bench/redis}", "offset").Result()
}

func version() string {
	out, err := exec.Command("redis-server", "--version").Output() //nolint:noctx // it answers at once
	if err != nil {
		return "redis-server"
	}
	words := strings.Fields(string(out))
	return strings.Join(words[:min(3, len(words))], " ")
}
