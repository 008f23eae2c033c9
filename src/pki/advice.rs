//! Every rule of [`Refusal::rule`] in words for an operator: what it means, and what to do.

use super::Refusal;

/// One rule: its stable name, its meaning in Japanese, what to do in English and Japanese.
struct Words {
    rule: &'static str,
    japanese: &'static str,
    advice: (&'static str, &'static str),
}

/// What [`Refusal::rule`] means, in Japanese.
pub fn japanese(refusal: &Refusal) -> &'static str {
    words(refusal).map_or("規則に適合しません", |words| words.japanese)
}

/// What an operator can do about it, in English and in Japanese.
pub fn advice(refusal: &Refusal) -> (&'static str, &'static str) {
    words(refusal).map_or(("", ""), |words| words.advice)
}

/// The name of every rule of a certificate's judgement, in the order of the checks.
pub fn rules() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|words| words.rule)
}

fn words(refusal: &Refusal) -> Option<&'static Words> {
    let rule = refusal.rule();
    WORDS.iter().find(|words| words.rule == rule)
}

const WORDS: [Words; 47] = [
    Words {
        rule: "no-certificate",
        japanese: "証明書が提示されていません",
        advice: (
            "set the client certificate and key of the connecting system",
            "接続元システムにクライアント証明書と鍵を設定してください",
        ),
    },
    Words {
        rule: "chain-length",
        japanese: "証明書チェーンが長すぎます",
        advice: (
            "present the certificate and the CA certificates below the root only",
            "証明書とルートより下の認証局証明書だけを提示してください",
        ),
    },
    Words {
        rule: "certificate-size",
        japanese: "証明書が大きすぎます",
        advice: (
            "ask the CA for a certificate of usual size",
            "認証局に通常の大きさの証明書を依頼してください",
        ),
    },
    Words {
        rule: "malformed",
        japanese: "証明書の形式が不正です",
        advice: (
            "check that the file is the certificate as issued; ask the CA for it again",
            "ファイルが発行された証明書そのものか確認し、認証局から再取得してください",
        ),
    },
    Words {
        rule: "version",
        japanese: "X.509 バージョン 3 の証明書ではありません",
        advice: (
            "ask the CA for an X.509 version 3 certificate",
            "認証局に X.509 v3 の証明書を依頼してください",
        ),
    },
    Words {
        rule: "serial-number",
        japanese: "シリアル番号が不正です",
        advice: (
            "ask the CA to issue it again with a positive serial number",
            "正のシリアル番号での再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "algorithms-differ",
        japanese: "内側と外側の署名アルゴリズムが一致しません",
        advice: (
            "do not use this certificate; tell the CA, it may have been altered",
            "この証明書は改ざんのおそれがあります。使用せず認証局に連絡してください",
        ),
    },
    Words {
        rule: "signature-algorithm",
        japanese: "許容されない署名アルゴリズムです",
        advice: (
            "ask the CA for a certificate signed with SHA-256 or better",
            "SHA-256 以上の署名アルゴリズムでの再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "key",
        japanese: "許容されない鍵の種類または鍵長です",
        advice: (
            "make a new key (RSA 3072 or ECDSA P-256) and have it certified",
            "新しい鍵(RSA 3072 または ECDSA P-256)を作り、証明書を取り直してください",
        ),
    },
    Words {
        rule: "duplicate-extension",
        japanese: "同じ拡張領域が重複しています",
        advice: (
            "ask the CA to issue it again without the repeated extension",
            "重複のない証明書の再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "unknown-critical-extension",
        japanese: "処理できないクリティカル拡張があります",
        advice: (
            "ask the CA what the extension is for; this gateway cannot honour it",
            "拡張の意味を認証局に確認してください。このゲートウェイは処理できません",
        ),
    },
    Words {
        rule: "not-critical",
        japanese: "必須の拡張がないか、クリティカルではありません",
        advice: (
            "ask the CA for a certificate that follows the HPKI profile",
            "HPKI プロファイルに従った証明書を認証局に依頼してください",
        ),
    },
    Words {
        rule: "not-yet-valid",
        japanese: "有効期間がまだ始まっていません",
        advice: (
            "check the clocks of both systems; otherwise wait until it is valid",
            "双方の時計を確認してください。正しければ有効期間の開始を待ってください",
        ),
    },
    Words {
        rule: "expired",
        japanese: "有効期限が切れています",
        advice: (
            "renew the certificate and register the new one before the old one ends",
            "証明書を更新し、期限前に新しい証明書を登録してください",
        ),
    },
    Words {
        rule: "validity-too-long",
        japanese: "有効期間がプロファイルの上限を超えています",
        advice: (
            "ask the CA for a certificate of shorter validity",
            "有効期間の短い証明書を認証局に依頼してください",
        ),
    },
    Words {
        rule: "authority-as-end-entity",
        japanese: "認証局証明書がエンドエンティティとして提示されました",
        advice: (
            "present the system's own certificate first, not the CA's",
            "認証局ではなく、自システムの証明書を先頭に提示してください",
        ),
    },
    Words {
        rule: "signing-certificate",
        japanese: "署名用証明書です。認証には認証用証明書を使ってください",
        advice: (
            "use the authentication certificate of the card, not the signing one",
            "署名用ではなく、認証用の証明書を選んでください",
        ),
    },
    Words {
        rule: "key-usage",
        japanese: "鍵使用目的がプロファイルに合いません",
        advice: (
            "ask the CA for a certificate with keyUsage digitalSignature",
            "keyUsage が digitalSignature の証明書を認証局に依頼してください",
        ),
    },
    Words {
        rule: "extended-key-usage",
        japanese: "拡張鍵使用目的がこの用途を許していません",
        advice: (
            "ask the CA for clientAuth (and serverAuth for a gateway that listens)",
            "clientAuth(待ち受けるゲートウェイは serverAuth も)を含む証明書を依頼してください",
        ),
    },
    Words {
        rule: "subject-text",
        japanese: "主体者名に使用できない文字が含まれています",
        advice: (
            "ask the CA to issue it again without hidden or control characters",
            "制御文字や不可視文字のない名称での再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "subject-ambiguous",
        japanese: "主体者名の属性が重複しています",
        advice: (
            "ask the CA to issue it again with each attribute once",
            "属性を一つずつにした再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "subject-incomplete",
        japanese: "主体者名に必須の属性がありません",
        advice: (
            "ask the CA to issue it again with the missing attribute",
            "不足する属性を入れた再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "institution-code-missing",
        japanese: "10桁の医療機関コードがありません",
        advice: (
            "have the 10-digit institution code put into OU",
            "10桁の医療機関コードを OU に入れてもらってください",
        ),
    },
    Words {
        rule: "issuer-unknown",
        japanese: "信頼された発行者が見つかりません",
        advice: (
            "check tls.roots and tls.intermediates, and that the certificate is from a CA of this network",
            "tls.roots と tls.intermediates を確認し、この網で認められた認証局の証明書か確かめてください",
        ),
    },
    Words {
        rule: "authority-key-identifier",
        japanese: "認証局鍵識別子が発行者と一致しません",
        advice: (
            "configure the CA certificate that really issued it; a CA may have renewed its key",
            "実際の発行者の認証局証明書を設定してください(認証局の鍵更新の可能性)",
        ),
    },
    Words {
        rule: "signature",
        japanese: "発行者の鍵による署名ではありません",
        advice: (
            "do not use this certificate: forged, or from a CA of the same name",
            "この証明書は使用しないでください(偽造、または同名の別の認証局)",
        ),
    },
    Words {
        rule: "path-too-complex",
        japanese: "認証経路が複雑すぎます",
        advice: (
            "configure fewer CA certificates of the same name",
            "同名の認証局証明書の数を減らしてください",
        ),
    },
    Words {
        rule: "not-authority",
        japanese: "発行者が認証局証明書ではありません",
        advice: (
            "configure the issuing CA's certificate, not another one",
            "発行した認証局の証明書を設定してください",
        ),
    },
    Words {
        rule: "key-cert-sign",
        japanese: "発行者に証明書署名の権限(keyCertSign)がありません",
        advice: (
            "do not trust this issuer; tell its CA",
            "この発行者は信頼できません。上位の認証局に連絡してください",
        ),
    },
    Words {
        rule: "path-length",
        japanese: "認証経路長の制約に違反しています",
        advice: (
            "do not trust this issuer: its CA does not allow it",
            "この発行者は上位の認証局に認められていません。信頼しないでください",
        ),
    },
    Words {
        rule: "name-constraints",
        japanese: "名称が認証局の名前制約に違反しています",
        advice: (
            "ask the CA that is allowed to certify this name",
            "この名称の発行が認められた認証局に依頼してください",
        ),
    },
    Words {
        rule: "policy-missing",
        japanese: "証明書ポリシがありません",
        advice: (
            "use a certificate issued under an HPKI policy",
            "HPKI の証明書ポリシに基づく証明書を使ってください",
        ),
    },
    Words {
        rule: "policy-malformed",
        japanese: "証明書ポリシの記述が RFC 5280 に違反しています",
        advice: (
            "ask the CA to correct certificatePolicies",
            "certificatePolicies の修正を認証局に依頼してください",
        ),
    },
    Words {
        rule: "any-policy",
        japanese: "anyPolicy のみの証明書は受け付けません",
        advice: (
            "use a certificate issued under an HPKI policy",
            "HPKI の証明書ポリシに基づく証明書を使ってください",
        ),
    },
    Words {
        rule: "policy-not-accepted",
        japanese: "この用途に認められた証明書ポリシではありません",
        advice: (
            "use a certificate for this purpose (organisation or person authentication); a test certificate needs the test profile",
            "用途に合う証明書(認証用組織・認証用人)を使ってください。試験用証明書には試験用プロファイルが必要です",
        ),
    },
    Words {
        rule: "hc-role-missing",
        japanese: "hcRole がありません",
        advice: (
            "ask the CA for a certificate with hcRole",
            "hcRole を含む証明書を認証局に依頼してください",
        ),
    },
    Words {
        rule: "hc-role-malformed",
        japanese: "hcRole の形式が不正です",
        advice: (
            "ask the CA to correct hcRole (ISO 17090)",
            "hcRole(ISO 17090)の修正を認証局に依頼してください",
        ),
    },
    Words {
        rule: "hc-role-duplicate",
        japanese: "hcRole が重複しています",
        advice: (
            "ask the CA to issue it again with each role once",
            "資格を一つずつにした再発行を認証局に依頼してください",
        ),
    },
    Words {
        rule: "hc-role-unknown",
        japanese: "未知の hcRole です",
        advice: (
            "check the spelling of the role; add it to the profile if HPKI has it",
            "資格名の綴りを確認してください。HPKI の資格ならプロファイルに追加してください",
        ),
    },
    Words {
        rule: "hc-role-kind",
        japanese: "この種別の証明書に使えない hcRole です",
        advice: (
            "use an organisation certificate for systems and a person's for people",
            "システムには組織用、人には人用の証明書を使ってください",
        ),
    },
    Words {
        rule: "crl-missing",
        japanese: "対象となる失効リストがありません",
        advice: (
            "give the issuer's revocation list (tls.crls); check its distribution point",
            "発行者の失効リスト(tls.crls)を設定し、配布点を確認してください",
        ),
    },
    Words {
        rule: "crl-expired",
        japanese: "失効リストの次回更新日時を過ぎています",
        advice: (
            "fetch a newer revocation list; check the proxy and the CA's repository",
            "新しい失効リストを取得してください。プロキシと認証局のリポジトリを確認してください",
        ),
    },
    Words {
        rule: "crl-not-yet-valid",
        japanese: "失効リストの発行日時が未来です",
        advice: (
            "check this node's clock",
            "このノードの時計を確認してください",
        ),
    },
    Words {
        rule: "crl-sign",
        japanese: "発行者に失効リスト署名の権限(cRLSign)がありません",
        advice: (
            "configure the CA certificate that may sign revocation lists",
            "失効リストに署名できる認証局の証明書を設定してください",
        ),
    },
    Words {
        rule: "revoked",
        japanese: "証明書は失効しています",
        advice: (
            "do not use this certificate; have a new one issued",
            "この証明書は使えません。新しい証明書の発行を受けてください",
        ),
    },
    Words {
        rule: "server-name",
        japanese: "証明書のサーバ名が接続先と一致しません",
        advice: (
            "call the gateway by a name that its certificate has",
            "証明書に書かれた名前で接続してください",
        ),
    },
    Words {
        rule: "pin",
        japanese: "登録された鍵と一致しません",
        advice: (
            "register the new certificate in the directory, if the change is genuine",
            "正当な更新であれば、新しい証明書を名簿に登録してください",
        ),
    },
];

#[cfg(test)]
mod tests {
    use super::WORDS;

    #[test]
    fn every_rule_has_words_in_both_languages() {
        // The rule names are the string literals of `Refusal::rule`.
        let source = include_str!("refusal.rs");
        let body = source.split("pub fn rule(&self)").nth(1).unwrap();
        let rules: Vec<&str> = body
            .lines()
            .filter_map(|line| {
                line.split_once("=> \"")?
                    .1
                    .split_once('"')
                    .map(|(rule, _)| rule)
            })
            .collect();
        assert_eq!(rules.len(), WORDS.len());
        for rule in rules {
            assert!(WORDS.iter().any(|words| words.rule == rule), "{rule}");
        }
    }
}
