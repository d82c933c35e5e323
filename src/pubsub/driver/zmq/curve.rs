//! CURVE on a socket.

use zeroize::Zeroizing;
use zmq::Socket;

use super::ffi;
use crate::pubsub::api::PubSubError;
use crate::pubsub::endpoint::Endpoint;
use crate::security::key::{PublicKey, SecretKey};
use crate::security::party::{NodeKeys, ServerKey};

/// The ZAP domain of every socket that is bound. Without one libzmq asks nobody.
pub const DOMAIN: &str = "fanfare";

fn cannot(uri: &str, why: impl Into<String>) -> PubSubError {
    PubSubError::System {
        what: format!("cannot secure {uri}"),
        why: why.into(),
    }
}

/// The public half of a pair.
pub fn public_key(secret: &SecretKey) -> Result<PublicKey, PubSubError> {
    let mut text = Zeroizing::new([0; 41]);
    text[..40].copy_from_slice(&secret.z85()[..]);
    let public = ffi::curve_public(&text).map_err(|error| PubSubError::System {
        what: "cannot derive a public key".into(),
        why: error.to_string(),
    })?;
    PublicKey::parse(&format!("public:{public}")).map_err(|error| PubSubError::System {
        what: "libzmq's public key".into(),
        why: error.to_string(),
    })
}

/// Whether an address is one that CURVE protects. Unix sockets have owners and modes instead.
pub fn protects(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Tcp { .. })
}

/// Whether the peers of a socket that is bound to `endpoint`, with this key or none, are known by theirs.
pub fn knows(key: Option<&ServerKey>, endpoint: &Endpoint) -> bool {
    key.is_some() && protects(endpoint)
}

/// Refuses what nothing protects: without this, an address of multicast would be plain text where
/// the operator asked for none.
fn is_bare(endpoint: &Endpoint) -> Result<bool, PubSubError> {
    match endpoint {
        Endpoint::Epgm { .. } => Err(cannot(
            &endpoint.to_string(),
            r#"multicast cannot be secured; use tcp, or write security = "none""#,
        )),
        other => Ok(!protects(other)),
    }
}

/// Makes `socket` talk to the publisher at `uri`, as the operator knows it, and to nobody else, at
/// whatever `endpoint` it is reached.
pub fn connects(
    socket: &Socket,
    keys: Option<&NodeKeys>,
    uri: &str,
    endpoint: &Endpoint,
) -> Result<(), PubSubError> {
    let Some(keys) = keys else { return Ok(()) };
    if is_bare(endpoint)? {
        return Ok(());
    }
    let publisher = keys.of_publisher(uri).ok_or_else(|| {
        let why = "publisher_keys has no key for it; add its address or \"*\"";
        cannot(uri, why)
    })?;
    let public = public_key(&keys.secret)?;
    socket
        .set_curve_serverkey(publisher.as_bytes())
        .and_then(|()| socket.set_curve_publickey(public.as_bytes()))
        .and_then(|()| socket.set_curve_secretkey(keys.secret.as_bytes()))
        .map_err(|error| cannot(uri, error.to_string()))
}

/// Makes `socket`, before it is bound to `endpoint`, admit nobody but those that the ZAP handler
/// of this context admits; nobody at all where there is none.
pub fn binds(
    socket: &mut Socket,
    key: Option<&ServerKey>,
    endpoint: &Endpoint,
) -> Result<(), PubSubError> {
    let Some(key) = key else { return Ok(()) };
    if is_bare(endpoint)? {
        return Ok(());
    }
    let uri = endpoint.to_string();
    socket
        .set_curve_server(true)
        .and_then(|()| socket.set_curve_secretkey(key.secret.as_bytes()))
        .and_then(|()| socket.set_zap_domain(DOMAIN))
        .map_err(|error| cannot(&uri, error.to_string()))?;
    ffi::set_int(socket, ffi::ZAP_ENFORCE_DOMAIN, 1)
        .map_err(|error| cannot(&uri, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_libzmqs() {
        let pair = zmq::CurveKeyPair::new().unwrap();
        let text = zmq::z85_encode(&pair.secret_key).unwrap();
        let secret = SecretKey::parse(&format!("secret:{text}")).unwrap();
        assert_eq!(*public_key(&secret).unwrap().as_bytes(), pair.public_key);
    }
}
