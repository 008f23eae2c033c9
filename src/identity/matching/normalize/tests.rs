use proptest::prelude::*;

use super::address::{self, Nearness, place};
use super::date::{BirthDate, birth_date, days};
use super::{kana, kanji, name, number, romaji};

#[test]
fn kanji_variants_agree() {
    for (a, b) in [
        ("髙橋", "高橋"),
        ("齋藤", "斉藤"),
        ("渡邊", "渡辺"),
        ("山﨑", "山崎"),
        ("𠮷田", "吉田"),
        ("葛\u{E0100}城", "葛城"),
        ("佐藤　花子", "佐藤花子"),
        ("⻆田", "角田"),
        ("福\u{FE00}田", "福田"),
        ("德川", "徳川"),
    ] {
        assert_eq!(kanji::key(a), kanji::key(b), "{a} {b}");
    }
    assert_ne!(kanji::key("佐藤"), kanji::key("佐籐"));
    assert_ne!(kanji::key("大坂"), kanji::key("大阪"));
}

#[test]
fn masks_stand_for_one_character() {
    for mask in ["●橋", "〓橋", "?橋", "？橋", "\u{E123}橋"] {
        assert!(
            kanji::agree(&kanji::key(mask), &kanji::key("髙橋")),
            "{mask}"
        );
    }
    assert!(!kanji::agree(&kanji::key("●橋"), &kanji::key("高木")));
    assert!(!kanji::agree("●●", "高橋"), "nothing is known");
}

#[test]
fn kana_forms_agree_but_long_vowels_do_not() {
    for (a, b) in [
        ("ｼｮｳｲﾁ", "ショウイチ"),
        ("しょういち", "シヨウイチ"),
        ("ミヅキ", "ミズキ"),
        ("カ゛ッキ", "ガッキ"),
        ("ヴァイオ", "バイオ"),
        ("ハ八", "ハハ"),
    ] {
        assert_eq!(kana::key(a), kana::key(b), "{a} {b}");
    }
    assert_ne!(kana::key("オオノ"), kana::key("オノ"));
    assert_ne!(kana::key("ヤマザキ"), kana::key("ヤマサキ"));
    assert_eq!(
        kana::weak(&kana::key("オオノ")),
        kana::weak(&kana::key("オーノ"))
    );
    assert_eq!(
        kana::weak(&kana::key("ユウコ")),
        kana::weak(&kana::key("ユーコ"))
    );
    assert_eq!(
        kana::skeleton(&kana::key("ヤマザキ")),
        kana::skeleton(&kana::key("ヤマサキ"))
    );
    assert!(
        kana::is_kana("ﾔﾏﾀﾞ")
            && kana::is_kana("さゆり")
            && !kana::is_kana("山ダ")
            && !kana::is_kana("")
    );
}

#[test]
fn romaji_families_agree() {
    for (a, b) in [
        ("Ohtani", "Ootani"),
        ("Ōtani", "Otani"),
        ("Tsuzuki", "Tuzuki"),
        ("Shinji", "Sinzi"),
        ("Homma", "Honma"),
        ("Satoh", "SATOU"),
        ("Fujii", "Huzii"),
    ] {
        assert_eq!(romaji::key(a), romaji::key(b), "{a} {b}");
    }
    for (kana_name, letters) in [
        ("ショウイチ", "Shoichi"),
        ("サトウ", "Sato"),
        ("マツダ", "Matsuda"),
        ("ジュンコ", "Junko"),
    ] {
        assert_eq!(
            romaji::of_kana(&kana::key(kana_name)),
            romaji::key(letters),
            "{letters}"
        );
    }
}

#[test]
fn names_lose_titles_notes_and_brackets() {
    assert_eq!(name::clean("花子様").name, "花子");
    assert_eq!(name::clean("花子 さん").name, "花子");
    assert_eq!(name::clean("千代君").name, "千代君", "a name may end so");
    let former = name::clean("山田（旧姓：鈴木）");
    assert_eq!(
        (former.name.as_str(), former.other.as_deref()),
        ("山田", Some("鈴木"))
    );
    let warned = name::clean("山田(同姓同名注意)");
    assert!(warned.namesake_warning && warned.other.is_none());
    assert_eq!(warned.name, "山田");
    for none in ["ベビー", "第一子", "不明", "", "●●", "ヤマダベビー"] {
        assert!(name::is_placeholder(none), "{none}");
    }
    assert!(!name::is_placeholder("花子"));
}

