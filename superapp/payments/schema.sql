-- Payments and requests for payment. A payment is pending until the accounts
-- service has answered; then it is completed or declined, once. A request is
-- open until it is accepted or declined, once; while it is being paid it is open
-- and names its payment.

CREATE TABLE IF NOT EXISTS payments (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      text NOT NULL UNIQUE,
    payer    bigint NOT NULL,
    payee    bigint NOT NULL,
    amount   bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL,
    note     text NOT NULL,
    state    text NOT NULL CHECK (state IN ('pending', 'completed', 'declined')),
    transfer bigint, -- at the accounts service
    instance text NOT NULL,
    created  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'completed') = (transfer IS NOT NULL))
);

-- What the settler looks for; nearly always empty.
CREATE INDEX IF NOT EXISTS payments_pending_idx ON payments (id) WHERE state = 'pending';

CREATE TABLE IF NOT EXISTS requests (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      text NOT NULL UNIQUE,
    payee    bigint NOT NULL,
    payer    bigint NOT NULL,
    amount   bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL,
    note     text NOT NULL,
    state    text NOT NULL CHECK (state IN ('open', 'accepted', 'declined')),
    payment  bigint REFERENCES payments,
    instance text NOT NULL,
    created  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated  timestamptz NOT NULL DEFAULT clock_timestamp()
);
