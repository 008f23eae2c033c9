//! How documents are shown.

use crate::cli::names::{coded, dtm, label, octets, text};
use crate::cli::output::Table;
use crate::wire::pb::documents::{AvailabilityStatus, DocumentEntry, ObjectRef, RegistryObjects};

/// Document entries, with what `document retrieve` needs.
pub(crate) fn entries(entries: &[DocumentEntry]) -> Table {
    let mut table = Table::new([
        "Created",
        "Type",
        "Title",
        "Author",
        "Size",
        "Media type",
        "Conf.",
        "Status",
        "Community",
        "Repository",
        "Unique id",
    ]);
    for entry in entries {
        let status = match entry.availability_status() {
            AvailabilityStatus::Approved => String::new(),
            _ => label::<AvailabilityStatus>(entry.availability_status),
        };
        let codes = entry.confidentiality_codes.iter();
        let confidentiality: Vec<&str> = codes.map(|code| code.code.as_str()).collect();
        let (kind, title) = (coded(entry.type_code.as_ref()), text(entry.title.as_ref()));
        table.row([
            dtm(&entry.creation_time),
            kind.clone(),
            if title == kind { String::new() } else { title },
            author(entry),
            entry.size.map(octets).unwrap_or_default(),
            entry.mime_type.clone(),
            confidentiality.join(" "),
            status,
            entry.home_community_id.clone(),
            entry.repository_unique_id.clone(),
            entry.unique_id.clone(),
        ]);
    }
    table
}

fn author(entry: &DocumentEntry) -> String {
    let mut institutions = entry.authors.iter().flat_map(|author| &author.institutions);
    institutions
        .next()
        .map(|one| one.name.clone())
        .unwrap_or_default()
}

/// References without metadata.
pub(crate) fn references(references: &[ObjectRef]) -> Table {
    let mut table = Table::new(["Entry", "Community"]);
    for one in references {
        table.row([one.entry_uuid.clone(), one.home_community_id.clone()]);
    }
    table
}

/// How many objects there are, of every kind.
pub(crate) fn count(objects: &RegistryObjects) -> usize {
    objects.entries.len()
        + objects.submission_sets.len()
        + objects.folders.len()
        + objects.associations.len()
        + objects.object_refs.len()
}