#[test]
fn birth_dates_in_every_form() {
    let full = |year, month, day| Some(BirthDate { year, month, day });
    for (text, date) in [
        ("1945-08-15", full(1945, 8, 15)),
        ("19450815", full(1945, 8, 15)),
        ("1945/8/15", full(1945, 8, 15)),
        ("S20.8.15", full(1945, 8, 15)),
        ("昭和20年8月15日", full(1945, 8, 15)),
        ("㍼20.8.15", full(1945, 8, 15)),
        ("令和元年5月1日", full(2019, 5, 1)),
        ("平成１年１月８日", full(1989, 1, 8)),
        ("1945-08", full(1945, 8, 0)),
        ("1945-00-00", full(1945, 0, 0)),
        ("1900-01-01", None),
        ("9999-12-31", None),
        ("1945-13-01", None),
        ("不明", None),
        ("", None),
    ] {
        assert_eq!(birth_date(text), date, "{text}");
    }
    assert_eq!(
        (days("1970-01-02"), days("2000-01-01"), days("x")),
        (1, 10_957, 0)
    );
}

#[test]
fn phones() {
    assert_eq!(
        number::phone("０３−１２３４−５６７８"),
        number::phone("03(1234)5678")
    );
    assert_eq!(
        number::phone("+81-90-1234-5678"),
        number::phone("09012345678")
    );
    assert_ne!(number::phone("0312345678"), number::phone("00312345678"));
    for none in ["内線12", "", "0000000000", "1234567890", "12"] {
        assert_eq!(number::phone(none), None, "{none}");
    }
    assert!(number::phone("09012345678").is_some_and(number::is_mobile));
    assert!(!number::phone("0312345678").is_some_and(number::is_mobile));
}

#[test]
fn insured_person_numbers() {
    assert_eq!(
        number::policy("06139463", "１２", "００３４"),
        number::policy("6139463", "12", "34")
    );
    assert_eq!(
        number::policy("00138057", "国", "12"),
        number::policy("138057", "国", "12")
    );
    assert_eq!(number::policy("06139463", "", ""), None);
    assert_ne!(
        number::policy("06139463", "1", "34"),
        number::policy("06139463", "2", "34")
    );
    // 後期高齢者: the number is kept on a move inside the prefecture.
    let (before, after) = (
        number::policy("39131156", "", "01234567"),
        number::policy("39131999", "", "01234567"),
    );
    assert!(before == after && before.is_some_and(|policy| policy.is_personal()));
    assert_ne!(
        number::policy("39131156", "", "01234567"),
        number::policy("39141156", "", "01234567")
    );
    assert_eq!(
        (
            number::branch(""),
            number::branch("1"),
            number::branch("０１")
        ),
        (None, Some(1), Some(1))
    );
    for valid in ["33120015", "06139463", "01130012", "39131156", "138057"] {
        assert!(number::insurer_is_valid(valid), "{valid}");
    }
    assert!(!number::insurer_is_valid("06139464") && !number::insurer_is_valid(""));
    assert!(
        number::looks_like_my_number("123456789018")
            && !number::looks_like_my_number("123456789012")
    );
}

#[test]
fn addresses_of_one_house() {
    let house = place("千葉県柏市豊町二丁目3番地4号 ハイツ201", "277-0858");
    for other in [
        "千葉県柏市豊町2-3-4",
        "柏市豊町２丁目３−４",
        "千葉県柏市大字豊町二丁目３の４",
        "千葉県柏市豊町2丁目3番4号　メゾン5号室",
        "千葉県柏市豊町2-3-4-201",
    ] {
        assert_eq!(
            address::compare(&house, &place(other, "")),
            Nearness::Street,
            "{other}"
        );
    }
    assert_eq!(house.postal, 2_770_858);
    assert!(place("", "").is_empty());
}

