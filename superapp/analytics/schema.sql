-- What happened to accounts, told by the other services. An event comes at least
-- once; its id tells a repeated one. Amounts are whole minor units, negative for
-- money that came back.

CREATE TABLE IF NOT EXISTS events (
    id       varbinary(64) PRIMARY KEY,
    account  bigint NOT NULL,
    kind     varchar(20) NOT NULL,
    category varchar(40) NOT NULL,
    merchant varchar(100) NOT NULL,
    currency char(3) NOT NULL,
    amount   bigint NOT NULL,
    at       datetime(6) NOT NULL,
    received datetime(6) NOT NULL DEFAULT current_timestamp(6),
    KEY events_account (account, at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
