-- Cards, what was authorised with them, and the money that this moved. A card's
-- number is nowhere: it is made of the token and a key that the database does not
-- know. An authorisation is pending until the accounts service has answered; then it
-- is declined, or authorised until it is captured or reversed, once. Each movement
-- is one transfer at the accounts service; while it is pending it has a row in
-- ledger_outbox.

CREATE TABLE IF NOT EXISTS cards (
    id                bigint AUTO_INCREMENT PRIMARY KEY,
    `key`             varbinary(255) NOT NULL UNIQUE,
    token             char(32) CHARACTER SET ascii NOT NULL UNIQUE,
    tag               binary(32) NOT NULL UNIQUE, -- a keyed hash of the number: no two cards have the same
    last4             char(4) CHARACTER SET ascii NOT NULL,
    customer          bigint NOT NULL,
    account           bigint NOT NULL,
    currency          char(3) CHARACTER SET ascii NOT NULL,
    state             varchar(10) CHARACTER SET ascii NOT NULL CHECK (state IN ('active', 'frozen')),
    limit_transaction bigint NOT NULL CHECK (limit_transaction > 0),
    limit_day         bigint NOT NULL CHECK (limit_day > 0),
    expires           date NOT NULL, -- the last day on which it can be used
    instance          varchar(100) NOT NULL,
    created           datetime(6) NOT NULL DEFAULT current_timestamp(6),
    updated           datetime(6) NOT NULL DEFAULT current_timestamp(6),
    KEY cards_customer (customer, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS authorisations (
    id       bigint AUTO_INCREMENT PRIMARY KEY,
    card     bigint NOT NULL,
    account  bigint NOT NULL,
    amount   bigint NOT NULL CHECK (amount > 0),
    captured bigint NOT NULL DEFAULT 0,
    refunded bigint NOT NULL DEFAULT 0,
    currency char(3) CHARACTER SET ascii NOT NULL,
    merchant varchar(100) NOT NULL,
    category varchar(40) NOT NULL,
    state    varchar(10) CHARACTER SET ascii NOT NULL CHECK (state IN ('pending', 'declined', 'authorised', 'captured', 'reversed')),
    instance varchar(100) NOT NULL,
    created  datetime(6) NOT NULL DEFAULT current_timestamp(6),
    updated  datetime(6) NOT NULL DEFAULT current_timestamp(6),
    KEY authorisations_card (card, created), -- for the limit of a day
    CONSTRAINT authorisations_of_card FOREIGN KEY (card) REFERENCES cards (id),
    CONSTRAINT captured_in_bounds CHECK (captured BETWEEN 0 AND amount AND (captured > 0) = (state = 'captured')),
    CONSTRAINT refunded_in_bounds CHECK (refunded BETWEEN 0 AND captured)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS movements (
    id            bigint AUTO_INCREMENT PRIMARY KEY,
    `key`         varbinary(255) UNIQUE, -- of the request that it answers; none for the rest of a partial capture
    authorisation bigint NOT NULL,
    card          bigint NOT NULL,
    kind          varchar(10) CHARACTER SET ascii NOT NULL CHECK (kind IN ('authorise', 'capture', 'reverse', 'refund')),
    amount        bigint NOT NULL CHECK (amount > 0),
    currency      char(3) CHARACTER SET ascii NOT NULL,
    account       bigint NOT NULL,
    state         varchar(10) CHARACTER SET ascii NOT NULL CHECK (state IN ('pending', 'posted', 'declined')),
    transfer      bigint, -- at the accounts service
    instance      varchar(100) NOT NULL,
    created       datetime(6) NOT NULL DEFAULT current_timestamp(6),
    updated       datetime(6) NOT NULL DEFAULT current_timestamp(6),
    KEY movements_authorisation (authorisation, id),
    CONSTRAINT movements_of_authorisation FOREIGN KEY (authorisation) REFERENCES authorisations (id),
    CONSTRAINT posted_has_transfer CHECK ((state = 'posted') = (transfer IS NOT NULL))
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS ledger_outbox (
    movement bigint PRIMARY KEY,
    at       datetime(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE = InnoDB;
