//! Sequences of changes equal a reference model that knows the rules and nothing of rows.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One change, of documents and folders by their place among all that ever were (modulo how many).
#[derive(Clone, Debug)]
enum Op {
    Register,
    Relate(Type, usize),
    Folder,
    Put(usize, usize),
    Update {
        of: usize,
        propagate: bool,
        late: bool,
    },
    Status(usize, bool),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let relation = prop_oneof![
        3 => Just(Type::Rplc),
        2 => Just(Type::Apnd),
        2 => Just(Type::Xfrm),
        1 => Just(Type::XfrmRplc),
        1 => Just(Type::Signs),
    ];
    prop_oneof![
        2 => Just(Op::Register),
        6 => (relation, 0_usize..12).prop_map(|(kind, of)| Op::Relate(kind, of)),
        1 => Just(Op::Folder),
        3 => (0_usize..4, 0_usize..12).prop_map(|(folder, of)| Op::Put(folder, of)),
        3 => (0_usize..12, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(of, propagate, late)| Op::Update { of, propagate, late }),
        2 => (0_usize..12, any::<bool>()).prop_map(|(of, approve)| Op::Status(of, approve)),
        2 => (0_usize..12).prop_map(Op::Remove),
    ]
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a model says it plainly")]
struct Document {
    uuid: String,
    logical: usize,
    version: u32,
    approved: bool,
    superseded: bool,
    removed: bool,
    /// The set that brought it has it as its only member.
    alone: bool,
}

/// An end: a document or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Document(usize),
    Folder(usize),
}

#[derive(Clone, Debug)]
struct Edge {
    kind: Type,
    from: Thing,
    to: usize,
    approved: bool,
}

#[derive(Debug, Default)]
struct Model {
    documents: Vec<Document>,
    folders: Vec<String>,
    edges: Vec<Edge>,
}

impl Model {
    fn add(&mut self, uuid: String, logical: Option<(usize, u32)>) -> usize {
        let at = self.documents.len();
        let (logical, version) = logical.unwrap_or((at, 1));
        self.documents.push(Document {
            uuid,
            logical,
            version,
            approved: true,
            superseded: false,
            removed: false,
            alone: true,
        });
        at
    }

    /// Why a document may be no end of a new relation.
    fn unfit(&self, of: usize) -> Option<Reason> {
        let document = &self.documents[of];
        if document.removed {
            Some(Reason::UnresolvedReference)
        } else if !document.approved || document.superseded {
            Some(Reason::DeprecatedObject)
        } else {
            None
        }
    }

    fn edge(&mut self, kind: Type, from: Thing, to: usize) {
        self.edges.push(Edge {
            kind,
            from,
            to,
            approved: true,
        });
    }

    fn replace(&mut self, new: usize, old: usize) {
        self.documents[old].approved = false;
        let mut open = vec![old];
        let mut seen = BTreeSet::from([old, new]);
        while let Some(of) = open.pop() {
            for edge in self.edges.clone() {
                let belongs = matches!(edge.kind, Type::Apnd | Type::Xfrm);
                let Thing::Document(from) = edge.from else {
                    continue;
                };
                if belongs && edge.approved && edge.to == of && seen.insert(from) {
                    self.documents[from].approved = false;
                    open.push(from);
                }
            }
        }
        for edge in self.edges.clone() {
            let member = matches!(edge.from, Thing::Folder(_)) && edge.approved;
            let has = |edges: &[Edge]| {
                edges
                    .iter()
                    .any(|other| other.from == edge.from && other.to == new)
            };
            if member && edge.to == old && !has(&self.edges) {
                self.edge(Type::HasMember, edge.from, new);
                self.documents[new].alone = false;
            }
        }
    }

    fn latest(&self, logical: usize) -> Option<usize> {
        let versions = self.documents.iter().enumerate();
        let versions =
            versions.filter(|(_, document)| document.logical == logical && !document.removed);
        versions
            .max_by_key(|(_, document)| document.version)
            .map(|(at, _)| at)
    }

