package estate

import (
	"context"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions is how to connect to a Redis endpoint, or to one server of a
// cluster. It fetches the password.
func (e Endpoint) RedisOptions(ctx context.Context) (*redis.Options, error) {
	security, _, password, err := e.reach(ctx)
	if err != nil {
		return nil, err
	}
	return &redis.Options{
		Network: "tcp", Addr: e.addr(Redis), Username: e.User, Password: password, TLSConfig: security,
		ClientName: applicationName, DialTimeout: connectTimeout,
		DisableIdentity: true, // its command is younger than the oldest server that moves
		// No plain server knows them, and options are copied: they would share what is found out.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}
