-- What a migration leaves behind for those who look later. Nothing depends on it.

CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,                   -- UTC, ISO 8601
    kind TEXT NOT NULL,                 -- class of the event, or "Request"
    level TEXT NOT NULL,                -- info, warning, error
    message TEXT NOT NULL,
    fields TEXT NOT NULL                -- JSON
);

CREATE INDEX IF NOT EXISTS entries_of_little_weight ON entries (number) WHERE level = 'info';

-- One a second; of older ones fewer are kept.
CREATE TABLE IF NOT EXISTS samples (
    at INTEGER PRIMARY KEY,             -- milliseconds since 1970, UTC
    phase TEXT NOT NULL,
    documents_copied INTEGER NOT NULL,
    bytes_copied INTEGER NOT NULL,
    events_captured INTEGER NOT NULL,
    changes_applied INTEGER NOT NULL,
    documents_compared INTEGER NOT NULL,
    waiting INTEGER NOT NULL,           -- changes in the buffer
    lag_seconds REAL,                   -- NULL: unknown
    mismatches INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS durations (
    name TEXT PRIMARY KEY,
    bounds TEXT NOT NULL,               -- JSON, seconds
    counts TEXT NOT NULL,               -- JSON, one more than bounds
    total REAL NOT NULL,                -- seconds
    count INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS gauges (
    name TEXT PRIMARY KEY,
    value REAL NOT NULL
) WITHOUT ROWID;
