-- The state of one migration. Times are UTC, ISO 8601; truth values are 0 or 1.

CREATE TABLE IF NOT EXISTS migration (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    settings TEXT NOT NULL,             -- JSON
    generation INTEGER NOT NULL,        -- counts the processes that have driven it
    holder TEXT NOT NULL,               -- "host:pid"
    started_at TEXT,
    position BLOB,                      -- resume token taken before the first read
    planned_at TEXT,
    copied_at TEXT,
    indexed_at TEXT,
    captured_to TEXT,
    applied_to TEXT,
    verified_at TEXT,
    commit_at TEXT,
    writable_at TEXT,
    committed_at TEXT,
    applied_seq INTEGER NOT NULL,       -- of the buffer
    verified_seq INTEGER NOT NULL,
    events_captured INTEGER NOT NULL,
    changes_applied INTEGER NOT NULL,
    documents_rechecked INTEGER NOT NULL,
    failure_code TEXT,
    failure_message TEXT,
    failure_hint TEXT,
    reversals INTEGER NOT NULL,         -- how often source and target have changed places
    return_position BLOB,               -- resume token of the target, from before it was writable
    return_lost_at TEXT,                -- estimated
    limits TEXT NOT NULL,               -- JSON
    throttled TEXT NOT NULL,            -- why it is slower than it could be
    position_lost_at TEXT,              -- estimated
    blocked TEXT NOT NULL,              -- "source", "target" or both with a comma
    target_mark BLOB                    -- up to where what others write to the target is compared
);

CREATE TABLE IF NOT EXISTS collections (
    number INTEGER PRIMARY KEY,         -- order of planning
    id TEXT NOT NULL UNIQUE,            -- the source's own, survives a rename
    source_database TEXT NOT NULL,
    source_collection TEXT NOT NULL,
    target_database TEXT NOT NULL,
    target_collection TEXT NOT NULL,
    target_id TEXT NOT NULL,            -- the target's own, once a way back begins there
    is_dropped INTEGER NOT NULL,
    is_indexed INTEGER NOT NULL,
    documents INTEGER NOT NULL,         -- estimated
    bytes INTEGER NOT NULL,             -- estimated
    -- Sums over the partitions, of which a plan may have a million. All but their number are
    -- kept by the trigger below; a trigger on insertion would double the time to store a plan.
    partitions INTEGER NOT NULL DEFAULT 0,
    partitions_copied INTEGER NOT NULL DEFAULT 0,
    partitions_verified INTEGER NOT NULL DEFAULT 0,
    documents_copied INTEGER NOT NULL DEFAULT 0,
    bytes_copied INTEGER NOT NULL DEFAULT 0,
    documents_compared INTEGER NOT NULL DEFAULT 0,
    options TEXT NOT NULL,              -- to be read by people; the exact one is definition
    indexes TEXT NOT NULL,
    definition BLOB NOT NULL            -- BSON {"options": {…}, "indexes": […]}
);

CREATE INDEX IF NOT EXISTS collections_dropped ON collections (id) WHERE is_dropped;
CREATE INDEX IF NOT EXISTS collections_at_source
    ON collections (source_database, source_collection);
CREATE INDEX IF NOT EXISTS collections_at_target
    ON collections (target_database, target_collection);

CREATE TABLE IF NOT EXISTS occupied (   -- what the target held before anything was written
    database TEXT NOT NULL,
    collection TEXT NOT NULL,
    PRIMARY KEY (database, collection)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS partitions (
    id TEXT PRIMARY KEY,                -- "<collection id>/<number>"
    collection_id TEXT NOT NULL REFERENCES collections (id),
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'copied', 'verified')),
    documents INTEGER NOT NULL,         -- estimated
    documents_copied INTEGER NOT NULL DEFAULT 0,
    bytes_copied INTEGER NOT NULL DEFAULT 0,
    documents_compared INTEGER NOT NULL DEFAULT 0,
    bounds BLOB NOT NULL
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS partitions_by_status ON partitions (status, collection_id);

CREATE TRIGGER IF NOT EXISTS partition_moved AFTER UPDATE ON partitions
BEGIN
    UPDATE collections
    SET partitions_copied = partitions_copied
            + (new.status <> 'pending') - (old.status <> 'pending'),
        partitions_verified = partitions_verified
            + (new.status = 'verified') - (old.status = 'verified'),
        documents_copied = documents_copied + new.documents_copied - old.documents_copied,
        bytes_copied = bytes_copied + new.bytes_copied - old.bytes_copied,
        documents_compared = documents_compared
            + new.documents_compared - old.documents_compared
    WHERE id = new.collection_id;
END;

CREATE TABLE IF NOT EXISTS suspects (
    collection_id TEXT NOT NULL,
    key BLOB NOT NULL,                  -- BSON {"_id": …}
    key_text TEXT NOT NULL,             -- the same, to be read by people
    kind TEXT NOT NULL,                 -- missing, extra, different
    database TEXT NOT NULL,
    collection TEXT NOT NULL,
    since TEXT NOT NULL,                -- source clock
    digest BLOB NOT NULL,               -- of the source's document
    counts INTEGER NOT NULL,            -- seen again with the source unchanged
    PRIMARY KEY (collection_id, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS steps (
    position INTEGER NOT NULL,          -- in the order of steps, from 0
    name TEXT PRIMARY KEY,
    attempts INTEGER NOT NULL,
    last_error TEXT NOT NULL,           -- one line; empty while an attempt goes on
    gave_up INTEGER NOT NULL,           -- no further attempt is made by itself
    awaits_tasks INTEGER NOT NULL,      -- something follows the commit
    tasks_done INTEGER NOT NULL,        -- of what follows it, from the first on
    began_at TEXT,                      -- wall clock
    ended_at TEXT
);

-- What a dropped collection has differed in is of no interest any more.
CREATE VIEW IF NOT EXISTS differences AS
    SELECT * FROM suspects
    WHERE collection_id NOT IN (SELECT id FROM collections WHERE is_dropped);

CREATE VIEW IF NOT EXISTS mismatches AS
    SELECT kind, database, collection, key_text, key FROM differences WHERE counts;
