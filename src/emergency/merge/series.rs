//! Values in time: the newest, and some before it.

use std::cmp::Reverse;

use prost::Message;

use crate::wire::pb::emergency::{PastValue, SummaryItem, VerificationStatus};

use super::date::{Span, newest};
use super::fold::{one, sources};
use super::identity::value_key;

/// Different values of a series that are looked at; more than are ever shown.
const MAX_POINTS: usize = 8;

/// A value at a time, of one source or several.
struct Point {
    value: String,
    when: Option<Span>,
    /// The items that say so; each has only this value.
    items: Vec<SummaryItem>,
}

/// The newest value of the series, with `former` values before it. If sources contradict each other
/// about the newest, each of its values is an item.
pub(super) fn items(members: Vec<SummaryItem>, former: usize) -> Vec<SummaryItem> {
    let mut single: Vec<_> = members.into_iter().flat_map(values).collect();
    single.sort_by_cached_key(|item| {
        let precision = Reverse(item.start.len());
        (
            Reverse(when(item).map(|span| span.earliest)),
            precision,
            item.encode_to_vec(),
        )
    });
    let mut points: Vec<Point> = Vec::new();
    for item in single {
        let value = item.value.as_ref().map(value_key).unwrap_or_default();
        let when = when(&item);
        let same = |point: &&mut Point| {
            let dates = point.when.zip(when);
            point.value == value
                && dates.map_or(point.when == when, |(one, other)| one.may_be_same(other))
        };
        if let Some(point) = points.iter_mut().find(same) {
            point.items.push(item);
        } else if points.len() < MAX_POINTS {
            points.push(Point {
                value,
                when,
                items: vec![item],
            });
        }
    }
    let newest = points.first().and_then(|point| point.when);
    let head = points
        .iter()
        .take_while(|point| point.when == newest)
        .count();
    let older = points.split_off(head);
    let mut heads: Vec<_> = points.into_iter().map(Point::into_item).collect();
    let past = older.into_iter().take(former).map(Point::into_past);
    if let Some(first) = heads.first_mut() {
        first.past_values = past.collect();
    }
    heads
}

/// When a value is of: when it was measured, else when it was recorded.
fn when(item: &SummaryItem) -> Option<Span> {
    Span::of(&item.start).or_else(|| newest(&item.sources))
}

/// The item once for each value that it has, former ones too.
fn values(mut item: SummaryItem) -> Vec<SummaryItem> {
    let past = std::mem::take(&mut item.past_values);
    let of_past = |past: PastValue| SummaryItem {
        value: past.value,
        start: past.effective,
        end: String::new(),
        sources: past.source.into_iter().collect(),
        ..item.clone()
    };
    let former: Vec<_> = past.into_iter().map(of_past).collect();
    std::iter::once(item).chain(former).collect()
}

impl Point {
    fn into_item(self) -> SummaryItem {
        // Final, if one says so.
        let unconfirmed = i32::from(VerificationStatus::Unconfirmed);
        let status = self.items.iter().map(|item| item.verification_status);
        let confirmed = i32::from(VerificationStatus::Confirmed);
        let settled = status
            .filter(|status| *status != unconfirmed)
            .max_by_key(|status| (*status == confirmed, Reverse(*status)));
        // The most precise date and value stand for all.
        let longest = |item: &&SummaryItem| (item.start.len(), item.encode_to_vec());
        let precise = self
            .items
            .iter()
            .max_by_key(longest)
            .cloned()
            .unwrap_or_default();
        let mut item = one(self.items);
        item.start = precise.start;
        item.end = precise.end;
        item.value = precise.value;
        item.verification_status = settled.unwrap_or(unconfirmed);
        item
    }

    fn into_past(self) -> PastValue {
        let item = self.into_item();
        let source = sources(item.sources).into_iter().next();
        let recorded = source.as_ref().map(|source| source.recorded.clone());
        PastValue {
            value: item.value,
            effective: if item.start.is_empty() {
                recorded.unwrap_or_default()
            } else {
                item.start
            },
            source,
        }
    }
}
