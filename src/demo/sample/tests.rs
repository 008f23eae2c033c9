use std::collections::{HashMap, HashSet};

use super::*;

fn sample() -> Sample {
    Sample::generate(&SampleConfig::default())
}

#[test]
fn sizes_are_as_promised() {
    let sample = sample();
    assert_eq!(sample.regions.len(), 3);
    assert_eq!(sample.people.len(), 220);
    assert!(
        (300..=400).contains(&sample.documents.len()),
        "{}",
        sample.documents.len()
    );
    let kinds: HashMap<_, usize> = sample
        .documents
        .iter()
        .fold(HashMap::new(), |mut count, of| {
            *count.entry(of.kind).or_default() += 1;
            count
        });
    assert_eq!(kinds.len(), 6);
    assert!(kinds.values().all(|count| *count >= 20), "{kinds:?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(sample(), sample());
    let other = Sample::generate(&SampleConfig {
        seed: 7,
        ..SampleConfig::default()
    });
    assert_ne!(sample().documents, other.documents);
}

#[test]
fn odd_sizes_are_clamped_and_keep_the_scenario() {
    for (regions, patients) in [(0, 0), (1, 20), (2, 40), (9, 60), (1_000, 30)] {
        let config = SampleConfig {
            regions,
            patients,
            ..SampleConfig::default()
        };
        let sample = Sample::generate(&config);
        assert!((1..=SampleConfig::MAX_REGIONS).contains(&sample.regions.len()));
        assert_eq!(
            sample.people.len(),
            patients.max(SampleConfig::MIN_PATIENTS)
        );
        assert_eq!(sample.documents_of(sample.scenario.emergency).count(), 6);
        assert_codes_and_numbers(&sample);
    }
}

#[test]
fn codes_and_numbers_are_valid() {
    assert_codes_and_numbers(&sample());
}

fn assert_codes_and_numbers(sample: &Sample) {
    let institutions: Vec<_> = sample
        .regions
        .iter()
        .flat_map(|of| &of.institutions)
        .collect();
    let codes: HashSet<_> = institutions.iter().map(|of| &of.code).collect();
    assert_eq!(codes.len(), institutions.len());
    assert!(
        codes
            .iter()
            .all(|code| code.len() == 10 && check_digit_is_valid(code))
    );
    let mut ids = HashSet::new();
    for record in sample.people.iter().flat_map(|person| &person.records) {
        assert!(
            check_digit_is_valid(&record.insurer_number),
            "{}",
            record.insurer_number
        );
        assert!(matches!(record.insurer_number.len(), 6 | 8));
        assert!(matches!(record.local_id.len(), 8 | 10));
        assert_eq!(record.postal_code.replace('-', "").len(), 7);
        assert!(
            matches!(record.phone.replace('-', "").len(), 10 | 11),
            "{}",
            record.phone
        );
        assert_eq!(record.insured_person_id().matches(':').count(), 3);
        assert!(ids.insert((record.region, record.institution, &record.local_id)));
        assert!(sample.institution(record).is_some());
    }
}

#[test]
fn only_the_declared_namesakes_share_name_birth_date_and_sex() {
    let sample = sample();
    let mut seen: HashMap<_, HashSet<usize>> = HashMap::new();
    for person in &sample.people {
        for record in &person.records {
            let key = (&record.given_romaji, &record.birth_date, record.sex);
            seen.entry(key).or_default().insert(person.truth);
        }
    }
    let shared: Vec<_> = seen.values().filter(|people| people.len() > 1).collect();
    assert_eq!(shared.len(), 3, "{shared:?}");
}

#[test]
fn variants_occur() {
    let sample = sample();
    let records: Vec<_> = sample
        .people
        .iter()
        .flat_map(|person| &person.records)
        .collect();
    for name in [
        "高橋", "髙橋", "斎藤", "齋藤", "渡辺", "渡邊", "山崎", "山﨑", "𠮷田",
    ] {
        assert!(
            records.iter().any(|record| record.family_kanji == name),
            "{name}"
        );
    }
    assert!(
        records
            .iter()
            .any(|record| record.family_kana.contains('ｻ'))
    );
    assert!(
        records
            .iter()
            .any(|record| record.given_kana.contains("ヨウ"))
    );
    assert!(
        records
            .iter()
            .any(|record| record.branch.is_empty() && !record.symbol.is_empty())
    );
    assert!(
        records
            .iter()
            .any(|record| record.birth_date_text.starts_with("昭和"))
    );
    let moved = |person: &SamplePerson| {
        let codes = person
            .records
            .iter()
            .map(|record| record.postal_code.replace('-', ""));
        codes.collect::<HashSet<_>>().len() > 1
    };
    assert!(sample.people.iter().any(moved));
    let once = sample
        .people
        .iter()
        .filter(|person| person.records.len() == 1)
        .count();
    assert!((80..140).contains(&once), "{once}");
}

#[test]
fn bundles_are_documents_whose_references_resolve() {
    let mut count = 0;
    for document in sample().documents {
        if document.mime_type != "application/fhir+json" {
            continue;
        }
        let bundle: serde_json::Value = serde_json::from_slice(&document.content).unwrap();
        assert_eq!(bundle["type"], "document");
        let entries = bundle["entry"].as_array().unwrap();
        assert_eq!(entries[0]["resource"]["resourceType"], "Composition");
        assert!(
            entries[0]["resource"]["section"]
                .as_array()
                .is_some_and(|list| !list.is_empty())
        );
        let addresses: HashSet<_> = entries
            .iter()
            .map(|entry| entry["fullUrl"].as_str().unwrap())
            .collect();
        assert_eq!(addresses.len(), entries.len());
        let patient = &entries[1]["resource"];
        assert_eq!(patient["name"][0]["extension"][0]["valueCode"], "IDE");
        assert_eq!(patient["name"][1]["extension"][0]["valueCode"], "SYL");
        assert_eq!(patient["identifier"][0]["value"], document.local_id);
        assert_references(&bundle, &addresses);
        count += 1;
    }
    assert!(count > 200, "{count}");
}

fn assert_references(value: &serde_json::Value, addresses: &HashSet<&str>) {
    match value {
        serde_json::Value::Array(items) => {
            assert!(!items.is_empty(), "FHIR forbids empty arrays");
            for item in items {
                assert_references(item, addresses);
            }
        }
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                if key == "reference" {
                    assert!(addresses.contains(field.as_str().unwrap()), "{field}");
                }
                assert_references(field, addresses);
            }
        }
        serde_json::Value::String(text) => assert!(!text.is_empty(), "FHIR forbids empty strings"),
        _ => assert!(!value.is_null(), "FHIR forbids nulls"),
    }
}

