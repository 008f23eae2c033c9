//! Judging an operation: what it would change, or why it is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::search::PatientTag;
use crate::types::LinkageId;

use super::state::{Event, Move, Record, State};
use super::{EventId, MAX_MARKS, Operation, Refusal};

/// The event that `operation` is in `state`. `fresh` gives linkage ids that were never used.
///
/// # Errors
/// Why it is refused.
pub(crate) fn plan(
    state: &State,
    operation: &Operation,
    id: EventId,
    fresh: &mut dyn FnMut() -> LinkageId,
) -> Result<Event, Refusal> {
    let mut event = Event {
        id,
        ..Event::default()
    };
    match operation {
        Operation::Add { tag, domain, joins } => {
            event.domain.clone_from(domain);
            event.moves.push(Move {
                tag: *tag,
                from: None,
                to: joins.unwrap_or_else(fresh),
                before: EventId::default(),
                after: id,
            });
        }
        Operation::Join { tag, to } => {
            let goes = answering(state, *tag)?;
            join(state, &mut event, goes.linkage, *to)?;
        }
        Operation::Merge { survivor, subsumed } => merge(state, &mut event, *survivor, *subsumed)?,
        Operation::Link { first, second } => link(state, &mut event, *first, *second)?,
        Operation::Unlink {
            first,
            second,
            mark,
        } => unlink(state, &mut event, *first, *second, *mark, fresh)?,
        Operation::Split { linkage, groups } => split(state, &mut event, *linkage, groups, fresh)?,
        Operation::Separate { first, second } => separate(state, &mut event, *first, *second)?,
        Operation::Reverse(former) => reverse(state, &mut event, former, fresh),
    }
    retire(state, &mut event);
    Ok(event)
}

fn known(state: &State, tag: PatientTag) -> Result<&Record, Refusal> {
    state.records.get(&tag).ok_or(Refusal::Unknown)
}

/// The record that a record answers to.
fn answering(state: &State, tag: PatientTag) -> Result<&Record, Refusal> {
    state.root(tag).ok_or(Refusal::Unknown)
}

fn going(record: &Record, to: LinkageId, id: EventId) -> Move {
    Move {
        tag: record.tag,
        from: Some(record.linkage),
        to,
        before: record.moved_by,
        after: id,
    }
}

/// Whether a mark holds any of `some` apart from any of `others`.
fn apart<'a>(
    some: impl IntoIterator<Item = &'a Record>,
    others: impl IntoIterator<Item = &'a Record>,
) -> bool {
    let others: BTreeSet<PatientTag> = others.into_iter().map(|record| record.tag).collect();
    let mut some = some.into_iter();
    some.any(|record| !record.not_same.is_disjoint(&others))
}

fn merge(
    state: &State,
    event: &mut Event,
    survivor: PatientTag,
    subsumed: PatientTag,
) -> Result<(), Refusal> {
    let (stays, goes) = (known(state, survivor)?, known(state, subsumed)?);
    if stays.tag == goes.tag {
        return Err(Refusal::Same);
    }
    if stays.domain != goes.domain {
        return Err(Refusal::OtherDomain);
    }
    if stays.merged.is_some() || goes.merged.is_some() {
        return Err(Refusal::Subsumed);
    }
    event.merged.push((subsumed, survivor));
    if stays.linkage == goes.linkage {
        return Ok(());
    }
    let chain = state.chain(goes);
    // The source's word does not break a steward's.
    if apart(chain.iter().copied(), state.members(stays.linkage)) {
        return Err(Refusal::Marked);
    }
    let whole: Vec<&Record> = state.members(goes.linkage).collect();
    event.contradicts = apart(whole.iter().copied(), state.members(stays.linkage));
    let moving = if event.contradicts { chain } else { whole };
    let moves = moving
        .iter()
        .map(|record| going(record, stays.linkage, event.id));
    event.moves = moves.collect();
    Ok(())
}

fn link(
    state: &State,
    event: &mut Event,
    first: PatientTag,
    second: PatientTag,
) -> Result<(), Refusal> {
    let (stays, goes) = (answering(state, first)?, answering(state, second)?);
    if stays.tag == goes.tag {
        return Err(Refusal::Same);
    }
    join(state, event, goes.linkage, stays.linkage)
}

fn join(
    state: &State,
    event: &mut Event,
    goes: LinkageId,
    stays: LinkageId,
) -> Result<(), Refusal> {
    if stays == goes {
        return Err(Refusal::Linked);
    }
    if apart(state.members(stays), state.members(goes)) {
        return Err(Refusal::Marked);
    }
    let moving = state.members(goes);
    event.moves = moving
        .map(|record| going(record, stays, event.id))
        .collect();
    Ok(())
}

fn unlink(
    state: &State,
    event: &mut Event,
    first: PatientTag,
    second: PatientTag,
    mark: bool,
    fresh: &mut dyn FnMut() -> LinkageId,
) -> Result<(), Refusal> {
    let (stays, leaves) = (answering(state, first)?, answering(state, second)?);
    if stays.tag == leaves.tag {
        let same = first == second;
        return Err(if same { Refusal::Same } else { Refusal::Merged });
    }
    let marked = leaves.not_same.contains(&stays.tag);
    if stays.linkage != leaves.linkage && (marked || !mark) {
        return Err(Refusal::NotLinked);
    }
    if mark && !marked {
        event.marked.push((stays.tag, leaves.tag));
    }
    if stays.linkage == leaves.linkage {
        let to = fresh();
        let chain = state.chain(leaves);
        event.moves = chain
            .iter()
            .map(|record| going(record, to, event.id))
            .collect();
    }
    Ok(())
}

