//! Loading a policy set: parsed, named, validated strictly, every literal known; else refused whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use aws_lc_rs::digest;
use cedar_policy::{
    Effect, Entities, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use data_encoding::HEXLOWER;

use super::memory::{MOST, Memory};
use super::slices::Slices;
use super::{Obligation, Policies, PolicyInfo, PolicyVersion, SCHEMA};
use crate::access::decide::{Action, Denial};
use crate::types::PersonRole;

/// The default set, in the order of its version.
pub(super) const DEFAULT: [(&str, &str); 5] = [
    (
        "10-roles.cedar",
        include_str!("../../../policies/10-roles.cedar"),
    ),
    (
        "20-institutions.cedar",
        include_str!("../../../policies/20-institutions.cedar"),
    ),
    (
        "30-consent.cedar",
        include_str!("../../../policies/30-consent.cedar"),
    ),
    (
        "40-documents.cedar",
        include_str!("../../../policies/40-documents.cedar"),
    ),
    (
        "50-emergency.cedar",
        include_str!("../../../policies/50-emergency.cedar"),
    ),
];
/// Roles, groups and the record.
const ENTITIES: &str = include_str!("../../../policies/entities.json");
/// The file of a folder that takes the place of the default entities.
const ENTITIES_FILE: &str = "entities.json";
/// Policies in a set at most: a set is evaluated for every call.
const MAX_POLICIES: usize = 1_000;
/// Bytes of a policy file at most.
const MAX_FILE: u64 = 1024 * 1024;

/// Why a policy set is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file, or the set, is wrong.
    #[error("{file}: {message}")]
    Wrong {
        /// The file, or the policy.
        file: String,
        /// What is wrong with it.
        message: String,
    },
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "messages and errors are made where they are given"
)]
fn wrong(file: &str, message: impl ToString) -> PolicyError {
    PolicyError::Wrong {
        file: file.to_owned(),
        message: message.to_string(),
    }
}

impl Policies {
    /// The set this program comes with.
    ///
    /// # Errors
    /// Never, for a released program: a test loads it.
    pub fn built_in() -> Result<Self, PolicyError> {
        let files = DEFAULT.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self::load(&files, ENTITIES)
    }

    /// The files of the default set, name and text.
    pub fn default_files() -> impl Iterator<Item = (&'static str, &'static str)> {
        DEFAULT.into_iter()
    }

    /// The entities of the default set.
    pub const fn default_entities() -> &'static str {
        ENTITIES
    }

    /// The set of a folder: its `*.cedar` files in the order of their names, and its
    /// `entities.json` if it has one.
    ///
    /// # Errors
    /// The first thing wrong, with its file.
    pub fn from_folder(folder: &Path) -> Result<Self, PolicyError> {
        let shown = folder.display().to_string();
        let unreadable = |file: String| move |source| PolicyError::Unreadable { file, source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable(shown.clone()))? {
            let path = entry.map_err(unreadable(shown.clone()))?.path();
            if path.extension().is_some_and(|ext| ext == "cedar") {
                names.push(path);
            }
        }
        names.sort();
        if names.is_empty() {
            return Err(wrong(&shown, "has no *.cedar file"));
        }
        let mut files = Vec::new();
        for path in names {
            let name = path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            files.push((name.clone(), read(&path, &name)?));
        }
        let own = folder.join(ENTITIES_FILE);
        let entities = match own.exists() {
            true => read(&own, ENTITIES_FILE)?,
            false => ENTITIES.to_owned(),
        };
        Self::load(&files, &entities)
    }

    /// A set of files and entities.
    ///
    /// # Errors
    /// The first thing wrong, with its file.
    pub fn load(files: &[(String, String)], entities: &str) -> Result<Self, PolicyError> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| wrong("renkei.cedarschema", error))?;
        let entities = entities_of(entities, &schema)?;
        let mut info = BTreeMap::new();
        let mut policies = Vec::new();
        for (file, text) in files {
            let parsed = PolicySet::from_str(text).map_err(|error| wrong(file, error))?;
            if parsed.templates().next().is_some() {
                return Err(wrong(file, "templates are not used here"));
            }
            let mut parsed: Vec<Policy> = parsed.policies().cloned().collect();
            parsed.sort_by_key(|policy| policy.id().to_string());
            for policy in parsed {
                let known = describe(&policy, file)?;
                let policy = policy.new_id(PolicyId::new(&known.id));
                literals(&policy, &known.id, &entities)?;
                if let Some(twice) = info.insert(known.id.clone(), known) {
                    return Err(wrong(file, format!("@id(\"{}\") is used twice", twice.id)));
                }
                policies.push(policy);
            }
        }
        if policies.len() > MAX_POLICIES {
            return Err(wrong(
                "set",
                format!("has more than {MAX_POLICIES} policies"),
            ));
        }
        validate(&policies, &schema)?;
        Ok(Self {
            version: version(files, &entities),
            slices: Slices::cut(&policies, &entities).map_err(|error| wrong("set", error))?,
            info,
            entities,
            memory: Memory::new(MOST),
        })
    }

    /// The same set, which works out every verdict anew: for measuring that.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self {
            memory: Memory::new(0),
            ..self
        }
    }
}

