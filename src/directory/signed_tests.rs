//! A hub's directory at a region: what is believed, and for how long.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;
use tempfile::TempDir;

use super::service::difference;
use super::{Directory, KEPT, RENEWED};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::sample::{Sample, SampleConfig};
use crate::demo::world::World;
use crate::error::{Error, Reason};
use crate::gateway::schema;
use crate::pki::{IdentityHandle, TrustHandle, detached};
use crate::store::{Commit, Options, Store};
use crate::wire::pb::directory as pb;

const HOUR: Duration = Duration::from_hours(1);

/// A hub and a region under it, their directories alone.
struct Sides {
    world: World,
    hub: Directory,
    region: Directory,
    config: Config,
    store: Arc<Store>,
    trust: Arc<TrustHandle>,
    now: Timestamp,
    _folder: TempDir,
}

fn open(folder: &Path) -> Arc<Store> {
    let (store, _) = Store::open(folder, schema(), Options::default()).unwrap();
    store
}

fn directory(world: &World) -> pb::ApplyDirectoryRequest {
    let regions = ["127.0.0.1:2".to_owned(), "127.0.0.1:3".to_owned()];
    world.directory("127.0.0.1:1", &regions).unwrap()
}

async fn sides() -> Sides {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sample = Sample::generate(&SampleConfig {
        regions: 2,
        patients: SampleConfig::MIN_PATIENTS,
        ..SampleConfig::default()
    });
    let world = World::create(&folder.path().join("world"), &sample, Arc::clone(&clock)).unwrap();
    let config = |text: String| Config::parse(&text, []).unwrap();
    let hub = config(world.hub_config("127.0.0.1:1").unwrap());
    let region = &world.regions[0];
    let region = world.region_config(region, "127.0.0.1:2", "127.0.0.1:1");
    let region_config = config(region.unwrap());
    let hub = Directory::open(open(&folder.path().join("hub")), &hub).unwrap();
    hub.preload(directory(&world)).await.unwrap();
    let store = open(&folder.path().join("region"));
    let region = Directory::open(Arc::clone(&store), &region_config).unwrap();
    Sides {
        trust: world.trust().unwrap(),
        hub,
        region,
        config: region_config,
        store,
        now: clock.now(),
        world,
        _folder: folder,
    }
}

impl Sides {
    fn identity(&self, name: &str) -> IdentityHandle {
        IdentityHandle::new(self.world.identity(name).unwrap())
    }

    /// The hub's directory as the hub signs it.
    fn signed(&self, now: Timestamp) -> pb::SignedDirectory {
        self.hub.signed(&self.identity("hub"), now).unwrap().1
    }

    async fn adopt(&self, signed: &pb::SignedDirectory, now: Timestamp) -> Result<u64, Error> {
        let parent = self.region.snapshot();
        let parent = parent.peer(&self.world.hub.home.parse().unwrap()).unwrap();
        self.region.adopt(signed, parent, &self.trust, now).await
    }

    /// Whether the region knows whose certificate this is.
    fn knows(&self, name: &str, now: Timestamp) -> bool {
        use crate::pki::Usage;
        let chain = self.world.identity(name).unwrap();
        let usage = match name.starts_with("inst-") {
            true => Usage::Institution,
            false => Usage::Server,
        };
        let judged = self.trust.judge(chain.chain(), usage, self.now).unwrap();
        self.region.snapshot().participant(&judged, now).is_some()
    }
}

/// What the hub says, changed, and signed by somebody.
fn altered(
    signed: &pb::SignedDirectory,
    by: &IdentityHandle,
    change: impl FnOnce(&mut pb::Directory),
) -> pb::SignedDirectory {
    let mut directory = pb::Directory::decode(signed.directory.clone()).unwrap();
    change(&mut directory);
    let octets = directory.encode_to_vec();
    pb::SignedDirectory {
        signature: detached::sign(&by.current(), super::signed::TYPE, &octets).unwrap(),
        directory: octets.into(),
    }
}

