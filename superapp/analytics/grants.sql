-- What the service needs, and no more: events are added, never changed.
GRANT SELECT, INSERT ON events TO {{role}};