fn read(path: &Path, name: &str) -> Result<String, PolicyError> {
    let unreadable = |source| PolicyError::Unreadable {
        file: name.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(wrong(name, format!("is larger than {MAX_FILE} bytes")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// The entities, which must have every role there is and every action.
fn entities_of(text: &str, schema: &Schema) -> Result<Entities, PolicyError> {
    let entities =
        Entities::from_json_str(text, Some(schema)).map_err(|error| wrong(ENTITIES_FILE, error))?;
    for role in PersonRole::ALL {
        let uid =
            super::facts::uid("Role", role.code()).map_err(|error| wrong(ENTITIES_FILE, error))?;
        if entities.get(&uid).is_none() {
            return Err(wrong(ENTITIES_FILE, format!("has no {uid}")));
        }
    }
    for action in Action::ALL {
        let uid = super::facts::uid("Action", action.name())
            .map_err(|error| wrong("renkei.cedarschema", error))?;
        if entities.get(&uid).is_none() {
            return Err(wrong("renkei.cedarschema", format!("has no {uid}")));
        }
    }
    Ok(entities)
}

fn describe(policy: &Policy, file: &str) -> Result<PolicyInfo, PolicyError> {
    let id = policy
        .annotation("id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| wrong(file, format!("{} has no @id(\"…\")", policy.id())))?
        .to_owned();
    let forbids = policy.effect() == Effect::Forbid;
    let reason = match policy.annotation("reason") {
        None => Denial::Policy,
        Some(name) => Denial::of_name(name)
            .ok_or_else(|| wrong(file, format!("{id}: @reason(\"{name}\") is not a reason")))?,
    };
    let obligation = match policy.annotation("obligation") {
        None => None,
        Some(_) if forbids => {
            return Err(wrong(
                file,
                format!("{id}: what forbids obliges to nothing"),
            ));
        }
        Some(name) => Some(
            Obligation::of_name(name)
                .ok_or_else(|| wrong(file, format!("{id}: @obligation(\"{name}\") is not one")))?,
        ),
    };
    Ok(PolicyInfo {
        doc: policy.annotation("doc").unwrap_or_default().to_owned(),
        file: file.to_owned(),
        id,
        forbids,
        reason,
        obligation,
    })
}

/// A role or group that does not exist is a policy that never applies: it is refused. Members of
/// enumerated types and actions are the validator's.
fn literals(policy: &Policy, id: &str, entities: &Entities) -> Result<(), PolicyError> {
    let named = |uid: &EntityUid| {
        matches!(
            uid.type_name().basename(),
            "Role" | "RoleGroup" | "Records" | "Action"
        )
    };
    let literals = policy.entity_literals();
    match literals
        .iter()
        .find(|uid| named(uid) && entities.get(uid).is_none())
    {
        Some(unknown) => Err(wrong(id, format!("{unknown} does not exist"))),
        None => Ok(()),
    }
}

fn validate(policies: &[Policy], schema: &Schema) -> Result<(), PolicyError> {
    let set =
        PolicySet::from_policies(policies.iter().cloned()).map_err(|error| wrong("set", error))?;
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors: Vec<String> = result
        .validation_errors()
        .map(ToString::to_string)
        .collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(wrong("set", errors.join("; "))),
    }
}

fn version(files: &[(String, String)], entities: &Entities) -> PolicyVersion {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(SCHEMA.as_bytes());
    for (name, text) in files {
        part(name.as_bytes());
        part(text.as_bytes());
    }
    let mut groups: Vec<String> = PersonRole::ALL
        .iter()
        .filter_map(|role| super::facts::uid("Role", role.code()).ok())
        .map(|role| {
            let mut of: Vec<String> = entities
                .ancestors(&role)
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            of.sort();
            format!("{role} {}", of.join(" "))
        })
        .collect();
    groups.sort();
    for group in groups {
        part(group.as_bytes());
    }
    let hash = context.finish();
    let short = hash.as_ref().get(..16).unwrap_or(hash.as_ref());
    PolicyVersion(HEXLOWER.encode(short).into())
}
