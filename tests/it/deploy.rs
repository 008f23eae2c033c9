//! What is shipped in `deploy/` is what the node reads.

use std::path::{Path, PathBuf};

use renkei::config::{Config, ExampleRole, example};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("deploy")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect()
}

#[test]
fn every_configuration_is_read() {
    let examples = examples();
    assert!(examples.len() >= 3, "{examples:?}");
    for path in examples {
        let text = std::fs::read_to_string(&path).unwrap();
        let config = Config::parse(&text, []);
        let config = config.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!config.tls.test_profile, "{}", path.display());
        assert!(!config.node.capabilities.is_empty(), "{}", path.display());
    }
}

/// The names of the settings, as `src/config` declares them.
fn settings() -> Vec<String> {
    let files = ["src/config/mod.rs", "src/config/parent.rs"];
    let text: String = files
        .map(|file| std::fs::read_to_string(root().join(file)).unwrap())
        .concat();
    let fields = text.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    pub ")?.split_once(':')?;
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            .then(|| name.to_owned())
    });
    fields.collect()
}

#[test]
fn every_setting_is_in_an_example() {
    let roles = [ExampleRole::Hub, ExampleRole::Region, ExampleRole::Hosted];
    let mut text: String = roles.into_iter().map(example).collect();
    for path in examples() {
        text += &std::fs::read_to_string(path).unwrap();
    }
    let settings = settings();
    assert!(settings.len() > 30, "{settings:?}");
    let shown = |name: &String| {
        text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("{name} =")) || line.starts_with(&format!("[{name}]"))
        })
    };
    let hidden: Vec<_> = settings.iter().filter(|name| !shown(name)).collect();
    assert!(hidden.is_empty(), "in no example: {hidden:?}");
}
