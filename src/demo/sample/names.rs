//! Our own small lists of names, with the kanji variants that split one person in two.

/// A family or given name in its three writings.
#[derive(PartialEq, Eq)]
pub(super) struct Name {
    /// Kanji in the form taught at school.
    pub(super) kanji: &'static str,
    /// The same name in an older or variant form; equal to `kanji` where there is none.
    pub(super) variant: &'static str,
    /// Full-width katakana.
    pub(super) kana: &'static str,
    /// Hepburn without long vowels.
    pub(super) romaji: &'static str,
}

/// A name with a variant writing.
pub(super) const fn name(
    kanji: &'static str,
    variant: &'static str,
    kana: &'static str,
    romaji: &'static str,
) -> Name {
    Name {
        kanji,
        variant,
        kana,
        romaji,
    }
}

/// Family names; the first fifteen have a variant form.
pub(super) static FAMILIES: [Name; 34] = [
    name("高橋", "髙橋", "タカハシ", "Takahashi"),
    name("斎藤", "齋藤", "サイトウ", "Saito"),
    name("渡辺", "渡邊", "ワタナベ", "Watanabe"),
    name("山崎", "山﨑", "ヤマザキ", "Yamazaki"),
    name("吉田", "𠮷田", "ヨシダ", "Yoshida"),
    name("浜田", "濱田", "ハマダ", "Hamada"),
    name("沢田", "澤田", "サワダ", "Sawada"),
    name("広瀬", "廣瀬", "ヒロセ", "Hirose"),
    name("富田", "冨田", "トミタ", "Tomita"),
    name("黒沢", "黒澤", "クロサワ", "Kurosawa"),
    name("桜井", "櫻井", "サクライ", "Sakurai"),
    name("滝本", "瀧本", "タキモト", "Takimoto"),
    name("島村", "嶋村", "シマムラ", "Shimamura"),
    name("国枝", "國枝", "クニエダ", "Kunieda"),
    name("中条", "中條", "チュウジョウ", "Chujo"),
    name("庄司", "庄司", "ショウジ", "Shoji"),
    name("首藤", "首藤", "シュトウ", "Shuto"),
    name("中原", "中原", "ナカハラ", "Nakahara"),
    name("小野寺", "小野寺", "オノデラ", "Onodera"),
    name("大石", "大石", "オオイシ", "Oishi"),
    name("宮下", "宮下", "ミヤシタ", "Miyashita"),
    name("柏木", "柏木", "カシワギ", "Kashiwagi"),
    name("片桐", "片桐", "カタギリ", "Katagiri"),
    name("杉浦", "杉浦", "スギウラ", "Sugiura"),
    name("岩本", "岩本", "イワモト", "Iwamoto"),
    name("村松", "村松", "ムラマツ", "Muramatsu"),
    name("新井", "新井", "アライ", "Arai"),
    name("白石", "白石", "シライシ", "Shiraishi"),
    name("北川", "北川", "キタガワ", "Kitagawa"),
    name("本間", "本間", "ホンマ", "Homma"),
    name("長谷川", "長谷川", "ハセガワ", "Hasegawa"),
    name("今西", "今西", "イマニシ", "Imanishi"),
    name("津田", "津田", "ツダ", "Tsuda"),
    name("坂口", "坂口", "サカグチ", "Sakaguchi"),
];

/// Given names of men.
pub(super) static MEN: [Name; 21] = [
    name("健一", "健一", "ケンイチ", "Kenichi"),
    name("翔", "翔", "ショウ", "Sho"),
    name("隆志", "隆志", "タカシ", "Takashi"),
    name("修平", "修平", "シュウヘイ", "Shuhei"),
    name("誠", "誠", "マコト", "Makoto"),
    name("亮介", "亮介", "リョウスケ", "Ryosuke"),
    name("和也", "和也", "カズヤ", "Kazuya"),
    name("純", "純", "ジュン", "Jun"),
    name("俊夫", "俊夫", "トシオ", "Toshio"),
    name("昭三", "昭三", "ショウゾウ", "Shozo"),
    name("正男", "正男", "マサオ", "Masao"),
    name("大輔", "大輔", "ダイスケ", "Daisuke"),
    name("直人", "直人", "ナオト", "Naoto"),
    name("勇気", "勇気", "ユウキ", "Yuki"),
    name("清", "清", "キヨシ", "Kiyoshi"),
    name("真一", "眞一", "シンイチ", "Shinichi"),
    name("徳次", "德次", "トクジ", "Tokuji"),
    name("達郎", "達郎", "タツロウ", "Tatsuro"),
    name("潤一", "潤一", "ジュンイチ", "Junichi"),
    name("恭平", "恭平", "キョウヘイ", "Kyohei"),
    name("康弘", "康弘", "ヤスヒロ", "Yasuhiro"),
];

/// Given names of women.
pub(super) static WOMEN: [Name; 21] = [
    name("京子", "京子", "キョウコ", "Kyoko"),
    name("恵", "惠", "メグミ", "Megumi"),
    name("順子", "順子", "ジュンコ", "Junko"),
    name("良子", "良子", "リョウコ", "Ryoko"),
    name("由美", "由美", "ユミ", "Yumi"),
    name("静江", "靜江", "シズエ", "Shizue"),
    name("千尋", "千尋", "チヒロ", "Chihiro"),
    name("美咲", "美咲", "ミサキ", "Misaki"),
    name("秋子", "秋子", "アキコ", "Akiko"),
    name("久美子", "久美子", "クミコ", "Kumiko"),
    name("彩", "彩", "アヤ", "Aya"),
    name("佳代", "佳代", "カヨ", "Kayo"),
    name("芙美", "芙美", "フミ", "Fumi"),
    name("幸枝", "幸枝", "ユキエ", "Yukie"),
    name("真由", "眞由", "マユ", "Mayu"),
    name("栄子", "榮子", "エイコ", "Eiko"),
    name("春菜", "春菜", "ハルナ", "Haruna"),
    name("瑞穂", "瑞穂", "ミズホ", "Mizuho"),
    name("志津", "志津", "シズ", "Shizu"),
    name("柚希", "柚希", "ユズキ", "Yuzuki"),
    name("翔子", "翔子", "ショウコ", "Shoko"),
];
