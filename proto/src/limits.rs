//! What one client may send, as Redis limits it.
//!
//! Why a value passed to every call: all of it but the constants may change at run time by
//! CONFIG SET or AUTH, and the parser keeps no copy that could grow stale.

/// Most arguments of a request before the client has authenticated.
pub const UNAUTHENTICATED_MULTIBULK_MAX: u32 = 10;
/// Longest argument in bytes before the client has authenticated.
pub const UNAUTHENTICATED_BULK_MAX: u64 = 16 * 1024;
/// Longest request in bytes, whatever the configuration says: spans are 32-bit offsets whose top
/// bit marks an argument that is held elsewhere.
pub const REQUEST_BYTES_MAX: usize = (1 << 31) - 1;

/// The limits that hold for one connection at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument in bytes (`proto-max-bulk-len`).
    pub bulk_max: u64,
    /// Most arguments of one request.
    pub multibulk_max: u32,
    /// Longest inline request, and longest line that announces a length, in bytes.
    pub inline_max: usize,
    /// Longest request in bytes, all arguments and headers together
    /// (`client-query-buffer-limit`); never more than [`REQUEST_BYTES_MAX`].
    pub query_buffer_max: usize,
    /// Whether the client has authenticated, or needs not to.
    pub authenticated: bool,
}

impl Default for Limits {
    /// Redis's defaults, for a client that needs no password.
    fn default() -> Self {
        Self {
            bulk_max: 512 * 1024 * 1024,
            multibulk_max: 1024 * 1024,
            inline_max: 64 * 1024,
            query_buffer_max: 1024 * 1024 * 1024,
            authenticated: true,
        }
    }
}

impl Limits {
    /// Longest argument that is accepted now, in bytes.
    #[inline]
    pub(crate) fn bulk_max_now(&self) -> u64 {
        if self.authenticated { self.bulk_max } else { self.bulk_max.min(UNAUTHENTICATED_BULK_MAX) }
    }

    /// Most arguments that are accepted now.
    #[inline]
    pub(crate) fn multibulk_max_now(&self) -> u32 {
        if self.authenticated {
            self.multibulk_max
        } else {
            self.multibulk_max.min(UNAUTHENTICATED_MULTIBULK_MAX)
        }
    }

    /// Longest request that is accepted, in bytes.
    #[inline]
    pub(crate) fn request_max(&self) -> usize {
        self.query_buffer_max.min(REQUEST_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_the_smaller_limits() {
        let open = Limits::default();
        assert_eq!((open.bulk_max_now(), open.multibulk_max_now()), (512 << 20, 1 << 20));
        let stranger = Limits { authenticated: false, ..open };
        assert_eq!((stranger.bulk_max_now(), stranger.multibulk_max_now()), (16384, 10));
        let tight = Limits { bulk_max: 5, multibulk_max: 3, ..stranger };
        assert_eq!((tight.bulk_max_now(), tight.multibulk_max_now()), (5, 3));
    }

    #[test]
    fn a_request_never_outgrows_its_spans() {
        let limits = Limits { query_buffer_max: usize::MAX, ..Limits::default() };
        assert_eq!(limits.request_max(), REQUEST_BYTES_MAX);
    }
}
