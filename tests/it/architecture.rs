//! `ARCHITECTURE.md`, "Who may use whom": a lower layer does not import a higher one.

use std::path::{Path, PathBuf};

/// For anyone.
const ANYONE: [&str; 7] = ["types", "error", "clock", "wire", "xml", "planted", "token"];

/// Module and what it may use besides [`ANYONE`], lowest first.
const LAYERS: [(&str, &[&str]); 27] = [
    ("planted", &[]),
    ("token", &[]),
    ("types", &[]),
    ("clock", &[]),
    ("wire", &[]),
    ("xml", &[]),
    // Turns the store's failures into its own; the store does not know it.
    ("error", &["store"]),
    ("pki", &[]),
    ("store", &[]),
    ("config", &["pki"]),
    ("edge", &["config"]),
    ("audit", &["store", "pki", "config"]),
    ("access", &["audit", "store", "pki"]),
    ("directory", &["access", "audit", "store", "pki", "config"]),
    ("consent", &["access", "audit", "store", "pki", "config"]),
    ("identity", IDENTITY),
    // `identity` for the form of an identifier.
    ("purge", &["identity", "access", "audit", "store"]),
    ("documents", DOCUMENTS),
    ("federation", FEDERATION),
    ("emergency", EMERGENCY),
    ("gateway", GATEWAY),
    ("api", API),
    ("server", SERVER),
    ("demo", DEMO),
    ("bench", BENCH),
    ("cli", CLI),
    ("main", &["cli"]),
];

