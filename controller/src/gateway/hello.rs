//! What an agent says first, and what of it cannot work.

use gantry_proto::{Code, PROTOCOL, TELEMETRY, order, v1};

use super::{End, bad_request, shortened};

/// What this controller can do beyond the protocol's version.
pub(super) const CAPABILITIES: &[&str] = &[TELEMETRY];
/// Length of an X25519 public key.
const SEALING_KEY_BYTES: usize = 32;

/// What cannot work is refused at once, with what to do about it.
pub(super) fn check_hello(hello: &v1::Hello) -> Result<(), End> {
    let ours = env!("CARGO_PKG_VERSION");
    if hello.protocol != PROTOCOL {
        let message = format!(
            "the agent (version {}) speaks protocol {}, this controller (version {ours}) speaks {PROTOCOL}: install the \
             agent of the controller's version",
            shortened(&hello.version),
            hello.protocol
        );
        return Err(End::Refused(Code::Incompatible.status(message)));
    }
    let missing = hello.required_capabilities.iter().find(|word| !CAPABILITIES.contains(&word.as_str()));
    if let Some(missing) = missing {
        let message = format!(
            "the agent (version {}) demands \"{}\", which this controller (version {ours}) does not have: update the \
             controller first, or install an older agent",
            shortened(&hello.version),
            shortened(missing)
        );
        return Err(End::Refused(Code::Incompatible.status(message)));
    }
    if hello.last_order >= order::NUMBER_MAX {
        return Err(bad_request("the number of the last order in Hello was never given"));
    }
    if hello.sealing_key.len() != SEALING_KEY_BYTES {
        return Err(bad_request("the sealing key in Hello is not an X25519 key of 32 bytes"));
    }
    Ok(())
}
