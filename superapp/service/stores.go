package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// Needs are the stores that a service keeps its state in.
type Needs struct{ Postgres, MariaDB, Redis bool }

// stores are the connections to what a service needs; the others are nil.
type stores struct {
	postgres *pgxpool.Pool
	mariadb  *sql.DB
	redis    *redis.Client
}

// openStores prepares the connections; they are opened in the background.
func openStores(ctx context.Context, name string, o Options) (_ *stores, err error) {
	s := &stores{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if o.Needs.Postgres {
		if s.postgres, err = openPool(ctx, name, o.Pool, o.Prepare); err != nil {
			return nil, err
		}
	}
	if o.Needs.MariaDB {
		if s.mariadb, err = openMariaDB(o.Pool); err != nil {
			return nil, err
		}
	}
	if o.Needs.Redis {
		if s.redis, err = openRedis(name, o.Pool); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ping asks each store for a sign of life.
func (s *stores) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	if s.postgres != nil {
		if err := s.postgres.Ping(ctx); err != nil {
			return fmt.Errorf("ask PostgreSQL for a sign of life: %w", err)
		}
	}
	if s.mariadb != nil {
		if err := s.mariadb.PingContext(ctx); err != nil {
			return fmt.Errorf("ask MariaDB for a sign of life: %w", err)
		}
	}
	if s.redis != nil {
		if err := s.redis.Ping(ctx).Err(); err != nil {
			return fmt.Errorf("ask Redis for a sign of life: %w", err)
		}
	}
	return nil
}

func (s *stores) close() {
	if s.postgres != nil {
		s.postgres.Close()
	}
	if s.mariadb != nil {
		_ = s.mariadb.Close() // nothing is written behind the last answer
	}
	if s.redis != nil {
		_ = s.redis.Close()
	}
}

// fromEnvironment is a connection string; strings in arguments would be in every process list.
func fromEnvironment(variable, example string) (string, error) {
	text := os.Getenv(variable)
	if text == "" {
		return "", errors.New(variable + " is not set: export it, for example " + example)
	}
	return text, nil
}

// badURL does not repeat the text, nor the parser's error, which would: it may hold a password.
func badURL(variable, what, form string) error {
	return fmt.Errorf("%s is no connection string of %s: write it as %s", variable, what, form)
}
