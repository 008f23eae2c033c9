//! When a community is away as it said it would be: outside of its service hours, or in a
//! maintenance window.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::{TimeZone, offset};

use crate::error::{Error, Reason, Result};
use crate::wire::pb::directory as pb;

/// The end of a day, as a minute of it.
const MIDNIGHT: u16 = 24 * 60;

/// Whether the community is away now as planned.
pub fn planned_absence(community: &pb::Community, now: Timestamp) -> bool {
    let in_window = |window: &pb::MaintenanceWindow| {
        let bound = |time: &Option<prost_types::Timestamp>| {
            time.as_ref().and_then(crate::wire::from_timestamp)
        };
        let (starts, ends) = (bound(&window.starts), bound(&window.ends));
        starts.is_some_and(|starts| starts <= now) && ends.is_some_and(|ends| now < ends)
    };
    if community.maintenance_windows.iter().any(in_window) {
        return true;
    }
    // Hours are of Japan, which has no summer time.
    let there = now.to_zoned(TimeZone::fixed(offset(9)));
    let today = u32::try_from(there.weekday().to_monday_one_offset()).unwrap_or_default();
    let yesterday = if today == 1 { 7 } else { today - 1 };
    let minute = minute_of(there.time());
    let open = |hours: &pb::ServiceHours| {
        let (Some(opens), Some(closes)) = (read(&hours.opens), read(&hours.closes)) else {
            return false;
        };
        let on = |day| hours.weekdays.contains(&day);
        if opens < closes {
            on(today) && (opens..closes).contains(&minute)
        } else {
            // Over midnight: until it closes on the day after.
            on(today) && minute >= opens || on(yesterday) && minute < closes
        }
    };
    !community.service_hours.is_empty() && !community.service_hours.iter().any(open)
}

/// Refuses hours and windows that mean nothing.
///
/// # Errors
/// [`Reason::InvalidField`].
pub(super) fn check(community: &pb::Community) -> Result<()> {
    for hours in &community.service_hours {
        let days =
            !hours.weekdays.is_empty() && hours.weekdays.iter().all(|day| (1..=7).contains(day));
        if !days || read(&hours.opens).is_none() || read(&hours.closes).is_none() {
            let message = "need weekdays 1 to 7, and times HH:MM";
            return Err(Error::field(Reason::InvalidField, "service_hours", message));
        }
    }
    for window in &community.maintenance_windows {
        let bound = |time: &Option<prost_types::Timestamp>| {
            time.as_ref().and_then(crate::wire::from_timestamp)
        };
        let bounds = bound(&window.starts).zip(bound(&window.ends));
        if bounds.is_none_or(|(starts, ends)| ends <= starts) {
            let message = "need a beginning, and an end after it";
            return Err(Error::field(
                Reason::InvalidField,
                "maintenance_windows",
                message,
            ));
        }
    }
    Ok(())
}

fn minute_of(time: Time) -> u16 {
    u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).unwrap_or_default()
}

/// `HH:MM` as a minute of the day; `24:00` is its end.
fn read(text: &str) -> Option<u16> {
    if text == "24:00" {
        return Some(MIDNIGHT);
    }
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let time = Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?;
    Some(minute_of(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hours(weekdays: &[u32], opens: &str, closes: &str) -> pb::ServiceHours {
        pb::ServiceHours {
            weekdays: weekdays.to_vec(),
            opens: opens.to_owned(),
            closes: closes.to_owned(),
        }
    }

    #[test]
    fn outside_of_its_hours_a_community_is_away_as_planned() {
        let mut community = pb::Community::default();
        assert!(!planned_absence(
            &community,
            at("2026-04-01T00:00:00+09:00")
        ));
        // Monday to Friday from eight to the end of the day; on Saturday over midnight.
        community.service_hours = vec![
            hours(&[1, 2, 3, 4, 5], "08:00", "24:00"),
            hours(&[6], "22:00", "02:00"),
        ];
        check(&community).unwrap();
        // 2026-04-01 is a Wednesday.
        for (time, away) in [
            ("2026-04-01T07:59:59+09:00", true),
            ("2026-04-01T08:00:00+09:00", false),
            ("2026-04-01T23:59:59+09:00", false),
            ("2026-04-03T22:59:59Z", true),
            ("2026-04-04T22:00:00+09:00", false),
            ("2026-04-05T01:59:00+09:00", false),
            ("2026-04-05T02:00:00+09:00", true),
            ("2026-04-06T01:00:00+09:00", true),
        ] {
            assert_eq!(planned_absence(&community, at(time)), away, "{time}");
        }
    }

    #[test]
    fn in_a_maintenance_window_too() {
        let time = |text| Some(crate::wire::timestamp(at(text)));
        let window = |starts, ends| pb::MaintenanceWindow {
            starts: time(starts),
            ends: time(ends),
            note: String::new(),
        };
        let (starts, ends) = ("2026-04-01T01:00:00Z", "2026-04-01T03:00:00Z");
        let mut community = pb::Community {
            maintenance_windows: vec![window(starts, ends)],
            ..pb::Community::default()
        };
        check(&community).unwrap();
        assert!(!planned_absence(&community, at("2026-04-01T00:59:59Z")));
        assert!(planned_absence(&community, at(starts)));
        assert!(!planned_absence(&community, at(ends)));
        community.maintenance_windows = vec![window(ends, starts)];
        check(&community).unwrap_err();
    }

    #[test]
    fn hours_that_mean_nothing_are_refused() {
        for wrong in [
            hours(&[], "08:00", "09:00"),
            hours(&[0], "08:00", "09:00"),
            hours(&[8], "08:00", "09:00"),
            hours(&[1], "8:00", "09:00"),
            hours(&[1], "08:00", "24:01"),
            hours(&[1], "08:60", "09:00"),
            hours(&[1], "", ""),
        ] {
            let community = pb::Community {
                service_hours: vec![wrong.clone()],
                ..pb::Community::default()
            };
            check(&community).expect_err(&format!("{wrong:?}"));
        }
    }
}
