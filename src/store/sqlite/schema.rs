//! The tables, and the pragmas that make acknowledged writes durable.

use rusqlite::Connection;

/// The migrations from each version of the tables to the next, beginning with none. Databases of all versions exist: a
/// step is only ever added, at the end.
const STEPS: &[&str] = &[TABLES, EVENTS, HOLDS, SERVICES];

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
CREATE TABLE progress (project TEXT PRIMARY KEY, progress TEXT NOT NULL) STRICT;
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

/// AUTOINCREMENT: no id is used twice, even if the newest event was removed.
const EVENTS: &str = "
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    project    TEXT,
    generation INTEGER,
    release    INTEGER,
    level      TEXT NOT NULL CHECK (level IN ('info', 'warning')),
    reason     TEXT NOT NULL,
    message    TEXT NOT NULL,
    time       INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL
) STRICT;
CREATE INDEX events_of_project ON events (project, id);
";

/// A requested suspension, which overrides the spec.
const HOLDS: &str = "
ALTER TABLE projects ADD COLUMN hold TEXT;
";

/// A row of `services` is a request; a service without one still has a status.
const SERVICES: &str = "
CREATE TABLE services (
    service    TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    intent     TEXT NOT NULL CHECK (intent IN ('install', 'remove')),
    version    TEXT,
    purge      INTEGER NOT NULL DEFAULT 0,
    owner      TEXT NOT NULL,
    complaint  TEXT,
    progress     TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE service_status (service TEXT PRIMARY KEY, status TEXT NOT NULL) STRICT;
";

/// Configures the connection and creates, migrates or checks the tables.
pub fn prepare(connection: &Connection) -> Result<(), String> {
    settle(connection).map_err(|e| e.to_string())?;
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if found != "ok" {
        return Err(format!("it is damaged: {found}"));
    }
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    match STEPS.get(found..) {
        Some([]) => Ok(()),
        Some(missing) => climb(connection, missing).map_err(|e| format!("could not bring its tables up to date: {e}")),
        None => {
            let known = STEPS.len();
            Err(format!("its tables are of version {found}, this agent knows {known}; use the agent that wrote it"))
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

/// Runs all steps, or none.
fn climb(connection: &Connection, missing: &[&str]) -> rusqlite::Result<()> {
    let version = STEPS.len();
    let done = connection
        .execute_batch(&format!("BEGIN IMMEDIATE; {} PRAGMA user_version = {version}; COMMIT;", missing.concat()));
    done.inspect_err(|_| drop(connection.execute_batch("ROLLBACK")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a database as the agent of that version did.
    fn of_version(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&STEPS[..version].concat()).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        connection
    }

    #[test]
    fn tables_of_every_version_become_the_newest_and_keep_what_they_hold() {
        for version in 1..=STEPS.len() {
            let connection = of_version(version);
            let row = "INSERT INTO projects (project, generation, intent, owner) VALUES ('shop', 7, 'nothing', 'api')";
            connection.execute_batch(row).unwrap();
            prepare(&connection).unwrap();
            let sql = "SELECT generation, hold, (SELECT count(*) FROM events) + (SELECT count(*) FROM services) FROM projects";
            let found: (u64, Option<String>, u64) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            assert_eq!(found, (7, None, 0), "from version {version}");
            let now: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
            assert_eq!(now, STEPS.len());
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_tables_as_they_were() {
        let connection = of_version(1);
        connection.execute_batch("CREATE TABLE events (mine TEXT)").unwrap();
        assert!(prepare(&connection).unwrap_err().contains("could not bring its tables up to date"));
        let now: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(now, 1);
        assert!(connection.is_autocommit());
    }
}