#[tokio::test]
async fn what_the_hub_signed_is_in_force_for_three_days_and_over_a_restart() {
    let all = sides().await;
    assert!(!all.knows("region-1", all.now));
    assert_eq!(all.adopt(&all.signed(all.now), all.now).await.unwrap(), 1);
    assert!(all.knows("region-1", all.now));
    let expires = all.region.expires().unwrap();
    let left = expires.duration_since(all.now).unsigned_abs();
    assert!(
        left <= KEPT && left + Duration::from_secs(1) > KEPT,
        "{left:?}"
    );

    // The hub is away: another start, the same directory, and the same end of it.
    let again = Directory::open(Arc::clone(&all.store), &all.config).unwrap();
    assert_eq!(again.snapshot().version(), 1);
    assert_eq!(again.expires(), Some(expires));

    // Not a moment longer about others; about its own, and about its hub, for as long as it takes.
    let own = all.world.regions[0].home.clone();
    let member = |own_member: bool| {
        let members = all.region.read().unwrap().institutions;
        let found = members
            .into_iter()
            .find(|one| (one.home_community_id == own) == own_member);
        format!("inst-{}", found.unwrap().institution_id)
    };
    let before = expires - HOUR;
    for name in ["region-1", "hub", &member(true), &member(false)] {
        assert!(all.knows(name, before), "{name}");
    }
    assert!(!all.knows("region-1", expires));
    assert!(!all.knows(&member(false), expires));
    assert!(all.knows(&member(true), expires));
    assert!(all.knows("hub", expires), "its hub is in its configuration");
}

#[tokio::test]
async fn the_same_version_issued_anew_lives_longer() {
    let all = sides().await;
    all.adopt(&all.signed(all.now), all.now).await.unwrap();
    let first = all.region.expires().unwrap();
    let later = all.now + RENEWED * 2;
    let renewed = all.signed(later);
    all.adopt(&renewed, later).await.unwrap();
    assert_eq!(all.region.expires().unwrap(), first + RENEWED * 2);
    // Sent again out of its turn it takes nothing back.
    all.adopt(&all.signed(all.now), later).await.unwrap();
    assert_eq!(all.region.expires().unwrap(), first + RENEWED * 2);
}

/// An institution that the region itself suspended stays so while its hub only renews.
#[tokio::test]
async fn what_a_region_changed_outlives_a_renewal_and_its_version_never_falls() {
    let all = sides().await;
    all.adopt(&all.signed(all.now), all.now).await.unwrap();
    let before = all.region.read().unwrap();
    let id = before.institutions[0].institution_id.clone();
    let name = format!("inst-{id}");
    assert!(all.knows(&name, all.now));
    let mut after = before.clone();
    after.version += 5;
    let suspended = pb::MemberStatus::Suspended.into();
    let mut institutions = after.institutions.iter_mut();
    let one = institutions.find(|one| one.institution_id == id);
    one.unwrap().status = suspended;
    let version = all.region.version().unwrap().changed(after.version);
    let commit = Commit {
        writes: difference(&before, &after, &version),
        ..Commit::default()
    };
    let _committed = all.store.commit(commit).await.unwrap();
    all.region.put_in_force(&after).unwrap();
    assert!(!all.knows(&name, all.now));

    let later = all.now + RENEWED * 2;
    all.adopt(&all.signed(later), later).await.unwrap();
    assert!(!all.knows(&name, later), "still suspended");
    assert_eq!(all.region.snapshot().version(), after.version);
    let expires = all.region.expires().unwrap().as_millisecond();
    assert_eq!(expires, (later + KEPT).as_millisecond());
    // Over a restart too.
    let again = Directory::open(Arc::clone(&all.store), &all.config).unwrap();
    assert_eq!(again.snapshot().version(), after.version);
}

