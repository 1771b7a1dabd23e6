-- Changes captured and not yet applied. Times are UTC, ISO 8601.

CREATE TABLE IF NOT EXISTS batches (
    -- AUTOINCREMENT: a number is never used again, even when all batches are gone.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    is_schema INTEGER NOT NULL,         -- a schema change: a barrier
    changes INTEGER NOT NULL,
    total INTEGER NOT NULL,             -- changes up to and with this batch
    events INTEGER NOT NULL,            -- of the stream, before coalescing
    source_time TEXT NOT NULL,
    token BLOB NOT NULL,
    checksum INTEGER NOT NULL,          -- CRC-32 of body
    body BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS position (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    token BLOB NOT NULL,
    source_time TEXT NOT NULL
);
