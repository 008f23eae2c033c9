//! Writes the rows of the page.

use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, Criticality, SummaryItem, SummarySection, VerificationStatus,
};

use super::super::extract::codes;
use super::super::merge::{NONE_KNOWN_GROUP, is_denied};
use super::gaps::Nothing;
use super::page::{Block, Row};
use super::text::{self, join};
use super::words::{self, Language};
use super::{Whole, is_uninformed};

/// Writes rows; knows the numbers of the contradictions and what the whole page is of.
pub(super) struct Writer<'w> {
    whole: &'w Whole<'w>,
    language: Language,
    /// The groups of contradicting items, as they come.
    groups: Vec<&'w str>,
    /// Of which moment the items are.
    pub(super) age: String,
    /// Whether each item has to say of which moment it is.
    dated: bool,
}

impl<'w> Writer<'w> {
    pub(super) fn new(whole: &'w Whole<'w>) -> Self {
        let language = whole.options.language;
        let mut dates: Vec<String> = whole
            .items()
            .map(|item| text::moment(text::as_of(item).as_ref()))
            .collect();
        dates.sort_unstable();
        dates.dedup();
        let dated = dates.len() > 1;
        let ends = [dates.first(), dates.last().filter(|_| dated)];
        let as_of = join(ends.into_iter().flatten(), " – ");
        let composed = text::moment(whole.summary.composed.as_ref());
        let mut age = format!("{}: {composed}", words::COMPOSED.both(language));
        if !as_of.is_empty() {
            age = format!("{age}   {}: {as_of}", words::AS_OF.both(language));
        }
        Self {
            whole,
            language,
            groups: Vec::new(),
            age,
            dated,
        }
    }

    /// The block of some sections; none if there is nothing to say, unless it is `always` there.
    pub(super) fn block(
        &mut self,
        sections: &[SummarySection],
        first: bool,
        always: bool,
    ) -> Option<Block> {
        let items: Vec<_> = self
            .whole
            .items()
            .filter(|item| sections.contains(&item.section()))
            .collect();
        let many = sections.len() > 1;
        let contradicted = items.clone();
        let mut rows: Vec<_> = side_by_side(items)
            .into_iter()
            .map(|item| self.item(item, many))
            .collect();
        let nothing = rows.is_empty();
        let stated = [AbsenceReason::StatedNone];
        for absence in self.whole.statements(sections, &stated) {
            let denied = contradicted.iter().find(|item| {
                item.conflict_group.starts_with(NONE_KNOWN_GROUP) && is_denied(item, absence)
            });
            rows.push(self.absence(absence, denied.map(|item| item.conflict_group.as_str())));
        }
        if nothing
            && always
            && let Nothing::NotStated(why) = self.whole.nothing(sections)
            && why != words::TOO_OLD
        {
            rows.push(Row {
                lead: why.both(self.language),
                ..Row::default()
            });
        }
        let aged_out = self.whole.aged_out(sections);
        if aged_out > 0 {
            rows.push(Row {
                lead: format!("{}: {aged_out}", words::TOO_OLD.both(self.language)),
                ..Row::default()
            });
        }
        let titles = sections.iter().map(|one| words::section(*one));
        let titles =
            titles.filter(|title| title.ja != words::section(SummarySection::Unspecified).ja);
        let (ja, en): (Vec<_>, Vec<_>) = titles.map(|title| (title.ja, title.en)).unzip();
        let (ja, en) = (join(ja, "・"), join(en, ", "));
        let title = match self.language {
            Language::Japanese => format!("{ja} / {en}"),
            Language::English => format!("{en} / {ja}"),
        };
        (!rows.is_empty()).then_some(Block { title, first, rows })
    }

    fn item(&mut self, item: &'w SummaryItem, many: bool) -> Row {
        let kind = match many {
            true => words::section(item.section()).main(self.language),
            false => "",
        };
        let mut marks = self.marks(item);
        let lead = join([kind, &text::display(item, self.language)], ": ");
        if item.needs_confirmation {
            marks.push(words::CONFIRM.main(self.language).to_owned());
            return Row {
                marks,
                lead,
                sources: self.sources(item),
                ..Row::default()
            };
        }
        let value = item.value.as_ref().map(text::value).unwrap_or_default();
        let status = words::clinical(item.clinical_status());
        let sure = words::verification(item.verification_status());
        let blood = (item.section() == SummarySection::BloodType).then_some(words::BLOOD);
        let states = [status, sure, blood].into_iter().flatten();
        let states = join(states.map(|one| one.main(self.language)), ", ");
        Row {
            marks,
            lead,
            facts: join([value, self.before(item), text::span(item), states], ", "),
            details: text::details(item, self.language),
            sources: self.sources(item),
        }
    }

