-- What the service needs, and no more: no row of these is ever deleted.
GRANT SELECT, INSERT, UPDATE (state, transfer, updated) ON payments TO {{role}};
GRANT SELECT, INSERT, UPDATE (state, payment, updated) ON requests TO {{role}};
GRANT SELECT, INSERT ON splits TO {{role}};
GRANT USAGE ON SEQUENCE splits_id_seq TO {{role}};
