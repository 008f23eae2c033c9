//! How complete a merged answer is, always said: what a region did not say is never silence.

use super::names::{elapsed, join, label, time};
use super::output::{Done, Table, Text};
use crate::wire::pb::common::{Completeness, RegionState, RegionStatus};

/// What an answer came to, by its completeness; an answer without one counts as a part.
pub(crate) fn done(completeness: Option<&Completeness>) -> Done {
    match completeness {
        Some(all) if all.complete => Done::All,
        _ => Done::InPart,
    }
}

/// Tells how complete an answer is; the regions are listed if it is not, or if `always`.
pub(crate) fn show(text: &mut Text, completeness: Option<&Completeness>, always: bool) {
    let Some(completeness) = completeness else {
        text.line(
            "INCOMPLETE: the node does not say how complete this is; nothing may be concluded from \
             absence",
        );
        return;
    };
    text.line(headline(completeness));
    if always || !completeness.complete {
        text.table(&regions(&completeness.regions));
    }
}

/// `COMPLETE: 3 regions answered`, or what is missing.
fn headline(completeness: &Completeness) -> String {
    let regions = completeness.regions.len();
    if completeness.complete {
        return format!("COMPLETE: {}", count(regions, "answered"));
    }
    let missing = completeness.regions.iter().filter(|one| !answered(one));
    let missing: Vec<String> = missing
        .map(|one| format!("{} ({})", name(one), label::<RegionState>(one.state)))
        .collect();
    format!(
        "INCOMPLETE: {} of {} missing: {}; nothing may be concluded from absence",
        missing.len(),
        count(regions, "").trim_end(),
        join(&missing, ", ")
    )
}

fn count(regions: usize, verb: &str) -> String {
    let noun = if regions == 1 { "region" } else { "regions" };
    format!("{regions} {noun} {verb}")
}

fn answered(region: &RegionStatus) -> bool {
    matches!(region.state(), RegionState::Ok | RegionState::Empty)
}

fn name(region: &RegionStatus) -> &str {
    match region.name.as_str() {
        "" => &region.home_community_id,
        name => name,
    }
}

fn regions(regions: &[RegionStatus]) -> Table {
    let mut table = Table::new(["Region", "Community", "State", "Results", "As of", "Took"]);
    for region in regions {
        table.row([
            name(region).to_owned(),
            region.home_community_id.clone(),
            label::<RegionState>(region.state),
            region.result_count.to_string(),
            time(region.as_of.as_ref()),
            elapsed(region.elapsed.as_ref()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, state: RegionState) -> RegionStatus {
        RegionStatus {
            home_community_id: "urn:oid:1.2".into(),
            name: name.into(),
            state: state.into(),
            ..RegionStatus::default()
        }
    }

    #[test]
    fn a_gap_is_never_silent() {
        let partial = Completeness {
            complete: false,
            regions: vec![
                region("東部", RegionState::Ok),
                region("西部", RegionState::Timeout),
            ],
        };
        let mut text = Text::default();
        show(&mut text, Some(&partial), false);
        let shown = text.as_str();
        assert!(shown.starts_with("INCOMPLETE: 1 of 2 regions missing: 西部 (timeout)"));
        assert!(shown.contains("東部"), "all regions are listed: {shown}");
        assert_eq!(done(Some(&partial)), Done::InPart);

        let mut cut = Text::default();
        show(&mut cut, None, false);
        assert!(cut.as_str().starts_with("INCOMPLETE"));
        assert_eq!(done(None), Done::InPart);
    }

    #[test]
    fn a_whole_answer_is_one_line() {
        let whole = Completeness {
            complete: true,
            regions: vec![region("東部", RegionState::Empty)],
        };
        let mut text = Text::default();
        show(&mut text, Some(&whole), false);
        assert_eq!(text.as_str(), "COMPLETE: 1 region answered\n");
        assert_eq!(done(Some(&whole)), Done::All);
    }
}
