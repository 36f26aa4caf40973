package chaos

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/estate"
)

// ticks makes MariaDB write a row each second by itself, at the side that serves.
func (tr *trip) ticks() {
	tr.t.Helper()
	if err := tr.stage.MariaDB[estate.Source].Exec(tr.t.Context(), "cards", `
		CREATE TABLE ticks (id BIGINT AUTO_INCREMENT PRIMARY KEY, server INT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL);
		CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO cards.ticks (server, at) VALUES (@@server_id, NOW(6))`); err != nil {
		tr.t.Fatal(err)
	}
}

// ticked checks that the event fired on one side at a time: put in order of time,
// the rows of one server follow those of the other as often as the traffic moved.
func (tr *trip) ticked() {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := tr.stage.MariaDB[tr.serving].Open("cards")
	if err != nil {
		tr.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT server FROM ticks ORDER BY at, id")
	if err != nil {
		tr.t.Fatal(err)
	}
	defer rows.Close()
	count, changes, last := map[int64]int{}, 0, int64(0)
	for rows.Next() {
		var server int64
		if err := rows.Scan(&server); err != nil {
			tr.t.Fatal(err)
		}
		if last != 0 && server != last {
			changes++
		}
		count[server]++
		last = server
	}
	if err := rows.Err(); err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Logf("the event fired %v times, by server, with %d changes in %d switches", count, changes, tr.switches)
	if len(count) != 2 || changes > tr.switches {
		tr.t.Errorf("the event fired %v times, with %d changes of the server in %d switches", count, changes, tr.switches)
	}
}

// writesRedis says whether a side's Redis takes a write.
func (tr *trip) writesRedis(side estate.Side) bool {
	o, err := redis.ParseURL(tr.stage.Redis[side].URL())
	if err != nil {
		tr.t.Fatal(err)
	}
	o.ReadTimeout, o.MaxRetries = 50*time.Millisecond, -1
	client := redis.NewClient(o)
	defer func() { _ = client.Close() }()
	return client.Set(tr.t.Context(), "chaos", time.Now().UnixNano(), time.Minute).Err() == nil
}
