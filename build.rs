//! Compiles `proto/` with protox, a protobuf compiler in Rust: building needs no `protoc`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/emergency/extract");
    println!("cargo:rustc-env=RENKEI_EXTRACTION={}", extraction()?);
    let mut protos = Vec::new();
    files(Path::new("proto"), "proto", &mut protos)?;
    protos.sort();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is unset")?);
    if protos.is_empty() {
        fs::write(out.join("descriptors.bin"), [])?;
        fs::write(out.join("pb.rs"), "")?;
        fs::write(out.join("audit_events.rs"), audit_events("", &[])?)?;
        return Ok(());
    }
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&protos)?;
    let descriptors = compiler.file_descriptor_set();
    // Read by server reflection and by the lint in `tests/it/proto_lint.rs`.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let table = fs::read_to_string("proto/audit-events.txt")?;
    fs::write(
        out.join("audit_events.rs"),
        audit_events(&table, &methods(&descriptors))?,
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// A hash of the sources of extraction (FNV-1a, 64 bits): what was read by another build's rules is read
/// again. Not for security; two builds just must not look alike by chance.
fn extraction() -> Result<String, Box<dyn Error>> {
    let mut sources = Vec::new();
    files(Path::new("src/emergency/extract"), "rs", &mut sources)?;
    sources.sort();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for source in sources {
        for byte in fs::read(source)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

/// The full name of every method of the project's own services.
fn methods(descriptors: &prost_types::FileDescriptorSet) -> Vec<String> {
    let mut all = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let names = service
                .method
                .iter()
                .map(prost_types::MethodDescriptorProto::name);
            let full = |name| format!("{}.{}/{name}", file.package(), service.name());
            all.extend(names.map(full));
        }
    }
    all
}

/// A table of the audit event of every method (`proto/audit-events.txt`), as Rust. A method without a
/// line fails the build.
fn audit_events(table: &str, methods: &[String]) -> Result<String, Box<dyn Error>> {
    let mut declared = Vec::new();
    let mut rows = Vec::new();
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, action, transaction] = words[..] else {
            return Err(
                format!("proto/audit-events.txt: {line}: METHOD ACTION TRANSACTION").into(),
            );
        };
        let action = match action {
            "C" => "Create",
            "R" => "Read",
            "U" => "Update",
            "D" => "Delete",
            "E" => "Execute",
            other => return Err(format!("proto/audit-events.txt: {other} is no action").into()),
        };
        let transaction = if transaction == "-" { "" } else { transaction };
        rows.push(format!(
            "    ({method:?}, pb::Action::{action}, {transaction:?}),"
        ));
        if declared.contains(&method) {
            return Err(format!("proto/audit-events.txt: {method} is there twice").into());
        }
        declared.push(method);
    }
    for method in methods {
        if !declared.contains(&method.as_str()) {
            return Err(format!("{method} has no audit event in proto/audit-events.txt").into());
        }
    }
    let known = |method: &&&str| methods.iter().any(|one| one == **method);
    let edge = |method: &&&str| method.starts_with("edge/");
    if let Some(unknown) = declared
        .iter()
        .find(|method| !known(method) && !edge(method))
    {
        return Err(format!("proto/audit-events.txt: there is no method {unknown}").into());
    }
    // Sorted by method, to be searched.
    rows.sort();
    let (count, rows) = (rows.len(), rows.join("\n"));
    let kind = format!("[(&str, pb::Action, &str); {count}]");
    Ok(format!("static DECLARED: {kind} = [\n{rows}\n];\n"))
}

/// The files under a folder whose names end so.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, ending, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
    Ok(())
}
