//! Nodes witness each other's audit logs.

use std::sync::Arc;
use std::time::Duration;

use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::common as cpb;

use crate::support::calls::identifiers;
use crate::support::expect::{refused, said};
use crate::support::{At, Network, Setup, eventually};

const REGION: At = At::Region(0);

fn has_alarm(network: &Network, at: At, code: &str) -> bool {
    let alarms = network.gateway(at).edge.alarms.list();
    alarms.iter().any(|alarm| alarm.code == code)
}

/// Whether a question is looked at: it is about nobody, so there is another answer than "no" only if
/// the node answers nothing at all.
async fn served(caller: &Caller) -> bool {
    let answer = identifiers(caller, cpb::Identifier::default()).await;
    !said(&answer.unwrap_err()).contains(Reason::AuditNotWitnessed.name())
}

async fn witnessed(network: &Network) {
    let log = network.gateway(At::Hub).audit.log();
    let witness = network.gateway(REGION).audit.log().witness_key();
    eventually("the region has cosigned what the hub signed", || async {
        let size = log.witnessed_last()?;
        (log.cosigned(size, std::slice::from_ref(&witness)) == 1).then_some(())
    })
    .await;
    eventually("the alarm is over", || async {
        (!has_alarm(network, At::Hub, "AUDIT_NOT_WITNESSED")).then_some(())
    })
    .await;
}

/// with every witness stopped there is an alarm, then ordinary disclosure stops; it goes on
/// when they are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_witnesses_disclosure_stops() {
    let mut network = Setup::federation(1).start().await;
    let key = network.gateway(REGION).audit.log().witness_key();
    network.stop_node(At::Hub).await;
    network.set("audit.witnesses", &format!("[\"{key}\"]"));
    network.set("audit.quorum", "1");
    network.set("audit.grace_minutes", "0");
    network.start_node(At::Hub).await;
    witnessed(&network).await;
    // What is given out carries the cosignature.
    let operator = network.operator(At::Hub);
    let mut client = AuditServiceClient::new(operator.channel.clone());
    let size = network
        .gateway(At::Hub)
        .audit
        .log()
        .witnessed_last()
        .unwrap();
    let request = pb::GetConsistencyProofRequest {
        from_size: 1,
        to_size: size,
    };
    let proof = client
        .get_consistency_proof(operator.request(request))
        .await;
    let note: renkei::audit::note::Note = proof.unwrap().into_inner().checkpoint.parse().unwrap();
    assert!(note.is_signed_by(&key));

    let institution = &network.sample.regions[0].institutions[0];
    let system = network.system(At::Hub, institution);
    assert!(served(&system).await);
    network.stop_node(REGION).await;
    // Something has happened since, so that there is something to witness.
    let _maybe = served(&system).await;
    eventually("there is an alarm", || async {
        has_alarm(&network, At::Hub, "AUDIT_NOT_WITNESSED").then_some(())
    })
    .await;
    assert!(!served(&system).await);
    network.start_node(REGION).await;
    witnessed(&network).await;
    assert!(served(&system).await);
    network.stop().await;
}

/// Since when witnesses are lacking outlives the node: a restart grants no time anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_grants_no_time_without_witnesses() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let setup = Setup::federation(1).clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let mut network = setup.start().await;
    let key = network.gateway(REGION).audit.log().witness_key();
    network.stop_node(REGION).await;
    network.stop_node(At::Hub).await;
    network.set("audit.witnesses", &format!("[\"{key}\"]"));
    network.set("audit.quorum", "1");
    network.set("audit.grace_minutes", "60");
    network.start_node(At::Hub).await;
    let institution = network.sample.regions[0].institutions[0].clone();
    let system = network.system(At::Hub, &institution);
    let _maybe = served(&system).await;
    let alarmed = || async { has_alarm(&network, At::Hub, "AUDIT_NOT_WITNESSED").then_some(()) };
    eventually("there is an alarm", alarmed).await;
    assert!(served(&system).await, "there is an hour");
    // Twice forty minutes, with a restart between.
    clock.advance(Duration::from_mins(40));
    let system = network.system(At::Hub, &institution);
    assert!(served(&system).await);
    network.stop_node(At::Hub).await;
    network.start_node(At::Hub).await;
    clock.advance(Duration::from_mins(40));
    let system = network.system(At::Hub, &institution);
    assert!(!served(&system).await);
    // Enough witnesses again, and the time is forgotten.
    network.start_node(REGION).await;
    witnessed(&network).await;
    let system = network.system(At::Hub, &institution);
    eventually("it is served again", || async {
        served(&system).await.then_some(())
    })
    .await;
    network.stop().await;
}

/// A node cosigns for the gateway of the log's community only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_gateway_has_its_own_log_cosigned() {
    let network = Setup::federation(1).start().await;
    let signed = network.gateway(REGION).audit.log().checkpoint().unwrap();
    let request = pb::CosignCheckpointRequest {
        verifier_key: network.gateway(REGION).audit.log().verifier().to_string(),
        checkpoint: signed.note.to_string(),
        ..Default::default()
    };
    for caller in [
        network.operator(At::Hub),
        network.system(At::Hub, &network.sample.regions[0].institutions[0]),
    ] {
        let mut client = AuditServiceClient::new(caller.channel.clone());
        let answer = client
            .cosign_checkpoint(caller.request(request.clone()))
            .await;
        refused(answer, Reason::NotPermitted);
    }
    network.stop().await;
}
