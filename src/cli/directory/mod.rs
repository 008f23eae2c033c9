//! `renkei directory`: who is in the network, where, and how they are.

mod show;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::cli::client::Session;
use crate::cli::connection::Connection;
use crate::cli::directory_file;
use crate::cli::failure::Problem;
use crate::cli::idempotency_key;
use crate::cli::names::{elapsed, join, label, time};
use crate::cli::output::{Done, Output, Table, Text};
use crate::wire::pb::directory::{
    ApplyDirectoryRequest, ApplyDirectoryResponse, BilingualName, BreakerState, CertificatePin,
    CommunityKind, GetRegionStatusRequest, GetRegionStatusResponse, MemberStatus, RegionHealth,
    SuspendInstitutionRequest,
};

/// Between two looks at a region that joins.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// The directory: communities, institutions, and how every region is
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei directory join --as operator.toml east.toml\n  \
    renkei directory status --as operator.toml --probe")]
pub(crate) struct Directory {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

const APPLY_HELP: &str = "\
Examples:
  renkei directory apply --as operator.toml --check network.toml
  renkei directory apply --as operator.toml network.toml

The file is TOML, or JSON with the same keys; unknown keys are refused:
  [[community]]
  home_community_id = \"urn:oid:2.999.1.1\"
  name_ja = \"東部地域医療ネットワーク\"
  name_en = \"East Regional Network\"
  kind = \"region\"                       # hub, region, hosted
  endpoint = \"https://east.example.jp:7443\"
  gateway_pins = [\"9f86d0…\"]            # SHA-256 of the public key, as `renkei pki show` prints it
  assigning_authorities = [\"1.2.392.100495.20.3.51.11310000001\"]
  repositories = [\"2.999.3.1\"]

  [[institution]]
  institution_id = \"1310000001\"
  name_ja = \"東病院\"
  home_community_id = \"urn:oid:2.999.1.1\"
  kind = \"hospital\"
  emergency = true
  pins = [\"2c26b4…\"]                    # for a rollover several; with more about one as a table:
  # pins = [{ issuer = \"CN=Issuing CA,O=Example,C=JP\", serial = \"1f\", until = \"2027-04-01T00:00:00+09:00\" }]
  roles = []                            # none: every role
  purposes = []                         # none: every purpose";

#[derive(Debug, Subcommand)]
enum Command {
    /// Add, change or retire members, all or nothing, as a file says
    #[command(after_help = APPLY_HELP)]
    Apply {
        /// The file: TOML or JSON
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only check; change nothing
        #[arg(long)]
        check: bool,
        /// Apply only if the directory's version is still this
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        expected_version: u64,
    },
    /// Take a region in: check its file, apply it, and see both ways work: the hub reaches the
    /// region, and the region has taken the directory from the hub
    #[command(
        after_help = "Example:\n  renkei directory join --as operator.toml east.toml\n\n\
        Exit status 3 if it was taken in, but one of the two ways does not work yet. The file is that \
        of `apply`."
    )]
    Join {
        /// The file: TOML or JSON
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Seconds that the two ways may take
        #[arg(long, value_name = "SECONDS", default_value_t = 20)]
        wait: u64,
    },
    /// Show communities and institutions
    #[command(after_help = "Examples:\n  \
        renkei directory show --as operator.toml\n  \
        renkei directory show --as operator.toml --community urn:oid:2.999.1.1 --text 病院")]
    Show(show::Show),
    /// Tell how every region is; exit status 3 if one does not answer
    #[command(after_help = "Example:\n  renkei directory status --as operator.toml --probe")]
    Status {
        /// Ask them now; without it, what was last seen
        #[arg(long)]
        probe: bool,
        /// Only this community (homeCommunityId); repeat for several
        #[arg(long = "community", value_name = "OID")]
        communities: Vec<String>,
    },
    /// Suspend an institution, or one certificate of it, at once
    #[command(after_help = "Example:\n  \
        renkei directory suspend --as operator.toml 1310000001 --because 'key stolen'")]
    Suspend(Suspend),
    /// Let a suspended institution in again
    #[command(after_help = "Example:\n  \
        renkei directory reinstate --as operator.toml 1310000001 --because 'new certificate'")]
    Reinstate(Suspend),
}

#[derive(Args, Debug)]
struct Suspend {
    /// Code of the institution
    #[arg(value_name = "INSTITUTION")]
    institution: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// Only this certificate of it: the pin it is registered by
    #[arg(long, value_name = "PIN", conflicts_with_all = ["issuer", "serial"])]
    pin: Option<String>,
    /// Only this certificate of it: the issuer it is registered by
    #[arg(long, value_name = "NAME", requires = "serial")]
    issuer: Option<String>,
    /// The serial number it is registered by, hexadecimal
    #[arg(long, value_name = "HEX", requires = "issuer")]
    serial: Option<String>,
}

impl Directory {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::Apply {
                file,
                check,
                expected_version,
            } => {
                let request = ApplyDirectoryRequest {
                    validate_only: check,
                    expected_version,
                    ..read(&file)?
                };
                let answer = apply(&session, request).await?;
                out.answer(&answer, |text| show_applied(text, &answer, check))?;
                Ok(Done::All)
            }
            Command::Join { file, wait } => {
                let wait = Duration::from_secs(wait);
                join_network(&session, &file, wait, out).await
            }
            Command::Show(show) => show.run(session, out).await,
            Command::Status { probe, communities } => {
                status(&session, communities, probe, out).await
            }
            Command::Suspend(one) => one.run(false, session, out).await,
            Command::Reinstate(one) => one.run(true, session, out).await,
        }
    }
}

fn read(file: &Path) -> Result<ApplyDirectoryRequest> {
    let at = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(at)?;
    let request = directory_file::parse(&text).with_context(at)?;
    Ok(ApplyDirectoryRequest {
        idempotency_key: idempotency_key(),
        ..request
    })
}

async fn apply(
    session: &Session,
    request: ApplyDirectoryRequest,
) -> Result<ApplyDirectoryResponse> {
    let answer = session.directory().apply_directory(request).await?;
    Ok(answer.into_inner())
}

fn show_applied(text: &mut Text, answer: &ApplyDirectoryResponse, check: bool) {
    let done = if check { "would be taken" } else { "in force" };
    text.field("Directory", format!("version {}, {done}", answer.version));
    for warning in &answer.warnings {
        text.field("Warning", warning);
    }
}

async fn join_network(session: &Session, file: &Path, wait: Duration, out: Output) -> Result<Done> {
    let request = read(file)?;
    let regions = request.communities.iter();
    let regions = regions.filter(|one| one.kind() == CommunityKind::Region);
    let joining: Vec<String> = regions.map(|one| one.home_community_id.clone()).collect();
    if joining.is_empty() {
        let message = format!("{}: has no [[community]] that is a region", file.display());
        return Err(Problem::new(message).into());
    }
    let check = ApplyDirectoryRequest {
        validate_only: true,
        idempotency_key: idempotency_key(),
        ..request.clone()
    };
    apply(session, check).await?;
    let applied = apply(session, request).await?;
    out.answer(&applied, |text| show_applied(text, &applied, false))?;
    let until = Instant::now() + wait;
    let works = |region: &RegionHealth| reached(region) && follows(region, applied.version);
    let (answer, joined) = loop {
        let answer = ask(session, joining.clone(), true).await?;
        // A region that is suspended is not told of, and has not joined.
        let working = answer.regions.iter().filter(|region| works(region)).count();
        let joined = working == joining.len();
        if joined || Instant::now() >= until {
            break (answer, joined);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    };
    out.answer(&answer, |text| {
        text.table(&health(&answer.regions));
        for region in &answer.regions {
            for (way, works) in [
                ("hub to region", reached(region)),
                ("region to hub", follows(region, applied.version)),
            ] {
                let said = if works { "works" } else { "DOES NOT WORK" };
                text.line(format!("{}: {way} {said}", region.home_community_id));
            }
        }
    })?;
    Ok(if joined { Done::All } else { Done::InPart })
}

/// The way from the hub to the region: its gateway answers, as that community.
fn reached(region: &RegionHealth) -> bool {
    region.reachable
}

/// The way from the region to the hub: it has taken the hub's directory, which it fetches by itself
/// with its own certificate, and believes only when the hub has signed it.
fn follows(region: &RegionHealth, version: u64) -> bool {
    region.directory_version >= version
}

async fn ask(
    session: &Session,
    home_community_ids: Vec<String>,
    probe: bool,
) -> Result<GetRegionStatusResponse> {
    let request = GetRegionStatusRequest {
        home_community_ids,
        probe,
    };
    let answer = session.directory().get_region_status(request).await?;
    Ok(answer.into_inner())
}

async fn status(
    session: &Session,
    home_community_ids: Vec<String>,
    probe: bool,
    out: Output,
) -> Result<Done> {
    let answer = ask(session, home_community_ids, probe).await?;
    let absent = |one: &&RegionHealth| !one.reachable && !one.planned_absence;
    let missing = answer.regions.iter().filter(absent).count();
    out.answer(&answer, |text| {
        text.table(&health(&answer.regions));
        text.line(format!(
            "{} regions, {missing} do not answer",
            answer.regions.len()
        ));
    })?;
    Ok(if missing == 0 {
        Done::All
    } else {
        Done::InPart
    })
}

fn health(regions: &[RegionHealth]) -> Table {
    let mut table = Table::new([
        "Region",
        "Community",
        "Answers",
        "Breaker",
        "Last seen",
        "p50",
        "p99",
        "Calls 5 min",
        "Failed",
        "Waiting",
        "Directory",
        "Locator told",
        "Locator compared",
        "Certificate to",
        "Version",
        "Last failure",
    ]);
    for region in regions {
        let answers = match (region.reachable, region.planned_absence) {
            (true, _) => "yes",
            (false, true) => "away as planned",
            (false, false) => "NO",
        };
        let waiting = match region.queued_notices {
            0 => String::new(),
            count => join(
                [
                    &count.to_string(),
                    &elapsed(region.oldest_notice_age.as_ref()),
                ],
                ", ",
            ),
        };
        table.row([
            name(region.name.as_ref()),
            region.home_community_id.clone(),
            answers.to_owned(),
            label::<BreakerState>(region.breaker),
            time(region.last_seen.as_ref()),
            elapsed(region.latency_p50.as_ref()),
            elapsed(region.latency_p99.as_ref()),
            region.recent_calls.to_string(),
            region.recent_failures.to_string(),
            waiting,
            region.directory_version.to_string(),
            told(region),
            compared(region),
            time(region.certificate_expires.as_ref()),
            region.software_version.clone(),
            region.last_failure_reason.clone(),
        ]);
    }
    table
}

/// How long ago the region last told what it holds.
fn told(region: &RegionHealth) -> String {
    let age = region.locator_notice_age.as_ref();
    age.map(|age| format!("{} ago", elapsed(Some(age))))
        .unwrap_or_default()
}

/// When the locator was last compared with what the region holds, and what differed.
fn compared(region: &RegionHealth) -> String {
    let found = region.locator_lacking + region.locator_left_over;
    match (region.locator_reconciled, found) {
        (None, _) => String::new(),
        (when, 0) => time(when.as_ref()),
        (when, found) => format!("{}, {found} differed", time(when.as_ref())),
    }
}

/// The Japanese name.
fn name(name: Option<&BilingualName>) -> String {
    name.map(|name| name.ja.clone()).unwrap_or_default()
}

impl Suspend {
    async fn run(self, reinstate: bool, session: Session, out: Output) -> Result<Done> {
        let named = self.pin.is_some() || self.issuer.is_some();
        let certificate = CertificatePin {
            spki_sha256: self.pin.unwrap_or_default(),
            issuer: self.issuer.unwrap_or_default(),
            serial_number: self.serial.unwrap_or_default(),
            ..CertificatePin::default()
        };
        let request = SuspendInstitutionRequest {
            institution_id: self.institution,
            reinstate,
            reason: self.because,
            idempotency_key: idempotency_key(),
            certificate: named.then_some(certificate),
        };
        let answer = session
            .directory()
            .suspend_institution(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            let now = answer
                .institution
                .as_ref()
                .map(|one| label::<MemberStatus>(one.status));
            text.field("Status", now.unwrap_or_default());
            text.field("Connections cut", answer.connections_closed.to_string());
            text.field("Directory", format!("version {}", answer.version));
        })?;
        Ok(Done::All)
    }
}
