-- The ledger. Amounts and balances are whole minor units of the currency. A
-- transfer has two entries that sum to zero; an account's balance is the sum of
-- its entries and its version is their number. Rows of transfers and entries are
-- never changed. What an account holds for later is the sum of its open holds: it
-- is still the account's, and no longer available.

CREATE TABLE IF NOT EXISTS customers (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL,
    email    text NOT NULL UNIQUE, -- in lower case
    pin      text NOT NULL,        -- its bcrypt hash
    language text NOT NULL CHECK (language IN ('en', 'ar')),
    joined   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS accounts (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL, -- 0 is the system
    kind     text NOT NULL CHECK (kind IN ('customer', 'system')),
    currency char(3) NOT NULL,
    balance  bigint NOT NULL DEFAULT 0,
    version  bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
    opened   timestamptz NOT NULL DEFAULT clock_timestamp(),
    held     bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    purpose  text CHECK (purpose IS NULL OR kind = 'system'), -- what the system keeps here
    shard    int NOT NULL DEFAULT 0, -- the system keeps several of a purpose, so that not all wait for one row
    CONSTRAINT accounts_not_overdrawn CHECK (kind = 'system' OR balance >= held)
) WITH (fillfactor = 70); -- a balance changes often: room for the new row beside the old one

CREATE INDEX IF NOT EXISTS accounts_customer_idx ON accounts (customer);
CREATE UNIQUE INDEX IF NOT EXISTS accounts_purpose_idx ON accounts (purpose, currency, shard) WHERE purpose IS NOT NULL;

CREATE TABLE IF NOT EXISTS transfers (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key       text NOT NULL UNIQUE,
    reference text NOT NULL,
    currency  char(3) NOT NULL,
    amount    bigint NOT NULL CHECK (amount > 0),
    instance  text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- An entry's transfer is no foreign key: one statement writes both, and the check
-- would read the page of the index into which all transfers are inserted. Each of two
-- serializable transactions that do that is a conflict to the other.
CREATE TABLE IF NOT EXISTS entries (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transfer bigint NOT NULL,
    account  bigint NOT NULL REFERENCES accounts,
    amount   bigint NOT NULL,
    balance  bigint NOT NULL,
    version  bigint NOT NULL,
    UNIQUE (account, version)
);

CREATE INDEX IF NOT EXISTS entries_transfer_idx ON entries (transfer);

-- A hold is held until it is captured, which is a transfer of it or a part, or released; once.
CREATE TABLE IF NOT EXISTS holds (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key       text NOT NULL UNIQUE,
    account   bigint NOT NULL REFERENCES accounts,
    amount    bigint NOT NULL CHECK (amount > 0),
    currency  char(3) NOT NULL,
    reference text NOT NULL,
    state     text NOT NULL CHECK (state IN ('held', 'captured', 'released')),
    transfer  bigint UNIQUE REFERENCES transfers,
    instance  text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'captured') = (transfer IS NOT NULL))
);
