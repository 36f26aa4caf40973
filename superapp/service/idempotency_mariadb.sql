CREATE TABLE IF NOT EXISTS idempotency (
    `key`        varbinary(255) PRIMARY KEY,
    request_hash binary(32) NOT NULL,
    status       int NOT NULL,
    answer       longtext NOT NULL,
    at           datetime(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE = InnoDB;
