-- Sends abroad. A send is made at a quote, which is used at most once, and goes
-- from state to state as machine.go says; each step's money is at the accounts
-- service, under a key that follows from the send's id.

CREATE TABLE IF NOT EXISTS sends (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key              text NOT NULL UNIQUE,
    quote            text NOT NULL CONSTRAINT sends_quote_once UNIQUE,
    account          bigint NOT NULL,
    country          char(2) NOT NULL,
    send_amount      bigint NOT NULL CHECK (send_amount > 0),
    fee              bigint NOT NULL CHECK (fee >= 0),
    total            bigint NOT NULL CHECK (total = send_amount + fee), -- what the customer pays
    currency         char(3) NOT NULL,
    receive_amount   bigint NOT NULL CHECK (receive_amount > 0),
    receive_currency char(3) NOT NULL,
    rate             text NOT NULL, -- a decimal number
    provider         text NOT NULL,
    beneficiary      jsonb NOT NULL,
    purpose          text NOT NULL DEFAULT '',
    state            text NOT NULL CHECK (state IN ('created', 'declined', 'held', 'cancelled', 'submitted', 'paid', 'failed', 'refunded')),
    hold             bigint, -- these are ids at the accounts service: a hold,
    capture          bigint, -- and transfers
    fee_transfer     bigint,
    refund           bigint,
    instance         text NOT NULL,
    created          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated          timestamptz NOT NULL DEFAULT clock_timestamp(),
    due              timestamptz -- when the worker looks at it; NULL is never again
);

CREATE INDEX IF NOT EXISTS sends_account_idx ON sends (account, id);

-- What the worker looks for.
CREATE INDEX IF NOT EXISTS sends_due_idx ON sends (due) WHERE due IS NOT NULL;
