//! The tables, and the pragmas that keep an acknowledged write.

use rusqlite::Connection;

/// Raised with every change of the tables.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE projects (
    project    TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    intent     TEXT NOT NULL CHECK (intent IN ('run', 'delete', 'nothing')),
    keep_data  INTEGER NOT NULL DEFAULT 0,
    owner      TEXT NOT NULL,
    spec       TEXT,
    overlay    TEXT,
    overlay_by TEXT,
    complaint  TEXT
) STRICT;
-- kind: env or secret. listed: 0 once a secret was removed; its versions stay for the releases that ran with them.
CREATE TABLE sealed (
    project    TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('env', 'secret')),
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    key        TEXT NOT NULL,
    nonce      BLOB NOT NULL,
    body       BLOB NOT NULL,
    listed     INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (project, kind, name, version)
) STRICT;
CREATE TABLE progress (project TEXT PRIMARY KEY, memory TEXT NOT NULL) STRICT;
CREATE TABLE ports (port INTEGER PRIMARY KEY, project TEXT NOT NULL) STRICT;
CREATE TABLE hosts (host TEXT PRIMARY KEY, project TEXT NOT NULL) STRICT;
CREATE TABLE status (project TEXT PRIMARY KEY, status TEXT NOT NULL) STRICT;
CREATE TABLE nonces (
    key TEXT NOT NULL, nonce TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (key, nonce)
) STRICT;
CREATE TABLE deliveries (
    project TEXT NOT NULL, provider TEXT NOT NULL, id TEXT NOT NULL, made INTEGER NOT NULL,
    PRIMARY KEY (project, provider, id)
) STRICT;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
";

/// Sets the connection up and makes or checks the tables.
pub fn prepare(connection: &Connection) -> Result<(), String> {
    settle(connection).map_err(|e| e.to_string())?;
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if found != "ok" {
        return Err(format!("it is damaged: {found}"));
    }
    match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map_err(|e| e.to_string())? {
        0 => make(connection).map_err(|e| e.to_string()),
        VERSION => Ok(()),
        other => {
            Err(format!("its tables are of version {other}, this agent knows {VERSION}; use the agent that wrote it"))
        }
    }
}

/// FULL: a write is acknowledged only when it is on disk. No mmap: it turned a torn log into a torn database elsewhere.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;",
    )
}

fn make(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))
}
