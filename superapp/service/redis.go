package service

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisVariable names the Redis server.
const redisVariable = "REDIS_URL"

func openRedis(name string, size int) (*redis.Client, error) {
	text, err := fromEnvironment(redisVariable, "redis://:password@host:6379/0")
	if err != nil {
		return nil, err
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, badURL(redisVariable, "Redis", "redis://user:password@host:6379/0, or rediss:// for TLS")
	}
	o.ClientName = "superapp-" + name
	o.PoolSize = size
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = connectTime, pingTime, pingTime
	// A command is not repeated behind the service's back: it may have been done.
	o.MaxRetries = -1
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // no plain server knows them
	return redis.NewClient(o), nil
}

// redisAway are how a Redis server begins to say that it can not serve now.
var redisAway = []string{"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "BUSY ", "NOAUTH ", "WRONGPASS ", "OOM ", "UNBLOCKED ", "NOPERM "}

// awayRedis says whether an error is Redis' and means that it is gone or takes nothing now.
func awayRedis(err error) bool {
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return true
	}
	var said redis.Error
	if !errors.As(err, &said) {
		return false
	}
	for _, prefix := range redisAway {
		if strings.HasPrefix(said.Error(), prefix) {
			return true
		}
	}
	return false
}
