//! The rules of `buf`'s STANDARD lint over the compiled descriptors, and a snapshot of the wire format.
//!
//! Numbers and types of fields are what other vendors have compiled in: a change of
//! `snapshots/wire.txt` other than new lines breaks them. After a wanted change, write it anew with
//! `RENKEI_UPDATE_SNAPSHOTS=1 cargo test --test it proto_lint`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

/// Methods that only read begin with one of these; all others need an idempotency key.
const READS: [&str; 16] = [
    "Check", "Compare", "Discover", "Export", "Find", "Get", "Identify", "List", "Locate", "Match",
    "Ping", "Query", "Report", "Retrieve", "Search", "Watch",
];

// Field numbers inside descriptor.proto, which make up the paths of `SourceCodeInfo`.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_ONEOF: i32 = 8;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

#[test]
fn interface_follows_buf_standard() {
    let files = files();
    let mut lint = Lint::default();
    for file in &files {
        lint.file(file);
    }
    lint.unique_requests(&files);
    lint.writes_have_idempotency_keys(&files);
    assert!(lint.faults.is_empty(), "\n{}", lint.faults.join("\n"));
}

#[test]
fn wire_format_is_as_recorded() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots/wire.txt");
    let current = wire_format(&files());
    if std::env::var_os("RENKEI_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&recorded, &current).unwrap();
    }
    let recorded = std::fs::read_to_string(&recorded).unwrap_or_default();
    let old: BTreeSet<&str> = recorded.lines().collect();
    let new: BTreeSet<&str> = current.lines().collect();
    let gone: Vec<_> = old
        .difference(&new)
        .map(|line| format!("- {line}"))
        .collect();
    let come: Vec<_> = new
        .difference(&old)
        .map(|line| format!("+ {line}"))
        .collect();
    assert!(
        recorded == current,
        "the wire format has changed (lines with - break clients):\n{}\n{}",
        gone.join("\n"),
        come.join("\n"),
    );
}

/// The lint must see each kind of fault: a rule that never fires protects nothing.
#[test]
fn lint_sees_planted_faults() {
    type Spoil = fn(&mut FileDescriptorProto);
    let plant: [(&str, Spoil); 9] = [
        ("package", |file| set(&mut file.package, "renkei.common.v2")),
        ("PascalCase", |file| {
            set(&mut file.message_type[0].name, "bad_name");
        }),
        ("lower_snake_case", |file| {
            set(&mut file.message_type[0].field[0].name, "badName");
        }),
        ("comment", |file| file.source_code_info = None),
        ("UNSPECIFIED", |file| {
            set(&mut file.enum_type[0].value[0].name, "FEED_EVENT_NONE");
        }),
        ("prefix", |file| {
            set(&mut file.enum_type[0].value[1].name, "OTHER");
        }),
        ("Service", |file| set(&mut file.service[0].name, "Identity")),
        ("request", |file| {
            set(&mut file.service[0].method[0].input_type, ".a.v1.Any");
        }),
        ("response", |file| {
            set(&mut file.service[0].method[0].output_type, ".a.v1.Any");
        }),
    ];
    let good = files()
        .into_iter()
        .find(|file| file.name() == "renkei/identity/v1/identity.proto")
        .unwrap();
    for (rule, spoil) in plant {
        let mut bad = good.clone();
        spoil(&mut bad);
        let mut lint = Lint::default();
        lint.file(&bad);
        assert!(
            lint.faults.iter().any(|fault| fault.contains(rule)),
            "{rule}: {:?}",
            lint.faults
        );
    }
}

fn set(name: &mut Option<String>, value: &str) {
    *name = Some(value.to_owned());
}

/// Our own files, without Google's.
fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(renkei::wire::DESCRIPTORS).unwrap_or_default();
    let ours: Vec<_> = set
        .file
        .into_iter()
        .filter(|file| file.name().starts_with("renkei/"))
        .collect();
    assert!(!ours.is_empty(), "no descriptors");
    ours
}

#[derive(Default)]
struct Lint {
    faults: Vec<String>,
    /// Paths of the elements of the current file that have a leading comment.
    commented: BTreeSet<Vec<i32>>,
    /// Name of the current file.
    at: String,
}

