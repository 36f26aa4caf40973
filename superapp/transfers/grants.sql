-- What the service needs, and no more: no send is ever deleted, and its terms never change.
GRANT SELECT, INSERT, UPDATE (state, hold, capture, fee_transfer, refund, updated, due) ON sends TO {{role}};
