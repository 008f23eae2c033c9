//! gRPC: one file a service, and the routes.

mod admin;
mod admit;
mod audit;
mod consent;
mod directory;
mod discover;
mod documents;
mod door;
mod emergency;
mod federation;
mod holdings;
mod identity;
mod made;
mod passes;
mod purges;
mod referrals;
mod reflect;
mod registry;
mod retrieve;
mod revocable;
mod shown;
pub mod status;
mod watch;

use std::sync::Arc;

use tonic::service::Routes;

use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::wire::pb;
use admit::Services;
use door::Door;

/// The directory of 250 regions and 8,000 institutions is a few MiB; one message holds it.
const DIRECTORY_MESSAGE: usize = 64 * 1024 * 1024;

/// Every service of the node behind admission, with the message limits of the configuration, and
/// health and reflection for authenticated callers.
///
/// # Errors
/// If the descriptors for reflection cannot be read.
pub fn services(gateway: &Arc<Gateway>) -> Result<Services> {
    use pb::admin::admin_service_server::AdminServiceServer;
    use pb::audit::audit_service_server::AuditServiceServer;
    use pb::consent::consent_service_server::ConsentServiceServer;
    use pb::directory::directory_service_server::DirectoryServiceServer;
    use pb::documents::document_service_server::DocumentServiceServer;
    use pb::emergency::emergency_service_server::EmergencyServiceServer;
    use pb::federation::initiating_gateway_service_server::InitiatingGatewayServiceServer;
    use pb::federation::responding_gateway_service_server::RespondingGatewayServiceServer;
    use pb::identity::identity_service_server::IdentityServiceServer;

    let door = Door::new(Arc::clone(gateway));
    let limit = gateway.config.listen.max_message_bytes;
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit)
        };
    }
    let directory = DirectoryServiceServer::new(directory::Directories(door.clone()))
        .max_decoding_message_size(DIRECTORY_MESSAGE)
        .max_encoding_message_size(DIRECTORY_MESSAGE);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Error::internal)?;
    let mut routes = Routes::builder();
    routes
        .add_service(limited!(
            IdentityServiceServer,
            identity::Identities(door.clone())
        ))
        .add_service(limited!(
            DocumentServiceServer,
            documents::DocumentSets(door.clone())
        ))
        .add_service(limited!(
            InitiatingGatewayServiceServer,
            federation::Initiating(door.clone())
        ))
        .add_service(limited!(
            RespondingGatewayServiceServer,
            federation::Responding(door.clone())
        ))
        .add_service(limited!(
            EmergencyServiceServer,
            emergency::Emergencies(door.clone())
        ))
        .add_service(limited!(
            ConsentServiceServer,
            consent::ConsentRecords(door.clone())
        ))
        .add_service(limited!(
            AuditServiceServer,
            audit::AuditRecords(door.clone())
        ))
        .add_service(limited!(AdminServiceServer, admin::Admin(door.clone())))
        .add_service(directory)
        .add_service(reflect::registered(gateway, reflection))
        .add_service(reflect::registered(gateway, reflect::health(gateway)));
    Ok(Services::new(gateway, door, routes.routes()))
}