impl Lint {
    fn check(&mut self, holds: bool, element: &str, rule: &str) {
        if !holds {
            self.faults.push(format!("{}: {element}: {rule}", self.at));
        }
    }

    fn comment(&mut self, path: &[i32], element: &str) {
        let there = self.commented.contains(path);
        self.check(there, element, "has no leading comment");
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        file.name().clone_into(&mut self.at);
        self.commented = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|place| !place.leading_comments().trim().is_empty())
            .map(|place| place.path.clone())
            .collect();
        let (folder, stem) = file.name().rsplit_once('/').unwrap_or_default();
        let stem = stem.trim_end_matches(".proto");
        self.check(file.syntax() == "proto3", file.name(), "is not proto3");
        self.check(is_snake(stem), file.name(), "is not lower_snake_case");
        self.check(
            folder.replace('/', ".") == file.package(),
            file.package(),
            "package: not its folder",
        );
        let version = file.package().rsplit('.').next().unwrap_or_default();
        let numbered = version
            .strip_prefix('v')
            .is_some_and(|digits| digits.parse::<u32>().is_ok());
        self.check(numbered, file.package(), "package: no version suffix");
        self.check(
            file.public_dependency.is_empty(),
            file.name(),
            "imports publicly",
        );
        for import in &file.dependency {
            let known = import.starts_with("renkei/") || import.starts_with("google/protobuf/");
            self.check(
                known,
                import,
                "import: only our own and the well-known types",
            );
        }
        self.comment(&[12], "syntax");
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(message, &[FILE_MESSAGE, index]);
        }
        for (index, enumeration) in (0..).zip(&file.enum_type) {
            self.enumeration(enumeration, &[FILE_ENUM, index]);
        }
        for (index, service) in (0..).zip(&file.service) {
            self.service(service, index);
        }
    }

    fn message(&mut self, message: &DescriptorProto, path: &[i32]) {
        if message
            .options
            .as_ref()
            .is_some_and(prost_types::MessageOptions::map_entry)
        {
            return;
        }
        self.check(
            is_pascal(message.name()),
            message.name(),
            "is not PascalCase",
        );
        self.comment(path, message.name());
        let below = |kind, index| [path, &[kind, index]].concat();
        for (index, field) in (0..).zip(&message.field) {
            let name = format!("{}.{}", message.name(), field.name());
            self.check(is_snake(field.name()), &name, "is not lower_snake_case");
            self.comment(&below(MESSAGE_FIELD, index), &name);
        }
        for (index, oneof) in (0..).zip(&message.oneof_decl) {
            // The compiler makes one for each `optional` field.
            if !oneof.name().starts_with('_') {
                let name = format!("{}.{}", message.name(), oneof.name());
                self.check(is_snake(oneof.name()), &name, "is not lower_snake_case");
                self.comment(&below(MESSAGE_ONEOF, index), &name);
            }
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(nested, &below(MESSAGE_NESTED, index));
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(nested, &below(MESSAGE_ENUM, index));
        }
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptorProto, path: &[i32]) {
        let prefix = format!("{}_", upper_snake(enumeration.name()));
        self.check(
            is_pascal(enumeration.name()),
            enumeration.name(),
            "is not PascalCase",
        );
        self.comment(path, enumeration.name());
        let first = enumeration.value.first();
        let zero = first.is_some_and(|value| {
            value.number() == 0 && value.name() == format!("{prefix}UNSPECIFIED")
        });
        self.check(
            zero,
            enumeration.name(),
            "does not begin with 0, ..._UNSPECIFIED",
        );
        let aliases = enumeration
            .options
            .as_ref()
            .is_some_and(prost_types::EnumOptions::allow_alias);
        self.check(!aliases, enumeration.name(), "has aliases");
        for (index, value) in (0..).zip(&enumeration.value) {
            self.check(
                value.name().starts_with(&prefix),
                value.name(),
                "lacks the enum's prefix",
            );
            self.comment(&[path, &[ENUM_VALUE, index]].concat(), value.name());
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, index: i32) {
        let service_name = service.name();
        self.check(is_pascal(service_name), service_name, "is not PascalCase");
        self.check(
            service_name.ends_with("Service"),
            service_name,
            "is not called ...Service",
        );
        self.comment(&[FILE_SERVICE, index], service_name);
        for (at, method) in (0..).zip(&service.method) {
            let name = method.name();
            self.check(is_pascal(name), name, "is not PascalCase");
            self.comment(&[FILE_SERVICE, index, SERVICE_METHOD, at], name);
            for (message, end, what) in [
                (
                    method.input_type(),
                    "Request",
                    "request has not the name of its method",
                ),
                (
                    method.output_type(),
                    "Response",
                    "response has not the name of its method",
                ),
            ] {
                let message = message.rsplit('.').next().unwrap_or_default();
                let fits = message == format!("{name}{end}")
                    || message == format!("{service_name}{name}{end}");
                self.check(fits, name, what);
            }
        }
    }

    /// No message is the request or response of two methods.
    fn unique_requests(&mut self, files: &[FileDescriptorProto]) {
        let mut uses: BTreeMap<&str, u32> = BTreeMap::new();
        for method in methods(files) {
            *uses.entry(method.input_type()).or_default() += 1;
            *uses.entry(method.output_type()).or_default() += 1;
        }
        for (message, count) in uses {
            self.check(count == 1, message, "is used by several methods");
        }
    }

    /// A write has an idempotency key; that of a client stream is in one of its parts.
    fn writes_have_idempotency_keys(&mut self, files: &[FileDescriptorProto]) {
        let messages: BTreeMap<String, &DescriptorProto> = files
            .iter()
            .flat_map(|file| {
                let package = file.package();
                file.message_type
                    .iter()
                    .map(move |message| (format!(".{package}.{}", message.name()), message))
            })
            .collect();
        let keyed = |name: &str| {
            messages.get(name).is_some_and(|message| {
                message
                    .field
                    .iter()
                    .any(|field| field.name() == "idempotency_key")
            })
        };
        for method in methods(files) {
            let reads = READS.iter().any(|verb| method.name().starts_with(verb));
            let in_part = messages.get(method.input_type()).is_some_and(|message| {
                method.client_streaming() && message.field.iter().any(|f| keyed(f.type_name()))
            });
            let key = keyed(method.input_type()) || in_part;
            self.check(
                reads != key,
                method.name(),
                "a write, and only a write, has an idempotency_key",
            );
        }
    }
}