#[test]
fn addresses_near_and_far() {
    let house = place("群馬県利根郡みなかみ町月夜野1234番地5", "");
    for (other, nearness) in [
        ("群馬県みなかみ町月夜野1234-5", Nearness::Street),
        ("群馬県みなかみ町月夜野1244-5", Nearness::StreetNear),
        ("群馬県みなかみ町月夜野1234", Nearness::StreetNear),
        ("群馬県みなかみ町月夜野99", Nearness::TownOther),
        ("群馬県みなかみ町月夜野", Nearness::Town),
        ("群馬県みなかみ町湯原1", Nearness::City),
        ("群馬県前橋市大手町1-1-1", Nearness::Prefecture),
        ("東京都港区芝1-1-1", Nearness::Apart),
        ("", Nearness::Unknown),
    ] {
        assert_eq!(
            address::compare(&house, &place(other, "")),
            nearness,
            "{other}"
        );
    }
    let (in_city, other_ward) = (
        place("横浜市鶴見区上の宮1-1", ""),
        place("横浜市西区上の宮1-1", ""),
    );
    assert_ne!(address::compare(&in_city, &other_ward), Nearness::Street);
    let (typed, without) = (place("青葉県みなと市芝1-2", ""), place("みなと市芝1-2", ""));
    assert_eq!(address::compare(&typed, &without), Nearness::Street);
    let (ga, ke) = (
        place("神戸市西区富士見が丘5-15-23", ""),
        place("神戸市西区富士見ヶ丘5-15-23", ""),
    );
    assert_eq!(address::compare(&ga, &ke), Nearness::Street);
    let (later, other) = (
        place("山梨県小菅村次に664番地以降がくる場合1932番", ""),
        place("山梨県小菅村次に664番地以降がくる場合208番地の5", ""),
    );
    assert_eq!(
        address::compare(&later, &other),
        Nearness::TownOther,
        "the number is of the town"
    );
    let (a, b) = (
        place("甲市乙町1-2", "400-0001"),
        place("甲市丙町5-9", "400-0001"),
    );
    assert_eq!(address::compare(&a, &b), Nearness::TownOther);
    let (a, b) = (place("甲市乙町1-2", "400-0001"), place("甲市", "400-0001"));
    assert_eq!(address::compare(&a, &b), Nearness::Town);
    let (first, second) = (
        place("四日市市一番町1-2", ""),
        place("四日市市二番町1-2", ""),
    );
    assert_eq!(
        address::compare(&first, &second),
        Nearness::City,
        "numerals in town names stay"
    );
}

/// Any text: kana, kanji, marks, direction characters, and anything else.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ぁ-ゖァ-ヺーｦ-ﾟ゛゜]{0,12}",
        "[一-龠々髙﨑●〓?]{0,8}[0-9０-９丁目番地号の-]{0,8}",
        "\\PC{0,24}",
        "[\u{202A}-\u{202E}\u{2066}-\u{2069}\u{200B}-\u{200F}A-Za-z]{0,12}",
    ]
}

/// Text as it is typed in Japan: kana of any width, kanji with masks and house numbers, letters.
fn typed_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ぁ-ゖァ-ヺーｦ-ﾟ゛゜]{0,12}",
        "[一-龠々髙﨑●〓?]{0,8}[0-9０-９丁目番地号の-]{0,8}",
        "[A-Za-zĀ-ſ' -]{0,16}",
    ]
}

proptest! {
    #[test]
    fn keys_of_keys_are_themselves(text in typed_text()) {
        for key in [kanji::key, kana::key, romaji::key] {
            let once = key(&text);
            prop_assert_eq!(key(&once), once);
        }
        let weak = kana::weak(&kana::key(&text));
        prop_assert_eq!(kana::weak(&weak), weak);
    }

    #[test]
    fn nothing_breaks(text in any_text(), other in any_text()) {
        let (a, b) = (place(&text, &other), place(&other, &text));
        prop_assert_eq!(address::compare(&a, &b), address::compare(&b, &a));
        let _ = (number::phone(&text), number::policy(&text, &other, &text), birth_date(&text));
        let _ = (name::clean(&text), number::branch(&text), number::looks_like_my_number(&text));
    }
}

/// P-10: a name of 10 MiB costs no more than a long one; it is read as far as any name goes.
#[test]
fn ten_mebibytes_are_read_as_far_as_a_name_goes() {
    for unit in ["あ\u{202E}\u{0}", "山", "ｶﾞ", "\u{E0100}", "1-", "A\u{301}"] {
        let long = unit.repeat(10 * 1024 * 1024 / unit.len());
        let keys = [
            kanji::key(&long),
            kana::key(&long),
            romaji::key(&long),
            name::clean(&long).name,
        ];
        assert!(
            keys.iter()
                .all(|key| key.chars().count() <= 4 * super::MAX_CHARS),
            "{unit:?}"
        );
        let _ = (place(&long, &long), number::phone(&long), birth_date(&long));
    }
}