fn split(
    state: &State,
    event: &mut Event,
    linkage: LinkageId,
    groups: &[Vec<PatientTag>],
    fresh: &mut dyn FnMut() -> LinkageId,
) -> Result<(), Refusal> {
    let roots = state.members(linkage).filter(|one| one.merged.is_none());
    let all: BTreeSet<PatientTag> = roots.map(|record| record.tag).collect();
    if all.is_empty() {
        return Err(Refusal::Unknown);
    }
    let named: Vec<PatientTag> = groups.iter().flatten().copied().collect();
    let distinct: BTreeSet<PatientTag> = named.iter().copied().collect();
    let divided = distinct == all && named.len() == all.len();
    if groups.len() < 2 || groups.iter().any(Vec::is_empty) || !divided {
        return Err(Refusal::Groups);
    }
    for (index, group) in groups.iter().enumerate() {
        let to = if index == 0 { linkage } else { fresh() };
        for tag in group {
            let root = known(state, *tag)?;
            if index > 0 {
                let chain = state.chain(root);
                let moves = chain.iter().map(|record| going(record, to, event.id));
                event.moves.extend(moves);
            }
            for other in groups.iter().take(index).flatten() {
                if !root.not_same.contains(other) {
                    event.marked.push((*other, *tag));
                }
            }
            if event.marked.len() > MAX_MARKS {
                return Err(Refusal::Groups);
            }
        }
    }
    Ok(())
}

fn separate(
    state: &State,
    event: &mut Event,
    first: PatientTag,
    second: PatientTag,
) -> Result<(), Refusal> {
    let (a, b) = (answering(state, first)?, answering(state, second)?);
    if a.tag == b.tag {
        return Err(Refusal::Same);
    }
    if a.linkage == b.linkage {
        return Err(Refusal::Linked);
    }
    if a.not_same.contains(&b.tag) {
        return Err(Refusal::Marked);
    }
    event.marked.push((a.tag, b.tag));
    Ok(())
}

/// What was marked is unmarked, what was merged is not, and each record whose last move was
/// `former` goes where it was, with what was merged into it.
fn reverse(state: &State, event: &mut Event, former: &Event, fresh: &mut dyn FnMut() -> LinkageId) {
    let marked = |(a, b): &&(PatientTag, PatientTag)| {
        let record = state.records.get(a);
        record.is_some_and(|record| record.not_same.contains(b))
    };
    event.unmarked = former.marked.iter().filter(marked).copied().collect();
    let merged = |(subsumed, _): &&(PatientTag, PatientTag)| {
        let by = state.records.get(subsumed).and_then(|record| record.merged);
        by.is_some_and(|(_, by)| by == former.id)
    };
    event.unmerged = former.merged.iter().filter(merged).copied().collect();
    // The rest is judged as if that were done.
    let mut then = state.clone();
    then.apply(event);
    let steps: BTreeMap<PatientTag, &Move> = former.moves.iter().map(|m| (m.tag, m)).collect();
    for step in &former.moves {
        let Some(record) = then.records.get(&step.tag).cloned() else {
            continue;
        };
        let (Some(back), None) = (step.from, record.merged) else {
            continue; // A new record has nowhere to go back to; a subsumed one follows.
        };
        if record.moved_by != former.id {
            continue;
        }
        // An id that this event ended comes back; one that ended later is where it went.
        let own = former.retired.iter().any(|(ended, _)| *ended == back);
        let back = if own { back } else { then.living(back) };
        let chain: Vec<Record> = then.chain(&record).into_iter().cloned().collect();
        let blocked = record.linkage != back && apart(&chain, then.members(back));
        let to = match blocked {
            false => back,
            // A patient of its own again must leave the survivor's person all the same.
            true if event.unmerged.iter().any(|(tag, _)| *tag == record.tag) => fresh(),
            true => continue,
        };
        for follower in chain {
            let own = steps.get(&follower.tag);
            let own = own.filter(|_| follower.moved_by == former.id);
            let mut step = going(&follower, to, follower.moved_by);
            if let Some(own) = own {
                step.after = own.before;
            }
            let one = Event {
                moves: vec![step.clone()],
                ..Event::default()
            };
            then.apply(&one);
            event.moves.push(step);
        }
    }
}

/// Linkage ids that end, and those that records come back to.
fn retire(state: &State, event: &mut Event) {
    let moved: BTreeMap<PatientTag, LinkageId> =
        event.moves.iter().map(|m| (m.tag, m.to)).collect();
    let mut ended: BTreeMap<LinkageId, LinkageId> = BTreeMap::new();
    for step in &event.moves {
        let Some(from) = step.from.filter(|from| *from != step.to) else {
            continue;
        };
        let staying = state
            .members(from)
            .any(|record| !moved.contains_key(&record.tag));
        let coming = event.moves.iter().any(|other| other.to == from);
        if !staying && !coming {
            ended.entry(from).or_insert(step.to);
        }
    }
    event.retired = ended.into_iter().collect();
    let targets: BTreeSet<LinkageId> = event.moves.iter().map(|m| m.to).collect();
    event.restored = targets
        .into_iter()
        .filter(|to| state.retired.contains_key(to))
        .collect();
}