    fn is_touched(&self, of: usize) -> bool {
        let touches = |edge: &Edge| edge.to == of || edge.from == Thing::Document(of);
        self.edges.iter().any(touches)
    }
}

fn first(outcome: Outcome) -> std::result::Result<Vec<(String, String)>, Reason> {
    outcome.map_err(|faults| faults[0].0)
}

/// Makes a change in both, and says whether they agree on its outcome.
fn step(registry: &mut Registry, model: &mut Model, op: &Op) {
    let count = model.documents.len();
    match op.clone() {
        Op::Register => {
            let uuid = registry.document(vec![]).unwrap();
            model.add(uuid, None);
        }
        Op::Folder => {
            let uuid = registry.folder(&[]);
            model.folders.push(uuid);
        }
        _ if count == 0 => {}
        Op::Relate(kind, of) => relate(registry, model, kind, of % count),
        Op::Put(_, _) if model.folders.is_empty() => {}
        Op::Put(folder, of) => {
            let (folder, of) = (folder % model.folders.len(), of % count);
            let mut submission = registry.submission();
            let target = &model.documents[of].uuid;
            let source = &model.folders[folder];
            submission.associations = vec![association(Type::HasMember, source, target)];
            let got = first(registry.submit(submission, Transaction::Provide));
            assert_eq!(got.clone().err(), model.unfit(of), "{op:?}");
            if got.is_ok() {
                model.edge(Type::HasMember, Thing::Folder(folder), of);
            }
        }
        Op::Update {
            of,
            propagate,
            late,
        } => update(registry, model, of % count, propagate, late),
        Op::Status(of, approve) => status(registry, model, of % count, approve),
        Op::Remove(of) => remove(registry, model, of % count),
    }
}

fn relate(registry: &mut Registry, model: &mut Model, kind: Type, of: usize) {
    let target = model.documents[of].uuid.clone();
    let relation = vec![association(kind, "doc", &target)];
    let got = registry.document(relation).map_err(|faults| faults[0].0);
    let transformed =
        |edge: &Edge| edge.from == Thing::Document(of) && edge.kind == Type::Xfrm && edge.approved;
    let expected = model.unfit(of).or_else(|| {
        (kind == Type::Apnd && model.edges.iter().any(transformed)).then_some(Reason::InvalidField)
    });
    assert_eq!(got.clone().err(), expected, "{kind:?} {of}");
    let Ok(uuid) = got else { return };
    let new = model.add(uuid, None);
    model.edge(kind, Thing::Document(new), of);
    if matches!(kind, Type::Rplc | Type::XfrmRplc) {
        model.replace(new, of);
    }
}

fn update(registry: &mut Registry, model: &mut Model, of: usize, propagate: bool, late: bool) {
    let logical = model.documents[of].logical;
    let Some(latest) = model.latest(logical) else {
        return;
    };
    let (uuid, version) = (
        model.documents[latest].uuid.clone(),
        model.documents[latest].version,
    );
    let previous = if late { version - 1 } else { version };
    let mut submission = super::update::update_of(registry, &uuid, previous);
    submission.associations[0].association_propagation = Some(propagate);
    let got = first(registry.submit(submission, Transaction::Update));
    let expected = if late {
        Some(Reason::VersionConflict)
    } else if model.documents[latest].approved {
        None
    } else {
        Some(Reason::UpdateRefused)
    };
    assert_eq!(got.clone().err(), expected, "update of {latest}");
    let Ok(assigned) = got else { return };
    let new = model.add(named(&assigned, "new"), Some((logical, version + 1)));
    let old = &mut model.documents[latest];
    (old.approved, old.superseded) = (false, true);
    if !propagate {
        return;
    }
    for at in 0..model.edges.len() {
        let mut copy = model.edges[at].clone();
        let here = Thing::Document(latest);
        if !copy.approved || (copy.to != latest && copy.from != here) {
            continue;
        }
        model.edges[at].approved = false;
        if copy.to == latest {
            copy.to = new;
        }
        if copy.from == here {
            copy.from = Thing::Document(new);
        }
        model.documents[new].alone &= copy.kind != Type::HasMember;
        model.edges.push(copy);
    }
}