const IDENTITY: &[&str] = &["consent", "directory", "access", "audit", "store", "pki"];
/// Beside it, `identity` for the form of an identifier, which both take from messages.
const DOCUMENTS: &[&str] = &[
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
const FEDERATION: &[&str] = &[
    "edge",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
];
const EMERGENCY: &[&str] = &[
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
];
const GATEWAY: &[&str] = &[
    "edge",
    "emergency",
    "purge",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
const API: &[&str] = &[
    "edge",
    "gateway",
    "purge",
    "emergency",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
const SERVER: &[&str] = &[
    "edge",
    "api",
    "gateway",
    "emergency",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
const DEMO: &[&str] = &[
    "server",
    "api",
    "gateway",
    "emergency",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
/// Measures the demo's world.
const BENCH: &[&str] = &[
    "edge",
    "demo",
    "server",
    "api",
    "gateway",
    "emergency",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];
/// The command line starts the other two.
const CLI: &[&str] = &[
    "edge",
    "demo",
    "bench",
    "server",
    "api",
    "gateway",
    "emergency",
    "federation",
    "documents",
    "identity",
    "consent",
    "directory",
    "access",
    "audit",
    "store",
    "pki",
    "config",
];

/// Names that only these places may say. A place is a folder or a file.
const KEPT: [(&str, &[&str]); 8] = [
    ("sled::", &["store/index"]),
    ("fjall::", &["store/index"]),
    ("x509_parser::", &["pki"]),
    (
        "rustls::",
        &[
            "pki",
            "federation/peers.rs",
            "cli/client.rs",
            "server",
            "bench/handshake.rs",
        ],
    ),
    (
        "tokio_rustls::",
        &[
            "pki",
            "federation/peers.rs",
            "cli/client.rs",
            "server",
            "bench/handshake.rs",
            "bench/retrieve.rs",
        ],
    ),
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
    // Only what measures may have answers without records.
    (
        "without_records",
        &["gateway.rs", "api/grpc/door.rs", "bench/rpc.rs"],
    ),
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file under `folder`, by its path inside `src`, without the tests' own files.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path.strip_prefix(sources()).unwrap().to_owned());
        }
    }
}

/// The code of a file, line by line with its number: no comments, and nothing after the tests begin.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut testing = false;
    let lines = text.lines().enumerate().take_while(move |(_, line)| {
        let begins = testing && line.starts_with("mod ") && line.ends_with('{');
        testing = line.trim() == "#[cfg(test)]";
        !begins
    });
    lines
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// The modules of the crate that a line names.
fn named(line: &str) -> impl Iterator<Item = String> {
    line.match_indices("crate::").filter_map(|(at, found)| {
        let before = line[..at].chars().next_back();
        let own = !before.is_some_and(|before| before.is_alphanumeric() || before == '_');
        let rest = &line[at + found.len()..];
        let name: String = rest
            .chars()
            .take_while(|next| next.is_ascii_lowercase() || *next == '_')
            .collect();
        own.then_some(if rest.starts_with('{') {
            "{".to_owned()
        } else {
            name
        })
    })
}

/// What is wrong in one file.
fn violations(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let first = path.components().next().unwrap().as_os_str();
    let own = Path::new(first).file_stem().unwrap().to_string_lossy();
    let own = own.as_ref();
    let mut wrong = Vec::new();
    let layer = LAYERS.iter().find(|(name, _)| *name == own);
    if layer.is_none() && own != "lib" {
        wrong.push(format!("src/{shown}: `{own}` is in no layer"));
    }
    let allowed = layer.map_or(&[][..], |(_, allowed)| *allowed);
    for (number, line) in code(text) {
        for name in named(line) {
            let fine = name == own
                || ANYONE.contains(&name.as_str())
                || allowed.contains(&name.as_str())
                || !LAYERS.iter().any(|(layer, _)| *layer == name);
            if name == "{" {
                wrong.push(format!(
                    "src/{shown}:{number}: one `use crate::…` for each module"
                ));
            } else if !fine {
                wrong.push(format!("src/{shown}:{number}: {own} may not use {name}"));
            }
        }
        for (word, places) in KEPT {
            let said = line.match_indices(word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
            });
            if said && !places.iter().any(|place| path.starts_with(place)) {
                wrong.push(format!("src/{shown}:{number}: {own} may not say {word}"));
            }
        }
    }
    wrong
}

#[test]
fn lower_layers_do_not_use_higher_ones() {
    let mut paths = Vec::new();
    files(&sources(), &mut paths);
    assert!(paths.len() > 100, "{} files only", paths.len());
    paths.sort();
    let wrong: Vec<String> = paths
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(sources().join(path)).unwrap();
            violations(path, &text)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn planted_violations_are_seen() {
    let see = |path: &str, text: &str| violations(Path::new(path), text);
    assert_eq!(
        see(
            "documents/query.rs",
            "//! A door.\n\nuse crate::api::Door;\n"
        ),
        ["src/documents/query.rs:3: documents may not use api"]
    );
    assert_eq!(
        see(
            "store/mod.rs",
            "fn f() {\n    crate::gateway::schema();\n}\n"
        ),
        ["src/store/mod.rs:2: store may not use gateway"]
    );
    assert_eq!(
        see(
            "identity/mod.rs",
            "use sled::Db;\nlet now = jiff::Timestamp::now();\n"
        ),
        [
            "src/identity/mod.rs:1: identity may not say sled::",
            "src/identity/mod.rs:2: identity may not say Timestamp::now",
        ]
    );
    assert_eq!(
        see("api/mod.rs", "use crate::{\n    store::Store,\n};\n"),
        ["src/api/mod.rs:1: one `use crate::…` for each module"]
    );
    assert_eq!(
        see("novel/mod.rs", ""),
        ["src/novel/mod.rs: `novel` is in no layer"]
    );
    assert_eq!(see("gateway.rs", "use crate::cli::main;\n").len(), 1);
}

#[test]
fn what_is_allowed_is_not_complained_of() {
    let see = |path: &str, text: &str| violations(Path::new(path), text);
    let fine = "// use crate::api::Door;\nuse crate::store::Store;\nuse crate::types::Oid;\n";
    assert!(see("documents/query.rs", fine).is_empty());
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::gateway::Gateway;\n}\n";
    assert!(see("documents/query.rs", tests).is_empty());
    assert!(see("store/index/sled.rs", "use sled::Db;\n").is_empty());
    assert!(see("server/mod.rs", "use tokio_rustls::TlsAcceptor;\n").is_empty());
}
