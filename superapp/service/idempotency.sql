CREATE TABLE IF NOT EXISTS idempotency (
    key          text PRIMARY KEY,
    request_hash bytea NOT NULL,
    status       int NOT NULL,
    answer       jsonb NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
