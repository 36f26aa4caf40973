-- What the service needs, and no more: history is added to, never changed.
GRANT SELECT, INSERT ON customers, transfers, entries TO {{role}};
GRANT SELECT, INSERT, UPDATE (balance, held, version) ON accounts TO {{role}};
GRANT SELECT, INSERT, UPDATE (state, transfer, updated) ON holds TO {{role}};
