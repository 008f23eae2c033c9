//! A region goes down: the answer says so; it comes back: the answer is whole again.

use anyhow::{Context as _, Result};

use crate::demo::messages;
use crate::demo::network::Network;
use crate::demo::report::Checked;
use crate::wire::pb::common as cpb;
use crate::wire::pb::emergency as pb;

use super::across::{Merged, find};
use super::emergency::get_summary;
use super::ensure;

async fn ask(network: &Network, truth: usize) -> Result<Merged> {
    let record = network.record(truth, 0)?;
    let institution = network.institution(record)?;
    let physician = network.physician(0, institution)?;
    Ok(find(
        &physician,
        messages::patient_id(institution, &record.local_id),
    )
    .await?)
}

/// Kills the last region that holds something for the emergency's patient.
pub(crate) async fn region_down(network: &mut Network) -> Checked {
    let truth = network.sample.scenario.emergency;
    let person = network.sample.person(truth).context("no such person")?;
    let down = person
        .records
        .iter()
        .map(|record| record.region)
        .max()
        .context("no record")?;
    let home = network
        .world
        .regions
        .get(down)
        .context("no such region")?
        .home
        .clone();
    let before = ask(network, truth).await?;
    ensure(before.completeness.complete, || {
        "not complete before".into()
    })?;

    network
        .regions
        .get_mut(down)
        .context("no such region")?
        .kill()
        .await?;
    let partial = ask(network, truth).await?;
    ensure(!partial.completeness.complete, || {
        "a partial answer was called complete".into()
    })?;
    ensure(
        partial.state(&home) == Some(cpb::RegionState::Unreachable),
        || {
            format!(
                "the region that is down is reported as {:?}",
                partial.state(&home)
            )
        },
    )?;
    ensure(!partial.entries.is_empty(), || {
        "the other regions' answers are missing".into()
    })?;
    let named = summary_names(network, truth, &home).await?;
    ensure(named, || {
        "the summary does not name the region it could not ask".into()
    })?;

    network
        .regions
        .get_mut(down)
        .context("no such region")?
        .restart()
        .await?;
    let after = ask(network, truth).await?;
    ensure(after.completeness.complete, || {
        "not complete after the region came back".into()
    })?;
    ensure(after.entries.len() == before.entries.len(), || {
        "entries were lost".into()
    })?;
    Ok(vec![
        format!(
            "region {down} killed: {} of {} documents listed, complete = false, that region \
             UNREACHABLE",
            partial.entries.len(),
            before.entries.len()
        ),
        "the emergency summary names the region that could not be asked".to_owned(),
        "region restarted: the same documents again, complete".to_owned(),
    ])
}

async fn summary_names(network: &Network, truth: usize, home: &str) -> Result<bool> {
    let record = network.record(truth, 0)?;
    let institution = network.institution(record)?;
    let physician = network.emergency(network.emergency_hospital(0)?)?;
    let patient = Some(pb::PatientRef {
        subject: Some(pb::patient_ref::Subject::PatientId(messages::patient_id(
            institution,
            &record.local_id,
        ))),
    });
    let answer = get_summary(&physician, patient, "").await?.into_inner();
    let summary = answer.summary.context("no summary")?;
    let incomplete = answer.completeness.is_some_and(|all| !all.complete);
    Ok(incomplete
        && summary.absences.iter().any(|absence| {
            absence.reason() == pb::AbsenceReason::Unreachable
                && absence.home_community_ids.iter().any(|named| named == home)
        }))
}
