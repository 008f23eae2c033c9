use super::*;

fn shared() -> Option<PathBuf> {
    let root =
        std::env::var_os("RENKEI_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let folder = root.join("data/patients-dev");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no test data in {}; set RENKEI_SHARED",
        folder.display()
    );
    None
}

/// The bars of matching, over a part of the development data that a debug build gets through. The
/// whole is `renkei bench matching`.
#[test]
fn the_development_data_reaches_its_bars() {
    let Some(folder) = shared() else { return };
    for seed in [1, 2] {
        let report = matching(&MatchingSettings {
            records: folder.join("records.jsonl.gz"),
            truth: folder.join("truth.csv.gz"),
            seed,
            people: Some(2_500),
        })
        .unwrap();
        assert_eq!(
            report.automatic.wrong, 0,
            "false links: {:?}",
            report.false_links
        );
        assert!(report.automatic.recall >= 0.86, "{:?}", report.automatic);
        assert!(report.review.recall >= 0.985, "{:?}", report.review);
        assert!(report.review.per_thousand <= 75.0, "{:?}", report.review);
        assert!(report.review.right >= 0.90, "{:?}", report.review);
        assert!(
            report.threshold.clusters.f1 >= 0.985,
            "{:?}",
            report.threshold
        );
        assert!(report.skew.values().all(|[keys, ..]| *keys > 0));
    }
}

#[test]
fn pairs_are_counted_by_cluster() {
    let of = |person: &str| Truth {
        person: person.into(),
        ..Truth::default()
    };
    let truth = [of("a"), of("a"), of("a"), of("b")];
    let score = score::clusters(&[0, 0, 1, 1], &truth);
    assert_eq!((score.right, score.wrong, score.missed), (1, 1, 2));
    assert_eq!(
        score::false_pairs(&[0, 0, 1, 1], &truth).get("stranger"),
        Some(&1)
    );
}

#[test]
fn sets_join_unless_refused() {
    let mut union = Union::new(4);
    union.join(0, 1);
    union.join_unless(1, 2, |a, b| (a, b) == (0, 2));
    union.join_unless(2, 3, |_, _| false);
    assert_eq!(union.root(0), union.root(1));
    assert_ne!(union.root(1), union.root(2));
    assert_eq!(union.root(2), union.root(3));
}
