package voyage

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
	"dhow/internal/move/postgres"
	"dhow/internal/move/redis"
)

// movers makes a database's mover and its way back, or says all that stands in the way.
func (v *Voyage) movers(ctx context.Context, d estate.Database) (there, back move.Mover, wrong []error) {
	d.Limits = merge(d.Limits, v.Estate.Limits)
	switch d.Engine {
	case estate.PostgreSQL, "":
		there, back, wrong = v.postgres(ctx, d)
	case estate.MariaDB:
		there, back, wrong = v.mariadb(ctx, d)
	case estate.Redis:
		there, back, wrong = v.redis(ctx, d)
	default:
		wrong = []error{fmt.Errorf("engine %q can not be moved, only %s, %s and %s", d.Engine, estate.PostgreSQL, estate.MariaDB, estate.Redis)}
	}
	for i, err := range wrong {
		wrong[i] = fmt.Errorf("database %s: %w", d.Name, err)
	}
	return there, back, wrong
}

// Engine is the engine of a database of the estate; empty where there is no such database.
func (v *Voyage) Engine(database string) estate.Engine {
	for _, d := range v.Estate.Databases {
		if d.Name == database {
			return cmp.Or(d.Engine, estate.PostgreSQL)
		}
	}
	return ""
}

// faults gathers what is wrong, so that all is said at once.
type faults []error

func (f *faults) at(where string, err error) {
	if err != nil {
		*f = append(*f, fmt.Errorf("%s: %w", where, err))
	}
}

// pair gives a mover with its way back.
func pair[M interface {
	move.Mover
	Reverse() (M, error)
}](there M, err error) (move.Mover, move.Mover, []error) {
	if err != nil {
		return nil, nil, []error{err}
	}
	back, err := there.Reverse()
	if err != nil {
		return nil, nil, []error{err}
	}
	return there, back, nil
}

// session names a mover's sessions in the servers' lists of them.
func (v *Voyage) session(d estate.Database) string { return v.Estate.Name + "/" + d.Name }

func (v *Voyage) postgres(ctx context.Context, d estate.Database) (there, back move.Mover, wrong []error) {
	var f faults
	limits, err := postgresWithin(d.Limits)
	if err != nil {
		f = append(f, err)
	}
	cfg := postgres.Config{
		Estate: v.Estate.Name, Name: d.Name,
		Schemas: d.Schemas, Exclude: d.Exclude, Roles: d.Roles,
		Limits: limits, Stragglers: postgres.Stragglers(v.Estate.Cutover.Stragglers), Log: v.log,
	}
	cfg.Source, cfg.SourceEnv, err = d.Source.ConnConfig(ctx)
	f.at("source", err)
	cfg.Target, _, err = d.Target.ConnConfig(ctx)
	f.at("target", err)
	if len(f) > 0 {
		return nil, nil, f
	}
	for _, c := range []*pgx.ConnConfig{cfg.Source, cfg.Target} {
		c.RuntimeParams["application_name"] = "dhow " + v.session(d)
	}
	return pair(postgres.New(cfg))
}

func (v *Voyage) mariadb(ctx context.Context, d estate.Database) (there, back move.Mover, wrong []error) {
	var f faults
	limits, err := mariadbWithin(d.Limits)
	if err != nil {
		f = append(f, err)
	}
	cfg := mariadb.Config{
		Estate: v.Estate.Name, Name: d.Name, Schemas: d.Schemas, Exclude: d.Exclude,
		Limits: limits, Stragglers: mariadb.Stragglers(v.Estate.Cutover.Stragglers), Log: v.log,
	}
	cfg.Source, err = d.Source.MySQLConfig(ctx)
	f.at("source", err)
	cfg.Target, err = d.Target.MySQLConfig(ctx)
	f.at("target", err)
	source, target, err := d.Replicas(ctx)
	f.at("replication", err)
	if len(f) > 0 {
		return nil, nil, f
	}
	cfg.SourceReplica, cfg.TargetReplica = mariadb.Replica(source), mariadb.Replica(target)
	cfg.Source.ConnectionAttributes = "program_name:dhow " + v.session(d)
	cfg.Target.ConnectionAttributes = cfg.Source.ConnectionAttributes
	return pair(mariadb.New(cfg))
}

func (v *Voyage) redis(ctx context.Context, d estate.Database) (there, back move.Mover, wrong []error) {
	var f faults
	limits, err := redisWithin(d.Limits)
	if err != nil {
		f = append(f, err)
	}
	cfg := redis.Config{
		Estate: v.Estate.Name, Name: d.Name, SourceCluster: d.Source.Cluster, TargetCluster: d.Target.Cluster,
		Limits: limits, Log: v.log,
	}
	cfg.Source, err = d.Source.RedisOptions(ctx)
	f.at("source", err)
	cfg.Target, err = d.Target.RedisOptions(ctx)
	f.at("target", err)
	if len(f) > 0 {
		return nil, nil, f
	}
	cfg.Source.ClientName = "dhow:" + v.session(d) // it takes no blanks
	cfg.Target.ClientName = cfg.Source.ClientName
	return pair(redis.New(cfg))
}
