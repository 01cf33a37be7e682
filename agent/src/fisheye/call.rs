//! The call index of `fisheye.md` 11: each call's method, route template and whether it may be repeated blindly. Pure.

use std::fmt;

/// A call: method and route *template*, safe as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// HTTP method.
    pub method: &'static str,
    /// Path with placeholders.
    pub route: &'static str,
    /// What a lost answer means.
    pub repeat: Repeat,
}

/// Whether a call may be repeated when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Sending it again does no harm.
    Freely,
    /// Look first.
    AfterLookUp,
}

const fn freely(method: &'static str, route: &'static str) -> Call {
    Call { method, route, repeat: Repeat::Freely }
}

const fn after_look_up(method: &'static str, route: &'static str) -> Call {
    Call { method, route, repeat: Repeat::AfterLookUp }
}

impl Call {
    pub const LOGIN: Self = freely("POST", "/api/v3/sessions");
    pub const LOGOUT: Self = freely("DELETE", "/api/v3/sessions");
    pub const LIST_IMAGES: Self = freely("GET", "/api/v2/images");
    pub const CREATE_VOLUME: Self = after_look_up("POST", "/api/v2/images/upload/volume");
    pub const UPLOAD_CHUNK: Self = freely("POST", "/api/v2/images/upload");
    pub const DELETE_IMAGE: Self = freely("DELETE", "/api/v2/images/{image_uuid}");
    pub const LIST_POLICIES: Self = freely("GET", "/api/v2/storage_policies");
    pub const LIST_VDS: Self = freely("GET", "/api/v2/network/vds");
    pub const LIST_VLANS: Self = freely("GET", "/api/v2/network/vds/{vds_uuid}/vlans");
    pub const LIST_HOSTS: Self = freely("GET", "/api/v2/management/hosts");
    pub const LIST_VMS: Self = freely("GET", "/api/v2/vms");
    pub const GET_VM: Self = freely("GET", "/api/v2/vms/{vm_uuid}");
    pub const GET_JOB: Self = freely("GET", "/api/v2/jobs/{job_id}");
    pub const LIST_VOLUMES: Self = freely("GET", "/api/v2/volumes");
    pub const CREATE_VM: Self = after_look_up("POST", "/api/v2/vms");
    pub const UPDATE_VM: Self = after_look_up("PUT", "/api/v2/vms/{vm_uuid}");
    pub const START_VM: Self = after_look_up("POST", "/api/v2/vms/{vm_uuid}/start");
    pub const STOP_VM: Self = after_look_up("POST", "/api/v2/vms/{vm_uuid}/stop");
    pub const DELETE_VM: Self = after_look_up("DELETE", "/api/v2/vms/{vm_uuid}");

    /// Whether it changes nothing but the caller's own session.
    pub fn only_looks(self) -> bool {
        self.method == "GET" || self == Self::LOGIN || self == Self::LOGOUT
    }

    /// The path with `value` in place of its placeholder, percent-encoded: an id from an answer stays one segment.
    pub fn path(&self, value: &str) -> String {
        use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
        const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
        match (self.route.find('{'), self.route.find('}')) {
            (Some(from), Some(to)) => {
                let value = utf8_percent_encode(value, SEGMENT);
                format!("{}{value}{}", &self.route[..from], &self.route[to + 1..])
            }
            _ => self.route.to_owned(),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_answers_cannot_leave_their_segment() {
        assert_eq!(Call::STOP_VM.path("8d5b-1"), "/api/v2/vms/8d5b-1/stop");
        assert_eq!(Call::GET_VM.path("../images/x?y#z"), "/api/v2/vms/%2E%2E%2Fimages%2Fx%3Fy%23z");
        assert_eq!(Call::LIST_VMS.path("unused"), "/api/v2/vms");
    }
}