#[test]
fn cda_is_well_formed_and_names_the_patient() {
    let sample = sample();
    for document in sample
        .documents
        .iter()
        .filter(|of| of.kind == DocumentKind::CdaReferral)
    {
        let text = std::str::from_utf8(&document.content).unwrap();
        let mut reader = quick_xml::Reader::from_str(text);
        let (mut open, mut elements) = (0, 0);
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(_) => {
                    open += 1;
                    elements += 1;
                }
                quick_xml::events::Event::End(_) => open -= 1,
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(open, 0);
        assert!(elements > 20);
        let code = &sample.regions[document.region].institutions[document.institution].code;
        let id = format!(
            "root=\"{PATIENT_ID_ROOT}{code}\" extension=\"{}\"",
            document.local_id
        );
        assert!(text.contains(&id));
    }
}

#[test]
fn pdf_cross_references_point_at_objects() {
    let sample = sample();
    let find = |file: &[u8], what: &[u8]| file.windows(what.len()).rposition(|at| at == what);
    for document in sample
        .documents
        .iter()
        .filter(|of| of.kind == DocumentKind::PdfLabReport)
    {
        let file = &document.content;
        assert!(file.starts_with(b"%PDF-1.5\n") && file.ends_with(b"%%EOF\n"));
        let at = find(file, b"startxref\n").unwrap() + 10;
        let start = std::str::from_utf8(&file[at..file.len() - 7]).unwrap();
        let table = &file[start.parse::<usize>().unwrap()..];
        assert!(table.starts_with(b"xref\n0 9\n0000000000 65535 f \n"));
        for number in 1..9 {
            let row = &table[9 + 20 * number..][..20];
            assert!(row.ends_with(b" 00000 n \n"));
            let offset: usize = std::str::from_utf8(&row[..10]).unwrap().parse().unwrap();
            assert!(file[offset..].starts_with(format!("{number} 0 obj\n").as_bytes()));
        }
        let stream = find(file, b"stream\nBT").unwrap() + 7;
        let length = find(file, b"endstream").unwrap() - stream;
        assert!(find(file, format!("/Length {length} ").as_bytes()).is_some());
    }
}

