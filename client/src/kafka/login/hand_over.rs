//! Gives librdkafka a token.
//!
//! rdkafka does so only in answer to librdkafka's event, without extensions, and not at all for a
//! client that administers: hence the foreign call.

use std::ffi::{CStr, CString, NulError, c_char};

use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;

use super::grant::Token;
use crate::error::{Error, Result};

/// Gives `client` a token; connections that wait for one go on.
///
/// # Errors
/// librdkafka does not take it: it has ended, or the client logs in by something else.
pub(super) fn hand_over<C: ClientContext>(client: &Client<C>, token: &Token) -> Result<()> {
    let refused = || Error::failed("librdkafka does not take the token for Kafka");
    let text = |text: &str| CString::new(text);
    let strings = || -> Result<_, NulError> {
        let extensions: Vec<CString> = token
            .extensions
            .iter()
            .flat_map(|(name, value)| [text(name), text(value)])
            .collect::<Result<_, _>>()?;
        Ok((text(&token.value)?, text(&token.principal)?, extensions))
    };
    let (value, principal, extensions) = strings().map_err(|error| refused().with_source(error))?;
    let mut pointers: Vec<*const c_char> = extensions.iter().map(|text| text.as_ptr()).collect();
    let mut reason = [0_u8; 512];
    // SAFETY: the client is alive as long as the reference, and librdkafka may be called from any
    // thread. All strings end in a nul and live until the call returns, which copies them; it
    // writes at most `reason.len()` bytes there, and reads as many pointers as it is told of.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.ends_ms,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            reason.as_mut_ptr().cast(),
            reason.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // Its words quote a token with wrong characters, of which `Token` has none.
    let reason = CStr::from_bytes_until_nul(&reason).map(CStr::to_string_lossy);
    Err(refused().with_hint(reason.unwrap_or_default().into_owned()))
}
