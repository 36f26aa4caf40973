-- The ledger. Amounts and balances are whole minor units of the currency. A
-- transfer has two entries that sum to zero; an account's balance is the sum of
-- its entries and its version is their number. Rows of transfers and entries are
-- never changed.

CREATE TABLE IF NOT EXISTS accounts (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL,
    kind     text NOT NULL CHECK (kind IN ('customer', 'system')),
    currency char(3) NOT NULL,
    balance  bigint NOT NULL DEFAULT 0,
    version  bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
    opened   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT accounts_not_overdrawn CHECK (kind = 'system' OR balance >= 0)
) WITH (fillfactor = 70); -- a balance changes often: room for the new row beside the old one

CREATE TABLE IF NOT EXISTS transfers (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key       text NOT NULL UNIQUE,
    reference text NOT NULL,
    currency  char(3) NOT NULL,
    amount    bigint NOT NULL CHECK (amount > 0),
    instance  text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS entries (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transfer bigint NOT NULL REFERENCES transfers,
    account  bigint NOT NULL REFERENCES accounts,
    amount   bigint NOT NULL,
    balance  bigint NOT NULL,
    version  bigint NOT NULL,
    UNIQUE (account, version)
);

CREATE INDEX IF NOT EXISTS entries_transfer_idx ON entries (transfer);