#[test]
fn metadata_has_the_form_xds_wants() {
    let sample = sample();
    let unique: HashSet<_> = sample.documents.iter().map(|of| &of.unique_id).collect();
    assert_eq!(unique.len(), sample.documents.len());
    let mut restricted = 0;
    for document in &sample.documents {
        assert!(document.unique_id.starts_with("2.25.") && document.unique_id.len() <= 64);
        for time in [&document.creation_time, &document.service_start] {
            assert!(
                time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()),
                "{time}"
            );
        }
        assert!(document.service_start < document.creation_time);
        assert!(document.creation_time.as_str() < "20260401");
        restricted += usize::from(document.confidentiality.code == "R");
        let records = &sample.people[document.person].records;
        assert!(
            records
                .iter()
                .any(|record| record.local_id == document.local_id)
        );
    }
    assert!(restricted > 0);
}

/// The text of someone's documents of one region.
fn text(sample: &Sample, truth: usize, region: usize) -> String {
    let of_region = sample
        .documents_of(truth)
        .filter(|document| document.region == region);
    of_region
        .map(|document| String::from_utf8_lossy(&document.content).into_owned())
        .collect()
}

#[test]
fn allergy_and_medication_are_known_in_different_regions() {
    let sample = sample();
    let (here, there) = (
        text(&sample, sample.scenario.cross_region, 0),
        text(&sample, sample.scenario.cross_region, 1),
    );
    assert!(here.contains("AllergyIntolerance") && !here.contains("MedicationRequest"));
    assert!(there.contains("MedicationRequest") && !there.contains("AllergyIntolerance"));

    let emergency = sample.scenario.emergency;
    let (here, there) = (text(&sample, emergency, 0), text(&sample, emergency, 1));
    for what in ["ペニシリン", "DeviceUseStatement", "心房細動", "K597"] {
        assert!(here.contains(what), "{what}");
    }
    for what in ["ワルファリン", "心房細動", "2B030000002231157"] {
        assert!(there.contains(what), "{what}");
    }
    assert!(
        sample
            .institution(&sample.people[emergency].records[0])
            .unwrap()
            .emergency
    );
}

#[test]
fn scenario_people_are_what_they_should_be() {
    let sample = sample();
    let records = |truth: usize| &sample.person(truth).unwrap().records;
    let scenario = &sample.scenario;

    let married = records(scenario.married);
    assert_eq!(married[0].family_kanji, "中条");
    assert_eq!(married[0].former_family_kanji, None);
    assert_eq!(married[1].family_kanji, "斎藤");
    assert_eq!(married[1].former_family_kanji.as_deref(), Some("中条"));
    assert_eq!(married[2].family_kanji, "齋藤");
    assert!(
        married
            .iter()
            .all(|of| of.insured_person_id() == married[0].insured_person_id())
    );

    let (one, other) = scenario.namesakes;
    let (one, other) = (&records(one)[0], &records(other)[0]);
    assert_eq!(one.family_kanji, other.family_kanji);
    assert_eq!(
        (&one.given_kanji, &one.birth_date),
        (&other.given_kanji, &other.birth_date)
    );
    assert_ne!(one.insured_person_id(), other.insured_person_id());
    assert_ne!(one.phone, other.phone);

    let (elder, younger) = scenario.twins;
    let (elder, younger) = (&records(elder)[0], &records(younger)[0]);
    assert_eq!(
        (&elder.number, &elder.line),
        (&younger.number, &younger.line)
    );
    assert_eq!(elder.birth_date, younger.birth_date);
    assert_ne!(elder.given_kanji, younger.given_kanji);
    assert_ne!(elder.branch, younger.branch);

    for truth in 0..sample.people.len() {
        assert!(
            sample.documents_of(truth).next().is_some(),
            "{truth} has no document"
        );
    }
    assert!(records(scenario.opted_out).len() == 2 && scenario.includes(scenario.opted_out));
}