/// A region suspends, or lets in again, as its operator does through the interface.
async fn suspend(all: &Sides, request: pb::SuspendInstitutionRequest) -> Result<(), Error> {
    let before = all.region.read().unwrap();
    let mut after = before.clone();
    after.version += 1;
    let mut institutions = after.institutions.iter_mut();
    let one = institutions.find(|one| one.institution_id == request.institution_id);
    let remembered = all.region.suspended(one.unwrap(), &request)?;
    let version = all.region.version().unwrap().changed(after.version);
    let mut writes = difference(&before, &after, &version);
    writes.extend(remembered);
    let commit = Commit {
        writes,
        ..Commit::default()
    };
    let _committed = all.store.commit(commit).await.unwrap();
    all.region.put_in_force(&after).unwrap();
    Ok(())
}

/// Whom a region put out stays out when its hub's directory changes, whatever that says of the member,
/// and comes in again only if neither wants it out.
#[tokio::test]
async fn a_new_version_lets_nobody_in_whom_the_region_suspended() {
    let all = sides().await;
    let hub = all.identity("hub");
    let first = all.signed(all.now);
    all.adopt(&first, all.now).await.unwrap();
    let members = all.region.read().unwrap().institutions;
    let (id, other) = (&members[0].institution_id, &members[1].institution_id);
    let (name, other_name) = (format!("inst-{id}"), format!("inst-{other}"));
    let request = |id: &str, reinstate| pb::SuspendInstitutionRequest {
        institution_id: id.to_owned(),
        reinstate,
        ..pb::SuspendInstitutionRequest::default()
    };
    let one_key = pb::SuspendInstitutionRequest {
        certificate: members[1].certificates.first().cloned(),
        ..request(other, false)
    };
    suspend(&all, request(id, false)).await.unwrap();
    suspend(&all, one_key.clone()).await.unwrap();
    assert!(!all.knows(&name, all.now) && !all.knows(&other_name, all.now));

    let of = |version, status: pb::MemberStatus| {
        altered(&first, &hub, |directory| {
            directory.version = version;
            directory.institutions[0].set_status(status);
        })
    };
    let newer = of(10, pb::MemberStatus::Active);
    all.adopt(&newer, all.now).await.unwrap();
    assert!(!all.knows(&name, all.now), "the institution stays out");
    assert!(
        !all.knows(&other_name, all.now),
        "and so does the certificate"
    );
    let again = Directory::open(Arc::clone(&all.store), &all.config).unwrap();
    assert_eq!(again.snapshot().version(), all.region.snapshot().version());

    suspend(&all, request(id, true)).await.unwrap();
    assert!(all.knows(&name, all.now), "let in where it was put out");
    // Both want it out: letting it in here is not enough.
    suspend(&all, request(id, false)).await.unwrap();
    let both = of(11, pb::MemberStatus::Suspended);
    all.adopt(&both, all.now).await.unwrap();
    suspend(&all, request(id, true)).await.unwrap();
    assert!(!all.knows(&name, all.now), "the hub wants it out");
    let error = suspend(&all, request(id, true)).await.unwrap_err();
    assert_eq!(
        error.reason(),
        Reason::WrongState,
        "it is the hub's to let in"
    );
    let newer = of(12, pb::MemberStatus::Active);
    all.adopt(&newer, all.now).await.unwrap();
    assert!(all.knows(&name, all.now));
    assert!(!all.knows(&other_name, all.now), "the other is still out");
    let let_in = pb::SuspendInstitutionRequest {
        reinstate: true,
        ..one_key
    };
    suspend(&all, let_in).await.unwrap();
    assert!(all.knows(&other_name, all.now));
}