    /// What must not be read over.
    fn marks(&mut self, item: &'w SummaryItem) -> Vec<String> {
        let mut marks = Vec::new();
        let refuted = item.verification_status() == VerificationStatus::Refuted;
        if item.criticality() == Criticality::High && !refuted {
            marks.extend(words::criticality(item.criticality()));
        }
        if is_uninformed(item) {
            marks.push(words::UNINFORMED);
        }
        let mut marks: Vec<_> = marks.iter().map(|one| one.both(self.language)).collect();
        if !item.conflict_group.is_empty() {
            let number = self.number(&item.conflict_group);
            let label = words::CONTRADICTION.both(self.language);
            marks.push(format!("{label} {number}"));
        }
        marks
    }

    /// The number of a group of contradicting items, from 1.
    fn number(&mut self, group: &'w str) -> usize {
        let known = self.groups.iter().position(|one| *one == group);
        let at = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(group);
        }
        at + 1
    }

    fn before(&self, item: &SummaryItem) -> String {
        let label = words::PREVIOUS.main(self.language);
        let past = item.past_values.iter().filter_map(|past| {
            let value = text::bare(past.value.as_ref()?);
            Some(join([label, &value, &text::date(&past.effective)], " "))
        });
        join(past, ", ")
    }

    fn sources(&self, item: &SummaryItem) -> String {
        let sources = item.sources.iter().map(|source| {
            let from = text::source(source, self.language);
            let region = self.whole.region_name(&source.home_community_id);
            match region.is_empty() || text::institution(source) == region {
                true => from,
                false => format!("{from} [{region}]"),
            }
        });
        let from = join(sources, "; ");
        if !self.dated {
            return from;
        }
        let asked = text::moment(text::as_of(item).as_ref());
        let asked = match asked.is_empty() {
            true => "?",
            false => asked.as_str(),
        };
        format!("{from} ({} {asked})", words::AS_OF.main(self.language))
    }

    /// A statement that there is none; `denied`: the group of an item that it contradicts.
    fn absence(&mut self, absence: &AbsenceStatement, denied: Option<&'w str>) -> Row {
        let only = codes::scope_words(&absence.codes).map(|(ja, en)| match self.language {
            Language::Japanese => format!("{ja} ({en})"),
            Language::English => format!("{en} ({ja})"),
        });
        let named = absence
            .codes
            .iter()
            .filter(|code| !code.display_name.is_empty());
        let what = only
            .into_iter()
            .chain(named.map(|code| text::coded(Some(code))));
        let marks = denied.map(|group| {
            let label = words::CONTRADICTION.both(self.language);
            format!("{label} {}", self.number(group))
        });
        let sources = absence.sources.iter();
        Row {
            marks: marks.into_iter().collect(),
            lead: words::absence(absence.reason()).both(self.language),
            facts: join(what, ", "),
            details: String::new(),
            sources: join(sources.map(|one| text::source(one, self.language)), "; "),
        }
    }
}

/// The items in their order, but those that contradict each other beside the first of them.
fn side_by_side(items: Vec<&SummaryItem>) -> Vec<&SummaryItem> {
    let mut placed: Vec<&SummaryItem> = Vec::with_capacity(items.len());
    for item in items {
        let group = item.conflict_group.as_str();
        let same = |one: &&SummaryItem| !group.is_empty() && one.conflict_group == group;
        let at = placed.iter().rposition(same).map(|at| at + 1);
        placed.insert(at.unwrap_or(placed.len()), item);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_stands_together() {
        let item = |id: &str, group: &str| SummaryItem {
            item_id: id.to_owned(),
            conflict_group: group.to_owned(),
            ..SummaryItem::default()
        };
        let items = [item("1", "x"), item("2", ""), item("3", "x"), item("4", "")];
        let placed = side_by_side(items.iter().collect());
        let ids: Vec<_> = placed.iter().map(|item| item.item_id.as_str()).collect();
        assert_eq!(ids, ["1", "3", "2", "4"]);
    }
}