fn methods(files: &[FileDescriptorProto]) -> impl Iterator<Item = &MethodDescriptorProto> {
    files
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
}

/// One line for each thing that a client compiles in, in a fixed order.
fn wire_format(files: &[FileDescriptorProto]) -> String {
    let mut lines = Vec::new();
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|file| file.name().to_owned());
    for file in files {
        let package = file.package();
        for message in &file.message_type {
            wire_message(&mut lines, package, message);
        }
        for enumeration in &file.enum_type {
            for value in &enumeration.value {
                let (owner, name) = (enumeration.name(), value.name());
                lines.push(format!("{package}.{owner}.{name} = {}", value.number()));
            }
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |on| if on { "stream " } else { "" };
                lines.push(format!(
                    "{package}.{}/{}: {}{} -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines.join("\n") + "\n"
}

fn wire_message(lines: &mut Vec<String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        let place = field
            .oneof_index
            .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        let place = match place {
            Some(_) if field.proto3_optional() => "optional ".to_owned(),
            Some(oneof) => format!("oneof {} ", oneof.name()),
            None if field.label() == Label::Repeated => "repeated ".to_owned(),
            None => String::new(),
        };
        lines.push(format!(
            "{name}.{} = {}: {place}{}",
            field.name(),
            field.number(),
            type_of(field)
        ));
    }
    for nested in &message.nested_type {
        wire_message(lines, &name, nested);
    }
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

fn is_snake(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.contains("__")
        && !name.ends_with('_')
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// `RegionState` → `REGION_STATE`.
fn upper_snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if index > 0 && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}
