package inquire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"dhow/internal/estate"
	"dhow/internal/inventory"
)

// redisServer asks a server of Redis or Valkey, of a cluster the one that is named.
func redisServer(ctx context.Context, end estate.Endpoint, password string) (*inventory.Answers, error) {
	end.Database = "" // its number: all are of one server
	o, err := end.RedisOptions(ctx)
	if err != nil {
		return nil, err
	}
	if password != "" {
		o.Password = password
	}
	o.MaxRetries, o.PoolSize, o.ContextTimeoutEnabled = -1, 1, true
	client := redis.NewClient(o)
	defer func() { _ = client.Close() }() // all was read
	text, err := client.Info(ctx).Result()
	if err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) {
			return nil, fmt.Errorf("%w: %w", errNoTLS, err)
		}
		return nil, fmt.Errorf("ask for INFO: %w", err)
	}
	info := fields(text)
	a := &inventory.Answers{Product: "Redis", Version: info["redis_version"]}
	if v := info["valkey_version"]; v != "" {
		a.Product, a.Version = "Valkey", v
	}
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(info[name], 64)
		if err != nil {
			return 0
		}
		return n
	}
	a.Bytes = int64(number("used_memory_dataset"))
	a.Connections, a.MaxConnections = int(number("connected_clients"))-1, int(number("maxclients"))
	a.Replicas, a.Replica = int(number("connected_slaves")), info["role"] == "slave"
	load(a, number("total_commands_processed"), number("uptime_in_seconds"))
	for name, value := range info {
		if keys, ok := strings.CutPrefix(value, "keys="); ok && strings.HasPrefix(name, "db") {
			keys, _, _ = strings.Cut(keys, ",")
			if n, err := strconv.ParseInt(keys, 10, 64); err == nil {
				a.Items += n
			}
		}
	}
	// Modules stand in a part of their own, which not every version has.
	if text, err := client.Info(ctx, "modules").Result(); err == nil {
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module:name="); ok {
				name, rest, _ := strings.Cut(rest, ",ver=")
				version, _, _ := strings.Cut(rest, ",")
				a.Extensions = append(a.Extensions, name+" "+version)
			}
		}
		slices.Sort(a.Extensions)
	}
	return a, nil
}

// fields are the lines of an answer to INFO.
func fields(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			all[name] = value
		}
	}
	return all
}
