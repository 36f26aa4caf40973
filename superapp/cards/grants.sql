-- What the service needs, and no more: who has a card, and what was moved, never changes.
GRANT SELECT, INSERT, UPDATE (state, limit_transaction, limit_day, updated) ON cards TO {{role}};
GRANT SELECT, INSERT, UPDATE (state, captured, refunded, updated) ON authorisations TO {{role}};
GRANT SELECT, INSERT, UPDATE (state, transfer, updated) ON movements TO {{role}};
GRANT SELECT, INSERT, DELETE ON ledger_outbox TO {{role}};