fn status(registry: &mut Registry, model: &mut Model, of: usize, approve: bool) {
    let (original, new) = if approve {
        (DEPRECATED, APPROVED)
    } else {
        (APPROVED, DEPRECATED)
    };
    let mut submission = registry.submission();
    submission.associations.push(pb::Association {
        original_status: original,
        new_status: new,
        ..association(
            Type::UpdateAvailabilityStatus,
            "set",
            &model.documents[of].uuid,
        )
    });
    let got = first(registry.submit(submission, Transaction::Update));
    let document = &model.documents[of];
    let expected = if document.removed {
        Some(Reason::UnresolvedReference)
    } else if document.superseded || document.approved == approve {
        Some(Reason::UpdateRefused)
    } else {
        None
    };
    assert_eq!(got.clone().err(), expected, "status of {of}");
    if got.is_ok() {
        model.documents[of].approved = approve;
        // The trigger is an association of its set to the document: it touches it for good.
        model.documents[of].alone = false;
    }
}

fn remove(registry: &mut Registry, model: &mut Model, of: usize) {
    let document = model.documents[of].clone();
    if document.removed {
        let got = registry.remove(&[&document.uuid]);
        assert_eq!(got, Err(vec![Reason::UnresolvedReference]));
        return;
    }
    let (set, member) = registry.membership(&document.uuid);
    let got = registry.remove(&[&document.uuid, &member, &set]);
    let free = document.alone && !model.is_touched(of);
    assert_eq!(got.is_ok(), free, "removal of {of}: {got:?}");
    if let Err(reasons) = got {
        assert!(reasons.contains(&Reason::ReferencesExist), "{reasons:?}");
        return;
    }
    model.documents[of].removed = true;
    if let Some(latest) = model.latest(document.logical) {
        model.documents[latest].superseded = false;
    }
}

/// Whether the registry is what the model says.
fn compare(registry: &Registry, model: &Model) {
    for (at, document) in model.documents.iter().enumerate() {
        let row = registry.row(&document.uuid);
        assert_eq!(row.is_none(), document.removed, "{at}");
        let Some(row) = row else { continue };
        assert_eq!(row.superseded, document.superseded, "{at}");
        assert_eq!(is_approved_entry(&row), document.approved, "{at}");
        assert_eq!(row.entry.unwrap().version, document.version, "{at}");
        let mut folders: Vec<String> = model
            .edges
            .iter()
            .filter(|edge| edge.to == at && edge.approved)
            .filter_map(|edge| match edge.from {
                Thing::Folder(folder) => Some(model.folders[folder].clone()),
                Thing::Document(_) => None,
            })
            .collect();
        folders.sort();
        folders.dedup();
        assert_eq!(
            registry.folders_of(&document.uuid),
            folders,
            "folders of {at}"
        );
    }
}

/// Sequences tried; `RENKEI_TIER=full` tries many more.
fn cases() -> ProptestConfig {
    let full = std::env::vars().any(|(name, tier)| name == "RENKEI_TIER" && tier != "quick");
    ProptestConfig::with_cases(if full { 1_000 } else { 32 })
}

proptest! {
    #![proptest_config(cases())]

    /// proptest prints the sequence that fails, made as short as it can, and its seed.
    #[test]
    fn sequences_equal_the_model(ops in proptest::collection::vec(op(), 1..24)) {
        let mut registry = Registry::new();
        let mut model = Model::default();
        for op in &ops {
            step(&mut registry, &mut model, op);
            compare(&registry, &model);
        }
    }
}
