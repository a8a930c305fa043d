//! The tables, and the pragmas that keep an acknowledged write.

use rusqlite::Connection;

/// What made the tables what they are, in order. A database of version n has taken the first n steps. A step is never
/// changed once a release has it; the next change is a new step at the end.
const STEPS: [&str; 2] = [TABLES, SERVICES];

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

/// A row of `services` is a wish; what is seen of a service that nobody asked for is worth a status too.
const SERVICES: &str = "
CREATE TABLE services (
    service    TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    intent     TEXT NOT NULL CHECK (intent IN ('install', 'remove')),
    version    TEXT,
    purge      INTEGER NOT NULL DEFAULT 0,
    owner      TEXT NOT NULL,
    complaint  TEXT,
    memory     TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE service_status (service TEXT PRIMARY KEY, status TEXT NOT NULL) STRICT;
";

/// Sets the connection up and makes or checks the tables.
pub fn prepare(connection: &Connection) -> Result<(), String> {
    settle(connection).map_err(|e| e.to_string())?;
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if found != "ok" {
        return Err(format!("it is damaged: {found}"));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    let left = usize::try_from(version).ok().and_then(|taken| STEPS.get(taken..)).ok_or_else(|| {
        format!("its tables are of version {version}, this agent knows {}; use the agent that wrote it", STEPS.len())
    })?;
    if left.is_empty() { Ok(()) } else { take(connection, left).map_err(|e| e.to_string()) }
}

/// FULL: a write is acknowledged only when it is on disk. No mmap: it turned a torn log into a torn database elsewhere.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;",
    )
}

/// Takes the steps that are left, all or none.
fn take(connection: &Connection, left: &[&str]) -> rusqlite::Result<()> {
    let steps = left.concat();
    let done =
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {steps} PRAGMA user_version = {}; COMMIT;", STEPS.len()));
    if done.is_err() {
        connection.execute_batch("ROLLBACK")?;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn a_database_of_any_earlier_version_keeps_its_rows_and_gets_the_tables_of_a_new_one() {
        let new = Connection::open_in_memory().unwrap();
        prepare(&new).unwrap();
        for version in 1..STEPS.len() {
            let old = Connection::open_in_memory().unwrap();
            old.execute_batch(&STEPS[..version].concat()).unwrap();
            old.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
            old.execute_batch("INSERT INTO notes VALUES ('kept', 'yes')").unwrap();
            prepare(&old).unwrap();
            assert_eq!(tables(&old), tables(&new), "from version {version}");
            let kept: String = old.query_row("SELECT value FROM notes", [], |row| row.get(0)).unwrap();
            assert_eq!(kept, "yes");
            prepare(&old).unwrap();
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_database_as_it_was() {
        let old = Connection::open_in_memory().unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute_batch("PRAGMA user_version = 1; CREATE TABLE service_status (x TEXT) STRICT").unwrap();
        let before = tables(&old);
        assert!(prepare(&old).is_err());
        assert_eq!(tables(&old), before);
    }
}