/// An expired directory binds whom a node calls, as it binds who calls it.
#[tokio::test]
async fn nobody_is_called_by_a_directory_that_has_expired() {
    let all = sides().await;
    all.adopt(&all.signed(all.now), all.now).await.unwrap();
    let expires = all.region.expires().unwrap();
    let home = |region: usize| all.world.regions[region].home.parse().unwrap();
    let clock = Arc::new(crate::clock::ManualClock::at(expires - HOUR));
    let (region, trust) = (Arc::new(all.region), Arc::clone(&all.trust));
    let peers = crate::federation::Peers::new(
        Arc::clone(&region),
        IdentityHandle::new(all.world.identity("region-0").unwrap()),
        trust,
        Arc::clone(&clock) as Arc<dyn Clock>,
        crate::federation::Dialler::open(),
        (
            crate::federation::Links::new(Arc::default()),
            Arc::new(crate::edge::Clocks::new(
                crate::edge::State::new(&crate::config::Listen::default()),
                Arc::clone(&clock) as Arc<dyn Clock>,
                HOUR,
            )),
        ),
    );
    let other = peers.peer(&home(1)).unwrap();
    let hub = peers.peer(&all.world.hub.home.parse().unwrap()).unwrap();
    let own = peers.peer(&home(0)).unwrap();
    // Now it may be called, and there is a channel.
    drop(peers.channel(&other).unwrap());
    clock.advance(HOUR);
    for refused in [peers.channel(&other), peers.emergency_channel(&other)] {
        let error = refused.unwrap_err();
        assert_eq!(error.reason(), Reason::CommunityUnavailable, "{error:?}");
    }
    drop(
        peers
            .channel(&hub)
            .expect("its hub is in its configuration"),
    );
    drop(peers.channel(&own).expect("and itself is no other"));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let all = sides().await;
    let (hub, region) = (all.identity("hub"), all.identity("region-1"));
    let signed = all.signed(all.now);
    let newer = altered(&signed, &hub, |one| one.version = 5);
    all.adopt(&newer, all.now).await.unwrap();
    let in_force = all.region.read().unwrap();
    let time = |time| Some(crate::wire::timestamp(time));
    let mut bent = signed.directory.to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let cases = [
        ("an older version", signed.clone()),
        (
            "no signature",
            pb::SignedDirectory {
                signature: String::new(),
                ..newer.clone()
            },
        ),
        (
            "another's signature",
            pb::SignedDirectory {
                signature: newer.signature.clone(),
                directory: bent.into(),
            },
        ),
        (
            "signed by a region",
            altered(&signed, &region, |one| one.version = 6),
        ),
        (
            "expired",
            altered(&signed, &hub, |one| {
                one.version = 6;
                one.issued = time(all.now - KEPT);
                one.expires = time(all.now);
            }),
        ),
        (
            "of the future",
            altered(&signed, &hub, |one| {
                one.version = 6;
                one.issued = time(all.now + HOUR);
            }),
        ),
        (
            "for a year",
            altered(&signed, &hub, |one| {
                one.version = 6;
                one.expires = time(all.now + HOUR * 24 * 365);
            }),
        ),
        (
            "without an end",
            altered(&signed, &hub, |one| {
                one.version = 6;
                one.expires = None;
            }),
        ),
    ];
    for (what, signed) in cases {
        let error = all.adopt(&signed, all.now).await.unwrap_err();
        assert_eq!(error.reason(), Reason::PeerUntrusted, "{what}: {error:?}");
        assert_eq!(all.region.read().unwrap(), in_force, "{what}");
    }
    let malformed = altered(&signed, &hub, |one| {
        one.version = 6;
        one.communities[1].home_community_id = "nobody".into();
    });
    all.adopt(&malformed, all.now).await.unwrap_err();
    assert_eq!(all.region.read().unwrap(), in_force);
}

#[tokio::test]
async fn a_region_hands_it_on_no_longer_than_it_may_use_it() {
    let all = sides().await;
    all.adopt(&all.signed(all.now), all.now).await.unwrap();
    let later = all.now + HOUR * 10;
    let (version, handed) = all.region.signed(&all.identity("region-0"), later).unwrap();
    assert_eq!(version, 1);
    let handed = pb::Directory::decode(handed.directory).unwrap();
    let expires = crate::wire::from_timestamp(handed.expires.as_ref().unwrap());
    assert_eq!(expires, all.region.expires());
}
